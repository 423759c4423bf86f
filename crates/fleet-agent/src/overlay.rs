//! The files of a release on the device: make them so, put them back, notice when they are not.
//!
//! A [`Run`] is the only thing that changes managed files. It may be cut off anywhere and run again: new contents are
//! complete on the medium before the first file changes, each file changes in one step, and files leave last. Only a
//! file that leaves where a directory has to be, or below where a file has to be, goes first.

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

impl Goal {
    fn is_coming(&self) -> bool {
        !self.is_leaving()
    }

    fn is_leaving(&self) -> bool {
        *self == Self::Absent
    }
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
/// Stops at the first failure; no file has changed if that came while contents were written. Returns the paths that
/// changed.
pub(crate) fn converge(
    disk: &dyn Disk,
    target: &[ManagedFile],
    others: &[ManagedFile],
    phase: Phase,
) -> Result<Vec<FilePath>, Failure> {
    let outcome = Run::new(disk, phase, true).carry_out(target, others);
    match outcome.failures.into_values().next() {
        Some(failure) => Err(failure),
        None => Ok(outcome.changed),
    }
}

/// The same file by file: what fails is left as it is and told, all else is done.
pub(crate) fn put_back(disk: &dyn Disk, target: &[ManagedFile], others: &[ManagedFile], phase: Phase) -> Outcome {
    Run::new(disk, phase, false).carry_out(target, others)
}

/// What became of each file that was not as it should be.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Changed to what they should be, in order.
    pub(crate) changed: Vec<FilePath>,
    /// Not changed, and why.
    pub(crate) failures: BTreeMap<FilePath, Failure>,
}

/// One run over the files of a release.
#[derive(Debug)]
struct Run<'a> {
    disk: &'a dyn Disk,
    phase: Phase,
    /// Whether the first failure ends it.
    strict: bool,
    goals: BTreeMap<FilePath, Goal>,
    /// Paths that are not as they should be and have not failed.
    open: BTreeSet<FilePath>,
    /// Files that were removed to make way for others.
    cleared: BTreeSet<FilePath>,
    failures: BTreeMap<FilePath, Failure>,
}

impl<'a> Run<'a> {
    fn new(disk: &'a dyn Disk, phase: Phase, strict: bool) -> Self {
        let (goals, open, cleared, failures) = Default::default();
        Self { disk, phase, strict, goals, open, cleared, failures }
    }

    fn carry_out(mut self, target: &[ManagedFile], others: &[ManagedFile]) -> Outcome {
        self.set_goals(target, others);
        self.look();
        self.clear_the_way();
        self.write_beside();
        if self.stopped() {
            for path in self.open.iter().chain(self.failures.keys()) {
                // Best effort: the next run looks for these again.
                let _ = self.disk.remove(&path.temporary());
            }
        } else {
            self.put_in_place();
        }
        let changed = self.open.union(&self.cleared).cloned().collect();
        Outcome { changed, failures: self.failures }
    }

    fn stopped(&self) -> bool {
        self.strict && !self.failures.is_empty()
    }

    fn fail(&mut self, path: &FilePath, failure: Failure) {
        self.open.remove(path);
        self.failures.insert(path.clone(), failure);
    }

    /// Does something for each of `paths` whose goal is wanted, until it is to stop.
    fn each(&mut self, wanted: fn(&Goal) -> bool, act: impl Fn(&Self, &FilePath, &Goal) -> Result<(), Failure>) {
        let paths: Vec<FilePath> = self.open.iter().cloned().collect();
        for path in paths {
            if self.stopped() {
                return;
            }
            let Some(goal) = self.goals.get(&path).filter(|goal| wanted(goal)) else { continue };
            if let Err(failure) = act(self, &path, goal) {
                self.fail(&path, failure);
            }
        }
    }

