//! The right to write: held as a lease, renewed while the work goes on, given back at the end.

use std::sync::Arc;
use std::time::Duration;

use fleet_git::WorkerPool;
use fleet_pki::CertificateAuthority;
use fleet_runtime::{CancellationToken, Clock};
use fleet_store::{Lease, LeaseName, Store, StoreError};
use tracing::{info, warn};

use crate::config::SyncerConfig;
use crate::dependencies::Dependencies;
use crate::metrics::SyncerMetrics;
use crate::revisions::RevisionCache;
use crate::source::Shared;
use crate::web::WebFiles;
use crate::work::work;

/// How long a lease holds without being renewed.
const TTL: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often somebody else's is tried.
const RENEW: Duration = Duration::from_secs(3);

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
        let dependencies = Dependencies::new(Arc::clone(&config), store.clone(), Arc::clone(&clock));
        let web = WebFiles::new(Arc::clone(&config), store.clone(), Arc::clone(&clock));
        let cache = RevisionCache::default();
        let turn = tokio::sync::Mutex::new(());
        let shared = Shared { config, store, git, clock, cache, dependencies, web, metrics, turn };
        Self { shared: Arc::new(shared), authority }
    }

    /// Works until `shutdown`. While another process holds the lease it waits; when the lease is lost it stops its work
    /// and waits again.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let lease = match self.acquire().await {
                Ok(Some(lease)) => lease,
                Ok(None) => {
                    pause(&shutdown, RENEW).await;
                    continue;
                }
                Err(error) => {
                    warn!(%error, "Cannot ask for the syncer's lease; trying again");
                    pause(&shutdown, RENEW).await;
                    continue;
                }
            };
            info!("Holding the syncer's lease");
            let term = shutdown.child_token();
            let work = work(Arc::clone(&self.shared), Arc::clone(&self.authority), lease.clone(), term.clone());
            tokio::pin!(work);
            tokio::select! {
                () = &mut work => {}
                () = self.keep(&lease) => {
                    warn!("Lost the syncer's lease; stopping its work");
                    term.cancel();
                    work.await;
                }
            }
            if let Err(error) = lease.release(self.shared.store.pool()).await {
                info!(%error, "Could not give the syncer's lease back; it runs out by itself");
            }
        }
    }

    async fn acquire(&self) -> Result<Option<Lease>, StoreError> {
        Lease::acquire(self.shared.store.pool(), LeaseName::Syncer, &self.shared.config.holder, TTL).await
    }

    /// Renews the lease; returns when it is lost, or may have been.
    async fn keep(&self, lease: &Lease) {
        let mut sure_until = tokio::time::Instant::now() + TTL;
        loop {
            tokio::time::sleep(RENEW).await;
            let asked = tokio::time::Instant::now();
            match tokio::time::timeout(RENEW, lease.renew(self.shared.store.pool(), TTL)).await {
                Ok(Ok(true)) => sure_until = asked + TTL,
                Ok(Ok(false)) => return,
                Ok(Err(_)) | Err(_) if tokio::time::Instant::now() + RENEW > sure_until => return,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

async fn pause(shutdown: &CancellationToken, how_long: Duration) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(how_long) => {}
    }
}
