//! Finds the PostgreSQL programs of this machine, and the user that a server started by root runs as.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Holds `initdb` and `postgres`.
    pub(crate) bin_dir: PathBuf,
    /// The client.
    pub(crate) psql: PathBuf,
}

impl Programs {
    /// Looks in `PATH`, in `/usr/lib/postgresql/*/bin` (newest first) and where `pg_config` says.
    pub(crate) fn find() -> Result<Self> {
        let path: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let mut versioned: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        let major =
            |dir: &PathBuf| dir.parent().and_then(Path::file_name).and_then(|n| n.to_str()?.parse::<u32>().ok());
        versioned.sort_by_key(|dir| std::cmp::Reverse(major(dir)));
        let configured = Command::new("pg_config").arg("--bindir").output().ok();
        let configured = configured.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
        let places: Vec<PathBuf> = path.into_iter().chain(versioned).chain(configured).collect();
        let bin_dir = places
            .iter()
            .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
            .context("initdb and postgres are not installed; install the package postgresql (Debian, Ubuntu) or postgresql-server (Fedora)")?
            .clone();
        // Beside the server itself first: Debian's `/usr/bin/psql` is a script that takes ten times as long to start.
        let server = bin_dir.join("postgres").canonicalize().ok();
        let beside = server.as_deref().and_then(Path::parent).map(Path::to_owned);
        let psql = beside
            .iter()
            .chain(std::iter::once(&bin_dir))
            .chain(&places)
            .map(|dir| dir.join("psql"))
            .find(|file| file.is_file())
            .context(
                "psql is not installed; install the package postgresql-client (Debian, Ubuntu) or postgresql (Fedora)",
            )?;
        Ok(Self { bin_dir, psql })
    }

    /// Path of a server program.
    pub(crate) fn server(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

/// A user of the system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// PostgreSQL refuses to run as root: `postgres`, else `nobody`. None when this process is not root.
pub(crate) fn server_user() -> Result<Option<ServerUser>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let find = |name: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_named = fields.next() == Some(name);
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            is_named.then_some(ServerUser { uid, gid })
        })
    };
    let user = find("postgres").or_else(|| find("nobody"));
    user.map(Some).context("PostgreSQL does not run as root, and there is no user postgres or nobody")
}
