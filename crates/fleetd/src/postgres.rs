//! A private PostgreSQL cluster inside the data directory, for installations without a database of their own.
//!
//! The server programs are those installed on the machine. The server listens on a unix socket only, in a directory that
//! only its user can enter; it runs as an unprivileged user when the service was started by root. It is durable: `fsync`
//! on, checksums on. It ends with [`EmbeddedPostgres::stop`]; the server of a killed service is stopped by the next start.
//!
//! Below `DATA_DIR/postgres`: `cluster` (complete or absent), `run` (the socket), `server.log`, `lock`.

mod installed;
mod layout;
mod orphan;
mod server_log;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tracing::{debug, info, warn};

use installed::{Installation, ServerUser};
use layout::Layout;
use server_log::ServerLog;

/// Database and role that the service uses.
const NAME: &str = "shorebase";

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub struct StepDeadlines {
    /// `initdb`, once in the life of a data directory.
    pub create: Duration,
    /// From the start of the server until it takes connections. Recovery after a crash happens here.
    pub start: Duration,
    /// A fast shutdown; after that the server is told to stop at once.
    pub stop: Duration,
}

impl Default for StepDeadlines {
    fn default() -> Self {
        Self { create: Duration::from_secs(180), start: Duration::from_secs(300), stop: Duration::from_secs(60) }
    }
}

/// Why there is no embedded database.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No usable server programs.
    #[error(
        "PostgreSQL {} or newer is not installed ({found}); install the package postgresql (Debian, Ubuntu) or \
         postgresql-server (Fedora), or set database.url to a server elsewhere",
        installed::OLDEST_MAJOR
    )]
    NotInstalled {
        /// What was found instead.
        found: String,
    },
    /// The cluster was made by another major version.
    #[error(
        "the database in {} was made by PostgreSQL {cluster}, but only {installed} is installed; install the server \
         package of version {cluster}, or move the data with pg_upgrade", .dir.display()
    )]
    VersionMismatch {
        /// The cluster.
        dir: PathBuf,
        /// Its major version.
        cluster: String,
        /// The installed major versions, comma-separated.
        installed: String,
    },
    /// Another service runs on the same data directory.
    #[error("{} is in use by another fleetd; stop it, or give this one a data directory of its own", .dir.display())]
    InUse {
        /// The directory of the database.
        dir: PathBuf,
    },
    /// There is no unprivileged user to run the server.
    #[error(
        "PostgreSQL does not run as root, and this machine has no user postgres or nobody; create one, or start fleetd as another user"
    )]
    NoServerUser,
    /// The server's user cannot reach its directory.
    #[error(
        "{} cannot be entered by the user {user} that PostgreSQL runs as; run `chmod o+x {}`, or choose another data directory",
        .dir.display(), .dir.display()
    )]
    Unreachable {
        /// The directory that is closed.
        dir: PathBuf,
        /// The server's user.
        user: String,
    },
    /// No directory has a path that a socket can have.
    #[error("{} cannot hold a unix socket (at most 107 bytes of letters, digits and /-_.~) and neither can /run or a temporary directory; choose another data directory", .dir.display())]
    NoSocketPlace {
        /// The socket directory.
        dir: PathBuf,
    },
    /// A directory or file cannot be used.
    #[error("{what} {}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// A step took too long.
    #[error("{what} took more than {seconds} s; see {}", .log.display())]
    TooSlow {
        /// Which step.
        what: &'static str,
        /// The deadline.
        seconds: u64,
        /// The server's log.
        log: PathBuf,
    },
    /// The server of an earlier run does not end.
    #[error("a PostgreSQL server of an earlier run (process {pid}) still uses {} and does not end; stop it by hand", .dir.display())]
    OrphanStays {
        /// Its process id.
        pid: i32,
        /// The cluster.
        dir: PathBuf,
    },
    /// The running server ended although nobody had asked it to.
    #[error("the embedded PostgreSQL ended unasked ({status}): {output}; see {}", .log.display())]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        output: String,
        /// The server's log.
        log: PathBuf,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::Io { what, path, source }
}

/// A running server. Dropping it asks the server to stop but does not wait; use [`EmbeddedPostgres::stop`].
#[derive(Debug)]
pub struct EmbeddedPostgres {
    layout: Layout,
    server: Child,
    log: ServerLog,
    deadlines: StepDeadlines,
}

impl EmbeddedPostgres {
    /// Starts the database of this data directory, and creates it when there is none. The directory is created if
    /// needed; started as root, others get the right to pass through it (not to list it).
    ///
    /// # Errors
    /// See [`PostgresError`]; nothing is left running.
    pub async fn start(data_dir: &Path) -> Result<Self, PostgresError> {
        Self::start_with(data_dir, StepDeadlines::default()).await
    }

