//! A repository on this disk, read in process and without a work tree being touched: for the command line, which looks at
//! the clone that somebody works in. It reads objects and references only: no configuration but the repository's own, no
//! environment variables, no filters, no hooks, no network. Whose files they are makes no difference, because nothing
//! that a repository configures is run.

mod ignored;

use std::path::{Path, PathBuf};

use fleet_model::CommitId;
use gix::bstr::ByteSlice as _;

use crate::error::{GitError, GitErrorKind};
use crate::object_id::ObjectId;
use crate::wire::{History, TreeEntry};
use crate::worker::activity::Activity;
use crate::worker::ancestry::gix_id;
use crate::worker::{blobs, classify, history, tree};

pub use ignored::Ignored;

/// No repository has more files.
const MAX_ENTRIES: usize = 1_000_000;
/// No revision is written longer, in bytes.
const MAX_REVISION_BYTES: usize = 512;
/// Where the default branch of the place that the clone came from is looked for, in this order.
const DEFAULT_BRANCHES: [&str; 3] = ["origin/HEAD", "origin/main", "origin/master"];

/// A clone, a bare repository or a linked work tree.
#[derive(Debug)]
pub struct LocalRepository {
    repo: gix::Repository,
    /// How people know it.
    shown: String,
}

impl LocalRepository {
    /// The repository that `path` lies in: `path` itself or the nearest directory above it.
    ///
    /// # Errors
    /// `PathMissing` when there is no such path or no repository around it; `Corrupt` or `Other` when it cannot be opened.
    pub fn discover(path: &Path) -> Result<Self, GitError> {
        let missing = |why: String| GitError::new(GitErrorKind::PathMissing, why);
        let canonical =
            std::fs::canonicalize(path).map_err(|error| missing(format!("cannot read {}: {error}", path.display())))?;
        let directory = if canonical.is_dir() { canonical.as_path() } else { canonical.parent().unwrap_or(&canonical) };
        let upwards = gix::discover::upwards::Options {
            trust: gix::discover::upwards::TrustPolicy::Assume(gix::sec::Trust::Full),
            ..gix::discover::upwards::Options::default()
        };
        let (found, _) = gix::discover::upwards_opts(directory, upwards).map_err(|_| {
            missing(format!(
                "{} does not lie in a Git repository; go to a clone, or make one: git init",
                path.display()
            ))
        })?;
        let (git_dir, work_dir) = found.into_repository_and_work_tree_directories();
        let shown = work_dir.as_deref().unwrap_or(&git_dir).display().to_string();
        let options = gix::open::Options::isolated()
            .open_path_as_is(true)
            .with(gix::sec::Trust::Full)
            .config_overrides(["core.deltaBaseCacheLimit=96m"]);
        let opened = options.open(git_dir).map_err(|error| {
            let GitError { kind, message, .. } = classify::local(&error, &format!("open the repository {shown}"));
            GitError::new(kind, message)
        })?;
        let mut repo = opened.to_thread_local();
        repo.object_cache_size_if_unset(16 << 20);
        if let Some(directory) = work_dir
            && repo.workdir().is_none()
        {
            repo.set_workdir(directory)
                .map_err(|error| classify::local(&error, &format!("use the work tree of {shown}")))?;
        }
        Ok(Self { repo, shown })
    }

    /// The root of the checkout; none of a bare repository.
    pub fn workdir(&self) -> Option<&Path> {
        self.repo.workdir()
    }

    /// Where `directory` lies below the root of the repository, `/` between the parts, "" for the root. Everything in a
    /// bare repository lies at the root.
    ///
    /// # Errors
    /// `PathMissing` when it cannot be read, or lies elsewhere; `NotUtf8Path`.
    pub fn below_root(&self, directory: &Path) -> Result<String, GitError> {
        let Some(root) = self.workdir() else { return Ok(String::new()) };
        let real = |path: &Path| -> Result<PathBuf, GitError> {
            std::fs::canonicalize(path).map_err(|error| {
                GitError::new(GitErrorKind::PathMissing, format!("cannot read {}: {error}", path.display()))
            })
        };
        let (root, inner) = (real(root)?, real(directory)?);
        let below = inner.strip_prefix(&root).map_err(|_| {
            let why = format!("{} does not lie in the work tree {}", directory.display(), root.display());
            GitError::new(GitErrorKind::PathMissing, why)
        })?;
        below.to_str().map(str::to_owned).ok_or_else(|| {
            GitError::new(GitErrorKind::NotUtf8Path, format!("{}: the path is not UTF-8", directory.display()))
        })
    }

