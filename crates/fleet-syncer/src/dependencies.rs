//! Repositories that manifests name for their content. Each has a mirror, shared with sources of it; when its host is away, the commit
//! that was pinned last stays in use.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fleet_git::{GitError, GitErrorKind, WorkerPool};
use fleet_model::CommitId;
use fleet_store::{DependencySeen, Store, Ts, record_dependency};
use tracing::{info, warn};

use crate::config::SyncerConfig;
use crate::errand::{Errand, origin};
use crate::mirrors::Mirrors;
use crate::term::Term;

/// How old what is pinned may be: sources that change together ask once.
const FRESH: Duration = Duration::from_secs(2);

/// A repository at a commit, in a mirror that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    /// The mirror.
    pub(crate) mirror: PathBuf,
    /// The commit.
    pub(crate) commit: CommitId,
}

/// All repositories that manifests name.
#[derive(Debug)]
pub(crate) struct Dependencies {
    config: Arc<SyncerConfig>,
    store: Store,
    clock: Arc<dyn fleet_runtime::Clock>,
    mirrors: Arc<Mirrors>,
    /// When something woke one of the sources last.
    woken: std::sync::Mutex<Option<Instant>>,
    /// Notes are written under it.
    pub(crate) term: Term,
}

impl Dependencies {
    pub(crate) fn new(
        config: Arc<SyncerConfig>,
        store: Store,
        clock: Arc<dyn fleet_runtime::Clock>,
        mirrors: Arc<Mirrors>,
    ) -> Self {
        Self { config, store, clock, mirrors, woken: std::sync::Mutex::default(), term: Term::default() }
    }

    /// Something woke a source then: what was seen of other repositories before does not count.
    pub(crate) fn woken(&self, at: Instant) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn woken_at(&self) -> Option<Instant> {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The commit that a revision stands for now, fetched. When the host is away, or was silent in this look, the one
    /// pinned last.
    ///
    /// # Errors
    /// When the host is away and nothing was pinned before.
    pub(crate) async fn pin(
        &self,
        git: &WorkerPool,
        repository: &str,
        (url, credential): (&str, Option<&str>),
        revision: &str,
        errand: &Errand,
    ) -> Result<Pinned, GitError> {
        let mirror = self.mirrors.of(url, revision, credential);
        mirror.in_use_for(self.config.look_deadline());
        let wanted = mirror.no_older_than(FRESH, self.woken_at());
        let (host, began) = (origin(url, credential), Instant::now());
        let fetched = match errand.silent(&host) {
            Some(error) => Err(GitError::new(GitErrorKind::HostUnreachable, error)),
            None => match mirror.observe(git, wanted).await {
                Ok(_) => mirror.fetch(git, None, wanted).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = &fetched {
            errand.note(&host, began, &error.message);
        }
        let result = match fetched {
            Ok(outcome) => Ok(outcome.commit),
            Err(error) => {
                warn!(repository, url = fleet_git::redact_url(url), %error, "Cannot fetch a repository that manifests refer to");
                mirror.fetched().ok_or(error)
            }
        };
        let outcome = match &result {
            Ok(commit) => Ok(commit.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.note(repository, revision, &fleet_git::redact_url(url), outcome).await;
        mirror.in_use_for(self.config.look_deadline());
        result.map(|commit| Pinned { mirror: mirror.path().to_owned(), commit })
    }

    /// The mirror of a repository, with a commit in it that `revision` stood for once.
    ///
    /// # Errors
    /// When the mirror does not hold it, and the host is away or does not hand it out.
    pub(crate) async fn pin_at(
        &self,
        git: &WorkerPool,
        url: &str,
        credential: Option<&str>,
        revision: &str,
        commit: &CommitId,
    ) -> Result<Pinned, GitError> {
        let mirror = self.mirrors.of(url, revision, credential);
        mirror.in_use_for(self.config.look_deadline());
        mirror.bring(git, commit).await?;
        mirror.in_use_for(self.config.look_deadline());
        Ok(Pinned { mirror: mirror.path().to_owned(), commit: commit.clone() })
    }

    /// Whether a revision stands for another commit than `commit` by now. A host that is away changed nothing.
    pub(crate) async fn moved(
        &self,
        git: &WorkerPool,
        repository: &str,
        (url, credential): (&str, Option<&str>),
        (revision, commit): (&str, &str),
        errand: &Errand,
    ) -> bool {
        if revision == commit {
            return false;
        }
        match self.observe(git, (url, credential), revision, errand).await {
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

    /// What a revision stands for now: a commit, or nothing. `None` when the host is away.
    pub(crate) async fn stands_for(
        &self,
        git: &WorkerPool,
        place: (&str, Option<&str>),
        revision: &str,
        errand: &Errand,
    ) -> Option<Option<String>> {
        match self.observe(git, place, revision, errand).await {
            Ok(commit) => Some(Some(commit.to_string())),
            Err(error) if error.kind == GitErrorKind::RefMissing => Some(None),
            Err(_) => None,
        }
    }

    async fn observe(
        &self,
        git: &WorkerPool,
        (url, credential): (&str, Option<&str>),
        revision: &str,
        errand: &Errand,
    ) -> Result<CommitId, GitError> {
        let host = origin(url, credential);
        if let Some(error) = errand.silent(&host) {
            return Err(GitError::new(GitErrorKind::HostUnreachable, error));
        }
        let (mirror, began) = (self.mirrors.of(url, revision, credential), Instant::now());
        let result = mirror.observe(git, mirror.poll(self.woken_at())).await;
        if let Err(error) = &result {
            errand.note(&host, began, &error.message);
        }
        result
    }

    async fn note(&self, repository: &str, revision: &str, url: &str, outcome: Result<String, String>) {
        let outcome = outcome.as_deref().map_err(String::as_str);
        let seen = DependencySeen { repository, revision, url, outcome };
        let at = Ts::from(self.clock.now());
        let written = async {
            let mut transaction = self.term.begin(&self.store).await?;
            record_dependency(&mut transaction, self.config.org, &seen, at).await?;
            transaction.commit().await.map_err(fleet_store::StoreError::from)
        };
        if let Err(error) = written.await {
            warn!(repository, %error, "Cannot note the state of a repository");
        }
    }
}
