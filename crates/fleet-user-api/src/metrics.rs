//! Counters of the users' interface.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A counter by one label.
type ByLabel = Family<[(&'static str, String); 1], Counter>;

/// Counters of the users' interface. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct UserApiMetrics {
    requests: ByLabel,
    refused_tokens: Counter,
    writes: ByLabel,
    webhook_requests: Family<[(&'static str, String); 2], Counter>,
}

impl UserApiMetrics {
    /// Counters that are shown in `registry`, under its prefix.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("requests", "Answers of the users' interface by status code", metrics.requests.clone());
        registry.register(
            "refused_tokens",
            "Requests without a token that is accepted",
            metrics.refused_tokens.clone(),
        );
        registry.register("writes", "Things that users wrote, by event reason", metrics.writes.clone());
        registry.register(
            "webhook_requests",
            "Requests to webhooks by hook and result: accepted, unmatched, ping, ignored, refused, unread, limited, failed",
            metrics.webhook_requests.clone(),
        );
        metrics
    }

    pub(crate) fn answered(&self, code: u16) {
        self.requests.get_or_create(&[("code", code.to_string())]).inc();
    }

    pub(crate) fn refused_token(&self) {
        self.refused_tokens.inc();
    }

    pub(crate) fn webhook(&self, hook: &str, result: &'static str) {
        self.webhook_requests.get_or_create(&[("hook", hook.to_owned()), ("result", result.to_owned())]).inc();
    }

    pub(crate) fn wrote(&self, reason: &str) {
        self.writes.get_or_create(&[("reason", reason.to_owned())]).inc();
    }
}
