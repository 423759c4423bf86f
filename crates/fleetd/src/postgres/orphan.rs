//! Stops the server that a killed service left behind, and nothing else.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing::{info, warn};

use super::{PostgresError, io_error};

/// What a server writes into `postmaster.pid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    /// Line 8 says `ready`: the server takes connections.
    pub(super) is_ready: bool,
}

impl PidFile {
    /// None when there is no file or no process id in it.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        let text = std::fs::read(cluster.join("postmaster.pid")).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let pid = text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        Some(Self { pid, is_ready: text.lines().nth(7).is_some_and(|state| state.trim() == "ready") })
    }
}

/// A process that is known to be the server of a cluster. The handle stays with that process: a signal never reaches
/// another one that got the same id later.
struct Postmaster {
    pid: i32,
    handle: OwnedFd,
    cluster: PathBuf,
}

impl Postmaster {
    fn find(cluster: &Path, pid: i32) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let found = Self { pid, handle, cluster: cluster.to_owned() };
        // Asked after the handle was opened, so the answer is about the process behind the handle.
        found.is_alive().then_some(found)
    }

    /// A server works in its data directory. A process that has ended, waited for or not, has no directory.
    fn is_alive(&self) -> bool {
        let works_here = std::fs::read_link(format!("/proc/{}/cwd", self.pid)).is_ok_and(|dir| dir == self.cluster);
        let is_server = std::fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|exe| {
            // A program replaced by an update reads `postgres (deleted)`.
            exe.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"postgres"))
        });
        works_here && is_server
    }

    async fn ends_within(&self, deadline: Duration) -> bool {
        let started = Instant::now();
        while self.is_alive() {
            if started.elapsed() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// Stops a server that still runs on this cluster; removes a pid file whose process is another program.
pub(super) async fn stop(cluster: &Path, deadline: Duration) -> Result<(), PostgresError> {
    let Some(PidFile { pid, .. }) = PidFile::read(cluster) else { return Ok(()) };
    let Some(server) = Postmaster::find(cluster, pid) else {
        // PostgreSQL itself refuses to start while any process has that id.
        let file = cluster.join("postmaster.pid");
        info!(pid, "Removing the pid file of a PostgreSQL server that is gone");
        return std::fs::remove_file(&file).map_err(io_error("removing", &file));
    };
    warn!(pid, "A PostgreSQL server of an earlier run still runs here; stopping it");
    for (signal, deadline) in [(Signal::INT, deadline), (Signal::QUIT, Duration::from_secs(20))] {
        if let Err(error) = pidfd_send_signal(&server.handle, signal) {
            warn!(pid, %error, "The PostgreSQL server of an earlier run takes no signal");
        }
        if server.ends_within(deadline).await {
            return Ok(());
        }
    }
    Err(PostgresError::OrphanStays { pid, dir: cluster.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files_are_read_at_every_stage_of_a_start() {
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("-3\n"), None);
        assert_eq!(PidFile::parse("nonsense"), None);
        assert_eq!(PidFile::parse("42\n/d\n1\n5432\n/s\n\n"), Some(PidFile { pid: 42, is_ready: false }));
        let starting = "42\n/d\n1\n5432\n/s\n\n  9 9\nstarting\n";
        assert_eq!(PidFile::parse(starting), Some(PidFile { pid: 42, is_ready: false }));
        let ready = "42\n/d\n1\n5432\n/s\n\n  9 9\nready   \n";
        assert_eq!(PidFile::parse(ready), Some(PidFile { pid: 42, is_ready: true }));
    }

    #[tokio::test]
    async fn a_stranger_with_the_same_id_is_left_alone() {
        let cluster = tempfile::tempdir().unwrap();
        let file = cluster.path().join("postmaster.pid");
        let mut stranger = std::process::Command::new("sleep").arg("60").current_dir(cluster.path()).spawn().unwrap();
        std::fs::write(&file, format!("{}\n", stranger.id())).unwrap();
        stop(cluster.path(), Duration::from_secs(5)).await.unwrap();
        assert!(!file.exists());
        assert!(stranger.try_wait().unwrap().is_none(), "it was killed");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
