//! Watches devices come to the commits in force: notes how far they are, and the moment when a commit is settled.

use std::sync::Arc;
use std::time::Duration;

use fleet_model::{ConditionStatus, OrgId};
use fleet_runtime::{CancellationToken, ErrorChain};
use fleet_store::{
    Lease, NewEvent, PgConnection, SourceProgress, SourceRow, StoreError, Ts, list_sources, record_event,
    record_progress, source_progress,
};
use serde_json::json;
use tracing::{debug, info};

use crate::source::Shared;

/// How often commits that are not settled are looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// Settled ones, whose devices may fail later, are looked at on each so many'th look; the metrics follow then too.
const ALL_EVERY: u32 = 3;

/// Looks until `term` ends.
pub(crate) async fn watch_progress(shared: Arc<Shared>, lease: Lease, term: CancellationToken) {
    let mut round = 0_u32;
    while !term.is_cancelled() {
        let all = round.is_multiple_of(ALL_EVERY);
        round = round.wrapping_add(1);
        let pass = tokio::select! {
            () = term.cancelled() => return,
            pass = pass(&shared, &lease, all) => pass,
        };
        if let Err(error) = pass {
            debug!(error = %ErrorChain(&error), "Cannot count how far devices are; trying again");
        }
        tokio::select! {
            () = term.cancelled() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn pass(shared: &Shared, lease: &Lease, all: bool) -> Result<(), StoreError> {
    let org = shared.config.org;
    let mut connection = shared.store.begin().await?;
    let found = source_progress(&mut connection, org, None, all).await?;
    connection.commit().await?;
    let news: Vec<&SourceProgress> = found.iter().filter(|one| is_news(one)).collect();
    if !news.is_empty() {
        let mut transaction = lease.begin(&shared.store).await?;
        lease.fence(&mut transaction).await?;
        for one in news {
            note(&mut transaction, org, one, Ts::from(shared.clock.now())).await?;
        }
        transaction.commit().await?;
    }
    if all {
        let rows = list_sources(shared.store.pool(), org).await?;
        shared.metrics.show_sources(&rows.iter().map(gauges).collect::<Vec<_>>(), &found);
    }
    Ok(())
}

fn settles(one: &SourceProgress) -> bool {
    !one.settled && !one.waits && one.now.updated == one.now.devices
}

fn is_news(one: &SourceProgress) -> bool {
    one.now != one.noted || settles(one)
}

async fn note(connection: &mut PgConnection, org: OrgId, one: &SourceProgress, at: Ts) -> Result<(), StoreError> {
    let settled = settles(one);
    let noted = record_progress(connection, org, &one.source, &one.applied, one.now, settled.then_some(at)).await?;
    if !noted || !settled {
        return Ok(());
    }
    let devices = one.now.devices;
    info!(source = one.source, commit = %one.applied, devices, "A commit is settled");
    if devices == 0 {
        return Ok(());
    }
    let all = if devices == 1 { "The device is".to_owned() } else { format!("All {devices} devices are") };
    let event = NewEvent {
        kind: "Source",
        name: &one.source,
        reason: "SourceSettled",
        warning: false,
        message: &format!("{all} healthy on commit {}", one.applied.short()),
        actor: "service:syncer",
        details: Some(json!({"commitHash": one.applied.as_str(), "devices": devices})),
    };
    record_event(connection, org, &event).await
}

/// What metrics tell of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceGauges {
    pub(crate) name: String,
    pub(crate) ready: bool,
    pub(crate) reachable: bool,
    /// The newest commit at the host is in force.
    pub(crate) current: bool,
}

fn gauges(row: &SourceRow) -> SourceGauges {
    let is = |kind: &str, status: ConditionStatus| {
        row.conditions.iter().any(|condition| condition.kind == kind && condition.status == status)
    };
    SourceGauges {
        name: row.definition.name.clone(),
        ready: is("Ready", ConditionStatus::True),
        reachable: !is("SourceReachable", ConditionStatus::False),
        current: row
            .applied_commit
            .as_ref()
            .is_some_and(|applied| row.observed_commit.as_deref().is_none_or(|observed| observed == applied.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use fleet_store::RolloutProgress;

    use super::*;

    fn one(devices: i64, updated: i64) -> SourceProgress {
        let now = RolloutProgress { devices, updated, failed: 0 };
        let applied = "a".repeat(40).parse().unwrap();
        SourceProgress { source: "s".to_owned(), applied, settled: false, waits: false, noted: now, now }
    }

    #[test]
    fn a_commit_settles_once_when_every_device_is_healthy_on_it() {
        assert!(!settles(&one(3, 2)) && !is_news(&one(3, 2)));
        assert!(settles(&one(3, 3)) && is_news(&one(3, 3)));
        assert!(settles(&one(0, 0)), "nobody is concerned");
        let again = SourceProgress { settled: true, ..one(3, 3) };
        assert!(!settles(&again) && !is_news(&again));
        let fails_later = SourceProgress { noted: RolloutProgress { updated: 3, ..again.now }, ..one(3, 2) };
        assert!(is_news(&SourceProgress { settled: true, ..fails_later }), "people see it");
        assert!(!settles(&SourceProgress { waits: true, ..one(3, 3) }), "a fleet of it waits for something else");
    }
}
