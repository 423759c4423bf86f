//! A commit's files in memory: all paths, and the parsed manifests. The next commit is made from the last one and the
//! difference, so that a one-file commit reads one file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use fleet_git::{ChangeKind, EntryMode, GitError, GitErrorKind, ObjectId, TreeEntry, WorkerPool};
use fleet_lint::{MAX_FILE_BYTES, ParsedFile, is_candidate, parse_file};
use fleet_model::CommitId;

/// The most bytes of manifests that one commit may hold.
const MAX_TOTAL_BYTES: u64 = 512 << 20;
/// How many blobs are asked for at a time.
const BATCH: usize = 2_000;
/// At most this many batches are parsed at the same time.
const MAX_PARSERS: usize = 4;

/// A file at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub(crate) mode: EntryMode,
    /// Its contents' id.
    pub(crate) oid: ObjectId,
}

/// The files of one commit.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The commit.
    pub(crate) commit: CommitId,
    /// Every file of the repository.
    pub(crate) entries: BTreeMap<String, Entry>,
    parsed: BTreeMap<String, (ObjectId, Arc<ParsedFile>)>,
}

/// The worker, and the mirror to work on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mirror<'a> {
    /// The worker processes.
    pub(crate) git: &'a WorkerPool,
    /// The bare repository.
    pub(crate) path: &'a Path,
}

impl Snapshot {
    /// Reads a commit, from `previous` where there is one.
    ///
    /// # Errors
    /// What the worker says; nothing of `previous` is changed.
    pub(crate) async fn read(
        mirror: Mirror<'_>,
        commit: &CommitId,
        source_path: &str,
        previous: Option<&Self>,
    ) -> Result<Self, GitError> {
        let entries = match previous {
            None => all_entries(mirror, commit).await?,
            Some(previous) => match mirror.git.diff(mirror.path, &previous.commit, commit, "").await {
                Ok(changes) => {
                    let mut entries = previous.entries.clone();
                    for change in changes {
                        match change.kind {
                            ChangeKind::Added { mode, oid } | ChangeKind::Modified { mode, oid } => {
                                entries.insert(change.path, Entry { mode, oid });
                            }
                            ChangeKind::Deleted => {
                                entries.remove(&change.path);
                            }
                        }
                    }
                    entries
                }
                // The mirror was made again and the old commit is not in it.
                Err(_) => all_entries(mirror, commit).await?,
            },
        };
        let parsed = parse_candidates(mirror, &entries, source_path, previous).await?;
        Ok(Self { commit: commit.clone(), entries, parsed })
    }

    /// Whether the source's path names anything in this commit.
    pub(crate) fn has_path(&self, source_path: &str) -> bool {
        let path = source_path.trim_matches('/');
        path.is_empty() || self.entries.keys().any(|file| is_at_or_below(file, path))
    }

    /// The parsed manifest files, by path.
    pub(crate) fn files(&self) -> BTreeMap<String, Arc<ParsedFile>> {
        self.parsed.iter().map(|(path, (_, file))| (path.clone(), Arc::clone(file))).collect()
    }

    /// Every path of the repository.
    pub(crate) fn all_paths(&self) -> BTreeSet<String> {
        self.entries.keys().cloned().collect()
    }

    /// Files that are manifests by name but are no regular files.
    pub(crate) fn irregular_candidates<'a>(
        &'a self,
        source_path: &'a str,
    ) -> impl Iterator<Item = (&'a str, EntryMode)> {
        candidates(&self.entries, source_path)
            .filter(|(_, entry)| !is_regular(entry.mode))
            .map(|(path, entry)| (path, entry.mode))
    }
}

#[cfg(test)]
impl Snapshot {
    /// A commit with these files, without a repository. The contents' ids are made up from their digests.
    pub(crate) fn of_files(commit: CommitId, files: &BTreeMap<String, String>) -> Self {
        let entry = |(path, content): (&String, &String)| {
            (path.clone(), Entry { mode: EntryMode::File, oid: Self::made_up_id(content) })
        };
        let parsed = files.iter().filter(|(path, _)| is_candidate(path)).map(|(path, content)| {
            (path.clone(), (Self::made_up_id(content), Arc::new(parse_file(path, content.as_bytes()))))
        });
        Self { commit, entries: files.iter().map(entry).collect(), parsed: parsed.collect() }
    }

    pub(crate) fn made_up_id(content: &str) -> ObjectId {
        fleet_model::Digest::of(content.as_bytes()).hex()[..40].parse().unwrap()
    }
}

/// Whether `file` is `path` or lies below it.
pub(crate) fn is_at_or_below(file: &str, path: &str) -> bool {
    path.is_empty() || file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the entry has contents that can be read.
pub(crate) fn is_regular(mode: EntryMode) -> bool {
    match mode {
        EntryMode::File | EntryMode::Executable => true,
        EntryMode::Symlink | EntryMode::Submodule => false,
    }
}

fn candidates<'a>(
    entries: &'a BTreeMap<String, Entry>,
    source_path: &'a str,
) -> impl Iterator<Item = (&'a str, Entry)> {
    let below = source_path.trim_matches('/');
    entries
        .iter()
        .filter(move |(path, _)| is_at_or_below(path, below) && is_candidate(path))
        .map(|(path, entry)| (path.as_str(), *entry))
}

