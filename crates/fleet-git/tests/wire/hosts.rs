//! One repository behind every kind of host, with a proxy in front of each that counts bytes.

use std::net::SocketAddr;
use std::path::Path;

use fleet_git::{Remote, Secret};
use fleet_test::git_server::GitServer;
use fleet_test::ssh_server::{GitDaemon, SshServer};
use fleet_test::{BareRepo, Shape, TcpFaultProxy};

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// nginx and `git http-backend`.
    Http,
    /// The same over TLS.
    Https,
    /// `git daemon`.
    Daemon,
    /// `sshd`.
    Ssh,
}

impl Transport {
    pub(crate) const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Daemon, Self::Ssh];
}

/// The hosts; gone when dropped.
pub(crate) struct Hosts {
    repo: BareRepo,
    web: GitServer,
    ssh: SshServer,
    proxies: Vec<TcpFaultProxy>,
    _daemon: GitDaemon,
}

impl Hosts {
    pub(crate) async fn start(shape: Shape) -> Self {
        let repo = shape.repository(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let web = GitServer::start(repo.root(), None).unwrap();
        let (ssh, daemon) = (SshServer::start().unwrap(), GitDaemon::start(repo.root()).unwrap());
        let mut proxies = Vec::new();
        for port in [web.http_port(), web.https_port(), daemon.port(), ssh.port()] {
            proxies.push(TcpFaultProxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap());
        }
        Self { repo, web, ssh, proxies, _daemon: daemon }
    }

    pub(crate) fn head(&self) -> String {
        self.repo.head()
    }

    pub(crate) fn commit(&self, path: &str, content: &str) -> String {
        self.repo.commit(path, content)
    }

    /// The repository on this disk.
    pub(crate) fn local(&self) -> Remote {
        Remote::anonymous(self.repo.path().to_str().unwrap())
    }

    /// The repository behind the counting proxy of a host.
    pub(crate) fn remote(&self, transport: Transport) -> Remote {
        let port = self.proxy(transport).address().port();
        match transport {
            Transport::Http => Remote::anonymous(format!("http://127.0.0.1:{port}/bare.git")),
            Transport::Https => {
                let mut remote = Remote::anonymous(format!("https://127.0.0.1:{port}/bare.git"));
                remote.https.ca_pem = Some(self.web.ca_pem().to_owned());
                remote
            }
            Transport::Daemon => Remote::anonymous(format!("git://127.0.0.1:{port}/bare.git")),
            Transport::Ssh => {
                let moved = |text: &str| text.replace(&self.ssh.port().to_string(), &port.to_string());
                let mut remote = Remote::anonymous(
                    self.ssh.url(self.repo.path()).replace(&format!(":{}", self.ssh.port()), &format!(":{port}")),
                );
                remote.ssh.private_key = Some(Secret::new(self.ssh.private_key()));
                remote.ssh.known_hosts = Some(moved(self.ssh.known_hosts()));
                remote
            }
        }
    }

    /// Bytes in both directions so far.
    pub(crate) fn bytes(&self, transport: Transport) -> u64 {
        let proxy = self.proxy(transport);
        proxy.bytes_to_upstream() + proxy.bytes_to_client()
    }

    pub(crate) fn connections(&self, transport: Transport) -> u64 {
        self.proxy(transport).connections()
    }

    fn proxy(&self, transport: Transport) -> &TcpFaultProxy {
        let index = Transport::ALL.iter().position(|known| *known == transport).unwrap();
        &self.proxies[index]
    }
}

/// The most memory in KiB that a running Git worker of this process has had resident (`VmHWM`).
pub(crate) fn peak_memory_of_children() -> u64 {
    let me = std::process::id().to_string();
    let field = |status: &str, name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok())
    };
    let workers = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let is_worker = status.lines().next()?.contains("fleet-git-worke")
            && status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == me));
        is_worker.then(|| field(&status, "VmHWM:")).flatten()
    });
    workers.max().unwrap_or(0)
}
