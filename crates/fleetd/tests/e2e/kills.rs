//! A service that is killed at random moments and at every write: the database holds the commit before or the one after,
//! whole. What "whole" is, a second service says that follows the same repository and is never killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet_test::{GitRepo, TestDatabase};
use rand::Rng;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::generate::{CONTRADICTIONS, History, STATE, Step, devices_sql};
use crate::harness::eventually;
use crate::service::{Service, ServiceConfig, wait_applied, wait_disconnected, watch_versions, wrong_versions};

/// How often the service is killed unless `SHOREBASE_KILLS` says otherwise.
const KILLS: usize = 200;
/// Pairs of services at work at the same time.
const LANES: usize = 2;
/// The most kills of one history, so that a long run is not slower at its end, and can go on after a stop.
const ROUND: usize = 100;

/// A number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")),
        Err(_) => default,
    }
}

/// A service and its database.
pub(crate) struct Stand {
    pub(crate) service: Service,
    pub(crate) database: TestDatabase,
    _dir: TempDir,
}

impl Stand {
    /// A service that follows a repository, with its first commit applied to devices without agents.
    pub(crate) fn start(host: &str, first: &str) -> Self {
        let database = TestDatabase::create();
        let dir = tempfile::Builder::new().prefix("shorebase-kills").tempdir().unwrap();
        let git = "{pollInterval: 1s, deletionGracePeriod: 0s}".to_owned();
        let config =
            ServiceConfig { database: database.url(), source: host.to_owned(), more_sources: String::new(), git };
        let mut service = Service::new(dir.path(), config);
        service.start();
        wait_applied(&database, first);
        watch_versions(&database);
        database.psql(&devices_sql()).unwrap();
        let stand = Self { service, database, _dir: dir };
        stand.settle_devices();
        stand
    }

    fn sql(&self, sql: &str) -> String {
        self.database.psql(sql).unwrap()
    }

    fn settle_devices(&self) {
        let dirty = "select count(*) from devices where dirty";
        eventually("the devices to be looked at", || (self.sql(dirty) == "0").then_some(()));
    }

    /// Waits until a commit is in force, or refused where it has to be.
    pub(crate) fn settle(&self, step: &Step) {
        let judged = match step.good {
            true => {
                format!(
                    "select applied_commit = '{0}' and observed_commit = '{0}' from desired.sources where name = 'main'",
                    step.commit
                )
            }
            false => format!(
                "select s.observed_commit = '{0}' and c.verdict = 'Refused' from desired.sources s
                 join desired.commits c on c.commit_id = '{0}'",
                step.commit
            ),
        };
        eventually(&format!("{}, commit {}, to be judged", step.what, step.commit), || {
            (self.sql(&judged) == "t").then_some(())
        });
        self.settle_devices();
    }

    /// Everything that is desired, after a look for contradictions.
    pub(crate) fn state(&self) -> String {
        assert_eq!(self.sql(CONTRADICTIONS), "", "tables that are written together agree");
        self.sql(STATE)
    }

    /// Kills the service. Returns whether it had written something and not yet committed.
    pub(crate) fn kill(&mut self) -> bool {
        self.kill_then("")
    }

    /// As [`Self::kill`], and runs SQL before the database is waited for to notice.
    fn kill_then(&mut self, sql: &str) -> bool {
        // It stands still while the database is asked what it was doing.
        self.service.signal(Signal::STOP);
        let writing = self.sql(
            "select count(*) from pg_stat_activity where datname = current_database()
             and application_name like 'fleetd writer %' and backend_xid is not null",
        );
        self.service.kill();
        if !sql.is_empty() {
            self.sql(sql);
        }
        wait_disconnected(&self.database);
        writing != "0"
    }
}

/// A delay that is led towards the moment of the commit, wherever that is on this machine today: shorter after a kill that
/// came too late, longer after one too soon. A third of the delays is any.
struct Aim(f64);

