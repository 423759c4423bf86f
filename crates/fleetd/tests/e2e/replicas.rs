//! Two services on one database: both serve devices, one writes, and the other takes over when it cannot any more.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet_test::{Fault, GitRepo, TcpFaultProxy, TestDatabase, TestPostgres};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};

use crate::commits::FILES;
use crate::harness::{Device, eventually};
use crate::service::{Service, ServiceConfig, add_devices, wait_applied, watch_versions, wrong_versions};

/// The longest that nobody applies commits after the holder of the lease died.
const TAKE_OVER: f64 = 10.0;

/// The longest after one that was asked to stop.
const HAND_OVER: f64 = 4.0;

/// Two services, `a` with the lease and the first commit applied.
struct Pair {
    a: Service,
    b: Service,
    repo: GitRepo,
    database: TestDatabase,
    dir: TempDir,
    /// What an overloaded machine adds: how much longer than a second it took to start and to apply the first commit.
    slowness: f64,
    /// What it adds later, in the middle of a test.
    pace: Pace,
}

impl Pair {
    /// `a` may reach the database in its own way.
    fn start(database: TestDatabase, url_of_a: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("shorebase-pair").tempdir().unwrap();
        let repo = GitRepo::init();
        FILES.iter().for_each(|(path, content)| {
            repo.write(path, content);
        });
        let commit = repo.commit("start");
        let config = |database: &str| ServiceConfig {
            database: database.to_owned(),
            source: repo.url(),
            more_sources: String::new(),
            git: "{pollInterval: 1s}".to_owned(),
        };
        let mut a = Service::new(&dir.path().join("a"), config(url_of_a));
        let began = Instant::now();
        a.start();
        wait_applied(&database, &commit);
        let slowness = (began.elapsed().as_secs_f64() - 1.0).max(0.0);
        let pace = Pace::start();
        add_devices(&database, &[("kiosk", 6)]);
        watch_versions(&database);
        eventually("the devices to get their documents", || {
            (database.psql("select count(*) from devices where rendered_version = 1 and not dirty").unwrap() == "6")
                .then_some(())
        });
        let mut b = Service::new(&dir.path().join("b"), config(&database.url())).replica_of(&a);
        b.start();
        let pair = Self { a, b, repo, database, dir, slowness, pace };
        assert_eq!(pair.holder(), instance(&pair.a));
        pair
    }

    fn new() -> Self {
        let database = TestDatabase::create();
        let url = database.url();
        Self::start(database, &url)
    }

    fn sql(&self, sql: &str) -> String {
        self.database.psql(sql).unwrap()
    }

    fn holder(&self) -> String {
        self.sql("select holder from leases where name = 'syncer' and expires_at > clock_timestamp()")
    }

    fn push(&self, text: &str) -> String {
        self.repo.write("config/kiosk/etc/motd", text);
        self.repo.commit(text)
    }

    /// Waits until the commit is applied, and checks that the database took it in within so many seconds after `since`, by
    /// the database's clock.
    fn applied_within(&self, most: f64, commit: &str, since: &str, what: &str) {
        wait_applied(&self.database, commit);
        let seconds = self.sql(&format!(
            "select extract(epoch from at - '{since}') from events
             where reason = 'ResourceSyncSynced' and details->>'commitHash' = '{commit}'"
        ));
        let took: f64 =
            seconds.parse().unwrap_or_else(|_| panic!("commit {commit} was applied other than once: {seconds:?}"));
        let lost = self.pace.lost_in(took);
        eprintln!(
            "{what}: the next commit was applied after {took:.1} s (slowness of the machine: {:.1} s, then {lost:.1} s)",
            self.slowness
        );
        assert!(took > 0.0, "{what}: it was applied before");
        assert!(took <= most + 2.0 * self.slowness + lost, "{what}: it took {took} s");
    }

    fn now(&self) -> String {
        self.sql("select clock_timestamp()")
    }

    /// Waits until the lease was renewed a moment ago: from here on it takes longest until it runs out.
    fn wait_renewed(&self) {
        let expires = || self.sql("select expires_at from leases where name = 'syncer'");
        let before = expires();
        eventually("the lease to be renewed", || (expires() != before).then_some(()));
    }

    /// Every commit was applied once, no version went back or was given out without another document.
    fn check(&self, commits: &[&str], versions: usize) {
        for commit in commits {
            let times = self.sql(&format!(
                "select count(*) from events where reason = 'ResourceSyncSynced' and details->>'commitHash' = '{commit}'"
            ));
            assert_eq!(times, "1", "commit {commit} is applied once");
        }
        let seen = self.sql("select string_agg(distinct rendered_version::text, ' ') from devices where not dirty");
        assert_eq!(seen, versions.to_string(), "one version for each content");
        assert_eq!(wrong_versions(&self.database), "");
    }
}

