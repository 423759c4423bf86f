//! Counters. They are made here, handed to one registry, and never global.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counters of the agent interface.
#[derive(Debug, Clone)]
pub struct AgentMetrics {
    /// Polls that are held now.
    pub parked_polls: Gauge,
    /// Polls answered with a document.
    pub polls_answered: Counter,
    /// Polls that ended without news.
    pub polls_unchanged: Counter,
    /// Polls that were ended because the same device polled again.
    pub polls_replaced: Counter,
    /// SQL statements that ran because a document was not in memory or a device not in the index. An unchanged poll
    /// causes none.
    pub poll_sql_statements: Counter,
    /// Requests refused because of their certificate.
    pub refused: Counter,
    /// Statuses that are durable.
    pub statuses_written: Counter,
    /// Statuses that could not be written.
    pub statuses_failed: Counter,
    /// Transactions that wrote statuses.
    pub status_transactions: Counter,
    /// Statuses in one transaction.
    pub status_batch_sizes: Histogram,
    /// Heartbeats written.
    pub heartbeats_written: Counter,
    /// Enrolment requests that were new.
    pub enrollments_created: Counter,
    /// Enrolment requests of approved devices that get a new certificate.
    pub enrollments_recovered: Counter,
    /// Enrolment requests that were there already.
    pub enrollments_repeated: Counter,
    /// Certificates renewed.
    pub certificates_renewed: Counter,
    /// Devices in the index.
    pub indexed_devices: Gauge,
}

impl AgentMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let mut by_result = |name: &str, help: &str| {
            let family = Family::<ResultLabel, Counter>::default();
            registry.register(name, help, family.clone());
            move |result| family.get_or_create(&ResultLabel { result }).clone()
        };
        let polls = by_result("polls", "Polls by how they ended");
        let statuses = by_result("statuses", "Status reports by how they ended");
        let enrollments = by_result("enrollment_requests", "Enrolment requests by how they ended");
        let metrics = Self {
            parked_polls: Gauge::default(),
            polls_answered: polls("answered"),
            polls_unchanged: polls("unchanged"),
            polls_replaced: polls("replaced"),
            poll_sql_statements: Counter::default(),
            refused: Counter::default(),
            statuses_written: statuses("written"),
            statuses_failed: statuses("failed"),
            status_transactions: Counter::default(),
            status_batch_sizes: Histogram::new([1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]),
            heartbeats_written: Counter::default(),
            enrollments_created: enrollments("created"),
            enrollments_recovered: enrollments("recovered"),
            enrollments_repeated: enrollments("repeated"),
            certificates_renewed: Counter::default(),
            indexed_devices: Gauge::default(),
        };
        registry.register("parked_polls", "Polls held now", metrics.parked_polls.clone());
        registry.register(
            "poll_sql_statements",
            "SQL statements for documents and devices that were not in memory",
            metrics.poll_sql_statements.clone(),
        );
        registry.register("refused_requests", "Requests refused because of their certificate", metrics.refused.clone());
        registry.register(
            "status_transactions",
            "Transactions that wrote statuses",
            metrics.status_transactions.clone(),
        );
        registry.register("status_batch_size", "Statuses in one transaction", metrics.status_batch_sizes.clone());
        registry.register("heartbeats", "Heartbeats written", metrics.heartbeats_written.clone());
        registry.register("renewed_certificates", "Certificates renewed", metrics.certificates_renewed.clone());
        registry.register("indexed_devices", "Devices in the index", metrics.indexed_devices.clone());
        metrics
    }
}

/// Counts a parked poll for as long as it lives.
pub(crate) struct Parked<'a>(&'a Gauge);

impl<'a> Parked<'a> {
    pub(crate) fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
