//! A disk that fails at the n-th change, in one of several ways, for tests.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use super::{Disk, EntryKind, Owner, RealDisk, Space, Stat};
use crate::path::FilePath;

/// How the n-th change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power goes before it.
    Cut,
    /// The power goes before it, and entries of directories that were not synced are as they were.
    CutLosingEntries,
    /// The power goes in the middle: a file holds half of its contents.
    Torn,
    /// It fails with EIO; later ones work.
    Eio,
    /// It fails with ENOSPC; later ones work.
    Enospc,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::Cut, Self::CutLosingEntries, Self::Torn, Self::Eio, Self::Enospc];
}

#[derive(Debug)]
enum Was {
    Nothing,
    File(Vec<u8>, u32),
    Link(String),
    /// An empty directory.
    Directory,
    /// A directory that has this name now.
    MovedTo(FilePath),
}

#[derive(Debug, Default)]
struct Inner {
    changes: usize,
    dead: bool,
    reads: usize,
    /// Directory, path and what was there, for entries that are not durable yet.
    undo: Vec<(Option<FilePath>, FilePath, Was)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultDisk {
    real: RealDisk,
    at: usize,
    fault: Fault,
    room: Option<u64>,
    inner: Mutex<Inner>,
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

impl FaultDisk {
    pub(crate) fn open(root: &Path, at: usize, fault: Fault) -> Self {
        Self { real: RealDisk::open(root).unwrap(), at, fault, room: None, inner: Mutex::default() }
    }

    /// With so many bytes free.
    pub(crate) fn with_room(mut self, bytes: u64) -> Self {
        self.room = Some(bytes);
        self
    }

    /// How many files were read.
    pub(crate) fn reads(&self) -> usize {
        self.inner.lock().unwrap().reads
    }

    /// Whether there were as many changes as it takes.
    pub(crate) fn has_struck(&self) -> bool {
        self.inner.lock().unwrap().changes > self.at
    }

    fn alive(&self) -> io::Result<()> {
        if self.inner.lock().unwrap().dead { Err(dead()) } else { Ok(()) }
    }

    fn snapshot(&self, path: &FilePath) -> io::Result<Was> {
        Ok(match self.real.stat(path)? {
            Some(stat) if stat.kind == EntryKind::File => {
                Was::File(self.real.read(path, u64::MAX - 1)?.unwrap_or_default(), stat.mode)
            }
            Some(stat) if stat.kind == EntryKind::Symlink => Was::Link(self.real.read_link(path)?),
            _ => Was::Nothing,
        })
    }

    fn change(&self, touched: &[&FilePath], torn: impl FnOnce(&RealDisk)) -> io::Result<()> {
        self.alive()?;
        let mut inner = self.inner.lock().unwrap();
        let strikes = inner.changes == self.at;
        inner.changes += 1;
        if !strikes {
            for path in touched {
                let was = self.snapshot(path)?;
                inner.undo.push((path.parent(), (*path).clone(), was));
            }
            return Ok(());
        }
        match self.fault {
            Fault::Eio => return Err(io::Error::from_raw_os_error(5)),
            Fault::Enospc => return Err(io::Error::from_raw_os_error(28)),
            Fault::Cut => {}
            Fault::Torn => torn(&self.real),
            Fault::CutLosingEntries => {
                for (_, path, was) in inner.undo.drain(..).rev() {
                    match was {
                        Was::Nothing => assert!(self.real.remove(&path).is_ok()),
                        Was::File(bytes, mode) => self.real.write(&path, &bytes, mode, None).unwrap(),
                        Was::Link(target) => self.real.symlink(&path, &target).unwrap(),
                        Was::Directory => self.real.create_dirs(&path, 0o755).unwrap(),
                        Was::MovedTo(to) => self.real.rename(&to, &path).unwrap(),
                    }
                }
            }
        }
        inner.dead = true;
        Err(dead())
    }
}

impl Disk for FaultDisk {
    fn read(&self, path: &FilePath, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.alive()?;
        self.inner.lock().unwrap().reads += 1;
        self.real.read(path, limit)
    }
    fn stat(&self, path: &FilePath) -> io::Result<Option<Stat>> {
        self.alive()?;
        self.real.stat(path)
    }
    fn read_link(&self, path: &FilePath) -> io::Result<String> {
        self.alive()?;
        self.real.read_link(path)
    }
    fn list(&self, path: &FilePath) -> io::Result<Vec<String>> {
        self.alive()?;
        self.real.list(path)
    }
    fn space(&self, path: &FilePath) -> io::Result<Space> {
        self.alive()?;
        let space = self.real.space(path)?;
        Ok(Space { free: self.room.unwrap_or(space.free), ..space })
    }
    fn may_chown(&self) -> bool {
        self.real.may_chown()
    }
    fn create_dirs(&self, path: &FilePath, mode: u32) -> io::Result<()> {
        self.alive()?;
        if self.real.stat(path)?.is_none() {
            self.change(&[], |_| {})?;
        }
        self.real.create_dirs(path, mode)
    }
    fn write(&self, path: &FilePath, bytes: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
        self.change(&[path], |real| real.write(path, &bytes[..bytes.len() / 2], 0o600, None).unwrap())?;
        self.real.write(path, bytes, mode, owner)
    }
    fn symlink(&self, path: &FilePath, target: &str) -> io::Result<()> {
        self.change(&[path], |_| {})?;
        self.real.symlink(path, target)
    }
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let torn = |real: &RealDisk| real.rename(from, to).unwrap();
        if self.real.stat(from)?.is_some_and(|stat| stat.kind == EntryKind::Directory) {
            self.change(&[], torn)?;
            self.inner.lock().unwrap().undo.push((from.parent(), from.clone(), Was::MovedTo(to.clone())));
        } else {
            self.change(&[from, to], torn)?;
        }
        self.real.rename(from, to)
    }
    fn remove_dir(&self, path: &FilePath) -> io::Result<bool> {
        self.change(&[], |real| assert!(real.remove_dir(path).is_ok()))?;
        let removed = self.real.remove_dir(path)?;
        if removed {
            self.inner.lock().unwrap().undo.push((path.parent(), path.clone(), Was::Directory));
        }
        Ok(removed)
    }
    fn remove(&self, path: &FilePath) -> io::Result<bool> {
        self.change(&[path], |real| assert!(real.remove(path).is_ok()))?;
        self.real.remove(path)
    }
    fn sync_dir(&self, path: Option<&FilePath>) -> io::Result<()> {
        self.change(&[], |_| {})?;
        self.inner.lock().unwrap().undo.retain(|(directory, _, _)| directory.as_ref() != path);
        self.real.sync_dir(path)
    }
}
