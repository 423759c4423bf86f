//! Sources that wait to be woken. Each is in it once, however many requests hinted at it; one task empties it, so that no
//! request waits for the database.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_model::OrgId;
use fleet_runtime::{CancellationToken, ErrorChain};
use fleet_store::{Store, announce_hints};
use tokio::sync::Notify;
use tracing::warn;

/// The shortest time between two statements: a burst becomes one.
const GAP: Duration = Duration::from_millis(50);
/// How long to wait when the database fails.
const RETRY: Duration = Duration::from_secs(1);
/// How long one statement may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sources that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Their own repositories were announced to have changed.
    announced: BTreeSet<String>,
    /// Repositories that they take content from were.
    woken: BTreeSet<String>,
}

impl Queue {
    pub(crate) fn add(&self, announced: &BTreeSet<String>, woken: &BTreeSet<String>) {
        if !announced.is_empty() || !woken.is_empty() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.announced.extend(announced.iter().cloned());
            waiting.woken.extend(woken.iter().cloned());
            self.filled.notify_one();
        }
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes on what webhooks hint at; made by [`crate::UserApi::hint_sender`].
#[derive(Debug)]
pub struct HintSender {
    queue: Arc<Queue>,
    store: Store,
    org: OrgId,
}

impl HintSender {
    pub(crate) fn new(queue: Arc<Queue>, store: Store, org: OrgId) -> Self {
        Self { queue, store, org }
    }

    /// Runs until shutdown. While the database is away hints are kept, each source once.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.queue.filled.notified() => {}
            }
            let Waiting { announced, woken } = self.queue.take();
            if announced.is_empty() && woken.is_empty() {
                continue;
            }
            let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
            let (hinted, others) = (names(&announced), names(&woken));
            let sent = announce_hints(self.store.pool(), self.org, &hinted, &others);
            let sent = tokio::time::timeout(DEADLINE, sent).await;
            let pause = match sent {
                Ok(Ok(())) => GAP,
                Ok(Err(error)) => {
                    warn!(error = %ErrorChain(&error), "Cannot pass hints of webhooks on; trying again");
                    self.queue.add(&announced, &woken);
                    RETRY
                }
                Err(_) => {
                    warn!("Passing hints of webhooks on took too long; trying again");
                    self.queue.add(&announced, &woken);
                    RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
