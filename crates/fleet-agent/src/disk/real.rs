//! The disk of the machine, beneath one root directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::{Disk, EntryKind, Owner, Space, Stat};
use crate::path::FilePath;

/// The real disk. Below the root `/`, links are followed as always; below any other root, a link may only lead to
/// places beneath it.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
    resolve: ResolveFlags,
    superuser: bool,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl RealDisk {
    /// Opens the directory that every path is taken to be below.
    ///
    /// # Errors
    /// When `root` is not a directory that can be opened.
    pub fn open(root: &Path) -> io::Result<Self> {
        let descriptor = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
        let place = if super::is_system_root(root) { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        let superuser = rustix::process::geteuid().is_root();
        Ok(Self { root: descriptor, resolve: place.union(ResolveFlags::NO_MAGICLINKS), superuser })
    }

    /// Takes a lock on a file, which is created if need be, until the returned descriptor is closed. `None` when
    /// another process has it.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn try_lock(&self, path: &FilePath) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.parent(path)?, path.name(), flags, Mode::RUSR | Mode::WUSR)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_below(&self, relative: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let relative = if relative.is_empty() { "." } else { relative };
        // A rename elsewhere can make the kernel give up on a safe walk; it then asks to be called again.
        for _ in 0..64 {
            match rustix::fs::openat2(&self.root, relative, flags, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => return self.open_by_component(relative, flags),
                Err(Errno::XDEV | Errno::LOOP) => return Err(leaves_root(relative)),
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// For kernels without `openat2`: no symbolic link is followed at all.
    fn open_by_component(&self, relative: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        let mut components = relative.split('/').filter(|c| *c != ".").peekable();
        while let Some(component) = components.next() {
            let flags = if components.peek().is_some() { DIRECTORY } else { flags };
            at = match rustix::fs::openat(&at, component, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::LOOP) => return Err(leaves_root(relative)),
                other => other?,
            };
        }
        Ok(at)
    }

    fn directory(&self, path: Option<&FilePath>) -> io::Result<OwnedFd> {
        self.open_below(path.map_or("", |p| p.relative()), DIRECTORY)
    }

    fn parent(&self, path: &FilePath) -> io::Result<OwnedFd> {
        self.directory(path.parent().as_ref())
    }

    fn unlink_if_there(directory: &OwnedFd, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn leaves_root(relative: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("/{relative} leads out of the root directory through a symbolic link"),
    )
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &FilePath, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // Not blocking on a pipe that somebody put in a file's place.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Some(descriptor) = absent(self.open_below(path.relative(), flags))? else { return Ok(None) };
        let file = File::from(descriptor);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    fn stat(&self, path: &FilePath) -> io::Result<Option<Stat>> {
        let parent = match self.parent(path) {
            // Below a file there is nothing.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            other => absent(other)?,
        };
        let Some(parent) = parent else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&parent, path.name(), flags, Mode::empty()).map_err(io::Error::from);
        let Some(descriptor) = absent(opened)? else { return Ok(None) };
        let meta = File::from(descriptor).metadata()?;
        let what = meta.file_type();
        let kind = if what.is_file() {
            EntryKind::File
        } else if what.is_dir() {
            EntryKind::Directory
        } else if what.is_symlink() {
            EntryKind::Symlink
        } else {
            debug_assert!(what.is_fifo() || what.is_socket() || what.is_block_device() || what.is_char_device());
            EntryKind::Other
        };
        Ok(Some(Stat {
            kind,
            size: meta.len(),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            device: meta.dev(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }))
    }

    fn read_link(&self, path: &FilePath) -> io::Result<String> {
        let target = rustix::fs::readlinkat(self.parent(path)?, path.name(), Vec::new())?;
        target
            .into_string()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("the target of link {path} is not UTF-8")))
    }

    fn list(&self, path: &FilePath) -> io::Result<Vec<String>> {
        let Some(directory) = absent(self.directory(Some(path)))? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn space(&self, path: &FilePath) -> io::Result<Space> {
        let mut at = path.parent();
        loop {
            match absent(self.directory(at.as_ref()))? {
                Some(directory) => {
                    let room = rustix::fs::fstatvfs(&directory)?;
                    let device = File::from(directory).metadata()?.dev();
                    return Ok(Space { device, free: room.f_bavail.saturating_mul(room.f_frsize) });
                }
                None => at = at.and_then(|p| p.parent()),
            }
        }
    }

    fn may_chown(&self) -> bool {
        self.superuser
    }

    fn create_dirs(&self, path: &FilePath, mode: u32) -> io::Result<()> {
        if absent(self.directory(Some(path)))?.is_some() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dirs(&parent, mode)?;
        }
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, path.name(), Mode::from_raw_mode(mode)) {
            Ok(()) => {
                // The mode as asked for, whatever the umask.
                let made = rustix::fs::openat(&parent, path.name(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
                rustix::fs::fsync(&parent)?;
                Ok(())
            }
            // Either it came into being just now, or a link that leads nowhere has the name; the walk tells.
            Err(Errno::EXIST) => self.directory(Some(path)).map(drop),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write(&self, path: &FilePath, bytes: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
        let parent = self.parent(path)?;
        Self::unlink_if_there(&parent, path.name())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent, path.name(), flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes)?;
        if let Some(owner) = owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        }
        // After the owner: giving a file away clears setuid and setgid.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        file.sync_all()
    }

    fn symlink(&self, path: &FilePath, target: &str) -> io::Result<()> {
        let parent = self.parent(path)?;
        Self::unlink_if_there(&parent, path.name())?;
        rustix::fs::symlinkat(target, &parent, path.name())?;
        Ok(())
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let source = self.parent(from)?;
        if from.parent() == to.parent() {
            rustix::fs::renameat(&source, from.name(), &source, to.name())?;
        } else {
            rustix::fs::renameat(&source, from.name(), self.parent(to)?, to.name())?;
        }
        Ok(())
    }

    fn remove(&self, path: &FilePath) -> io::Result<bool> {
        match absent(self.parent(path))? {
            Some(parent) => Self::unlink_if_there(&parent, path.name()),
            None => Ok(false),
        }
    }

    fn remove_dir(&self, path: &FilePath) -> io::Result<bool> {
        let Some(parent) = absent(self.parent(path))? else { return Ok(false) };
        match rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_dir(&self, path: Option<&FilePath>) -> io::Result<()> {
        match absent(self.directory(path))? {
            Some(directory) => Ok(rustix::fs::fsync(&directory)?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> FilePath {
        FilePath::parse(path).unwrap()
    }

    #[test]
    fn a_link_out_of_the_root_is_refused_and_one_below_it_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("escape")).unwrap();
        std::os::unix::fs::symlink("../..", root.path().join("up")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("alias")).unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        for path in ["/escape/file", "/up/file"] {
            let error = disk.write(&at(path), b"x", 0o644, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}: {error}");
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        disk.write(&at("/alias/file"), b"x", 0o640, None).unwrap();
        assert_eq!(std::fs::read(root.path().join("real/file")).unwrap(), b"x");
        assert_eq!(disk.stat(&at("/real/file")).unwrap().unwrap().mode, 0o640);
        let walked = disk.open_by_component("alias/file", OFlags::RDONLY | OFlags::CLOEXEC).unwrap_err();
        assert!(walked.kind() == io::ErrorKind::InvalidInput || walked.raw_os_error().is_some(), "{walked}");
    }

    #[test]
    fn a_write_takes_the_place_of_a_link_and_not_of_its_target() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("target"), b"keep").unwrap();
        std::os::unix::fs::symlink("target", root.path().join("link")).unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        replace_and_check(&disk);
        assert_eq!(std::fs::read(root.path().join("target")).unwrap(), b"keep");
        assert_eq!(disk.stat(&at("/link")).unwrap().unwrap().kind, EntryKind::File);
        assert!(disk.read(&at("/missing/file"), 10).unwrap().is_none());
        assert_eq!(disk.read(&at("/target"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    fn replace_and_check(disk: &RealDisk) {
        super::super::replace(disk, &at("/link"), b"new", 0o600, 0o755).unwrap();
        super::super::replace(disk, &at("/a/b/c"), b"deep", 0o600, 0o755).unwrap();
        assert_eq!(disk.list(&at("/a/b")).unwrap(), ["c"]);
        assert!(disk.space(&at("/a/x/y")).unwrap().free > 0);
    }
}
