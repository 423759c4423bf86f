//! Which PostgreSQL servers the machine has, and which user runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::PostgresError;

/// Older servers lack statements that the migrations use.
pub(super) const OLDEST_MAJOR: u32 = 15;

/// Server programs of one major version.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) major: u32,
    /// Holds `initdb` and `postgres`.
    pub(super) bin_dir: PathBuf,
}

/// Every version found in `PATH`, where distributions put servers, and where `pg_config` points; oldest first.
pub(super) async fn find_all() -> Vec<Installation> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    // Debian and Ubuntu; the packages of postgresql.org for Fedora and RHEL; Alpine.
    for (parent, bin) in [("/usr/lib/postgresql", "bin"), ("/usr", "bin"), ("/usr/libexec", "")] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let named =
            |name: &str| parent == "/usr/lib/postgresql" || name.starts_with("pgsql") || name.starts_with("postgresql");
        let dirs = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(named));
        places.extend(dirs.map(|entry| entry.path().join(bin)));
    }
    places.push("/usr/local/pgsql/bin".into());
    if let Some(dir) = first_line(Path::new("pg_config"), "--bindir").await {
        places.push(dir.into());
    }
    let mut found = BTreeMap::new();
    for bin_dir in places {
        if !(bin_dir.join("initdb").is_file() && bin_dir.join("postgres").is_file()) {
            continue;
        }
        let version = first_line(&bin_dir.join("postgres"), "--version").await;
        if let Some(major) = version.as_deref().and_then(major_of) {
            found.entry(major).or_insert(Installation { major, bin_dir });
        }
    }
    found.into_values().collect()
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` is 15; `17devel` is 17.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = number.find(|c: char| !c.is_ascii_digit()).map_or(number, |end| &number[..end]);
    digits.parse().ok()
}

async fn first_line(program: &Path, argument: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(20), command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The installation that can run a cluster of this version.
pub(super) fn of_major<'a>(installations: &'a [Installation], version: &str) -> Option<&'a Installation> {
    installations.iter().find(|installation| installation.major.to_string() == version)
}

/// The installation for a new cluster.
pub(super) fn newest(installations: &[Installation]) -> Result<&Installation, PostgresError> {
    let newest = installations.last().filter(|installation| installation.major >= OLDEST_MAJOR);
    newest.ok_or_else(|| PostgresError::NotInstalled { found: majors(installations) })
}

/// `15, 17`, or `none found`.
pub(super) fn majors(installations: &[Installation]) -> String {
    if installations.is_empty() {
        return "none found".to_owned();
    }
    installations.iter().map(|installation| installation.major.to_string()).collect::<Vec<_>>().join(", ")
}

/// The unprivileged user that the server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// None when this process is not root: then the server runs as the same user.
pub(super) fn server_user() -> Result<Option<ServerUser>, PostgresError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let passwd = std::fs::read_to_string(path).map_err(super::io_error("reading", path))?;
    ["postgres", "nobody"].iter().find_map(|name| user_in(&passwd, name)).map(Some).ok_or(PostgresError::NoServerUser)
}

/// Finds a user in the text of `/etc/passwd`; never one with root's id.
fn user_in(passwd: &str, name: &str) -> Option<ServerUser> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[found, _, uid, gid, ..] = fields.as_slice() else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (found == name && uid != 0).then(|| ServerUser { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_print() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 17devel"), Some(17));
        assert_eq!(major_of("postgres (PostgreSQL) "), None);
        assert_eq!(major_of("something else 15"), None);
    }

    #[test]
    fn an_old_server_is_refused_with_its_version() {
        let old = [Installation { major: 13, bin_dir: "/x".into() }];
        let error = newest(&old).unwrap_err().to_string();
        assert!(error.contains("15 or newer is not installed (13)"), "{error}");
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgresql:x:7:8::/:/x\nbroken\npostgres:x:101:104:a,,:/v:/b\n";
        assert_eq!(user_in(passwd, "postgres"), Some(ServerUser { name: "postgres".to_owned(), uid: 101, gid: 104 }));
        assert_eq!(user_in(passwd, "root"), None);
    }
}
