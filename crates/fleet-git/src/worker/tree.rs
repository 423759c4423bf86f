//! Which files a commit has below a path, and which differ between two commits.

use std::collections::BTreeMap;

use fleet_model::CommitId;
use gix::Repository;
use gix::bstr::{BString, ByteSlice as _};
use gix::objs::tree::EntryKind;

use super::ancestry::gix_id;
use super::blobs::verify;
use super::classify;
use crate::error::{GitError, GitErrorKind};
use crate::object_id::ObjectId;
use crate::wire::{Change, ChangeKind, EntryMode, TreeEntry};

/// Directories nested deeper than this are refused: nobody writes them by hand.
const MAX_DEPTH: usize = 256;

/// All files below `path` ("" or "." is the root) in the order of their paths, or the one file at `path`.
pub(crate) fn list(
    repo: &Repository,
    commit: &CommitId,
    path: &str,
    max_entries: usize,
) -> Result<Vec<TreeEntry>, GitError> {
    let path = normalized(path)?;
    let node = node_at(repo, commit, &path)?.ok_or_else(|| path_missing(&path, commit))?;
    let mut walk = Walk { repo, commit, max_entries, entries: Vec::new() };
    walk.add(&path, node, 0)?;
    walk.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.entries)
}

/// All files at or below any of `paths`, in the order of their paths. Paths that are not there have none.
pub(super) fn list_places(
    repo: &Repository,
    commit: &CommitId,
    paths: &[String],
    max_entries: usize,
) -> Result<Vec<TreeEntry>, GitError> {
    let mut walk = Walk { repo, commit, max_entries, entries: Vec::new() };
    for (path, node) in nodes_at(repo, commit, paths)? {
        walk.add(&path, node, 0)?;
    }
    walk.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.entries)
}

/// The files at or below any of `paths` that differ from `from` to `to`, in the order of their paths, without rename
/// detection. Paths that are not there have no files.
pub(super) fn diff_places(
    repo: &Repository,
    from: &CommitId,
    to: &CommitId,
    paths: &[String],
    max_entries: usize,
) -> Result<Vec<Change>, GitError> {
    let (mut old, new) = (nodes_at(repo, from, paths)?, nodes_at(repo, to, paths)?);
    let mut difference = Difference { repo, commit: to, max_entries, changes: Vec::new() };
    for (path, node) in new {
        let before = old.remove(&path);
        difference.compare(&path, before, Some(node), 0)?;
    }
    for (path, node) in old {
        difference.compare(&path, Some(node), None, 0)?;
    }
    difference.changes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(difference.changes)
}

/// The files below `path` that differ from `from` to `to`, in the order of their paths, without rename detection. A path
/// that is missing in `from` counts as empty there.
///
/// # Errors
/// `PathMissing` when `path` is missing in `to`: whether that means deletion is not for this crate to say.
pub(crate) fn diff(
    repo: &Repository,
    from: &CommitId,
    to: &CommitId,
    path: &str,
    max_entries: usize,
) -> Result<Vec<Change>, GitError> {
    let path = normalized(path)?;
    let new = node_at(repo, to, &path)?.ok_or_else(|| path_missing(&path, to))?;
    let old = node_at(repo, from, &path)?;
    let mut difference = Difference { repo, commit: to, max_entries, changes: Vec::new() };
    difference.compare(&path, old, Some(new), 0)?;
    difference.changes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(difference.changes)
}

/// A tree entry without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    kind: EntryKind,
    id: gix::ObjectId,
}

impl Node {
    fn mode(self) -> Option<EntryMode> {
        match self.kind {
            EntryKind::Tree => None,
            EntryKind::Blob => Some(EntryMode::File),
            EntryKind::BlobExecutable => Some(EntryMode::Executable),
            EntryKind::Link => Some(EntryMode::Symlink),
            EntryKind::Commit => Some(EntryMode::Submodule),
        }
    }
}

