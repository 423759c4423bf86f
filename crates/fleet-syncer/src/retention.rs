//! Forgets events that are older than the configuration says, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use fleet_runtime::{CancellationToken, ErrorChain};
use fleet_store::{Lease, StoreError, Ts, forget_events};
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info};

use crate::source::Shared;

/// How often it is looked for old events.
const PERIOD: Duration = Duration::from_secs(600);
/// So many go in one transaction, and so long is waited between two.
const BATCH: i64 = 5_000;
const PAUSE: Duration = Duration::from_millis(200);

/// Works until `term` ends.
pub(crate) async fn forget_old_events(shared: Arc<Shared>, lease: Lease, term: CancellationToken) {
    loop {
        let forgotten = tokio::select! {
            () = term.cancelled() => return,
            forgotten = forget_all(&shared, &lease) => forgotten,
        };
        match forgotten {
            Ok(0) => {}
            Ok(events) => info!(events, "Forgot old events"),
            Err(error) => debug!(error = %ErrorChain(&error), "Cannot forget old events; trying again"),
        }
        tokio::select! {
            () = term.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn forget_all(shared: &Shared, lease: &Lease) -> Result<u64, StoreError> {
    let kept = SignedDuration::try_from(shared.config.event_retention).unwrap_or(SignedDuration::MAX);
    let before = shared.clock.now().checked_sub(kept).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut all = 0;
    loop {
        let mut transaction = lease.begin(&shared.store).await?;
        lease.fence(&mut transaction).await?;
        let some = forget_events(&mut transaction, Ts::from(before), BATCH).await?;
        transaction.commit().await?;
        all += some;
        if some < BATCH.unsigned_abs() {
            return Ok(all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
