//! Sources: how far each is, and having one polled now.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use fleet_http::{ApiError, json};
use fleet_model::{
    ObjectMeta, ResourceList, SHOREBASE_API_VERSION, Source, SourceDecision, SourceDevices, SourceHold, SourcePlan,
    SourceSpec, SourceStatus, SourceSuspension,
};
use fleet_store::read_sources::{self, HoldRecord, SourceRecord};
use fleet_store::{Channel, NewEvent, record_event};

use crate::api::{Api, Caller, Inner, checked_name, failed, no_such};
use crate::handlers::plans::plan_digest;
use crate::handlers::whole_seconds;
use crate::listing::{Params, envelope};
use crate::permissions::Action;

mod state;
use state::Facts;

fn source(record: SourceRecord) -> Source {
    let plan = match (&record.applied_commit, &record.plan_digest, record.plan_summary) {
        (Some(commit), Some(digest), Some(summary)) => {
            plan_digest(digest).map(|digest| SourcePlan { digest, commit: commit.clone(), summary })
        }
        (_, _, _) => None,
    };
    // Times with their fractions: whoever asked for a sync waits for them to change.
    let exact = |at: Option<fleet_store::Ts>| at.map(|at| at.to_jiff().to_string());
    let (applied_at, settled_at) = (exact(record.applied_at), exact(record.settled_at));
    let facts = Facts {
        observed: record.observed_commit.as_deref(),
        applied: record.applied_commit.as_deref().zip(applied_at.as_deref()),
        settled: record.settled_commit.as_deref().zip(settled_at.as_deref()),
        progress: record.progress,
        held: record
            .held
            .as_ref()
            .map(|held| (held.commit_id.as_str(), held.decision.as_ref().is_some_and(|(approved, ..)| *approved))),
        suspended: record.suspended.is_some(),
        conditions: &record.conditions.0,
    };
    let (state, derived) = (facts.state(), facts.conditions());
    let mut conditions = record.conditions.0.clone();
    conditions.extend(derived);
    Source {
        api_version: SHOREBASE_API_VERSION.to_owned(),
        kind: "Source".to_owned(),
        metadata: ObjectMeta { name: Some(record.name), ..ObjectMeta::default() },
        spec: SourceSpec {
            url: without_credentials(&record.url),
            revision: record.revision,
            path: record.path,
            origin: record.origin,
        },
        status: SourceStatus {
            state: state.to_owned(),
            observed_commit: record.observed_commit,
            verified_commit: record.verified_commit,
            applied_commit: record.applied_commit,
            settled_commit: record.settled_commit,
            behind_by: record.behind_by.map(i64::from),
            devices: SourceDevices {
                total: record.progress.devices,
                updated: record.progress.updated,
                failed: record.progress.failed,
            },
            applied_at,
            settled_at,
            last_polled_at: exact(record.last_polled_at),
            last_hint_at: exact(record.last_hint_at),
            conditions,
            diagnostics: record.diagnostics.0,
            plan,
            held: record.held.and_then(held),
            suspended: record.suspended.map(|suspension| SourceSuspension {
                reason: suspension.reason,
                by: suspension.by,
                since: whole_seconds(suspension.since),
                until: suspension.until.map(whole_seconds),
                overdue_removals: Some(suspension.overdue).filter(|overdue| *overdue > 0),
            }),
        },
    }
}

fn held(hold: HoldRecord) -> Option<SourceHold> {
    let rejected = hold.decision.as_ref().is_some_and(|(approved, ..)| !approved);
    Some(SourceHold {
        commit: hold.commit_id,
        digest: plan_digest(&hold.digest)?,
        reason: if rejected { "Rejected".to_owned() } else { hold.reason },
        sentences: hold.sentences,
        since: whole_seconds(hold.held_at),
        summary: hold.summary,
        decision: hold.decision.map(|(approved, by, at, reason)| SourceDecision {
            approved,
            by,
            at: whole_seconds(at),
            reason,
        }),
    })
}

/// The URL without user and password.
pub(crate) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match authority.rsplit_once('@') {
        // The user of SSH is part of the address, and no secret.
        Some((user, _)) if scheme == "ssh" && !user.contains(':') => url.to_owned(),
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => url.to_owned(),
    }
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    _params: Params,
) -> Result<Json<ResourceList<Source>>, ApiError> {
    caller.require(Action::ReadInventory)?;
    let all = read_sources::list(inner.pool(), Inner::ORG).await.map_err(failed)?;
    let mut list = envelope("Source", all.into_iter().map(source).collect(), None, None);
    SHOREBASE_API_VERSION.clone_into(&mut list.api_version);
    Ok(Json(list))
}

pub(super) async fn find(inner: &Inner, name: &str) -> Result<Source, ApiError> {
    let name = checked_name("Source", name)?;
    let found = read_sources::get(inner.pool(), Inner::ORG, name).await.map_err(failed)?;
    found.map(source).ok_or_else(|| no_such("Source", name))
}

pub(crate) async fn get(State(inner): Api, caller: Caller, Path(name): Path<String>) -> Result<Json<Source>, ApiError> {
    caller.require(Action::ReadInventory)?;
    find(&inner, &name).await.map(Json)
}

/// Wakes the syncer for one source. The answer, 202, shows the source as it was before: a newer `lastPolledAt` tells
/// that the poll was done.
pub(crate) async fn sync(State(inner): Api, caller: Caller, Path(name): Path<String>) -> Result<Response, ApiError> {
    caller.require(Action::SyncSource)?;
    let before = find(&inner, &name).await?;
    let mut transaction = inner.store.begin().await.map_err(failed)?;
    let reason = "SourceSyncRequested";
    let event = NewEvent {
        kind: "Source",
        name: &name,
        reason,
        warning: false,
        message: "A sync was asked for",
        actor: &caller.0.as_event_actor(),
        details: None,
    };
    record_event(&mut transaction, Inner::ORG, &event).await.map_err(failed)?;
    Channel::Sources.notify(&mut transaction, &name).await.map_err(failed)?;
    transaction.commit().await.map_err(|error| failed(error.into()))?;
    inner.metrics.wrote(reason);
    Ok(json(StatusCode::ACCEPTED, &before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_cut_out_of_urls() {
        for (url, want) in [
            ("https://u:p@git.example/a@b", "https://git.example/a@b"),
            ("https://token@git.example", "https://git.example"),
            ("https://git.example/x", "https://git.example/x"),
            ("ssh://git@git.example/x", "ssh://git@git.example/x"),
            ("ssh://git:pw@git.example/x", "ssh://git.example/x"),
            ("git@git.example:x", "git@git.example:x"),
            ("/srv/git/x", "/srv/git/x"),
        ] {
            assert_eq!(without_credentials(url), want);
        }
    }
}
