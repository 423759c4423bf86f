//! The four commits of a source, how far it is behind, its state in a word, and what tells of it.

use serde_json::Value;

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};
use crate::holds::{condition, devices, events, fleet, start_with, wait_held};

fn wait_state(there: &Installation, state: &str, commit: &str) -> Value {
    eventually(&format!("the source to be {state} at {commit}"), || {
        let source = there.object("sources", "main")?;
        (source["status"]["state"] == state && source["status"]["observedCommit"] == commit).then_some(source)
    })
}

#[test]
fn a_commit_is_settled_when_its_devices_are_healthy_on_it_and_not_before() {
    let mut there = Installation::start(FILES);
    let mut kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    let first = there.repo.head();
    // Before there was a device it was settled, too; settled commits are counted again now and then.
    let source = eventually("the device to be counted", || {
        let source = wait_state(&there, "Settled", &first);
        (source["status"]["devices"]["updated"] == 1).then_some(source)
    });
    let status = &source["status"];
    for commit in ["observedCommit", "appliedCommit", "settledCommit"] {
        assert_eq!(status[commit], first.as_str(), "{commit}");
    }
    assert_eq!((&status["behindBy"], &status["devices"]["total"]), (&0.into(), &1.into()));
    assert_eq!(condition(&source, "Reconciling"), ("False".to_owned(), "Settled".to_owned()));
    assert_eq!(condition(&source, "Stalled").0, "False");

    kiosk.stop();
    there.repo.write("config/kiosk/etc/motd", "second\n");
    let second = there.repo.commit("second");
    there.wait_applied(&second);
    let source = wait_state(&there, "RollingOut", &second);
    assert_eq!(source["status"]["settledCommit"], first.as_str(), "the device is away");
    assert_eq!(condition(&source, "Reconciling"), ("True".to_owned(), "RollingOut".to_owned()));
    // What is settled is known again after a restart.
    there.stop_service();
    there.start_service();
    assert_eq!(wait_state(&there, "RollingOut", &second)["status"]["settledCommit"], first.as_str());

    kiosk.start();
    kiosk.wait_file("/etc/motd", "second\n");
    let source = wait_state(&there, "Settled", &second);
    assert_eq!(source["status"]["devices"], serde_json::json!({"total": 1, "updated": 1, "failed": 0}));
    let told = there.fleetctl_ok(&["get", "sources"]);
    assert!(told.contains("Settled") && told.contains(&second[..7]), "{told}");
    let told = there.fleetctl_ok(&["describe", "source", "main"]);
    assert!(told.contains("settledCommit") && told.contains("SourceSettled"), "{told}");
    // One after the other: they are not of one moment.
    for gauge in
        ["source_state{source=\"main\",state=\"settled\"} 1", "source_devices{source=\"main\",state=\"updated\"} 1"]
    {
        eventually(gauge, || there.http_get("/metrics")?.contains(gauge).then_some(()));
    }
}

#[test]
fn a_source_says_by_how_many_commits_it_is_behind_and_why() {
    let there = start_with(&[]);
    let first = there.repo.head();
    // Held: three commits that nobody let through. One of them alone would be within the limits.
    let third = there.repo.at_once(|repo| {
        for (file, n) in [("fleets/gates.yaml", 1), ("fleets/tills.yaml", 2)] {
            repo.remove(file).commit(&format!("gone {n}"));
        }
        repo.write("README.md", "three").commit("third")
    });
    wait_held(&there, &third);
    let source = eventually("the distance to be known", || {
        let source = there.object("sources", "main")?;
        (source["status"]["behindBy"] == 3).then_some(source)
    });
    assert_eq!(
        (&source["status"]["state"], &source["status"]["appliedCommit"]),
        (&"Held".into(), &first.as_str().into())
    );
    assert_eq!(condition(&source, "Stalled"), ("True".to_owned(), "BlastRadius".to_owned()));

    // Refused: one more.
    let before = devices(&there);
    there.repo.write("fleets/gates.yaml", fleet("gates", "gate").replace("kind: Fleet", "kind: Fleeet"));
    let bad = there.repo.commit("a typo");
    let source = there.wait_refused(&bad);
    assert_eq!(condition(&source, "Parsed").1, "UnknownKind");
    let source = wait_state(&there, "Refused", &bad);
    assert_eq!(condition(&source, "Stalled").0, "True");
    eventually("the distance to grow", || (there.object("sources", "main")?["status"]["behindBy"] == 4).then_some(()));
    assert_eq!(devices(&there), before);

    // Back: nothing is behind.
    there.repo.write("fleets/gates.yaml", fleet("gates", "gate")).write("fleets/tills.yaml", fleet("tills", "till"));
    let back = there.repo.commit("back");
    there.wait_applied(&back);
    assert_eq!(there.object("sources", "main").unwrap()["status"]["behindBy"], 0);

    // Suspended: looked at and counted, not applied.
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "freeze"]);
    there.repo.write("README.md", "five");
    let fifth = there.repo.commit("fifth");
    let source = wait_state(&there, "Suspended", &fifth);
    assert_eq!(source["status"]["appliedCommit"], back.as_str());
    eventually("the distance to be counted", || {
        (there.object("sources", "main")?["status"]["behindBy"] == 1).then_some(())
    });
}

#[test]
fn a_host_that_goes_away_and_comes_back_is_told_once_each() {
    let there = Installation::start_with(
        FILES,
        Database::Own(fleet_test::TestDatabase::create()),
        "{pollInterval: 1s, allowLocalRepositories: true}",
    );
    let commit = there.repo.head();
    there.wait_applied(&commit);
    let (place, away) = (there.repo.path().to_owned(), there.repo.path().with_extension("away"));
    std::fs::rename(&place, &away).unwrap();
    let source = eventually("the host to be missed", || {
        let source = there.object("sources", "main")?;
        (condition(&source, "SourceReachable").0 == "False").then_some(source)
    });
    assert_eq!(
        (&source["status"]["appliedCommit"], condition(&source, "Ready").0.as_str()),
        (&commit.as_str().into(), "True")
    );
    // Each try has its own words: while it was on its way out they were others than they are now.
    eventually("people to be told what the last try said", || {
        let said = condition_message(&there.object("sources", "main")?, "SourceReachable");
        there.fleetctl_ok(&["get", "sources"]).contains(&said).then_some(())
    });
    std::fs::rename(&away, &place).unwrap();
    eventually("the host to be back", || {
        let source = there.object("sources", "main")?;
        (condition(&source, "SourceReachable").0 == "True").then_some(())
    });
    eventually("that to be told", || (events(&there, "Reachable") == 1).then_some(()));
    let warnings = there.sql("select count(*) from events where kind = 'Source' and type = 'Warning'");
    assert_eq!(warnings.trim(), "1", "one event, however often it was tried");
}

fn condition_message(source: &Value, kind: &str) -> String {
    let all = source["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == kind).unwrap();
    found["message"].as_str().unwrap().to_owned()
}
