//! Desired state that is made again has what was in force, wherever it came from, and nobody takes what is not back yet.

use std::path::PathBuf;
use std::time::Duration;

use fleet_test::GitRepo;
use fleet_test::file_server::FileServer;

use crate::dependencies::{web_repository, web_settings};
use crate::harness::{Installation, eventually, eventually_after};
use crate::holds::{
    condition, devices, digest, enroll, events, fleet, owned, remove_two, start_with, start_with_settings, wait_held,
};
use crate::repositories::repository;

const GIT: &str =
    "gitRef:\n            repository: shared\n            targetRevision: main\n            path: /base\n";

/// Gates and tills take `content` from elsewhere, which somebody approved.
fn take(there: &Installation, content: &str) -> String {
    let inline = "inline:\n            - path: /etc/role\n              content: x\n";
    for name in ["gates", "tills"] {
        let manifest = fleet(name, "x");
        assert!(manifest.contains(inline), "{manifest}");
        there.repo.write(&format!("fleets/{name}.yaml"), manifest.replace(inline, content));
    }
    let commit = there.repo.commit("both fleets take the same content");
    let source = wait_held(there, &commit);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    there.wait_applied(&commit);
    eventually("the devices to get it", || (versions(there, 2) == "24").then_some(()));
    commit
}

fn versions(there: &Installation, version: u32) -> String {
    there.sql(&format!("select count(*) from devices where rendered_version = {version}"))
}

fn shared() -> GitRepo {
    let shared = GitRepo::init();
    shared.write("base/etc/shared.conf", "one\n");
    shared.commit("one");
    shared
}

fn start_on(shared: &GitRepo) -> (Installation, String) {
    let there = start_with(&[("repositories.yaml", &repository("shared", &shared.url()))]);
    let commit = take(&there, GIT);
    (there, commit)
}

/// Drops desired state, and the mirrors when `mirrors`.
fn drop_desired_state(there: &mut Installation, mirrors: bool) {
    there.stop_service();
    there.sql("drop schema desired cascade");
    if mirrors {
        // A worker that was told to end may still be writing.
        eventually("the mirrors to be gone", || {
            std::fs::remove_dir_all(there.data_dir().join("mirrors")).ok();
            (!there.data_dir().join("mirrors").exists()).then_some(())
        });
    }
    there.start_service();
}

/// The devices were looked at since desired state is back.
fn settled(there: &Installation) {
    eventually("the devices to be looked at", || (owned(there) == "gates 12,tills 12").then_some(()));
}

#[test]
fn a_held_move_of_another_repository_stays_held_and_what_was_in_force_comes_back() {
    let shared = shared();
    let (mut there, commit) = start_on(&shared);
    let before = devices(&there);
    let pinned = there.sql("select owner, revision, inputs from source_pins order by owner");
    assert_eq!(pinned.lines().count(), 2, "{pinned}");
    shared.write("base/etc/shared.conf", "two\n");
    shared.commit("two");
    let held = wait_held(&there, &commit)["status"]["held"].clone();
    drop_desired_state(&mut there, false);
    there.wait_applied(&commit);
    let source = wait_held(&there, &commit);
    assert_eq!(source["status"]["held"], held);
    settled(&there);
    assert_eq!((devices(&there), events(&there, "HoldStarted")), (before, 2), "nobody is asked twice");
    assert_eq!(there.sql("select count(*) from desired.fleets where revision is not null and problem is null"), "3");
    assert_eq!(there.sql("select owner, revision, inputs from source_pins order by owner"), pinned);
    // The source is not frozen: a device that is new gets what all others have.
    enroll(&there, "device00000000000024", "gates");
    eventually("the new device to have what the others have", || {
        let sql = "select count(distinct rendered_digest), count(*) from devices where owner_fleet = 'gates' and rendered_digest is not null";
        (there.sql(sql) == "1|13").then_some(())
    });
    // The plan is about it, too.
    there.fleetctl(&["sync", "main"]);
    let plan = eventually("the plan with the new device", || {
        let plan = digest(&there.object("sources", "main")?);
        (plan != digest(&source)).then_some(plan)
    });
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &plan]);
    eventually("the devices to get what was approved", || (versions(&there, 3) == "24").then_some(()));
    assert_ne!(there.sql("select owner, revision, inputs from source_pins order by owner"), pinned);
}

