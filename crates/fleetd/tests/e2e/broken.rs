//! Broken commits, one after the other, on real repositories that a real service follows: nothing that is desired changes,
//! no device notices, and the source says what `fleetctl lint` says, at the same places.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use fleet_test::{GitRepo, TestDatabase};
use serde_json::Value;

use crate::generate::STATE;
use crate::harness::{Device, eventually, program};
use crate::holds::fleet;
use crate::service::{Service, ServiceConfig};

mod cases;
#[path = "../../../fleet-lint/tests/corpus/changes.rs"]
mod changes;

use cases::{Case, Says, cases};
use changes::FLEET;

/// Repositories that the cases are spread over: a service looks at one source twice a second at most when it is woken.
const LANES: usize = 5;
/// The most findings that a source keeps.
const KEPT: usize = 500;

/// A repository of its own, with names of its own that are as long as those of the table.
pub(crate) struct Lane {
    n: usize,
    work: GitRepo,
    host: GitRepo,
    good: String,
}

impl Lane {
    fn start(n: usize) -> Self {
        let work = GitRepo::init();
        let lane = |text: &str| localized(n, text);
        work.write("fleets/kiosks.yaml", lane(FLEET))
            .write("fleets/gates.yaml", fleet(&format!("gates{n}"), "gate"))
            .write("config/kiosk/etc/motd", "first\n")
            .write("README.md", "Fleets\n")
            .write(
                "policies/all.yaml",
                format!(
                    "apiVersion: shorebase/v1alpha1\nkind: EnrollmentPolicy\nmetadata:\n  name: all{n}\nspec:\n  rules:\n    \
                     - match:\n        systemInfo:\n          hostname: kios{n}-*\n      labels:\n        role: kios{n}\n    \
                     - match:\n        systemInfo:\n          hostname: gate{n}-*\n      labels:\n        role: gates{n}\n"
                ),
            );
        let good = work.commit("start");
        let host = work.bare_clone();
        Self { n, work, host, good }
    }

    fn name(&self) -> String {
        if self.n == 0 { "main".to_owned() } else { format!("lane{}", self.n) }
    }

    /// The work tree as in the good commit; the branch stays.
    fn clean(&self) {
        self.work.git(&["read-tree", "-u", "--reset", &self.good]);
        self.work.git(&["clean", "-f", "-d", "-x", "-q"]);
    }
}

/// The text with names that no other lane has.
fn localized(n: usize, text: &str) -> String {
    text.replace("name: kiosks", &format!("name: kiosk{n}")).replace("role: kiosk\n", &format!("role: kios{n}\n"))
}

struct World {
    service: Service,
    database: TestDatabase,
}

impl World {
    fn sql(&self, sql: &str) -> String {
        self.database.psql(sql).unwrap()
    }

    /// All that is desired and all that devices notice, of a lane or of everything.
    fn state(&self) -> String {
        self.sql(STATE) + "\n" + &self.sql("select name, rendered_version, change_seq from devices order by name")
    }

