//! Random histories, with a host that goes away or misbehaves, a service that dies, and desired state that is dropped: what
//! is desired is always what some accepted commit says, and in the end what the last one says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fleet_test::ssh_server::GitDaemon;
use fleet_test::{Fault, TcpFaultProxy};
use rand::Rng;

use crate::generate::{History, STATE, Step};
use crate::harness::{drop_while_running, eventually};
use crate::kills::{Stand, differences, number};
use crate::service::{wait_disconnected, wrong_versions};

/// How many commits a history has unless `SHOREBASE_STEPS` says otherwise, and how many histories `SHOREBASE_HISTORIES` asks
/// for.
const STEPS: u64 = 24;
const HISTORIES: u64 = 1;

/// What happens to the service or its host after a commit was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    None,
    HostSilent,
    HostResets,
    HostCutsOff,
    HostSlow,
    RepositoryAway,
    Killed,
    KilledAndDropped,
    DroppedWhileRunning,
}

const TROUBLES: [Trouble; 9] = [
    Trouble::None,
    Trouble::HostSilent,
    Trouble::HostResets,
    Trouble::HostCutsOff,
    Trouble::HostSlow,
    Trouble::RepositoryAway,
    Trouble::Killed,
    Trouble::KilledAndDropped,
    Trouble::DroppedWhileRunning,
];

/// Everything that was accepted so far: the state each commit gives, and all that any device may have.
#[derive(Default)]
struct Accepted {
    states: BTreeMap<String, String>,
    devices: BTreeSet<String>,
}

/// What devices notice of desired state: their owner and document, whatever else is being made again.
const DEVICES: &str = "select concat_ws(' ', name, owner_fleet, encode(rendered_digest, 'hex')) from devices
                       where owner_fleet is not null order by name";

impl Accepted {
    fn learn(&mut self, reference: &Stand, commit: &str) {
        self.states.insert(commit.to_owned(), reference.state());
        self.devices.extend(reference.database.psql(DEVICES).unwrap().lines().map(str::to_owned));
    }

    /// Looks at the service at any moment: what is there comes from accepted commits, and nothing is gone.
    fn check(&self, stand: &Stand, context: &str) {
        for line in stand.database.psql(DEVICES).unwrap().lines() {
            assert!(self.devices.contains(line), "{context}: no accepted commit gives {line}");
        }
        let cleared =
            stand.database.psql("select count(*) from devices where rendered_version > 0 and rendered_digest is null");
        assert_eq!(cleared.unwrap(), "0", "{context}: a document is gone");
        // One look, so that all of it is of one moment. While it is dropped there is nothing to compare.
        let Ok(state) = stand.database.psql(STATE) else { return };
        let applied = state.lines().find_map(|line| line.strip_prefix("source main config main  "));
        let Some(commit) = applied.map(str::trim).filter(|commit| commit.len() == 40) else { return };
        let expected = self.states.get(commit).unwrap_or_else(|| panic!("{context}: {commit} was never accepted"));
        // Devices follow once all sources are back.
        let desired = |text: &str| {
            text.lines().filter(|line| !line.starts_with("device ")).map(str::to_owned).collect::<Vec<_>>().join("\n")
        };
        let (is, wanted) = (desired(&state), desired(expected));
        assert_eq!(is, wanted, "{context}: {commit}\n{}", differences(&is, &wanted, &wanted));
    }
}

struct World {
    history: History,
    proxy: TcpFaultProxy,
    reference: Stand,
    stand: Stand,
    accepted: Accepted,
}

impl World {
    fn ask(&self) {
        self.stand.database.psql("select pg_notify('shorebase_sources', 'main')").unwrap();
    }

    /// Drops desired state, which is not there while the service has not made it again since the last time.
    fn drop_desired(&self) {
        drop_while_running(&self.stand.database, || "drop schema if exists desired cascade".to_owned());
    }

