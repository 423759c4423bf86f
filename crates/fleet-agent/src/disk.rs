//! All file operations of the agent behind one trait, so that a test can fail each of them.
//!
//! Every operation opens its directory beneath the root in one kernel call and works relative to it: no symbolic link
//! leads out of the root, and none can be slipped in between a check and a use.

#[cfg(test)]
pub(crate) mod fault;
mod real;

use std::io;
use std::path::Path;

pub use real::RealDisk;

use crate::path::FilePath;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, not followed.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// What the file system says of an entry. Two equal values mean that nothing was written in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// File system.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Last change of contents: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Last change of contents or attributes: seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Which file system.
    pub device: u64,
    /// Bytes that can still be written.
    pub free: u64,
}

/// Owner and group of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The file operations that the agent needs. Errors are those of the operating system; one that came of a symbolic link
/// out of the root has the kind [`io::ErrorKind::InvalidInput`].
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// The whole file, at most `limit` bytes of it allowed; `None` when there is no such file. Follows links below the
    /// root.
    ///
    /// # Errors
    /// When it cannot be read, is not a regular file or is longer than `limit`.
    fn read(&self, path: &FilePath, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// What lies at `path`, the last component not followed; `None` when nothing does, not even its directory.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn stat(&self, path: &FilePath) -> io::Result<Option<Stat>>;
    /// Where a symbolic link points.
    ///
    /// # Errors
    /// When it cannot be read or is not a link.
    fn read_link(&self, path: &FilePath) -> io::Result<String>;
    /// Names in a directory; empty when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, path: &FilePath) -> io::Result<Vec<String>>;
    /// Room on the file system of the nearest existing parent of `path`.
    ///
    /// # Errors
    /// When it cannot be asked for.
    fn space(&self, path: &FilePath) -> io::Result<Space>;
    /// Whether files can be given away (the process is root).
    fn may_chown(&self) -> bool;

    /// Creates a directory and its missing parents, durably. Existing ones stay as they are.
    ///
    /// # Errors
    /// When one cannot be created.
    fn create_dirs(&self, path: &FilePath, mode: u32) -> io::Result<()>;
    /// Creates a file, in place of whatever had the name, with all its contents on the medium when this returns. The
    /// directory entry itself is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When it cannot be written; a part of it may be left behind.
    fn write(&self, path: &FilePath, bytes: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()>;
    /// Creates a symbolic link in place of whatever had the name.
    ///
    /// # Errors
    /// When it cannot be created.
    fn symlink(&self, path: &FilePath, target: &str) -> io::Result<()>;
    /// Moves a file over another one, or a directory to a free name, in one step.
    ///
    /// # Errors
    /// When it cannot be moved.
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()>;
    /// Removes a file or link. True when there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, path: &FilePath) -> io::Result<bool>;
    /// Removes an empty directory. True when there was one.
    ///
    /// # Errors
    /// When it is not empty, is no directory or cannot be removed.
    fn remove_dir(&self, path: &FilePath) -> io::Result<bool>;
    /// Makes creations, renames and removals in a directory (`None`: the root) durable.
    ///
    /// # Errors
    /// When the medium fails.
    fn sync_dir(&self, path: Option<&FilePath>) -> io::Result<()>;
}

/// Whether `root` is the root of the running system.
pub(crate) fn is_system_root(root: &Path) -> bool {
    root.canonicalize().is_ok_and(|canonical| canonical == Path::new("/"))
}

/// Replaces a file in one step and durably: written beside, synced, renamed, directory synced. Missing parents are
/// created with `dir_mode`.
///
/// # Errors
/// When any step fails; the old contents are then still in place.
pub(crate) fn replace(disk: &dyn Disk, path: &FilePath, bytes: &[u8], mode: u32, dir_mode: u32) -> io::Result<()> {
    let parent = path.parent();
    if let Some(parent) = &parent {
        disk.create_dirs(parent, dir_mode)?;
    }
    let temporary = path.temporary();
    disk.write(&temporary, bytes, mode, None)?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent.as_ref())
}
