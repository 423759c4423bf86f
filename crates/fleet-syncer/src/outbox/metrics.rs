//! Counters of the outbox.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the outbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutboxMetrics {
    pub(super) sent: Family<[(&'static str, String); 1], Counter>,
    pub(super) failures: Family<[(&'static str, String); 2], Counter>,
    pub(super) given_up: Counter,
    pub(super) waiting: Gauge,
    pub(super) oldest: Gauge,
}

impl OutboxMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("outbox_sent", "Commit statuses that a forge took", self.sent.clone());
        registry.register("outbox_failures", "Attempts to tell a forge something that failed", self.failures.clone());
        registry.register("outbox_given_up", "Commit statuses that a forge refused for good", self.given_up.clone());
        registry.register("outbox_waiting", "Commit statuses that wait to be told", self.waiting.clone());
        registry.register("outbox_oldest_seconds", "How long the oldest of them has waited", self.oldest.clone());
    }
}
