//! Tells Git hosts what becomes of commits. What is to be told is written in the transaction of the decision
//! ([`messages`]); the holder of the lease tells it afterwards ([`send`]), at least once and in order, and follows rollouts
//! ([`rollout`]). What a host says decides nothing.

use std::collections::HashMap;
use std::sync::Arc;

use fleet_forge::Forge;
use fleet_runtime::CancellationToken;
use fleet_store::Lease;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::source::Shared;

mod messages;
mod metrics;
mod rollout;
mod send;
#[cfg(test)]
mod tests;

pub(crate) use messages::{LINT, PLAN, Topic, applied, held, linted, put, refused, sentence};
pub(crate) use metrics::OutboxMetrics;

/// A forge, and what it is told.
#[derive(Debug, Clone)]
pub struct ForgeConfig {
    /// Its API.
    pub forge: Arc<Forge>,
    /// Whether commits get statuses.
    pub commit_statuses: bool,
    /// Whether open pull requests are planned and get a comment.
    pub plan_comments: bool,
    /// Where people read more, with `{source}`, `{commit}` and `{context}`.
    pub target_url: Option<String>,
}

/// The forges, and who is to look when there is something to tell.
#[derive(Debug)]
pub(crate) struct Outbox {
    forges: Vec<ForgeConfig>,
    wake: watch::Sender<()>,
    /// How often something happened that may concern pull requests, by source.
    pulls: watch::Sender<HashMap<String, u64>>,
}

impl Outbox {
    pub(crate) fn new(forges: &[ForgeConfig]) -> Self {
        Self { forges: forges.to_vec(), wake: watch::Sender::new(()), pulls: watch::Sender::default() }
    }

    /// The forge of a repository: the longest prefix counts.
    pub(crate) fn nearest(&self, url: &str) -> Option<&ForgeConfig> {
        let found = self.forges.iter().filter(|config| url.starts_with(&config.forge.settings().url_prefix));
        found.max_by_key(|config| config.forge.settings().url_prefix.len())
    }

    /// The forge that hears of commits of a repository.
    fn forge(&self, url: &str) -> Option<&ForgeConfig> {
        self.nearest(url).filter(|config| config.commit_statuses)
    }

    /// Hears of sources whose pull requests are to be looked at.
    pub(crate) fn subscribe_pulls(&self) -> watch::Receiver<HashMap<String, u64>> {
        self.pulls.subscribe()
    }

    /// Something happened that may concern pull requests of a source.
    pub(crate) fn wake_pulls(&self, source: &str) {
        self.pulls.send_modify(|times| *times.entry(source.to_owned()).or_default() += 1);
    }

    /// There may be something to tell.
    pub(crate) fn wake(&self) {
        self.wake.send_replace(());
    }
}

/// Works until `term` ends.
pub(crate) async fn run(shared: Arc<Shared>, lease: Lease, term: CancellationToken) {
    let mut tasks = JoinSet::new();
    for config in shared.outbox.forges.iter().filter(|config| config.commit_statuses) {
        tasks.spawn(send::deliver(Arc::clone(&shared), lease.clone(), config.clone(), term.clone()));
    }
    let is_told = !tasks.is_empty();
    for config in shared.outbox.forges.iter().filter(|config| config.plan_comments) {
        tasks.spawn(crate::pulls::follow(Arc::clone(&shared), lease.clone(), config.clone(), term.clone()));
    }
    if is_told {
        tasks.spawn(rollout::follow(Arc::clone(&shared), lease.clone(), term.clone()));
    }
    tasks.spawn(send::tidy(shared, lease, term.clone()));
    tokio::select! {
        () = term.cancelled() => {}
        // None ends by itself: whoever waits for this one starts all again.
        _ = tasks.join_next() => {}
    }
    tasks.shutdown().await;
}
