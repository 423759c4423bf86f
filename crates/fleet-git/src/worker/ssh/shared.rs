//! One SSH connection for many questions, by the OpenSSH client's own means (`ControlMaster` in ssh_config(5)).
//!
//! A poll that shakes hands moves about 8,000 bytes, one that joins a connection about 700. Each worker has
//! connections of its own, so that a conversation never waits for one of another worker. The client that holds a
//! connection ends by itself when nobody has joined for [`IDLE`], whatever has become of the worker.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::{DIRECTORY, Material, Role, SshOptions, SshTarget, command, try_lock, verdict};
use crate::error::{GitError, GitErrorKind};
use crate::secret::Secret;
use crate::worker::Timeouts;

/// How long a connection is kept that nobody uses.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Silence after which the holder asks the server for a sign of life. Above the usual time between two polls.
pub(super) const ALIVE: Duration = Duration::from_secs(60);
/// A connection is not joined any more after this time: what the host thinks of the key is asked anew.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Connections that a worker remembers.
const MAX_CONNECTIONS: usize = 16;
/// The longest path of a socket. The system's limit is 108 bytes, and the client adds 17 while it makes it.
const MAX_PATH: usize = 88;
const STDERR_BYTES: u64 = 4 << 10;

type Key = [u8; 32];

#[derive(Default)]
struct Known {
    /// Where the sockets are, with its lock. Workers end without goodbye; the next worker of any service removes it.
    directory: Option<(tempfile::TempDir, std::fs::File)>,
    connections: HashMap<Key, Connection>,
    made: u64,
}

struct Connection {
    socket: PathBuf,
    opened: Instant,
    used: Instant,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// A connection that a conversation may join.
pub(in crate::worker) struct Shared {
    pub(in crate::worker) socket: PathBuf,
    /// Whether it was there before, and so may have died meanwhile.
    pub(in crate::worker) is_old: bool,
    key: Key,
}

impl Shared {
    /// The connection for this host and these options, opened now when there is none; `None` when the directory for
    /// temporary files has a path that is no place for sockets.
    ///
    /// # Errors
    /// `AuthFailed`, `HostUnreachable`: what the client said when it could not connect; `Other` when it cannot be started.
    pub(in crate::worker) fn of(
        target: &SshTarget,
        options: &SshOptions,
        timeouts: Timeouts,
        url: &str,
    ) -> Result<Option<Self>, GitError> {
        let key = key_of(target, options, timeouts);
        if let Some(socket) = lock().join(&key, Instant::now()) {
            return Ok(Some(Self { socket, is_old: true, key }));
        }
        // What is asked for by name is asked for before anything else is done.
        let material = Material::write(options, url)?;
        let Some(socket) = lock().place() else { return Ok(None) };
        open(target, options, &material, &socket, timeouts, url)?;
        let now = Instant::now();
        lock().connections.insert(key, Connection { socket: socket.clone(), opened: now, used: now });
        Ok(Some(Self { socket, is_old: false, key }))
    }

    /// Nobody joins it any more.
    pub(in crate::worker) fn forget(&self) {
        let _ = std::fs::remove_file(&self.socket);
        lock().connections.remove(&self.key);
    }
}

impl Known {
    /// The socket of a connection that can be joined. Others are forgotten.
    fn join(&mut self, key: &Key, now: Instant) -> Option<PathBuf> {
        let fresh = |connection: &Connection| {
            now.duration_since(connection.opened) < MAX_AGE
                && now.duration_since(connection.used) < IDLE
                && connection.socket.exists()
        };
        self.connections.retain(|_, connection| {
            let keep = fresh(connection);
            if !keep {
                // Its holder sees nobody any more and ends.
                let _ = std::fs::remove_file(&connection.socket);
            }
            keep
        });
        let connection = self.connections.get_mut(key)?;
        connection.used = now;
        Some(connection.socket.clone())
    }

