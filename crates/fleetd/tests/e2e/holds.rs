//! Commits that wait for a person: what is held, what an approval lets through, and what ends a hold.

use std::process::Output;

use serde_json::Value;

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};

/// A fleet without files of its own: its devices are rows only.
pub(crate) fn fleet(name: &str, content: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector:\n    matchLabels:\n      \
         role: {name}\n  template:\n    spec:\n      config:\n        - name: inline\n          inline:\n            \
         - path: /etc/role\n              content: {content}\n"
    )
}

pub(crate) const POLICY: &str = "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: guard\nspec:\n";

/// Three fleets; 24 devices that nobody plays, half of them gates and half tills.
pub(crate) fn start() -> Installation {
    start_with(&[])
}

pub(crate) fn start_with(more: &[(&str, &str)]) -> Installation {
    let (gates, tills) = (fleet("gates", "gate"), fleet("tills", "till"));
    let mut files = FILES.to_vec();
    files.extend([("fleets/gates.yaml", gates.as_str()), ("fleets/tills.yaml", tills.as_str())]);
    files.extend(more);
    // What is let through is to be seen at once.
    let settings = "{deletionGracePeriod: 0s, pollInterval: 1s, allowLocalRepositories: true}";
    let there = Installation::start_with(&files, Database::Own(fleet_test::TestDatabase::create()), settings);
    there.wait_applied(&there.repo.head());
    for n in 0..24 {
        enroll(&there, &format!("device000000000000{n:02}"), if n % 2 == 0 { "gates" } else { "tills" });
    }
    eventually("the devices to get their documents", || (owned(&there) == "gates 12,tills 12").then_some(()));
    there
}

/// A device as it is after enrolment, without an agent.
pub(crate) fn enroll(there: &Installation, name: &str, role: &str) {
    there.sql(&format!(
        "insert into devices (org_id, name, enrolled_labels, labels, change_seq) values
         ('00000000-0000-0000-0000-000000000000', '{name}', '{{\"role\":\"{role}\"}}', '{{\"role\":\"{role}\"}}',
          nextval('device_change_seq'))"
    ));
}

/// How many devices each fleet has whose documents were rendered.
pub(crate) fn owned(there: &Installation) -> String {
    there
        .sql(
            "select string_agg(owner_fleet || ' ' || n, ',' order by owner_fleet) from (
               select owner_fleet, count(*) as n from devices
               where owner_fleet in ('gates', 'tills') and rendered_digest is not null and not dirty
               group by owner_fleet) as fleets",
        )
        .trim()
        .to_owned()
}

/// Everything that devices notice.
pub(crate) fn devices(there: &Installation) -> String {
    there.sql("select name, owner_fleet, rendered_version, encode(rendered_digest, 'hex') from devices order by name")
}

/// Removes two of the three fleets.
pub(crate) fn remove_two(there: &Installation) -> String {
    there.repo.remove("fleets/gates.yaml").remove("fleets/tills.yaml");
    there.repo.commit("gates and tills are gone")
}

