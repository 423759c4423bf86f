//! A repository that is read through a child process: `git upload-pack` for a local one, the OpenSSH client for others.
//!
//! The child sees no system or user configuration, trusts exactly the wanted directory (which may belong to another user),
//! and is gone when the session ends.

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::Transport;
use gix::protocol::transport::client::git::{ConnectMode, blocking_io::Connection};

use super::Timeouts;
use super::activity::Activity;
use super::ssh::shared::Shared;
use super::ssh::{self, Material, Role, Sharing};
use crate::error::{GitError, GitErrorKind};
use crate::remote::{SshOptions, SshTarget};

const STDERR_BYTES: usize = 4 << 10;

enum How {
    Local,
    /// With the files that the SSH client reads; removed after its end.
    Alone {
        _material: Material,
    },
    /// Over a connection that others use as well.
    Joined(Shared),
}

/// A running child. Dropping it kills the process and waits for its end.
pub(super) struct UploadPack {
    child: Child,
    last_words: Arc<Mutex<String>>,
    how: How,
}

impl UploadPack {
    /// Starts `git upload-pack` for the repository at `path` and hands out a transport to it.
    ///
    /// # Errors
    /// `HostUnreachable` when there is no directory at `path`, `Other` when `git` cannot be started.
    pub(super) fn start(path: &Path, activity: &Activity) -> Result<(Self, Box<dyn Transport + Send>), GitError> {
        let shown = path.display();
        let real = path.canonicalize().map_err(|error| {
            GitError::new(GitErrorKind::HostUnreachable, format!("no Git repository at {shown}: {error}"))
        })?;
        let child = command(&real).spawn().map_err(|error| {
            GitError::other(format!(
                "cannot run `git upload-pack` for {shown}: {error}; install Git or use an https:// URL"
            ))
        })?;
        let path = gix::path::into_bstr(path).map_err(|error| GitError::other(error.to_string()))?.into_owned();
        Self::talk(child, How::Local, None, path, &shown.to_string(), activity)
    }

    /// Starts the SSH client for `target` and hands out a transport to it.
    ///
    /// # Errors
    /// `AuthFailed` when key or host keys are missing, `Other` when the client cannot be started.
    pub(super) fn over_ssh(
        target: &SshTarget,
        options: &SshOptions,
        sharing: Sharing,
        timeouts: Timeouts,
        url: &str,
        activity: &Activity,
    ) -> Result<(Self, Box<dyn Transport + Send>), GitError> {
        let shared = match sharing {
            Sharing::Questions => Shared::of(target, options, timeouts, url),
            Sharing::Never => None,
        };
        let (mut command, how) = match shared {
            Some(shared) => (ssh::command(target, options, Role::Joins(&shared.socket), timeouts), How::Joined(shared)),
            None => {
                let material = Material::write(options, url)?;
                (ssh::command(target, options, Role::Alone(&material), timeouts), How::Alone { _material: material })
            }
        };
        let child = command.spawn().map_err(|error| {
            GitError::other(format!("cannot run `ssh` for {url}: {error}; install the OpenSSH client"))
        })?;
        let heard = match &how {
            How::Joined(shared) => shared.watch(timeouts.connect),
            How::Alone { .. } | How::Local => None,
        };
        Self::talk(child, how, heard, target.path.as_str().into(), url, activity)
    }

