//! The work of the lease's holder: a task for each source, one for devices, and one that hears wake-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_pki::{CertificateAuthority, Lifetime};
use fleet_runtime::{Backoff, CancellationToken, ErrorChain};
use fleet_store::{
    Channel, DeviceScope, Lease, ORIGIN_CONFIG, SourceRow, Store, StoreError, Ts, lock_device_changes, put_source,
    remove_source,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::enroll::{BATCH, enroll};
use crate::reconcile::reconcile_devices;
use crate::source::{RunError, Shared, Source};
use crate::watch::{local_path, watch};

/// How often things are looked at though nothing woke.
const PERIOD: Duration = Duration::from_secs(5);
/// How many dirty devices one transaction takes.
const DIRTY_BATCH: i64 = 5_000;
/// How long a burst of changes in a local repository is given to end.
const SETTLE: Duration = Duration::from_millis(20);

/// Wakes the tasks.
#[derive(Debug, Default)]
struct Wakers {
    devices: Arc<Notify>,
    list: Arc<Notify>,
    sources: std::sync::Mutex<BTreeMap<String, Arc<Notify>>>,
}

impl Wakers {
    fn source(&self, name: &str) -> Arc<Notify> {
        let mut sources = self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(sources.entry(name.to_owned()).or_default())
    }

    fn wake_sources(&self, name: &str) {
        let sources = self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (known, notify) in sources.iter() {
            if name.is_empty() || known == name {
                notify.notify_one();
            }
        }
        self.list.notify_one();
    }
}

/// Works until `term` ends.
pub(crate) async fn work(
    shared: Arc<Shared>,
    authority: Arc<CertificateAuthority>,
    lease: Lease,
    term: CancellationToken,
) {
    let wakers = Arc::new(Wakers::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(hear(shared.store.clone(), Arc::clone(&wakers), term.clone()));
    tasks.spawn(devices(Arc::clone(&shared), authority, lease.clone(), Arc::clone(&wakers), term.clone()));
    sources(shared, lease, wakers, term.clone()).await;
    term.cancel();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "A task of the syncer failed");
        }
    }
}

/// Passes wake-ups from the database on.
async fn hear(store: Store, wakers: Arc<Wakers>, term: CancellationToken) {
    let everything = || {
        wakers.devices.notify_one();
        wakers.wake_sources("");
    };
    while !term.is_cancelled() {
        let mut listener = match store.listen().await {
            Ok(listener) => listener,
            Err(error) => {
                debug!(%error, "Cannot listen for wake-ups; looking on a period");
                tokio::select! {
                    () = term.cancelled() => return,
                    () = tokio::time::sleep(PERIOD) => continue,
                }
            }
        };
        everything();
        loop {
            let next = tokio::select! {
                () = term.cancelled() => return,
                next = listener.next() => next,
            };
            match next {
                Ok(Some((Channel::Enrollment, _))) => wakers.devices.notify_one(),
                Ok(Some((Channel::Sources, name))) => wakers.wake_sources(&name),
                Ok(Some((Channel::Devices, _))) => {}
                Ok(None) => everything(),
                Err(error) => {
                    debug!(%error, "Lost the connection for wake-ups; making it again");
                    break;
                }
            }
        }
    }
}

