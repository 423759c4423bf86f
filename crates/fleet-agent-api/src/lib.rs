//! The agent interface: devices enrol, poll for what they should be, report what they are, and renew certificates.
//!
//! A request is what its connection's certificate says, never what its path or body says. An unchanged poll is
//! answered from an in-memory index, without the database; a status is answered when it is durable.
//!
//! - [`AgentApi::new`] gives the interface and its two background tasks; [`AgentApi::router`] is served with
//!   [`fleet_http::serve`] behind TLS that demands client certificates.
//! - [`IndexTask`] keeps the index at most [`AgentApiConfig::recheck`] behind the database; [`ReportTask`] writes
//!   statuses and heartbeats in batches.
//!
//! It decides nothing about devices: who is approved, who owns a device and what is rendered is the syncer's work.
#![forbid(unsafe_code)]

mod answer;
mod caller;
mod config;
mod derive;
mod enrollment;
mod failure;
mod follow;
mod index;
mod metrics;
mod poll;
mod renewal;
mod reports;
mod specs;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use fleet_http::{Conventions, with_api_conventions};
use fleet_pki::CertificateAuthority;
use fleet_runtime::Clock;
use fleet_store::Store;
use prometheus_client::registry::Registry;

pub use answer::device_deleted;
pub use config::AgentApiConfig;
pub use follow::IndexTask;
pub use metrics::AgentMetrics;
pub use reports::ReportTask;

use index::Index;
use reports::Reports;
use specs::SpecCache;

/// The agent interface. Cheap to clone.
#[derive(Clone)]
pub struct AgentApi(pub(crate) Arc<Shared>);

/// What handlers and tasks share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: AgentApiConfig,
    pub(crate) metrics: AgentMetrics,
    pub(crate) index: Index,
    pub(crate) specs: SpecCache,
    pub(crate) reports: Reports,
}

impl AgentApi {
    /// The interface and its background tasks, both of which must run for it to answer. Metrics are registered in
    /// `registry`.
    pub fn new(
        store: Store,
        authority: Arc<CertificateAuthority>,
        clock: Arc<dyn Clock>,
        config: AgentApiConfig,
        registry: &mut Registry,
    ) -> (Self, IndexTask, ReportTask) {
        let (reports, jobs) = Reports::new(config.status_queue);
        let shared = Arc::new(Shared {
            store,
            authority,
            clock,
            metrics: AgentMetrics::register(registry),
            index: Index::default(),
            specs: SpecCache::new(config.spec_cache_bytes),
            reports,
            config,
        });
        let index = IndexTask::new(Arc::clone(&shared));
        let reports = ReportTask::new(Arc::clone(&shared), jobs);
        (Self(shared), index, reports)
    }

    /// Whether the devices have been read once: until then, polls wait a moment and are then asked to come back.
    pub fn is_ready(&self) -> bool {
        self.0.index.is_loaded()
    }

    /// The counters, for tests and benches; they are in the registry too.
    pub fn metrics(&self) -> &AgentMetrics {
        &self.0.metrics
    }

    /// All paths of the agent interface.
    pub fn router(&self) -> Router {
        let routes = Router::new()
            .route("/api/v1/enrollmentrequests", post(enrollment::submit))
            .route("/api/v1/enrollmentrequests/{name}", get(enrollment::read))
            .route("/api/v1/devices/{name}/rendered", get(poll::rendered))
            .route("/api/v1/devices/{name}/status", put(status::replace).patch(status::patch))
            .route("/api/v1/certificatesigningrequests", post(renewal::submit))
            .route("/api/v1/certificatesigningrequests/{name}", get(renewal::read))
            .with_state(self.clone());
        with_api_conventions(routes, Conventions::default())
    }
}

impl std::fmt::Debug for AgentApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentApi").field("config", &self.0.config).finish_non_exhaustive()
    }
}
