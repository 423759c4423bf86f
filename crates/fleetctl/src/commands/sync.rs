//! `fleetctl sync`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_model::{CommitId, Condition, ConditionStatus, Source, SourceHold};
use reqwest::Method;
use tokio::time::Instant;

use super::source::write_hold;
use super::write_diagnostics;
use crate::cli::{Connection, SyncArgs};
use crate::client::Client;
use crate::objects::{self, short};
use crate::output::printable;
use crate::{Io, Outcome};

/// How often a source is looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(300);

pub(crate) async fn sync(args: &SyncArgs, connection: &Connection, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let client = Client::new(connection)?;
    let names = if args.all {
        let (all, _) = client.list(&["sources"], &[], None).await?;
        all.iter().map(|source| objects::name(source).to_owned()).collect()
    } else {
        args.sources.clone()
    };
    if names.is_empty() {
        bail!("the service has no sources: add one to its configuration");
    }
    let mut asked = Vec::new();
    for name in &names {
        let before = client.send(Method::POST, &["sources", name, "sync"], &[], None).await?;
        let before: Source = serde_json::from_value(before).context("the service's answer is not a source")?;
        asked.push((name, before));
    }
    if !args.wait {
        for name in &names {
            writeln!(io.out, "source/{} asked to sync", printable(name))?;
        }
        return Ok(Outcome::Good);
    }
    let until = Instant::now() + args.timeout;
    let mut outcome = Outcome::Good;
    for (name, before) in asked {
        if wait(&client, name, &before, args, until, io).await? == Outcome::Negative {
            outcome = Outcome::Negative;
        }
    }
    Ok(outcome)
}

/// What a source has come to.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Applied,
    Refused,
    Held,
    Suspended,
    Waiting,
}

/// Judges a source. Without a wanted commit it must have been polled since `before`.
fn progress(before: &Source, now: &Source, wanted: Option<&CommitId>) -> Progress {
    let status = &now.status;
    let observed = status.observed_commit.as_deref();
    match wanted {
        Some(wanted) if status.applied_commit.as_deref() == Some(wanted.as_str()) => return Progress::Applied,
        Some(wanted) if observed != Some(wanted.as_str()) => return Progress::Waiting,
        None if status.last_polled_at == before.status.last_polled_at => return Progress::Waiting,
        Some(_) | None => {}
    }
    let is = |kind: &str, status: ConditionStatus| {
        now.status.conditions.iter().any(|condition| condition.kind == kind && condition.status == status)
    };
    let held = status.held.as_ref().filter(|held| Some(held.commit.as_str()) == observed);
    let undecided = |held: &SourceHold| !held.decision.as_ref().is_some_and(|decision| decision.approved);
    // An approved one is about to be applied, or to be held again.
    let waits = is("Held", ConditionStatus::True) && held.is_some_and(undecided);
    let is_applied = observed.is_some() && observed == status.applied_commit.as_deref();
    if is_applied {
        // What the commit in force takes from elsewhere can wait, too.
        return if waits { Progress::Held } else { Progress::Applied };
    }
    if is("Suspended", ConditionStatus::True) {
        return Progress::Suspended;
    }
    if is("Parsed", ConditionStatus::False) {
        return Progress::Refused;
    }
    if waits { Progress::Held } else { Progress::Waiting }
}

