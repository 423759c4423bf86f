//! A whole installation on this machine: the real service, agents and CLI as processes, a real database, real Git.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fleet_test::{GitRepo, ReservedPort, TestDatabase};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Asks again and again until there is an answer.
///
/// # Panics
/// After [`DEADLINE`].
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_after(Duration::ZERO, what, probe)
}

/// The same for what may take its time by itself, on any machine.
///
/// # Panics
/// [`DEADLINE`] after that time.
pub(crate) fn eventually_after<T>(pause: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let (started, deadline) = (Instant::now(), pause + DEADLINE);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Drops things under a running service, in one statement that says `if exists`. The database ends this or a transaction of
/// the service where each waits for the other, or both change the same table: it is tried again then.
pub(crate) fn drop_while_running(database: &TestDatabase, statement: impl Fn() -> String) {
    eventually("the database to let things be dropped", || match database.psql(&statement()) {
        Ok(_) => Some(()),
        Err(error) if ["deadlock detected", "concurrently"].iter().any(|why| format!("{error:#}").contains(why)) => {
            None
        }
        Err(error) => panic!("{error:#}"),
    });
}

/// Loopback addresses that stay with a service while it is down: user interface, agent interface, metrics. Nobody else is
/// given their ports, and the service can listen there as often as it likes.
pub(crate) struct Addresses {
    pub(crate) all: [SocketAddr; 3],
    _ports: [ReservedPort; 3],
}

impl Addresses {
    pub(crate) fn reserve() -> Self {
        let ports = [(); 3].map(|()| ReservedPort::take().unwrap());
        Self { all: ports.each_ref().map(ReservedPort::address), _ports: ports }
    }
}

/// A program built beside the service.
pub(crate) fn program(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_fleetd")).with_file_name(name);
    assert!(beside.is_file(), "{} is missing; build it first: cargo build -p {name}", beside.display());
    beside
}

/// A child process whose output is kept, and that is killed when it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("piped");
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { name: name.to_owned(), child, lines, reader: Some(reader) }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Sends it a signal, such as one that stops it without its knowing.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the service serves.
    pub(crate) fn ready(&mut self) {
        eventually("the service to be ready", || {
            let log = self.log();
            assert!(self.is_running(), "fleetd ended:\n{}", log.join("\n"));
            log.iter().any(|line| line.contains("\"Ready\"")).then_some(())
        });
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it without warning, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits until it has. Panics unless it ended well.
    pub(crate) fn terminate(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = eventually("a clean end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log().join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(40);
            eprintln!("--- last lines of {}\n{}", self.name, log[tail..].join("\n"));
        }
    }
}

/// Where the database is.
pub(crate) enum Database {
    /// In a cluster of the test run.
    Own(TestDatabase),
    /// The service's embedded one.
    Embedded,
}

/// An installation.
pub(crate) struct Installation {
    // First: it ends before what it uses is removed.
    service: Option<Process>,
    pub(crate) dir: TempDir,
    pub(crate) repo: GitRepo,
    pub(crate) database: Database,
    addresses: Addresses,
    git_settings: String,
    pub(crate) source_url: String,
    /// What the source `main` has besides its name and URL, with the closing brace; further sources may follow on lines of
    /// their own.
    pub(crate) source_rest: String,
    /// A directory whose programs the service finds before all others, from the next start on.
    pub(crate) programs: Option<PathBuf>,
}

/// The agents' settings that make tests quick.
const AGENT_SETTINGS: &str = "\nstatus-update-interval: 2s\nspec-fetch-error-base-delay: 200ms\n\
    spec-fetch-error-max-delay: 1s\nshorebase:\n  drift-check-interval: 1s\n  poll-min-interval: 50ms\n  \
    enrollment-poll-base-delay: 200ms\n  enrollment-poll-max-delay: 1s\n";

impl Installation {
    /// A service on a repository with these files, in one commit.
    pub(crate) fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(files, Database::Own(TestDatabase::create()), "{}")
    }

    /// As [`Self::start`], with a database and settings below `git` (YAML in flow style).
    pub(crate) fn start_with(files: &[(&str, &str)], database: Database, git_settings: &str) -> Self {
        let repo = GitRepo::init();
        for (path, content) in files {
            repo.write(path, content);
        }
        repo.commit("start");
        let source_url = repo.url();
        Self::start_at(repo, &source_url, database, git_settings)
    }

    /// A service whose source is elsewhere. Further settings of the service may follow those below `git` on lines of their
    /// own.
    pub(crate) fn start_at(repo: GitRepo, source_url: &str, database: Database, git_settings: &str) -> Self {
        Self::start_sources(repo, source_url, "revision: main}", database, git_settings)
    }

    /// As [`Self::start_at`], with more said of the source, and of others: see `source_rest`.
    pub(crate) fn start_sources(
        repo: GitRepo,
        source_url: &str,
        source_rest: &str,
        database: Database,
        git_settings: &str,
    ) -> Self {
        let mut installation = Self {
            dir: tempfile::Builder::new().prefix("shorebase-e2e").tempdir().unwrap(),
            repo,
            database,
            service: None,
            addresses: Addresses::reserve(),
            git_settings: git_settings.to_owned(),
            source_url: source_url.to_owned(),
            source_rest: source_rest.to_owned(),
            programs: None,
        };
        // The embedded database runs as another user, who must get through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(installation.dir.path(), open).unwrap();
        installation.start_service();
        installation
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn write_config(&self) -> PathBuf {
        let [user, agent, metrics] = self.addresses.all;
        let url = match &self.database {
            Database::Own(database) => format!("database: {{url: \"{}\"}}\n", database.url()),
            Database::Embedded => String::new(),
        };
        let text = format!(
            "dataDir: {data}\nlog: {{level: 'info,fleet_agent_api=debug', format: json}}\n{url}userApi: {{address: '{user}'}}\n\
             agentApi: {{address: '{agent}'}}\nmetrics: {{address: '{metrics}'}}\ngit: {git}\n\
             sources:\n- {{name: main, url: '{source}', {rest}\n",
            data = self.data_dir().display(),
            git = self.git_settings,
            source = self.source_url,
            rest = self.source_rest,
        );
        let path = self.dir.path().join("fleetd.yaml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Other settings below `git`, and what may follow them, from the next start on.
    pub(crate) fn set_git_settings(&mut self, settings: &str) {
        settings.clone_into(&mut self.git_settings);
    }

    /// Starts the service, again at the same addresses, and waits until it is ready.
    pub(crate) fn start_service(&mut self) {
        let config = self.write_config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetd"));
        command.arg("serve").arg("--config").arg(config);
        if let Some(first) = &self.programs {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", first.display()));
        }
        let mut service = Process::start("fleetd", &mut command);
        service.ready();
        self.service = Some(service);
        eventually("the devices to be read", || self.http_get("/readyz").filter(|body| body.contains("HTTP/1.1 200")));
    }

    /// A plain GET at the metrics address; the whole answer.
    pub(crate) fn http_get(&self, path: &str) -> Option<String> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.addresses.all[2]).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub(crate) fn user_url(&self) -> String {
        format!("https://{}", self.addresses.all[0])
    }

    pub(crate) fn agent_url(&self) -> String {
        format!("https://{}", self.addresses.all[1])
    }

    pub(crate) fn kill_service(&mut self) {
        self.service.take().expect("running").kill();
    }

    /// Waits until the database has noticed that a killed service is gone: nothing changes any more.
    pub(crate) fn wait_disconnected(&self) {
        match &self.database {
            Database::Own(database) => crate::service::wait_disconnected(database),
            Database::Embedded => panic!("the embedded database is the service's own"),
        }
    }

    pub(crate) fn stop_service(&mut self) {
        self.service.take().expect("running").terminate();
    }

    pub(crate) fn service_log(&self) -> String {
        self.service.as_ref().map(|service| service.log().join("\n")).unwrap_or_default()
    }

    /// The root certificate, PEM.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.data_dir().join("ca/root.crt")
    }

    /// A token for the users' interface.
    pub(crate) fn token(&self, role: &str) -> String {
        let output = Command::new(program("fleetctl"))
            .args(["token", "--role", role, "--subject", "tester", "--data-dir"])
            .arg(self.data_dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs the CLI as an administrator.
    pub(crate) fn fleetctl(&self, args: &[&str]) -> Output {
        self.fleetctl_as("admin", args)
    }

    /// Runs the CLI with a role.
    pub(crate) fn fleetctl_as(&self, role: &str, args: &[&str]) -> Output {
        Command::new(program("fleetctl"))
            .args(args)
            .arg("--server")
            .arg(self.user_url())
            .arg("--ca")
            .arg(self.ca_file())
            .env("FLEETCTL_TOKEN", self.token(role))
            .env("FLEETCTL_CONFIG", "/dev/null")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// Runs the CLI in the repository without a service, as a person or CI would.
    pub(crate) fn offline(&self, args: &[&str]) -> Output {
        Command::new(program("fleetctl"))
            .args(args)
            .current_dir(self.repo.path())
            .env("FLEETCTL_CONFIG", "/dev/null")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// Runs the CLI in the repository, with the service in reach.
    pub(crate) fn online(&self, args: &[&str]) -> Output {
        Command::new(program("fleetctl"))
            .args(args)
            .arg("--server")
            .arg(self.user_url())
            .arg("--ca")
            .arg(self.ca_file())
            .current_dir(self.repo.path())
            .env("FLEETCTL_TOKEN", self.token("admin"))
            .env("FLEETCTL_CONFIG", "/dev/null")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// Runs `fleetctl lint` in the repository, as a person or CI would.
    pub(crate) fn lint(&self, args: &[&str]) -> Output {
        Command::new(program("fleetctl"))
            .arg("lint")
            .args(args)
            .current_dir(self.repo.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// The CLI's standard output; panics unless it succeeds.
    pub(crate) fn fleetctl_ok(&self, args: &[&str]) -> String {
        let output = self.fleetctl(args);
        assert!(
            output.status.success(),
            "fleetctl {args:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// One object as the API shows it.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.fleetctl(&["get", kind, name, "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Whether the API says that there is no such object; that it cannot be asked says nothing.
    pub(crate) fn is_gone(&self, kind: &str, name: &str) -> bool {
        let output = self.fleetctl(&["get", kind, name, "-o", "json"]);
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("not found")
    }

    /// Waits until a commit is applied.
    pub(crate) fn wait_applied(&self, commit: &str) {
        eventually(&format!("commit {commit} to be applied"), || {
            let source = self.object("sources", "main")?;
            (source["status"]["appliedCommit"] == commit).then_some(())
        });
    }

    /// Waits until a commit is refused, and returns the source.
    pub(crate) fn wait_refused(&self, commit: &str) -> Value {
        eventually(&format!("commit {commit} to be refused"), || {
            let source = self.object("sources", "main")?;
            let is = |kind: &str| source["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind);
            let refused = ["Parsed", "Ready"].iter().all(|kind| is(kind).is_some_and(|c| c["status"] == "False"))
                && source["status"]["observedCommit"] == commit;
            refused.then_some(source.clone())
        })
    }

    /// Runs SQL in the service's database.
    pub(crate) fn sql(&self, sql: &str) -> String {
        match &self.database {
            Database::Own(database) => database.psql(sql).unwrap(),
            Database::Embedded => panic!("the embedded database is the service's own"),
        }
    }

    /// A device below a root of its own, not started yet.
    pub(crate) fn device(&self, hostname: &str) -> Device {
        Device::new(self.dir.path(), hostname, &self.fleetctl_ok(&["enrollment-config"]))
    }

    /// A device with a running agent.
    pub(crate) fn start_device(&self, hostname: &str) -> Device {
        let mut device = self.device(hostname);
        device.start();
        device
    }

    /// A device by its host name, as the API shows it.
    pub(crate) fn device_object(&self, hostname: &str) -> Option<Value> {
        let list: Value = serde_json::from_str(&self.fleetctl_ok(&["get", "devices", "-o", "json"])).unwrap();
        let items = list["items"].as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
        items.into_iter().find(|device| device["metadata"]["labels"]["alias"] == hostname)
    }
}

/// A device: a root directory and an agent.
pub(crate) struct Device {
    pub(crate) root: PathBuf,
    pub(crate) hostname: String,
    agent: Option<Process>,
}

impl Device {
    /// A device below `devices/HOSTNAME`, with what `fleetctl enrollment-config` says.
    pub(crate) fn new(dir: &Path, hostname: &str, config: &str) -> Self {
        let root = dir.join("devices").join(hostname);
        fs::create_dir_all(root.join("etc/fleet-agent")).unwrap();
        fs::write(root.join("etc/hostname"), format!("{hostname}\n")).unwrap();
        fs::write(root.join("etc/fleet-agent/config.yaml"), format!("{config}\n{AGENT_SETTINGS}")).unwrap();
        Self { root, hostname: hostname.to_owned(), agent: None }
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(program("fleet-agent"));
        command.arg("--root").arg(&self.root);
        self.agent = Some(Process::start(&format!("agent {}", self.hostname), &mut command));
    }

    pub(crate) fn kill(&mut self) {
        self.agent.take().expect("running").kill();
    }

    pub(crate) fn stop(&mut self) {
        self.agent.take().expect("running").terminate();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn file(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// Waits until a file has these contents.
    pub(crate) fn wait_file(&self, path: &str, content: &str) {
        eventually(&format!("{path} on {} to be {content:?}", self.hostname), || {
            (self.file(path).as_deref() == Some(content)).then_some(())
        });
    }

    /// Waits until a file is gone.
    pub(crate) fn wait_gone(&self, path: &str) {
        eventually(&format!("{path} on {} to be gone", self.hostname), || (!self.path(path).exists()).then_some(()));
    }
}
