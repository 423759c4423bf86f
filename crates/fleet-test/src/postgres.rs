//! A throw-away PostgreSQL cluster, shared by all test processes of a run, and fresh databases in it.
//!
//! The first process that needs it starts the cluster (unix socket only, `fsync=off`); the others find it. Each process
//! holds a shared lock on `users.lock` as long as it lives, however it ends. A guard (`postgres/guard.sh`) runs the server
//! and stops it when nobody has held that lock for a minute, so nothing stays behind after a run, also one that was killed.
//! `SHOREBASE_TEST_PG_DIR` names the directory to use; without it there is one for each user and build directory.

mod installed;

use std::fs::{File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use installed::{Programs, ServerUser, server_user};

const GUARD: &str = include_str!("postgres/guard.sh");
const ROLE: &str = "fleet";
/// Longest socket path that Linux takes is 107 bytes; the socket's name takes 18 of them.
const LONGEST_DIR: usize = 80;
const START_DEADLINE: Duration = Duration::from_secs(120);
const IDLE_SECONDS: u32 = 60;

/// A running cluster. It is not stopped when this is dropped, but when no process uses it any more.
#[derive(Debug)]
pub struct TestPostgres {
    dir: PathBuf,
    programs: Programs,
    /// Held, never read: says that this process uses the cluster.
    _user: File,
}

impl TestPostgres {
    /// The cluster of this test run.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub fn shared() -> &'static Self {
        match Self::try_shared() {
            Ok(postgres) => postgres,
            Err(error) => panic!("no PostgreSQL for tests: {error:#}"),
        }
    }

    /// The cluster of this test run.
    ///
    /// # Errors
    /// When it cannot be started; the message says what to install.
    pub fn try_shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<TestPostgres, String>> = OnceLock::new();
        let started = SHARED.get_or_init(|| {
            default_dir().and_then(|dir| TestPostgres::in_dir(&dir, IDLE_SECONDS)).map_err(|error| format!("{error:#}"))
        });
        started.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Finds or starts the cluster of `dir`, which stops after `idle_seconds` without a user.
    fn in_dir(dir: &Path, idle_seconds: u32) -> Result<Self> {
        let programs = Programs::find()?;
        let user = server_user()?;
        prepare_dir(dir, user.as_ref())?;
        let users_lock = open_lock(&dir.join("users.lock"))?;
        lock(&users_lock, FlockOperation::NonBlockingLockShared, "the users lock of the test database")?;
        let start_lock = open_lock(&dir.join("start.lock"))?;
        lock(&start_lock, FlockOperation::NonBlockingLockExclusive, "another process that starts the test database")?;

        let cluster = Self { dir: dir.to_owned(), programs, _user: users_lock };
        let guarded = cluster.is_guarded()?;
        if !(guarded && dir.join("ready").exists() && cluster.accepts_connections()) {
            if !guarded {
                cluster.create(user.as_ref(), idle_seconds)?;
            }
            cluster.wait_until_ready()?;
            std::fs::write(dir.join("ready"), b"").context("writing the marker of the test database")?;
        }
        Ok(cluster)
    }

    /// Whether a guard lives: it holds `guard.lock`.
    fn is_guarded(&self) -> Result<bool> {
        let guard_lock = open_lock(&self.dir.join("guard.lock"))?;
        Ok(flock(&guard_lock, FlockOperation::NonBlockingLockExclusive).is_err())
    }

    fn accepts_connections(&self) -> bool {
        UnixStream::connect(self.socket_dir().join(".s.PGSQL.5432")).is_ok()
    }

    fn socket_dir(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// Clears what a killed guard left, makes a new cluster and starts a guard that runs it.
    fn create(&self, user: Option<&ServerUser>, idle_seconds: u32) -> Result<()> {
        self.end_orphan()?;
        for left in ["ready", "keep", "data", "s", "server.log", "guard.log"] {
            let path = self.dir.join(left);
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
        }
        let data = self.dir.join("data");
        let initdb = as_user(&self.programs.server("initdb"), user)
            .args(["-U", ROLE, "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8", "-D"])
            .arg(&data)
            .output()
            .context("running initdb")?;
        ensure!(
            initdb.status.success(),
            "initdb of the test database failed ({}): {}",
            initdb.status,
            String::from_utf8_lossy(&initdb.stderr).trim()
        );
        make_dir(&self.socket_dir(), user)?;
        std::fs::write(self.dir.join("keep"), b"")?;
        let log = File::create(self.dir.join("guard.log")).context("creating the log of the guard")?;
        let mut guard = as_user(Path::new("/bin/sh"), user);
        guard.arg("-c").arg(GUARD).arg("shorebase-test-postgres").arg(&self.dir).arg(&self.programs.bin_dir);
        guard.arg(idle_seconds.to_string()).stderr(log).process_group(0);
        guard.spawn().context("starting the guard of the test database")?;
        Ok(())
    }

    /// Ends a server that lost its guard. It is ours only if it works in our data directory.
    fn end_orphan(&self) -> Result<()> {
        let data = self.dir.join("data");
        let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return Ok(()) };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { return Ok(()) };
        let works_in_data = || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data);
        if !works_in_data() {
            return Ok(());
        }
        let pid = rustix::process::Pid::from_raw(pid).context("postmaster.pid holds no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT)
            .context("ending an orphaned test database")?;
        until(Duration::from_secs(20), "an orphaned test database to end", || Ok((!works_in_data()).then_some(())))
    }

    fn wait_until_ready(&self) -> Result<()> {
        let answered = until(START_DEADLINE, "the test database to start", || {
            if self.accepts_connections() && self.psql("postgres", "select 1").is_ok() {
                return Ok(Some(()));
            }
            let log = || tail(&self.dir.join("server.log")) + &tail(&self.dir.join("guard.log"));
            // So it answers those who are too early, us among them.
            let is_fatal = |line: &str| line.contains("FATAL") && !line.contains("is starting up");
            ensure!(!log().lines().any(is_fatal), "the test database does not start: {}", log());
            Ok(None)
        });
        answered.with_context(|| format!("see {}", self.dir.join("server.log").display()))
    }

    /// Address of a database in this cluster.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user={ROLE}", self.socket_dir().display())
    }

    /// Runs SQL with the `psql` program and returns its bare output: one line for a row, `|` between columns.
    ///
    /// # Errors
    /// When a statement fails; the message is that of `psql`.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        self.run_psql(database, &["-c", sql])
    }

    fn run_psql(&self, database: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.programs.psql);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        let output = command
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database)])
            .args(args)
            .env("PGCONNECT_TIMEOUT", "20")
            .env("PGOPTIONS", "-c client_min_messages=warning")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.programs.psql.display()))?;
        if !output.status.success() {
            bail!("psql failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

/// A fresh, empty database; dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct TestDatabase {
    postgres: &'static TestPostgres,
    name: String,
}

impl TestDatabase {
    /// Creates a database in the cluster of this run.
    ///
    /// # Panics
    /// When there is no cluster or the database cannot be created.
    #[must_use]
    pub fn create() -> Self {
        match Self::try_create() {
            Ok(database) => database,
            Err(error) => panic!("no database for this test: {error:#}"),
        }
    }

    /// Creates a database in the cluster of this run.
    ///
    /// # Errors
    /// When there is no cluster or the database cannot be created.
    pub fn try_create() -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let postgres = TestPostgres::try_shared()?;
        // Process ids come again while the cluster lives, so the time of the start makes the name unique.
        let started = std::fs::metadata("/proc/self").map_or(0, |me| me.ctime_nsec() + me.ctime() * 1_000_000_000);
        let name = format!("t{}_{started}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        postgres.psql("postgres", &format!("create database {name}")).context("creating a test database")?;
        Ok(Self { postgres, name })
    }

    /// `postgres:///NAME?host=SOCKET_DIR&user=fleet`
    #[must_use]
    pub fn url(&self) -> String {
        self.postgres.url(&self.name)
    }

    /// Runs SQL with the `psql` program and returns its bare output: one line for a row, `|` between columns.
    ///
    /// # Errors
    /// When a statement fails; the message is that of `psql`.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.postgres.psql(&self.name, sql)
    }

    /// Runs a file of SQL in one transaction.
    ///
    /// # Errors
    /// When a statement fails; the message names file and line.
    pub fn psql_file(&self, file: &Path) -> Result<String> {
        let path = file.to_str().context("the path of the SQL file is not UTF-8")?;
        self.postgres.run_psql(&self.name, &["-1", "-f", path])
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A failure leaves an unused database in a cluster that is thrown away soon.
        let _ = self.postgres.psql("postgres", &format!("drop database if exists {} with (force)", self.name));
    }
}

