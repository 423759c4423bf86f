//! What 1,000 sources cost that are polled every 30 s and have nothing new: processor time and memory of the service with
//! its Git workers, bytes on the wire and transactions of the database. Small repositories of their own behind nginx over
//! HTTPS. PostgreSQL and the Git host are not counted.
//!
//! `cargo bench -p fleetd --bench sources`; `SOURCES`, `INTERVAL` and `SECONDS` say how many, how often and how long.

#[path = "../tests/load/hub.rs"]
#[expect(dead_code, reason = "nothing is pushed here")]
mod hub;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fleet_test::git_server::GitServer;
use fleet_test::{RepoFarm, SyncService, SyncSettings, TcpFaultProxy};

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `FLEETD` names another build to compare with.
fn program() -> PathBuf {
    std::env::var_os("FLEETD").map_or_else(|| env!("CARGO_BIN_EXE_fleetd").into(), PathBuf::from)
}

fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").expect("standard output takes a line");
}

fn main() {
    let (sources, interval, seconds) = (number("SOURCES", 1_000), number("INTERVAL", 30), number("SECONDS", 90));
    let count = usize::try_from(sources).expect("it fits");
    let farm = RepoFarm::create(count, |n| ("fleet.yaml".to_owned(), hub::fleet(n, "first")));
    let server = GitServer::start(farm.root(), None).expect("a Git host");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let upstream = SocketAddr::from(([127, 0, 0, 1], server.https_port()));
    let proxy = runtime.block_on(TcpFaultProxy::start(upstream)).expect("a proxy");
    let host = format!("https://{}/", proxy.address());
    let settings = SyncSettings {
        git: format!("pollInterval: {interval}s"),
        authorities: vec![(host.clone(), server.ca_pem().to_owned())],
        sources: (0..count).map(|n| (format!("source-{n}"), format!("{host}{}", RepoFarm::name(n)))).collect(),
        ..SyncSettings::default()
    };
    let started = Instant::now();
    let service = SyncService::start(&program(), &settings);
    service.wait_for_applied(count, Duration::from_secs(600));
    say(&format!(
        "{sources} sources applied from nothing in {:.1} s, {:.1} s of processor",
        started.elapsed().as_secs_f64(),
        service.tree().processor
    ));
    // The first looks came all at once; the jitter spreads the next ones.
    std::thread::sleep(Duration::from_secs(u64::from(interval) + 5));
    let read = || (service.tree(), service.unchanged_polls(), service.transactions());
    let bytes = || proxy.bytes_to_client() + proxy.bytes_to_upstream();
    let (before, bytes_before, connections, began) = (read(), bytes(), proxy.connections(), Instant::now());
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(u64::from(seconds)) {
        std::thread::sleep(Duration::from_secs(5));
        most = most.max(service.tree().memory);
    }
    let (after, wall) = (read(), began.elapsed().as_secs_f64());
    let polls = after.1 - before.1;
    let each = |value: u64| {
        u32::try_from(value).map_or(f64::MAX, f64::from) / u32::try_from(polls.max(1)).map_or(1.0, f64::from)
    };
    let processor = after.0.processor - before.0.processor;
    say(&format!(
        "{polls} polls in {wall:.0} s: {:.1} % of a core, {:.2} ms of processor a poll",
        100.0 * processor / wall,
        1_000.0 * processor / f64::from(u32::try_from(polls.max(1)).unwrap_or(1)),
    ));
    say(&format!(
        "memory (PSS) at most {} MiB in {} processes, {} MiB of them the service's; {:.0} bytes and {:.2} transactions a poll, \
         {} new connections; {} failures",
        most >> 10,
        after.0.processes,
        after.0.first_memory >> 10,
        each(bytes() - bytes_before),
        each(after.2 - before.2),
        proxy.connections() - connections,
        service.counted(&["shorebase_syncer_sync_failures_total"]),
    ));
}
