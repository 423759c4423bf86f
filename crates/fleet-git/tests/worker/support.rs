//! What the tests share: a pool, a mirror in a temporary directory, shorthand.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleet_git::{Limits, ObjectId, Remote, WorkerCommand, WorkerPool};
use fleet_model::CommitId;
use fleet_test::GitRepo;

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_fleet-git-worker");

pub(crate) fn pool() -> WorkerPool {
    WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), Limits::default())
}

pub(crate) fn impatient_pool(no_progress: Duration, total: Duration) -> WorkerPool {
    let limits = Limits { no_progress, total, max_workers: 1, ..Limits::default() };
    WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), limits)
}

/// A worker that notes its process id before it starts.
pub(crate) fn pool_with_pid_file(file: &Path) -> WorkerPool {
    let script = format!("echo $$ > '{}'; exec '{WORKER}'", file.display());
    WorkerPool::new(WorkerCommand::new("/bin/sh", ["-c", &script]), Limits::default())
}

/// A place for a mirror.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        self.directory.path().join("mirror.git")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

pub(crate) fn id(text: &str) -> CommitId {
    text.parse().unwrap()
}

pub(crate) fn local(repo: &GitRepo) -> Remote {
    Remote::anonymous(repo.path().to_str().unwrap())
}

/// The raw content of a blob, by the git program.
pub(crate) fn cat_file(repo: &GitRepo, oid: ObjectId) -> Vec<u8> {
    let output =
        Command::new("git").args(["cat-file", "blob", &oid.to_string()]).current_dir(repo.path()).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The pack files of a mirror.
pub(crate) fn packs(mirror: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(mirror.join("objects/pack")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "pack")).collect()
}
