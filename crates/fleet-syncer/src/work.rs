//! The work of the lease's holder: a task for each source, one for devices, and one that hears wake-ups.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_pki::{CertificateAuthority, Lifetime};
use fleet_runtime::{Backoff, CancellationToken, ErrorChain, Pace};
use fleet_store::{
    Channel, DeviceScope, Lease, ORIGIN_CONFIG, SourceDefinition, SourceRow, Store, StoreError, Ts,
    forget_positions_except, lock_device_changes, mark_all_devices_dirty, put_source, remove_source, restore_leaving,
    unsettled_sources,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::apply::remove_orphans;
use crate::enroll::{BATCH, enroll};
use crate::outbox;
use crate::progress::watch_progress;
use crate::reconcile::{ReconcileOutcome, reconcile_devices};
use crate::retention::forget_old_events;
use crate::source::{RunError, Shared, Source};
use crate::tombstones::end_graces;
use crate::watch::{local_path, watch};

/// How often things are looked at though nothing woke.
const PERIOD: Duration = Duration::from_secs(5);
/// How many dirty devices one transaction takes.
const DIRTY_BATCH: i64 = 5_000;
/// The longest that one pass over devices may take, and one look at a source where requests to hosts may not take longer.
pub(crate) const RUN_DEADLINE: Duration = Duration::from_secs(600);
/// How long a burst of changes in a local repository is given to end.
const SETTLE: Duration = Duration::from_millis(20);
/// How many looks at one source wake-ups may cause at once, and how often one in the long run.
const WOKEN_BURST: u32 = 3;
const WOKEN_PERIOD: Duration = Duration::from_millis(500);

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
        match sources.get(name) {
            // News of one source are none of the list.
            Some(notify) => notify.notify_one(),
            None => {
                if name.is_empty() {
                    sources.values().for_each(|notify| notify.notify_one());
                }
                self.list.notify_one();
            }
        }
    }
}

