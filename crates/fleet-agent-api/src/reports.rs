//! Statuses and heartbeats on their way to the database: many devices share one transaction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_http::ApiError;
use fleet_model::DeviceName;
use fleet_runtime::{Backoff, CancellationToken, ErrorChain};
use fleet_store::{
    Heartbeat, StatusReport, StatusWritten, StoreError, StoreResult, Ts, raise_reported_versions, write_heartbeats,
    write_status_reports,
};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::Shared;
use crate::index::{DeviceKey, Slot};

/// How often a transaction is tried that lost against another one.
const ATTEMPTS: u32 = 5;
/// The most heartbeats in one transaction.
const HEARTBEATS: usize = 1000;
/// How long a status may take to become durable before the device is asked to come back.
const STATUS_DEADLINE: Duration = Duration::from_secs(30);

/// How a status fared.
type Outcome = Result<Option<StatusWritten>, Arc<StoreError>>;

/// A status that waits to be written.
pub(crate) struct Job {
    report: StatusReport,
    done: oneshot::Sender<Outcome>,
}

/// The way in.
pub(crate) struct Reports {
    queue: mpsc::Sender<Job>,
    heard: Mutex<Vec<Arc<Slot>>>,
}

impl Reports {
    pub(crate) fn new(queue: usize) -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(queue.max(1));
        (Self { queue: sender, heard: Mutex::default() }, receiver)
    }
}

impl Shared {
    /// Writes a status together with others; returns when it is durable.
    pub(crate) async fn write_status(&self, report: StatusReport) -> Result<StatusWritten, ApiError> {
        let busy = || ApiError::unavailable("the service cannot store statuses now; try again later", 10);
        let name = report.name.clone();
        let (done, outcome) = oneshot::channel();
        self.reports.queue.try_send(Job { report, done }).map_err(|_| self.failed(busy()))?;
        match tokio::time::timeout(STATUS_DEADLINE, outcome).await {
            Ok(Ok(Ok(Some(written)))) => Ok(written),
            Ok(Ok(Ok(None))) => Err(self.failed(unknown_device(&name))),
            Ok(Ok(Err(error))) if error.is_unavailable() || error.is_retryable() => {
                Err(self.failed(busy().with_source(error)))
            }
            Ok(Ok(Err(error))) => Err(self.failed(ApiError::internal(error))),
            Ok(Err(_)) | Err(_) => Err(self.failed(busy())),
        }
    }

    fn failed(&self, error: ApiError) -> ApiError {
        self.metrics.statuses_failed.inc();
        error
    }

    /// Notes that a device was heard of, and the version it knows when that is above what it was ever given.
    pub(crate) fn heard_of(&self, slot: &Arc<Slot>, ahead: Option<i64>) {
        if slot.beat(self.clock.now().as_microsecond(), ahead) {
            self.reports.heard.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(slot));
        }
    }
}

fn unknown_device(name: &DeviceName) -> ApiError {
    warn!(device = %name, "A device that reports its status is not in the database");
    ApiError::unavailable("this device is not known here at present; try again later", 60)
}

/// The task that writes statuses and heartbeats.
pub struct ReportTask {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
}

impl std::fmt::Debug for ReportTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportTask").finish_non_exhaustive()
    }
}

impl ReportTask {
    pub(crate) fn new(shared: Arc<Shared>, jobs: mpsc::Receiver<Job>) -> Self {
        Self { shared, jobs }
    }

    /// Runs until `shutdown`, then writes what was accepted before.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { shared, jobs } = self;
        tokio::join!(write_statuses(&shared, jobs, &shutdown), write_beats(&shared, &shutdown));
    }
}

async fn write_statuses(shared: &Shared, mut jobs: mpsc::Receiver<Job>, shutdown: &CancellationToken) {
    loop {
        let first = tokio::select! {
            job = jobs.recv() => job,
            () = shutdown.cancelled() => {
                // Those that come later are refused; those that are in line are written.
                jobs.close();
                jobs.recv().await
            }
        };
        let Some(first) = first else { return };
        let mut batch = vec![first];
        let deadline = Instant::now() + shared.config.status_window;
        while batch.len() < shared.config.status_batch.max(1) {
            match tokio::time::timeout_at(deadline, jobs.recv()).await {
                Ok(Some(job)) => batch.push(job),
                Ok(None) | Err(_) => break,
            }
        }
        write_jobs(shared, batch).await;
    }
}

