//! One loader for `lint`, `render` and `plan`: a tree of files from a checkout as it lies there, or from a revision of a
//! local repository, with the manifests parsed. Nothing is followed out of the tree, and all sizes are bounded.

mod checkout;
pub(crate) mod clones;
mod pins;
pub(crate) mod place;
mod revision;
pub(crate) mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use fleet_git::local::LocalRepository;
use fleet_git::{EntryMode, ObjectId};
use fleet_lint::{CONFIG_FILE, ParsedFile, is_candidate, parse_file};
use fleet_model::CommitId;

pub(crate) use checkout::{load_named, load_text};

/// No repository has more files.
const MAX_FILES: usize = 1_000_000;
/// The most bytes of manifests that one tree may hold, as in the service.
const MAX_TOTAL_BYTES: usize = 512 << 20;
/// No configuration of lint is larger.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What was read of one tree. Paths count from its root, `/` between the parts.
pub(crate) struct Tree {
    /// The parsed manifest files, as `fleet_lint::check_tree` takes them.
    pub(crate) files: BTreeMap<String, Arc<ParsedFile>>,
    /// Contents of those, to show lines of.
    pub(crate) texts: BTreeMap<String, Arc<str>>,
    /// Every file of the tree; `None` when only some were looked at.
    pub(crate) all_paths: Option<BTreeSet<String>>,
    /// The bytes of `.fleetlint.yaml` at the root.
    pub(crate) lint_config: Option<Vec<u8>>,
    /// The tree's root, as people see it; of a revision, what stands before the path.
    pub(crate) shown_root: PathBuf,
    /// What was left out and why, for standard error.
    pub(crate) remarks: Vec<String>,
    entries: BTreeMap<String, Entry>,
    origin: Origin,
    bytes: usize,
}

/// A file of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub(crate) mode: EntryMode,
    /// Its contents' id, in a revision.
    blob: Option<ObjectId>,
}

/// Where contents come from.
enum Origin {
    /// Single files.
    Singles,
    /// A directory.
    Checkout(PathBuf),
    /// A commit.
    Commit(Rc<LocalRepository>, CommitId),
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("root", &self.shown_root)
            .field("files", &self.entries.len())
            .finish_non_exhaustive()
    }
}

/// Reads a directory for people who name one: a repository, or a part of the one that `root` names. With `revision` the
/// files are those of that revision of the repository around the directory, not those on disk.
///
/// # Errors
/// What cannot be read, with its name.
pub(crate) fn load(dir: &Path, root: Option<&Path>, revision: Option<&str>) -> anyhow::Result<Tree> {
    let Some(revision) = revision else { return checkout::load_part(dir, root) };
    let repo = LocalRepository::discover(root.unwrap_or(dir))?;
    let below = repo.below_root(dir)?;
    let commit = repo.resolve(revision)?;
    load_commit(&Rc::new(repo), &commit, &below, None)
}

/// Reads the files of a checkout whose root is `root`; manifests are read below `below` only. Files that `reuse` knows with
/// the same contents are not parsed again.
///
/// # Errors
/// What cannot be read, with its name; a path that is not there.
pub(crate) fn load_checkout(root: &Path, below: &str, reuse: Option<&Tree>) -> anyhow::Result<Tree> {
    checkout::load(root, &normalized(below)?, reuse)
}

/// Reads the files of a commit; manifests are read below `below` only. Files that `reuse` knows with the same contents are
/// not parsed again.
///
/// # Errors
/// What cannot be read, with its name; a path that is not there.
pub(crate) fn load_commit(
    repo: &Rc<LocalRepository>,
    commit: &CommitId,
    below: &str,
    reuse: Option<&Tree>,
) -> anyhow::Result<Tree> {
    revision::load(repo, commit, &normalized(below)?, reuse)
}

impl Tree {
    fn new(origin: Origin, shown_root: PathBuf) -> Self {
        Self {
            files: BTreeMap::new(),
            texts: BTreeMap::new(),
            all_paths: None,
            lint_config: None,
            shown_root,
            remarks: Vec::new(),
            entries: BTreeMap::new(),
            origin,
            bytes: 0,
        }
    }

