//! Many sources, and some bad ones among them: counts and states, never times. The benches `push` and `sources` measure.

use std::path::Path;
use std::time::Instant;

use fleet_test::git_server::GitServer;
use fleet_test::{BadHost, Badness, RepoFarm, Shape, SyncService, SyncSettings};

use crate::harness::{DEADLINE, eventually};
use crate::hub::{Hub, SECRET, fleet};

/// A service with small repositories over HTTPS, and further sources.
struct World {
    service: SyncService,
    hub: Hub,
    farm: RepoFarm,
    server: GitServer,
}

impl World {
    fn start(sources: usize, poll_interval: &str, log: &str, others: &[(String, String)]) -> Self {
        let farm = RepoFarm::create(sources, |n| ("fleet.yaml".to_owned(), fleet(n, "first")));
        let server = GitServer::start(farm.root(), None).unwrap();
        let own = (0..sources).map(|n| (format!("source-{n}"), server.https_url(&RepoFarm::name(n))));
        let settings = SyncSettings {
            git: format!("pollInterval: {poll_interval}"),
            authorities: vec![(server.https_url(""), server.ca_pem().to_owned())],
            webhook_secret: Some(SECRET.to_owned()),
            // The bad ones come first: they are looked at before the others.
            sources: others.iter().cloned().chain(own).collect(),
            log: log.to_owned(),
        };
        let service = SyncService::start(Path::new(env!("CARGO_BIN_EXE_fleetd")), &settings);
        service.wait_for_applied(sources, 2 * DEADLINE);
        let hub = Hub::new(&service.user_url(), &service.ca_pem());
        let world = Self { service, hub, farm, server };
        // A look is counted a moment after the database has what came of it.
        eventually("the first looks to be counted", || (world.applied() >= sources as u64).then_some(()));
        world
    }

    /// Changes the fleet of a source, has it announced, and waits until that is applied.
    fn push(&self, source: usize, word: &str) {
        let from = self.service.process().lines();
        let commit = self.farm.commit(source, "fleet.yaml", &fleet(source, word));
        let (status, _) = self.hub.announce(&self.server.https_url(&RepoFarm::name(source)));
        assert_eq!(status, 202);
        self.service.process().line(from, &["\"Applied a commit\"", &commit], DEADLINE);
    }

    fn applied(&self) -> u64 {
        self.service.counted(&["shorebase_syncer_sync_commits_applied_total"])
    }

    fn looks(&self) -> u64 {
        self.service.unchanged_polls() + self.applied()
    }

    fn sql(&self, sql: &str) -> String {
        self.service.database().psql(sql).unwrap()
    }
}

#[test]
fn an_unchanged_poll_costs_next_to_no_sql_however_many_sources_there_are() {
    let world = World::start(50, "1s", ",sqlx::query=debug", &[]);
    let statements = || world.service.process().count(0, &["\"sqlx::query\""]);
    let wait_for_polls = |count: u64| {
        eventually("polls", || (world.service.unchanged_polls() >= count).then_some(()));
    };
    // Each source has had its first looks.
    wait_for_polls(200);
    let (polls, before, began) = (world.service.unchanged_polls(), statements(), Instant::now());
    assert!(before > 0, "statements are in the log");
    wait_for_polls(polls + 300);
    let (polls, statements) = (world.service.unchanged_polls() - polls, statements() - before);
    println!("{statements} statements while {polls} polls found nothing");
    // Leases, the device index and the list of sources take some in any case, on a slow machine for longer.
    let most = polls.max(12 * began.elapsed().as_secs());
    assert!(u64::try_from(statements).unwrap() <= most, "{statements} statements while {polls} polls found nothing");
    assert_eq!(world.service.counted(&["shorebase_syncer_sync_failures_total"]), 0);

    // Whoever looks sees that the hosts were asked, and what is decided meanwhile counts at once.
    let old = "select count(*) from desired.sources where last_polled_at < now() - interval '40 seconds'";
    eventually("all to be seen that were asked", || (world.sql(old) == "0").then_some(()));
    let suspend = "insert into source_suspensions (org_id, source, reason, suspended_by, suspended_at) select org_id, name, \
                   'a test', 'user:tester', now() from desired.sources where name = 'source-7'";
    world.sql(suspend);
    // Nobody told the service: it finds out when there is something to apply.
    world.farm.commit(7, "fleet.yaml", &fleet(7, "while suspended"));
    eventually("the suspension to be seen", || {
        let sql = "select count(*) from desired.sources where name = 'source-7' and conditions @> '[{\"type\": \
                   \"Suspended\", \"status\": \"True\"}]'";
        (world.sql(sql) == "1").then_some(())
    });
    let applied = "select applied_commit from desired.sources where name = 'source-7'";
    assert_eq!(world.sql(applied), world.farm.first(7));
}

