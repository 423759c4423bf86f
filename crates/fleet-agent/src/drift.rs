//! What the file system said of files when they were last found good, so that idle checks read nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fleet_model::Digest;

use crate::disk::Stat;
use crate::path::FilePath;

/// Two writes closer than this may carry the same time stamps.
const STAMP_GRAIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Entry {
    stat: Stat,
    digest: Digest,
    first_seen: Instant,
    /// Read at a time when a later write must carry another time stamp.
    trusted: bool,
}

/// Files that were found good.
#[derive(Debug, Default)]
pub(crate) struct Known {
    entries: HashMap<FilePath, Entry>,
}

impl Known {
    /// Whether the file was found good with these contents and nothing was written since.
    pub(crate) fn is_good(&self, path: &FilePath, digest: &Digest, stat: &Stat) -> bool {
        self.entries.get(path).is_some_and(|e| e.trusted && e.digest == *digest && e.stat == *stat)
    }

    /// The file was read and found good; `stat` was taken before.
    pub(crate) fn found_good(&mut self, path: &FilePath, digest: &Digest, stat: Stat) {
        match self.entries.get_mut(path) {
            Some(entry) if entry.stat == stat && entry.digest == *digest => {
                entry.trusted = entry.first_seen.elapsed() >= STAMP_GRAIN;
            }
            _ => {
                let entry = Entry { stat, digest: *digest, first_seen: Instant::now(), trusted: false };
                self.entries.insert(path.clone(), entry);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn trust(&mut self, path: &FilePath, digest: &Digest, stat: Stat) {
        let entry = Entry { stat, digest: *digest, first_seen: Instant::now(), trusted: true };
        self.entries.insert(path.clone(), entry);
    }

    /// The file is not as it was.
    pub(crate) fn forget(&mut self, path: &FilePath) {
        self.entries.remove(path);
    }

    /// Keeps only what is still managed.
    pub(crate) fn retain(&mut self, keep: impl Fn(&FilePath) -> bool) {
        self.entries.retain(|path, _| keep(path));
    }
}
