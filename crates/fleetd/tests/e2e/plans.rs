//! What the service says of a commit besides applying it: its plan, what waits, and whose lint configuration judged it.

use serde_json::Value;

use crate::commits::FILES;
use crate::harness::{Installation, eventually};

const GATES: &str = "apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: gates
spec:
  selector:
    matchLabels:
      role: gate
  template:
    spec:
      config:
        - name: inline
          inline:
            - path: /etc/gate
              content: first
---
apiVersion: shorebase/v1alpha1
kind: EnrollmentPolicy
metadata:
  name: gates
spec:
  rules:
    - match:
        systemInfo:
          hostname: gate-*
      labels:
        role: gate
";

const ROLLOUT: &str = "  rolloutPolicy:
    deviceSelection:
      strategy: BatchSequence
      sequence:
        - limit: 1
";

fn with_gates() -> Vec<(&'static str, &'static str)> {
    FILES.iter().copied().chain([("fleets/gates.yaml", GATES)]).collect()
}

fn condition(object: &Value, kind: &str) -> (String, String) {
    let all = object["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == kind).unwrap();
    (found["status"].as_str().unwrap().to_owned(), found["message"].as_str().unwrap().to_owned())
}

#[test]
fn a_fleet_that_asks_for_what_is_not_there_yet_waits_and_others_move_on() {
    let there = Installation::start(&with_gates());
    let kiosk = there.start_device("kiosk-1");
    let gate = there.start_device("gate-1");
    kiosk.wait_file("/etc/motd", "first\n");
    gate.wait_file("/etc/gate", "first");
    let fleet = FILES[0].1;
    let held = fleet.replace("  template:\n", &format!("{ROLLOUT}  template:\n"));
    there
        .repo
        .write("fleets/kiosks.yaml", &held)
        .write("config/kiosk/etc/motd", "second\n")
        .write("fleets/gates.yaml", GATES.replace("content: first", "content: second"));
    let commit = there.repo.commit("a rollout policy for kiosks, news for gates");
    gate.wait_file("/etc/gate", "second");
    there.wait_applied(&commit);
    let (status, why) = condition(&there.object("fleets", "kiosks").unwrap(), "Valid");
    assert_eq!(status, "False");
    assert!(why.contains("spec.rolloutPolicy") && why.contains("keeps what it has"), "{why}");
    assert_eq!(condition(&there.object("fleets", "gates").unwrap(), "Valid").0, "True");
    let (_, ready) = condition(&there.object("sources", "main").unwrap(), "Ready");
    assert!(ready.contains("1 object waits for what this version of the service cannot carry out"), "{ready}");
    let plan = there.fleetctl_ok(&["get", "plan", &commit[..8], "--source", "main", "-o", "json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let (counts, waiting) = (&plan["status"]["summary"]["devices"], &plan["status"]["plan"]["waiting"]);
    assert_eq!((&counts["changed"], &counts["waiting"]), (&1.into(), &1.into()), "{plan:#}");
    assert!(waiting[0]["reason"].as_str().unwrap().contains("spec.rolloutPolicy"), "{plan:#}");
    assert_eq!(kiosk.file("/etc/motd").as_deref(), Some("first\n"));
    there.repo.write("fleets/kiosks.yaml", fleet);
    there.repo.commit("no rollout policy");
    kiosk.wait_file("/etc/motd", "second\n");
    assert_eq!(condition(&there.object("fleets", "kiosks").unwrap(), "Valid").0, "True");
}

#[test]
fn every_applied_commit_has_a_plan() {
    let there = Installation::start(&with_gates());
    let first = there.repo.head();
    there.wait_applied(&first);
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    there.repo.write("config/kiosk/etc/motd", "second\n");
    let second = there.repo.commit("news");
    kiosk.wait_file("/etc/motd", "second\n");
    there.wait_applied(&second);
    let source = there.object("sources", "main").unwrap();
    let plan = &source["status"]["plan"];
    assert_eq!(plan["commit"], second.as_str());
    assert_eq!(plan["summary"]["sentence"], "no object changes; 1 device gets another document");
    let digest = plan["digest"].as_str().unwrap();
    let described = there.fleetctl_ok(&["describe", "source", "main"]);
    assert!(described.contains(digest) && described.contains("1 device gets another document"), "{described}");
    let events = there.fleetctl_ok(&["get", "events", "-o", "json"]);
    let short = &digest.trim_start_matches("sha256:")[..12];
    assert!(events.contains(&format!("plan {short}")), "{events}");
    let table = there.fleetctl_ok(&["get", "plans", "--source", "main"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with(&second[..12]) && lines[2].starts_with(&first[..12]), "{table}");
    assert!(lines[2].contains("4 objects are new"), "{table}");
    let whole = there.fleetctl_ok(&["get", "plan", &second, "--source", "main", "-o", "yaml"]);
    assert!(whole.contains("path: /etc/motd") && !whole.contains("second\n"), "contents are not kept: {whole}");
    // An unrelated commit has one, too, in which nothing changes.
    there.repo.write("README.md", "hello\n");
    let third = there.repo.commit("words");
    there.wait_applied(&third);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(source["status"]["plan"]["summary"]["sentence"], "no object changes; no device changes");
    let version = there.fleetctl_as("viewer", &["get", "plans", "--source", "main", "-o", "name"]);
    assert!(version.status.success());
    assert_eq!(String::from_utf8(version.stdout).unwrap().lines().next(), Some(format!("plan/{third}").as_str()));
}

#[test]
fn a_commit_cannot_lower_a_finding_that_it_has_itself() {
    let mut there = Installation::start(FILES);
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    let good = there.repo.head();
    let wrong = FILES[0].1.replace("spec:\n  selector", "spec:\n  sooner: x\n  selector");
    let lenient = "severity:\n  SB0301: warning\n";
    there.repo.write(".fleetlint.yaml", lenient).write("fleets/kiosks.yaml", &wrong);
    let at_once = there.repo.commit("lower it and need it");
    let source = there.wait_refused(&at_once);
    assert!(source["status"]["diagnostics"].to_string().contains("SB0301"), "{source:#}");
    there.repo.force(&good);
    there.repo.write(".fleetlint.yaml", lenient);
    let lowered = there.repo.commit("lower it");
    there.wait_applied(&lowered);
    there.repo.write("fleets/kiosks.yaml", &wrong).write("config/kiosk/etc/motd", "second\n");
    let used = there.repo.commit("need it");
    kiosk.wait_file("/etc/motd", "second\n");
    there.wait_applied(&used);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(source["status"]["diagnostics"][0]["severity"], "warning", "{source:#}");
    // A configuration with mistakes is refused.
    there.repo.write(".fleetlint.yaml", "severity:\n  SB9999: warning\n");
    let source = there.wait_refused(&there.repo.commit("no such code"));
    assert_eq!(source["status"]["diagnostics"][0]["file"], ".fleetlint.yaml", "{source:#}");
    let lint: Value = serde_json::from_slice(&there.lint(&["-o", "json"]).stdout).unwrap();
    assert!(lint["diagnostics"].to_string().contains(".fleetlint.yaml"), "{lint:#}");
    there.repo.force(&used);
    // The commit that takes the permission away is judged by the one before, now and whenever it is looked at again.
    there.repo.remove(".fleetlint.yaml").write("config/kiosk/etc/motd", "third\n");
    let strict = there.repo.commit("strict from here on");
    kiosk.wait_file("/etc/motd", "third\n");
    there.wait_applied(&strict);
    there.stop_service();
    there.sql("drop schema desired cascade");
    there.start_service();
    there.wait_applied(&strict);
    there.repo.write("config/kiosk/etc/motd", "fourth\n");
    let refused = there.repo.commit("still wrong");
    let source = there.wait_refused(&refused);
    assert_eq!(source["status"]["appliedCommit"], strict.as_str());
    eventually("the device to keep what it has", || (kiosk.file("/etc/motd")? == "third\n").then_some(()));
}
