//! Pins what a specification takes from elsewhere: the files of every `gitRef` at one commit, with their contents. Where
//! placeholders decide about the revision, for each value that they have among the fleet's devices.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fleet_git::{GitErrorKind, ObjectId, WorkerPool};
use fleet_model::{
    CommitId, ConfigProvider, ConfigSource, DeviceSpec, Digest, GitRef, LabelSelector, SECRET_REPOSITORY,
    SELF_REPOSITORY, SecretRef,
};
use fleet_render::{InputValue, PinnedFile, PinnedTree, literal_prefix, tree_digest};
use fleet_store::{InputKind, PinnedInput};
use tracing::warn;

use crate::absent::Place;
use crate::dependencies::{Dependencies, Pinned};
use crate::errand::Errand;
use crate::pins::{Asked, LastPins};
use crate::repositories::Repositories;
use crate::restored::PositionPins;
use crate::secrets::{self, Secrets, Unread};
use crate::snapshot::{Entry, Mirror, Snapshot, is_at_or_below, is_regular};
use crate::values::{Subjects, value_of};
use crate::web::{WebFile, WebFiles, file_url};

/// The largest file in a config directory.
const MAX_BLOB_BYTES: u64 = 8 << 20;
/// The most bytes one `gitRef` may bring.
const MAX_TREE_BYTES: u64 = 64 << 20;
/// How a file looks whose contents are kept elsewhere by Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Contents that were read before, by object id. It keeps what the last build used, whatever became of that.
#[derive(Debug, Default)]
pub(crate) struct ContentCache {
    known: HashMap<ObjectId, Arc<[u8]>>,
    /// What the build at work asked for.
    used: HashSet<ObjectId>,
}

impl ContentCache {
    fn get(&mut self, oid: &ObjectId) -> Option<&Arc<[u8]>> {
        self.used.insert(*oid);
        self.known.get(oid)
    }

    pub(crate) fn insert(&mut self, oid: ObjectId, content: Arc<[u8]>) {
        self.known.insert(oid, content);
    }

    /// A build is over: what it did not use goes.
    pub(crate) fn end_of_build(&mut self) {
        let used = std::mem::take(&mut self.used);
        self.known.retain(|oid, _| used.contains(oid));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// A pinned provider.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedInput {
    /// What is kept about it.
    pub(crate) record: PinnedInput,
    /// Its files.
    pub(crate) tree: PinnedTree,
}

/// Everything that a specification takes from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// What is pinned, in order.
    pub(crate) pinned: Vec<ResolvedInput>,
    /// What is not, because its value of a placeholder stands for nothing: provider, value and reason.
    pub(crate) missing: Vec<(String, String, String)>,
    /// Where that was looked for.
    pub(crate) absent: Vec<Place>,
}

/// Why a provider cannot be pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputProblem {
    /// The commit itself is wrong: it is refused.
    Commit(String),
    /// Another repository is wrong: the fleet stays at its last revision.
    Elsewhere(String),
    /// Another repository is away, and nothing of it is pinned: the fleet stays at its last revision.
    Away(String),
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
    /// Files of web servers.
    pub(crate) web: &'a WebFiles,
    /// Secrets.
    pub(crate) secrets: &'a Secrets,
    /// Where those lie, by name.
    pub(crate) repositories: &'a Repositories,
    /// The devices that placeholders are evaluated for.
    pub(crate) subjects: &'a Subjects,
    /// What is in force: used while a host is away.
    pub(crate) last: &'a LastPins,
    /// Hosts that kept this look waiting.
    pub(crate) errand: &'a Errand,
    /// Contents that were read before; grows.
    pub(crate) contents: &'a mut ContentCache,
    /// Nothing is read from elsewhere: what is in force has to do. So it is for commits that may be a stranger's.
    pub(crate) only_in_force: bool,
    /// The commit was in force before desired state was dropped: what it had then, and nothing newer.
    pub(crate) restored: Option<&'a PositionPins>,
    /// Repositories that were looked at for this commit, by name and revision: one look serves all fleets.
    pub(crate) pinned: HashMap<(String, String), Result<Pinned, String>>,
    /// Why secrets that are in use could not be read.
    pub(crate) unreadable: BTreeSet<String>,
}

