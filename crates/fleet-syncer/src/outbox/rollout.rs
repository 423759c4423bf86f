//! Follows rollouts of commits in force and tells how far they are: `12/40 devices`. Looks only at rollouts whose end was not
//! told, and the less often the longer nothing changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_forge::StatusState;
use fleet_model::CommitId;
use fleet_runtime::{CancellationToken, ErrorChain};
use fleet_store::{Lease, OpenRollout, RolloutProgress, StoreError, Ts, open_rollouts, rollout_progress};
use tracing::warn;

use super::messages::{self, ROLLOUT, Topic};
use crate::source::Shared;

/// How often it is asked which rollouts there are, and how often at most one that moves is counted.
const TICK: Duration = Duration::from_secs(2);
/// How often a rollout is counted that does not move.
const SLOWEST: Duration = Duration::from_secs(60);
/// How often progress is told at most; the end is told at once.
const TOLD: Duration = Duration::from_secs(10);

/// What is known of a rollout.
#[derive(Debug)]
struct Seen {
    commit: CommitId,
    progress: RolloutProgress,
    next: Instant,
    pause: Duration,
    told: Option<Instant>,
}

/// Works until `term` ends.
pub(super) async fn follow(shared: Arc<Shared>, lease: Lease, term: CancellationToken) {
    let mut seen = BTreeMap::new();
    while !term.is_cancelled() {
        if let Err(error) = pass(&shared, &lease, &mut seen).await {
            warn!(error = %ErrorChain(&error), "Cannot tell how far rollouts are; trying again");
        }
        tokio::select! {
            () = term.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn pass(shared: &Shared, lease: &Lease, seen: &mut BTreeMap<String, Seen>) -> Result<(), StoreError> {
    let open = open_rollouts(shared.store.pool(), shared.config.org).await?;
    seen.retain(|source, known| open.iter().any(|one| one.source == *source && one.commit == known.commit));
    for rollout in open {
        let now = Instant::now();
        let known = seen.get(&rollout.source);
        if known.is_some_and(|known| known.next > now) {
            continue;
        }
        let found = look(shared, lease, &rollout, known, now).await?;
        seen.insert(rollout.source, found);
    }
    Ok(())
}

async fn look(
    shared: &Shared,
    lease: &Lease,
    rollout: &OpenRollout,
    known: Option<&Seen>,
    now: Instant,
) -> Result<Seen, StoreError> {
    let org = shared.config.org;
    let mut transaction = lease.begin(&shared.store).await?;
    lease.fence(&mut transaction).await?;
    let progress = rollout_progress(&mut transaction, org, &rollout.source).await?;
    let moved = known.is_none_or(|known| known.progress != progress);
    let pause = known.filter(|_| !moved).map_or(TICK, |known| (known.pause * 2).min(SLOWEST));
    let (state, words) = words(progress);
    let mut told = known.and_then(|known| known.told);
    let may_tell = state == StatusState::Success || told.is_none_or(|at| now.duration_since(at) >= TOLD);
    if may_tell && words != rollout.description {
        let at = Ts::from(shared.clock.now());
        let topic = Topic { org, source: &rollout.source, url: &rollout.url, commit: &rollout.commit, at };
        if messages::put(&mut transaction, &shared.outbox, topic, ROLLOUT, state, &words).await? {
            told = Some(now);
        }
    }
    transaction.commit().await.map_err(StoreError::from)?;
    if told == Some(now) {
        shared.outbox.wake();
    }
    // What may not be told yet is told as soon as it may.
    let next = match told {
        Some(at) if !may_tell && words != rollout.description => (at + TOLD).max(now + TICK),
        Some(_) | None => now + pause,
    };
    Ok(Seen { commit: rollout.commit.clone(), progress, next, pause, told })
}

/// How far it is, as it is told.
pub(super) fn words(progress: RolloutProgress) -> (StatusState, String) {
    let RolloutProgress { devices, updated, failed } = progress;
    if devices == 0 {
        return (StatusState::Success, "no devices".to_owned());
    }
    let noun = if devices == 1 { "device" } else { "devices" };
    if updated >= devices {
        return (StatusState::Success, format!("{devices}/{devices} {noun}"));
    }
    match failed {
        0 => (StatusState::Pending, format!("{updated}/{devices} {noun}")),
        failed => (StatusState::Failure, format!("{updated}/{devices} {noun}; {failed} in error")),
    }
}