struct Walk<'a> {
    repo: &'a Repository,
    commit: &'a CommitId,
    max_entries: usize,
    entries: Vec<TreeEntry>,
}

impl Walk<'_> {
    fn add(&mut self, path: &str, node: Node, depth: usize) -> Result<(), GitError> {
        let Some(mode) = node.mode() else {
            for (name, child) in children(self.repo, node.id, path, depth)? {
                self.add(&joined(path, &name, self.commit)?, child, depth + 1)?;
            }
            return Ok(());
        };
        if self.entries.len() >= self.max_entries {
            return Err(too_many(path, self.commit, self.max_entries));
        }
        self.entries.push(TreeEntry { path: path.to_owned(), mode, oid: ObjectId::from_gix(&node.id) });
        Ok(())
    }
}

struct Difference<'a> {
    repo: &'a Repository,
    commit: &'a CommitId,
    max_entries: usize,
    changes: Vec<Change>,
}

impl Difference<'_> {
    fn compare(&mut self, path: &str, old: Option<Node>, new: Option<Node>, depth: usize) -> Result<(), GitError> {
        if old == new {
            return Ok(());
        }
        let old_mode = old.and_then(Node::mode);
        match new.and_then(|node| node.mode().map(|mode| (node, mode))) {
            Some((node, mode)) => {
                let oid = ObjectId::from_gix(&node.id);
                let kind = if old_mode.is_some() {
                    ChangeKind::Modified { mode, oid }
                } else {
                    ChangeKind::Added { mode, oid }
                };
                self.push(path, kind)?;
            }
            None if old_mode.is_some() => self.push(path, ChangeKind::Deleted)?,
            None => {}
        }
        let mut pairs: BTreeMap<BString, (Option<Node>, Option<Node>)> = BTreeMap::new();
        for (name, child) in self.children_of(old, path, depth)? {
            pairs.entry(name).or_default().0 = Some(child);
        }
        for (name, child) in self.children_of(new, path, depth)? {
            pairs.entry(name).or_default().1 = Some(child);
        }
        for (name, (old, new)) in pairs {
            if old != new {
                self.compare(&joined(path, &name, self.commit)?, old, new, depth + 1)?;
            }
        }
        Ok(())
    }

    fn children_of(&self, node: Option<Node>, path: &str, depth: usize) -> Result<Vec<(BString, Node)>, GitError> {
        match node {
            Some(node) if node.mode().is_none() => children(self.repo, node.id, path, depth),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    fn push(&mut self, path: &str, kind: ChangeKind) -> Result<(), GitError> {
        if self.changes.len() >= self.max_entries {
            return Err(too_many(path, self.commit, self.max_entries));
        }
        self.changes.push(Change { path: path.to_owned(), kind });
        Ok(())
    }
}

fn children(
    repo: &Repository,
    tree: gix::ObjectId,
    path: &str,
    depth: usize,
) -> Result<Vec<(BString, Node)>, GitError> {
    if depth >= MAX_DEPTH {
        return Err(GitError::new(
            GitErrorKind::TooLarge,
            format!("{path:?} is nested deeper than {MAX_DEPTH} directories"),
        ));
    }
    let broken = |error: gix::Error| classify::local(&error, &format!("read the directory {path:?}"));
    let id = tree;
    let tree = repo.find_tree(id).map_err(broken)?;
    verify(gix::objs::Kind::Tree, &tree.data, &id)?;
    let decoded = tree.decode().map_err(broken)?;
    Ok(decoded
        .entries
        .iter()
        .map(|entry| (entry.filename.to_owned(), Node { kind: entry.mode.kind(), id: entry.oid.to_owned() }))
        .collect())
}

/// What is at those of `paths` that exist, however many there are; below a path that is one of them nothing is looked
/// up again.
fn nodes_at(repo: &Repository, commit: &CommitId, paths: &[String]) -> Result<BTreeMap<String, Node>, GitError> {
    let paths: Vec<String> = paths.iter().filter_map(|path| normalized(path).ok()).collect();
    let mut found = BTreeMap::new();
    let root = root_of(repo, commit)?;
    let wanted = paths.iter().map(String::as_str).collect();
    look_up(repo, "", root, wanted, 0, &mut found)?;
    Ok(found)
}

/// Looks up paths that count from `node`, which is at `at`.
fn look_up(
    repo: &Repository,
    at: &str,
    node: Node,
    wanted: Vec<&str>,
    depth: usize,
    found: &mut BTreeMap<String, Node>,
) -> Result<(), GitError> {
    if wanted.contains(&"") {
        found.insert(at.to_owned(), node);
        return Ok(());
    }
    if wanted.is_empty() || node.mode().is_some() {
        return Ok(());
    }
    let mut below: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
    for path in wanted {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        below.entry(first.as_bytes()).or_default().push(rest);
    }
    for (name, child) in children(repo, node.id, at, depth)? {
        let Some((name, rests)) = name.to_str().ok().zip(below.remove(name.as_bytes())) else { continue };
        let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
        look_up(repo, &path, child, rests, depth + 1, found)?;
    }
    Ok(())
}

/// The root directory of `commit`.
fn root_of(repo: &Repository, commit: &CommitId) -> Result<Node, GitError> {
    let id = gix_id(commit)?;
    if !repo.has_object(id) {
        return Err(GitError::new(
            GitErrorKind::RefMissing,
            format!("commit {commit} is not in the repository; fetch it first"),
        ));
    }
    let broken = |error: gix::Error| classify::local(&error, &format!("read commit {commit}"));
    let found = repo.find_commit(id).map_err(broken)?;
    verify(gix::objs::Kind::Commit, &found.data, &id)?;
    Ok(Node { kind: EntryKind::Tree, id: found.tree_id().map_err(broken)?.detach() })
}

/// The node at `path` in `commit`, if it exists.
fn node_at(repo: &Repository, commit: &CommitId, path: &str) -> Result<Option<Node>, GitError> {
    let mut node = root_of(repo, commit)?;
    for (depth, part) in path.split('/').filter(|part| !part.is_empty()).enumerate() {
        if node.mode().is_some() {
            return Ok(None);
        }
        let next = children(repo, node.id, path, depth)?.into_iter().find(|(name, _)| name == part);
        let Some((_, child)) = next else { return Ok(None) };
        node = child;
    }
    Ok(Some(node))
}

/// `path` without leading and trailing slashes and without `.`.
fn normalized(path: &str) -> Result<String, GitError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || path.contains('\0') {
        return Err(GitError::new(GitErrorKind::PathMissing, format!("the path {path:?} leads out of the repository")));
    }
    Ok(parts.join("/"))
}

fn joined(path: &str, name: &BString, commit: &CommitId) -> Result<String, GitError> {
    let name = name.to_str().map_err(|_| {
        let message = format!(
            "in commit {}, the name {name:?} in directory {path:?} is not UTF-8; rename the file",
            commit.short()
        );
        GitError::new(GitErrorKind::NotUtf8Path, message)
    })?;
    Ok(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") })
}

fn path_missing(path: &str, commit: &CommitId) -> GitError {
    GitError::new(GitErrorKind::PathMissing, format!("commit {} has no path {path:?}", commit.short()))
}

fn too_many(path: &str, commit: &CommitId, max: usize) -> GitError {
    let message = format!(
        "commit {} has more than {max} files to look at (stopped at {path:?}); sync a smaller path",
        commit.short()
    );
    GitError::new(GitErrorKind::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_root_and_stay_inside() {
        assert_eq!(normalized("/a//b/./c/").as_deref(), Ok("a/b/c"));
        assert_eq!(normalized(".").as_deref(), Ok(""));
        assert_eq!(normalized("a/../b").map_err(|e| e.kind), Err(GitErrorKind::PathMissing));
    }
}