#[test]
fn a_repository_of_one_shape_is_applied_whole_and_then_file_by_file() {
    let shape = Shape { files: 600, commits: 12, refs: 50 };
    let repo = shape.repository(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let server = GitServer::start(repo.root(), None).unwrap();
    let settings = SyncSettings {
        git: "pollInterval: 500ms".to_owned(),
        authorities: vec![(server.https_url(""), server.ca_pem().to_owned())],
        sources: vec![("shaped".to_owned(), server.https_url("bare.git"))],
        ..SyncSettings::default()
    };
    let service = SyncService::start(Path::new(env!("CARGO_BIN_EXE_fleetd")), &settings);
    service.process().line(0, &["\"Applied a commit\"", &repo.head()], 2 * DEADLINE);
    let sql = |sql: &str| service.database().psql(sql).unwrap();
    let manifests = "select count(*) from desired.manifests where kind = 'Device'";
    assert_eq!(sql(manifests), "600");
    let (path, content) = shape.file(7, 1_000);
    let from = service.process().lines();
    let commit = repo.commit(&path, &content);
    service.process().line(from, &["\"Applied a commit\"", &commit], 2 * DEADLINE);
    let changed = format!("{manifests} and document::text like '%stage-1000%'");
    assert_eq!([sql(manifests), sql(&changed)], ["600", "1"]);
}

#[test]
fn every_push_among_many_sources_is_applied_with_a_look_or_two() {
    let world = World::start(20, "10m", "", &[]);
    let looks = world.looks();
    for round in 0..12 {
        world.push(round % 4, &format!("push {round}"));
    }
    // A look is counted a moment after the log says what it did.
    let made = eventually("as many looks as pushes", || Some(world.looks() - looks).filter(|made| *made >= 12));
    assert!(made <= 24, "{made} looks for 12 pushes");
    assert_eq!(world.service.counted(&["shorebase_syncer_sync_failures_total"]), 0);
}

#[test]
fn bad_hosts_among_good_ones_hold_up_nobody() {
    let (silent, failing) = (BadHost::start(Badness::Silent).unwrap(), BadHost::start(Badness::Failing).unwrap());
    let bad = [("a-silent-one".to_owned(), silent.url()), ("a-failing-one".to_owned(), failing.url())];
    let world = World::start(10, "10m", "", &bad);
    for round in 0..6 {
        for (_, url) in &bad {
            world.hub.announce(url);
        }
        world.push(round, &format!("push {round}"));
    }
    eventually("the bad ones to be looked at", || (silent.requests() > 0 && failing.requests() > 0).then_some(()));
    let well = "select count(*) from desired.sources where name like 'source-%' and conditions @> '[{\"type\": \
                \"SourceReachable\", \"status\": \"True\"}]'";
    assert_eq!(world.sql(well), "10");
    assert_eq!(world.sql("select count(*) from desired.sources where applied_commit is null"), "2");
    eventually("the failing one to be told", || {
        let sql = "select conditions::text from desired.sources where name = 'a-failing-one'";
        world.sql(sql).contains("HostUnreachable").then_some(())
    });
}