/// A directory for each user and build directory, below a temporary directory that the server's user can enter.
fn default_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SHOREBASE_TEST_PG_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let exe = std::env::current_exe().context("finding the running test program")?;
    // TARGET/debug/deps/program and TARGET/debug/program belong to one run.
    let target = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).or(exe.parent());
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    let name = format!("shorebase-test-pg-{}-{:016x}", rustix::process::geteuid().as_raw(), hasher.finish());
    let wanted = std::env::temp_dir();
    let open_to_all = |dir: &Path| dir.ancestors().all(|d| d.metadata().is_ok_and(|m| m.mode() & 0o001 != 0));
    let base = if open_to_all(&wanted) && wanted.as_os_str().len() + name.len() < LONGEST_DIR {
        wanted
    } else {
        PathBuf::from("/tmp")
    };
    Ok(base.join(name))
}

/// The directory belongs to the server's user; others may only pass through it.
fn prepare_dir(dir: &Path, user: Option<&ServerUser>) -> Result<()> {
    ensure!(
        dir.as_os_str().len() <= LONGEST_DIR,
        "{} is too long for a unix socket; set SHOREBASE_TEST_PG_DIR to a path of at most {LONGEST_DIR} bytes",
        dir.display()
    );
    make_dir(dir, user)
}

