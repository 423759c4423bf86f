//! A source that lies elsewhere by now: what it defines changes as any commit changes it, and nothing gets by the guard.

use fleet_test::{GitRepo, TestDatabase};

use crate::harness::{Database, Installation, eventually};
use crate::holds::{condition, devices, digest, enroll, events, fleet, owned, told, wait_held};
use crate::holds_durable::rewrite;

const SETTINGS: &str = "{deletionGracePeriod: 0s, pollInterval: 1s, allowLocalRepositories: true}";

/// Three fleets below `all`, one of them with another content below `half`; 24 devices that nobody plays.
fn start() -> Installation {
    start_at("all", "")
}

fn start_at(path: &str, more: &str) -> Installation {
    let repo = GitRepo::init();
    for name in ["gates", "tills", "doors"] {
        repo.write(&format!("all/{name}.yaml"), fleet(name, "one"));
        repo.write(&format!("same/{name}.yaml"), fleet(name, "one"));
    }
    repo.write("half/gates.yaml", fleet("gates", "half"));
    repo.write("none/README.md", "nothing here");
    if !more.is_empty() {
        repo.write("all/policy.yaml", more).write("same/policy.yaml", more);
    }
    repo.commit("start");
    let url = repo.url();
    let database = Database::Own(TestDatabase::create());
    let there = Installation::start_sources(repo, &url, &at(path), database, SETTINGS);
    there.wait_applied(&there.repo.head());
    for n in 0..24 {
        enroll(&there, &format!("device000000000000{n:02}"), if n % 2 == 0 { "gates" } else { "tills" });
    }
    eventually("the devices to get their documents", || (owned(&there) == "gates 12,tills 12").then_some(()));
    there
}

fn at(path: &str) -> String {
    format!("revision: main, path: {path}}}")
}

/// The service is stopped, its source lies at another path, and it starts again.
fn move_to(there: &mut Installation, path: &str) {
    there.stop_service();
    there.source_rest = at(path);
    there.start_service();
}

fn applied(there: &Installation) -> String {
    there.sql("select coalesce(applied_commit, '') from desired.sources where name = 'main'")
}

#[test]
fn a_source_that_moves_while_its_tip_is_held_is_judged_anew_and_old_approvals_do_not_count() {
    let mut there = start();
    let before = devices(&there);
    there.repo.remove("all/tills.yaml").remove("all/doors.yaml");
    let commit = there.repo.commit("tills and doors are gone");
    let first = digest(&wait_held(&there, &commit));
    // Approved while nothing is applied, and then the source moves.
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "a test"]);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &first]);
    move_to(&mut there, "half");
    there.fleetctl_ok(&["source", "resume", "main"]);
    let source = eventually("another plan to wait", || {
        let source = there.object("sources", "main")?;
        let held = source["status"]["held"]["digest"].as_str()?;
        (held != first && condition(&source, "Held").0 == "True").then_some(source)
    });
    let second = digest(&source);
    assert_eq!(condition(&source, "Held").1, "PlanStale", "{source:#}");
    let sentences = source["status"]["held"]["sentences"].to_string();
    assert!(sentences.contains("removes 2 of 3 fleets"), "{sentences}");
    let (code, out) = told(&there.fleetctl(&["source", "approve", "main", "--plan", &first]));
    assert!(code == Some(1) && out.contains("is not the plan that waits"), "{code:?} {out}");
    assert_eq!((devices(&there), events(&there, "HoldStarted")), (before.clone(), 1));

    // To a path that is not there, and to one without manifests: nothing goes.
    for (path, reason) in [("nowhere", "PathMissing"), ("none", "NothingLeft")] {
        move_to(&mut there, path);
        eventually(&format!("{path} to be refused"), || {
            (condition(&there.object("sources", "main")?, "Ready") == ("False".to_owned(), reason.to_owned()))
                .then_some(())
        });
        assert_eq!(devices(&there), before, "{path}");
        assert_eq!(there.sql("select count(*) from desired.fleets"), "3", "{path}");
    }

    // Back where it was another one has to be approved again; and what is approved is what is applied.
    move_to(&mut there, "half");
    let source = wait_held(&there, &commit);
    assert_eq!(digest(&source), second);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &second]);
    there.wait_applied(&commit);
    eventually("the gates to follow", || (owned(&there) == "gates 12").then_some(()));
    assert_eq!(there.sql("select string_agg(distinct rendered_version::text, ',') from devices"), "1,2");
}

#[test]
fn a_rewritten_history_that_waits_does_not_come_in_with_a_move() {
    let mut there = start();
    let first = there.repo.head();
    there.repo.write("README.md", "one\n");
    let applied_commit = there.repo.commit("the lost one");
    there.wait_applied(&applied_commit);
    let rewritten = rewrite(&there.repo, &first);
    wait_held(&there, &rewritten);
    // What the source defines is the same at both places.
    move_to(&mut there, "same");
    there.fleetctl(&["sync", "main", "--wait"]);
    let source = wait_held(&there, &rewritten);
    assert_eq!(condition(&source, "Held").1, "NonFastForward", "{source:#}");
    assert_eq!(applied(&there), "");
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    there.wait_applied(&rewritten);
}

