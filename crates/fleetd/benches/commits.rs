//! How long a commit takes from `git commit` to applied, with 10,000 manifests: 100 fleets with placeholders, and 9,900
//! enrolled devices with a document of about 1 KB each. The real service with a real database and real Git. Prints one
//! line for each kind of commit: seconds (best and worst of five), processor seconds of the service without its
//! children, and what the log says that the best one did.
//!
//! `cargo bench -p fleetd --bench commits`; `-- --keep` leaves the service running until a line break is read, so that
//! one can look at it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fleet_test::{GitRepo, TestDatabase};
use serde_json::Value;
use tempfile::TempDir;

const FLEETS: usize = 100;
const DEVICES: usize = 99;
const TIMES: usize = 5;
const DEADLINE: Duration = Duration::from_secs(120);
const ORG: &str = "(select id from orgs limit 1)";

fn fleet(number: usize, word: &str) -> String {
    let mut text = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: store-{number}\nspec:\n  selector:\n    \
         matchLabels: {{store: s{number}}}\n  template:\n    spec:\n      os: {{image: \"quay.io/acme/os:1.2.3\"}}\n      \
         config:\n        - name: identity\n          inline:\n            - path: /etc/motd\n              content: \
         \"{word} at {{{{ .metadata.name }}}} in {{{{ .metadata.labels.site }}}}\\n\"\n            - path: \
         /etc/acme/store.conf\n              mode: 0600\n              content: |\n"
    );
    for line in 0..24 {
        let _ = writeln!(text, "                key-{line} = value {line} of store {number}");
    }
    text
}

fn device(fleet: usize, number: usize) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {}\n  labels: {{store: s{fleet}, site: \
         site-{}, rack: \"{number}\"}}\n",
        name(fleet, number),
        number % 7
    )
}

fn name(fleet: usize, number: usize) -> String {
    format!("d{fleet:0>3}g{number:0>47}")
}

/// The service as a process, with its log.
struct Service {
    child: Child,
    lines: Receiver<(Instant, String)>,
    dir: TempDir,
    config: String,
}

impl Service {
    fn start(database: &TestDatabase, repo: &GitRepo) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "dataDir: {}\nlog: {{level: 'info,fleet_syncer=debug', format: json}}\ndatabase: {{url: \"{}\"}}\n\
             userApi: {{address: '127.0.0.1:0'}}\nagentApi: {{address: '127.0.0.1:0'}}\nmetrics: {{address: \
             '127.0.0.1:0'}}\nsources:\n- {{name: main, url: '{}', revision: main}}\n",
            dir.path().join("data").display(),
            database.url(),
            repo.url(),
        );
        let (child, lines) = launch(dir.path(), &config);
        Self { child, lines, dir, config }
    }

    fn restart(&mut self) {
        self.end();
        (self.child, self.lines) = launch(self.dir.path(), &self.config);
    }

    fn end(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// When the commit was applied, and what the log says of it.
    fn applied(&mut self, commit: &str) -> (Instant, Value) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).expect("the commit is applied in time");
            let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
            assert!(!line.contains("Refused"), "{line}");
            if value["message"] == "Applied a commit" && value["commit"] == commit {
                return (at, value);
            }
        }
    }

    /// Seconds of processor time so far.
    fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(dir: &Path, config: &str) -> (Child, Receiver<(Instant, String)>) {
    let file = dir.join("fleetd.yaml");
    std::fs::write(&file, config).expect("the file can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetd"));
    command.args(["serve", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("fleetd starts");
    let (sender, lines) = channel();
    let stderr = child.stderr.take().expect("piped");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if std::env::var_os("SHOREBASE_BENCH_LOG").is_some() {
                writeln!(std::io::stderr().lock(), "{line}").ok();
            }
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    (child, lines)
}

fn report(title: &str, runs: &[(f64, f64, Value)]) {
    let best = runs.iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("it ran");
    let worst = runs.iter().map(|run| run.0).fold(0.0, f64::max);
    let (seconds, processor, log) = best;
    writeln!(
        std::io::stdout().lock(),
        "{title:<24} seconds {seconds:>6.3} to {worst:>6.3}  processor {processor:>5.2}  new versions {:>5}  planning {:>5} \
         ms  took {}",
        log["devices"],
        log["planning_ms"],
        log["took"],
    )
    .expect("standard output takes a line");
}

fn main() {
    let (database, repo) = (TestDatabase::create(), GitRepo::init());
    repo.write("fleets/0.yaml", fleet(0, "First"));
    // Nobody is here to approve changes that reach far.
    repo.write(
        "limits.yaml",
        "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata: {name: limits}\nspec:\n  limits:\n    \
         changedDevicesWithoutRollout: {percent: 100}\n    unmanagedDevices: {percent: 100}\n",
    );
    let mut service = Service::start(&database, &repo);
    let first = repo.commit("first");
    service.applied(&first);
    service.end();

    for number in 0..FLEETS {
        repo.write(&format!("fleets/{number}.yaml"), fleet(number, "Hello"));
        for device_number in 0..DEVICES {
            let file = format!("devices/{number}/{device_number}.yaml");
            repo.write(&file, device(number, device_number));
        }
    }
    let all = repo.commit("all");
    let names: Vec<String> = (0..FLEETS).flat_map(|fleet| (0..DEVICES).map(move |n| name(fleet, n))).collect();
    let sql = format!(
        "insert into devices (org_id, name, change_seq) select {ORG}, unnest('{{{}}}'::text[]), \
         nextval('device_change_seq'); drop schema desired cascade; analyze;",
        names.join(",")
    );
    let script = service.dir.path().join("enrol.sql");
    std::fs::write(&script, sql).expect("the file can be written");
    database.psql_file(&script).expect("devices can be added");

    let started = Instant::now();
    service.restart();
    let (at, log) = service.applied(&all);
    report("everything from nothing", &[((at - started).as_secs_f64(), service.processor(), log)]);

    let mut run = |title: &str, change: &dyn Fn(usize)| {
        let mut runs = Vec::new();
        for time in 0..TIMES {
            // What follows the last apply is not to be measured.
            std::thread::sleep(Duration::from_millis(1_500));
            change(time);
            repo.git(&["add", "--all"]);
            let processor = service.processor();
            let started = Instant::now();
            let commit = repo.commit("change");
            let committed = started.elapsed().as_secs_f64();
            let (at, log) = service.applied(&commit);
            let seconds = (at - started).as_secs_f64() - committed;
            std::thread::sleep(Duration::from_millis(300));
            runs.push((seconds, service.processor() - processor, log));
        }
        report(title, &runs);
    };
    run("every document", &|time| {
        for number in 0..FLEETS {
            repo.write(&format!("fleets/{number}.yaml"), fleet(number, &format!("Welcome {time}")));
        }
    });
    run("one fleet of 99 devices", &|time| {
        repo.write("fleets/7.yaml", fleet(7, &format!("Only {time}")));
    });
    run("one device's label", &|time| {
        repo.write("devices/9/9.yaml", device(9, 9).replace("site-2", &format!("site-x{time}")));
    });
    run("nothing but a file", &|time| {
        repo.write("README", format!("{time}"));
    });
    if std::env::args().any(|argument| argument == "--keep") {
        writeln!(std::io::stdout().lock(), "fleetd {}; {}", service.child.id(), service.config).ok();
        std::io::stdin().read_line(&mut String::new()).ok();
    }
}
