//! The files that a `gitRef` takes, in the service's own words where they cannot be used.

use std::sync::Arc;

use fleet_git::EntryMode;
use fleet_model::Digest;
use fleet_render::{PinnedFile, PinnedTree, tree_digest};

use super::Tree;

/// The largest file in a config directory, as in the service.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The most bytes one `gitRef` may bring, as in the service.
const MAX_INPUT_BYTES: u64 = 64 << 20;
/// How a file looks whose contents are kept elsewhere by Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Why a `gitRef` cannot be pinned.
#[derive(Debug, Clone)]
pub(super) enum Unusable {
    /// The tree itself is wrong.
    Wrong(String),
    /// Another repository is wrong, or is not here.
    Elsewhere(String),
}

/// The files of a `gitRef`, where they come from, and their digest.
pub(super) type Pinned = (PinnedTree, String, Digest);

/// Those of the tree itself.
///
/// # Errors
/// What is wrong with it.
pub(super) fn own_files(tree: &Tree, path: &str) -> Result<Pinned, Unusable> {
    let made = match tree.commit() {
        Some(commit) => files(tree, path, commit.short(), commit.as_str()),
        None => files(tree, path, "the checkout", "the checkout"),
    };
    made.map_err(Unusable::Wrong)
}

/// The files at or below a path, of a commit that is shown in short.
///
/// # Errors
/// A sentence that names the file.
pub(super) fn files(tree: &Tree, path: &str, shown: &str, commit: &str) -> Result<Pinned, String> {
    let mut files = Vec::new();
    let mut total = 0_u64;
    for (file, entry) in tree.entries_below(path) {
        let mode = match entry.mode {
            EntryMode::File => 0o644,
            EntryMode::Executable => 0o755,
            EntryMode::Symlink | EntryMode::Submodule => {
                let what = "is a symbolic link or a submodule; only regular files can be brought to devices";
                return Err(format!("{file} {what}"));
            }
        };
        let content = tree.content(file, MAX_FILE_BYTES)?;
        if content.starts_with(LFS_POINTER) {
            return Err(format!("{file} is a Git LFS pointer; its contents are not in the repository"));
        }
        total = total.saturating_add(u64::try_from(content.len()).unwrap_or(u64::MAX));
        if total > MAX_INPUT_BYTES {
            return Err(format!("the files together have more than {MAX_INPUT_BYTES} bytes (reached at {file})"));
        }
        files.push(PinnedFile { path: file.to_owned(), mode, content: Arc::from(content), seal: None });
    }
    if files.is_empty() {
        let at = if tree.commit().is_some() { format!("at commit {shown}") } else { format!("in {shown}") };
        return Err(format!("path {path:?} holds no file {at}"));
    }
    let pinned = PinnedTree::new(files).map_err(|problem| problem.to_string())?;
    let digest = tree_digest(&pinned);
    Ok((pinned, commit.to_owned(), digest))
}
