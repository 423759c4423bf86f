//! Asks the guard inside the transaction of an apply, and stores a commit that has to wait. Nothing else is written then.

use std::collections::{BTreeMap, BTreeSet};

use fleet_model::{CommitId, Condition, Digest, Kind};
use fleet_render::plan::{Plan, Radius};
use fleet_store::{
    FleetRow, HoldDecision, HoldRow, ManifestStates, NewEvent, NewHold, Observation, PgConnection, StoreError, Ts,
    enrolled_devices, lock_hold, record_event, record_hold, record_observation, record_verified, source_origin,
    stored_manifests, unsettled_sources,
};
use serde_json::json;
use tracing::warn;

use crate::apply::{Application, Writer};
use crate::conditions;
use crate::guard::{Hold, HoldReason, Judgement, Question, judge};
use crate::outbox;
use crate::planning;
use crate::trust::{self, Violation};

/// A commit that waits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// Conditions of the source.
    pub(crate) conditions: Vec<Condition>,
}

/// The guard's answer, carried out.
#[derive(Debug)]
pub(crate) enum Passage {
    /// The commit may be applied.
    Free {
        /// Whose approval makes it possible.
        approved: Option<HoldDecision>,
    },
    /// It waits; that is written.
    Held(Held),
    /// A commit before it, or it itself, lacks a signature: its place in what was vouched for. Nothing is written.
    Distrusted(usize),
}

/// Asks whether the commit may be applied. Writes only what tells of a hold, or of a rewritten history that is followed.
/// Where sources go along, the plan's digest stands for what they define as well: an approval is for all of it.
///
/// # Errors
/// When the database fails.
pub(crate) async fn pass(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    application: &Application<'_>,
    plan: &mut Plan,
    present: Present<'_>,
) -> Result<Passage, StoreError> {
    let (org, source, commit) = (writer.org, application.source.name.as_str(), application.commit);
    let rules = trust::rules(connection, org, source).await?;
    // With what goes along: rules by effect are about that, too.
    let Departing { radius, along, digest } = with_departing(connection, writer, application, plan, present).await?;
    plan.digest = digest;
    let plan = &*plan;
    let violations = trust::violations(application.vouched, &rules, plan, &radius)?;
    if let Some(first) = violations.first()
        && application.vouched.is_some_and(|vouched| !vouched.holds)
    {
        return Ok(Passage::Distrusted(first.at));
    }
    let mut stored = lock_hold(connection, org, source).await?;
    if radius.objects_before == 0
        && let Some(held) = stored.as_mut().filter(|held| held.commit != *commit)
        && unsettled_sources(connection, org).await?.iter().any(|missing| missing == source)
    {
        // What was in force is not there, so a commit after the one that waits cannot be told from it: it waits, too.
        *held = HoldRow { commit: commit.clone(), decision: None, ..held.clone() };
    }
    let question = Question {
        commit,
        base: application.base,
        digest: plan.digest,
        radius: &radius,
        along: &along,
        rules: &rules,
        rewritten: application.rewritten,
        unrestored: application.unrestored,
        violations: &violations,
        stored: stored.as_ref(),
    };
    match judge(question) {
        Judgement::Apply { approved, follows } => {
            if follows {
                let base = application.rewritten.map_or("?", |rewritten| rewritten.base.short());
                let message = format!(
                    "History was rewritten: applied commit {base} is not an ancestor of {}; following it",
                    commit.short()
                );
                tell(connection, writer, source, "NonFastForward", &message, commit, plan.digest).await?;
            }
            Ok(Passage::Free { approved })
        }
        Judgement::Hold(hold) => {
            let conditions = write(connection, writer, application, plan, &hold, &violations).await?;
            let decision = stored.as_ref().and_then(|stored| stored.decision.as_ref());
            outbox::held(connection, writer, application, plan, &hold, decision).await?;
            Ok(Passage::Held(Held { conditions }))
        }
    }
}

/// What is in force before the commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present<'a> {
    /// The source's manifests.
    pub(crate) stored: &'a ManifestStates,
    /// All fleets.
    pub(crate) fleets: &'a [FleetRow],
}

/// A plan with the sources that go because their ResourceSync goes: it is about its own source only.
struct Departing {
    /// How far all of it reaches.
    radius: Radius,
    /// What goes along, in sentences.
    along: Vec<String>,
    /// The plan's digest; with what goes along mixed in, where something does.
    digest: Digest,
}