async fn wait(
    client: &Client,
    name: &str,
    before: &Source,
    args: &SyncArgs,
    until: Instant,
    io: &mut Io<'_>,
) -> anyhow::Result<Outcome> {
    let mut told = None;
    loop {
        let now: Source = serde_json::from_value(client.get(&["sources", name], &[]).await?)
            .context("the service's answer is not a source")?;
        let commit = short(now.status.observed_commit.as_deref().unwrap_or_default());
        match progress(before, &now, args.commit.as_ref()) {
            Progress::Applied => {
                let applied = short(now.status.applied_commit.as_deref().unwrap_or_default());
                writeln!(io.out, "source/{} applied {}", printable(name), printable(&applied))?;
                return Ok(Outcome::Good);
            }
            Progress::Refused => {
                writeln!(io.out, "source/{} refused {}:", printable(name), printable(&commit))?;
                write_diagnostics(io, "  ", &now.status.diagnostics)?;
                return Ok(Outcome::Negative);
            }
            Progress::Held => {
                writeln!(io.out, "source/{} holds {}:", printable(name), printable(&commit))?;
                if let Some(held) = &now.status.held {
                    write_hold(name, held, io)?;
                }
                return Ok(Outcome::Negative);
            }
            Progress::Suspended => {
                let all = &now.status.conditions;
                let message = all.iter().find(|c| c.kind == "Suspended").map_or("", |c| c.message.as_str());
                writeln!(
                    io.out,
                    "source/{} does not apply {}: {}",
                    printable(name),
                    printable(&commit),
                    printable(message)
                )?;
                writeln!(io.out, "To go on: fleetctl source resume {}", printable(name))?;
                return Ok(Outcome::Negative);
            }
            Progress::Waiting if Instant::now() >= until => {
                bail!("source/{name} was not applied within {} s: {}", args.timeout.as_secs(), why(&now));
            }
            Progress::Waiting => {
                let obstacle = obstacle(&now);
                if let Some(obstacle) = obstacle.as_deref().filter(|_| obstacle != told) {
                    writeln!(io.err, "source/{} waits: {}", printable(name), printable(obstacle))?;
                    io.err.flush()?;
                }
                told = obstacle;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// What has to go away before anything can be applied, if it is known.
fn obstacle(source: &Source) -> Option<String> {
    let away = |c: &&Condition| c.kind == "SourceReachable" && c.status == ConditionStatus::False;
    let away = source.status.conditions.iter().find(away)?;
    Some(format!("its host could not be read ({}): {}", away.reason, away.message))
}

/// What the conditions say about the delay.
fn why(source: &Source) -> String {
    let not = source.status.conditions.iter().filter(|c| c.status != ConditionStatus::True);
    let words: Vec<String> =
        not.map(|c| format!("{} is {:?} ({}): {}", c.kind, c.status, c.reason, c.message)).collect();
    if words.is_empty() { "the service did not poll it".to_owned() } else { words.join("; ") }
}

#[cfg(test)]
mod tests {
    use fleet_model::{ObjectMeta, SourceSpec, SourceStatus};

    use super::*;

    fn source(polled: &str, observed: &str, applied: &str, parsed: ConditionStatus) -> Source {
        Source {
            api_version: String::new(),
            kind: String::new(),
            metadata: ObjectMeta::default(),
            spec: SourceSpec {
                url: String::new(),
                revision: String::new(),
                path: String::new(),
                origin: String::new(),
            },
            status: SourceStatus {
                observed_commit: Some(observed.to_owned()),
                applied_commit: Some(applied.to_owned()),
                last_polled_at: Some(polled.to_owned()),
                conditions: vec![Condition::new("Parsed", parsed, "r", "m", "t")],
                ..SourceStatus::default()
            },
        }
    }

    #[test]
    fn a_source_must_be_polled_before_it_is_judged() {
        use ConditionStatus::{False, True};
        let before = source("t1", "a", "a", True);
        assert_eq!(progress(&before, &before, None), Progress::Waiting);
        assert_eq!(progress(&before, &source("t2", "a", "a", True), None), Progress::Applied);
        assert_eq!(progress(&before, &source("t2", "b", "a", True), None), Progress::Waiting);
        assert_eq!(progress(&before, &source("t2", "b", "a", False), None), Progress::Refused);
        assert_eq!(progress(&before, &source("t1", "b", "a", False), None), Progress::Waiting);
    }

    #[test]
    fn a_commit_that_waits_for_a_person_is_an_answer() {
        use ConditionStatus::{False, True};
        let before = source("t1", "a", "a", True);
        let mut now = source("t2", "b", "a", True);
        now.status.conditions.push(Condition::new("Held", True, "BlastRadius", "m", "t"));
        let hold = |commit: &str, approved: Option<bool>| SourceHold {
            commit: commit.to_owned(),
            digest: String::new(),
            reason: String::new(),
            sentences: Vec::new(),
            since: String::new(),
            summary: serde_json::Value::Null,
            decision: approved.map(|approved| fleet_model::SourceDecision {
                approved,
                by: String::new(),
                at: String::new(),
                reason: String::new(),
            }),
        };
        for (held, want) in [
            (hold("b", None), Progress::Held),
            (hold("b", Some(false)), Progress::Held),
            (hold("b", Some(true)), Progress::Waiting),
            (hold("c", None), Progress::Waiting),
        ] {
            now.status.held = Some(held);
            assert_eq!(progress(&before, &now, None), want);
        }
        let mut suspended = source("t2", "b", "a", False);
        suspended.status.conditions.push(Condition::new("Suspended", True, "Suspended", "m", "t"));
        assert_eq!(progress(&before, &suspended, None), Progress::Suspended);
        assert_eq!(progress(&before, &source("t2", "b", "b", True), None), Progress::Applied);
    }

    #[test]
    fn a_wanted_commit_is_waited_for() {
        use ConditionStatus::{False, True};
        let wanted: CommitId = "b".repeat(40).parse().unwrap();
        let b = wanted.as_str();
        let before = source("t1", "a", "a", True);
        assert_eq!(progress(&before, &source("t9", "a", "a", True), Some(&wanted)), Progress::Waiting);
        assert_eq!(progress(&before, &source("t1", b, b, True), Some(&wanted)), Progress::Applied);
        assert_eq!(progress(&before, &source("t2", b, "a", False), Some(&wanted)), Progress::Refused);
    }
}