/// Asks the database for nothing again and again, and notes how long that takes.
struct Pace {
    /// When each answer came, and seconds until it did.
    asked: Arc<Mutex<Vec<(Instant, f64)>>>,
}

impl Pace {
    /// Until it is dropped.
    fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::downgrade(&asked);
        std::thread::spawn(move || {
            while let Some(noted) = noted.upgrade() {
                let began = Instant::now();
                TestPostgres::shared().psql("postgres", "select 1").unwrap();
                noted.lock().unwrap().push((Instant::now(), began.elapsed().as_secs_f64()));
                drop(noted);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { asked }
    }

    /// Seconds by which answers came later in the last `seconds` than the quickest of all.
    fn lost_in(&self, seconds: f64) -> f64 {
        let asked = self.asked.lock().unwrap();
        let quickest = asked.iter().map(|(_, took)| *took).fold(f64::INFINITY, f64::min);
        let recent = asked.iter().filter(|(at, _)| at.elapsed().as_secs_f64() <= seconds);
        recent.map(|(_, took)| took - quickest).sum()
    }
}

fn instance(service: &Service) -> String {
    std::fs::read_to_string(service.data_dir().join("instance-id")).unwrap()
}

#[test]
fn of_two_services_one_applies_and_the_other_takes_over_when_it_is_killed() {
    let mut pair = Pair::new();
    let mut device = Device::new(pair.dir.path(), "kiosk-1", &pair.b.fleetctl(&["enrollment-config"]));
    let config = device.file("/etc/fleet-agent/config.yaml").unwrap();
    assert!(config.contains(&pair.b.agent_url()), "the device asks b:\n{config}");
    device.start();
    device.wait_file("/etc/motd", "first\n");
    let second = pair.push("second\n");
    device.wait_file("/etc/motd", "second\n");
    wait_applied(&pair.database, &second);
    assert_eq!(pair.holder(), instance(&pair.a), "a applied what a device of b got");
    assert!(!pair.b.logged("Applied a commit"));

    pair.wait_renewed();
    let killed = pair.now();
    pair.a.kill();
    let third = pair.push("third\n");
    pair.applied_within(TAKE_OVER, &third, &killed, "killed");
    device.wait_file("/etc/motd", "third\n");
    assert_eq!(pair.holder(), instance(&pair.b));

    // The other one comes back and waits for its turn, serving meanwhile.
    pair.a.start();
    let fourth = pair.push("fourth\n");
    device.wait_file("/etc/motd", "fourth\n");
    assert_eq!(pair.holder(), instance(&pair.b));
    assert!(!pair.a.logged("Applied a commit"));
    eventually("the device's own document", || {
        (pair.sql("select count(*) from devices where name not like 'kiosk%' and rendered_version = 4") == "1")
            .then_some(())
    });
    pair.check(&[&second, &third, &fourth], 4);
}

#[test]
fn a_service_that_is_stopped_hands_over_at_once() {
    let mut pair = Pair::new();
    pair.wait_renewed();
    let stopped = pair.now();
    pair.a.terminate();
    let second = pair.push("second\n");
    pair.applied_within(HAND_OVER, &second, &stopped, "asked to stop");
    pair.check(&[&second], 2);
}

#[test]
fn a_late_write_of_a_holder_that_stood_still_is_refused_by_the_database() {
    let mut pair = Pair::new();
    pair.wait_renewed();
    let stopped = pair.now();
    pair.a.signal(Signal::STOP);
    let second = pair.push("second\n");
    pair.applied_within(TAKE_OVER, &second, &stopped, "standing still");
    let third = pair.push("third\n");
    wait_applied(&pair.database, &third);
    let source = "select observed_commit, applied_commit, conditions, diagnostics from desired.sources";
    let before = pair.sql(source);
    std::thread::scope(|scope| {
        // While nobody can renew, a cannot find out that it lost the lease before it tries to write.
        let lock = scope.spawn(|| pair.sql("select 1 from leases for no key update; select pg_sleep(2.5)"));
        eventually("the lease to be locked", || {
            (pair.sql(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
            ) == "1")
                .then_some(())
        });
        pair.a.signal(Signal::CONT);
        let refused = "is held by somebody else; nothing was written";
        // Or its own clock is first to tell it that the lease ran out.
        let done = || pair.a.logged(refused) || pair.a.logged("Lost the syncer's lease");
        eventually("a's late write to be refused, or not to be made", || done().then_some(()));
        lock.join().unwrap();
    });
    eventually("a to stop its work", || pair.a.logged("Lost the syncer's lease").then_some(()));
    assert_eq!(pair.sql(source), before, "a says nothing of the source either");
    assert!(pair.a.is_running(), "it goes on to serve");
    let news = |line: &String| {
        line.contains("slow statement") && ["pg_advisory_lock", "update leases"].iter().any(|wait| line.contains(wait))
    };
    assert!(!pair.b.log().iter().any(news), "waiting for the lease is no news");
    assert_eq!(pair.holder(), instance(&pair.b));
    pair.check(&[&second, &third], 3);
    // It can have the lease again.
    pair.b.terminate();
    let fourth = pair.push("fourth\n");
    wait_applied(&pair.database, &fourth);
    pair.check(&[&fourth], 4);
}

#[test]
fn a_holder_that_stands_still_within_its_transaction_holds_nobody_up() {
    let pair = Pair::new();
    // Only what the first holder writes is slow.
    let writer = pair.sql("select 'fleetd writer ' || token from leases where name = 'syncer'");
    pair.sql(&format!(
        "create function linger() returns trigger language plpgsql as $$ begin
           if current_setting('application_name') = '{writer}' then perform pg_sleep(30); end if;
           return null;
         end $$;
         create trigger linger after insert on desired.fleet_revisions for each statement execute function linger()",
    ));
    let second = pair.push("second\n");
    let asleep = format!(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = '{writer}' and wait_event = 'PgSleep'"
    );
    eventually("a to be in its transaction", || (pair.sql(&asleep) == "1").then_some(()));
    pair.a.signal(Signal::STOP);
    let stopped = pair.now();
    pair.applied_within(TAKE_OVER, &second, &stopped, "standing still within its transaction");
    let ended = "Ended what an earlier holder of the syncer's lease left open";
    eventually("b to tell that it ended the transaction", || pair.b.logged(ended).then_some(()));
    pair.a.signal(Signal::CONT);
    eventually("a to stop its work", || pair.a.logged("Lost the syncer's lease").then_some(()));
    let third = pair.push("third\n");
    wait_applied(&pair.database, &third);
    assert_eq!(pair.holder(), instance(&pair.b));
    assert!(!pair.a.log().iter().any(|line| line.contains("Applied a commit") && line.contains(&second)));
    pair.check(&[&second, &third], 3);
}

#[test]
fn a_holder_whose_database_falls_silent_stops_writing_and_comes_back() {
    cut_off(Fault::Stall);
}

#[test]
fn a_holder_whose_database_connections_break_stops_writing_and_comes_back() {
    cut_off(Fault::Reset);
}

fn cut_off(fault: Fault) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = TestDatabase::create();
    let url = database.url();
    let (name, rest) = url.strip_prefix("postgres:///").unwrap().split_once("?host=").unwrap();
    let (sockets, user) = rest.split_once("&user=").unwrap();
    let socket = format!("{sockets}/.s.PGSQL.5432");
    // The cluster listens on a socket only: a bridge makes a TCP port of it, and the proxy stands before that.
    let bridge = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let upstream = bridge.local_addr().unwrap();
    runtime.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = bridge.accept().await {
            let socket = socket.clone();
            connections.spawn(async move {
                let Ok(mut server) = UnixStream::connect(&socket).await else { return };
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    let proxy = runtime.block_on(TcpFaultProxy::start(upstream)).unwrap();
    let url_of_a = format!("postgres://{user}@{}/{name}", proxy.address());
    let mut pair = Pair::start(database, &url_of_a);
    assert!(proxy.connections() > 0, "a goes through the proxy");

    pair.wait_renewed();
    let cut = pair.now();
    proxy.set(fault);
    let second = pair.push("second\n");
    pair.applied_within(TAKE_OVER, &second, &cut, "cut off");
    assert_eq!(pair.holder(), instance(&pair.b));
    eventually("a to stop its work", || pair.a.logged("Lost the syncer's lease").then_some(()));
    let third = pair.push("third\n");
    wait_applied(&pair.database, &third);
    proxy.set(Fault::None);
    eventually("a to serve again", || pair.a.is_ready().then_some(()));
    assert!(!pair.a.log().iter().any(|line| line.contains("Applied a commit") && line.contains(&second)));
    pair.check(&[&second, &third], 3);
    // And a can do the work again.
    pair.b.terminate();
    let fourth = pair.push("fourth\n");
    wait_applied(&pair.database, &fourth);
    pair.check(&[&fourth], 4);
}