async fn with_departing(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    application: &Application<'_>,
    plan: &Plan,
    present: Present<'_>,
) -> Result<Departing, StoreError> {
    let (mut radius, mut along, mut contents) = (plan.radius.clone(), Vec::new(), Vec::new());
    let is_sync = |kind: Kind| kind == Kind::ResourceSync;
    let kept: BTreeSet<&str> =
        application.desired.manifests.iter().filter(|row| is_sync(row.kind)).map(|row| row.name.as_str()).collect();
    let all = present.stored.keys().filter(|(kind, _)| is_sync(*kind)).map(|(_, name)| name.as_str());
    let mut going: BTreeSet<String> = all.filter(|name| !kept.contains(name)).map(str::to_owned).collect();
    let mut gone = BTreeSet::new();
    while let Some(name) = going.pop_first() {
        let origin = format!("{}/{name}", Kind::ResourceSync);
        if source_origin(connection, writer.org, &name).await?.is_none_or(|present| present != origin)
            || !gone.insert(name.clone())
        {
            continue;
        }
        let objects = stored_manifests(connection, writer.org, &name).await?;
        // What it brought in goes, too.
        going.extend(objects.keys().filter(|(kind, _)| is_sync(*kind)).map(|(_, name)| name.clone()));
        let fleets = present.fleets.iter().filter(|fleet| fleet.source == name);
        let fleets: Vec<String> = fleets.map(|fleet| fleet.name.clone()).collect();
        let devices = enrolled_devices(connection, writer.org, Some(&fleets)).await?;
        let owned = |owner: &Option<String>| owner.as_ref().is_some_and(|owner| fleets.contains(owner));
        let devices: Vec<String> =
            devices.into_iter().filter(|device| owned(&device.owner_fleet)).map(|device| device.name).collect();
        radius.fleets_before += fleets.len();
        radius.fleets_removed += fleets.len();
        radius.devices_unmanaged += devices.len();
        let told = |count: usize, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
        let counts = (told(fleets.len(), "fleet"), told(devices.len(), "device"));
        along.push(format!("gives up source {name} with {} and {}", counts.0, counts.1));
        let objects: BTreeMap<_, _> = objects.into_iter().map(|(key, object)| (key, object.digest)).collect();
        contents.push(json!([name, objects.into_iter().collect::<Vec<_>>(), devices]));
    }
    let digest = match contents.is_empty() {
        true => plan.digest,
        false => Digest::of(json!([plan.digest, contents]).to_string().as_bytes()),
    };
    Ok(Departing { radius, along, digest })
}

async fn write(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    application: &Application<'_>,
    plan: &Plan,
    hold: &Hold,
    violations: &[Violation],
) -> Result<Vec<Condition>, StoreError> {
    let (org, source, commit) = (writer.org, application.source.name.as_str(), application.commit);
    let at = Ts::from(writer.now);
    let sentences = hold.sentences.join("; ");
    // A rejected plan stays as it was when it was rejected.
    if hold.reason != HoldReason::Rejected {
        let row = NewHold {
            source,
            commit,
            base: application.base,
            reason: hold.reason.as_str(),
            sentences: &hold.sentences,
            digest: plan.digest,
            summary: planning::stored_summary(plan),
            plan: planning::stored_plan(plan),
        };
        record_hold(connection, org, &row, at).await?;
    }
    if hold.is_news {
        let message =
            format!("Commit {} waits for approval: {sentences}; plan {}", commit.short(), plan.digest.short());
        warn!(source, commit = %commit, reason = hold.reason.as_str(), sentences, "Held a commit");
        tell(connection, writer, source, "HoldStarted", &message, commit, plan.digest).await?;
    }
    if let Some(outdated) = &hold.outdated {
        let message = format!(
            "Commit {} waits for approval again: {} approved plan {}, and the plan is {} by now",
            commit.short(),
            outdated.by,
            outdated.digest.short(),
            plan.digest.short()
        );
        warn!(source, commit = %commit, "An approved plan is not the plan any more");
        tell(connection, writer, source, "PlanStale", &message, commit, plan.digest).await?;
    }
    let mut conditions = application.conditions_before.to_vec();
    let facts = conditions::HeldFacts { commit, reason: hold.reason, sentences: &sentences, digest: plan.digest };
    conditions::held(&mut conditions, &facts, &application.now);
    if let (Some(first), Some(vouched)) = (violations.first(), application.vouched) {
        let told = trust::sentences(violations).join("; ");
        conditions::not_verified(&mut conditions, first.reason, &told, &application.now);
        let last = first.at.checked_sub(1).and_then(|at| vouched.range.commits().get(at)).map(|commit| &commit.id);
        if let Some(last) = last.or(application.base) {
            record_verified(connection, org, source, last).await?;
        }
    } else {
        // It waits for another reason.
        record_verified(connection, org, source, commit).await?;
    }
    let seen = Observation {
        commit: Some(commit),
        polled_at: Some(at),
        conditions: &conditions,
        diagnostics: Some(application.diagnostics),
    };
    record_observation(connection, org, source, &seen).await?;
    Ok(conditions)
}

async fn tell(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    source: &str,
    reason: &str,
    message: &str,
    commit: &CommitId,
    digest: Digest,
) -> Result<(), StoreError> {
    let event = NewEvent {
        kind: "Source",
        name: source,
        reason,
        warning: true,
        message,
        actor: "service:syncer",
        details: Some(json!({"commitHash": commit.as_str(), "planDigest": digest})),
    };
    record_event(connection, writer.org, &event).await
}

#[cfg(test)]
mod tests;