pub(crate) fn condition(source: &Value, kind: &str) -> (String, String) {
    let all = source["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == kind);
    let text = |key: &str| found.and_then(|found| found[key].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// Waits until a commit is held, and returns the source.
pub(crate) fn wait_held(there: &Installation, commit: &str) -> Value {
    eventually(&format!("commit {commit} to be held"), || {
        let source = there.object("sources", "main")?;
        (source["status"]["held"]["commit"] == commit && condition(&source, "Held").0 == "True").then_some(source)
    })
}

pub(crate) fn digest(source: &Value) -> String {
    source["status"]["held"]["digest"].as_str().unwrap().to_owned()
}

pub(crate) fn events(there: &Installation, reason: &str) -> usize {
    there.sql(&format!("select count(*) from events where reason = '{reason}'")).trim().parse().unwrap()
}

pub(crate) fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_commit_that_reaches_too_far_waits_for_its_approval_and_no_device_notices() {
    let there = start();
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    let first = there.repo.head();
    let before = devices(&there);
    // The commit loosens the limit that it needs: that is of no use to itself.
    there.repo.write("policies/guard.yaml", format!("{POLICY}  limits:\n    removedFleets:\n      count: 5\n"));
    there.repo.write("config/kiosk/etc/motd", "second\n");
    let commit = remove_two(&there);
    let source = wait_held(&there, &commit);
    let status = &source["status"];
    assert_eq!(
        (&status["observedCommit"], &status["appliedCommit"]),
        (&commit.as_str().into(), &first.as_str().into())
    );
    assert_eq!(condition(&source, "Held"), ("True".to_owned(), "BlastRadius".to_owned()));
    assert_eq!(condition(&source, "Ready"), ("False".to_owned(), "BlastRadius".to_owned()));
    assert_eq!(status["held"]["sentences"][0], "removes 2 of 3 fleets; removedFleets allows 1", "{source:#}");
    assert_eq!(events(&there, "HoldStarted"), 1);
    let digest = digest(&source);
    let (code, out) = told(&there.fleetctl(&["sync", "main", "--wait"]));
    let how = format!("fleetctl source approve main --plan {}", &digest["sha256:".len()..][..12]);
    assert!(code == Some(1) && out.contains(&how), "{code:?} {out}");
    let described = there.fleetctl_ok(&["describe", "source", "main"]);
    assert!(described.contains(&digest) && described.contains("removes 2 of 3 fleets"), "{described}");
    assert!(there.fleetctl_ok(&["get", "sources"]).contains("Held"));
    let plan: Value =
        serde_json::from_str(&there.fleetctl_ok(&["get", "plan", &commit, "--source", "main", "-o", "json"])).unwrap();
    assert_eq!((&plan["status"]["held"], &plan["status"]["digest"]), (&true.into(), &digest.as_str().into()));
    // Nobody approves by accident, and not everybody may.
    let (code, out) = told(&there.fleetctl(&["source", "approve", "main"]));
    assert!(code == Some(1) && out.contains(&digest), "{code:?} {out}");
    let (code, out) = told(&there.fleetctl(&["source", "approve", "main", "--plan", "0123456789ab"]));
    assert!(code == Some(1) && out.contains(&digest), "{code:?} {out}");
    assert_eq!(there.fleetctl_as("operator", &["source", "approve", "main", "--plan", &digest]).status.code(), Some(2));
    assert_eq!(devices(&there), before);
    assert_eq!(kiosk.file("/etc/motd").as_deref(), Some("first\n"));
    assert_eq!(events(&there, "HoldApproved"), 0);

    there.fleetctl_ok(&["source", "approve", "main", "--plan", &how[how.len() - 12..], "--reason", "the shops close"]);
    there.wait_applied(&commit);
    kiosk.wait_file("/etc/motd", "second\n");
    let source = there.object("sources", "main").unwrap();
    assert_eq!(condition(&source, "Held").0, "False");
    assert_eq!((condition(&source, "Ready").0.as_str(), &source["status"]["held"]), ("True", &Value::Null));
    assert_eq!(source["status"]["plan"]["digest"], digest.as_str(), "what was approved is what was applied");
    assert_eq!(owned(&there), "");
    let told_by = there.sql("select actor || ' ' || message from events where reason = 'HoldApproved'");
    assert!(told_by.starts_with("user:tester ") && told_by.contains("the shops close"), "{told_by}");
    assert!(
        there.sql("select message from events where reason = 'ResourceSyncSynced'").contains("approved by user:tester")
    );
    // Sent again: it is applied already.
    let (code, out) = told(&there.fleetctl(&["source", "approve", "main", "--plan", &digest]));
    assert!(code == Some(0) && out.contains("applied already"), "{code:?} {out}");
}

#[test]
fn an_approval_does_not_hold_for_another_plan_of_the_same_commit() {
    let there = start();
    let first = there.repo.head();
    let commit = remove_two(&there);
    let approved = digest(&wait_held(&there, &commit));
    // While nothing is applied, the plan is approved, and then it becomes another one.
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "a test"]);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &approved]);
    enroll(&there, "device00000000000099", "gates");
    eventually("the device to get its document", || (owned(&there) == "gates 13,tills 12").then_some(()));
    there.fleetctl_ok(&["source", "resume", "main"]);
    let source = eventually("the approval to be found outdated", || {
        let source = there.object("sources", "main")?;
        (condition(&source, "Held").1 == "PlanStale").then_some(source)
    });
    let newer = digest(&source);
    assert_ne!(newer, approved);
    assert_eq!((&source["status"]["appliedCommit"], events(&there, "PlanStale")), (&first.as_str().into(), 1));
    assert_eq!(source["status"]["held"]["decision"], Value::Null, "{source:#}");
    assert_eq!(told(&there.fleetctl(&["source", "approve", "main", "--plan", &approved])).0, Some(1));
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &newer]);
    there.wait_applied(&commit);
    assert_eq!(owned(&there), "");
}

#[test]
fn a_rejected_commit_stays_out_until_a_newer_one_comes() {
    let there = start();
    let before = devices(&there);
    let commit = remove_two(&there);
    wait_held(&there, &commit);
    there.fleetctl_ok(&["source", "reject", "main", "--reason", "wrong branch"]);
    let source = eventually("the commit to be rejected", || {
        let source = there.object("sources", "main")?;
        (condition(&source, "Held").1 == "Rejected").then_some(source)
    });
    assert_eq!(source["status"]["held"]["decision"]["reason"], "wrong branch");
    let (code, out) = told(&there.fleetctl(&["sync", "main", "--wait"]));
    assert!(code == Some(1) && out.contains("rejected by user:tester"), "{code:?} {out}");
    assert_eq!((devices(&there), events(&there, "HoldStarted")), (before, 1));
    // A newer one is looked at afresh: this one removes a single fleet.
    there.repo.write("fleets/gates.yaml", fleet("gates", "gate"));
    let newer = there.repo.commit("keep the gates");
    there.wait_applied(&newer);
    assert_eq!(owned(&there), "gates 12");
    let source = there.object("sources", "main").unwrap();
    assert_eq!((condition(&source, "Held").0.as_str(), &source["status"]["held"]), ("False", &Value::Null));
}

#[test]
fn going_back_to_the_commit_in_force_ends_a_hold() {
    let there = start();
    let first = there.repo.head();
    let commit = remove_two(&there);
    wait_held(&there, &commit);
    there.repo.force(&first);
    eventually("the hold to end", || {
        let source = there.object("sources", "main")?;
        (condition(&source, "Held").0 == "False" && condition(&source, "Ready").0 == "True").then_some(())
    });
    assert_eq!(there.sql("select count(*) from source_holds").trim(), "0");
}