impl Aim {
    fn delay(&self, rng: &mut impl Rng) -> Duration {
        let seconds = match rng.random_bool(1.0 / 3.0) {
            true => rng.random_range(0.0..2.0 * self.0),
            false => self.0 * rng.random_range(0.85..1.15),
        };
        Duration::from_secs_f64(seconds)
    }

    fn learn(&mut self, late: bool) {
        self.0 = (self.0 * if late { 0.9 } else { 1.1 }).clamp(0.02, 20.0);
    }
}

/// How many kills came when.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    before: usize,
    after: usize,
    writing: usize,
    /// Where before and after are the same, as with a bad commit.
    same: usize,
    /// Seconds spent: pushing, until the kill, killing, comparing, until the service that was killed arrived.
    push: f64,
    wait: f64,
    kill: f64,
    compare: f64,
    arrive: f64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.before += other.before;
        self.after += other.after;
        self.writing += other.writing;
        self.same += other.same;
        self.push += other.push;
        self.wait += other.wait;
        self.kill += other.kill;
        self.compare += other.compare;
        self.arrive += other.arrive;
    }
}

/// Does something, and adds how long it took.
fn timed<T>(seconds: &mut f64, what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = what();
    *seconds += began.elapsed().as_secs_f64();
    done
}

/// Kills one service so often that follows a history of its own.
fn round(seed: u64, kills: usize) -> Tally {
    let mut history = History::start(seed);
    let url = history.host.url();
    let reference = Stand::start(&url, history.good());
    let mut victim = Stand::start(&url, history.good());
    assert_eq!(victim.state(), reference.state());
    let mut tally = Tally::default();
    // How long a commit takes on this machine, for a service that runs and for one that starts.
    let (mut pushed, mut started) = (Aim(0.0), Aim(0.0));
    let first = history.next();
    timed(&mut pushed.0, || victim.settle(&first));
    reference.settle(&first);
    victim.kill();
    let second = history.next();
    victim.service.spawn();
    timed(&mut started.0, || victim.settle(&second));
    reference.settle(&second);
    let mut before = reference.state();
    assert_eq!(victim.state(), before, "seed {seed}: {first:?}, {second:?}");
    while tally.kills < kills {
        let mut delay = pushed.delay(history.rng());
        let step = timed(&mut tally.push, || history.next());
        let mut moments = Vec::new();
        loop {
            timed(&mut tally.wait, || std::thread::sleep(delay));
            let writing = timed(&mut tally.kill, || victim.kill());
            moments.push((delay, writing, timed(&mut tally.compare, || victim.state())));
            if moments.len() == 2 || history.rng().random_bool(0.5) {
                break;
            }
            delay = started.delay(history.rng());
            victim.service.spawn();
        }
        let after = timed(&mut tally.compare, || {
            reference.settle(&step);
            reference.state()
        });
        for (nth, (delay, writing, state)) in moments.into_iter().enumerate() {
            let context = || format!("seed {seed}, kill {}, {delay:?} after {step:?}", tally.kills);
            let (is_before, is_after) = (state == before, state == after);
            assert!(is_before || is_after, "{}:\n{}", context(), differences(&state, &before, &after));
            tally.kills += 1;
            tally.writing += usize::from(writing);
            match (is_before, is_after) {
                (true, true) => tally.same += 1,
                (true, false) => tally.before += 1,
                _ => tally.after += 1,
            }
            if before != after {
                if nth == 0 { pushed.learn(is_after) } else { started.learn(is_after) }
            }
        }
        victim.service.spawn();
        timed(&mut tally.arrive, || victim.settle(&step));
        assert_eq!(
            timed(&mut tally.compare, || victim.state()),
            after,
            "seed {seed}: the service that was killed arrives at the same, {step:?}"
        );
        before = after;
    }
    let versions = "select name, rendered_version from devices order by name";
    assert_eq!(victim.sql(versions), reference.sql(versions), "seed {seed}: nothing was given out twice");
    assert_eq!(wrong_versions(&victim.database), "");
    tally
}

