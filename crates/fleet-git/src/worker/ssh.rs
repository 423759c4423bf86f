//! A repository behind an SSH server, read through the OpenSSH client in a child process.
//!
//! The client sees no configuration, no agent and no terminal: the key, the host keys and every option come from us, per
//! repository. Key and host keys lie in a directory of their own while they are needed. Questions to one host with one
//! credential follow each other over one connection ([`shared`]).

pub(super) mod shared;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::Timeouts;
use crate::error::{GitError, GitErrorKind};
use crate::remote::{SshOptions, SshTarget};

/// Carries the passphrase to the program that the client asks for it, which is this one again.
const PASSPHRASE_VARIABLE: &str = "SHOREBASE_GIT_PASSPHRASE";

/// When this process was started by the SSH client to be asked for a passphrase: answers and says with which code to end.
/// Programs that call [`worker_main`](crate::worker_main) call this first thing.
pub fn askpass_main() -> Option<ExitCode> {
    let passphrase = zeroize::Zeroizing::new(std::env::var(PASSPHRASE_VARIABLE).ok()?);
    let mut out = std::io::stdout().lock();
    let written = out.write_all(passphrase.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    Some(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the files of a conversation lie, below the directory for temporary files.
const DIRECTORY: &str = "fleet-git-ssh-";

/// A directory for this user alone; gone when dropped. A worker that is killed leaves it behind, unlocked, and the next
/// conversation of any worker removes it.
struct Directory {
    place: tempfile::TempDir,
    _lock: std::fs::File,
}

impl Directory {
    /// Makes one, after those were removed that killed workers left.
    fn make() -> std::io::Result<Self> {
        remove_abandoned(&std::env::temp_dir());
        let private = std::fs::Permissions::from_mode(0o700);
        for _ in 0..20 {
            let place = tempfile::Builder::new().prefix(DIRECTORY).permissions(private.clone()).tempdir()?;
            let lock = std::fs::File::create_new(place.path().join("lock"))?;
            // Another worker may have taken it for an abandoned one just now.
            if try_lock(&lock).is_ok() && place.path().join("lock").exists() {
                return Ok(Self { place, _lock: lock });
            }
        }
        Err(std::io::Error::other("directories for temporary files are removed as soon as they are made"))
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn is_there(&self) -> bool {
        self.path().join("lock").exists()
    }
}

/// The files that a connection needs; gone with this.
pub(super) struct Material {
    _directory: Directory,
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Material {
    /// Writes the key and the host keys out, for this user alone.
    ///
    /// # Errors
    /// `AuthFailed` when there is no key, or no host key and verification is on; `Other` when they cannot be written.
    pub(super) fn write(options: &SshOptions, url: &str) -> Result<Self, GitError> {
        let missing =
            |what: &str| GitError::new(GitErrorKind::AuthFailed, format!("{url} is read over SSH, and {what}"));
        let key =
            options.private_key.as_ref().filter(|key| !key.is_empty()).ok_or_else(|| {
                missing("no private key is configured for it; set one in the service's git.credentials")
            })?;
        let known_hosts = options.known_hosts.as_deref().unwrap_or_default();
        if known_hosts.trim().is_empty() && !options.skip_verify {
            return Err(missing("no host key is configured for it; give known hosts in the service's git.credentials"));
        }
        let failed = |error: std::io::Error| {
            GitError::other(format!("cannot write the SSH key of {url} to a temporary directory: {error}"))
        };
        let directory = Directory::make().map_err(failed)?;
        let files = (directory.path().join("key"), directory.path().join("known_hosts"));
        write_private(&files.0, &[key.expose().trim_end(), "\n"]).map_err(failed)?;
        write_private(&files.1, &[known_hosts, "\n"]).map_err(failed)?;
        Ok(Self { _directory: directory, key: files.0, known_hosts: files.1 })
    }
}

fn try_lock(file: &std::fs::File) -> std::io::Result<()> {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(Into::into)
}

/// Removes what killed workers of this user left in `below`: directories of ours that nobody holds the lock of.
fn remove_abandoned(below: &Path) {
    for entry in std::fs::read_dir(below).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(DIRECTORY))
            && entry.metadata().is_ok_and(|facts| {
                facts.is_dir() && std::os::unix::fs::MetadataExt::uid(&facts) == rustix::process::geteuid().as_raw()
            });
        // Without a lock file somebody is just making it.
        let Some(lock) = is_ours.then(|| std::fs::File::open(entry.path().join("lock")).ok()).flatten() else {
            continue;
        };
        if try_lock(&lock).is_ok() {
            // What stays is tried again by the next conversation.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn write_private(path: &Path, parts: &[&str]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part.as_bytes()))
}

/// Whether a conversation may go over a connection that others use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Small questions do: a handshake is ten times as large as they are.
    Questions,
    /// Packs do not: they would be compressed twice.
    Never,
}

/// What a client process does.
#[derive(Clone, Copy)]
pub(super) enum Role<'a> {
    /// Connects and has the one conversation.
    Alone(&'a Material),
    /// Connects, and waits at the socket for those that join.
    Opens(&'a Material, &'a Path),
    /// Has a conversation over the connection behind the socket, and over no other.
    Joins(&'a Path),
}

/// The client's command line. Conversations are with `git-upload-pack` for the repository, with protocol version 2 asked for.
pub(super) fn command(target: &SshTarget, options: &SshOptions, role: Role<'_>, timeouts: Timeouts) -> Command {
    let mut command = Command::new("ssh");
    command.current_dir("/").env_clear();
    for variable in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    command.env("LC_ALL", "C").env("HOME", "/nonexistent").env("GIT_PROTOCOL", "version=2");
    let opens_the_key = !matches!(role, Role::Joins(_));
    let asks = match (&options.passphrase, std::env::current_exe()) {
        (Some(passphrase), Ok(program)) if opens_the_key => {
            command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
            command.env(PASSPHRASE_VARIABLE, passphrase.expose());
            true
        }
        (Some(_) | None, _) => false,
    };
    command.args(arguments(target, options, role, timeouts, asks));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn arguments(
    target: &SshTarget,
    options: &SshOptions,
    role: Role<'_>,
    timeouts: Timeouts,
    asks: bool,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-F", "none", "-T", "-x", "-a"].map(OsString::from).into();
    let mut option = |name: &str, value: &str| {
        arguments.push("-o".into());
        arguments.push(format!("{name}={value}").into());
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    option("BatchMode", yes(!asks));
    option("NumberOfPasswordPrompts", "1");
    option("PreferredAuthentications", "publickey");
    option("IdentitiesOnly", "yes");
    option("IdentityAgent", "none");
    option("StrictHostKeyChecking", yes(!options.skip_verify));
    option("GlobalKnownHostsFile", "/dev/null");
    option("UpdateHostKeys", "no");
    option("CheckHostIP", "no");
    let no_progress = timeouts.no_progress.as_secs();
    let (material, socket, alive) = match role {
        Role::Alone(material) => (Some(material), None, no_progress.clamp(1, 15)),
        // Signs of life are bytes as well. A conversation over a connection that is dead ends at its own deadline.
        Role::Opens(material, socket) => (Some(material), Some(socket), shared::ALIVE.as_secs()),
        Role::Joins(socket) => (None, Some(socket), shared::ALIVE.as_secs()),
    };
    // Paths with spaces are several files to the client unless quoted.
    let known_hosts = material.map_or("/dev/null".into(), |material| material.known_hosts.to_string_lossy());
    option("UserKnownHostsFile", &format!("\"{known_hosts}\""));
    option("ControlPath", &socket.map_or("none".into(), |socket| socket.to_string_lossy()));
    match role {
        Role::Alone(_) => option("ControlMaster", "no"),
        Role::Opens(..) => {
            option("ControlMaster", "yes");
            option("ControlPersist", "no");
            // Questions and answers resemble each other, and the window of the compression spans all of them.
            option("Compression", "yes");
        }
        Role::Joins(_) => {
            option("ControlMaster", "no");
            // Without the socket the client would connect by itself, with no key; this ends it instead.
            option("ProxyCommand", "false");
        }
    }
    option("PermitLocalCommand", "no");
    option("ForwardAgent", "no");
    option("ClearAllForwardings", "yes");
    option("LogLevel", "ERROR");
    option("ConnectTimeout", &timeouts.connect.as_secs().max(1).to_string());
    option("ServerAliveInterval", &alive.to_string());
    option("ServerAliveCountMax", "2");
    option("SendEnv", "GIT_PROTOCOL");
    if let Some(material) = material {
        arguments.push("-i".into());
        arguments.push(material.key.clone().into_os_string());
    }
    if matches!(role, Role::Opens(..)) {
        arguments.push("-N".into());
    }
    let authority = &target.authority;
    if let Some(port) = authority.port {
        arguments.push("-p".into());
        arguments.push(port.to_string().into());
    }
    if let Some(user) = &authority.user {
        arguments.push("-l".into());
        arguments.push(user.into());
    }
    arguments.push("--".into());
    arguments.push(authority.host.clone().into());
    if !matches!(role, Role::Opens(..)) {
        arguments.push(format!("git-upload-pack {}", quoted(&target.path)).into());
    }
    arguments
}

/// For the server's shell: in single quotes, with what ends them escaped.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''").replace('!', r"'\!'"))
}

/// What the client's last words mean, when they are known ones.
pub(super) fn verdict(words: &str, url: &str) -> Option<GitError> {
    let says = |part: &str| words.contains(part);
    let (kind, sentence) = if says("Host key verification failed") || says("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        (
            GitErrorKind::AuthFailed,
            "its host key is not among the configured known hosts; compare it with the host's published key, then add it",
        )
    } else if says("incorrect passphrase") || says("bad passphrase") {
        (GitErrorKind::AuthFailed, "the passphrase does not open the private key")
    } else if says("invalid format") || says("error in libcrypto") {
        (GitErrorKind::AuthFailed, "the private key cannot be read: wrong passphrase, or not a private key")
    } else if says("Permission denied") || says("Too many authentication failures") {
        (
            GitErrorKind::AuthFailed,
            "the server did not accept the private key; check the user name and that the key may read the repository",
        )
    } else if says("does not appear to be a git repository") || says("Repository not found") || says("not found") {
        (GitErrorKind::HostUnreachable, "there is no such repository, or the key may not see it")
    } else if says("Could not resolve hostname")
        || says("Connection refused")
        || says("timed out")
        || says("No route to host")
    {
        (GitErrorKind::HostUnreachable, "the host cannot be reached")
    } else {
        return None;
    };
    let words: String = words.chars().filter(|c| !c.is_control() || *c == '\n').take(300).collect();
    Some(GitError::new(kind, format!("{url}: {sentence} (ssh says: {})", words.trim().replace('\n', " "))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::Secret;

    #[test]
    fn everything_that_could_come_from_elsewhere_is_switched_off() {
        let options = SshOptions {
            private_key: Some(Secret::new("KEY")),
            known_hosts: Some("h ssh-ed25519 AAAA".to_owned()),
            ..SshOptions::default()
        };
        let material = Material::write(&options, "ssh://h/a").unwrap();
        let target = SshTarget::of_url("git@h:2222/it's a!.git").unwrap();
        let timeouts = Timeouts { connect: Duration::from_secs(5), no_progress: Duration::from_secs(20) };
        let socket = Path::new("/tmp/socket");
        for role in [Role::Alone(&material), Role::Opens(&material, socket), Role::Joins(socket)] {
            let command = command(&target, &options, role, timeouts);
            let arguments: Vec<String> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
            let line = arguments.join(" ");
            for part in
                ["-F none", "BatchMode=yes", "StrictHostKeyChecking=yes", "IdentityAgent=none", "-p 2222 -l git -- h"]
            {
                assert!(line.contains(part), "{part} in {line}");
            }
            let last = arguments.last().unwrap();
            match role {
                Role::Opens(..) => assert_eq!(last, "h"),
                Role::Alone(_) | Role::Joins(_) => assert_eq!(last, r"git-upload-pack '/it'\''s a'\!'.git'"),
            }
            assert!(!line.contains("KEY") && !format!("{options:?}").contains("KEY"));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&material.key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn keys_that_a_killed_worker_left_are_removed_and_those_in_use_are_not() {
        let below = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let directory = below.path().join(format!("{DIRECTORY}{name}"));
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("key"), "KEY").unwrap();
            std::fs::write(directory.join("lock"), "").unwrap();
            directory
        };
        let (abandoned, in_use) = (make("abandoned"), make("in-use"));
        let held = std::fs::File::open(in_use.join("lock")).unwrap();
        try_lock(&held).unwrap();
        remove_abandoned(below.path());
        assert!(!abandoned.exists() && in_use.join("key").exists());
        drop(held);
        remove_abandoned(below.path());
        assert!(!in_use.exists());
    }

    #[test]
    fn a_key_and_host_keys_are_asked_for_by_name() {
        let none = Material::write(&SshOptions::default(), "ssh://h/a").err().unwrap();
        assert!(none.kind == GitErrorKind::AuthFailed && none.message.contains("no private key"), "{none}");
        let key = SshOptions { private_key: Some(Secret::new("k")), ..SshOptions::default() };
        let no_host = Material::write(&key, "ssh://h/a").err().unwrap();
        assert!(no_host.message.contains("no host key"), "{no_host}");
        assert!(Material::write(&SshOptions { skip_verify: true, ..key }, "ssh://h/a").is_ok());
    }
}
