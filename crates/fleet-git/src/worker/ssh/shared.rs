//! One SSH connection for many questions, by the OpenSSH client's own means (`ControlMaster` in ssh_config(5)).
//!
//! A poll that shakes hands moves about 8,000 bytes, one that joins a connection about 700. Each worker has connections of
//! its own, held by children that end with it. One is opened when the same host is asked with the same credential again;
//! where that fails, and where there are too many, questions connect for themselves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::{Directory, Material, Role, SshOptions, SshTarget, command};
use crate::secret::Secret;
use crate::worker::Timeouts;

/// How long a connection is kept that nobody uses, and how soon a host is asked again that gets one.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Silence after which the holder asks the server for a sign of life. Above the usual time between two polls.
pub(super) const ALIVE: Duration = Duration::from_secs(60);
/// A connection is not joined any more after this time: what the host thinks of the key is asked anew. Where one could not
/// be shared, the next is tried after as long.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Connections that a worker holds.
const MAX_HOLDERS: usize = 16;
/// Hosts without a connection that a worker remembers.
const MAX_ASKED: usize = 4_096;
/// The longest path of a socket. The system's limit is 108 bytes, and the client adds 17 while it makes it.
const MAX_PATH: usize = 88;

type Key = [u8; 32];

#[derive(Default)]
struct Known {
    directory: Option<Directory>,
    holders: HashMap<Key, Holder>,
    /// Hosts without a connection: when they were asked last.
    asked: HashMap<Key, Asked>,
    made: u64,
}

struct Asked {
    at: Instant,
    /// A connection to it cannot be shared.
    failed: bool,
}

/// A client that holds a connection. It ends when this is dropped.
struct Holder {
    child: Child,
    socket: PathBuf,
    opened: Instant,
    used: Instant,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// A connection that a conversation may join.
pub(in crate::worker) struct Shared {
    pub(in crate::worker) socket: PathBuf,
    /// Whether it was there before, and so may have died meanwhile.
    is_old: bool,
    key: Key,
}

impl Shared {
    /// The connection for this host and these options. `None` when the conversation is better alone.
    pub(in crate::worker) fn of(
        target: &SshTarget,
        options: &SshOptions,
        timeouts: Timeouts,
        url: &str,
    ) -> Option<Self> {
        let (key, now) = (key_of(target, options, timeouts), Instant::now());
        if let Some(socket) = lock().join(&key, now) {
            return Some(Self { socket, is_old: true, key });
        }
        let socket = lock().place_for(&key, now)?;
        // What is wrong with the options, or with the host, is worded by the conversation that goes alone.
        let material = Material::write(options, url).ok()?;
        let mut command = command(target, options, Role::Opens(&material, &socket), timeouts);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let shared = Self { socket: socket.clone(), is_old: false, key };
        // Known from the start, so that it ends with the worker whatever happens.
        lock().holders.insert(key, Holder { child, socket, opened: now, used: now });
        if shared.is_open(now + timeouts.connect) {
            return Some(shared);
        }
        shared.give_up();
        None
    }

    /// Waits for the socket, which is there once the server has let the holder in.
    fn is_open(&self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            if self.socket.exists() {
                return true;
            }
            if !lock().holders.get_mut(&self.key).is_some_and(Holder::is_alive) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        false
    }

    /// Nobody joins it any more. A new one that is of no use is not tried again soon.
    pub(in crate::worker) fn give_up(&self) {
        let mut known = lock();
        if known.holders.get(&self.key).is_some_and(|holder| holder.socket == self.socket) {
            known.holders.remove(&self.key);
        }
        known.note(&self.key, Asked { at: Instant::now(), failed: !self.is_old });
    }

    /// Ends an old connection that says nothing for this long, which ends the conversation over it: the network may have
    /// forgotten it. The first bytes are told by dropping what is returned.
    pub(in crate::worker) fn watch(&self, patience: Duration) -> Option<Sender<()>> {
        let (heard, silence) = channel::<()>();
        let this = self.is_old.then(|| Self { socket: self.socket.clone(), is_old: true, key: self.key })?;
        std::thread::spawn(move || {
            if silence.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                this.give_up();
            }
        });
        Some(heard)
    }
}

/// Whether a client's last words are about the connection that it was to join, and not the server's.
pub(in crate::worker) fn are_own(words: &str) -> bool {
    ["ontrol socket", "mux_client", "UNKNOWN port"].iter().any(|part| words.contains(part))
}

/// Ends all connections. The worker is about to end.
pub(in crate::worker) fn end() {
    let mut known = lock();
    known.holders.clear();
    known.directory = None;
}

