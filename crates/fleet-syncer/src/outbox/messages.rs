//! What is told of a commit, written with the decision that it is about. Nothing is written for a source whose forge is not
//! told of commits.

use fleet_forge::{StatusState, brief};
use fleet_model::{CommitId, Diagnostic, OrgId, Severity};
use fleet_render::plan::Plan;
use fleet_store::{
    HoldDecision, NewMessage, PgConnection, ROLLOUT_CONTEXT, SourceDefinition, StoreError, Ts, pending_messages,
    put_message,
};

use super::Outbox;
use crate::apply::{Application, Writer};
use crate::guard::{Hold, HoldReason};
use crate::planning;

/// Whether the manifests are without errors.
pub(crate) const LINT: &str = "shorebase/lint";
/// What the commit changes, and whether it may.
pub(crate) const PLAN: &str = "shorebase/plan";
/// Whether it is in force.
pub(super) const APPLY: &str = "shorebase/apply";
/// How far its devices are.
pub(super) const ROLLOUT: &str = ROLLOUT_CONTEXT;

/// Where messages about one commit go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic<'a> {
    pub(crate) org: OrgId,
    pub(crate) source: &'a str,
    pub(crate) url: &'a str,
    pub(crate) commit: &'a CommitId,
    pub(crate) at: Ts,
}

/// Writes one message. Returns whether it is news.
pub(crate) async fn put(
    connection: &mut PgConnection,
    outbox: &Outbox,
    topic: Topic<'_>,
    context: &str,
    state: StatusState,
    description: &str,
) -> Result<bool, StoreError> {
    let Some(config) = outbox.forge(topic.url) else { return Ok(false) };
    let filled = |template: &String| {
        let filled = template.replace("{source}", topic.source).replace("{commit}", topic.commit.as_str());
        filled.replace("{context}", context)
    };
    let target_url = config.target_url.as_ref().map(filled);
    let message = NewMessage {
        source: topic.source,
        url: topic.url,
        commit: topic.commit,
        context,
        state: state.as_str(),
        description: &brief(description),
        target_url: target_url.as_deref(),
    };
    put_message(connection, topic.org, &message, topic.at).await
}

/// A commit is in force.
pub(crate) async fn applied(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    application: &Application<'_>,
    plan: &Plan,
    approved: Option<&HoldDecision>,
) -> Result<(), StoreError> {
    let (outbox, topic) = (writer.outbox, topic(writer, application));
    if outbox.forge(topic.url).is_none() {
        return Ok(());
    }
    over(connection, outbox, topic, &[PLAN, ROLLOUT]).await?;
    put(connection, outbox, topic, LINT, StatusState::Success, &linted(application.diagnostics)).await?;
    let planned = sentence(plan);
    let planned = match approved {
        Some(decision) => format!("approved by {}: {planned}", decision.by),
        None => planned,
    };
    put(connection, outbox, topic, PLAN, StatusState::Success, &planned).await?;
    let in_force = "in force: the service holds what this commit says";
    put(connection, outbox, topic, APPLY, StatusState::Success, in_force).await?;
    put(connection, outbox, topic, ROLLOUT, StatusState::Pending, "devices are told").await?;
    Ok(())
}

/// A commit waits for a person, or was rejected by one.
pub(crate) async fn held(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    application: &Application<'_>,
    plan: &Plan,
    hold: &Hold,
    decision: Option<&HoldDecision>,
) -> Result<(), StoreError> {
    let (outbox, topic) = (writer.outbox, topic(writer, application));
    if outbox.forge(topic.url).is_none() {
        return Ok(());
    }
    over(connection, outbox, topic, &[PLAN]).await?;
    put(connection, outbox, topic, LINT, StatusState::Success, &linted(application.diagnostics)).await?;
    let why = hold.sentences.join("; ");
    let (state, told) = match (hold.reason, decision) {
        (HoldReason::Rejected, Some(decision)) => {
            let reason = if decision.reason.is_empty() { &why } else { &decision.reason };
            (StatusState::Failure, format!("rejected by {}: {reason}", decision.by))
        }
        (HoldReason::Rejected, None) => (StatusState::Failure, format!("rejected: {why}")),
        (
            HoldReason::BlastRadius
            | HoldReason::NonFastForward
            | HoldReason::PlanStale
            | HoldReason::UnsignedCommit
            | HoldReason::UntrustedSigner,
            _,
        ) => (StatusState::Pending, format!("held, plan {} waits for approval: {why}", plan.digest.short())),
    };
    put(connection, outbox, topic, PLAN, state, &told).await?;
    Ok(())
}

/// A commit has errors.
pub(crate) async fn refused(
    connection: &mut PgConnection,
    outbox: &Outbox,
    (org, definition, at): (OrgId, &SourceDefinition, Ts),
    commit: &CommitId,
    diagnostics: &[Diagnostic],
) -> Result<(), StoreError> {
    let topic = Topic { org, source: &definition.name, url: &definition.url, commit, at };
    if outbox.forge(topic.url).is_none() {
        return Ok(());
    }
    over(connection, outbox, topic, &[PLAN]).await?;
    put(connection, outbox, topic, LINT, StatusState::Failure, &linted(diagnostics)).await?;
    Ok(())
}

fn topic<'a>(writer: Writer<'a>, application: &Application<'a>) -> Topic<'a> {
    let definition = application.source;
    Topic {
        org: writer.org,
        source: &definition.name,
        url: &definition.url,
        commit: application.commit,
        at: Ts::from(writer.now),
    }
}

/// What was left open at other commits of the source is over.
async fn over(
    connection: &mut PgConnection,
    outbox: &Outbox,
    topic: Topic<'_>,
    contexts: &[&str],
) -> Result<(), StoreError> {
    for open in pending_messages(connection, topic.org, topic.source, topic.commit).await? {
        if !contexts.contains(&open.context.as_str()) {
            continue;
        }
        let told = match open.context == ROLLOUT {
            true => format!("{}; commit {} took its place", open.description, topic.commit.short()),
            false => format!("was not applied; commit {} took its place", topic.commit.short()),
        };
        let old = Topic { url: &open.url, commit: &open.commit, ..topic };
        put(connection, outbox, old, &open.context, StatusState::Error, &told).await?;
    }
    Ok(())
}

/// `no findings`, or how many warnings there are, or the first error and how many follow.
pub(crate) fn linted(diagnostics: &[Diagnostic]) -> String {
    let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    if let Some(first) = errors.next() {
        let more = errors.count();
        let lead = if more == 0 { String::new() } else { format!("{}: ", counted(more + 1, "error")) };
        return format!("{lead}{}:{}: {} ({})", first.file, first.line, first.message, first.code);
    }
    match diagnostics.len() {
        0 => "no findings".to_owned(),
        n => counted(n, "warning"),
    }
}

/// What a plan says, for people.
pub(crate) fn sentence(plan: &Plan) -> String {
    planning::stored_summary(plan)["sentence"].as_str().unwrap_or_default().to_owned()
}