#[test]
fn a_source_that_waits_at_its_new_place_waits_there_after_desired_state_was_dropped() {
    let mut there = start();
    let before = devices(&there);
    there.repo.write("README.md", "another commit");
    let commit = there.repo.commit("nothing of the source");
    there.wait_applied(&commit);
    there.repo.write("README.md", "and another");
    let commit = there.repo.commit("nothing of the source again");
    there.wait_applied(&commit);
    move_to(&mut there, "half");
    wait_held(&there, &commit);
    there.stop_service();
    there.repo.write("README.md", "and one more");
    let commit = there.repo.commit("nothing of the source once more");
    there.sql("drop schema desired cascade");
    there.start_service();
    there.fleetctl(&["sync", "main", "--wait"]);
    let source = wait_held(&there, &commit);
    assert_eq!((applied(&there).as_str(), devices(&there)), ("", before), "{source:#}");
}

#[test]
fn a_source_that_moved_while_desired_state_was_dropped_waits_for_a_person() {
    let mut there = start();
    let before = devices(&there);
    let tip = there.repo.head();
    there.stop_service();
    there.sql("drop schema desired cascade");
    there.source_rest = at("half");
    there.start_service();
    let source = wait_held(&there, &tip);
    let sentences = source["status"]["held"]["sentences"].to_string();
    assert!(sentences.contains("cannot be brought back"), "{source:#}");
    assert_eq!((applied(&there).as_str(), devices(&there)), ("", before.clone()), "{source:#}");
    // Back where it was, nothing is asked.
    there.stop_service();
    there.source_rest = at("all");
    there.start_service();
    there.wait_applied(&tip);
    eventually("the devices to be where they were", || (devices(&there) == before).then_some(()));
    // A person may say that the other place is right.
    there.stop_service();
    there.sql("drop schema desired cascade");
    there.source_rest = at("half");
    there.start_service();
    let plan = digest(&wait_held(&there, &tip));
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &plan, "--reason", "half is enough"]);
    there.wait_applied(&tip);
    eventually("the devices of gates alone", || (owned(&there) == "gates 12").then_some(()));
}

#[test]
fn a_resource_sync_that_points_elsewhere_moves_nobody_without_its_own_approval() {
    let team = GitRepo::init();
    for name in ["gates", "tills", "doors"] {
        team.write(&format!("all/{name}.yaml"), fleet(name, "one"));
    }
    team.write("half/gates.yaml", fleet("gates", "half"));
    let first = team.commit("start");
    team.branch("other").write("all/gates.yaml", fleet("gates", "other"));
    team.remove("all/tills.yaml").remove("all/doors.yaml");
    let other = team.commit("only gates");
    team.switch("main");
    let manifests = |path: &str, revision: &str| {
        format!(
            "{}---\napiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: team\nspec:\n  repository: team\n  \
             targetRevision: {revision}\n  path: {path}\n",
            crate::repositories::repository("team", &team.url())
        )
    };
    let there = Installation::start_with(
        &[("team.yaml", &manifests("/all", "main"))],
        Database::Own(TestDatabase::create()),
        SETTINGS,
    );
    let status = |what: &'static str| {
        move |there: &Installation| there.object("sources", "team").map(|source| source["status"][what].clone())
    };
    eventually("the team's source", || (status("appliedCommit")(&there)? == first.as_str()).then_some(()));
    for n in 0..24 {
        enroll(&there, &format!("device000000000000{n:02}"), if n % 2 == 0 { "gates" } else { "tills" });
    }
    eventually("the devices to get their documents", || (owned(&there) == "gates 12,tills 12").then_some(()));
    let before = devices(&there);
    let mut digests = Vec::new();
    for (path, revision, commit) in [("/half", "main", &first), ("/all", "other", &other)] {
        there.repo.write("team.yaml", manifests(path, revision));
        there.wait_applied(&there.repo.commit("the team is elsewhere"));
        let held = eventually("the team's source to wait", || {
            let held = status("held")(&there)?;
            let is_news = held["digest"].as_str().is_some_and(|digest| !digests.iter().any(|known| known == digest));
            (held["commit"] == commit.as_str() && is_news).then_some(held)
        });
        assert!(held["sentences"].to_string().contains("removes 2 of 3 fleets"), "{held:#}");
        assert_eq!((devices(&there), owned(&there)), (before.clone(), "gates 12,tills 12".to_owned()));
        digests.push(held["digest"].as_str().unwrap().to_owned());
    }
    assert_eq!(told(&there.fleetctl(&["source", "approve", "team", "--plan", &digests[0]])).0, Some(1));
    there.fleetctl_ok(&["source", "approve", "team", "--plan", &digests[1]]);
    eventually("the gates to follow", || (owned(&there) == "gates 12").then_some(()));
}