fn make_dir(dir: &Path, user: Option<&ServerUser>) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o711).create(dir);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| format!("creating {}", dir.display()));
    }
    let meta = std::fs::symlink_metadata(dir).with_context(|| format!("reading {}", dir.display()))?;
    let me = rustix::process::geteuid().as_raw();
    let owner_is_known = meta.uid() == me || user.is_some_and(|user| user.uid == meta.uid());
    ensure!(meta.is_dir() && owner_is_known, "{} belongs to somebody else; remove it", dir.display());
    std::fs::set_permissions(dir, Permissions::from_mode(0o711))
        .with_context(|| format!("setting the mode of {}", dir.display()))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid))
            .with_context(|| format!("giving {} to the server's user", dir.display()))?;
    }
    Ok(())
}

fn open_lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).read(true).open(path);
    file.with_context(|| format!("opening {}", path.display()))
}

fn lock(file: &File, operation: FlockOperation, what: &str) -> Result<()> {
    until(START_DEADLINE, what, || Ok(flock(file, operation).is_ok().then_some(())))
}

/// Looks every 20 ms until there is a value.
fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        ensure!(started.elapsed() < deadline, "waited {} s for {what}", deadline.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command with nothing to read from or write to, as the server's user when there is one.
fn as_user(program: &Path, user: Option<&ServerUser>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(1_500)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_apart_and_empty() {
        let (one, two) = (TestDatabase::create(), TestDatabase::create());
        one.psql("create table t (x int); insert into t values (7)").unwrap();
        assert_eq!(one.psql("select x from t").unwrap(), "7");
        let error = two.psql("select x from t").unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }

    #[test]
    fn a_database_goes_with_its_value() {
        let database = TestDatabase::create();
        let name = database.name.clone();
        let count = format!("select count(*) from pg_database where datname = '{name}'");
        assert_eq!(TestPostgres::shared().psql("postgres", &count).unwrap(), "1");
        drop(database);
        assert_eq!(TestPostgres::shared().psql("postgres", &count).unwrap(), "0");
    }

    /// A directory of its own, short enough for a socket.
    fn own_dir() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("sb-pg-").tempdir_in("/tmp").unwrap()
    }

    #[test]
    fn a_second_user_finds_the_running_cluster() {
        let dir = own_dir();
        let one = TestPostgres::in_dir(dir.path(), 30).unwrap();
        let two = TestPostgres::in_dir(dir.path(), 30).unwrap();
        let started = "select pg_postmaster_start_time()";
        assert_eq!(one.psql("postgres", started).unwrap(), two.psql("postgres", started).unwrap());
        std::fs::remove_file(dir.path().join("keep")).unwrap();
        until(Duration::from_secs(20), "the cluster to end", || Ok((!one.accepts_connections()).then_some(())))
            .unwrap();
    }

    #[test]
    fn the_cluster_ends_after_its_last_user() {
        let dir = own_dir();
        let cluster = TestPostgres::in_dir(dir.path(), 1).unwrap();
        let socket = cluster.socket_dir().join(".s.PGSQL.5432");
        drop(cluster);
        let data = dir.path().join("data");
        until(Duration::from_secs(30), "the cluster to end", || {
            Ok((UnixStream::connect(&socket).is_err() && !data.exists()).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn a_killed_guard_is_replaced() {
        let dir = own_dir();
        let first = TestPostgres::in_dir(dir.path(), 30).unwrap();
        let pid_file = std::fs::read_to_string(dir.path().join("data/postmaster.pid")).unwrap();
        let server: i32 = pid_file.lines().next().unwrap().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
        let guard: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        let guard = rustix::process::Pid::from_raw(guard).unwrap();
        rustix::process::kill_process(guard, rustix::process::Signal::KILL).unwrap();
        until(Duration::from_secs(10), "the guard to die", || Ok((!first.is_guarded()?).then_some(()))).unwrap();
        let second = TestPostgres::in_dir(dir.path(), 30).unwrap();
        assert_eq!(second.psql("postgres", "select 1").unwrap(), "1");
        std::fs::remove_file(dir.path().join("keep")).unwrap();
        until(Duration::from_secs(20), "the cluster to end", || Ok((!second.accepts_connections()).then_some(())))
            .unwrap();
    }
}
