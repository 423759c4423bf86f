//! Repositories that manifests name for their content. Each has a mirror of its own; when its host is away, the commit
//! that was pinned last stays in use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use fleet_git::{GitError, WorkerPool};
use fleet_model::{CommitId, Digest};
use fleet_store::{DependencySeen, Store, Ts, record_dependency};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::config::SyncerConfig;

/// A repository at a commit, in a mirror that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    /// The mirror.
    pub(crate) mirror: PathBuf,
    /// The commit.
    pub(crate) commit: CommitId,
}

/// What is known of a repository at a revision.
#[derive(Debug, Default)]
struct Known {
    /// The commit pinned last.
    commit: Option<CommitId>,
    /// The last failure: the host is not asked again right away.
    failed: Option<(Instant, GitError)>,
}

type Slot = Arc<Mutex<Known>>;

/// All repositories that manifests name.
#[derive(Debug)]
pub(crate) struct Dependencies {
    config: Arc<SyncerConfig>,
    store: Store,
    clock: Arc<dyn fleet_runtime::Clock>,
    /// By URL and revision: the commit pinned last. The lock is held while its mirror changes.
    known: Mutex<HashMap<(String, String), Slot>>,
}

impl Dependencies {
    pub(crate) fn new(config: Arc<SyncerConfig>, store: Store, clock: Arc<dyn fleet_runtime::Clock>) -> Self {
        Self { config, store, clock, known: Mutex::default() }
    }

    async fn slot(&self, url: &str, revision: &str) -> Slot {
        let mut known = self.known.lock().await;
        Arc::clone(known.entry((url.to_owned(), revision.to_owned())).or_default())
    }

    /// One mirror for each URL and revision: no two fetches ever meet in one.
    fn mirror(&self, url: &str, revision: &str) -> PathBuf {
        let id = Digest::of(format!("{url}\n{revision}").as_bytes()).hex();
        self.config.mirrors.join(format!("dependency-{}", &id[..24]))
    }

    /// The commit that a revision stands for now, fetched. When the host is away the one pinned last.
    ///
    /// # Errors
    /// When the host is away and nothing was pinned before.
    pub(crate) async fn pin(
        &self,
        git: &WorkerPool,
        repository: &str,
        url: &str,
        revision: &str,
    ) -> Result<Pinned, GitError> {
        let slot = self.slot(url, revision).await;
        let mut known = slot.lock().await;
        let mirror = self.mirror(url, revision);
        let failed = known.failed.take().filter(|(at, _)| at.elapsed() < self.config.poll_interval);
        let fetched = match &failed {
            Some((_, error)) => Err(error.clone()),
            None => git.fetch(&mirror, &self.config.remote(url), revision, None).await,
        };
        let shown = fleet_git::redact_url(url);
        let result = match fetched {
            Ok(outcome) => {
                known.commit = Some(outcome.commit.clone());
                Ok(Pinned { mirror, commit: outcome.commit })
            }
            Err(error) => {
                if failed.is_none() {
                    warn!(repository, url = shown, %error, "Cannot fetch a repository that manifests refer to");
                }
                known.failed = failed.or_else(|| Some((Instant::now(), error.clone())));
                match known.commit.clone() {
                    Some(commit) => Ok(Pinned { mirror, commit }),
                    None => Err(error),
                }
            }
        };
        let outcome = match &result {
            Ok(pinned) => Ok(pinned.commit.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.note(repository, revision, &shown, outcome).await;
        result
    }

    /// Whether a revision stands for another commit than `commit` by now. A host that is away changed nothing.
    pub(crate) async fn moved(
        &self,
        git: &WorkerPool,
        repository: &str,
        url: &str,
        revision: &str,
        commit: &str,
    ) -> bool {
        if revision == commit {
            return false;
        }
        match git.observe(&self.config.remote(url), revision).await {
            Ok(now) if now.as_str() == commit => false,
            Ok(now) => {
                info!(repository, revision, commit = %now, "A repository that manifests refer to has moved");
                true
            }
            Err(error) => {
                self.note(repository, revision, &fleet_git::redact_url(url), Err(error.to_string())).await;
                false
            }
        }
    }

    async fn note(&self, repository: &str, revision: &str, url: &str, outcome: Result<String, String>) {
        let outcome = outcome.as_deref().map_err(String::as_str);
        let seen = DependencySeen { repository, revision, url, outcome };
        let at = Ts::from(self.clock.now());
        let written = async {
            let mut transaction = self.store.begin().await?;
            record_dependency(&mut transaction, self.config.org, &seen, at).await?;
            transaction.commit().await.map_err(fleet_store::StoreError::from)
        };
        if let Err(error) = written.await {
            warn!(repository, %error, "Cannot note the state of a repository");
        }
    }
}
