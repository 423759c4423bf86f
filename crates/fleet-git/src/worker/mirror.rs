//! The mirror: a bare repository on disk that may be thrown away at any time.
//!
//! One fetch at a time owns a mirror (a lock on `<mirror>.guard`); reads need no lock, since packs only ever appear whole.
//! A fetch starts by removing what a killed worker left behind, and a damaged mirror is replaced by a fresh one in one rename.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gix::Repository;

use super::activity::Activity;
use super::classify;
use crate::error::{GitError, GitErrorKind};

/// More packs than this and the next fetch puts them together in a fresh mirror: one pack comes with every fetch.
pub(super) const MAX_PACKS: usize = 20;
const DAMAGE_MARK: &str = "shorebase-damaged";
const HASH_BYTES: i64 = 20;

/// Runs `work` on the mirror at `path`. When it meets damage, the next fetch will build the mirror anew.
///
/// # Errors
/// `Corrupt` when there is no usable mirror; those of `work`.
pub(super) fn read<T>(path: &Path, work: impl FnOnce(&Repository) -> Result<T, GitError>) -> Result<T, GitError> {
    if !path.join("HEAD").is_file() {
        return Err(GitError::corrupt(format!("there is no mirror at {}; fetch first", path.display())));
    }
    let opened = identity(path);
    let result = open(path).and_then(|repo| work(&repo));
    let is_damaged = matches!(&result, Err(error) if error.kind == GitErrorKind::Corrupt);
    // A fetch may have put another mirror in its place meanwhile, which is not to blame.
    if is_damaged && opened == identity(path) {
        // When even this cannot be written, the next fetch looks for damage by itself.
        let _ = fs::write(path.join(DAMAGE_MARK), b"");
    }
    result
}

/// Tells one mirror at a path from the next.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The right to change one mirror, until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    _file: fs::File,
}

impl Guard {
    /// Waits at most `patience` for other fetches into the same mirror.
    pub(super) fn take(mirror: &Path, patience: Duration, activity: &Activity) -> Result<Self, GitError> {
        let doing = format!("cannot lock the mirror {}", mirror.display());
        let broken = |why: String| GitError::other(format!("{doing}: {why}"));
        let (directory, name) = split(mirror)?;
        fs::create_dir_all(directory).map_err(|error| GitError::of_disk(&error, &doing))?;
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(format!("{name}.guard")))
            .map_err(|error| GitError::of_disk(&error, &doing))?;
        let started = Instant::now();
        loop {
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < patience => {
                    activity.moved(1);
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(broken("another fetch into it is still running".to_owned()));
                }
                Err(error) => return Err(broken(error.to_string())),
            }
        }
    }
}

/// What a fetch finds at a path.
#[derive(Debug)]
pub(super) enum Found {
    Absent,
    Usable(Box<Repository>),
    /// Good, but with more than [`MAX_PACKS`] packs.
    Crowded(Box<Repository>),
    /// Damaged; replace it.
    Worn(String),
}

/// Removes leftovers of killed workers around and inside the mirror, and opens it. The caller holds the guard.
pub(super) fn find(mirror: &Path) -> Result<Found, GitError> {
    let (directory, name) = split(mirror)?;
    remove_matching(directory, |file| {
        file.starts_with(&format!(".{name}.new-")) || file.starts_with(&format!(".{name}.old-"))
    });
    if fs::symlink_metadata(mirror).is_err() {
        return Ok(Found::Absent);
    }
    remove_matching(mirror, |file| file.ends_with(".lock"));
    remove_locks_below(&mirror.join("refs"), 8);
    remove_matching(&mirror.join("objects"), |file| file.starts_with(".tmp") || file.starts_with("tmp_"));
    remove_matching(&mirror.join("objects/pack"), |file| {
        file.starts_with(".tmp") || file.starts_with("tmp_") || file.ends_with(".lock") || file.ends_with(".keep")
    });
    if mirror.join(DAMAGE_MARK).exists() {
        return Ok(Found::Worn("the mirror is damaged, as a reader found".to_owned()));
    }
    match open(mirror) {
        Ok(repo) if packs(mirror).map_or(usize::MAX, |packs| packs.len()) <= MAX_PACKS => {
            Ok(Found::Usable(Box::new(repo)))
        }
        Ok(repo) => Ok(Found::Crowded(Box::new(repo))),
        Err(error) => Ok(Found::Worn(error.message)),
    }
}

/// A mirror that is being built beside the place it will take. Dropped without [`Fresh::install`], it is removed.
#[derive(Debug)]
pub(super) struct Fresh {
    directory: tempfile::TempDir,
    pub(super) repo: Repository,
}