    /// A path for one more socket.
    fn place(&mut self) -> Option<PathBuf> {
        if self.connections.len() >= MAX_CONNECTIONS {
            let oldest = self.connections.iter().min_by_key(|(_, connection)| connection.used).map(|(key, _)| *key);
            if let Some(connection) = oldest.and_then(|key| self.connections.remove(&key)) {
                let _ = std::fs::remove_file(&connection.socket);
            }
        }
        if self.directory.is_none() {
            let directory = tempfile::Builder::new().prefix(DIRECTORY).tempdir().ok()?;
            let held = std::fs::File::create_new(directory.path().join("lock")).ok()?;
            try_lock(&held).ok()?;
            self.directory = Some((directory, held));
        }
        let (directory, _) = self.directory.as_ref()?;
        self.made = self.made.saturating_add(1);
        let socket = directory.path().join(self.made.to_string());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        socket.to_str().is_some_and(|path| path.len() <= MAX_PATH && path.bytes().all(plain)).then_some(socket)
    }
}

fn lock() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects; afterwards the socket is there. The client goes to the background when the server has let it in.
fn open(
    target: &SshTarget,
    options: &SshOptions,
    material: &Material,
    socket: &std::path::Path,
    timeouts: Timeouts,
    url: &str,
) -> Result<(), GitError> {
    let failed = |error: std::io::Error| {
        GitError::other(format!("cannot run `ssh` for {url}: {error}; install the OpenSSH client"))
    };
    let mut command = command(target, options, Role::Opens(material, socket), timeouts);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let words = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.take(STDERR_BYTES).read_to_end(&mut words);
            String::from_utf8_lossy(&words).trim().to_owned()
        })
    });
    let status = child.wait().map_err(failed)?;
    if status.success() && socket.exists() {
        return Ok(());
    }
    let words = words.and_then(|words| words.join().ok()).unwrap_or_default();
    Err(verdict(&words, url).unwrap_or_else(|| {
        let words: String = words.chars().filter(|c| !c.is_control()).take(400).collect();
        GitError::new(GitErrorKind::HostUnreachable, format!("{url}: no SSH connection ({status}); ssh says: {words}"))
    }))
}

/// A digest of everything that the connection depends on, so that no secret stays in memory for this.
fn key_of<'a>(target: &SshTarget, options: &'a SshOptions, timeouts: Timeouts) -> Key {
    let authority = &target.authority;
    let secret = |secret: &'a Option<Secret>| secret.as_ref().map(Secret::expose).unwrap_or_default();
    let mut hash = sha2::Sha256::new();
    for part in [
        authority.user.as_deref().unwrap_or("\0"),
        authority.host.as_str(),
        &format!("{:?} {} {timeouts:?}", authority.port, options.skip_verify),
        options.known_hosts.as_deref().unwrap_or_default(),
        secret(&options.private_key),
        secret(&options.passphrase),
    ] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(url: &str, change: impl FnOnce(&mut SshOptions)) -> Key {
        let mut options = SshOptions {
            private_key: Some(Secret::new("one")),
            known_hosts: Some("h".to_owned()),
            ..SshOptions::default()
        };
        change(&mut options);
        let timeouts = Timeouts { connect: Duration::from_secs(5), no_progress: Duration::from_secs(15) };
        key_of(&SshTarget::of_url(url).unwrap(), &options, timeouts)
    }

    #[test]
    fn repositories_of_one_host_share_and_nothing_else_does() {
        let same = key("git@h:22/a", |_| {});
        assert_eq!(same, key("git@h:22/b", |_| {}));
        for other in [
            key("git@h:23/a", |_| {}),
            key("git@h/a", |_| {}),
            key("git@i:22/a", |_| {}),
            key("tig@h:22/a", |_| {}),
            key("h:22/a", |_| {}),
            key("git@h:22/a", |options| options.private_key = Some(Secret::new("two"))),
            key("git@h:22/a", |options| options.passphrase = Some(Secret::new("two"))),
            key("git@h:22/a", |options| options.known_hosts = Some("i".to_owned())),
            key("git@h:22/a", |options| options.skip_verify = true),
        ] {
            assert_ne!(same, other);
        }
    }

    #[test]
    fn old_and_idle_connections_and_those_without_a_socket_are_not_joined() {
        let (mut known, start) = (Known::default(), Instant::now());
        let (one, two) = ([1; 32], [2; 32]);
        let open = |known: &mut Known, key: Key| {
            let socket = known.place().unwrap();
            std::fs::write(&socket, "").unwrap();
            known.connections.insert(key, Connection { socket: socket.clone(), opened: start, used: start });
            socket
        };
        let sockets = (open(&mut known, one), open(&mut known, two));
        assert_ne!(sockets.0, sockets.1);
        assert_eq!(known.join(&one, start + IDLE / 2), Some(sockets.0.clone()));
        // One of them was used in between.
        assert_eq!(known.join(&two, start + IDLE), None);
        assert!(!sockets.1.exists());
        assert!(known.join(&one, start + IDLE).is_some());
        std::fs::remove_file(&sockets.0).unwrap();
        assert_eq!(known.join(&one, start + IDLE), None);
        open(&mut known, one);
        let mut now = start;
        while now + IDLE / 2 < start + MAX_AGE {
            now += IDLE / 2;
            assert!(known.join(&one, now).is_some());
        }
        assert_eq!(known.join(&one, start + MAX_AGE), None);
        for number in 0..100_u8 {
            open(&mut known, [number; 32]);
        }
        assert!(known.connections.len() <= MAX_CONNECTIONS);
    }
}
