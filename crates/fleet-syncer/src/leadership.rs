//! The right to write: held as a lease, renewed while the work goes on, given back at the end.

use std::sync::Arc;
use std::time::Duration;

use fleet_git::WorkerPool;
use fleet_pki::CertificateAuthority;
use fleet_runtime::{CancellationToken, Clock};
use fleet_store::{Lease, LeaseName, LeaseSession, Store, StoreError};
use tracing::{info, warn};

use crate::config::SyncerConfig;
use crate::dependencies::Dependencies;
use crate::metrics::SyncerMetrics;
use crate::mirrors::Mirrors;
use crate::outbox::Outbox;
use crate::revisions::RevisionCache;
use crate::secrets::Secrets;
use crate::source::Shared;
use crate::web::WebFiles;
use crate::work::work;

/// How long a lease holds without being renewed. It is about the longest that nobody applies commits after a holder fell
/// silent; one whose process ended is replaced at once.
const TTL: Duration = Duration::from_secs(5);
// A forge that answers late must not hear of an old state after the next holder told it a newer one.
const _: () = assert!(fleet_forge::DEADLINE.as_millis() < TTL.as_millis());
/// How often it is renewed.
const RENEW: Duration = Duration::from_millis(1_250);
/// How often somebody else's is asked for at most. The database makes one who asks wait until it is free.
const TRY: Duration = Duration::from_millis(500);
/// How long the database may take to say who gets the lease: waiting for it and its end are part of that.
const ASK: Duration = Duration::from_secs(15);
/// How long work may take to end, and the lease to be given back. What is cut off is rolled back.
const END: Duration = Duration::from_secs(5);

/// The syncer.
#[derive(Debug)]
pub struct Syncer {
    shared: Arc<Shared>,
    authority: Arc<CertificateAuthority>,
}

impl Syncer {
    /// A syncer at rest.
    pub fn new(
        config: SyncerConfig,
        store: Store,
        git: WorkerPool,
        authority: Arc<CertificateAuthority>,
        clock: Arc<dyn Clock>,
        metrics: SyncerMetrics,
    ) -> Self {
        let config = Arc::new(config);
        let mirrors = Arc::new(Mirrors::new(Arc::clone(&config), metrics.clone()));
        let dependencies =
            Dependencies::new(Arc::clone(&config), store.clone(), Arc::clone(&clock), Arc::clone(&mirrors));
        let web = WebFiles::new(Arc::clone(&config), store.clone(), Arc::clone(&clock));
        let secrets = Secrets::new(config.secrets.clone(), store.clone());
        let cache = RevisionCache::default();
        let turn = tokio::sync::Mutex::new(());
        let outbox = Outbox::new(&config.forges);
        let shared = Shared {
            config,
            store,
            git,
            clock,
            cache,
            mirrors,
            dependencies,
            web,
            secrets,
            metrics,
            polls: crate::poll_notes::PollNotes::default(),
            turn,
            outbox,
        };
        Self { shared: Arc::new(shared), authority }
    }

    /// Works until `shutdown`. While another process holds the lease it waits; when the lease is lost it stops its work
    /// and waits again.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut waiting = None;
        while !shutdown.is_cancelled() {
            let asked = tokio::time::Instant::now();
            let answer = tokio::select! {
                () = shutdown.cancelled() => return,
                answer = self.acquire(waiting.take()) => answer,
            };
            match answer {
                Ok((session, Some(lease))) => self.hold(session, lease, &shutdown).await,
                Ok((session, None)) => {
                    waiting = Some(session);
                    pause(&shutdown, TRY.saturating_sub(asked.elapsed())).await;
                }
                Err(error) => {
                    warn!(%error, "Cannot ask for the syncer's lease; trying again");
                    pause(&shutdown, RENEW).await;
                }
            }
        }
    }

    /// Waits for the lease, for a time. A session whose answer does not come is given up, and its place in the queue with it.
    async fn acquire(&self, waiting: Option<LeaseSession>) -> Result<(LeaseSession, Option<Lease>), StoreError> {
        let (store, holder) = (&self.shared.store, &self.shared.config.holder);
        let ask = async {
            let mut session = match waiting {
                Some(session) => session,
                None => LeaseSession::connect(store, LeaseName::Syncer, holder).await?,
            };
            let lease = session.acquire(TTL).await?;
            Ok((session, lease))
        };
        match tokio::time::timeout(ASK, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::TooSlow { seconds: ASK.as_secs() }),
        }
    }

    /// Works until the lease is lost or `shutdown`, and gives it back.
    async fn hold(&self, mut session: LeaseSession, lease: Lease, shutdown: &CancellationToken) {
        info!("Holding the syncer's lease");
        match lease.end_predecessors(self.shared.store.pool()).await {
            Ok(0) => {}
            Ok(transactions) => warn!(transactions, "Ended what an earlier holder of the syncer's lease left open"),
            Err(error) => warn!(%error, "Cannot end what an earlier holder of the syncer's lease left open"),
        }
        let term = shutdown.child_token();
        let work = work(Arc::clone(&self.shared), Arc::clone(&self.authority), lease.clone(), term.clone());
        // Boxed, so that it can be dropped: a database that went away without a word would keep it for ever.
        let mut work = Box::pin(work);
        tokio::select! {
            () = &mut work => {}
            reason = keep(&mut session, &lease) => {
                warn!(reason, "Lost the syncer's lease; stopping its work");
                term.cancel();
                if tokio::time::timeout(END, &mut work).await.is_err() {
                    warn!("The syncer's work did not end by itself; cut off");
                }
            }
        }
        drop(work);
        match tokio::time::timeout(END, session.release(&lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => info!(%error, "Could not give the syncer's lease back; it ends with its session"),
            Err(_) => info!("Could not give the syncer's lease back in time; it ends with its session"),
        }
    }
}

/// Renews the lease; returns why it is lost, or may be. Once the session is broken anybody may take it.
async fn keep(session: &mut LeaseSession, lease: &Lease) -> String {
    let mut sure_until = tokio::time::Instant::now() + TTL;
    loop {
        tokio::time::sleep(RENEW).await;
        let asked = tokio::time::Instant::now();
        match tokio::time::timeout_at(sure_until - RENEW, session.renew(lease, TTL)).await {
            Ok(Ok(true)) => sure_until = asked + TTL,
            Ok(Ok(false)) => return "somebody else took it over".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the database does not answer".to_owned(),
        }
    }
}

async fn pause(shutdown: &CancellationToken, how_long: Duration) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(how_long) => {}
    }
}