/// Keeps one task for each source in the database.
async fn sources(shared: Arc<Shared>, lease: Lease, wakers: Arc<Wakers>, term: CancellationToken) {
    let mut running: BTreeMap<String, (SourceIdentity, CancellationToken)> = BTreeMap::new();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut configured = false;
    while !term.is_cancelled() {
        if !configured {
            match configure(&shared, &lease).await {
                Ok(()) => configured = true,
                Err(error) => warn!(error = %ErrorChain(&error), "Cannot write the configured sources; trying again"),
            }
        }
        match fleet_store::list_sources(shared.store.pool(), shared.config.org).await {
            Ok(rows) if configured => follow(&shared, &lease, &wakers, &term, rows, &mut running, &mut tasks),
            Ok(_) => {}
            Err(error) => warn!(error = %ErrorChain(&error), "Cannot read the list of sources; trying again"),
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                warn!(%error, "The task of a source failed; it is started again");
                // Which one is not told: end all, and let the next pass start them afresh.
                running.values().for_each(|(_, token)| token.cancel());
                running.clear();
            }
        }
        tokio::select! {
            () = term.cancelled() => {}
            () = wakers.list.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// What a source task depends on; another value means another task.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SourceIdentity(String, String, String);

fn follow(
    shared: &Arc<Shared>,
    lease: &Lease,
    wakers: &Arc<Wakers>,
    term: &CancellationToken,
    rows: Vec<SourceRow>,
    running: &mut BTreeMap<String, (SourceIdentity, CancellationToken)>,
    tasks: &mut JoinSet<()>,
) {
    let names: BTreeSet<String> = rows.iter().map(|row| row.definition.name.clone()).collect();
    running.retain(|name, (_, token)| {
        let kept = names.contains(name);
        if !kept {
            info!(source = name, "A source is gone");
            token.cancel();
        }
        kept
    });
    for row in rows {
        let definition = &row.definition;
        let identity = SourceIdentity(definition.url.clone(), definition.revision.clone(), definition.path.clone());
        let name = definition.name.clone();
        match running.get(&name) {
            Some((known, _)) if *known == identity => continue,
            Some((_, token)) => token.cancel(),
            None => {}
        }
        let token = term.child_token();
        let source = Source::new(Arc::clone(shared), lease.clone(), row);
        let local = local_path(&identity.0);
        tasks.spawn(source_loop(source, wakers.source(&name), local, shared.config.poll_interval, token.clone()));
        running.insert(name, (identity, token));
    }
}

/// Makes the sources of the configuration those of the database.
async fn configure(shared: &Shared, lease: &Lease) -> Result<(), StoreError> {
    let org = shared.config.org;
    let existing = fleet_store::list_sources(shared.store.pool(), org).await?;
    let mut transaction = shared.store.begin().await?;
    lock_device_changes(&mut transaction).await?;
    lease.fence(&mut transaction).await?;
    for source in &shared.config.sources {
        if put_source(&mut transaction, org, source).await? {
            info!(source = source.name, url = source.url, "Source configured");
        }
    }
    for row in existing {
        let definition = row.definition;
        let named = shared.config.sources.iter().any(|source| source.name == definition.name);
        if definition.origin == ORIGIN_CONFIG && !named {
            info!(source = definition.name, "Source is no longer configured; devices keep their last document");
            remove_source(&mut transaction, org, &definition.name).await?;
        }
    }
    transaction.commit().await.map_err(StoreError::from)
}

/// Runs one source until its token ends.
async fn source_loop(
    mut source: Source,
    wake: Arc<Notify>,
    local: Option<std::path::PathBuf>,
    poll_interval: Duration,
    token: CancellationToken,
) {
    let mut watching = None;
    let cap = Duration::from_secs(300).max(poll_interval);
    let mut backoff = Backoff::new(Duration::from_secs(1), cap).expect("one second is no more than the cap");
    loop {
        if let (None, Some(path)) = (&watching, &local) {
            watching = watch(path, Arc::clone(&wake));
        }
        // A step that runs is let finish: it is bounded by the worker's deadlines and the database's time-outs.
        let delay = match source.run().await {
            Ok(_) => {
                backoff.reset();
                jittered(poll_interval)
            }
            Err(RunError::Git(_) | RunError::Store(_)) => backoff.next_delay(),
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
            () = wake.notified() => {
                tokio::time::sleep(SETTLE).await;
                source.asked();
            }
        }
    }
}

/// ± 20 %, so that sources spread out.
fn jittered(interval: Duration) -> Duration {
    let mut spread = Backoff::new(interval, interval).map_or(interval, |mut backoff| backoff.next_delay());
    spread = spread.min(interval);
    interval.mul_f64(0.8) + spread.mul_f64(0.4)
}

/// Enrols devices and brings dirty ones in line, whenever woken and on a period.
async fn devices(
    shared: Arc<Shared>,
    authority: Arc<CertificateAuthority>,
    lease: Lease,
    wakers: Arc<Wakers>,
    term: CancellationToken,
) {
    while !term.is_cancelled() {
        let more = match devices_pass(&shared, &authority, &lease).await {
            Ok(more) => more,
            Err(error) => {
                warn!(error = %ErrorChain(&error), "Cannot bring devices in line; trying again");
                false
            }
        };
        if more {
            continue;
        }
        tokio::select! {
            () = term.cancelled() => {}
            () = wakers.devices.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// One transaction's worth. Returns whether there is more to do at once.
async fn devices_pass(shared: &Shared, authority: &CertificateAuthority, lease: &Lease) -> Result<bool, StoreError> {
    let (org, now) = (shared.config.org, shared.clock.now());
    let mut transaction = shared.store.begin().await?;
    lock_device_changes(&mut transaction).await?;
    lease.fence(&mut transaction).await?;
    let lifetime = Lifetime::at_most(shared.config.device_certificate_lifetime);
    let enrolled = enroll(&mut transaction, org, authority, lifetime, now).await?;
    let scope = DeviceScope::Dirty(DIRTY_BATCH);
    let outcome = reconcile_devices(&mut transaction, org, &scope, false, Ts::from(now), &shared.cache).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    shared.metrics.enrolled.inc_by(u64::try_from(enrolled).unwrap_or_default());
    shared.metrics.new_versions.inc_by(u64::try_from(outcome.new_versions).unwrap_or_default());
    shared.metrics.renders.inc_by(u64::try_from(outcome.renders).unwrap_or_default());
    let full_batch = |count: usize, limit: i64| i64::try_from(count).is_ok_and(|count| count >= limit);
    Ok(full_batch(enrolled, BATCH) || full_batch(outcome.devices, DIRTY_BATCH))
}
