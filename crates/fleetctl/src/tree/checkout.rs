//! Trees from a directory, as it lies there: with what is not committed, without what Git ignores.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use fleet_git::EntryMode;
use fleet_git::local::{Ignored, LocalRepository};
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
    // Outside Git nothing is ignored.
    let repo = LocalRepository::discover(&outer).ok();
    if repo.as_ref().is_some_and(|repo| repo.workdir().is_none()) {
        bail!("{} lies in a bare repository, which has no checkout; name a revision: --rev REV", root.display());
    }
    let ignored = match &repo {
        Some(repo) => ignored(repo, &outer)?,
        None => None,
    };
    Walk { tree: &mut tree, root: &outer, ignored }.directory("", 0)?;
    if !below.is_empty() && !outer.join(below).is_dir() && tree.entries_below(below).next().is_none() {
        bail!("there is no {below} in {}; paths count from the root of the repository", root.display());
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

/// What Git ignores below `root`, and where `root` lies in the checkout. None when it lies in what is ignored itself: who
/// names such a directory means it.
fn ignored<'a>(repo: &'a LocalRepository, root: &Path) -> anyhow::Result<Option<(Ignored<'a>, String)>> {
    let Some(mut ignored) = repo.ignored()? else { return Ok(None) };
    let below = repo.below_root(root)?;
    if !below.is_empty() && ignored.is_ignored(&below, true)? {
        return Ok(None);
    }
    let before = if below.is_empty() { below } else { format!("{below}/") };
    Ok(Some((ignored, before)))
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

/// Collects files. Symbolic links are listed, not followed; repositories inside are listed as the submodules they would be.
struct Walk<'a> {
    tree: &'a mut Tree,
    root: &'a Path,
    /// What Git ignores, and what stands before a path to count it from the root of Git's checkout.
    ignored: Option<(Ignored<'a>, String)>,
}

impl Walk<'_> {
    fn directory(&mut self, relative: &str, depth: usize) -> anyhow::Result<()> {
        if depth > MAX_DEPTH {
            bail!("{}: directories are nested deeper than {MAX_DEPTH}", self.root.join(relative).display());
        }
        let dir = self.root.join(relative);
        let failed = || format!("cannot read directory {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let name = entry.file_name();
            if name == ".git" {
                continue;
            }
            let Some(name) = name.to_str() else {
                bail!("{}: the name is not UTF-8; rename or remove the file", entry.path().display());
            };
            let path = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            let kind = entry.file_type().with_context(failed)?;
            if let Some((ignored, before)) = &mut self.ignored
                && ignored.is_ignored(&format!("{before}{path}"), kind.is_dir())?
            {
                continue;
            }
            let mode = if kind.is_dir() {
                if !entry.path().join(".git").exists() {
                    self.directory(&path, depth + 1)?;
                    continue;
                }
                self.tree.remarks.push(format!("{path} is a repository of its own; it is not looked into"));
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
            self.tree.entries.insert(path, Entry { mode, blob: None });
            if self.tree.entries.len() > MAX_FILES {
                bail!("{}: more than {MAX_FILES} files", self.root.display());
            }
        }
        Ok(())
    }
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
