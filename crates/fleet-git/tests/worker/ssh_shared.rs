//! Questions over SSH that share a connection, and what becomes of connections that are of no use any more.

use std::ffi::OsString;
use std::time::Duration;

use fleet_git::{GitErrorKind, Limits, Remote, Secret, WorkerCommand, WorkerPool};
use fleet_test::ssh_server::SshServer;
use fleet_test::{Fault, GitRepo, TcpFaultProxy, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::ssh::remote;
use crate::support::{WORKER, id};

/// An SSH server behind a proxy.
struct Watched {
    server: SshServer,
    proxy: TcpFaultProxy,
    repo: GitRepo,
}

impl Watched {
    async fn start() -> Self {
        let server = SshServer::start().unwrap();
        let proxy = TcpFaultProxy::start(([127, 0, 0, 1], server.port()).into()).await.unwrap();
        Self { server, proxy, repo: GitRepo::init() }
    }

    fn remote(&self, repo: &GitRepo) -> Remote {
        let mut remote = remote(&self.server, repo);
        let (port, through) = (self.server.port().to_string(), self.proxy.address().port().to_string());
        remote.url = remote.url.replace(&format!(":{port}"), &format!(":{through}"));
        remote.ssh.known_hosts = remote.ssh.known_hosts.map(|hosts| hosts.replace(&port, &through));
        remote
    }

    /// The SSH clients of our workers that hold connections to it.
    fn holders(&self) -> Vec<Pid> {
        let port = format!("-p\0{}\0", self.proxy.address().port());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains("ControlMaster=yes") && line.contains(&port) {
                found.extend(entry.file_name().to_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?)));
            }
        }
        found
    }

    async fn nobody_holds(&self) {
        wait_for("the holders to end", Duration::from_secs(60), async || self.holders().is_empty().then_some(())).await;
    }
}

/// One worker, with time to connect.
fn pool(connect: Duration) -> WorkerPool {
    let limits = Limits { connect, no_progress: Duration::from_secs(120), max_workers: 1, ..Limits::default() };
    WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), limits)
}

const PATIENT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn questions_to_one_host_with_one_credential_share_a_connection() {
    let there = Watched::start().await;
    let first = id(&there.repo.write("a.yaml", "a: 1\n").commit("one"));
    let other = GitRepo::init();
    let second = id(&other.write("a.yaml", "a: 2\n").commit("two"));
    let pool = pool(PATIENT);
    for _ in 0..3 {
        assert_eq!(pool.observe(&there.remote(&there.repo), "main").await.unwrap(), first);
        assert_eq!(pool.observe(&there.remote(&other), "main").await.unwrap(), second);
    }
    assert_eq!(there.proxy.connections(), 2, "the first alone, and all others together");
    let error = pool.observe(&there.remote(&there.repo), "nothing").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::RefMissing, "{error}");
    let mut nowhere = there.remote(&there.repo);
    nowhere.url = format!("{}-gone", nowhere.url);
    let error = pool.observe(&nowhere, "main").await.unwrap_err();
    assert!(error.kind == GitErrorKind::HostUnreachable && error.message.contains("no such repository"), "{error}");
    assert_eq!(there.proxy.connections(), 2, "what the server refuses by name says nothing against the connection");

    // Another key does not come in through the door that the first one opened.
    let mut stranger = there.remote(&there.repo);
    stranger.ssh.private_key = Some(Secret::new(there.server.stranger_key().unwrap()));
    let mut encrypted = there.remote(&there.repo);
    encrypted.ssh.private_key = Some(Secret::new(there.server.encrypted_key()));
    for _ in 0..3 {
        for other in [&stranger, &encrypted] {
            let error = pool.observe(other, "main").await.unwrap_err();
            assert_eq!(error.kind, GitErrorKind::AuthFailed, "{error}");
        }
    }
    encrypted.ssh.passphrase = Some(Secret::new(SshServer::PASSPHRASE));
    for _ in 0..3 {
        assert_eq!(pool.observe(&encrypted, "main").await.unwrap(), first);
    }
    assert_eq!(there.holders().len(), 2, "one for each credential");
    drop(pool);
    there.nobody_holds().await;
}

#[tokio::test]
async fn a_shared_connection_that_died_is_replaced_without_anybody_noticing() {
    let there = Watched::start().await;
    let first = id(&there.repo.write("a.yaml", "a: 1\n").commit("one"));
    let (pool, remote) = (pool(PATIENT), there.remote(&there.repo));
    let asked = async |times: usize| {
        for _ in 0..times {
            assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
        }
    };
    asked(2).await;
    // A holder that is killed leaves its socket behind.
    for signal in [Signal::KILL, Signal::TERM] {
        let [holder] = there.holders()[..] else { panic!("one holder") };
        kill_process(holder, signal).unwrap();
        asked(3).await;
    }
    // Connections that die in the middle of some question, once they have carried a few.
    there.proxy.set(Fault::CutAfter(12_000));
    let (before, mut questions) = (there.proxy.connections(), 0);
    while there.proxy.connections() < before + 6 {
        asked(1).await;
        questions += 1;
        assert!(questions < 300, "{} connections", there.proxy.connections());
    }
    assert!(questions > 8, "a shared connection carries more than one of {questions}");
    assert!(there.holders().len() <= 1);

    // A host that is gone is told of, and it is found again.
    there.proxy.set(Fault::Reset);
    let error = pool.observe(&remote, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
    there.proxy.set(Fault::None);
    asked(3).await;
}

#[tokio::test]
async fn a_shared_connection_that_falls_silent_costs_a_moment_and_no_failure() {
    let there = Watched::start().await;
    let first = id(&there.repo.write("a.yaml", "a: 1\n").commit("one"));
    // So long one waits for the first word of an old connection.
    let (pool, remote) = (pool(Duration::from_secs(15)), there.remote(&there.repo));
    for _ in 0..2 {
        assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    }
    let [holder] = there.holders()[..] else { panic!("one holder") };
    // To the client a stopped holder is what a network is that lost the connection.
    kill_process(holder, Signal::STOP).unwrap();
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    assert!(!there.holders().contains(&holder), "it was ended");
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    drop(pool);
    there.nobody_holds().await;
}

#[tokio::test]
async fn a_worker_that_is_replaced_takes_its_connection_along() {
    let there = Watched::start().await;
    let first = id(&there.repo.write("a.yaml", "a: 1\n").commit("one"));
    let limits = Limits { connect: PATIENT, max_workers: 1, requests_per_worker: 3, ..Limits::default() };
    let pool = WorkerPool::new(WorkerCommand::new(WORKER, Vec::<OsString>::new()), limits);
    for question in 1..=7 {
        assert_eq!(pool.observe(&there.remote(&there.repo), "main").await.unwrap(), first);
        if question % 3 == 0 {
            there.nobody_holds().await;
        }
    }
}