/// Writes the newest report of each device in one transaction, and tells everybody.
async fn write_jobs(shared: &Shared, batch: Vec<Job>) {
    let mut newest: HashMap<DeviceKey, usize> = HashMap::with_capacity(batch.len());
    let mut reports: Vec<StatusReport> = Vec::with_capacity(batch.len());
    let mut waiting: Vec<(usize, oneshot::Sender<Outcome>)> = Vec::with_capacity(batch.len());
    for Job { report, done } in batch {
        let next = reports.len();
        let at = *newest.entry((report.org, report.name.clone())).or_insert(next);
        if at == next {
            reports.push(report)
        } else {
            reports[at] = report
        }
        waiting.push((at, done));
    }
    let outcomes = write_reports(shared, &reports).await;
    for (at, done) in waiting {
        if matches!(outcomes[at], Ok(Some(_))) {
            shared.metrics.statuses_written.inc();
        }
        // The device may have hung up.
        let _ = done.send(outcomes[at].clone());
    }
}

async fn write_reports(shared: &Shared, reports: &[StatusReport]) -> Vec<Outcome> {
    let failure = match transaction(shared, reports).await {
        Ok(written) => return written.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if failure.is_unavailable() || failure.is_retryable() || reports.len() == 1 {
        let failure = Arc::new(failure);
        return reports.iter().map(|_| Err(Arc::clone(&failure))).collect();
    }
    // One report that cannot be stored must not take the others with it.
    warn!(error = %ErrorChain(&failure), statuses = reports.len(), "A batch of statuses failed; writing them one by one");
    let mut outcomes = Vec::with_capacity(reports.len());
    for report in reports {
        outcomes.push(match transaction(shared, std::slice::from_ref(report)).await {
            Ok(written) => Ok(written.into_iter().next().flatten()),
            Err(error) => Err(Arc::new(error)),
        });
    }
    outcomes
}

/// One transaction, tried again when it lost against another.
async fn transaction(shared: &Shared, reports: &[StatusReport]) -> StoreResult<Vec<Option<StatusWritten>>> {
    let mut backoff =
        Backoff::new(Duration::from_millis(10), Duration::from_millis(200)).expect("10 ms is less than 200 ms");
    let mut attempt = 1;
    loop {
        match transaction_once(shared, reports).await {
            Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                debug!(error = %ErrorChain(&error), attempt, "Statuses were in another's way; trying again");
                tokio::time::sleep(backoff.next_delay()).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn transaction_once(shared: &Shared, reports: &[StatusReport]) -> StoreResult<Vec<Option<StatusWritten>>> {
    shared.metrics.status_transactions.inc();
    let rows = u32::try_from(reports.len()).unwrap_or(u32::MAX);
    shared.metrics.status_batch_sizes.observe(rows.into());
    let mut transaction = shared.store.begin().await?;
    let written = write_status_reports(&mut transaction, reports).await?;
    transaction.commit().await?;
    Ok(written)
}

async fn write_beats(shared: &Shared, shutdown: &CancellationToken) {
    let mut away = false;
    loop {
        let ending = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(shared.config.heartbeat_interval) => false,
        };
        let heard = std::mem::take(&mut *shared.reports.heard.lock().unwrap_or_else(PoisonError::into_inner));
        for slots in heard.chunks(HEARTBEATS) {
            match write_beat_batch(shared, slots).await {
                Ok(()) => away = false,
                Err(error) => {
                    if !away {
                        warn!(error = %ErrorChain(&error), "Heartbeats are lost until the database is back");
                    }
                    away = true;
                }
            }
        }
        if ending {
            return;
        }
    }
}

async fn write_beat_batch(shared: &Shared, slots: &[Arc<Slot>]) -> StoreResult<()> {
    let mut beats = Vec::with_capacity(slots.len());
    let mut ahead = Vec::new();
    for slot in slots {
        let (at, known) = slot.take_beat();
        let at = Ts::from(Timestamp::from_microsecond(at).unwrap_or_default());
        let (org, name) = slot.key.clone();
        if let Some(known) = known {
            warn!(device = %name, known, "A device knows a higher version than it was ever given");
            ahead.push((org, name.clone(), known));
        }
        beats.push(Heartbeat { org, name, at });
    }
    let mut transaction = shared.store.begin().await?;
    write_heartbeats(&mut transaction, &beats).await?;
    if !ahead.is_empty() {
        raise_reported_versions(&mut transaction, &ahead).await?;
    }
    transaction.commit().await?;
    shared.metrics.heartbeats_written.inc_by(u64::try_from(beats.len()).unwrap_or(0));
    Ok(())
}
