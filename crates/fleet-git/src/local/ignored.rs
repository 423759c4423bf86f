//! Which files of a checkout Git leaves alone: what `.gitignore` files and `.git/info/exclude` name, unless it is tracked.
//! The person's own `core.excludesFile` is not looked at: everybody gets the same answer.

use std::fmt;

use gix::bstr::ByteSlice as _;
use gix::index::entry::Mode;
use gix::worktree::stack::state::ignore::Source;

use super::LocalRepository;
use crate::error::GitError;
use crate::worker::classify;

/// Answers for one checkout. Ask in the order of a walk: what is known of a directory is kept while it is walked.
pub struct Ignored<'a> {
    stack: gix::AttributeStack<'a>,
    index: gix::worktree::IndexPersistedOrInMemory,
    shown: &'a str,
}

impl fmt::Debug for Ignored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ignored").field("repository", &self.shown).finish_non_exhaustive()
    }
}

impl LocalRepository {
    /// What Git ignores in the checkout; `None` of a bare repository.
    ///
    /// # Errors
    /// `Corrupt` or `Other` when the index or the exclude files cannot be read.
    pub fn ignored(&self) -> Result<Option<Ignored<'_>>, GitError> {
        if self.workdir().is_none() {
            return Ok(None);
        }
        let index = self
            .repo
            .index_or_empty()
            .map_err(|error| classify::local(&error, &format!("read the index of {}", self.shown)))?;
        let stack = self
            .repo
            .excludes(&index, None, Source::WorktreeThenIdMappingIfNotSkipped)
            .map_err(|error| classify::local(&error, &format!("read what {} ignores", self.shown)))?;
        Ok(Some(Ignored { stack, index: index.into(), shown: &self.shown }))
    }
}

impl Ignored<'_> {
    /// Whether Git ignores a file or directory. `path` counts from the root of the checkout, `/` between the parts. A
    /// directory that holds tracked files is not ignored, though other files in it may be.
    ///
    /// # Errors
    /// `Other` when a `.gitignore` cannot be read.
    pub fn is_ignored(&mut self, path: &str, is_directory: bool) -> Result<bool, GitError> {
        let is_tracked = self.index.entry_by_path(path.as_bytes().as_bstr()).is_some()
            || (is_directory && self.index.prefixed_entries_range(format!("{path}/").as_bytes().as_bstr()).is_some());
        if is_tracked {
            return Ok(false);
        }
        let mode = if is_directory { Mode::DIR } else { Mode::FILE };
        let platform = self.stack.at_path(path, Some(mode)).map_err(|error| {
            classify::local(&error, &format!("tell whether {} ignores {}", self.shown, path.escape_debug()))
        })?;
        Ok(platform.is_excluded())
    }
}
