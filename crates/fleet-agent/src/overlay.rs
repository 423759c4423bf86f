//! The files of a release on the device: make them so, put them back, notice when they are not.
//!
//! [`converge`] is the only thing that changes managed files. It may be cut off anywhere and run again: new contents
//! are complete on the medium before the first file changes, each file changes in one step, and files leave last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use fleet_model::Digest;

use crate::disk::{Disk, EntryKind, Owner, Stat};
use crate::failure::{Component, Failure, Phase};
use crate::owners::Owners;
use crate::path::FilePath;
use crate::paths;
use crate::state::{ManagedFile, Original};

/// The largest file that is kept, managed or overwritten.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;

/// What a path should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    /// A file with contents that are kept in `kept`.
    File { digest: Digest, kept: FilePath, mode: u32, owner: Option<Owner> },
    /// A symbolic link.
    Link(String),
    /// Nothing.
    Absent,
}

/// Where contents with a digest are kept.
pub(crate) fn kept_at(directory: &FilePath, digest: &Digest) -> FilePath {
    directory.join(&digest.hex())
}

fn failure_at(phase: Phase, path: &FilePath, error: &io::Error) -> Failure {
    Failure::of_io(phase, Component::Config, path.as_str(), error)
}

fn goal_of(file: &ManagedFile, owners: &Owners, phase: Phase) -> Result<Goal, Failure> {
    let owner = owners
        .resolve(&file.user, &file.group)
        .map_err(|reason| Failure::new(phase, Component::Config, file.path.as_str(), reason))?;
    let kept = kept_at(&paths::store_dir(), &file.digest);
    Ok(Goal::File { digest: file.digest, kept, mode: file.mode, owner })
}

fn goal_of_original(disk: &dyn Disk, original: &Original) -> Goal {
    match original {
        Original::Absent => Goal::Absent,
        Original::Symlink { target } => Goal::Link(target.clone()),
        Original::File { digest, mode, uid, gid } => Goal::File {
            digest: *digest,
            kept: kept_at(&paths::saved_dir(), digest),
            mode: *mode,
            owner: disk.may_chown().then_some(Owner { uid: *uid, gid: *gid }),
        },
    }
}

fn looks_like(stat: &Stat, mode: u32, owner: Option<Owner>) -> bool {
    stat.kind == EntryKind::File
        && stat.mode == mode
        && owner.is_none_or(|owner| (owner.uid, owner.gid) == (stat.uid, stat.gid))
}

fn is_reached(disk: &dyn Disk, path: &FilePath, goal: &Goal) -> io::Result<bool> {
    let stat = disk.stat(path)?;
    Ok(match (goal, stat) {
        (Goal::Absent, None) => true,
        // A directory that took the place of a file that is to go is not ours to remove.
        (Goal::Absent, Some(stat)) => stat.kind == EntryKind::Directory,
        (Goal::Link(target), Some(stat)) => stat.kind == EntryKind::Symlink && disk.read_link(path)? == *target,
        (Goal::File { digest, mode, owner, .. }, Some(stat)) => {
            looks_like(&stat, *mode, *owner)
                && stat.size <= MAX_FILE_BYTES
                && disk.read(path, MAX_FILE_BYTES)?.is_some_and(|bytes| Digest::of(&bytes) == *digest)
        }
        (Goal::Link(_) | Goal::File { .. }, None) => false,
    })
}

/// Makes the device hold `target` and, where `others` names further paths, what was there before they were managed.
/// Returns the paths that changed.
pub(crate) fn converge(
    disk: &dyn Disk,
    target: &[ManagedFile],
    others: &[ManagedFile],
    phase: Phase,
) -> Result<Vec<FilePath>, Failure> {
    let owners = Owners::read(disk).map_err(|e| failure_at(phase, &FilePath::own("/etc/passwd"), &e))?;
    let mut goals: BTreeMap<&FilePath, Goal> = BTreeMap::new();
    for file in others {
        goals.insert(&file.path, goal_of_original(disk, &file.original));
    }
    for file in target {
        goals.insert(&file.path, goal_of(file, &owners, phase)?);
    }
    let mut open = Vec::new();
    for (path, goal) in goals {
        // Whatever an interrupted run left beside the path.
        let stale = path.temporary();
        if disk.stat(&stale).map_err(|e| failure_at(phase, path, &e))?.is_some() {
            disk.remove(&stale).map_err(|e| failure_at(phase, path, &e))?;
        }
        if !is_reached(disk, path, &goal).map_err(|e| failure_at(phase, path, &e))? {
            open.push((path, goal));
        }
    }
    let written = write_beside(disk, &open, phase);
    if let Err(failure) = written {
        for (path, _) in &open {
            // Best effort: the next run looks for these again.
            let _ = disk.remove(&path.temporary());
        }
        return Err(failure);
    }
    put_in_place(disk, &open, phase)?;
    Ok(open.into_iter().map(|(path, _)| path.clone()).collect())
}