impl Fresh {
    pub(super) fn create(mirror: &Path) -> Result<Self, GitError> {
        let (parent, name) = split(mirror)?;
        let doing = format!("create the mirror {}", mirror.display());
        let directory = tempfile::Builder::new()
            .prefix(&format!(".{name}.new-"))
            .tempdir_in(parent)
            .map_err(|error| GitError::of_disk(&error, &format!("cannot {doing}")))?;
        let repo = gix::ThreadSafeRepository::init_opts(
            directory.path(),
            gix::create::Kind::Bare,
            gix::create::Options::default(),
            options(),
        )
        .map_err(|error| match classify::local(&error, &doing) {
            full if full.kind == GitErrorKind::DiskFull => full,
            // There is nothing yet that could be damaged.
            other => GitError::other(other.message),
        })?
        .to_thread_local();
        Ok(Self { directory, repo })
    }

    /// Puts the new mirror in its place. Readers of the old one may see `Corrupt` once.
    pub(super) fn install(self, mirror: &Path) -> Result<(), GitError> {
        let (parent, name) = split(mirror)?;
        let broken = |error: std::io::Error| {
            GitError::of_disk(&error, &format!("cannot replace the mirror {}", mirror.display()))
        };
        drop(self.repo);
        // In one step where the file system can do that, so that there is always a mirror for readers.
        let (here, swap) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        if rustix::fs::renameat_with(here, self.directory.path(), here, mirror, swap).is_ok() {
            let old = self.directory.keep();
            // What cannot be removed now is removed before the next fetch. It need not be a directory.
            let _ = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
            return Ok(());
        }
        let grave = tempfile::Builder::new().prefix(&format!(".{name}.old-")).tempdir_in(parent).map_err(broken)?;
        match fs::rename(mirror, grave.path().join("mirror")) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(broken(error)),
        }
        fs::rename(self.directory.keep(), mirror).map_err(broken)
    }
}

fn options() -> gix::open::Options {
    gix::open::Options::isolated().open_path_as_is(true).config_overrides([
        // Reading 50,000 blobs takes 17 s with the default and 1.1 s with this.
        "core.deltaBaseCacheLimit=96m",
        "core.logAllRefUpdates=false",
        "gc.auto=0",
    ])
}

fn open(path: &Path) -> Result<Repository, GitError> {
    check_packs(path)?;
    let repo = options()
        .open(path)
        .map_err(|error| classify::local(&error, &format!("open the mirror {}", path.display())))?;
    let mut repo = repo.to_thread_local();
    repo.object_cache_size_if_unset(16 << 20);
    Ok(repo)
}

fn packs(mirror: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(mirror.join("objects/pack"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Compares the checksum at the end of each pack with the copy in its index: a truncated pack would kill this process with
/// SIGBUS as soon as it is read through the map.
fn check_packs(mirror: &Path) -> Result<(), GitError> {
    let damaged =
        |path: &Path, why: &str| GitError::corrupt(format!("the mirror is damaged: {} {why}", path.display()));
    for index in packs(mirror).map_err(|error| damaged(&mirror.join("objects/pack"), &error.to_string()))? {
        let pack = index.with_extension("pack");
        let (Ok(expected), Ok(found)) = (hash_before_end(&index, 2 * HASH_BYTES), hash_before_end(&pack, HASH_BYTES))
        else {
            return Err(damaged(&pack, "or its index cannot be read"));
        };
        if expected != found {
            return Err(damaged(&pack, "does not end as its index says"));
        }
    }
    Ok(())
}

fn hash_before_end(path: &Path, offset: i64) -> std::io::Result<[u8; 20]> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::End(-offset))?;
    let mut hash = [0; 20];
    file.read_exact(&mut hash)?;
    Ok(hash)
}

fn split(mirror: &Path) -> Result<(&Path, &str), GitError> {
    let parts = mirror.parent().zip(mirror.file_name().and_then(|name| name.to_str()));
    parts
        .filter(|(parent, _)| parent.is_absolute())
        .ok_or_else(|| GitError::other(format!("{} is not an absolute UTF-8 path of a mirror", mirror.display())))
}

/// Removes entries of one directory. What cannot be removed shows up as the error of whoever needs it gone.
fn remove_matching(directory: &Path, matches: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(&matches) {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
    }
}

fn remove_locks_below(directory: &Path, depth: usize) {
    remove_matching(directory, |file| file.ends_with(".lock"));
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_locks_below(&entry.path(), depth);
        }
    }
}