#[test]
fn a_newer_commit_that_waits_brings_nothing_back_but_what_was_in_force() {
    let shared = shared();
    let (mut there, first) = start_on(&shared);
    let before = devices(&there);
    shared.write("base/etc/shared.conf", "two\n");
    shared.commit("two");
    wait_held(&there, &first);
    there.repo.write("README.md", "newer\n");
    let newer = there.repo.commit("newer");
    let held = wait_held(&there, &newer)["status"]["held"].clone();
    // Without a mirror the commit that was in force is asked for by its id.
    drop_desired_state(&mut there, true);
    there.wait_applied(&first);
    let source = wait_held(&there, &newer);
    assert_eq!((&source["status"]["held"], &source["status"]["appliedCommit"]), (&held, &first.as_str().into()));
    settled(&there);
    assert_eq!(devices(&there), before);
    assert_eq!(there.sql("select count(*) from desired.fleets where problem is not null"), "0");
    // The other repository goes back: there is nothing left to ask.
    shared.write("base/etc/shared.conf", "one\n");
    shared.commit("as before");
    // A commit that waits is judged again once a minute.
    eventually_after(Duration::from_secs(60), "the newer commit to be applied", || {
        (there.object("sources", "main")?["status"]["appliedCommit"] == newer.as_str()).then_some(())
    });
    assert_eq!(devices(&there), before);
}

#[test]
fn what_was_in_force_and_is_nowhere_any_more_is_judged_against_what_devices_have() {
    let shared = shared();
    let (mut there, commit) = start_on(&shared);
    let before = devices(&there);
    let gone = shared.head();
    shared.write("base/etc/shared.conf", "rewritten\n");
    shared.git(&["add", "--all"]);
    shared.git(&["commit", "--quiet", "--amend", "--message", "another history"]);
    shared.git(&["reflog", "expire", "--expire=now", "--all"]);
    shared.git(&["gc", "--quiet", "--prune=now"]);
    drop_desired_state(&mut there, true);
    let source = wait_held(&there, &commit);
    let sentence = source["status"]["held"]["sentences"][0].as_str().unwrap();
    assert!(sentence.contains("24 of 24 devices"), "{sentence}");
    settled(&there);
    assert_eq!(devices(&there), before, "they keep what they have");
    let problems = there.sql("select distinct problem from desired.fleets where problem is not null");
    assert!(problems.contains(&format!("Repository shared at commit {gone}, which was in force: ")), "{problems}");
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    eventually("the devices to get it", || (versions(&there, 3) == "24").then_some(()));
    assert_eq!(there.sql("select count(*) from desired.fleets where problem is not null"), "0");
}

#[test]
fn contents_of_a_web_server_that_are_others_by_now_are_judged_against_what_devices_have() {
    let server = FileServer::start("").unwrap();
    let dir = tempfile::tempdir().unwrap();
    server.write("all.conf", "one\n").unwrap();
    let manifest = web_repository(server.https_url("").trim_end_matches('/'));
    let settings = web_settings(&server, &dir);
    let mut there = start_with_settings(&[("repositories.yaml", &manifest)], &settings);
    let web =
        "httpRef:\n            repository: web\n            suffix: /all.conf\n            filePath: /etc/web.conf\n";
    let commit = take(&there, web);
    let before = devices(&there);
    // The same contents come back as they were.
    drop_desired_state(&mut there, false);
    there.wait_applied(&commit);
    settled(&there);
    assert_eq!(there.sql("select count(*) from desired.fleets where revision is not null and problem is null"), "3");
    assert_eq!(devices(&there), before);
    there.stop_service();
    server.write("all.conf", "two\n").unwrap();
    there.sql("drop schema desired cascade");
    there.start_service();
    let source = wait_held(&there, &commit);
    settled(&there);
    assert_eq!(devices(&there), before);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    eventually("the devices to get it", || (versions(&there, 3) == "24").then_some(()));
}

