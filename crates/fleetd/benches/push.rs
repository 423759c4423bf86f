//! From a push to applied, with webhooks: 200 pushes to one of 101 sources, the others polled every 15 s, all over HTTPS from
//! nginx. The clock starts when the host has the commit and sends its webhook, and ends with the log's line that the commit
//! is applied. `PUSHES` and `SOURCES` change the numbers.
//!
//! `cargo bench -p fleetd --bench push`; with `-- --neighbours` instead: pushes to 100 healthy sources by turns with and
//! without bad neighbours at work: a host that never answers, one that fails, and one that sends a pack without end.

#[path = "../tests/load/hub.rs"]
mod hub;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleet_test::git_server::GitServer;
use fleet_test::{BadHost, Badness, RepoFarm, SyncService, SyncSettings, percentile};

use hub::{Hub, SECRET, fleet};

const DEADLINE: Duration = Duration::from_secs(60);
/// Wake-ups of one source are taken at most twice a second in the long run.
const PAUSE: Duration = Duration::from_millis(600);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `FLEETD` names another build to compare with.
fn program() -> PathBuf {
    std::env::var_os("FLEETD").map_or_else(|| env!("CARGO_BIN_EXE_fleetd").into(), PathBuf::from)
}

fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").expect("standard output takes a line");
}

fn report(what: &str, seconds: &[f64]) {
    let at = |share| 1_000.0 * percentile(seconds, share);
    say(&format!(
        "{what:<44} p50 {:>6.1} ms  p99 {:>7.1} ms  longest {:>7.1} ms  of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        seconds.len()
    ));
}

/// The service, a farm of repositories, and what tells of pushes.
struct World {
    service: SyncService,
    hub: Hub,
    farm: RepoFarm,
    server: GitServer,
}

impl World {
    fn start(sources: usize, others: &[(String, String)]) -> Self {
        let farm = RepoFarm::create(sources, |n| ("fleet.yaml".to_owned(), fleet(n, "first")));
        let server = GitServer::start(farm.root(), None).expect("a Git host");
        let host = server.https_url("");
        let own = (0..sources).map(|n| (format!("source-{n}"), server.https_url(&RepoFarm::name(n))));
        let settings = SyncSettings {
            git: "pollInterval: 15s".to_owned(),
            authorities: vec![(host, server.ca_pem().to_owned())],
            webhook_secret: Some(SECRET.to_owned()),
            sources: own.chain(others.iter().cloned()).collect(),
            ..SyncSettings::default()
        };
        let service = SyncService::start(&program(), &settings);
        service.wait_for_applied(sources, Duration::from_secs(300));
        let hub = Hub::new(&service.user_url(), &service.ca_pem());
        std::thread::sleep(Duration::from_secs(3));
        Self { service, hub, farm, server }
    }

    /// Pushes to a source. Seconds until the webhook was answered, and until the commit was applied.
    fn push(&self, source: usize, word: &str) -> (f64, f64) {
        let from = self.service.process().lines();
        let commit = self.farm.commit(source, "fleet.yaml", &fleet(source, word));
        let started = Instant::now();
        let (status, answered) = self.hub.announce(&self.server.https_url(&RepoFarm::name(source)));
        assert_eq!(status, 202, "the webhook is taken");
        let (applied, _) = self.service.process().line(from, &["\"Applied a commit\"", &commit], DEADLINE);
        (answered.as_secs_f64(), (applied - started).as_secs_f64())
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--neighbours") { neighbours() } else { pushes() }
}

fn pushes() {
    let (pushes, sources) = (number("PUSHES", 200), number("SOURCES", 101));
    let world = World::start(sources, &[]);
    let (mut answered, mut applied) = (Vec::new(), Vec::new());
    let (before, polls, began) = (world.service.tree(), world.service.unchanged_polls(), Instant::now());
    for round in 0..pushes {
        let (answer, took) = world.push(0, &format!("push {round}"));
        answered.push(answer);
        applied.push(took);
        std::thread::sleep(PAUSE);
    }
    let processor = world.service.tree().processor - before.processor;
    report("webhook to answer", &answered);
    report("webhook to applied", &applied);
    say(&format!(
        "{} other polls meanwhile; {:.1} % of a core in {:.0} s; {} failures",
        world.service.unchanged_polls() - polls,
        100.0 * processor / began.elapsed().as_secs_f64(),
        began.elapsed().as_secs_f64(),
        world.service.counted(&["shorebase_syncer_sync_failures_total"]),
    ));
}

fn neighbours() {
    let (rounds, pushes, sources) = (number("ROUNDS", 5), number("PUSHES", 20), number("SOURCES", 100));
    let start = |badness| BadHost::start(badness).expect("a bad host");
    let (silent, failing, endless) = (start(Badness::Silent), start(Badness::Failing), start(Badness::Endless));
    let bad: Vec<(String, String)> = [("silent", &silent), ("failing", &failing), ("endless", &endless)]
        .map(|(name, host)| (name.to_owned(), host.url()))
        .to_vec();
    let world = World::start(sources, &bad);
    let provoking = AtomicBool::new(false);
    let ended = AtomicBool::new(false);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let (mut memory, mut disk, mut next) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // People who want their broken sources looked at, again and again.
            let hub = Hub::new(&world.service.user_url(), &world.service.ca_pem());
            while !ended.load(Ordering::SeqCst) {
                if provoking.load(Ordering::SeqCst) {
                    for (_, url) in &bad {
                        hub.announce(url);
                    }
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        for round in 0..rounds {
            for with_neighbours in [false, true] {
                provoking.store(with_neighbours, Ordering::SeqCst);
                // What is under way with the silent host ends after 15 s.
                std::thread::sleep(Duration::from_secs(if with_neighbours { 3 } else { 17 }));
                for _ in 0..pushes {
                    next = (next + 1) % sources;
                    let (_, took) = world.push(next, &format!("round {round} {with_neighbours}"));
                    if with_neighbours {
                        beside.push(took)
                    } else {
                        alone.push(took)
                    }
                    memory = memory.max(world.service.tree().memory);
                    disk = disk.max(size_of(&world.service.data_dir().join("mirrors")));
                    std::thread::sleep(Duration::from_millis(150));
                }
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
    report("webhook to applied, neighbours at rest", &alone);
    report("webhook to applied beside bad neighbours", &beside);
    let added = |share| 1_000.0 * (percentile(&beside, share) - percentile(&alone, share));
    say(&format!("added: p50 {:.1} ms, p99 {:.1} ms", added(0.5), added(0.99)));
    say(&format!(
        "requests of the silent, failing and endless host: {}, {}, {}; the endless one sent {} MiB; mirrors took at most {} MiB, \
         memory (PSS) at most {} MiB",
        silent.requests(),
        failing.requests(),
        endless.requests(),
        endless.sent() >> 20,
        disk >> 20,
        memory >> 10,
    ));
}

/// Bytes of all files below a directory; what goes away meanwhile counts nothing.
fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