impl InputReader<'_> {
    /// Pins all that a specification takes from elsewhere, in order. `selector` is that of the fleet, whose templates
    /// have placeholders; `None` for a device's own specification, which has none.
    pub(crate) async fn resolve(
        &mut self,
        owner: &str,
        spec: &DeviceSpec,
        fleet: Option<Option<&LabelSelector>>,
    ) -> Result<Inputs, (usize, InputProblem)> {
        if let Some(pins) = self.restored {
            return self.resolve_restored(pins, owner, spec, fleet.is_some()).await;
        }
        let mut inputs = Inputs::default();
        for (index, provider) in spec.config.iter().flatten().enumerate() {
            let Some(value) = value_of(provider, fleet.is_some()) else {
                let pinned = self.resolve_one(provider, &provider.source).await;
                inputs.pinned.extend(pinned.map_err(|problem| (index, problem))?);
                continue;
            };
            let values = self.subjects.values(provider, &value, fleet.flatten());
            for value in values.map_err(|reason| (index, InputProblem::Elsewhere(reason)))? {
                let source = InputValue::apply(&provider.source, &value);
                match self.resolve_one(provider, &source).await {
                    Ok(Some(mut pinned)) => {
                        pinned.record.value = Some(value);
                        inputs.pinned.push(pinned);
                    }
                    Ok(None) => {}
                    // Only the devices with this value are concerned.
                    Err(problem @ (InputProblem::Elsewhere(_) | InputProblem::Away(_))) => {
                        inputs.absent.extend(self.absent(&source, &problem));
                        let (InputProblem::Elsewhere(reason) | InputProblem::Away(reason)) = problem else { continue };
                        inputs.missing.push((provider.name.clone(), value, reason));
                    }
                    Err(problem @ (InputProblem::Commit(_) | InputProblem::Retry(_))) => return Err((index, problem)),
                }
            }
        }
        Ok(inputs)
    }

    /// What is watched of a place where nothing could be pinned.
    fn absent(&self, source: &ConfigSource, problem: &InputProblem) -> Option<Place> {
        let is_wrong = matches!(problem, InputProblem::Elsewhere(_));
        let ConfigSource::GitRef(git_ref) = source else {
            // What a web server or a secret gives is not usable: that does not change by being there.
            return Place::of(source, None).filter(|_| !is_wrong);
        };
        let key = (git_ref.repository.clone(), git_ref.target_revision.clone().unwrap_or_default());
        let pinned = self.pinned.get(&key).and_then(|pinned| pinned.as_ref().ok());
        // Where the commit is not at fault it is tried again.
        Place::of(source, pinned.filter(|_| is_wrong).map(|pinned| pinned.commit.to_string()))
    }

    /// Pins one provider; nothing of an inline one. While its place is away, what was pinned last stays.
    pub(crate) async fn resolve_one(
        &mut self,
        provider: &ConfigProvider,
        source: &ConfigSource,
    ) -> Result<Option<ResolvedInput>, InputProblem> {
        let (kind, repository, revision, path, resolved) = match source {
            ConfigSource::Inline(_) => return Ok(None),
            ConfigSource::GitRef(git_ref) => {
                let path =
                    literal_prefix(&git_ref.path).map_err(|problem| InputProblem::Commit(problem.to_string()))?;
                let revision = git_ref.target_revision.clone().unwrap_or_default();
                let resolved = match self.not_in_force(&git_ref.repository, &revision) {
                    Some(away) => Err(away),
                    None => self.resolve_git(provider, git_ref, &path).await,
                };
                (InputKind::Git, git_ref.repository.clone(), revision, path, resolved)
            }
            ConfigSource::HttpRef(http) => {
                let suffix = http.suffix.clone().unwrap_or_default();
                let resolved = match self.not_in_force(&http.repository, &suffix) {
                    Some(away) => Err(away),
                    None => self.resolve_http(provider, &http.repository, &suffix).await,
                };
                (InputKind::Http, http.repository.clone(), suffix, String::new(), resolved)
            }
            ConfigSource::SecretRef(secret) => {
                let place = format!("{}/{}", secret.namespace, secret.name);
                let resolved = match self.not_in_force(SECRET_REPOSITORY, &place) {
                    Some(away) => Err(away),
                    None => self.resolve_secret(provider, secret, &place).await,
                };
                (InputKind::Secret, SECRET_REPOSITORY.to_owned(), place, String::new(), resolved)
            }
        };
        let reason = match resolved {
            Err(InputProblem::Away(reason)) => reason,
            Ok(resolved) => return Ok(Some(resolved)),
            Err(problem @ (InputProblem::Commit(_) | InputProblem::Elsewhere(_) | InputProblem::Retry(_))) => {
                return Err(problem);
            }
        };
        let url = self.repositories.shown_url(&repository, kind);
        let (repository, revision, path) = (repository.as_str(), revision.as_str(), path.as_str());
        let tree = if kind == InputKind::Secret { self.secrets.last_read(revision).await } else { None };
        let asked = Asked { kind, repository, url: url.as_deref(), revision, path, tree };
        let Some((record, tree)) = self.last.find(&asked).await else { return Err(InputProblem::Away(reason)) };
        if !self.only_in_force && kind == InputKind::Secret {
            self.unreadable.insert(reason);
        } else if !self.only_in_force {
            warn!(repository, revision, reason, "What was pinned last stays in use");
        }
        Ok(Some(ResolvedInput { record: PinnedInput { provider: provider.name.clone(), ..record.clone() }, tree }))
    }

    /// Why nothing is read there, where only what is in force may be used.
    fn not_in_force(&self, repository: &str, revision: &str) -> Option<InputProblem> {
        let closed = self.only_in_force && repository != SELF_REPOSITORY;
        closed.then(|| {
            let what = match repository {
                SECRET_REPOSITORY => format!("the secret {revision}"),
                _ => format!("Repository {repository} at {revision:?}"),
            };
            InputProblem::Away(format!("{what} is read after the merge"))
        })
    }

    async fn resolve_git(
        &mut self,
        provider: &ConfigProvider,
        git_ref: &GitRef,
        path: &str,
    ) -> Result<ResolvedInput, InputProblem> {
        if git_ref.repository == SELF_REPOSITORY {
            // A part of the files is worse than none.
            if !self.snapshot.covers(path) {
                let reason = format!("the files at {path:?} were not read with the commit");
                return Err(InputProblem::Retry(fleet_git::GitError::new(GitErrorKind::Other, reason)));
            }
            let entries: Vec<(String, Entry)> = self
                .snapshot
                .entries
                .range(path.to_owned()..)
                .take_while(|(file, _)| file.starts_with(path))
                .filter(|(file, _)| is_at_or_below(file, path))
                .map(|(file, entry)| (file.clone(), *entry))
                .collect();
            let (mirror, commit) = (self.mirror, self.snapshot.commit.clone());
            let revision = "HEAD".to_owned();
            return self.pin(mirror, provider, SELF_REPOSITORY, &revision, &commit, path, entries).await;
        }
        let elsewhere = |reason: String| InputProblem::Elsewhere(reason);
        let revision = git_ref.target_revision.clone().unwrap_or_default();
        let url = self.repositories.url(&git_ref.repository, InputKind::Git).map_err(elsewhere)?.to_owned();
        let credential = self.repositories.credential(&git_ref.repository).map(str::to_owned);
        let key = (git_ref.repository.clone(), revision.clone());
        if !self.pinned.contains_key(&key) {
            let place = (url.as_str(), credential.as_deref());
            let pinned = self.dependencies.pin(self.git, &git_ref.repository, place, &revision, self.errand).await;
            let pinned = pinned.map_err(|error| format!("Repository {} at {revision}: {error}", git_ref.repository));
            self.pinned.insert(key.clone(), pinned);
        }
        let pinned = self.pinned[&key].clone().map_err(InputProblem::Away)?;
        self.read_elsewhere(provider, git_ref, path, &url, pinned).await
    }

    /// As [`Self::resolve_git`], of another repository at a commit that was in force.
    pub(crate) async fn resolve_git_at(
        &mut self,
        provider: &ConfigProvider,
        git_ref: &GitRef,
        path: &str,
        commit: &str,
    ) -> Result<ResolvedInput, InputProblem> {
        let url =
            self.repositories.url(&git_ref.repository, InputKind::Git).map_err(InputProblem::Elsewhere)?.to_owned();
        let credential = self.repositories.credential(&git_ref.repository).map(str::to_owned);
        let revision = git_ref.target_revision.clone().unwrap_or_default();
        let about = |error: String| {
            format!("Repository {} at commit {commit}, which was in force: {error}", git_ref.repository)
        };
        let key = (git_ref.repository.clone(), commit.to_owned());
        if !self.pinned.contains_key(&key) {
            let pinned = match commit.parse::<CommitId>() {
                Ok(id) => {
                    let found = self.dependencies.pin_at(self.git, &url, credential.as_deref(), &revision, &id).await;
                    found.map_err(|error| about(error.to_string()))
                }
                Err(error) => Err(about(error.to_string())),
            };
            self.pinned.insert(key.clone(), pinned);
        }
        let pinned = self.pinned[&key].clone().map_err(InputProblem::Away)?;
        self.read_elsewhere(provider, git_ref, path, &url, pinned).await
    }

    /// Reads a directory of another repository.
    async fn read_elsewhere(
        &mut self,
        provider: &ConfigProvider,
        git_ref: &GitRef,
        path: &str,
        url: &str,
        Pinned { mirror, commit }: Pinned,
    ) -> Result<ResolvedInput, InputProblem> {
        let elsewhere = |reason: String| InputProblem::Elsewhere(reason);
        let revision = git_ref.target_revision.clone().unwrap_or_default();
        let place = Mirror { git: self.git, path: &mirror };
        let listed = place.git.list_tree(place.path, &commit, path).await;
        let entries = listed.map_err(|error| {
            let reason = format!("Repository {} at {revision}: {error}", git_ref.repository);
            // What is in the commit is wrong, or the mirror lacks it and its host does not answer.
            let wrong =
                matches!(error.kind, GitErrorKind::PathMissing | GitErrorKind::NotUtf8Path | GitErrorKind::TooLarge);
            if wrong { InputProblem::Elsewhere(reason) } else { InputProblem::Away(reason) }
        })?;
        let entries =
            entries.into_iter().map(|entry| (entry.path, Entry { mode: entry.mode, oid: entry.oid })).collect();
        let pinned = self.pin(place, provider, &git_ref.repository, &revision, &commit, path, entries).await;
        let mut pinned = pinned.map_err(|problem| match problem {
            InputProblem::Commit(reason) => {
                elsewhere(format!("Repository {} at {revision}: {reason}", git_ref.repository))
            }
            // Another repository's mirror is at fault: what is in force has to do until it is mended.
            InputProblem::Retry(error) => {
                InputProblem::Away(format!("Repository {} at {revision}: {error}", git_ref.repository))
            }
            other @ (InputProblem::Elsewhere(_) | InputProblem::Away(_)) => other,
        })?;
        pinned.record.url = Some(fleet_git::redact_url(url));
        Ok(pinned)
    }

    async fn resolve_http(
        &self,
        provider: &ConfigProvider,
        repository: &str,
        suffix: &str,
    ) -> Result<ResolvedInput, InputProblem> {
        let elsewhere = InputProblem::Elsewhere;
        let base = self.repositories.url(repository, InputKind::Http).map_err(elsewhere)?;
        let about = |reason: String| format!("Repository {repository}: {reason}");
        let url = file_url(base, suffix).map_err(|reason| elsewhere(about(reason)))?;
        let WebFile { content, digest } = self
            .web
            .get(&url, self.repositories.credential(repository), self.errand)
            .await
            .map_err(|reason| InputProblem::Away(about(reason)))?;
        let file = PinnedFile { path: "content".to_owned(), mode: 0o644, content, seal: None };
        let tree = PinnedTree::new(vec![file]).map_err(|problem| elsewhere(about(problem.to_string())))?;
        let record = PinnedInput {
            provider: provider.name.clone(),
            kind: InputKind::Http,
            value: None,
            repository: repository.to_owned(),
            url: self.repositories.shown_url(repository, InputKind::Http),
            revision: suffix.to_owned(),
            commit: digest.hex(),
            path: String::new(),
            tree: tree_digest(&tree),
        };
        Ok(ResolvedInput { record, tree })
    }

    /// A secret as it is now. One that lacks keys which are in use counts as one that cannot be read.
    async fn resolve_secret(
        &self,
        provider: &ConfigProvider,
        secret: &SecretRef,
        place: &str,
    ) -> Result<ResolvedInput, InputProblem> {
        let read = self.secrets.get(&secret.namespace, &secret.name, secrets::FRESH, self.errand).await;
        let tree = read.map_err(|unread| match unread {
            Unread::Refused(reason) => InputProblem::Elsewhere(reason),
            Unread::Away(reason) => InputProblem::Away(reason),
        })?;
        let digest = tree_digest(&tree);
        let asked = Asked {
            kind: InputKind::Secret,
            repository: SECRET_REPOSITORY,
            url: None,
            revision: place,
            path: "",
            tree: Some(digest),
        };
        if let Some((_, before)) = self.last.find(&asked).await {
            secrets::lost_keys(place, &before, &tree).map_err(InputProblem::Away)?;
        }
        let record = PinnedInput {
            provider: provider.name.clone(),
            kind: InputKind::Secret,
            value: None,
            repository: SECRET_REPOSITORY.to_owned(),
            url: None,
            revision: place.to_owned(),
            commit: String::new(),
            path: String::new(),
            tree: digest,
        };
        Ok(ResolvedInput { record, tree })
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
            files.push(PinnedFile { path: file, mode, content: Arc::clone(content), seal: None });
        }
        let tree = PinnedTree::new(files).map_err(|problem| InputProblem::Commit(problem.to_string()))?;
        let digest: Digest = tree_digest(&tree);
        let record = PinnedInput {
            provider: provider.name.clone(),
            kind: InputKind::Git,
            value: None,
            repository: repository.to_owned(),
            url: None,
            revision: revision.to_owned(),
            commit: commit.to_string(),
            path: path.to_owned(),
            tree: digest,
        };
        Ok(ResolvedInput { record, tree })
    }

    async fn read_missing(&mut self, mirror: Mirror<'_>, entries: &[(String, Entry)]) -> Result<(), InputProblem> {
        let mut missing: Vec<ObjectId> =
            entries.iter().map(|(_, entry)| entry.oid).filter(|oid| self.contents.get(oid).is_none()).collect();
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