#[test]
fn what_left_git_does_not_hide_what_was_in_force() {
    let settings = "{pollInterval: 1s, allowLocalRepositories: true}";
    let mut there = start_with_settings(&[("fleets/spare.yaml", &fleet("spare", "x"))], settings);
    there.repo.remove("fleets/spare.yaml");
    let last = there.repo.commit("no spare");
    there.wait_applied(&last);
    let before = devices(&there);
    assert_eq!(there.sql("select name from tombstones"), "spare");
    // What came meanwhile is not the first commit of a source: it is judged by what was in force.
    there.stop_service();
    there.sql("drop schema desired cascade");
    let newer = remove_two(&there);
    there.start_service();
    let source = wait_held(&there, &newer);
    assert_eq!(source["status"]["appliedCommit"], last.as_str());
    settled(&there);
    assert_eq!((devices(&there), there.sql("select name from tombstones")), (before, "spare".to_owned()));
}

fn team(name: &str, repo: &GitRepo) -> String {
    format!(
        "{}---\napiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata: {{name: {name}}}\n\
         spec: {{repository: {name}, targetRevision: main, path: /}}\n",
        repository(name, &repo.url())
    )
}

fn applied(there: &Installation, source: &str, commit: &str) {
    eventually(&format!("commit {commit} of {source} to be applied"), || {
        (there.object("sources", source)?["status"]["appliedCommit"] == commit).then_some(())
    });
}

#[test]
fn nobody_takes_what_a_source_defines_whose_host_is_away_while_desired_state_is_made_again() {
    let (early, late) = (GitRepo::init(), GitRepo::init());
    early.write("doors.yaml", fleet("doors", "one")).commit("doors");
    late.write("lamps.yaml", fleet("lamps", "one"))
        .write("bells.yaml", fleet("bells", "one"))
        .commit("lamps and bells");
    let (one, two) = (team("early", &early), team("late", &late));
    let mut there = start_with(&[("early.yaml", &one), ("late.yaml", &two)]);
    applied(&there, "early", &early.head());
    applied(&there, "late", &late.head());
    enroll(&there, "device00000000000lamp1", "lamps");
    let lamp =
        "select owner_fleet, rendered_version, encode(rendered_digest, 'hex') from devices where name like '%lamp1'";
    eventually("the lamp's document", || there.sql(lamp).starts_with("lamps|1|").then_some(()));
    let before = (devices(&there), there.sql(lamp));
    // While nothing is back, the one that is back first wants what the other has.
    there.stop_service();
    there.sql("drop schema desired cascade");
    let (here, away): (PathBuf, PathBuf) = (late.path().to_owned(), late.path().with_extension("away"));
    std::fs::rename(&here, &away).unwrap();
    let first = early.head();
    early.write("lamps.yaml", fleet("lamps", "stolen"));
    let theft = early.commit("lamps are ours");
    there.start_service();
    applied(&there, "early", &first);
    let message = eventually("the conflict", || {
        let source = there.object("sources", "early")?;
        let (ready, conditions) = (condition(&source, "Ready"), source["status"].to_string());
        (ready.1 == "OwnershipConflict" && source["status"]["observedCommit"] == theft.as_str()).then_some(conditions)
    });
    assert!(message.contains("Fleet lamps is defined by source late, which is not back yet"), "{message}");
    // What nobody else has is applied meanwhile.
    early.remove("lamps.yaml").write("gongs.yaml", fleet("gongs", "one"));
    applied(&there, "early", &early.commit("gongs"));
    assert_eq!((devices(&there), there.sql(lamp)), before);
    // The other is back, and has what it had.
    early.write("lamps.yaml", fleet("lamps", "stolen"));
    early.commit("lamps are ours, again");
    std::fs::rename(&away, &here).unwrap();
    // By itself it is asked the later the longer it was away.
    there.fleetctl_ok(&["sync", "late"]);
    applied(&there, "late", &late.head());
    eventually("all devices to be looked at", || {
        (there.sql("select count(*) from devices where dirty") == "0").then_some(())
    });
    assert_eq!(there.sql("select source from desired.fleets where name = 'lamps'"), "late");
    assert_eq!((devices(&there), there.sql(lamp)), before);
    // A move goes as ever: one gives it up, the other takes it.
    late.remove("lamps.yaml").commit("theirs now");
    applied(&there, "early", &early.head());
    assert_eq!(there.sql("select source from desired.fleets where name = 'lamps'"), "early");
    assert_eq!(there.sql("select source from object_owners where name = 'lamps'"), "early");
}