    /// The files at or below a path, in the order of their paths.
    pub(crate) fn entries_below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, Entry)> {
        let range = self.entries.range::<str, _>((std::ops::Bound::Included(path), std::ops::Bound::Unbounded));
        range
            .take_while(move |(file, _)| file.starts_with(path))
            .filter(move |(file, _)| is_at_or_below(file, path))
            .map(|(file, entry)| (file.as_str(), *entry))
    }

    /// The contents of a regular file of at most `limit` bytes. A symbolic link that took its place meanwhile is refused.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn content(&self, path: &str, limit: u64) -> Result<Vec<u8>, String> {
        let entry = self.entries.get(path).ok_or_else(|| format!("there is no file {path}"))?;
        match (&self.origin, entry.blob) {
            (Origin::Commit(repo, _), Some(blob)) => {
                repo.read_blob(blob, limit).map_err(|error| format!("{path}: {error}"))
            }
            (Origin::Checkout(root), _) => {
                checkout::read(&root.join(path), limit).map_err(|why| format!("{path} {why}"))
            }
            (Origin::Singles | Origin::Commit(..), _) => Err(format!("{path} cannot be read")),
        }
    }

    /// The commit, when the tree is that of one.
    pub(crate) fn commit(&self) -> Option<&CommitId> {
        match &self.origin {
            Origin::Commit(_, commit) => Some(commit),
            Origin::Checkout(_) | Origin::Singles => None,
        }
    }

    /// A file's path for people: below the directory, or the revision, that they named.
    pub(crate) fn shown(&self, file: &str) -> String {
        match &self.origin {
            Origin::Commit(..) => file.to_owned(),
            Origin::Checkout(_) | Origin::Singles => shown(&self.shown_root, file),
        }
    }

    /// Takes one manifest file in.
    fn add_file(&mut self, path: &str, bytes: Vec<u8>, reuse: Option<&Self>) -> anyhow::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_TOTAL_BYTES {
            bail!("the manifests together have more than {MAX_TOTAL_BYTES} bytes (reached at {path})");
        }
        let known = reuse.and_then(|tree| tree.files.get(path).zip(tree.texts.get(path)));
        if let Some((file, text)) = known.filter(|(_, text)| text.as_bytes() == bytes) {
            self.files.insert(path.to_owned(), Arc::clone(file));
            self.texts.insert(path.to_owned(), Arc::clone(text));
            return Ok(());
        }
        self.files.insert(path.to_owned(), Arc::new(parse_file(path, &bytes)));
        if let Ok(text) = String::from_utf8(bytes) {
            self.texts.insert(path.to_owned(), Arc::from(text));
        }
        Ok(())
    }

    /// The manifest files at or below a path, without those that are no regular files: these are remarked upon.
    fn candidates(&mut self, below: &str) -> Vec<(String, Entry)> {
        let mut found = Vec::new();
        let mut remarks = Vec::new();
        for (path, entry) in self.entries_below(below).filter(|(path, _)| is_candidate(path)) {
            match entry.mode {
                EntryMode::File | EntryMode::Executable => found.push((path.to_owned(), entry)),
                EntryMode::Symlink => remarks.push(format!("{path} is a symbolic link; it is not followed")),
                EntryMode::Submodule => {}
            }
        }
        self.remarks.append(&mut remarks);
        found
    }

    fn load_config(&mut self) -> anyhow::Result<()> {
        let regular = |entry: &&Entry| matches!(entry.mode, EntryMode::File | EntryMode::Executable);
        if self.entries.get(CONFIG_FILE).as_ref().is_some_and(regular) {
            let bytes = self.content(CONFIG_FILE, MAX_CONFIG_BYTES).map_err(anyhow::Error::msg)?;
            self.lint_config = Some(bytes);
        }
        Ok(())
    }
}