/// Lines that are neither before nor after.
pub(crate) fn differences(state: &str, before: &str, after: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(before), lines(after));
    let marked = lines(state).into_iter().map(|line| match (before.contains(&line), after.contains(&line)) {
        (true, true) => format!("  {line}"),
        (true, false) => format!("< {line}"),
        (false, true) => format!("> {line}"),
        (false, false) => format!("! {line}"),
    });
    marked.collect::<Vec<_>>().join("\n")
}

/// Rounds that are done and not, by their number.
struct Rounds {
    next: usize,
    done: BTreeSet<usize>,
    failed: bool,
    all: Tally,
}

#[test]
fn a_service_killed_at_random_moments_leaves_one_commit_or_the_other() {
    let kills = usize::try_from(number("SHOREBASE_KILLS", KILLS as u64)).unwrap();
    let seed = number("SHOREBASE_SEED", rand::random::<u32>().into());
    eprintln!("{kills} kills; again with SHOREBASE_SEED={seed}");
    let began = Instant::now();
    let each = kills.div_ceil(LANES).min(ROUND);
    let count = kills.div_ceil(each);
    let rounds = Mutex::new(Rounds { next: 0, done: BTreeSet::new(), failed: false, all: Tally::default() });
    let take = || {
        let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let n = rounds.next;
        rounds.next += 1;
        (n < count && !rounds.failed).then_some(n)
    };
    let lane = || {
        while let Some(n) = take() {
            let own = seed + n as u64;
            let tally = std::panic::catch_unwind(|| round(own, each));
            let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(tally) = tally else {
                rounds.failed = true;
                eprintln!(
                    "round {n} of {count} failed: again with SHOREBASE_SEED={own} SHOREBASE_KILLS={}",
                    LANES * each
                );
                return;
            };
            rounds.all.add(&tally);
            rounds.done.insert(n);
            let seconds = began.elapsed().as_secs_f64();
            let first = (0..count).find(|n| !rounds.done.contains(n)).unwrap_or(count);
            eprintln!(
                "{} of {kills} kills in {seconds:.0} s, {:.2} s each; go on from here with SHOREBASE_SEED={} SHOREBASE_KILLS={}",
                rounds.all.kills,
                seconds / rounds.all.kills as f64,
                seed + first as u64,
                (count - first) * each
            );
        }
    };
    std::thread::scope(|scope| (0..LANES).for_each(|_| drop(scope.spawn(lane))));
    let Rounds { failed, all, .. } = rounds.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(!failed, "a round failed, see above; all of them again with SHOREBASE_SEED={seed}");
    eprintln!("{all:.1?} in {:.0} s", began.elapsed().as_secs_f64());
    if kills >= 50 {
        assert!(all.before >= kills / 20, "kills came before the commit: {all:?}");
        assert!(all.after >= kills / 20, "kills came after the commit: {all:?}");
        assert!(all.writing > 0, "kills came while it was written: {all:?}");
    }
}