    /// As [`EmbeddedPostgres::start`], with other deadlines.
    ///
    /// # Errors
    /// See [`PostgresError`]; nothing is left running.
    pub async fn start_with(data_dir: &Path, deadlines: StepDeadlines) -> Result<Self, PostgresError> {
        let user = installed::server_user()?;
        let layout = Layout::prepare(data_dir, user.as_ref())?;
        let installations = installed::find_all().await;
        orphan::stop(&layout.cluster, deadlines.stop).await?;
        let installation = match layout.cluster_version()? {
            Some(version) => {
                installed::of_major(&installations, &version).ok_or_else(|| PostgresError::VersionMismatch {
                    dir: layout.cluster.clone(),
                    cluster: version,
                    installed: installed::majors(&installations),
                })?
            }
            None => {
                let newest = installed::newest(&installations)?;
                create(&layout, newest, user.as_ref(), deadlines.create).await?;
                newest
            }
        };
        let (server, log) = run_server(&layout, installation, user.as_ref(), deadlines.start).await?;
        let postgres = Self { layout, server, log, deadlines };
        info!(
            version = %installation.major, socket = %postgres.layout.socket_dir.display(), pid = postgres.server.id(),
            "The embedded PostgreSQL takes connections"
        );
        Ok(postgres)
    }

    /// Where to connect: `postgres:///shorebase?host=SOCKET_DIR&user=shorebase`. There is no password: only the server's
    /// user and root can enter the directory of the socket.
    pub fn url(&self) -> String {
        format!("postgres:///{NAME}?host={}&user={NAME}", self.layout.socket_dir.display())
    }

    /// Waits until the server ends without having been asked, and tells how. Safe to cancel.
    pub async fn ended(&mut self) -> PostgresError {
        let status = match self.server.wait().await {
            Ok(status) => status,
            Err(source) => {
                return PostgresError::Io {
                    what: "waiting for the server of",
                    path: self.layout.cluster.clone(),
                    source,
                };
            }
        };
        PostgresError::Ended { status, output: self.log.tail(), log: self.layout.log.clone() }
    }

    /// A fast shutdown: open transactions are rolled back, everything committed is on disk. A server that does not end in
    /// time is told to stop at once; the next start then recovers from the write-ahead log.
    ///
    /// # Errors
    /// When the server does not end either way, or ended badly.
    pub async fn stop(mut self) -> Result<(), PostgresError> {
        let started = Instant::now();
        for (signal, deadline) in [(Signal::INT, self.deadlines.stop), (Signal::QUIT, Duration::from_secs(20))] {
            let Some(pid) = process_id(&self.server) else { break };
            if let Err(error) = kill_process(pid, signal) {
                debug!(%error, "The embedded PostgreSQL takes no signal; it has ended");
            }
            match tokio::time::timeout(deadline, self.server.wait()).await {
                Ok(Ok(status)) if status.success() => {
                    info!(seconds = started.elapsed().as_secs_f32(), "The embedded PostgreSQL has stopped");
                    return Ok(());
                }
                Ok(Ok(status)) => {
                    return Err(PostgresError::Ended { status, output: self.log.tail(), log: self.layout.log.clone() });
                }
                Ok(Err(source)) => {
                    return Err(io_error("waiting for the server of", &self.layout.cluster)(source));
                }
                Err(_) => warn!(seconds = deadline.as_secs(), "The embedded PostgreSQL does not stop; asking harder"),
            }
        }
        let (what, seconds) = ("stopping the embedded PostgreSQL", self.deadlines.stop.as_secs() + 20);
        Err(PostgresError::TooSlow { what, seconds, log: self.layout.log.clone() })
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        if let (Ok(None), Some(pid)) = (self.server.try_wait(), process_id(&self.server)) {
            // Nothing can be done about a failure here; the next start stops what is left.
            let _ = kill_process(pid, Signal::INT);
        }
    }
}

/// The id of a process that was not waited for yet, so that it cannot belong to another.
fn process_id(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Makes a cluster beside its place and moves it there when it is complete.
async fn create(
    layout: &Layout,
    installation: &Installation,
    user: Option<&ServerUser>,
    deadline: Duration,
) -> Result<(), PostgresError> {
    let started = Instant::now();
    info!(dir = %layout.cluster.display(), version = %installation.major, "Creating the embedded PostgreSQL cluster");
    layout.begin(user)?;
    let finish = async {
        let mut initdb = command(&installation.bin_dir.join("initdb"), user);
        initdb.args(["-U", NAME, "--auth-local=trust", "--auth-host=reject", "--no-locale", "-E", "UTF8"]);
        initdb.args(["--data-checksums", "--no-sync", "-D"]).arg(&layout.unfinished);
        run_to_end("initdb", initdb, "").await?;
        let mut single = command(&installation.bin_dir.join("postgres"), user);
        single.args(["--single", "-F", "-D"]).arg(&layout.unfinished).arg("postgres");
        run_to_end("postgres --single", single, &format!("CREATE DATABASE {NAME}\n")).await?;
        // Once for both, instead of file by file.
        let mut sync = command(&installation.bin_dir.join("initdb"), user);
        sync.args(["--sync-only", "-D"]).arg(&layout.unfinished);
        run_to_end("initdb --sync-only", sync, "").await
    };
    let Ok(done) = tokio::time::timeout(deadline, finish).await else {
        let what = "creating the embedded PostgreSQL cluster";
        return Err(PostgresError::TooSlow { what, seconds: deadline.as_secs(), log: layout.log.clone() });
    };
    done?;
    layout.publish()?;
    info!(seconds = started.elapsed().as_secs_f32(), "Created the embedded PostgreSQL cluster");
    Ok(())
}

async fn run_to_end(program: &'static str, mut command: Command, input: &str) -> Result<(), PostgresError> {
    let failed = || io_error("running", Path::new(program));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says why on its error output.
        if let Err(error) = stdin.write_all(input.as_bytes()).await {
            debug!(%error, program, "A program did not take its input");
        }
    }
    let output = child.wait_with_output().await.map_err(failed())?;
    // Single-user mode reports a failed statement but ends well.
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && !said.contains("ERROR:") {
        return Ok(());
    }
    Err(PostgresError::Failed { program, status: output.status, output: server_log::last_lines(&said) })
}

