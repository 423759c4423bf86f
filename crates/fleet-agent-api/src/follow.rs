//! Keeps the index up to date: changed rows on every notification, and on a period for those that get lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fleet_runtime::{Backoff, CancellationToken, ErrorChain};
use fleet_store::{Channel, StoreError, StoreResult, devices_changed_since, newest_device_change};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::Shared;

/// How long reading what changed may take: a database that vanished without a word must not leave the index behind.
const CHANGES_DEADLINE: Duration = Duration::from_secs(10);
/// How long reading all devices may take.
const ALL_DEADLINE: Duration = Duration::from_secs(300);
/// Rows read in one statement.
const PAGE: i64 = 5_000;

/// The task that follows changes of devices in the database.
pub struct IndexTask(Arc<Shared>);

impl std::fmt::Debug for IndexTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexTask").finish_non_exhaustive()
    }
}

impl IndexTask {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Runs until `shutdown`. A database that is away is waited for; polls are answered from what is known meanwhile.
    pub async fn run(self, shutdown: CancellationToken) {
        let wake = Notify::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            never = self.hear(&wake) => match never {},
            never = self.follow(&wake) => match never {},
        }
    }

    /// Turns notifications into wake-ups.
    async fn hear(&self, wake: &Notify) -> Infallible {
        let mut backoff =
            Backoff::new(Duration::from_millis(200), Duration::from_secs(10)).expect("200 ms is less than 10 s");
        loop {
            match self.hear_one_connection(wake, &mut backoff).await {
                Ok(never) => match never {},
                Err(error) => {
                    warn!(error = %ErrorChain(&error), "Not hearing of changes; looking for them on a period")
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn hear_one_connection(&self, wake: &Notify, backoff: &mut Backoff) -> StoreResult<Infallible> {
        let mut listener = self.0.store.listen().await?;
        backoff.reset();
        // What happened before it listened was not heard.
        wake.notify_one();
        loop {
            match listener.next().await? {
                Some((Channel::Devices, _)) | None => wake.notify_one(),
                Some((Channel::Enrollment | Channel::Sources, _)) => {}
            }
        }
    }

    async fn follow(&self, wake: &Notify) -> Infallible {
        let mut position = None;
        let mut failing = false;
        loop {
            let deadline = if position.is_some() { CHANGES_DEADLINE } else { ALL_DEADLINE };
            let caught_up = tokio::time::timeout(deadline, self.catch_up(position)).await;
            match caught_up.unwrap_or_else(|_| Err(StoreError::TooSlow { seconds: deadline.as_secs() })) {
                Ok(newest) => {
                    position = Some(newest);
                    if failing {
                        info!("Following changes of devices again");
                    }
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        warn!(error = %ErrorChain(&error), "Cannot read changes of devices; trying again");
                    }
                    failing = true;
                }
            }
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(self.0.config.recheck) => {}
            }
        }
    }

    /// Reads what changed after `position`, or everything, and returns the new position.
    async fn catch_up(&self, position: Option<i64>) -> StoreResult<i64> {
        let pool = self.0.store.pool();
        let Some(mut position) = position else { return self.read_all().await };
        // Before the database is asked: what is read meanwhile is no older than that.
        let read = position.max(self.0.index.newest());
        if newest_device_change(pool).await? < read {
            warn!("The database is older than what was read from it; reading all devices again");
            return self.read_all().await;
        }
        loop {
            let page = devices_changed_since(pool, position, PAGE).await?;
            let full = i64::try_from(page.len()).is_ok_and(|rows| rows == PAGE);
            for device in page {
                position = position.max(device.change_seq);
                self.0.index.put(device);
            }
            self.count();
            if !full {
                return Ok(position);
            }
        }
    }

    async fn read_all(&self) -> StoreResult<i64> {
        let mut devices = Vec::new();
        let mut position = -1;
        loop {
            let page = devices_changed_since(self.0.store.pool(), position, PAGE).await?;
            let full = i64::try_from(page.len()).is_ok_and(|rows| rows == PAGE);
            position = page.last().map_or(position, |device| device.change_seq);
            devices.extend(page);
            if !full {
                break;
            }
        }
        info!(devices = devices.len(), "Read all devices");
        self.0.index.replace_all(devices);
        self.count();
        Ok(position)
    }

    fn count(&self) {
        self.0.metrics.indexed_devices.set(i64::try_from(self.0.index.len()).unwrap_or(i64::MAX));
    }
}