/// Makes each statement that writes as the syncer linger as long as `lingers` has a row for its table and operation, and
/// notes what is written.
const LINGER: &str = "
    create table lingers (place text);
    create table writes (place text);
    create function linger() returns trigger language plpgsql as $$
    declare here text := tg_table_schema || '.' || tg_table_name || ' ' || lower(tg_op);
    begin
      if current_setting('application_name') like 'fleetd writer %' then
        while exists (select from lingers where place = here) loop perform pg_sleep(0.05); end loop;
        insert into writes values (here);
      end if;
      return null;
    end $$;
    create function linger_at_commit() returns trigger language plpgsql as $$ begin
      while exists (select from lingers where place = 'commit') loop perform pg_sleep(0.05); end loop;
      return null;
    end $$;
    do $$ declare t record; begin
      for t in select schemaname as s, tablename as n from pg_tables
               where schemaname in ('desired', 'rendered', 'public')
                 and tablename not in ('_migrations', '_sqlx_migrations', 'lingers', 'writes', 'leases', 'wrong_versions')
      loop
        execute format('create trigger linger after insert or update or delete on %I.%I for each statement
                        execute function linger()', t.s, t.n);
      end loop;
    end $$;
    create constraint trigger linger_at_commit after insert or update on source_positions deferrable initially deferred
      for each row execute function linger_at_commit()";

/// A commit that makes the syncer write wherever it can: in turn one and the other.
fn rich(repo: &GitRepo, n: usize) -> String {
    let fleet = |name: &str, role: &str, content: String| {
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector:\n    matchLabels:\n      \
             role: {role}\n  template:\n    spec:\n      config:\n        - name: files\n          gitRef:\n            \
             repository: .\n            path: config\n        - name: inline\n          inline:\n            - path: /etc/x\n              \
             content: {content}\n"
        )
    };
    let (here, gone) = if n.is_multiple_of(2) { ("one", "two") } else { ("two", "one") };
    if n > 0 {
        repo.remove(&format!("fleets/{gone}.yaml")).remove(&format!("fleets/sync-{gone}.yaml"));
    }
    repo.write("fleets/all.yaml", fleet("all", "role0", format!("all{n}")))
        .write(&format!("fleets/{here}.yaml"), fleet(here, "role1", format!("{here}{n}")))
        .write("config/etc/motd", format!("{n}\n"))
        .write(
            "fleets/repository.yaml",
            format!(
                "apiVersion: v1beta1\nkind: Repository\nmetadata:\n  name: shared\nspec:\n  type: git\n  \
                 url: https://127.0.0.1:9/{n}.git\n"
            ),
        )
        .write(
            &format!("fleets/sync-{here}.yaml"),
            format!(
                "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: sync-{here}\nspec:\n  \
                 repository: shared\n  targetRevision: main\n  path: fleets\n"
            ),
        )
        .write(
            "devices/a.yaml",
            format!(
                "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: \"{:051}0\"\n  labels:\n    role: role{}\n",
                4,
                n % 2
            ),
        );
    repo.commit(&format!("rich {n}"))
}

#[test]
fn a_service_killed_at_any_write_leaves_the_commit_before() {
    let repo = GitRepo::init();
    let first = rich(&repo, 0);
    let mut stand = Stand::start(&repo.url(), &first);
    stand.sql(LINGER);
    let good = |n: usize| Step { what: format!("rich {n}"), commit: rich(&repo, n), good: true };
    for n in 1..=2 {
        stand.settle(&good(n));
    }
    let written = stand.sql("select string_agg(distinct place, ',' order by place) from writes");
    let mut places: Vec<&str> = written.split(',').collect();
    let tables = places.iter().filter_map(|place| place.split(' ').next()).collect::<std::collections::BTreeSet<_>>();
    assert!(tables.len() >= 12, "an apply writes {tables:?}");
    places.push("commit");
    let mut outcomes = BTreeMap::new();
    let began = Instant::now();
    let mut before = stand.state();
    for (n, place) in places.iter().enumerate() {
        stand.sql(&format!("insert into lingers values ('{place}')"));
        let step = good(n + 3);
        eventually(&format!("the service to write {place}"), || {
            let asleep =
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
            (stand.sql(asleep) != "0").then_some(())
        });
        assert!(stand.kill_then("delete from lingers"), "{place}: it was writing");
        let state = stand.state();
        let is_before = state == before;
        // What the database was told to commit is committed, whoever dies meanwhile.
        assert_eq!(is_before, *place != "commit", "{place}:\n{}", differences(&state, &before, ""));
        outcomes.insert(*place, if is_before { "before" } else { "after" });
        stand.service.spawn();
        stand.settle(&step);
        let after = stand.state();
        assert_ne!(after, before);
        before = after;
    }
    assert_eq!(wrong_versions(&stand.database), "");
    eprintln!("{} places in {:.0} s: {outcomes:?}", outcomes.len(), began.elapsed().as_secs_f64());
}