async fn all_entries(mirror: Mirror<'_>, commit: &CommitId) -> Result<BTreeMap<String, Entry>, GitError> {
    let entries = mirror.git.list_tree(mirror.path, commit, "").await?;
    Ok(entries.into_iter().map(|TreeEntry { path, mode, oid, .. }| (path, Entry { mode, oid })).collect())
}

/// Whether an error is about what is in the commit: reading it again changes nothing.
pub(crate) fn is_about_the_commit(error: &GitError) -> bool {
    match error.kind {
        GitErrorKind::NotUtf8Path | GitErrorKind::TooLarge => true,
        GitErrorKind::HostUnreachable
        | GitErrorKind::AuthFailed
        | GitErrorKind::RateLimited
        | GitErrorKind::RefMissing
        | GitErrorKind::PathMissing
        | GitErrorKind::DeadlineExceeded
        | GitErrorKind::Corrupt
        | GitErrorKind::UnsupportedScheme
        | GitErrorKind::WorkerDied
        | GitErrorKind::DiskFull
        | GitErrorKind::Other => false,
    }
}

/// The contents of blobs. Of one that is too large to be a manifest just enough to be found too large: it is a finding of
/// its file, not a failure of the host.
async fn contents(mirror: Mirror<'_>, oids: &[ObjectId]) -> Result<Vec<bytes::Bytes>, GitError> {
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let mut found = Vec::with_capacity(oids.len());
    // Halves of what cannot be read at once, down to the blob itself.
    let mut open = vec![oids];
    while let Some(part) = open.pop() {
        match mirror.git.read_blobs(mirror.path, part, limit, MAX_TOTAL_BYTES).await {
            Ok(blobs) => found.extend(blobs),
            Err(error) if error.kind == GitErrorKind::TooLarge && part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(error) if error.kind == GitErrorKind::TooLarge => {
                found.push(bytes::Bytes::from(vec![b'#'; MAX_FILE_BYTES + 1]));
            }
            Err(error) => return Err(error),
        }
    }
    let total: u64 = found.iter().map(|blob| u64::try_from(blob.len()).unwrap_or(u64::MAX)).sum();
    if total > MAX_TOTAL_BYTES {
        let message = format!("the manifests together have more than {MAX_TOTAL_BYTES} bytes");
        return Err(GitError::new(GitErrorKind::TooLarge, message));
    }
    Ok(found)
}

async fn parse_candidates(
    mirror: Mirror<'_>,
    entries: &BTreeMap<String, Entry>,
    source_path: &str,
    previous: Option<&Snapshot>,
) -> Result<BTreeMap<String, (ObjectId, Arc<ParsedFile>)>, GitError> {
    let mut parsed = BTreeMap::new();
    let mut wanted = Vec::new();
    for (path, entry) in candidates(entries, source_path).filter(|(_, entry)| is_regular(entry.mode)) {
        match previous.and_then(|previous| previous.parsed.get(path)) {
            Some((oid, file)) if *oid == entry.oid => {
                parsed.insert(path.to_owned(), (*oid, Arc::clone(file)));
            }
            _ => wanted.push((path.to_owned(), entry.oid)),
        }
    }
    // The next files are read while earlier ones are parsed, on as many processors as there are.
    let parsers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_PARSERS);
    let mut parsing = VecDeque::new();
    for batch in wanted.chunks(BATCH) {
        if parsing.len() >= parsers
            && let Some(oldest) = parsing.pop_front()
        {
            parsed.extend(ended(oldest).await?);
        }
        let oids: Vec<ObjectId> = batch.iter().map(|(_, oid)| *oid).collect();
        let blobs = contents(mirror, &oids).await?;
        let work: Vec<(String, ObjectId, _)> =
            batch.iter().zip(blobs).map(|((path, oid), blob)| (path.clone(), *oid, blob)).collect();
        // Parsing is work for the processor: done where it holds nobody up.
        parsing.push_back(tokio::task::spawn_blocking(move || {
            let parse = |(path, oid, blob): (String, ObjectId, bytes::Bytes)| {
                let file = Arc::new(parse_file(&path, &blob));
                (path, (oid, file))
            };
            work.into_iter().map(parse).collect::<Vec<_>>()
        }));
    }
    for rest in parsing {
        parsed.extend(ended(rest).await?);
    }
    Ok(parsed)
}

async fn ended<T>(work: tokio::task::JoinHandle<T>) -> Result<T, GitError> {
    work.await.map_err(|error| GitError::new(GitErrorKind::Other, error.to_string()))
}
