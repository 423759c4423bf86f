//! Files of a repository at one commit, as a fleet revision pins them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fleet_model::Digest;

use super::paths::{self, PathProblem, PathReason};

/// Stands for a secret content wherever a digest is taken: a keyed digest, so that nobody without the key can compare a
/// guess. It is not shown itself: what others see is derived from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal([u8; 32]);

impl Seal {
    /// A keyed digest of a content.
    pub fn new(keyed: [u8; 32]) -> Self {
        Self(keyed)
    }

    /// The keyed digest, to be stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest that people may see. It does not lead back to the seal.
    pub fn shown(&self) -> Digest {
        Digest::of(&[b"shorebase sealed content\0".as_slice(), &self.0].concat())
    }
}

/// A seal does not print.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A file at a fixed commit.
#[derive(Clone, PartialEq, Eq)]
pub struct PinnedFile {
    /// Relative to the repository's root: `deploy/etc/motd`.
    pub path: String,
    /// Unix permission bits: 0o644 or 0o755.
    pub mode: u32,
    /// The contents.
    pub content: Arc<[u8]>,
    /// For a secret content: what stands for it in digests.
    pub seal: Option<Seal>,
}

impl PinnedFile {
    /// The digest of the contents; of secret ones that of their seal.
    pub fn digest(&self) -> Digest {
        self.seal.map_or_else(|| Digest::of(&self.content), |seal| seal.shown())
    }
}

/// Without the contents, which may be secret.
impl fmt::Debug for PinnedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode, content, seal } = self;
        f.debug_struct("PinnedFile")
            .field("path", path)
            .field("mode", mode)
            .field("bytes", &content.len())
            .field("secret", &seal.is_some())
            .finish()
    }
}

/// Files at a fixed commit, sorted by path, each path once. May be a part of the commit's tree: what lies at or below a
/// [literal prefix](super::literal_prefix).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinnedTree {
    files: Vec<PinnedFile>,
}

/// The pinned files of providers whose files lie elsewhere, by the provider's name. Where placeholders decide what a
/// device gets, there is one tree for each value of them, see [`InputValue`](super::InputValue).
#[derive(Debug, Clone, Default)]
pub struct PinnedInputs(BTreeMap<String, PinnedTrees>);

/// The trees of one provider by value; `None` where no placeholder decides.
pub(super) type PinnedTrees = BTreeMap<Option<String>, PinnedTree>;

impl PinnedInputs {
    /// Nothing is pinned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the files of a provider that are the same for every device.
    pub fn insert(&mut self, provider: String, tree: PinnedTree) {
        self.insert_value(provider, None, tree);
    }

    /// Adds the files that devices with this value get; without a value as [`PinnedInputs::insert`].
    pub fn insert_value(&mut self, provider: String, value: Option<String>, tree: PinnedTree) {
        self.0.entry(provider).or_default().insert(value, tree);
    }

    pub(super) fn take(&mut self, provider: &str) -> PinnedTrees {
        self.0.remove(provider).unwrap_or_default()
    }
}

impl FromIterator<(String, PinnedTree)> for PinnedInputs {
    fn from_iter<I: IntoIterator<Item = (String, PinnedTree)>>(trees: I) -> Self {
        let mut pinned = Self::new();
        trees.into_iter().for_each(|(provider, tree)| pinned.insert(provider, tree));
        pinned
    }
}

impl PinnedTree {
    /// Takes the files in any order.
    ///
    /// # Errors
    /// A path that is not relative and clean, occurs twice, or has permission bits beyond 0o7777.
    pub fn new(mut files: Vec<PinnedFile>) -> Result<Self, PathProblem> {
        files.sort_by(|left, right| left.path.cmp(&right.path));
        for (index, file) in files.iter().enumerate() {
            let reason = if file.mode > 0o7777 {
                Some(PathReason::Mode(file.mode))
            } else if index > 0 && files[index - 1].path == file.path {
                Some(PathReason::Twice)
            } else if file.path.is_empty() || paths::normalise(&file.path)? != file.path {
                Some(PathReason::NotClean)
            } else {
                None
            };
            if let Some(reason) = reason {
                return Err(PathProblem::repository(&file.path, reason));
            }
        }
        Ok(Self { files })
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[PinnedFile] {
        &self.files
    }

    /// The files that a normalised path selects, each with its path on the device: a directory is laid over `/`, a
    /// file lands at `/<its name>`. Empty when the tree has nothing there.
    pub(super) fn select<'t>(&'t self, path: &str) -> impl Iterator<Item = (String, usize, &'t PinnedFile)> {
        let first = self.files.partition_point(|file| file.path.as_str() < path);
        let exact = self.files.get(first).filter(|file| file.path == path).map(|file| {
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            (format!("/{name}"), first, file)
        });
        let directory = if path.is_empty() { String::new() } else { format!("{path}/") };
        let start = self.files.partition_point(|file| file.path.as_str() < directory.as_str());
        let below = self.files[start..].iter().enumerate().map_while(move |(offset, file)| {
            file.path.strip_prefix(&directory).map(|relative| (format!("/{relative}"), start + offset, file))
        });
        exact.into_iter().chain(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Result<PinnedTree, PathProblem> {
        let file = |path: &&str| PinnedFile {
            path: (*path).to_owned(),
            mode: 0o644,
            content: Arc::from(&b""[..]),
            seal: None,
        };
        PinnedTree::new(paths.iter().map(file).collect())
    }

    fn selected(tree: &PinnedTree, path: &str) -> Vec<String> {
        tree.select(path).map(|(path, ..)| path).collect()
    }

    #[test]
    fn a_directory_is_laid_over_the_root_and_a_file_keeps_its_name() {
        let tree = tree(&["a/etc/x", "a/etc/y/z", "a-b/q", "a/etc.conf", "top"]).unwrap();
        assert_eq!(selected(&tree, "a"), ["/etc.conf", "/etc/x", "/etc/y/z"]);
        assert_eq!(selected(&tree, "a/etc"), ["/x", "/y/z"]);
        assert_eq!(selected(&tree, "a/etc/y/z"), ["/z"]);
        assert_eq!(selected(&tree, "top"), ["/top"]);
        assert_eq!(selected(&tree, "").len(), 5);
        assert!(selected(&tree, "a/et").is_empty());
        assert!(selected(&tree, "b").is_empty());
    }

    #[test]
    fn unclean_and_repeated_paths_are_refused() {
        for bad in [&["../x"][..], &["/x"], &["a//b"], &["a/./b"], &["a", "a"], &[""]] {
            assert!(tree(bad).is_err(), "{bad:?}");
        }
    }
}
