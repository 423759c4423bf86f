//! What holds and suspensions outlive, rewritten histories, and sources that go on beside one that waits.

use fleet_test::GitRepo;
use serde_json::Value;

use crate::harness::{Installation, eventually};
use crate::holds::{
    POLICY, condition, devices, digest, events, fleet, owned, remove_two, start, start_with, told, wait_held,
};

#[test]
fn a_hold_outlives_the_service_and_desired_state() {
    let mut there = start();
    let first = there.repo.head();
    let before = devices(&there);
    let commit = remove_two(&there);
    let held = wait_held(&there, &commit)["status"]["held"].clone();
    there.kill_service();
    there.start_service();
    there.fleetctl(&["sync", "main", "--wait"]);
    assert_eq!(wait_held(&there, &commit)["status"]["held"], held);
    // Nobody is asked twice, and the way back is to what was in force, not to the commit that waits.
    there.stop_service();
    there.sql("drop schema desired cascade");
    there.start_service();
    there.wait_applied(&first);
    let source = wait_held(&there, &commit);
    assert_eq!((&source["status"]["held"], &source["status"]["appliedCommit"]), (&held, &first.as_str().into()));
    eventually("the devices to be looked at", || (owned(&there) == "gates 12,tills 12").then_some(()));
    assert_eq!((devices(&there), events(&there, "HoldStarted")), (before, 1));
    // An approval that was given counts after both.
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "a test"]);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    there.kill_service();
    there.wait_disconnected();
    there.sql("drop schema desired cascade");
    there.start_service();
    there.wait_applied(&first);
    eventually("the suspension to be told", || {
        (condition(&there.object("sources", "main")?, "Suspended").0 == "True").then_some(())
    });
    there.fleetctl_ok(&["source", "resume", "main"]);
    there.wait_applied(&commit);
    assert_eq!(owned(&there), "");
}

/// Another commit on top of `first`, in one push; what came after that is lost.
pub(crate) fn rewrite(repo: &GitRepo, first: &str) -> String {
    repo.at_once(|repo| {
        repo.force(first).write("README.md", "rewritten\n");
        repo.commit("another history")
    })
}

#[test]
fn a_rewritten_history_waits_and_names_what_would_be_lost() {
    let there = start();
    let first = there.repo.head();
    there.repo.write("README.md", "one\n");
    there.repo.commit("the lost one");
    there.repo.write("README.md", "two\n");
    let applied = there.repo.commit("the other lost one");
    there.wait_applied(&applied);
    let rewritten = rewrite(&there.repo, &first);
    let source = wait_held(&there, &rewritten);
    assert_eq!(condition(&source, "Held").1, "NonFastForward");
    assert_eq!(events(&there, "HoldStarted"), 1);
    let sentences = source["status"]["held"]["sentences"].as_array().unwrap();
    assert_eq!(sentences.len(), 3, "{sentences:?}");
    assert!(sentences[1].as_str().unwrap().ends_with("the other lost one"), "{sentences:?}");
    assert!(sentences[2].as_str().unwrap().ends_with(" the lost one"), "{sentences:?}");
    assert_eq!(source["status"]["appliedCommit"], applied.as_str());
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    there.wait_applied(&rewritten);
}

#[test]
fn a_policy_may_follow_rewritten_histories() {
    let there = start_with(&[("policies/guard.yaml", &format!("{POLICY}  forcedPush: Follow\n"))]);
    let first = there.repo.head();
    there.repo.write("README.md", "one\n");
    let applied = there.repo.commit("lost");
    there.wait_applied(&applied);
    let rewritten = rewrite(&there.repo, &first);
    there.wait_applied(&rewritten);
    assert_eq!((events(&there, "NonFastForward"), events(&there, "HoldStarted")), (1, 0));
    // The limits count all the same.
    let commit = there.repo.at_once(|repo| {
        repo.force(&first);
        remove_two(&there)
    });
    assert_eq!(condition(&wait_held(&there, &commit), "Held").1, "BlastRadius");
}

/// Waits until the source tells of its suspension, and returns it.
fn wait_suspended(there: &Installation, observed: &str) -> Value {
    eventually("the source to be suspended", || {
        let source = there.object("sources", "main")?;
        let is = condition(&source, "Suspended").0 == "True" && source["status"]["observedCommit"] == observed;
        is.then_some(source)
    })
}

