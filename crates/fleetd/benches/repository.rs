//! A repository of 50,000 manifests, 3,000 commits and 12,000 references in the service: everything from nothing, then
//! commits of one file. Prints what the log says of each: which part took how many milliseconds (`read` holds listing,
//! reading and parsing of what changed), with the processor time and the memory of the service and its Git workers.
//!
//! `cargo bench -p fleetd --bench repository`

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fleet_test::git_server::GitServer;
use fleet_test::{Shape, SyncService, SyncSettings};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(300);

fn say(what: &str, seconds: f64, service: &SyncService, processor: f64, line: &str) {
    let log: Value = serde_json::from_str(line).unwrap_or_default();
    let tree = service.tree();
    let text = format!(
        "{what:<24} {seconds:>7.3} s  processor {:>6.2} s  memory (PSS) {} MiB  took {}",
        tree.processor - processor,
        tree.memory >> 10,
        log["took"]
    );
    writeln!(std::io::stdout().lock(), "{text}").expect("standard output takes a line");
}

fn main() {
    let shape = Shape::LARGE;
    let repo = shape.repository(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let server = GitServer::start(repo.root(), None).expect("a Git host");
    let url = server.https_url("bare.git");
    let settings = SyncSettings {
        git: "pollInterval: 500ms".to_owned(),
        authorities: vec![(server.https_url(""), server.ca_pem().to_owned())],
        sources: vec![("large".to_owned(), url)],
        ..SyncSettings::default()
    };
    let started = Instant::now();
    let service = SyncService::start(Path::new(env!("CARGO_BIN_EXE_fleetd")), &settings);
    let (at, line) = service.process().line(0, &["\"Applied a commit\"", &repo.head()], DEADLINE);
    say("everything from nothing", (at - started).as_secs_f64(), &service, 0.0, &line);
    for number in 0..5 {
        std::thread::sleep(Duration::from_secs(2));
        let (path, content) = shape.file(7 * number, 3_000_000);
        let (from, processor) = (service.process().lines(), service.tree().processor);
        let commit = repo.commit(&path, &content);
        let started = Instant::now();
        let (at, line) = service.process().line(from, &["\"Applied a commit\"", &commit], DEADLINE);
        // With up to 0.6 s until the next poll.
        say("one device's label", (at - started).as_secs_f64(), &service, processor, &line);
    }
}
