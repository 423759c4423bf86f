//! Counters of the syncer.

use std::sync::atomic::AtomicU64;

use fleet_store::SourceProgress;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::outbox::OutboxMetrics;
use crate::progress::SourceGauges;
use crate::source::Step;

/// Counters of the syncer.
#[derive(Debug, Clone, Default)]
pub struct SyncerMetrics {
    pub(crate) unchanged: Counter,
    pub(crate) applied: Counter,
    pub(crate) refused: Counter,
    pub(crate) held: Counter,
    pub(crate) distrusted: Counter,
    pub(crate) failures: Counter,
    pub(crate) new_versions: Counter,
    pub(crate) renders: Counter,
    pub(crate) enrollments: Counter,
    pub(crate) planned: Counter,
    pub(crate) host_looks: Counter,
    pub(crate) shared_looks: Counter,
    pub(crate) mirror_evictions: Counter,
    pub(crate) mirror_bytes: Gauge,
    pub(crate) webhook_missed: Family<[(&'static str, String); 1], Counter>,
    pub(crate) leaving: Gauge,
    pub(crate) planning_seconds: Counter<f64, AtomicU64>,
    source_state: Family<[(&'static str, String); 2], Gauge>,
    source_devices: Family<[(&'static str, String); 2], Gauge>,
    pub(crate) outbox: OutboxMetrics,
}

impl SyncerMetrics {
    /// Counters that show up in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("sync_polls_unchanged", "Looks at a source that found nothing new", &metrics.unchanged);
        counter("sync_commits_applied", "Commits applied", &metrics.applied);
        counter("sync_commits_refused", "Looks at a source whose newest commit is refused", &metrics.refused);
        let help = "Looks at a source whose newest commit waits for a person";
        counter("sync_commits_held", help, &metrics.held);
        counter("host_looks", "Times that a Git host was asked where a revision points", &metrics.host_looks);
        let help = "Times that an answer of a Git host served somebody else too";
        counter("host_looks_shared", help, &metrics.shared_looks);
        counter("mirror_evictions", "Mirrors removed because all together were too large", &metrics.mirror_evictions);
        let help = "Looks at a source that found a commit without a signature that a rule asks for";
        counter("sync_commits_distrusted", help, &metrics.distrusted);
        counter("sync_failures", "Looks at a source that failed", &metrics.failures);
        counter("device_versions", "New rendered versions of devices", &metrics.new_versions);
        counter("renders", "Documents rendered; devices with the same inputs share one", &metrics.renders);
        counter("enrollment_requests", "Enrolment requests looked at", &metrics.enrollments);
        counter(
            "planned_device_changes",
            "Devices that plans of applied commits gave another document",
            &metrics.planned,
        );
        let help = "What mirrors take of the disk";
        registry.register_with_unit("mirrors", help, Unit::Bytes, metrics.mirror_bytes.clone());
        registry.register(
            "webhook_missed",
            "News that a poll found and no webhook announced, at sources that webhooks announced news of before",
            metrics.webhook_missed.clone(),
        );
        let help =
            "Whether a source is ready, reachable, current (the newest commit is in force), settled (on its devices)";
        registry.register("source_state", help, metrics.source_state.clone());
        let help = "Devices that a source decides about: total, updated to the commit in force and healthy, failed";
        registry.register("source_devices", help, metrics.source_devices.clone());
        let help = "Objects that left Git and stay in force until their grace is over";
        registry.register("tombstones", help, metrics.leaving.clone());
        let help = "Time spent on plans of applied commits";
        registry.register_with_unit("planning", help, Unit::Seconds, metrics.planning_seconds.clone());
        metrics.outbox.register(registry);
        metrics
    }

    /// Shows these sources and no others.
    pub(crate) fn show_sources(&self, sources: &[SourceGauges], progress: &[SourceProgress]) {
        self.source_state.clear();
        self.source_devices.clear();
        let labels = |source: &str, state: &str| [("source", source.to_owned()), ("state", state.to_owned())];
        for one in sources {
            for (state, is) in [("ready", one.ready), ("reachable", one.reachable), ("current", one.current)] {
                self.source_state.get_or_create(&labels(&one.name, state)).set(i64::from(is));
            }
        }
        for one in progress {
            let settled = one.settled && one.now.updated == one.now.devices;
            self.source_state.get_or_create(&labels(&one.source, "settled")).set(i64::from(settled));
            let counts = [("total", one.now.devices), ("updated", one.now.updated), ("failed", one.now.failed)];
            for (state, count) in counts {
                self.source_devices.get_or_create(&labels(&one.source, state)).set(count);
            }
        }
    }

    pub(crate) fn missed_by_webhooks(&self, source: &str) {
        self.webhook_missed.get_or_create(&[("source", source.to_owned())]).inc();
    }

    pub(crate) fn observe_step(&self, step: &Step) {
        match step {
            Step::Unchanged | Step::Suspended => self.unchanged.inc(),
            Step::Refused => self.refused.inc(),
            Step::Held => self.held.inc(),
            Step::Applied(applied) => {
                self.renders.inc_by(u64::try_from(applied.devices.renders).unwrap_or_default());
                self.new_versions.inc_by(u64::try_from(applied.devices.new_versions).unwrap_or_default());
                self.planned.inc_by(u64::try_from(applied.planned).unwrap_or_default());
                self.planning_seconds.inc_by(applied.planning.as_secs_f64());
                self.applied.inc()
            }
        };
    }
}
