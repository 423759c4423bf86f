//! A commit's files in memory: the paths below the source's own and in the places that its manifests take content from,
//! and the parsed manifests. What else is in the repository is not looked at, however much it is. The next commit is made
//! from the last one and the difference, so that a one-file commit reads one file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use fleet_git::{Change, ChangeKind, EntryMode, GitError, GitErrorKind, ObjectId, TreeEntry, WorkerPool};
use fleet_lint::{
    CONFIG_FILE, LintConfig, MAX_FILE_BYTES, ParsedFile, TreeReport, check_part, check_tree, is_candidate, parse_file,
};
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
    /// Every file at or below `places`.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// What was looked at: files and directories, "" for the whole repository.
    places: BTreeSet<String>,
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
        let own = own_places(source_path);
        let (mut entries, mut places) = match previous {
            None => (listed(mirror, commit, &own).await?, own.clone()),
            Some(previous) => match changes_since(mirror, previous, commit).await {
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
                    (entries, previous.places.clone())
                }
                // The mirror was made again and the old commit is not in it; or what is wrong lies where nobody looks
                // any more.
                Err(_) => (listed(mirror, commit, &own).await?, own.clone()),
            },
        };
        let parsed = parse_candidates(mirror, &entries, source_path, previous).await?;
        let mut wanted = own;
        wanted.extend(parsed.values().flat_map(|(_, file)| file.content_paths()).map(str::to_owned));
        let wanted = outermost(wanted);
        if wanted != places {
            let more = wanted.iter().filter(|place| !covers(&places, place)).cloned().collect::<BTreeSet<_>>();
            if !more.is_empty() {
                entries.extend(listed(mirror, commit, &more).await?);
            }
            entries.retain(|path, _| covers(&wanted, path));
            places = wanted;
        }
        Ok(Self { commit: commit.clone(), entries, places, parsed })
    }

    /// Whether all files at or below a path are among the entries.
    pub(crate) fn covers(&self, path: &str) -> bool {
        covers(&self.places, path)
    }

    /// A check of all of it by a lint configuration, for a thread that may take long.
    pub(crate) fn check(&self, config: &LintConfig) -> impl FnOnce() -> TreeReport + Send + 'static {
        let (files, paths, config, is_whole) = (self.files(), self.all_paths(), config.clone(), self.covers(""));
        move || match is_whole {
            true => check_tree(&files, Some(&paths), &config),
            false => check_part(&files, &paths, &config),
        }
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

    /// Every path that was looked at.
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
        let places = BTreeSet::from([String::new()]);
        Self { commit, entries: files.iter().map(entry).collect(), places, parsed: parsed.collect() }
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

/// What is looked at whatever manifests say.
fn own_places(source_path: &str) -> BTreeSet<String> {
    outermost([source_path.trim_matches('/').to_owned(), CONFIG_FILE.to_owned()].into())
}

/// Those places that do not lie below another one.
fn outermost(places: BTreeSet<String>) -> BTreeSet<String> {
    let is_inner = |place: &String| {
        let above = place.match_indices('/').map(|(at, _)| &place[..at]);
        above.chain([""]).any(|above| above.len() < place.len() && places.contains(above))
    };
    places.iter().filter(|place| !is_inner(place)).cloned().collect()
}

/// Whether `path` is one of `places` or lies below one.
fn covers(places: &BTreeSet<String>, path: &str) -> bool {
    let above = path.match_indices('/').map(|(at, _)| &path[..at]);
    above.chain(["", path]).any(|above| places.contains(above))
}

async fn changes_since(mirror: Mirror<'_>, previous: &Snapshot, commit: &CommitId) -> Result<Vec<Change>, GitError> {
    let places: Vec<String> = previous.places.iter().cloned().collect();
    mirror.git.diff_places(mirror.path, &previous.commit, commit, &places).await
}

async fn listed(
    mirror: Mirror<'_>,
    commit: &CommitId,
    places: &BTreeSet<String>,
) -> Result<BTreeMap<String, Entry>, GitError> {
    let places: Vec<String> = places.iter().cloned().collect();
    let entries = mirror.git.list_places(mirror.path, commit, &places).await?;
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
