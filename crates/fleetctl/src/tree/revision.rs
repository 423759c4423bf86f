//! Trees from a commit of a local repository.

use std::path::PathBuf;
use std::rc::Rc;

use fleet_git::local::LocalRepository;
use fleet_git::{EntryMode, GitError, GitErrorKind};
use fleet_model::CommitId;

use super::{Entry, Origin, Tree, is_at_or_below};

/// The largest manifest file that is handed to lint, which refuses all above its own, smaller limit with a finding.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a commit.
pub(super) fn load(
    repo: &Rc<LocalRepository>,
    commit: &CommitId,
    below: &str,
    reuse: Option<&Tree>,
) -> anyhow::Result<Tree> {
    let mut tree = entries_only(repo, commit)?;
    let is_file_above = |file: &str| !below.is_empty() && is_at_or_below(below, file) && file != below;
    if !below.is_empty() && tree.entries_below(below).next().is_none() {
        let why = if tree.entries.keys().any(|file| is_file_above(file)) {
            "a file stands in its way"
        } else {
            "see git ls-tree"
        };
        let message = format!("commit {} has no path {below:?} ({why})", commit.short());
        return Err(GitError::new(GitErrorKind::PathMissing, message).into());
    }
    for (path, entry) in tree.candidates(below) {
        let Some(blob) = entry.blob.filter(|_| entry.mode != EntryMode::Submodule) else { continue };
        let bytes = match reuse.and_then(|known| known.entries.get(&path)?.blob).filter(|known| *known == blob) {
            Some(_) => reuse.and_then(|known| known.texts.get(&path)).map(|text| text.as_bytes().to_vec()),
            None => None,
        };
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => repo.read_blob(blob, MAX_BYTES).map_err(|error| anyhow::anyhow!("{path}: {error}"))?,
        };
        tree.add_file(&path, bytes, reuse)?;
    }
    tree.load_config()?;
    tree.all_paths = Some(tree.entries.keys().cloned().collect());
    Ok(tree)
}

/// The files of a commit, without reading any.
pub(super) fn entries_only(repo: &Rc<LocalRepository>, commit: &CommitId) -> Result<Tree, GitError> {
    let mut tree = Tree::new(Origin::Commit(Rc::clone(repo), commit.clone()), PathBuf::new());
    for entry in repo.list_tree(commit)? {
        tree.entries.insert(entry.path, Entry { mode: entry.mode, blob: Some(entry.oid) });
    }
    Ok(tree)
}
