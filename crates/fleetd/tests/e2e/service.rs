//! A bare service: a process on a database and a repository that others may use too. For tests that need several, or that
//! start one hundreds of times.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet_test::{ReservedPort, TestDatabase};
use rustix::process::Signal;

use crate::harness::{Process, eventually, program};

/// The service, and where it is.
pub(crate) struct Service {
    process: Option<Process>,
    dir: PathBuf,
    /// User interface, agent interface, metrics.
    addresses: [SocketAddr; 3],
    /// Nobody else gets its addresses while it is stopped.
    _ports: [ReservedPort; 3],
    pub(crate) config: ServiceConfig,
}

/// What a service is given.
#[derive(Clone)]
pub(crate) struct ServiceConfig {
    pub(crate) database: String,
    pub(crate) source: String,
    /// Lines below `sources`, after the source `main`.
    pub(crate) more_sources: String,
    /// Settings below `git`, YAML in flow style.
    pub(crate) git: String,
}

impl Service {
    /// A service that is not started yet, with its files below `dir`.
    pub(crate) fn new(dir: &Path, config: ServiceConfig) -> Self {
        fs::create_dir_all(dir).unwrap();
        let ports = [(); 3].map(|()| ReservedPort::take().unwrap());
        let addresses = ports.each_ref().map(ReservedPort::address);
        Self { process: None, dir: dir.to_owned(), addresses, _ports: ports, config }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Has the same certificate authority and token key as another one, as deploy/README.md says: a replica of it.
    pub(crate) fn replica_of(self, other: &Self) -> Self {
        fs::create_dir_all(self.data_dir()).unwrap();
        for shared in ["ca", "user-issuer.key"] {
            let copied = Command::new("cp").arg("-a").arg(other.data_dir().join(shared)).arg(self.data_dir()).status();
            assert!(copied.unwrap().success(), "{shared} is copied");
        }
        self
    }

    /// Starts the process and does not wait.
    pub(crate) fn spawn(&mut self) {
        let [user, agent, metrics] = self.addresses;
        let text = format!(
            "dataDir: {data}\nlog: {{level: info, format: json}}\ndatabase: {{url: \"{database}\"}}\n\
             userApi: {{address: '{user}'}}\nagentApi: {{address: '{agent}'}}\nmetrics: {{address: '{metrics}'}}\n\
             git: {git}\nsources:\n- {{name: main, url: '{source}', revision: main}}\n{more}",
            more = self.config.more_sources,
            data = self.data_dir().display(),
            database = self.config.database,
            git = self.config.git,
            source = self.config.source,
        );
        let path = self.dir.join("fleetd.yaml");
        fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetd"));
        command.arg("serve").arg("--config").arg(path);
        self.process = Some(Process::start("fleetd", &mut command));
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&mut self) {
        self.spawn();
        let process = self.process.as_mut().expect("just started");
        assert_eq!(process.ready(), self.addresses);
    }

    /// Whether it says of itself that it can serve.
    pub(crate) fn is_ready(&self) -> bool {
        use std::io::{Read, Write};
        let ask = || -> std::io::Result<String> {
            let mut stream = std::net::TcpStream::connect(self.addresses[2])?;
            stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    pub(crate) fn logged(&self, text: &str) -> bool {
        self.log().iter().any(|line| line.contains(text))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("running").signal(signal);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("running").kill();
    }

    pub(crate) fn terminate(&mut self) {
        self.process.take().expect("running").terminate();
    }

    /// Runs the CLI at this service as an administrator; its output, which must be good.
    pub(crate) fn fleetctl(&self, args: &[&str]) -> String {
        let run = |command: &mut Command| {
            let output = command.env("FLEETCTL_CONFIG", "/dev/null").env("NO_COLOR", "1").output().unwrap();
            assert!(output.status.success(), "fleetctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        };
        let mut token = Command::new(program("fleetctl"));
        token.args(["token", "--role", "admin", "--subject", "tester", "--data-dir"]).arg(self.data_dir());
        let token = run(&mut token);
        let mut command = Command::new(program("fleetctl"));
        let url = format!("https://{}", self.addresses[0]);
        command.args(args).args(["--server", &url, "--ca"]).arg(self.data_dir().join("ca/root.crt"));
        run(command.env("FLEETCTL_TOKEN", token))
    }

    pub(crate) fn agent_url(&self) -> String {
        format!("https://{}", self.addresses[1])
    }
}

/// What a service calls its connections to the database, also while it writes.
pub(crate) const CONNECTIONS: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'fleetd%'";

/// Waits until the database has noticed that a killed service is gone.
pub(crate) fn wait_disconnected(database: &TestDatabase) {
    eventually("the killed service's connections to end", || {
        (database.psql(CONNECTIONS).unwrap() == "0").then_some(())
    });
}

/// Adds devices as they are after their enrolment, without agents.
pub(crate) fn add_devices(database: &TestDatabase, roles: &[(&str, usize)]) {
    for (role, count) in roles {
        database
            .psql(&format!(
                "insert into devices (org_id, name, enrolled_labels, labels, change_seq)
                 select '00000000-0000-0000-0000-000000000000', '{role}' || lpad(n::text, 16, '0'),
                        l, l, nextval('device_change_seq')
                 from generate_series(1, {count}) n, jsonb_build_object('role', '{role}', 'alias', 'a' || n) l;
                 notify shorebase_enrollment"
            ))
            .unwrap();
    }
}

/// Waits until a commit is in force.
pub(crate) fn wait_applied(database: &TestDatabase, commit: &str) {
    let is = format!("select applied_commit = '{commit}' from desired.sources where name = 'main'");
    eventually(&format!("commit {commit} to be applied"), || (database.psql(&is).unwrap() == "t").then_some(()));
}

/// Notes in the database every device whose version went back, or grew without another document.
pub(crate) fn watch_versions(database: &TestDatabase) {
    database
        .psql(
            "create table wrong_versions (name text, old bigint, new bigint);
             create function watch_version() returns trigger language plpgsql as $$ begin
               if new.rendered_version < old.rendered_version
                  or new.rendered_version > old.rendered_version and new.rendered_digest = old.rendered_digest then
                 insert into wrong_versions values (new.name, old.rendered_version, new.rendered_version);
               end if;
               return new;
             end $$;
             create trigger watch_version before update on devices for each row execute function watch_version()",
        )
        .unwrap();
}

/// How often [`watch_versions`] found something.
pub(crate) fn wrong_versions(database: &TestDatabase) -> String {
    database.psql("select * from wrong_versions").unwrap()
}