/// Works until `term` ends.
pub(crate) async fn work(
    shared: Arc<Shared>,
    authority: Arc<CertificateAuthority>,
    lease: Lease,
    term: CancellationToken,
) {
    shared.mirrors.forget_fetched();
    shared.web.begins(&lease);
    shared.dependencies.term.begins(&lease);
    let wakers = Arc::new(Wakers::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(hear(shared.store.clone(), Arc::clone(&wakers), term.clone()));
    let mirrors = Arc::clone(&shared.mirrors);
    let tidy = term.clone();
    tasks.spawn(async move { mirrors.tend(tidy).await });
    tasks.spawn(devices(Arc::clone(&shared), authority, lease.clone(), Arc::clone(&wakers), term.clone()));
    tasks.spawn(watch_progress(Arc::clone(&shared), lease.clone(), term.clone()));
    tasks.spawn(forget_old_events(Arc::clone(&shared), lease.clone(), term.clone()));
    let notes = (Arc::clone(&shared), lease.clone(), term.clone());
    tasks.spawn(async move { notes.0.polls.write(&notes.0.store, notes.0.config.org, &notes.1, notes.2).await });
    let web = (Arc::clone(&shared), term.clone());
    tasks.spawn(async move { web.0.web.tend(web.1).await });
    tasks.spawn(outbox::run(Arc::clone(&shared), lease.clone(), term.clone()));
    let sources = sources(shared, lease, wakers, term.clone());
    tokio::pin!(sources);
    tokio::select! {
        () = &mut sources => {}
        ended = tasks.join_next() => {
            if !term.is_cancelled() {
                error!(?ended, "A task of the syncer ended by itself; starting its work again");
            }
            term.cancel();
            sources.await;
        }
    }
    term.cancel();
    while tasks.join_next().await.is_some() {}
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
    let mut settled = false;
    while !term.is_cancelled() {
        if !configured {
            match configure(&shared, &lease).await {
                Ok(()) => {
                    configured = true;
                    // Whatever ran before knew another database.
                    running.values().for_each(|(_, token)| token.cancel());
                    running.clear();
                }
                Err(error) => {
                    warn!(error = %ErrorChain(&error), "Cannot write the configured sources; trying again");
                    heal(&shared, &error).await;
                }
            }
        }
        match fleet_store::list_sources(shared.store.pool(), shared.config.org).await {
            Ok(rows) => {
                // Somebody dropped desired state under us: start from the configuration again.
                let named = |name: &str| rows.iter().any(|row| row.definition.name == name);
                configured &= shared.config.sources.iter().all(|source| named(&source.name));
                if configured {
                    follow(&shared, &lease, &wakers, &term, rows, &mut running, &mut tasks);
                    if !settled {
                        settled = true;
                        shared.mirrors.settled();
                    }
                } else {
                    wakers.list.notify_one();
                }
            }
            Err(error) => {
                warn!(error = %ErrorChain(&error), "Cannot read the list of sources; trying again");
                configured &= !heal(&shared, &error).await;
            }
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

/// Makes tables again that somebody dropped while the service runs. Returns whether it did.
async fn heal(shared: &Shared, error: &StoreError) -> bool {
    if !error.is_missing_table() {
        return false;
    }
    match shared.store.migrate().await {
        Ok(()) => true,
        Err(error) => {
            warn!(error = %ErrorChain(&error), "Cannot make missing tables again");
            false
        }
    }
}

/// What a source task depends on; another value means another task.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SourceIdentity(SourceDefinition, bool);

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
            shared.web.names(name, HashSet::new());
            token.cancel();
        }
        kept
    });
    for row in rows {
        let definition = &row.definition;
        let identity = SourceIdentity(definition.clone(), row.leaving);
        let name = definition.name.clone();
        match running.get(&name) {
            Some((known, _)) if *known == identity => continue,
            Some((_, token)) => token.cancel(),
            None => {}
        }
        let token = term.child_token();
        let local = local_path(&definition.url);
        let source = Source::new(Arc::clone(shared), lease.clone(), row);
        let times = Times { poll_interval: shared.config.poll_interval, deadline: shared.config.look_deadline() };
        tasks.spawn(source_loop(source, wakers.source(&name), Arc::clone(&wakers.list), local, times, token.clone()));
        running.insert(name, (identity, token));
    }
}

/// Makes the sources of the configuration those of the database.
async fn configure(shared: &Shared, lease: &Lease) -> Result<(), StoreError> {
    let org = shared.config.org;
    let existing = fleet_store::list_sources(shared.store.pool(), org).await?;
    let _turn = shared.turn.lock().await;
    let mut transaction = lease.begin(&shared.store).await?;
    lock_device_changes(&mut transaction).await?;
    lease.fence(&mut transaction).await?;
    for source in &shared.config.sources {
        if put_source(&mut transaction, org, source).await? {
            info!(source = source.name, url = source.url, "Source configured");
        }
    }
    if restore_leaving(&mut transaction, org).await? > 0 {
        info!("What left Git is in force again until its grace is over");
    }
    let configured: Vec<String> = shared.config.sources.iter().map(|source| source.name.clone()).collect();
    let mut removed = forget_positions_except(&mut transaction, org, &configured).await? > 0;
    for row in existing {
        let definition = row.definition;
        if definition.origin == ORIGIN_CONFIG && !configured.contains(&definition.name) {
            info!(source = definition.name, "Source is no longer configured; devices keep their last document");
            remove_source(&mut transaction, org, &definition.name).await?;
            removed = true;
        }
    }
    removed |= remove_orphans(&mut transaction, org).await?;
    if removed {
        mark_all_devices_dirty(&mut transaction, org).await?;
        Channel::Enrollment.notify(&mut transaction, "").await?;
    }
    transaction.commit().await.map_err(StoreError::from)
}

/// How often a source is looked at, and how long that may take.
#[derive(Clone, Copy)]
struct Times {
    poll_interval: Duration,
    deadline: Duration,
}

