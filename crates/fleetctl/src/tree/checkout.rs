//! Trees from a directory, as it lies there: with what is not committed, and what Git ignores.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use fleet_git::EntryMode;
use fleet_lint::MAX_FILE_BYTES;

use super::{Entry, MAX_FILES, Origin, Tree, utf8};

/// No directory lies deeper.
const MAX_DEPTH: usize = 64;

/// Reads `dir`: a repository, or a part of the one that `named_root` names.
pub(super) fn load_part(dir: &Path, named_root: Option<&Path>) -> anyhow::Result<Tree> {
    let root = named_root.unwrap_or(dir);
    let canonical = |path: &Path| fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()));
    let (inner, outer) = (canonical(dir)?, canonical(root)?);
    let Ok(below) = inner.strip_prefix(&outer) else {
        bail!("{} does not lie in {}, which --root names", dir.display(), root.display());
    };
    let mut tree = load(root, &utf8(below)?, None)?;
    let is_repository = |path: &Path| path.join(".git").exists();
    if let Some(above) = outer.ancestors().skip(1).find(|above| is_repository(above))
        && !is_repository(&outer)
        && named_root.is_none()
    {
        // Paths may count from the repository around it: nobody can tell whether they exist.
        tree.all_paths = None;
        tree.remarks.push(format!(
            "{} is a part of the repository {}: that the paths of gitRefs exist is not checked; name the root with --root",
            dir.display(),
            above.display()
        ));
    }
    Ok(tree)
}

/// Reads the checkout at `root`.
pub(super) fn load(root: &Path, below: &str, reuse: Option<&Tree>) -> anyhow::Result<Tree> {
    let outer = fs::canonicalize(root).with_context(|| format!("cannot read {}", root.display()))?;
    let mut tree = Tree::new(Origin::Checkout(outer.clone()), root.to_owned());
    walk(&mut tree, &outer, "", 0)?;
    if !below.is_empty() && !outer.join(below).is_dir() && tree.entries_below(below).next().is_none() {
        bail!("there is no {below} in {}", root.display());
    }
    for (path, _) in tree.candidates(below) {
        let file = outer.join(&path);
        let bytes = read_some(&file).with_context(|| format!("cannot read {}", file.display()))?;
        tree.add_file(&path, bytes, reuse)?;
    }
    tree.load_config()?;
    tree.all_paths = Some(tree.entries.keys().cloned().collect());
    Ok(tree)
}

/// Reads single files as one tree, under other names than those they are read from.
///
/// # Errors
/// The file that cannot be read.
pub(crate) fn load_named(files: &BTreeMap<String, PathBuf>) -> anyhow::Result<Tree> {
    let mut tree = Tree::new(Origin::Singles, PathBuf::new());
    for (name, path) in files {
        let bytes = read_some(path).with_context(|| format!("cannot read {}", path.display()))?;
        tree.add_file(name, bytes, None)?;
    }
    Ok(tree)
}

/// A tree of one file whose contents come from elsewhere.
///
/// # Errors
/// Contents that are too large to hold.
pub(crate) fn load_text(name: &str, bytes: Vec<u8>) -> anyhow::Result<Tree> {
    let mut tree = Tree::new(Origin::Singles, PathBuf::new());
    tree.add_file(name, bytes, None)?;
    Ok(tree)
}

/// Collects the files below `relative`. Symbolic links are listed, not followed; repositories inside are listed as the
/// submodules they would be.
fn walk(tree: &mut Tree, root: &Path, relative: &str, depth: usize) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: directories are nested deeper than {MAX_DEPTH}", root.join(relative).display());
    }
    let dir = root.join(relative);
    let failed = || format!("cannot read directory {}", dir.display());
    for entry in fs::read_dir(&dir).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        if name == ".git" {
            continue;
        }
        let name = name.to_str().with_context(|| format!("{}: the name is not UTF-8", entry.path().display()))?;
        let path = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
        let kind = entry.file_type().with_context(failed)?;
        let mode = if kind.is_dir() {
            if !entry.path().join(".git").exists() {
                walk(tree, root, &path, depth + 1)?;
                continue;
            }
            tree.remarks.push(format!("{path} is a repository of its own; it is not looked into"));
            EntryMode::Submodule
        } else if kind.is_symlink() {
            EntryMode::Symlink
        } else if kind.is_file() {
            // Git knows one bit: whether the owner may run it.
            let permissions = entry.metadata().with_context(failed)?.permissions();
            if permissions.mode() & 0o100 == 0 { EntryMode::File } else { EntryMode::Executable }
        } else {
            continue;
        };
        tree.entries.insert(path, Entry { mode, blob: None });
        if tree.entries.len() > MAX_FILES {
            bail!("{}: more than {MAX_FILES} files", root.display());
        }
    }
    Ok(())
}

/// One manifest file, and no more of it than the library looks at.
fn read_some(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A regular file of at most `limit` bytes; the error says what it is instead.
pub(super) fn read(file: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let open = fs::File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(file)
        .map_err(cannot)?;
    if !open.metadata().map_err(cannot)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    open.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(format!("has more than {limit} bytes"));
    }
    Ok(bytes)
}
