//! Pins what a specification takes from Git: the files of every `gitRef`, at one commit, with their contents.

use std::collections::HashMap;
use std::sync::Arc;

use fleet_git::{ObjectId, WorkerPool};
use fleet_model::{CommitId, ConfigProvider, ConfigSource, DeviceSpec, Digest, GitRef, SELF_REPOSITORY};
use fleet_render::{PinnedFile, PinnedTree, literal_prefix, tree_digest};
use fleet_store::PinnedInput;

use crate::dependencies::{Dependencies, Pinned};
use crate::snapshot::{Entry, Mirror, Snapshot, is_at_or_below, is_regular};

/// The largest file in a config directory.
const MAX_BLOB_BYTES: u64 = 8 << 20;
/// The most bytes one `gitRef` may bring.
const MAX_TREE_BYTES: u64 = 64 << 20;
/// How a file looks whose contents are kept elsewhere by Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Contents that were read before, by object id.
pub(crate) type ContentCache = HashMap<ObjectId, Arc<[u8]>>;

/// A pinned `gitRef`.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedInput {
    /// What is kept about it.
    pub(crate) record: PinnedInput,
    /// Its files.
    pub(crate) tree: PinnedTree,
}

/// Why a `gitRef` cannot be pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputProblem {
    /// The commit itself is wrong: it is refused.
    Commit(String),
    /// Another repository is wrong or away: the fleet stays at its last revision.
    Elsewhere(String),
    /// Our own worker failed: try again later.
    Retry(fleet_git::GitError),
}

/// Where inputs come from.
#[derive(Debug)]
pub(crate) struct InputReader<'a> {
    /// The worker processes.
    pub(crate) git: &'a WorkerPool,
    /// The source's own mirror.
    pub(crate) mirror: Mirror<'a>,
    /// The source's files at the commit.
    pub(crate) snapshot: &'a Snapshot,
    /// Repositories named by manifests.
    pub(crate) dependencies: &'a Dependencies,
    /// URLs of those, by name; the error says why one cannot be used.
    pub(crate) repositories: &'a HashMap<String, Result<String, String>>,
    /// Contents that were read before; grows.
    pub(crate) contents: &'a mut ContentCache,
    /// Repositories that were looked at for this commit, by name and revision: one look serves all fleets.
    pub(crate) pinned: HashMap<(String, String), Result<Pinned, String>>,
}