    /// Whether history was cut off when it was cloned, as builds do.
    pub fn is_shallow(&self) -> bool {
        self.repo.is_shallow().unwrap_or(false)
    }

    /// The commit that a revision stands for: a branch, a tag, `origin/main`, `HEAD~1`, the beginning of an id.
    ///
    /// # Errors
    /// `RefMissing`, with what to fetch.
    pub fn resolve(&self, revision: &str) -> Result<CommitId, GitError> {
        let shown: String = revision.chars().filter(|c| !c.is_control()).take(80).collect();
        if revision.is_empty() || revision.len() > MAX_REVISION_BYTES || revision.chars().any(char::is_control) {
            return Err(GitError::new(
                GitErrorKind::RefMissing,
                format!("{shown:?} is not a revision; name a branch, a tag or a commit"),
            ));
        }
        let Ok(found) = self.repo.rev_parse_single(revision.as_bytes().as_bstr()) else {
            return Err(self.no_revision(&shown));
        };
        let object = found.object().map_err(|_| self.no_revision(&shown))?;
        let kind = object.kind;
        let commit = object.peel_to_commit().map_err(|_| {
            GitError::new(
                GitErrorKind::RefMissing,
                format!("{shown:?} is a {kind} in {}, not a commit; name a branch, a tag or a commit", self.shown),
            )
        })?;
        commit_id(commit.id)
    }