#[test]
fn a_suspended_source_observes_and_goes_on_when_it_is_resumed_or_the_time_is_over() {
    let there = start();
    let first = there.repo.head();
    assert_eq!(there.fleetctl_as("operator", &["source", "suspend", "main", "--reason", "x"]).status.code(), Some(2));
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "stocktaking"]);
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "stocktaking"]);
    assert_eq!(events(&there, "SourceSuspended"), 1, "sent again, it is no news");
    there.repo.write("README.md", "one\n");
    let second = there.repo.commit("second");
    let source = wait_suspended(&there, &second);
    assert_eq!(source["status"]["appliedCommit"], first.as_str());
    let suspended = &source["status"]["suspended"];
    assert_eq!((&suspended["reason"], &suspended["by"]), (&"stocktaking".into(), &"user:tester".into()));
    let (code, out) = told(&there.fleetctl(&["sync", "main", "--wait"]));
    assert!(code == Some(1) && out.contains("stocktaking") && out.contains("fleetctl source resume main"), "{out}");
    assert!(there.fleetctl_ok(&["get", "sources"]).contains("Suspended"));
    there.fleetctl_ok(&["source", "resume", "main"]);
    there.wait_applied(&second);
    let source = there.object("sources", "main").unwrap();
    assert_eq!((condition(&source, "Suspended").0.as_str(), condition(&source, "Ready").0.as_str()), ("False", "True"));
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "lunch", "--for", "1h"]);
    there.repo.write("README.md", "two\n");
    let third = there.repo.commit("third");
    let source = wait_suspended(&there, &third);
    assert_eq!(source["status"]["appliedCommit"], second.as_str());
    // The end may be changed; nothing but its time resumes the source then.
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "lunch", "--for", "5s"]);
    there.wait_applied(&third);
    assert_eq!((events(&there, "SourceSuspensionExpired"), events(&there, "SourceResumed")), (1, 1));
    assert_eq!(there.object("sources", "main").unwrap()["status"]["suspended"], Value::Null);
}

#[test]
fn a_suspended_source_is_not_behind_when_its_branch_goes_back() {
    let mut there = start();
    let first = there.repo.head();
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "stocktaking"]);
    let behind = |commits: i64| {
        eventually(&format!("the source to be {commits} commits behind"), || {
            let source = there.object("sources", "main")?;
            (source["status"]["behindBy"] == commits).then_some(())
        });
    };
    there.repo.write("README.md", "one\n");
    there.repo.commit("second");
    there.repo.write("README.md", "two\n");
    let third = there.repo.commit("third");
    behind(2);
    there.repo.force(&first);
    behind(0);
    there.repo.force(&third);
    behind(2);
    // Another process knows nothing of what was noted.
    there.stop_service();
    there.repo.force(&first);
    there.start_service();
    eventually("the source not to be behind", || {
        (there.object("sources", "main")?["status"]["behindBy"] == 0).then_some(())
    });
}

fn repository(name: &str, url: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: {name}\nspec:\n  type: git\n  url: {url}\n"
    )
}

#[test]
fn other_sources_go_on_beside_one_that_waits() {
    let other = GitRepo::init();
    let doors = |content: &str| {
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: doors\nspec:\n  selector:\n    matchLabels:\n      \
             role: door\n  template:\n    spec:\n      config:\n        - name: a\n          inline:\n            \
             - path: /etc/door\n              content: {content}\n"
        )
    };
    other.write("doors.yaml", doors("one"));
    let older = other.commit("one");
    let brings_in = format!(
        "{}---\n\
         apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: other\nspec:\n  repository: other\n  \
         targetRevision: main\n  path: /\n",
        repository("other", &other.url())
    );
    let there = start_with(&[("repositories.yaml", &brings_in)]);
    let applied = |what: &str, commit: &str| {
        eventually(what, || (there.object("sources", "other")?["status"]["appliedCommit"] == commit).then_some(()));
    };
    applied("the other source to be there", &older);
    let commit = remove_two(&there);
    wait_held(&there, &commit);
    other.write("doors.yaml", doors("two"));
    let newer = other.commit("two");
    applied("the other source to go on", &newer);
    assert_eq!(there.sql("select count(*) from desired.commits where source = 'other'").trim(), "2");
    assert_eq!(condition(&there.object("sources", "main").unwrap(), "Held").0, "True");
    // A ResourceSync takes a whole source along: its fleets count, too.
    there.repo.write("fleets/tills.yaml", fleet("tills", "till")).write("fleets/gates.yaml", fleet("gates", "gate"));
    there.wait_applied(&there.repo.commit("gates and tills are back"));
    there.repo.remove("repositories.yaml").remove("fleets/tills.yaml");
    let commit = there.repo.commit("tills and the other source are gone");
    let source = wait_held(&there, &commit);
    let sentences = &source["status"]["held"]["sentences"];
    assert_eq!(sentences[0], "removes 2 of 4 fleets; removedFleets allows 1", "{sentences}");
    assert_eq!(sentences[1], "gives up source other with 1 fleet and 0 devices", "{sentences}");
    assert!(there.object("sources", "other").is_some());
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    there.wait_applied(&commit);
    assert!(there.is_gone("sources", "other"));
}