impl InputReader<'_> {
    /// Pins all `gitRef`s of a specification, in order.
    pub(crate) async fn resolve(&mut self, spec: &DeviceSpec) -> Result<Vec<ResolvedInput>, (usize, InputProblem)> {
        let mut resolved = Vec::new();
        for (index, provider) in spec.config.iter().flatten().enumerate() {
            if let ConfigSource::GitRef(git_ref) = &provider.source {
                resolved.push(self.resolve_one(provider, git_ref).await.map_err(|problem| (index, problem))?);
            }
        }
        Ok(resolved)
    }

    async fn resolve_one(
        &mut self,
        provider: &ConfigProvider,
        git_ref: &GitRef,
    ) -> Result<ResolvedInput, InputProblem> {
        let path = literal_prefix(&git_ref.path).map_err(|problem| InputProblem::Commit(problem.to_string()))?;
        if git_ref.repository == SELF_REPOSITORY {
            let entries: Vec<(String, Entry)> = self
                .snapshot
                .entries
                .range(path.clone()..)
                .take_while(|(file, _)| file.starts_with(&path))
                .filter(|(file, _)| is_at_or_below(file, &path))
                .map(|(file, entry)| (file.clone(), *entry))
                .collect();
            let (mirror, commit) = (self.mirror, self.snapshot.commit.clone());
            let revision = "HEAD".to_owned();
            return self.pin(mirror, provider, SELF_REPOSITORY, &revision, &commit, &path, entries).await;
        }
        let elsewhere = |reason: String| InputProblem::Elsewhere(reason);
        let revision = git_ref.target_revision.clone().unwrap_or_default();
        let url = match self.repositories.get(&git_ref.repository) {
            Some(Ok(url)) => url.clone(),
            Some(Err(reason)) => return Err(elsewhere(reason.clone())),
            None => return Err(elsewhere(format!("Repository {:?} is not defined", git_ref.repository))),
        };
        let key = (git_ref.repository.clone(), revision.clone());
        if !self.pinned.contains_key(&key) {
            let pinned = self.dependencies.pin(self.git, &git_ref.repository, &url, &revision).await;
            let pinned = pinned.map_err(|error| format!("Repository {} at {revision}: {error}", git_ref.repository));
            self.pinned.insert(key.clone(), pinned);
        }
        let Pinned { mirror, commit } = self.pinned[&key].clone().map_err(elsewhere)?;
        let place = Mirror { git: self.git, path: &mirror };
        let listed = place.git.list_tree(place.path, &commit, &path).await;
        let entries = listed.map_err(|e| elsewhere(format!("Repository {} at {revision}: {e}", git_ref.repository)))?;
        let entries =
            entries.into_iter().map(|entry| (entry.path, Entry { mode: entry.mode, oid: entry.oid })).collect();
        let pinned = self.pin(place, provider, &git_ref.repository, &revision, &commit, &path, entries).await;
        pinned.map_err(|problem| match problem {
            InputProblem::Commit(reason) => {
                elsewhere(format!("Repository {} at {revision}: {reason}", git_ref.repository))
            }
            other @ (InputProblem::Elsewhere(_) | InputProblem::Retry(_)) => other,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "each is one column of what is kept")]
    async fn pin(
        &mut self,
        mirror: Mirror<'_>,
        provider: &ConfigProvider,
        repository: &str,
        revision: &str,
        commit: &CommitId,
        path: &str,
        entries: Vec<(String, Entry)>,
    ) -> Result<ResolvedInput, InputProblem> {
        if entries.is_empty() {
            return Err(InputProblem::Commit(format!("path {path:?} holds no file at commit {}", commit.short())));
        }
        if let Some((file, _)) = entries.iter().find(|(_, entry)| !is_regular(entry.mode)) {
            let what = "is a symbolic link or a submodule; only regular files can be brought to devices";
            return Err(InputProblem::Commit(format!("{file} {what}")));
        }
        self.read_missing(mirror, &entries).await?;
        let mut files = Vec::with_capacity(entries.len());
        for (file, entry) in entries {
            let Some(content) = self.contents.get(&entry.oid) else {
                let reason = format!("the worker did not return {file}");
                return Err(InputProblem::Retry(fleet_git::GitError::new(fleet_git::GitErrorKind::Other, reason)));
            };
            if content.starts_with(LFS_POINTER) {
                let what = "is a Git LFS pointer; its contents are not in the repository";
                return Err(InputProblem::Commit(format!("{file} {what}")));
            }
            let mode = if entry.mode == fleet_git::EntryMode::Executable { 0o755 } else { 0o644 };
            files.push(PinnedFile { path: file, mode, content: Arc::clone(content) });
        }
        let tree = PinnedTree::new(files).map_err(|problem| InputProblem::Commit(problem.to_string()))?;
        let digest: Digest = tree_digest(&tree);
        let record = PinnedInput {
            provider: provider.name.clone(),
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            commit: commit.to_string(),
            path: path.to_owned(),
            tree: digest,
        };
        Ok(ResolvedInput { record, tree })
    }

    async fn read_missing(&mut self, mirror: Mirror<'_>, entries: &[(String, Entry)]) -> Result<(), InputProblem> {
        let mut missing: Vec<ObjectId> =
            entries.iter().map(|(_, entry)| entry.oid).filter(|oid| !self.contents.contains_key(oid)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let blobs = mirror.git.read_blobs(mirror.path, &missing, MAX_BLOB_BYTES, MAX_TREE_BYTES).await;
        let blobs = blobs.map_err(|error| {
            if error.kind == fleet_git::GitErrorKind::TooLarge {
                InputProblem::Commit(error.message)
            } else {
                InputProblem::Retry(error)
            }
        })?;
        for (oid, blob) in missing.into_iter().zip(blobs) {
            self.contents.insert(oid, Arc::from(&blob[..]));
        }
        Ok(())
    }
}
