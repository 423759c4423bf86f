//! The mirrors of pull requests: one for all those of a source, as long as some are open. What they bring may be a stranger's
//! and has no end, so they are the first to go when mirrors take too much of the disk.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_git::{FetchOutcome, GitError, WorkerPool};
use fleet_model::Digest;
use fleet_store::SourceDefinition;

use super::{Key, Mirrors, SharedMirror, lock, normal, now};

/// Begins the names of these mirrors.
pub(super) const PREFIX: &str = "pulls-";

/// Which of them are wanted, by the forge that the pull requests are of.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    paths: HashMap<String, HashSet<PathBuf>>,
    /// Forges all of whose sources were looked at since the service started.
    heard: HashSet<String>,
}

/// Whether a mirror is one of these.
pub(super) fn is_of_pulls(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
}

impl Mirrors {
    /// The mirror that the pull requests of a source share. `forge` names the forge that they are of.
    pub(crate) fn of_pulls(&self, source: &SourceDefinition, forge: &str) -> Arc<SharedMirror> {
        let SourceDefinition { name, url, credential, .. } = source;
        let path = self.path_of_pulls(source);
        lock(&self.pulls).paths.entry(forge.to_owned()).or_default().insert(path.clone());
        // No revision has a line break.
        let key = Key { url: normal(url), revision: format!("pulls\n{name}"), credential: String::new() };
        self.at(key, path, (url, "HEAD", credential.as_deref()))
    }

    /// All of a forge were looked at: these have open pull requests. The others go.
    pub(crate) fn keep_pulls(&self, forge: &str, sources: &[&SourceDefinition]) {
        let paths: HashSet<PathBuf> = sources.iter().map(|source| self.path_of_pulls(source)).collect();
        let mut wanted = lock(&self.pulls);
        let is_news = wanted.heard.insert(forge.to_owned());
        let before = wanted.paths.insert(forge.to_owned(), paths.clone());
        if is_news || before != Some(paths) {
            self.chores.notify_one();
        }
    }

    /// Some of a forge were looked at, and these of them have open pull requests. The others of them go.
    pub(crate) fn keep_some_pulls(&self, forge: &str, asked: &[&SourceDefinition], sources: &[&SourceDefinition]) {
        let mut wanted = lock(&self.pulls);
        // Until all were looked at once, none goes.
        let Some(paths) = wanted.paths.get_mut(forge) else { return };
        let before = paths.clone();
        for source in asked {
            paths.remove(&self.path_of_pulls(source));
        }
        paths.extend(sources.iter().map(|source| self.path_of_pulls(source)));
        if before != *paths {
            self.chores.notify_one();
        }
    }

    /// Those that are wanted; `None` while that is not known of some forge.
    pub(super) fn wanted_pulls(&self) -> Option<HashSet<PathBuf>> {
        let wanted = lock(&self.pulls);
        let followed = self.config.forges.iter().filter(|config| config.plan_comments);
        let mut followed = followed.map(|config| &config.forge.settings().url_prefix);
        let is_complete = followed.all(|forge| wanted.heard.contains(forge));
        is_complete.then(|| wanted.paths.values().flatten().cloned().collect())
    }

    fn path_of_pulls(&self, source: &SourceDefinition) -> PathBuf {
        let id = Digest::of(format!("{}\n{}", source.name, source.url).as_bytes()).hex();
        self.config.mirrors.join(format!("{PREFIX}{}", &id[..24]))
    }
}

impl SharedMirror {
    /// Brings a pull request into its mirror.
    ///
    /// # Errors
    /// Those of [`WorkerPool::fetch`].
    pub(crate) async fn fetch_pull(&self, git: &WorkerPool, reference: &str) -> Result<FetchOutcome, GitError> {
        let _turn = self.fetching.lock().await;
        let result = git.fetch(&self.path, &self.remote()?, reference, None).await;
        lock(&self.usage).used = now();
        self.chores.notify_one();
        result
    }
}