    fn set_goals(&mut self, target: &[ManagedFile], others: &[ManagedFile]) {
        for file in others {
            self.goals.insert(file.path.clone(), goal_of_original(self.disk, &file.original));
        }
        let owners = Owners::read(self.disk).map_err(|e| failure_at(self.phase, &FilePath::own("/etc/passwd"), &e));
        for file in target {
            let goal = owners.as_ref().map_err(Clone::clone).and_then(|owners| goal_of(file, owners, self.phase));
            match goal {
                Ok(goal) => drop(self.goals.insert(file.path.clone(), goal)),
                Err(failure) => {
                    self.goals.remove(&file.path);
                    self.fail(&file.path, failure);
                }
            }
        }
    }

    /// Finds what is not as it should be.
    fn look(&mut self) {
        self.open = self.goals.keys().cloned().collect();
        let mut reached = Vec::new();
        let (disk, phase) = (self.disk, self.phase);
        let inspect = |path: &FilePath, goal: &Goal| -> io::Result<bool> {
            // Whatever an interrupted run left beside the path.
            let stale = path.temporary();
            if disk.stat(&stale)?.is_some() {
                disk.remove(&stale)?;
            }
            is_reached(disk, path, goal)
        };
        let mut failed = Vec::new();
        for (path, goal) in &self.goals {
            if self.strict && !(failed.is_empty() && self.failures.is_empty()) {
                break;
            }
            match inspect(path, goal) {
                Ok(true) => reached.push(path.clone()),
                Ok(false) => {}
                Err(error) => failed.push((path.clone(), failure_at(phase, path, &error))),
            }
        }
        for path in reached {
            self.open.remove(&path);
        }
        for (path, failure) in failed {
            self.fail(&path, failure);
        }
    }

    /// Where a file becomes a directory or the reverse, what leaves has to go first.
    fn clear_the_way(&mut self) {
        let coming = self.open.iter().filter(|path| self.goals.get(path).is_some_and(Goal::is_coming));
        let coming: Vec<FilePath> = coming.cloned().collect();
        for path in coming {
            if self.stopped() {
                return;
            }
            if let Err(error) = self.clear_above(&path).and_then(|()| self.clear_below(&path)) {
                self.fail(&path, failure_at(self.phase, &path, &error));
            }
        }
    }

    /// Removes a file that leaves from where a directory has to be.
    fn clear_above(&mut self, path: &FilePath) -> io::Result<()> {
        let mut at = path.parent();
        while let Some(directory) = at {
            at = directory.parent();
            if self.goals.get(&directory) == Some(&Goal::Absent)
                && self.disk.stat(&directory)?.is_some_and(|stat| stat.kind != EntryKind::Directory)
            {
                self.disk.remove(&directory)?;
                self.open.remove(&directory);
                self.disk.sync_dir(at.as_ref())?;
                self.cleared.insert(directory);
            }
        }
        Ok(())
    }

    /// Removes a directory that held nothing but files that leave from where a file has to be.
    fn clear_below(&mut self, path: &FilePath) -> io::Result<()> {
        if self.disk.stat(path)?.is_none_or(|stat| stat.kind != EntryKind::Directory) {
            return Ok(());
        }
        let leaving = self.goals.iter().filter(|(file, goal)| **goal == Goal::Absent && file.is_within(path.as_str()));
        let leaving: Vec<FilePath> = leaving.map(|(file, _)| file.clone()).collect();
        let mut emptied = BTreeSet::new();
        for file in leaving {
            if self.disk.remove(&file)? {
                self.cleared.insert(file.clone());
            }
            self.open.remove(&file);
            let mut at = file.parent();
            while let Some(directory) = at.filter(|directory| directory.is_within(path.as_str())) {
                at = directory.parent();
                emptied.insert(directory);
            }
        }
        // The deepest come last in order.
        for directory in emptied.iter().rev() {
            self.disk.sync_dir(Some(directory))?;
            self.disk.remove_dir(directory)?;
        }
        if emptied.is_empty() { Ok(()) } else { self.disk.sync_dir(path.parent().as_ref()) }
    }

    fn write_beside(&mut self) {
        self.each(Goal::is_coming, |run, path, goal| {
            write_one(run.disk, path, goal, run.phase).inspect_err(|_| {
                // Best effort, as above.
                let _ = run.disk.remove(&path.temporary());
            })
        });
    }

