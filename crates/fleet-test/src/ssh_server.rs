//! A real SSH server for tests, and a real `git daemon`: on the loopback only, gone when dropped.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::ReservedPort;

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running `sshd` that lets one key in, as the user who runs the test.
#[derive(Debug)]
pub struct SshServer {
    port: ReservedPort,
    user: String,
    known_hosts: String,
    directory: tempfile::TempDir,
    _sshd: Killed,
}

/// A running `git daemon`.
#[derive(Debug)]
pub struct GitDaemon {
    port: ReservedPort,
    _daemon: Killed,
}

#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl SshServer {
    /// Starts a server that accepts [`SshServer::private_key`] and, encrypted, [`SshServer::encrypted_key`].
    ///
    /// # Errors
    /// When a program is missing, or the server does not start in a minute.
    pub fn start() -> Result<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .context("sshd is missing; on Debian: apt-get install openssh-server")?;
        let directory = tempfile::Builder::new().prefix("ssh-server-").tempdir()?;
        let at = |name: &str| directory.path().join(name);
        make_key(&at("host"), "")?;
        make_key(&at("user"), "")?;
        fs::copy(at("user"), at("locked"))?;
        fs::set_permissions(at("locked"), fs::Permissions::from_mode(0o600))?;
        let locked = at("locked");
        run(Command::new("ssh-keygen").args(["-q", "-p", "-P", "", "-N", Self::PASSPHRASE, "-f"]).arg(&locked))?;
        fs::copy(at("user.pub"), at("authorized_keys"))?;
        // sshd drops to this directory when it runs as root, and wants it to exist.
        if rustix::process::getuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let port = ReservedPort::take()?;
        let config = format!(
            "Port {number}\nListenAddress 127.0.0.1\nHostKey {host}\nPidFile none\nAuthorizedKeysFile {keys}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             AcceptEnv GIT_PROTOCOL\nLogLevel ERROR\n",
            number = port.port(),
            host = at("host").display(),
            keys = at("authorized_keys").display(),
        );
        fs::write(at("sshd_config"), config)?;
        let child = Command::new(&sshd)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("sshd.log"))?)
            .process_group(0)
            .spawn()
            .context("start sshd")?;
        let sshd =
            answers(Killed(child), &port).with_context(|| fs::read_to_string(at("sshd.log")).unwrap_or_default())?;
        let known_hosts = format!("[127.0.0.1]:{} {}", port.port(), fs::read_to_string(at("host.pub"))?);
        Ok(Self { port, user: user_name()?, known_hosts, directory, _sshd: sshd })
    }

    /// What opens [`SshServer::encrypted_key`].
    pub const PASSPHRASE: &str = "open sesame";

    /// The `ssh://` URL of a repository.
    #[must_use]
    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port.port(), repository.display())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// The user to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The server's line of a `known_hosts` file.
    #[must_use]
    pub fn known_hosts(&self) -> &str {
        &self.known_hosts
    }

    /// The key that is let in, as the text of its file.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn private_key(&self) -> String {
        fs::read_to_string(self.directory.path().join("user")).expect("the key was written at the start")
    }

    /// The same key, encrypted with [`SshServer::PASSPHRASE`].
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn encrypted_key(&self) -> String {
        fs::read_to_string(self.directory.path().join("locked")).expect("the key was written at the start")
    }

    /// A key that the server does not know.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn stranger_key(&self) -> Result<String> {
        let path = self.directory.path().join("stranger");
        make_key(&path, "")?;
        Ok(fs::read_to_string(path)?)
    }
}

impl GitDaemon {
    /// Serves every repository below `root`.
    ///
    /// # Errors
    /// When `git daemon` is missing, or does not start in a minute.
    pub fn start(root: &Path) -> Result<Self> {
        let port = ReservedPort::take()?;
        let child = Command::new("git")
            .args(["daemon", "--export-all", "--listen=127.0.0.1", "--reuseaddr"])
            .arg(format!("--port={}", port.port()))
            .arg(format!("--base-path={}", root.display()))
            .arg(root)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start git daemon")?;
        let daemon = answers(Killed(child), &port)?;
        Ok(Self { port, _daemon: daemon })
    }

    /// The `git://` URL of the repository at `path` below the root.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("git://127.0.0.1:{}/{path}", self.port.port())
    }

    /// The port on 127.0.0.1, for proxies.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.port()
    }
}

fn make_key(path: &Path, passphrase: &str) -> Result<()> {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"]).arg(path))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn user_name() -> Result<String> {
    let output = Command::new("id").arg("-un").output().context("run id")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn answers(mut process: Killed, port: &ReservedPort) -> Result<Killed> {
    let started = Instant::now();
    while started.elapsed() < START_DEADLINE {
        if TcpStream::connect(port.address()).is_ok() {
            return Ok(process);
        }
        if let Some(status) = process.0.try_wait()? {
            bail!("the server ended: {status}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("the server does not answer on port {}", port.port())
}