/// Runs one source until its token ends.
async fn source_loop(
    mut source: Source,
    wake: Arc<Notify>,
    list: Arc<Notify>,
    local: Option<std::path::PathBuf>,
    times: Times,
    token: CancellationToken,
) {
    let Times { poll_interval, deadline } = times;
    let mut watching = None;
    let cap = Duration::from_secs(300).max(poll_interval);
    let mut pace = Pace::new(WOKEN_BURST, WOKEN_PERIOD);
    let mut backoff = Backoff::new(Duration::from_secs(1), cap).expect("one second is no more than the cap");
    loop {
        if let (None, Some(path)) = (&watching, &local) {
            watching = watch(path, Arc::clone(&wake));
        }
        // Dropping a run is safe: a transaction is rolled back, a worker is killed.
        let run = tokio::select! {
            () = token.cancelled() => return,
            run = tokio::time::timeout(deadline, source.run()) => run,
        };
        let delay = match run {
            Ok(Ok(_)) => {
                backoff.reset();
                let own = jittered(poll_interval);
                source.rest().map_or(own, |rest| rest.min(own))
            }
            Ok(Err(RunError::Git(_))) => {
                let own = backoff.next_delay();
                source.pause().unwrap_or(own)
            }
            Ok(Err(RunError::Store(error))) => {
                if error.is_missing_table() {
                    // Who keeps the list makes what is missing again.
                    list.notify_one();
                }
                backoff.next_delay()
            }
            Err(_) => {
                warn!(seconds = deadline.as_secs(), "Looking at a source took too long; trying again");
                source.was_given_up();
                backoff.next_delay()
            }
        };
        // The end of a suspension is not missed because a host is away.
        let delay = source.until_resumed().map_or(delay, |left| left.min(delay));
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
            () = source.news() => {}
            () = wake.notified() => {
                source.woken(Instant::now());
                let pause = SETTLE.max(pace.delay(Instant::now()));
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                // Whoever woke meanwhile is served by the same look.
                tokio::select! {
                    biased;
                    () = wake.notified() => source.woken(Instant::now()),
                    () = std::future::ready(()) => {}
                }
                pace.take(Instant::now());
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
        let pass = tokio::select! {
            () = term.cancelled() => return,
            pass = tokio::time::timeout(RUN_DEADLINE, devices_pass(&shared, &authority, &lease)) => pass,
        };
        let more = match pass {
            Ok(Ok(more)) => more,
            Ok(Err(error)) => {
                warn!(error = %ErrorChain(&error), "Cannot bring devices in line; trying again");
                false
            }
            Err(_) => {
                warn!(seconds = RUN_DEADLINE.as_secs(), "Bringing devices in line took too long; trying again");
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
    let lifetime = Lifetime::at_most(shared.config.device_certificate_lifetime);
    let _turn = shared.turn.lock().await;
    let mut transaction = lease.begin(&shared.store).await?;
    lock_device_changes(&mut transaction).await?;
    lease.fence(&mut transaction).await?;
    let handled = enroll(&mut transaction, org, authority, lifetime, now).await?;
    let ended = end_graces(&mut transaction, org, now).await?;
    // While desired state is being made again nobody is moved on half of it.
    let outcome = if unsettled_sources(&mut transaction, org).await?.is_empty() {
        let scope = DeviceScope::Dirty(DIRTY_BATCH);
        reconcile_devices(&mut transaction, org, &scope, false, Ts::from(now), &HashMap::new(), &shared.cache).await?
    } else {
        ReconcileOutcome::default()
    };
    transaction.commit().await.map_err(StoreError::from)?;
    shared.metrics.leaving.set(ended.leaving);
    shared.metrics.enrollments.inc_by(u64::try_from(handled).unwrap_or_default());
    shared.metrics.new_versions.inc_by(u64::try_from(outcome.new_versions).unwrap_or_default());
    shared.metrics.renders.inc_by(u64::try_from(outcome.renders).unwrap_or_default());
    let full_batch = |count: usize, limit: i64| i64::try_from(count).is_ok_and(|count| count >= limit);
    Ok(ended.more || full_batch(handled, BATCH) || full_batch(outcome.devices, DIRTY_BATCH))
}