fn write_beside(disk: &dyn Disk, open: &[(&FilePath, Goal)], phase: Phase) -> Result<(), Failure> {
    for (path, goal) in open {
        let at = |error: io::Error| failure_at(phase, path, &error);
        if !matches!(goal, Goal::Absent) {
            if let Some(parent) = path.parent() {
                disk.create_dirs(&parent, 0o755).map_err(at)?;
            }
            if disk.stat(path).map_err(at)?.is_some_and(|stat| stat.kind == EntryKind::Directory) {
                return Err(Failure::new(phase, Component::Config, path.as_str(), "a directory is in its place"));
            }
        }
        match goal {
            Goal::Absent => {}
            Goal::Link(target) => disk.symlink(&path.temporary(), target).map_err(at)?,
            Goal::File { digest, kept, mode, owner } => {
                let bytes = disk.read(kept, MAX_FILE_BYTES).map_err(at)?.filter(|bytes| Digest::of(bytes) == *digest);
                let Some(bytes) = bytes else {
                    return Err(Failure::new(
                        phase,
                        Component::State,
                        path.as_str(),
                        format!("{kept} is missing or damaged"),
                    ));
                };
                disk.write(&path.temporary(), &bytes, *mode, *owner).map_err(at)?;
            }
        }
    }
    Ok(())
}

fn put_in_place(disk: &dyn Disk, open: &[(&FilePath, Goal)], phase: Phase) -> Result<(), Failure> {
    let (leaving, coming): (Vec<_>, Vec<_>) = open.iter().partition(|(_, goal)| matches!(goal, Goal::Absent));
    for (path, _) in &coming {
        disk.rename(&path.temporary(), path).map_err(|e| failure_at(phase, path, &e))?;
    }
    sync_parents(disk, &coming, phase)?;
    for (path, _) in &leaving {
        disk.remove(path).map_err(|e| failure_at(phase, path, &e))?;
    }
    sync_parents(disk, &leaving, phase)
}

fn sync_parents(disk: &dyn Disk, changed: &[&(&FilePath, Goal)], phase: Phase) -> Result<(), Failure> {
    let parents: BTreeSet<Option<FilePath>> = changed.iter().map(|(path, _)| path.parent()).collect();
    for parent in parents {
        let element = parent.clone().unwrap_or_else(|| FilePath::own("/"));
        disk.sync_dir(parent.as_ref()).map_err(|e| failure_at(phase, &element, &e))?;
    }
    Ok(())
}

/// Paths of `files` that are not what they should be. `known` holds what the file system said of files that were found
/// good; they are not read again while it says the same.
pub(crate) fn drifted<'a>(
    disk: &dyn Disk,
    files: &'a [ManagedFile],
    known: &mut crate::drift::Known,
) -> Result<Vec<&'a ManagedFile>, Failure> {
    let phase = Phase::ApplyingUpdate;
    let mut owners = None;
    let mut found = Vec::new();
    for file in files {
        let at = |error: io::Error| failure_at(phase, &file.path, &error);
        let stat = disk.stat(&file.path).map_err(at)?;
        if stat.is_some_and(|stat| known.is_good(&file.path, &file.digest, &stat)) {
            continue;
        }
        let names = match owners.take() {
            Some(names) => names,
            None => Owners::read(disk).map_err(|e| failure_at(phase, &FilePath::own("/etc/passwd"), &e))?,
        };
        let goal = goal_of(file, owners.insert(names), phase)?;
        if is_reached(disk, &file.path, &goal).map_err(at)? {
            if let Some(stat) = stat {
                known.found_good(&file.path, &file.digest, stat);
            }
        } else {
            known.forget(&file.path);
            found.push(file);
        }
    }
    Ok(found)
}
