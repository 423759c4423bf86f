//! The grace of what left Git: how long it lasts, and its end.

use std::time::Duration;

use fleet_model::{Kind, OrgId, SyncRules};
use fleet_store::{
    Channel, Grace, NewEvent, PgConnection, StoreError, Tombstone, Ts, count_tombstones, mark_all_devices_dirty,
    record_event, remove_expired,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tracing::info;

use crate::apply::remove_orphans;

/// How many objects one transaction removes.
const BATCH: i64 = 500;

/// The grace of what a commit removes now: what the policies in force say, else the configuration. `None` when there is
/// none.
pub(crate) fn grace(rules: &SyncRules, configured: Duration, now: Timestamp) -> Option<Grace> {
    let length = rules.deletion_grace_or(configured);
    if length.is_zero() {
        return None;
    }
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let until = now.checked_add(length).unwrap_or(Timestamp::MAX);
    Some(Grace { from: Ts::from(now), until: Ts::from(until) })
}

/// A plan's summary with what the plan, which tells the state afterwards, leaves out: until when what goes stays in force.
pub(crate) fn noted(mut summary: Value, removed: usize, grace: Option<Grace>) -> Value {
    if let (1.., Some(grace)) = (removed, grace) {
        let until = format!("{:.0}", grace.until.to_jiff());
        let sentence = summary["sentence"].as_str().unwrap_or_default();
        summary["sentence"] = format!("{sentence}; what goes stays in force until {until}").into();
        summary["inForceUntil"] = until.into();
    }
    summary
}

/// What the end of some graces did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Objects that are gone.
    pub(crate) removed: usize,
    /// Objects that still leave.
    pub(crate) leaving: i64,
    /// Whether the grace of more is over than one transaction removes.
    pub(crate) more: bool,
}

/// Removes objects whose grace is over, in the caller's transaction, which must hold the lock of device changes. Devices
/// that this concerns are marked. What suspended sources keep goes once they are resumed.
///
/// # Errors
/// When the database fails.
pub(crate) async fn end_graces(connection: &mut PgConnection, org: OrgId, now: Timestamp) -> Result<Ended, StoreError> {
    let leaving = count_tombstones(connection, org).await?;
    if leaving == 0 {
        return Ok(Ended { removed: 0, leaving, more: false });
    }
    let gone = remove_expired(connection, org, Ts::from(now), BATCH).await?;
    for one in &gone {
        tell(connection, org, one).await?;
    }
    let of_kind = |kind: Kind| gone.iter().any(|one| one.kind == kind);
    if of_kind(Kind::ResourceSync) {
        // What its source defined goes along, which had the same grace.
        remove_orphans(connection, org).await?;
        mark_all_devices_dirty(connection, org).await?;
    }
    if [Kind::ResourceSync, Kind::SyncPolicy, Kind::Repository].into_iter().any(of_kind) {
        Channel::Sources.notify(connection, "").await?;
    }
    let removed = gone.len();
    let leaving = if removed == 0 { leaving } else { count_tombstones(connection, org).await? };
    Ok(Ended { removed, leaving, more: i64::try_from(removed).is_ok_and(|removed| removed >= BATCH) })
}

/// A length of time in its largest whole unit.
fn told(seconds: i64) -> String {
    match seconds {
        hours if hours > 0 && hours % 3_600 == 0 => format!("{}h", hours / 3_600),
        minutes if minutes > 0 && minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

async fn tell(connection: &mut PgConnection, org: OrgId, gone: &Tombstone) -> Result<(), StoreError> {
    let Tombstone { kind, name, source, removed_by, removed_at, expires_at } = gone;
    let length = expires_at.to_jiff().as_second() - removed_at.to_jiff().as_second();
    let length = told(length);
    let commit: String = removed_by.chars().take(12).collect();
    let message =
        format!("{kind} {name} removed: it left source {source} with commit {commit}, grace of {length} over");
    info!(%kind, name, source, commit = %removed_by, "Removed an object whose grace is over");
    let event = NewEvent {
        kind: kind.as_str(),
        name,
        reason: "ResourceDeleted",
        warning: false,
        message: &message,
        actor: "service:syncer",
        details: Some(json!({"commitHash": removed_by, "source": source})),
    };
    record_event(connection, org, &event).await
}

#[cfg(test)]
pub(crate) mod tests;