    /// Lets trouble be there for a while, and ends it.
    fn trouble(&mut self, trouble: Trouble, for_how_long: Duration) {
        let fault = |fault: Fault| {
            self.proxy.set(fault);
            self.ask();
            std::thread::sleep(for_how_long);
            self.proxy.set(Fault::None);
        };
        match trouble {
            Trouble::None => {}
            Trouble::HostSilent => fault(Fault::Stall),
            Trouble::HostResets => fault(Fault::Reset),
            Trouble::HostCutsOff => fault(Fault::CutAfter(u64::try_from(for_how_long.as_millis()).unwrap() * 2)),
            Trouble::HostSlow => fault(Fault::Latency(Duration::from_millis(60))),
            Trouble::RepositoryAway => {
                let here = self.history.host.path().to_owned();
                let away = here.with_extension("away");
                std::fs::rename(&here, &away).unwrap();
                self.ask();
                std::thread::sleep(for_how_long);
                std::fs::rename(&away, &here).unwrap();
            }
            Trouble::Killed | Trouble::KilledAndDropped => {
                std::thread::sleep(for_how_long / 4);
                self.stand.service.kill();
                wait_disconnected(&self.stand.database);
                if trouble == Trouble::KilledAndDropped {
                    self.drop_desired();
                }
                self.stand.service.spawn();
                std::thread::sleep(for_how_long);
            }
            Trouble::DroppedWhileRunning => {
                std::thread::sleep(for_how_long / 4);
                self.drop_desired();
                self.ask();
                std::thread::sleep(for_how_long);
            }
        }
    }

    fn settle(&self, step: &Step) {
        let applied = format!("select applied_commit = '{}' from desired.sources", step.commit);
        let mut asked = Instant::now();
        eventually(&format!("{step:?} to be applied"), || {
            if asked.elapsed() > Duration::from_secs(1) {
                asked = Instant::now();
                self.ask();
            }
            (self.stand.database.psql(&applied).ok()? == "t").then_some(())
        });
        self.stand.settle(step);
    }
}

fn live_through(seed: u64, steps: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let history = History::start(seed);
    let first = history.good().to_owned();
    let daemon = GitDaemon::start(history.host.scratch()).unwrap();
    let address = daemon.url("bare.git");
    let address = address.strip_prefix("git://").and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let proxy = runtime.block_on(TcpFaultProxy::start(address)).unwrap();
    let reference = Stand::start(&history.host.url(), &first);
    let stand = Stand::start(&format!("git://{}/bare.git", proxy.address()), &first);
    let mut world = World { history, proxy, reference, stand, accepted: Accepted::default() };
    world.accepted.learn(&world.reference, &first);
    let mut seen: BTreeMap<Trouble, usize> = BTreeMap::new();
    let mut last = None;
    for n in 0..steps {
        let step = world.history.next();
        // What is accepted is known before the service is looked at.
        world.reference.settle(&step);
        if step.good {
            world.accepted.learn(&world.reference, &step.commit);
            last = Some(step.clone());
        }
        let trouble = TROUBLES[world.history.rng().random_range(0..TROUBLES.len())];
        let for_how_long = Duration::from_millis(world.history.rng().random_range(20..900));
        let context = format!("seed {seed}, step {n}, {step:?}, {trouble:?} for {for_how_long:?}");
        *seen.entry(trouble).or_default() += 1;
        world.accepted.check(&world.stand, &context);
        world.trouble(trouble, for_how_long);
        world.accepted.check(&world.stand, &context);
        // Often the next thing happens before anything is settled.
        if step.good && world.history.rng().random_bool(0.3) {
            world.settle(&step);
            assert_eq!(&world.stand.state(), &world.accepted.states[&step.commit], "{context}");
        }
    }
    let step = loop {
        let step = world.history.next();
        world.reference.settle(&step);
        if step.good {
            break step;
        }
    };
    world.accepted.learn(&world.reference, &step.commit);
    world.settle(&step);
    let (is, wanted) = (world.stand.state(), &world.accepted.states[&step.commit]);
    assert_eq!(&is, wanted, "seed {seed}: {step:?} after {last:?}\n{}", differences(&is, wanted, wanted));
    assert_eq!(wrong_versions(&world.stand.database), "", "seed {seed}");
    eprintln!("seed {seed}: {} commits accepted, {seen:?}", world.accepted.states.len());
}

#[test]
fn what_is_desired_is_what_some_accepted_commit_says_whatever_happens() {
    let seed = number("SHOREBASE_SEED", rand::random::<u32>().into());
    let (steps, histories) = (number("SHOREBASE_STEPS", STEPS), number("SHOREBASE_HISTORIES", HISTORIES));
    eprintln!("{histories} histories of {steps} commits; again with SHOREBASE_SEED={seed}");
    for n in 0..histories {
        live_through(seed + n, steps);
    }
}
