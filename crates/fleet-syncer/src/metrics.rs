//! Counters of the syncer.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use fleet_store::SourceProgress;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::outbox::OutboxMetrics;
use crate::progress::SourceGauges;
use crate::source::Step;

/// A source and what is told of it.
type SourceLabels = [(&'static str, String); 2];

/// Gauges that are all replaced at a time. Whoever reads meanwhile finds those that stay.
#[derive(Debug, Clone, Default)]
struct Shown {
    family: Family<SourceLabels, Gauge>,
    present: Arc<Mutex<BTreeSet<SourceLabels>>>,
}

impl Shown {
    fn show(&self, values: Vec<(SourceLabels, i64)>) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<SourceLabels> = values.iter().map(|(labels, _)| labels.clone()).collect();
        for (labels, value) in values {
            self.family.get_or_create(&labels).set(value);
        }
        for gone in present.difference(&now) {
            self.family.remove(gone);
        }
        *present = now;
    }
}

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
    source_state: Shown,
    source_devices: Shown,
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
        registry.register("source_state", help, metrics.source_state.family.clone());
        let help = "Devices that a source decides about: total, updated to the commit in force and healthy, failed";
        registry.register("source_devices", help, metrics.source_devices.family.clone());
        let help = "Objects that left Git and stay in force until their grace is over";
        registry.register("tombstones", help, metrics.leaving.clone());
        let help = "Time spent on plans of applied commits";
        registry.register_with_unit("planning", help, Unit::Seconds, metrics.planning_seconds.clone());
        metrics.outbox.register(registry);
        metrics
    }

    /// Shows these sources and no others.
    pub(crate) fn show_sources(&self, sources: &[SourceGauges], progress: &[SourceProgress]) {
        let labels = |source: &str, state: &str| [("source", source.to_owned()), ("state", state.to_owned())];
        let (mut states, mut devices) = (Vec::new(), Vec::new());
        for one in sources {
            for (state, is) in [("ready", one.ready), ("reachable", one.reachable), ("current", one.current)] {
                states.push((labels(&one.name, state), i64::from(is)));
            }
        }
        for one in progress {
            let settled = one.settled && one.now.updated == one.now.devices;
            states.push((labels(&one.source, "settled"), i64::from(settled)));
            let counts = [("total", one.now.devices), ("updated", one.now.updated), ("failed", one.now.failed)];
            devices.extend(counts.map(|(state, count)| (labels(&one.source, state), count)));
        }
        self.source_devices.show(devices);
        self.source_state.show(states);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_goes_is_shown_no_more_and_the_others_are_never_away() {
        let shown = Shown::default();
        let labels = |source: &str| [("source", source.to_owned()), ("state", "ready".to_owned())];
        shown.show(vec![(labels("one"), 1), (labels("two"), 1)]);
        let one = shown.family.get_or_create_owned(&labels("one"));
        shown.show(vec![(labels("one"), 0)]);
        assert_eq!(one.get(), 0, "it is the same gauge");
        assert!(shown.family.get(&labels("two")).is_none());
    }
}