#[test]
fn a_rewritten_history_waits_also_when_the_source_moves_to_another_path() {
    let other = GitRepo::init();
    let doors = fleet("doors", "one");
    other.write("here/doors.yaml", doors.as_str()).write("there/doors.yaml", doors.as_str());
    let first = other.commit("one");
    other.write("README.md", "one");
    let applied = other.commit("the lost one");
    let brings_in = |path: &str| {
        format!(
            "{}---\n\
             apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: other\nspec:\n  repository: other\n  \
             targetRevision: main\n  path: {path}\n",
            repository("other", &other.url())
        )
    };
    let there = start_with(&[("repositories.yaml", &brings_in("/here"))]);
    let status = |pointer: &str| Some(there.object("sources", "other")?["status"][pointer].as_str()?.to_owned());
    eventually("the other source", || status("appliedCommit").filter(|commit| *commit == applied));
    // Both at once, as far as the service can tell.
    there.fleetctl_ok(&["source", "suspend", "other", "--reason", "a test"]);
    let rewritten = rewrite(&other, &first);
    there.repo.write("repositories.yaml", brings_in("/there"));
    there.wait_applied(&there.repo.commit("the other source moves"));
    there.fleetctl_ok(&["source", "resume", "other"]);
    let held = eventually("the rewritten history to wait", || {
        let source = there.object("sources", "other")?;
        (source["status"]["held"]["commit"] == rewritten.as_str()).then_some(source)
    });
    assert_eq!(condition(&held, "Held"), ("True".to_owned(), "NonFastForward".to_owned()));
    let sentences = held["status"]["held"]["sentences"].as_array().unwrap();
    assert!(sentences[1].as_str().unwrap().ends_with("the lost one"), "{sentences:?}");
    there.fleetctl_ok(&["source", "approve", "other", "--plan", &digest(&held)]);
    eventually("what was approved", || status("appliedCommit").filter(|commit| *commit == rewritten));
    assert_eq!(
        there.sql("select distinct file from desired.manifests where source = 'other'").trim(),
        "there/doors.yaml"
    );
}

#[test]
fn content_of_another_repository_that_reaches_too_far_waits_like_a_commit() {
    let shared = GitRepo::init();
    shared.write("base/etc/shared.conf", "one\n");
    shared.commit("one");
    let there = start_with(&[("repositories.yaml", &repository("shared", &shared.url()))]);
    for name in ["gates", "tills"] {
        let inline = "inline:\n            - path: /etc/role\n              content: x\n";
        let taken =
            "gitRef:\n            repository: shared\n            targetRevision: main\n            path: /base\n";
        let manifest = fleet(name, "x");
        assert!(manifest.contains(inline), "{manifest}");
        there.repo.write(&format!("fleets/{name}.yaml"), manifest.replace(inline, taken));
    }
    let commit = there.repo.commit("both fleets take the same content");
    let source = wait_held(&there, &commit);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    there.wait_applied(&commit);
    let before = devices(&there);
    shared.write("base/etc/shared.conf", "two\n");
    shared.commit("two");
    // The commit in force waits with what it would take now.
    let source = wait_held(&there, &commit);
    let sentence = source["status"]["held"]["sentences"][0].as_str().unwrap();
    assert!(sentence.contains("24 of 24 devices"), "{sentence}");
    assert_eq!(told(&there.fleetctl(&["sync", "main", "--wait"])).0, Some(1));
    assert_eq!(devices(&there), before);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source)]);
    eventually("the devices to get it", || {
        let count = there.sql("select count(*) from devices where rendered_version = 3");
        (count.trim() == "24").then_some(())
    });
    eventually("the hold to end", || (condition(&there.object("sources", "main")?, "Held").0 == "False").then_some(()));
}