/// Whether `file` is `path` or lies below it.
pub(crate) fn is_at_or_below(file: &str, path: &str) -> bool {
    path.is_empty() || file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path inside a repository without outer slashes and `.`.
fn normalized(path: &str) -> anyhow::Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || path.contains('\0') {
        bail!("the path {path:?} leads out of the repository");
    }
    Ok(parts.join("/"))
}

fn utf8(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_owned())
}

fn shown(root: &Path, file: &str) -> String {
    let path = root.join(file);
    let mut short = PathBuf::new();
    for component in path.components() {
        // `fleets/..` says nothing; `../..` does.
        if component == Component::ParentDir && matches!(short.components().next_back(), Some(Component::Normal(_))) {
            short.pop();
        } else if component != Component::CurDir {
            short.push(component);
        }
    }
    if short.as_os_str().is_empty() { ".".to_owned() } else { short.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_the_user_would_write_them() {
        assert_eq!(shown(Path::new("."), "a/b.yaml"), "a/b.yaml");
        assert_eq!(shown(Path::new("./repo"), "b.yaml"), "repo/b.yaml");
        assert_eq!(shown(Path::new("./.."), "b.yaml"), "../b.yaml");
        assert_eq!(shown(Path::new("repo/fleets/.."), "fleets/b.yaml"), "repo/fleets/b.yaml");
    }

    #[test]
    fn paths_inside_a_repository_stay_inside() {
        assert_eq!(normalized("/a//./b/").unwrap(), "a/b");
        assert_eq!(normalized(".").unwrap(), "");
        assert!(normalized("a/../..").is_err());
    }

    #[test]
    fn a_checkout_and_its_commit_give_the_same_tree() {
        let repo = fleet_test::GitRepo::init();
        repo.write("fleets/a.yaml", "kind: Fleet\n").write("other/b.yaml", "x").write("fleets/c/run", "x");
        repo.write(".fleetlint.yaml", "rules: {}\n").write("fleets-not/d.yaml", "y");
        std::os::unix::fs::symlink("a.yaml", repo.path().join("fleets/link.yaml")).unwrap();
        repo.commit("one");
        let local = Rc::new(LocalRepository::discover(repo.path()).unwrap());
        let commit = local.resolve("HEAD").unwrap();
        let committed = load_commit(&local, &commit, "fleets", None).unwrap();
        let lying = load_checkout(repo.path(), "fleets", Some(&committed)).unwrap();
        for tree in [&committed, &lying] {
            assert_eq!(tree.files.keys().collect::<Vec<_>>(), ["fleets/a.yaml"]);
            assert_eq!(tree.remarks, ["fleets/link.yaml is a symbolic link; it is not followed"]);
            assert_eq!(tree.lint_config.as_deref(), Some(&b"rules: {}\n"[..]));
            assert_eq!(tree.content("fleets/c/run", 9).unwrap(), b"x");
            assert!(tree.content("fleets/c/run", 0).is_err());
        }
        assert!(Arc::ptr_eq(&committed.files["fleets/a.yaml"], &lying.files["fleets/a.yaml"]), "parsed once");
        assert_eq!(committed.all_paths, lying.all_paths);
        assert_eq!(committed.entries.len(), 6);
        let from_below = load(&repo.path().join("fleets"), None, Some("HEAD")).unwrap();
        assert_eq!(from_below.files.keys().collect::<Vec<_>>(), ["fleets/a.yaml"]);
        for missing in ["flets", "fleets/a"] {
            assert!(load_commit(&local, &commit, missing, None).is_err(), "{missing}");
            assert!(load_checkout(repo.path(), missing, None).is_err(), "{missing}");
        }
    }

    #[test]
    fn a_repository_inside_is_not_looked_into() {
        let repo = fleet_test::GitRepo::init();
        repo.write("a.yaml", "x").write("inner/b.yaml", "y").commit("one");
        repo.git(&["init", "--quiet", "inner"]);
        let tree = load_checkout(repo.path(), "", None).unwrap();
        assert_eq!(tree.files.keys().collect::<Vec<_>>(), ["a.yaml"]);
        assert_eq!(tree.remarks, ["inner is a repository of its own; it is not looked into"]);
    }
}