    fn put_in_place(&mut self) {
        self.each(Goal::is_coming, |run, path, _| {
            run.disk.rename(&path.temporary(), path).map_err(|e| failure_at(run.phase, path, &e))
        });
        self.sync_parents(Goal::is_coming);
        self.each(Goal::is_leaving, |run, path, _| {
            run.disk.remove(path).map(drop).map_err(|e| failure_at(run.phase, path, &e))
        });
        self.sync_parents(Goal::is_leaving);
    }

    fn sync_parents(&mut self, of: fn(&Goal) -> bool) {
        let changed = self.open.iter().filter(|path| self.goals.get(path).is_some_and(of));
        let parents: BTreeSet<Option<FilePath>> = changed.map(FilePath::parent).collect();
        for parent in parents {
            if self.stopped() {
                return;
            }
            if let Err(error) = self.disk.sync_dir(parent.as_ref()) {
                let element = parent.unwrap_or_else(|| FilePath::own("/"));
                self.fail(&element, failure_at(self.phase, &element, &error));
            }
        }
    }
}

fn write_one(disk: &dyn Disk, path: &FilePath, goal: &Goal, phase: Phase) -> Result<(), Failure> {
    let at = |error: io::Error| failure_at(phase, path, &error);
    if let Some(parent) = path.parent() {
        disk.create_dirs(&parent, 0o755).map_err(at)?;
    }
    if disk.stat(path).map_err(at)?.is_some_and(|stat| stat.kind == EntryKind::Directory) {
        return Err(Failure::new(phase, Component::Config, path.as_str(), "a directory is in its place"));
    }
    match goal {
        Goal::Absent => Ok(()),
        Goal::Link(target) => disk.symlink(&path.temporary(), target).map_err(at),
        Goal::File { digest, kept, mode, owner } => {
            let bytes = disk.read(kept, MAX_FILE_BYTES).map_err(at)?.filter(|bytes| Digest::of(bytes) == *digest);
            let Some(bytes) = bytes else {
                let reason = format!("{kept} is missing or damaged");
                return Err(Failure::new(phase, Component::State, path.as_str(), reason));
            };
            disk.write(&path.temporary(), &bytes, *mode, *owner).map_err(at)
        }
    }
}

/// Which of `files` are not what they should be. `known` holds what the file system said of files that
/// were found good; they are not read again while it says the same. A file that cannot be looked at is a failure.
pub(crate) fn drifted<'a>(disk: &dyn Disk, files: &'a [ManagedFile], known: &mut crate::drift::Known) -> Drifted<'a> {
    let phase = Phase::ApplyingUpdate;
    let mut owners: Option<Owners> = None;
    let mut drifted = Drifted::default();
    for file in files {
        let mut look = || -> Result<bool, Failure> {
            let at = |error: io::Error| failure_at(phase, &file.path, &error);
            let stat = disk.stat(&file.path).map_err(at)?;
            if stat.is_some_and(|stat| known.is_good(&file.path, &file.digest, &stat)) {
                return Ok(true);
            }
            let names = match owners.take() {
                Some(names) => names,
                None => Owners::read(disk).map_err(|e| failure_at(phase, &FilePath::own("/etc/passwd"), &e))?,
            };
            let goal = goal_of(file, owners.insert(names), phase)?;
            let reached = is_reached(disk, &file.path, &goal).map_err(at)?;
            match stat {
                Some(stat) if reached => known.found_good(&file.path, &file.digest, stat),
                Some(_) | None => known.forget(&file.path),
            }
            Ok(reached)
        };
        match look() {
            Ok(true) => {}
            Ok(false) => drifted.files.push(file),
            Err(failure) => {
                known.forget(&file.path);
                drifted.failures.insert(file.path.clone(), failure);
            }
        }
    }
    drifted
}

/// What is not as it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drifted<'a> {
    /// To be put back.
    pub(crate) files: Vec<&'a ManagedFile>,
    /// Could not be looked at.
    pub(crate) failures: BTreeMap<FilePath, Failure>,
}