impl Holder {
    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Known {
    /// The socket of a connection that can be joined. All that cannot are ended.
    fn join(&mut self, key: &Key, now: Instant) -> Option<PathBuf> {
        self.holders.retain(|_, holder| {
            now.duration_since(holder.opened) < MAX_AGE
                && now.duration_since(holder.used) < IDLE
                && holder.is_alive()
                && holder.socket.exists()
        });
        let holder = self.holders.get_mut(key)?;
        holder.used = now;
        Some(holder.socket.clone())
    }

    /// Where the socket of a new connection goes; `None` when there should be none: the host was not asked lately, or could
    /// not be shared, or there are too many.
    fn place_for(&mut self, key: &Key, now: Instant) -> Option<PathBuf> {
        let was_asked = match self.asked.get(key) {
            Some(Asked { at, failed: true }) if now.duration_since(*at) < MAX_AGE => return None,
            Some(Asked { at, failed: false }) => now.duration_since(*at) < IDLE,
            Some(_) | None => false,
        };
        self.note(key, Asked { at: now, failed: false });
        if !was_asked || self.holders.len() >= MAX_HOLDERS {
            return None;
        }
        self.place()
    }

    fn note(&mut self, key: &Key, asked: Asked) {
        if self.asked.len() >= MAX_ASKED && !self.asked.contains_key(key) {
            self.asked.clear();
        }
        self.asked.insert(*key, asked);
    }

    fn place(&mut self) -> Option<PathBuf> {
        if !is_fit(&std::env::temp_dir()) {
            return None;
        }
        if !self.directory.as_ref().is_some_and(Directory::is_there) {
            self.directory = Some(Directory::make().ok()?);
        }
        self.made = self.made.saturating_add(1);
        Some(self.directory.as_ref()?.path().join(self.made.to_string()))
    }
}

/// Whether sockets below this directory have paths that the client takes as they are.
fn is_fit(directory: &Path) -> bool {
    // The directory of ours and a number.
    const OURS: usize = 45;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    directory.to_str().is_some_and(|path| path.len() + OURS <= MAX_PATH && path.bytes().all(plain))
}

fn lock() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A holder that is alive until somebody ends it.
    fn holder(known: &mut Known, key: Key, now: Instant) -> PathBuf {
        let socket = known.place().unwrap();
        std::fs::write(&socket, "").unwrap();
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        known.holders.insert(key, Holder { child, socket: socket.clone(), opened: now, used: now });
        socket
    }

    #[test]
    fn old_idle_and_dead_connections_are_not_joined() {
        let (mut known, start) = (Known::default(), Instant::now());
        let (one, two) = ([1; 32], [2; 32]);
        let sockets = (holder(&mut known, one, start), holder(&mut known, two, start));
        assert_ne!(sockets.0, sockets.1);
        assert_eq!(known.join(&one, start + IDLE / 2), Some(sockets.0.clone()));
        // One of them was used in between.
        assert_eq!(known.join(&two, start + IDLE), None);
        assert!(!sockets.1.exists());
        assert!(known.join(&one, start + IDLE).is_some());
        // A holder that somebody killed leaves its socket behind.
        let child = &mut known.holders.get_mut(&one).unwrap().child;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sockets.0.exists());
        assert_eq!(known.join(&one, start + IDLE), None);
        std::fs::remove_file(holder(&mut known, one, start)).unwrap();
        assert_eq!(known.join(&one, start), None);
        holder(&mut known, one, start);
        let mut now = start;
        while now + IDLE / 2 < start + MAX_AGE {
            now += IDLE / 2;
            assert!(known.join(&one, now).is_some());
        }
        assert_eq!(known.join(&one, start + MAX_AGE), None);
        assert!(known.holders.is_empty());
    }

    #[test]
    fn hosts_that_are_asked_again_soon_get_a_connection_as_long_as_there_is_room() {
        let (mut known, start) = (Known::default(), Instant::now());
        let one = [255; 32];
        assert_eq!(known.place_for(&one, start), None, "for the first time");
        assert_eq!(known.place_for(&one, start + IDLE), None, "too long ago");
        assert!(known.place_for(&one, start + IDLE + IDLE / 2).is_some());
        known.note(&one, Asked { at: start, failed: true });
        for later in [Duration::ZERO, IDLE / 2, MAX_AGE / 2, MAX_AGE / 2 + IDLE / 2] {
            assert_eq!(known.place_for(&one, start + later), None, "it could not be shared");
        }
        assert_eq!(known.place_for(&one, start + MAX_AGE), None);
        assert!(known.place_for(&one, start + MAX_AGE).is_some(), "another attempt");
        for number in 0..u8::try_from(MAX_HOLDERS).unwrap() {
            holder(&mut known, [number; 32], start);
        }
        assert_eq!(known.place_for(&one, start + MAX_AGE), None, "nobody's connection goes for another's");
    }

    #[test]
    fn sockets_are_made_where_their_paths_are_short_and_plain() {
        assert!(is_fit(Path::new("/tmp")) && is_fit(Path::new("/var/lib/fleetd/tmp_1.x")));
        for unfit in ["/tmp/%h", "/tmp/a b", "/tmp/\"", "/tmp/é", &format!("/{}", "a".repeat(60))] {
            assert!(!is_fit(Path::new(unfit)), "{unfit}");
        }
    }
}