    /// Pushes what is in the work tree, and tells what the service makes of it: verdict, findings.
    fn judged(&self, lane: &Lane, case: &Case) -> Result<(String, Value), String> {
        lane.work.git(&["add", "--all"]);
        if let Some(stage) = case.stage {
            stage(&lane.work);
        }
        lane.work.git(&["commit", "-q", "--allow-empty", "-m", &case.name]);
        if case.orphan {
            let tree = lane.work.git(&["write-tree"]);
            let orphan = lane.work.git(&["commit-tree", "-m", "without a past", &tree]);
            lane.work.git(&["update-ref", "refs/heads/main", &orphan]);
        }
        let commit = lane.work.head();
        lane.work.push(&lane.host, "main", true);
        let name = lane.name();
        let verdict = format!(
            "select coalesce((select 'Held' from source_holds h where h.source = s.name and h.commit_id = '{commit}'), c.verdict)
             from desired.sources s left join desired.commits c on c.source = s.name and c.commit_id = '{commit}'
             where s.name = '{name}' and s.observed_commit = '{commit}'"
        );
        let began = Instant::now();
        loop {
            let verdict = self.sql(&verdict);
            if !verdict.is_empty() {
                let findings = self.sql(&format!("select diagnostics from desired.sources where name = '{name}'"));
                return Ok((verdict, serde_json::from_str(&findings).unwrap()));
            }
            if began.elapsed() > Duration::from_secs(40) {
                let conditions = self.sql(&format!("select conditions from desired.sources where name = '{name}'"));
                return Err(format!("{}: nobody judged the commit: {conditions}", case.name));
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// One case; what is wrong with it. `None` when the files are not broken after all.
    fn run(&self, lane: &Lane, case: &Case) -> Option<Result<(), String>> {
        lane.clean();
        (case.make)(&lane.work, lane.n);
        let lint = Command::new(program("fleetctl"))
            .args(["lint", "-o", "json"])
            .current_dir(lane.work.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let by_lint = matches!(case.says, Says::Lint | Says::Places(..));
        if by_lint && lint.status.code() == Some(0) {
            return None;
        }
        Some(self.compare(lane, case, by_lint, &lint.stdout))
    }

    fn compare(&self, lane: &Lane, case: &Case, by_lint: bool, lint: &[u8]) -> Result<(), String> {
        let name = &case.name;
        let (verdict, findings) = self.judged(lane, case)?;
        let list = findings.as_array().cloned().unwrap_or_default();
        let told = || {
            list.iter().take(5).fold(String::new(), |mut text, d| {
                write!(text, "\n  {}:{}:{} {} {}", d["file"], d["line"], d["column"], d["code"], d["message"]).unwrap();
                text
            })
        };
        let wanted = match case.says {
            Says::Held => "Held",
            Says::Lint | Says::Places(..) | Says::Finding { .. } => "Refused",
        };
        if verdict != wanted {
            return Err(format!("{name}: {verdict} instead of {wanted}{}", told()));
        }
        if by_lint {
            let lint: Value = serde_json::from_slice(lint).map_err(|error| format!("{name}: lint said {error}"))?;
            // A source keeps 500; then they are at least those of lint.
            let of_lint = lint["diagnostics"].as_array().cloned().unwrap_or_default();
            let cut =
                list.len() == KEPT && of_lint.len() > KEPT && list.iter().all(|finding| of_lint.contains(finding));
            if of_lint != list && !cut {
                let first = lint["diagnostics"].get(0).map(ToString::to_string).unwrap_or_default();
                return Err(format!("{name}: lint says {first}, the source says{}", told()));
            }
        }
        let is_at = |file: &str, code: &str, line: u64, column: u64| {
            list.iter().any(|d| d["file"] == file && d["code"] == code && d["line"] == line && d["column"] == column)
        };
        match &case.says {
            Says::Places(places) => {
                for (code, line, column) in *places {
                    if !is_at("fleets/kiosks.yaml", code, (*line).into(), (*column).into()) {
                        return Err(format!("{name}: no {code} at {line}:{column}{}", told()));
                    }
                }
            }
            Says::Finding { file, code } => {
                if !list.iter().any(|d| d["file"] == *file && d["code"] == *code && d["severity"] == "error") {
                    return Err(format!("{name}: no {code} in {file}{}", told()));
                }
            }
            Says::Lint | Says::Held => {}
        }
        Ok(())
    }
}

#[test]
fn two_hundred_broken_commits_change_nothing_and_lint_says_the_same() {
    let lanes: Vec<Lane> = (0..LANES).map(Lane::start).collect();
    let database = TestDatabase::create();
    let dir = tempfile::Builder::new().prefix("shorebase-broken").tempdir().unwrap();
    let more_sources = lanes[1..].iter().fold(String::new(), |mut text, lane| {
        writeln!(text, "- {{name: {}, url: '{}', revision: main}}", lane.name(), lane.host.url()).unwrap();
        text
    });
    let config = ServiceConfig {
        database: database.url(),
        source: lanes[0].host.url(),
        more_sources,
        git: "{pollInterval: 500ms}".to_owned(),
    };
    let mut service = Service::new(dir.path(), config);
    service.start();
    let world = World { service, database };
    eventually("all lanes to be applied", || {
        (world.sql("select count(*) from desired.sources where applied_commit is not null") == LANES.to_string())
            .then_some(())
    });
    let settings = world.service.fleetctl(&["enrollment-config"]);
    let mut devices: Vec<Device> =
        ["kios0-1", "kios0-2", "gate0-1"].map(|host| Device::new(dir.path(), host, &settings)).into();
    devices.iter_mut().for_each(Device::start);
    for device in &devices[..2] {
        device.wait_file("/etc/motd", "first\n");
    }
    devices[2].wait_file("/etc/role", "gate");
    eventually("the devices to be settled", || {
        (world.sql("select count(*) from devices where not dirty and owner_fleet is not null") == "3").then_some(())
    });
    let before = world.state();

    let all = cases();
    let began = Instant::now();
    let outcomes: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let run = |lane: &Lane| {
            let (mut broken, mut wrong) = (0, Vec::new());
            for (nth, case) in all.iter().enumerate() {
                let here = case.lane.map_or(nth % LANES == lane.n, |own| own == lane.n);
                let Some(outcome) = here.then(|| world.run(lane, case)).flatten() else { continue };
                broken += 1;
                if let Err(error) = outcome {
                    eprintln!("{error}");
                    wrong.push(error);
                }
                let after = world.state();
                if after != before {
                    wrong.push(format!("{}: something changed, from\n{before}\nto\n{after}", case.name));
                    break;
                }
            }
            (broken, wrong)
        };
        let threads: Vec<_> = lanes.iter().map(|lane| scope.spawn(move || run(lane))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let wrong: Vec<&String> = outcomes.iter().flat_map(|(_, wrong)| wrong).collect();
    let broken: usize = outcomes.iter().map(|(broken, _)| broken).sum();
    eprintln!("{broken} broken commits in {:.1} s", began.elapsed().as_secs_f64());
    assert!(
        wrong.is_empty(),
        "{} of {broken}:\n{}",
        wrong.len(),
        wrong.iter().map(|w| w.as_str()).collect::<Vec<_>>().join("\n")
    );
    assert!(broken >= 200, "{broken} of {} cases are broken", all.len());
    assert_eq!(devices[0].file("/etc/motd").as_deref(), Some("first\n"));
    assert_eq!(devices[2].file("/etc/role").as_deref(), Some("gate"));

    // And the good files are taken again afterwards, without a change for anybody.
    let versions = "select name, rendered_version, change_seq from devices order by name";
    let before = world.sql(versions);
    for lane in &lanes {
        lane.clean();
        let commit = lane.work.commit("good again");
        lane.work.push(&lane.host, "main", true);
        let held = format!("select count(*) from source_holds where source = '{}'", lane.name());
        eventually("the good files to be taken", || {
            let applied =
                world.sql(&format!("select applied_commit from desired.sources where name = '{}'", lane.name()));
            (applied == commit || world.sql(&held) == "1").then_some(())
        });
    }
    assert_eq!(world.sql(versions), before);
    let verdicts: BTreeMap<String, String> = world
        .sql("select verdict, count(*) from desired.commits group by verdict")
        .lines()
        .filter_map(|line| line.split_once('|').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect();
    eprintln!("{verdicts:?}");
}