/// Starts the server and waits until it takes connections.
async fn run_server(
    layout: &Layout,
    installation: &Installation,
    user: Option<&ServerUser>,
    deadline: Duration,
) -> Result<(Child, ServerLog), PostgresError> {
    let started = Instant::now();
    loop {
        let (reader, writer) = io::pipe().map_err(io_error("making a pipe for", &layout.log))?;
        let log = ServerLog::start(&layout.log, reader).map_err(io_error("writing", &layout.log))?;
        let mut command = server_command(layout, installation, user);
        let mut server = command.stderr(writer).spawn().map_err(io_error("running", &installation.bin_dir))?;
        // The command holds a copy of the pipe's end; the log ends when the last copy is closed.
        drop(command);
        let ended = wait_until_ready(layout, &mut server, started, deadline).await;
        match ended {
            Ok(None) => return Ok((server, log)),
            // Workers of a killed server need a moment to see that it is gone.
            Ok(Some(_)) if log.tail().contains("shared memory block") && started.elapsed() < deadline => {
                warn!("Processes of a killed PostgreSQL still end; trying again");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(Some(status)) => {
                let output = log.tail();
                return Err(PostgresError::Failed { program: "postgres", status, output });
            }
            Err(error) => {
                if let Some(pid) = process_id(&server) {
                    // The start has failed already; the next start stops what does not end now.
                    let _ = kill_process(pid, Signal::QUIT);
                    let _ = tokio::time::timeout(Duration::from_secs(20), server.wait()).await;
                }
                return Err(error);
            }
        }
    }
}

fn server_command(layout: &Layout, installation: &Installation, user: Option<&ServerUser>) -> Command {
    let mut command = command(&installation.bin_dir.join("postgres"), user);
    command.arg("-D").arg(&layout.cluster);
    let mut socket_dir = std::ffi::OsString::from("unix_socket_directories=");
    socket_dir.push(&layout.socket_dir);
    command.arg("-c").arg(socket_dir);
    for setting in [
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "max_connections=100",
        "fsync=on",
        "full_page_writes=on",
        "synchronous_commit=on",
        "logging_collector=off",
        "log_destination=stderr",
        "log_checkpoints=off",
        "log_min_messages=warning",
        "log_line_prefix=%m [%p] ",
        "timezone=UTC",
        "log_timezone=UTC",
        "cluster_name=shorebase",
    ] {
        command.args(["-c", setting]);
    }
    // A terminal's Ctrl-C is for the service; it stops the database after its own work has ended.
    command.process_group(0);
    command
}

/// `None` when the server takes connections; its status when it ended instead.
async fn wait_until_ready(
    layout: &Layout,
    server: &mut Child,
    started: Instant,
    deadline: Duration,
) -> Result<Option<ExitStatus>, PostgresError> {
    let pid = server.id();
    let mut told = Instant::now();
    loop {
        if let Some(status) = server.try_wait().map_err(io_error("waiting for the server of", &layout.cluster))? {
            return Ok(Some(status));
        }
        // The server writes its state into the file as the last step of its start, as `pg_ctl --wait` knows.
        let state = orphan::PidFile::read(&layout.cluster);
        if state.is_some_and(|file| Some(file.pid.unsigned_abs()) == pid && file.is_ready) {
            return Ok(None);
        }
        if started.elapsed() >= deadline {
            let what = "starting the embedded PostgreSQL";
            return Err(PostgresError::TooSlow { what, seconds: deadline.as_secs(), log: layout.log.clone() });
        }
        if told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            info!(seconds = started.elapsed().as_secs(), "Waiting for the embedded PostgreSQL to recover and start");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A command with a clean environment, as the server's user when there is one.
fn command(program: &Path, user: Option<&ServerUser>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

#[cfg(test)]
mod tests;
