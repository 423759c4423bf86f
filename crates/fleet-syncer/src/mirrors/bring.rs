//! One commit by its id: it was in force, and no revision may lead to it any more.

use std::time::Instant;

use fleet_git::{GitError, GitErrorKind, WorkerPool};
use fleet_model::CommitId;

use super::{SharedMirror, lock, now};

impl SharedMirror {
    /// Brings a commit with its history into the mirror, where it stays. A commit that the mirror holds costs its host nothing.
    ///
    /// # Errors
    /// Those of [`WorkerPool::fetch`], also while nobody asks the host because it failed; `RefMissing` when the host does
    /// not hand the commit out.
    pub(crate) async fn bring(&self, git: &WorkerPool, commit: &CommitId) -> Result<(), GitError> {
        let _turn = self.fetching.lock().await;
        let began = Instant::now();
        let closed = lock(&self.fetching_gate).closed(None, began);
        if let Some(error) = closed {
            return Err(error);
        }
        let result = git.fetch(&self.path, &self.remote()?, commit.as_str(), None).await;
        // That the host does not have it says nothing about what it answers others; nor does one that the mirror held.
        if let Err(error) = &result
            && error.kind != GitErrorKind::RefMissing
        {
            lock(&self.fetching_gate).note(began, Instant::now(), Some(error));
        }
        lock(&self.usage).used = now();
        self.chores.notify_one();
        result.map(|_| ())
    }
}
