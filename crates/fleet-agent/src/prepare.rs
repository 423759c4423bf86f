//! Before an update: is there room, and what has to be kept to be able to go there and back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use fleet_model::Digest;

use crate::disk::{Disk, EntryKind};
use crate::document::WantedFile;
use crate::failure::{Component, Failure, Phase, Recurrence};
use crate::overlay::{MAX_FILE_BYTES, kept_at};
use crate::owners::Owners;
use crate::path::FilePath;
use crate::paths;
use crate::state::{ManagedFile, Original};

/// What a file takes on the medium: whole blocks, and one more for its entry.
fn footprint(bytes: u64) -> u64 {
    bytes.div_ceil(4096).saturating_add(1).saturating_mul(4096)
}

fn at(path: &FilePath) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::of_io(Phase::Preparing, Component::Config, path.as_str(), &error)
}

fn refused(path: &FilePath, reason: impl Into<String>) -> Failure {
    Failure::new(Phase::Preparing, Component::Config, path.as_str(), reason)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Checks everything that can be checked without a change, makes sure of the room, and keeps new contents and
/// overwritten originals. On success the files are in order of their paths.
pub(crate) fn prepare(
    disk: &dyn Disk,
    wanted: &[WantedFile],
    current: &[ManagedFile],
    leftovers: &[ManagedFile],
) -> Result<Vec<ManagedFile>, Failure> {
    let managed: BTreeMap<&FilePath, &ManagedFile> =
        leftovers.iter().chain(current).map(|file| (&file.path, file)).collect();
    let leaving = Leaving::of(current, wanted);
    let mut places = BTreeMap::new();
    let owners = Owners::read(disk).map_err(at(&FilePath::own("/etc/passwd")))?;
    let mut files = Vec::with_capacity(wanted.len());
    let mut originals = BTreeMap::new();
    for file in wanted {
        owners.resolve(&file.user, &file.group).map_err(|reason| refused(&file.path, reason))?;
        if length(&file.content) > MAX_FILE_BYTES {
            return Err(refused(&file.path, format!("is larger than {MAX_FILE_BYTES} bytes")));
        }
        let original = match managed.get(&file.path) {
            Some(known) => known.original.clone(),
            None => match leaving.above(disk, &file.path)? {
                Some(place) => {
                    places.insert(&file.path, place);
                    Original::Absent
                }
                None if leaving.makes_way_for(disk, &file.path)? => Original::Absent,
                None => look_at_original(disk, &file.path, &mut originals)?,
            },
        };
        files.push(ManagedFile {
            path: file.path.clone(),
            digest: Digest::of(&file.content),
            size: length(&file.content),
            mode: file.mode,
            user: file.user.clone(),
            group: file.group.clone(),
            original,
        });
    }
    check_room(disk, &files, &managed, &originals, &places)?;
    let contents = files.iter().zip(wanted).map(|(file, wanted)| (file.digest, wanted.content.as_slice()));
    keep(disk, &paths::store_dir(), contents)?;
    keep(disk, &paths::saved_dir(), originals.iter().map(|(digest, bytes)| (*digest, bytes.as_slice())))?;
    Ok(files)
}

/// What is at a path that was not managed so far; contents go to `originals`.
fn look_at_original(
    disk: &dyn Disk,
    path: &FilePath,
    originals: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<Original, Failure> {
    let Some(stat) = disk.stat(path).map_err(at(path))? else { return Ok(Original::Absent) };
    match stat.kind {
        EntryKind::Symlink => Ok(Original::Symlink { target: disk.read_link(path).map_err(at(path))? }),
        EntryKind::Directory => Err(refused(path, "a directory is in its place")),
        EntryKind::Other => Err(refused(path, "something that is neither file nor link is in its place")),
        EntryKind::File if stat.size > MAX_FILE_BYTES => Err(refused(
            path,
            format!("the file in its place is larger than {MAX_FILE_BYTES} bytes, too large to keep"),
        )),
        EntryKind::File => {
            let bytes = disk.read(path, MAX_FILE_BYTES).map_err(at(path))?.unwrap_or_default();
            let digest = Digest::of(&bytes);
            originals.insert(digest, bytes);
            Ok(Original::File { digest, mode: stat.mode, uid: stat.uid, gid: stat.gid })
        }
    }
}

/// The files that are managed and are not wanted any longer.
struct Leaving<'a>(BTreeMap<&'a FilePath, &'a ManagedFile>);

impl<'a> Leaving<'a> {
    fn of(current: &'a [ManagedFile], wanted: &[WantedFile]) -> Self {
        let wanted: BTreeSet<&FilePath> = wanted.iter().map(|file| &file.path).collect();
        Self(current.iter().map(|file| (&file.path, file)).filter(|(path, _)| !wanted.contains(path)).collect())
    }

    /// The one that stands where a directory of `path` has to be.
    fn above(&self, disk: &dyn Disk, path: &FilePath) -> Result<Option<&'a FilePath>, Failure> {
        let mut up = path.parent();
        while let Some(directory) = up {
            if let Some(file) = self.0.get(&directory)
                && disk.stat(&directory).map_err(at(path))?.is_some_and(|stat| stat.kind != EntryKind::Directory)
            {
                return must_not_come_back(file, path).map(|()| Some(&file.path));
            }
            up = directory.parent();
        }
        Ok(None)
    }

    /// Whether `path` is a directory that will be gone once they are: it holds nothing else.
    fn makes_way_for(&self, disk: &dyn Disk, path: &FilePath) -> Result<bool, Failure> {
        let below = || self.0.values().filter(|file| file.path.is_within(path.as_str()));
        let is_directory = |at: &FilePath| Ok(disk.stat(at)?.is_some_and(|stat| stat.kind == EntryKind::Directory));
        if below().next().is_none() || !is_directory(path).map_err(at(path))? {
            return Ok(false);
        }
        let mut open = vec![path.clone()];
        while let Some(directory) = open.pop() {
            for name in disk.list(&directory).map_err(at(path))? {
                let entry = directory.join(&name);
                if self.0.contains_key(&entry) {
                    continue;
                }
                let holds_some = below().any(|file| file.path.is_within(entry.as_str()));
                if !holds_some || !is_directory(&entry).map_err(at(path))? {
                    return Ok(false);
                }
                open.push(entry);
            }
        }
        below().try_for_each(|file| must_not_come_back(file, path)).map(|()| true)
    }
}

/// What was at a path before cannot be put back where something else has to be. Once that path has left by itself, it
/// can come: so this is waited for.
fn must_not_come_back(file: &ManagedFile, path: &FilePath) -> Result<(), Failure> {
    if file.original == Original::Absent {
        return Ok(());
    }
    let reason = format!("is in the way of what was at {} before that was managed, and has to be put back", file.path);
    Err(refused(path, reason).that_is(Recurrence::Waiting))
}

/// Sums what will be written per file system and compares it with the room there.
fn check_room(
    disk: &dyn Disk,
    files: &[ManagedFile],
    managed: &BTreeMap<&FilePath, &ManagedFile>,
    originals: &BTreeMap<Digest, Vec<u8>>,
    places: &BTreeMap<&FilePath, &FilePath>,
) -> Result<(), Failure> {
    let mut needed: BTreeMap<u64, (u64, u64, FilePath)> = BTreeMap::new();
    let mut need = |path: &FilePath, bytes: u64| -> Result<(), Failure> {
        let space = disk.space(path).map_err(at(path))?;
        let entry = needed.entry(space.device).or_insert_with(|| (0, space.free, path.clone()));
        entry.0 = entry.0.saturating_add(bytes);
        Ok(())
    };
    // The state itself is written beside the old one.
    need(&paths::state_file(), 1 << 20)?;
    for file in files {
        let kept = kept_at(&paths::store_dir(), &file.digest);
        if disk.stat(&kept).map_err(at(&kept))?.is_none() {
            need(&kept, footprint(file.size))?;
        }
        if managed.get(&file.path).is_none_or(|known| known.digest != file.digest) {
            need(places.get(&file.path).unwrap_or(&&file.path), footprint(file.size))?;
        }
    }
    for bytes in originals.values() {
        need(&paths::state_file(), footprint(length(bytes)))?;
    }
    for (bytes, free, path) in needed.into_values() {
        if bytes > free {
            let reason =
                format!("needs {bytes} bytes on its file system, {free} are free: {} bytes short", bytes - free);
            let failure = Failure::new(Phase::Preparing, Component::Resources, path.as_str(), reason);
            return Err(failure.that_is(Recurrence::Waiting));
        }
    }
    Ok(())
}

/// Keeps contents under their digests. What is there already is read again, so that damage heals.
fn keep<'a>(
    disk: &dyn Disk,
    directory: &FilePath,
    contents: impl Iterator<Item = (Digest, &'a [u8])>,
) -> Result<(), Failure> {
    let mut wrote = false;
    for (digest, bytes) in contents {
        let path = kept_at(directory, &digest);
        let whole = |found: Vec<u8>| Digest::of(&found) == digest;
        if disk.read(&path, MAX_FILE_BYTES).ok().flatten().is_some_and(whole) {
            continue;
        }
        let write = || {
            disk.create_dirs(directory, 0o700)?;
            disk.write(&path.temporary(), bytes, 0o600, None)?;
            disk.rename(&path.temporary(), &path)
        };
        write().map_err(at(&path))?;
        wrote = true;
    }
    if wrote { disk.sync_dir(Some(directory)).map_err(at(directory)) } else { Ok(()) }
}
