//! The service with many sources, and its figures: to be put under load in tests and benches.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::{LoggedProcess, TestDatabase, TreeUse, tree_use};

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// What the service is told.
#[derive(Debug, Clone, Default)]
pub struct SyncSettings {
    /// Below `git`, YAML in flow style without the braces: `pollInterval: 30s, maxWorkers: 4`.
    pub git: String,
    /// Credentials below `git`: URL prefix and the CA to trust there, PEM.
    pub authorities: Vec<(String, String)>,
    /// Secret of a webhook named `hub` of the provider `github`.
    pub webhook_secret: Option<String>,
    /// Names and URLs.
    pub sources: Vec<(String, String)>,
    /// Levels of the log on top of `info`: `,sqlx::query=debug`.
    pub log: String,
}

/// A running service with a database of its own.
#[derive(Debug)]
pub struct SyncService {
    process: LoggedProcess,
    user: SocketAddr,
    metrics: SocketAddr,
    database: TestDatabase,
    dir: TempDir,
}

impl SyncService {
    /// Starts `program` (that of the service) and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready in a minute.
    #[must_use]
    pub fn start(program: &Path, settings: &SyncSettings) -> Self {
        let dir = tempfile::Builder::new().prefix("shorebase-load").tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| {
            fs::write(at(name), text).expect("a temporary directory can be written");
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).expect("the file is ours");
            at(name).display().to_string()
        };
        let database = TestDatabase::create();
        let mut credentials = Vec::new();
        for (number, (prefix, ca)) in settings.authorities.iter().enumerate() {
            let file = write(&format!("ca-{number}.pem"), ca);
            credentials.push(format!("{{urlPrefix: '{prefix}', caFile: '{file}'}}"));
        }
        let git = [settings.git.as_str(), if settings.git.is_empty() { "" } else { ", " }].concat();
        let mut config = format!(
            "dataDir: {data}\nlog: {{level: 'info{log}', format: json}}\ndatabase: {{url: \"{url}\"}}\nuserApi: {{address: \
             '127.0.0.1:0'}}\nagentApi: {{address: '127.0.0.1:0'}}\nmetrics: {{address: '127.0.0.1:0'}}\ngit: {{{git}credentials: \
             [{credentials}]}}\n",
            data = at("data").display(),
            log = settings.log,
            url = database.url(),
            credentials = credentials.join(", "),
        );
        if let Some(secret) = &settings.webhook_secret {
            let file = write("secret", &format!("{secret}\n"));
            let _ = writeln!(config, "webhooks:\n- {{name: hub, provider: github, secretFile: '{file}'}}");
        }
        config.push_str("sources:\n");
        for (name, url) in &settings.sources {
            let _ = writeln!(config, "- {{name: {name}, url: '{url}', revision: main}}");
        }
        let file = write("fleetd.yaml", &config);
        let process = LoggedProcess::start(Command::new(program).args(["serve", "--config", &file]))
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let address = |what: &str| {
            let words = format!("Listening for the {what}");
            let (_, line) = process.line(0, &[&words], READY_DEADLINE);
            let (_, rest) = line.split_once("\"address\":\"").expect("the line has an address");
            rest.split('"').next().and_then(|text| text.parse().ok()).expect("an address")
        };
        let (user, metrics) = (address("user interface"), address("metrics"));
        process.line(0, &["\"Ready\""], READY_DEADLINE);
        Self { process, user, metrics, database, dir }
    }

    /// The process with its log.
    #[must_use]
    pub fn process(&self) -> &LoggedProcess {
        &self.process
    }

    /// What it and its Git workers take.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn tree(&self) -> TreeUse {
        tree_use(self.process.id()).expect("the service runs")
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// `https://` and the address of the interface for people and webhooks.
    #[must_use]
    pub fn user_url(&self) -> String {
        format!("https://{}", self.user)
    }

    /// The certificate to trust there, PEM.
    ///
    /// # Panics
    /// When the service has not written it.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        fs::read_to_string(self.data_dir().join("ca/root.crt")).expect("the service made an authority")
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The sum of its counters whose lines begin so.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn counted(&self, names: &[&str]) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).expect("the metrics are served");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("the service reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the service answers");
        let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        answer.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).filter_map(value).sum()
    }

    /// Looks at sources so far that found nothing new.
    #[must_use]
    pub fn unchanged_polls(&self) -> u64 {
        self.counted(&["shorebase_syncer_sync_polls_unchanged_total"])
    }

    /// Transactions of the database so far, statements outside of one included. The server counts with a delay of a second.
    ///
    /// # Panics
    /// When the database does not answer.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
        self.database.psql(sql).expect("the database answers").parse().expect("a number")
    }

    /// Waits until this many sources have a commit in force.
    ///
    /// # Panics
    /// When they have not within `deadline`.
    pub fn wait_for_applied(&self, sources: usize, deadline: Duration) {
        let started = std::time::Instant::now();
        let sql = "select count(*) from desired.sources where applied_commit is not null";
        loop {
            let applied = self.database.psql(sql).expect("the database answers");
            if applied.parse::<usize>().is_ok_and(|applied| applied >= sources) {
                return;
            }
            assert!(started.elapsed() < deadline, "{applied} of {sources} sources are applied after {deadline:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
