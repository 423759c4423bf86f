//! The directories of the embedded database: who owns them, who may enter, and how long their paths may be.

use std::fs::{DirBuilder, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::installed::ServerUser;
use super::{PostgresError, io_error};

/// `sun_path` takes 107 bytes and a zero; the lock file of the socket has the longest name.
const LONGEST_SOCKET_DIR: usize = 107 - "/.s.PGSQL.5432.lock".len();

/// The places of one embedded database, and the lock that says that this process uses them.
#[derive(Debug)]
pub(super) struct Layout {
    /// The cluster: complete, or not there.
    pub(super) cluster: PathBuf,
    /// A cluster that is being made.
    pub(super) unfinished: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: PathBuf,
    /// Held, never read.
    _lock: File,
}

impl Layout {
    /// Makes the directories and takes the lock.
    pub(super) fn prepare(data_dir: &Path, user: Option<&ServerUser>) -> Result<Self, PostgresError> {
        std::fs::create_dir_all(data_dir).map_err(io_error("creating the data directory", data_dir))?;
        let data_dir = data_dir.canonicalize().map_err(io_error("finding the data directory", data_dir))?;
        let top = data_dir.join("postgres");
        own_dir(&top, None)?;
        if let Some(user) = user {
            // Its entries stay ours: the server's user cannot put a link where we write.
            std::fs::set_permissions(&top, Permissions::from_mode(0o711)).map_err(io_error("opening", &top))?;
            let mode = data_dir.metadata().map_err(io_error("reading", &data_dir))?.mode();
            std::fs::set_permissions(&data_dir, Permissions::from_mode(mode | 0o001))
                .map_err(io_error("letting the server's user through", &data_dir))?;
            if let Some(dir) = first_closed(&top, user) {
                return Err(PostgresError::Unreachable { dir, user: user.name.clone() });
            }
        }
        let lock = take_lock(&top)?;
        let socket_dir = socket_dir(&top)?;
        own_dir(&socket_dir, user)?;
        Ok(Self {
            cluster: top.join("cluster"),
            unfinished: top.join("cluster.new"),
            log: top.join("server.log"),
            socket_dir,
            _lock: lock,
        })
    }

    /// The major version that made the cluster; `None` when there is no cluster.
    pub(super) fn cluster_version(&self) -> Result<Option<String>, PostgresError> {
        let file = self.cluster.join("PG_VERSION");
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.cluster.exists() => Ok(None),
            Err(error) => Err(io_error("reading the version of the database", &file)(error)),
        }
    }

    /// An empty directory for a new cluster; what an interrupted creation left is removed.
    pub(super) fn begin(&self, user: Option<&ServerUser>) -> Result<(), PostgresError> {
        match std::fs::remove_dir_all(&self.unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("removing an unfinished database", &self.unfinished)(error))
            }
            _ => own_dir(&self.unfinished, user),
        }
    }

    /// Moves the complete cluster to its place; it is there after a power cut too.
    pub(super) fn publish(&self) -> Result<(), PostgresError> {
        std::fs::rename(&self.unfinished, &self.cluster).map_err(io_error("creating", &self.cluster))?;
        let parent = self.cluster.parent().unwrap_or(Path::new("/"));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error("syncing", parent))
    }
}

/// Makes a directory that only the server's user (and root) can enter.
fn own_dir(dir: &Path, user: Option<&ServerUser>) -> Result<(), PostgresError> {
    let made = DirBuilder::new().mode(0o700).recursive(false).create(dir);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(io_error("creating", dir)(error));
    }
    let meta = std::fs::symlink_metadata(dir).map_err(io_error("reading", dir))?;
    let me = rustix::process::geteuid().as_raw();
    if !meta.is_dir() || !(meta.uid() == me || user.is_some_and(|user| user.uid == meta.uid())) {
        let theirs = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user; remove it");
        return Err(io_error("using", dir)(theirs));
    }
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io_error("closing to others", dir))?;
    match user {
        Some(user) => std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid))
            .map_err(io_error("giving to the server's user", dir)),
        None => Ok(()),
    }
}

/// The first directory on the way to `dir` that this user may not enter.
fn first_closed(dir: &Path, user: &ServerUser) -> Option<PathBuf> {
    let mut ways: Vec<&Path> = dir.ancestors().collect();
    ways.reverse();
    let is_closed = |way: &&Path| {
        way.metadata().is_ok_and(|meta| {
            let enter = if meta.uid() == user.uid {
                0o100
            } else if meta.gid() == user.gid {
                0o010
            } else {
                0o001
            };
            meta.mode() & enter == 0
        })
    };
    ways.into_iter().find(is_closed).map(Path::to_owned)
}

fn take_lock(top: &Path) -> Result<File, PostgresError> {
    let path = top.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error("opening", &path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| PostgresError::InUse { dir: top.to_owned() })?;
    Ok(file)
}

/// Whether a socket below this path can be opened, and the path can be written in settings and URLs as it is (clients take
/// a comma for the end of a host name, for one).
fn can_hold_socket(dir: &Path) -> bool {
    let path = dir.as_os_str().as_bytes();
    path.len() <= LONGEST_SOCKET_DIR && path.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte))
}

/// `run` beside the cluster, or a directory with a short plain path that is always the same for this cluster.
fn socket_dir(top: &Path) -> Result<PathBuf, PostgresError> {
    let beside = top.join("run");
    if can_hold_socket(&beside) {
        return Ok(beside);
    }
    let mut hasher = DefaultHasher::new();
    top.hash(&mut hasher);
    let name = format!("shorebase-pg-{}-{:016x}", rustix::process::geteuid().as_raw(), hasher.finish());
    let mut bases = Vec::new();
    if rustix::process::geteuid().is_root() {
        bases.push(PathBuf::from("/run"));
    } else if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        bases.push(PathBuf::from(dir));
    }
    bases.extend([std::env::temp_dir(), PathBuf::from("/tmp")]);
    let is_usable = |dir: &PathBuf| {
        can_hold_socket(dir)
            && dir.parent().is_some_and(|base| rustix::fs::access(base, rustix::fs::Access::WRITE_OK).is_ok())
    };
    let mut dirs = bases.into_iter().map(|base| base.join(&name));
    dirs.find(is_usable).ok_or(PostgresError::NoSocketPlace { dir: beside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_keeps_the_socket_beside_the_cluster() {
        assert_eq!(
            socket_dir(Path::new("/var/lib/shorebase/postgres")).unwrap(),
            Path::new("/var/lib/shorebase/postgres/run")
        );
    }

    #[test]
    fn a_long_path_gets_the_same_short_one_each_time() {
        let long = PathBuf::from(format!("/var/lib/{}/postgres", "x".repeat(120)));
        let dir = socket_dir(&long).unwrap();
        assert!(dir.as_os_str().len() <= LONGEST_SOCKET_DIR, "{}", dir.display());
        assert_eq!(dir, socket_dir(&long).unwrap());
        assert_ne!(dir, socket_dir(&long.join("other")).unwrap());
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::set_permissions(top.path(), Permissions::from_mode(0o711)).unwrap();
        std::fs::set_permissions(top.path().join("a"), Permissions::from_mode(0o700)).unwrap();
        let stranger = ServerUser { name: "x".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        assert_eq!(first_closed(&inner, &stranger), Some(top.path().join("a")));
        std::fs::set_permissions(top.path().join("a"), Permissions::from_mode(0o711)).unwrap();
        assert_eq!(first_closed(&inner, &stranger), None);
    }
}
