//! What can be set.

use std::time::Duration;

use fleet_pki::Lifetime;

/// Settings of the agent interface.
#[derive(Debug, Clone)]
pub struct AgentApiConfig {
    /// How long a poll without news is held. Agents give up after 4 minutes.
    pub poll_hold: Duration,
    /// How long renewed management certificates live. Agents renew at three quarters of that.
    pub certificate_lifetime: Lifetime,
    /// How often the database is asked for changes when no notification comes.
    pub recheck: Duration,
    /// How long a status waits for others to be written with.
    pub status_window: Duration,
    /// The most statuses in one transaction.
    pub status_batch: usize,
    /// The most statuses that wait to be written; further ones are answered with 503.
    pub status_queue: usize,
    /// How often heartbeats are written.
    pub heartbeat_interval: Duration,
    /// Memory for rendered documents, in bytes.
    pub spec_cache_bytes: usize,
}

impl Default for AgentApiConfig {
    fn default() -> Self {
        Self {
            poll_hold: Duration::from_secs(120),
            certificate_lifetime: Lifetime::days(14),
            recheck: Duration::from_secs(4),
            status_window: Duration::from_millis(15),
            status_batch: 1000,
            status_queue: 20_000,
            heartbeat_interval: Duration::from_secs(3),
            spec_cache_bytes: 64 * 1024 * 1024,
        }
    }
}