    fn talk(
        mut child: Child,
        how: How,
        heard: Option<Sender<()>>,
        path: gix::bstr::BString,
        shown: &str,
        activity: &Activity,
    ) -> Result<(Self, Box<dyn Transport + Send>), GitError> {
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let last_words = Arc::new(Mutex::new(String::new()));
        let this = Self { child, last_words: Arc::clone(&last_words), how };
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(GitError::other(format!("the Git process for {shown} has no pipes")));
        };
        std::thread::spawn(move || collect(stderr, &last_words));
        let counted = Counted { inner: stdout, activity: activity.clone(), heard };
        // A question goes out in one piece: over SSH, each piece costs a packet with its padding and its checksum.
        let stdin = std::io::BufWriter::new(stdin);
        let connection: Connection<Counted<ChildStdout>, std::io::BufWriter<ChildStdin>> =
            Connection::new(counted, stdin, Protocol::V2, path, None::<(&str, _)>, ConnectMode::Process, false);
        Ok((this, Box::new(connection)))
    }

    /// A conversation with `git daemon`.
    ///
    /// # Errors
    /// `HostUnreachable` when no address of the host takes the connection in time.
    pub(super) fn from_daemon(
        host: &str,
        port: Option<u16>,
        path: &str,
        timeouts: Timeouts,
        activity: &Activity,
    ) -> Result<Box<dyn Transport + Send>, GitError> {
        let failed = |error: std::io::Error| {
            GitError::new(GitErrorKind::HostUnreachable, format!("cannot connect to git://{host}: {error}"))
        };
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in (host, port.unwrap_or(9418)).to_socket_addrs().map_err(failed)? {
            let stream = match TcpStream::connect_timeout(&address, timeouts.connect) {
                Ok(stream) => stream,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            stream.set_read_timeout(Some(timeouts.no_progress)).map_err(failed)?;
            stream.set_write_timeout(Some(timeouts.no_progress)).map_err(failed)?;
            let reader =
                Counted { inner: stream.try_clone().map_err(failed)?, activity: activity.clone(), heard: None };
            let connection: Connection<Counted<TcpStream>, TcpStream> =
                Connection::new(reader, stream, Protocol::V2, path, Some((host, port)), ConnectMode::Daemon, false);
            return Ok(Box::new(connection));
        }
        Err(failed(last))
    }

    /// Whether it is the SSH client.
    pub(super) fn is_ssh(&self) -> bool {
        !matches!(self.how, How::Local)
    }

    /// Sees to it that nobody joins the connection of this conversation again. Whether it was a shared one, so that one of
    /// its own is worth a try.
    pub(super) fn give_up_connection(&self) -> bool {
        let How::Joined(shared) = &self.how else { return false };
        shared.give_up();
        true
    }

    /// What the process said on standard error, once it has ended.
    pub(super) fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The collecting thread sees the end of the pipe now; give it the moment it needs.
        for _ in 0..50 {
            if Arc::strong_count(&self.last_words) == 1 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.last_words.lock().unwrap_or_else(std::sync::PoisonError::into_inner).trim().to_owned()
    }
}

impl Drop for UploadPack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(path: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("upload-pack").arg(path).current_dir("/").env_clear();
    for variable in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    let trusted: [PathBuf; 2] = [path.to_owned(), path.join(".git")];
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROTOCOL", "version=2")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_COUNT", (trusted.len() + 1).to_string())
        .env("GIT_CONFIG_KEY_0", "uploadpack.allowAnySHA1InWant")
        .env("GIT_CONFIG_VALUE_0", "true");
    for (index, directory) in trusted.iter().enumerate() {
        command
            .env(format!("GIT_CONFIG_KEY_{}", index + 1), "safe.directory")
            .env(format!("GIT_CONFIG_VALUE_{}", index + 1), directory);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn collect(mut from: impl Read, into: &Mutex<String>) {
    let (mut portion, mut room) = ([0; 512], STDERR_BYTES);
    // As it comes: whoever asks may not wait for the end.
    while room > 0 {
        let count = match from.read(&mut portion) {
            Ok(count) if count > 0 => count.min(room),
            Ok(_) | Err(_) => return,
        };
        let words = String::from_utf8_lossy(&portion[..count]);
        into.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(&words);
        room -= count;
    }
    let _ = std::io::copy(&mut from, &mut std::io::sink());
}

/// Counts what is read as activity.
struct Counted<R> {
    inner: R,
    activity: Activity,
    /// Who waits for the first bytes learns of them when this is dropped.
    heard: Option<Sender<()>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.activity.moved(count);
        if count > 0 {
            self.heard = None;
        }
        Ok(count)
    }
}