    /// The default branch of the place that the clone came from, as a revision for [`LocalRepository::resolve`].
    ///
    /// # Errors
    /// `RefMissing` when the clone knows none.
    pub fn default_branch(&self) -> Result<&'static str, GitError> {
        DEFAULT_BRANCHES.into_iter().find(|name| self.resolve(name).is_ok()).ok_or_else(|| {
            let fix = if self.has_origin() {
                "knows no default branch of origin; fetch it (git fetch origin +main:refs/remotes/origin/main), or name \
                 what to compare with: BASE.."
            } else {
                "has no remote named origin; name what to compare with: HEAD.. for what is not committed, main.. for what \
                 this branch changes"
            };
            GitError::new(GitErrorKind::RefMissing, format!("{} {fix}", self.shown))
        })
    }

    /// The best common ancestor of two commits.
    ///
    /// # Errors
    /// `RefMissing` when they have none, or the clone is too shallow to tell.
    pub fn merge_base(&self, one: &CommitId, two: &CommitId) -> Result<CommitId, GitError> {
        let found = self.repo.merge_base(gix_id(one)?, gix_id(two)?);
        match found {
            Ok(Some(base)) => commit_id(base.detach()),
            Ok(None) => Err(self.no_merge_base(one, two)),
            Err(_) if self.is_shallow() => Err(self.no_merge_base(one, two)),
            Err(error) => Err(classify::local(&error, &format!("walk the history of {}", self.shown))),
        }
    }

    /// All files of a commit, in the order of their paths.
    ///
    /// # Errors
    /// `RefMissing`, `NotUtf8Path`, `TooLarge` above 1,000,000 files, `Corrupt`.
    pub fn list_tree(&self, commit: &CommitId) -> Result<Vec<TreeEntry>, GitError> {
        tree::list(&self.repo, commit, "", MAX_ENTRIES).map_err(|error| self.partial(error))
    }

    /// The commits that `tip` has and `base` has not, along first parents, newest first, at most `max` (and 16 MiB). Without
    /// a base down to the root.
    ///
    /// # Errors
    /// `RefMissing`, with what to fetch, where the clone does not have all of them; `Corrupt`.
    pub fn history(&self, base: Option<&CommitId>, tip: &CommitId, max: usize) -> Result<History, GitError> {
        // A base that is not there would be none.
        for commit in base.into_iter().chain([tip]) {
            self.resolve(commit.as_str())?;
        }
        history::history(&self.repo, base, tip, max, &Activity::default()).map_err(|error| {
            if error.kind == GitErrorKind::Corrupt && self.is_shallow() {
                let message = format!("{}: {}; {UNSHALLOW}", self.shown, error.message);
                return GitError::new(GitErrorKind::RefMissing, message);
            }
            self.partial(error)
        })
    }

    /// The paths of all files that differ from one commit to another, in their order.
    ///
    /// # Errors
    /// `RefMissing`, `NotUtf8Path`, `TooLarge` above 1,000,000 files, `Corrupt`.
    pub fn changed_paths(&self, from: &CommitId, to: &CommitId) -> Result<Vec<String>, GitError> {
        let changes = tree::diff(&self.repo, from, to, "", MAX_ENTRIES).map_err(|error| self.partial(error))?;
        Ok(changes.into_iter().map(|change| change.path).collect())
    }

    /// The contents of a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// `TooLarge`, before anything is unpacked; `Corrupt` when it is not there.
    pub fn read_blob(&self, blob: ObjectId, limit: u64) -> Result<Vec<u8>, GitError> {
        blobs::size(&self.repo, blob, limit)
            .and_then(|_| blobs::content(&self.repo, blob))
            .map_err(|error| self.partial(error))
    }

    /// What is missing from a clone that was made without some objects can be fetched.
    fn partial(&self, error: GitError) -> GitError {
        let is_partial = self.repo.config_snapshot().string("remote.origin.partialclonefilter").is_some();
        if error.kind != GitErrorKind::Corrupt || !is_partial {
            return error;
        }
        let fix = "the clone was made with --filter; fetch what is missing: git fetch --refetch --no-filter origin";
        GitError::new(GitErrorKind::RefMissing, format!("{}: {}; {fix}", self.shown, error.message))
    }

    fn has_origin(&self) -> bool {
        self.repo.find_remote("origin").is_ok()
    }

    /// Whether nothing was ever committed or fetched.
    fn is_empty(&self) -> bool {
        let any_reference = || self.repo.references().ok()?.all().ok()?.next();
        self.repo.head().is_ok_and(|head| head.is_unborn()) && any_reference().is_none()
    }

    fn no_revision(&self, shown: &str) -> GitError {
        let branch = shown.strip_prefix("origin/").unwrap_or(shown);
        let fix = if self.is_empty() {
            "there is no commit yet; make the first one: git commit".to_owned()
        } else if self.is_shallow() {
            UNSHALLOW.to_owned()
        } else if is_plain(branch) && branch != "HEAD" && self.has_origin() {
            let name = if branch == shown { format!(" and name it origin/{branch}") } else { String::new() };
            format!("fetch it{name}: git fetch origin +{branch}:refs/remotes/origin/{branch}")
        } else {
            "name a branch, a tag or a commit that git log knows".to_owned()
        };
        GitError::new(GitErrorKind::RefMissing, format!("{} has no revision {shown:?}; {fix}", self.shown))
    }

    fn no_merge_base(&self, one: &CommitId, two: &CommitId) -> GitError {
        let fix = if self.is_shallow() { UNSHALLOW } else { "name the commit to compare with" };
        let message = format!("{} knows no common ancestor of {} and {}; {fix}", self.shown, one.short(), two.short());
        GitError::new(GitErrorKind::RefMissing, message)
    }
}

const UNSHALLOW: &str = "the clone is shallow: fetch its history with git fetch --unshallow origin \
    (actions/checkout: fetch-depth: 0; GitLab: GIT_DEPTH: 0)";

/// Whether `text` is no more than a name, so that it can be shown as part of a command.
fn is_plain(text: &str) -> bool {
    !text.starts_with(['-', '.'])
        && !text.contains("..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

fn commit_id(id: gix::ObjectId) -> Result<CommitId, GitError> {
    id.to_hex().to_string().parse().map_err(|error: fleet_model::IdError| GitError::other(error.to_string()))
}
