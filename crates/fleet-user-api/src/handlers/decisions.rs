//! Decisions about sources: approve or reject the commit that waits, suspend and resume. Each is durable, names exactly what
//! was looked at, and may be sent again.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use fleet_http::{ApiError, read_json};
use fleet_model::{CommitId, Digest, ResumeSource, Source, SourceApproval, SourceRejection, SuspendSource};
use fleet_store::{
    Channel, HoldDecided, HoldDecision, NewEvent, StoreError, Suspension, Ts, decide_hold, end_suspension,
    record_event, suspend_source,
};
use jiff::Timestamp;

use super::sources::find;
use crate::api::{Api, Caller, Inner, failed};
use crate::permissions::Action;

/// A decision is short.
const MAX_BODY: usize = 16 * 1024;
/// Characters of a reason.
const MAX_REASON: usize = 500;
/// The longest that a suspension waits for a commit that is being applied; clients wait for 30 s.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// No suspension ends later than this by itself.
const MAX_SUSPENSION_SECONDS: i64 = 366 * 86_400;

/// Approves one plan of one commit. 409 when another one is held by now.
pub(crate) async fn approve(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Source>, ApiError> {
    caller.require(Action::DecideHold)?;
    let source = find(&inner, &name).await?;
    let approval: SourceApproval = read_json(request, MAX_BODY).await?;
    let plan = Held { digest: approval.digest, commit: Some(&approval.commit), approved: true };
    decide(&inner, &caller, &name, &source, &plan, approval.reason).await
}

/// Rejects a plan: its commit is not applied, and nobody is asked about it again. 409 when another one is held by now.
pub(crate) async fn reject(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Source>, ApiError> {
    caller.require(Action::DecideHold)?;
    let source = find(&inner, &name).await?;
    let rejection: SourceRejection = read_json(request, MAX_BODY).await?;
    let plan = Held { digest: rejection.digest, commit: None, approved: false };
    decide(&inner, &caller, &name, &source, &plan, rejection.reason).await
}

/// What is decided about, and how.
struct Held<'a> {
    digest: Digest,
    commit: Option<&'a CommitId>,
    approved: bool,
}

async fn decide(
    inner: &Inner,
    caller: &Caller,
    name: &str,
    source: &Source,
    plan: &Held<'_>,
    reason: String,
) -> Result<Json<Source>, ApiError> {
    let reason = checked_reason(reason)?;
    let decision = HoldDecision {
        digest: plan.digest,
        approved: plan.approved,
        by: caller.0.as_event_actor(),
        reason: reason.clone(),
    };
    let mut transaction = inner.store.begin().await.map_err(failed)?;
    let now = Ts::from(inner.clock.now());
    let decided = decide_hold(&mut transaction, Inner::ORG, name, plan.commit, &decision, now).await.map_err(failed)?;
    match decided {
        HoldDecided::Recorded => {}
        HoldDecided::Already => return find(inner, name).await.map(Json),
        HoldDecided::Changed { commit, digest } => {
            return Err(ApiError::conflict(format!(
                "this plan of source {name:?} does not wait any more; commit {commit} with plan {digest} does: look at it first"
            )));
        }
        // Sent again after it was carried out.
        HoldDecided::NotHeld if plan.approved && is_applied(source, plan) => return find(inner, name).await.map(Json),
        HoldDecided::NotHeld => {
            return Err(ApiError::conflict(format!("no commit of source {name:?} waits for a decision")));
        }
    }
    let (event, word) = if plan.approved { ("HoldApproved", "approved") } else { ("HoldRejected", "rejected") };
    let message = with_reason(format!("Plan {} was {word}", plan.digest.short()), &reason);
    let details = serde_json::json!({"planDigest": plan.digest, "commitHash": plan.commit, "reason": reason});
    write_down(inner, caller, name, transaction, event, &message, details).await
}

fn is_applied(source: &Source, plan: &Held<'_>) -> bool {
    source.status.plan.as_ref().is_some_and(|applied| {
        applied.digest == plan.digest.to_string() && plan.commit.is_some_and(|commit| applied.commit == commit.as_str())
    })
}

/// Suspends a source, or changes reason and end of its suspension. Waits for a commit that is being applied: what comes
/// after the answer is not applied. 503 when that takes long.
pub(crate) async fn suspend(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Source>, ApiError> {
    caller.require(Action::SuspendSource)?;
    find(&inner, &name).await?;
    let asked: SuspendSource = read_json(request, MAX_BODY).await?;
    let reason = checked_reason(asked.reason)?;
    if reason.is_empty() {
        return Err(ApiError::bad_request("reason: say why, others will want to know"));
    }
    let now = inner.clock.now();
    let until = asked.until.map(|until| checked_end(&until, now)).transpose()?;
    let suspension = Suspension { reason, by: caller.0.as_event_actor(), until: until.map(Ts::from) };
    let mut transaction = inner.store.begin().await.map_err(failed)?;
    let news = suspend_source(&mut transaction, Inner::ORG, &name, &suspension, Ts::from(now), MAX_WAIT).await;
    let news = news.map_err(|error| {
        if !matches!(error, StoreError::Busy { .. }) {
            return failed(error);
        }
        let seconds = MAX_WAIT.as_secs();
        let message = format!(
            "source {name:?} is not suspended: a commit is being applied to it for more than {seconds} s; try again"
        );
        ApiError::unavailable(message, 2).with_source(error)
    })?;
    if !news {
        return find(&inner, &name).await.map(Json);
    }
    let end = until.map_or_else(|| "until somebody resumes it".to_owned(), |until| format!("until {until}"));
    let message = with_reason(format!("Suspended {end}"), &suspension.reason);
    let details = serde_json::json!({"reason": suspension.reason, "until": until.map(|until| until.to_string())});
    write_down(&inner, &caller, &name, transaction, "SourceSuspended", &message, details).await
}

/// Ends the suspension of a source, when it has one.
pub(crate) async fn resume(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Source>, ApiError> {
    caller.require(Action::SuspendSource)?;
    find(&inner, &name).await?;
    let asked: ResumeSource = read_json(request, MAX_BODY).await?;
    let reason = checked_reason(asked.reason)?;
    let mut transaction = inner.store.begin().await.map_err(failed)?;
    if !end_suspension(&mut transaction, Inner::ORG, &name, None).await.map_err(failed)? {
        return find(&inner, &name).await.map(Json);
    }
    let message = with_reason("Resumed".to_owned(), &reason);
    let details = serde_json::json!({"reason": reason});
    write_down(&inner, &caller, &name, transaction, "SourceResumed", &message, details).await
}

/// Records who did what, wakes the syncer and commits.
async fn write_down(
    inner: &Inner,
    caller: &Caller,
    name: &str,
    mut transaction: fleet_store::Transaction<'static, fleet_store::Postgres>,
    reason: &'static str,
    message: &str,
    details: serde_json::Value,
) -> Result<Json<Source>, ApiError> {
    let actor = caller.0.as_event_actor();
    let event =
        NewEvent { kind: "Source", name, reason, warning: false, message, actor: &actor, details: Some(details) };
    record_event(&mut transaction, Inner::ORG, &event).await.map_err(failed)?;
    Channel::Sources.notify(&mut transaction, name).await.map_err(failed)?;
    transaction.commit().await.map_err(|error| failed(error.into()))?;
    inner.metrics.wrote(reason);
    find(inner, name).await.map(Json)
}

/// One line without control characters, or an answer that says what is wrong.
fn checked_reason(reason: String) -> Result<String, ApiError> {
    if reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
        let message = format!("reason: one line of at most {MAX_REASON} characters");
        return Err(ApiError::bad_request(message));
    }
    Ok(reason.trim().to_owned())
}

fn checked_end(until: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let at: Timestamp = until
        .parse()
        .map_err(|_| ApiError::bad_request("until: not a time; write it as 2030-01-31T18:00:00Z (RFC 3339)"))?;
    let ahead = at.as_second() - now.as_second();
    match ahead {
        i64::MIN..=0 => Err(ApiError::bad_request("until: that is over already")),
        1..=MAX_SUSPENSION_SECONDS => Ok(at),
        _ => Err(ApiError::bad_request("until: at most 366 days ahead")),
    }
}

fn with_reason(what: String, reason: &str) -> String {
    if reason.is_empty() { what } else { format!("{what}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_suspension_lies_ahead() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert!(checked_end("2026-01-01T00:00:01Z", now).is_ok());
        assert!(checked_end("2026-01-01T02:00:00+01:00", now).is_ok());
        for bad in ["", "soon", "2026-01-01", "2026-01-01T00:00:00Z", "2025-12-31T00:00:00Z", "2028-01-01T00:00:00Z"] {
            assert!(checked_end(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(checked_reason(" new shop ".to_owned()).unwrap(), "new shop");
        assert!(checked_reason("a\nb".to_owned()).is_err());
        assert!(checked_reason("x".repeat(MAX_REASON + 1)).is_err());
    }
}
