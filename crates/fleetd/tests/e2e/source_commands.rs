//! What `fleetctl` says and ends with when a source is not there, nothing waits, or somebody may not decide.

use serde_json::Value;

use crate::harness::Installation;
use crate::holds::{devices, digest, events, remove_two, start, told, wait_held};

/// Runs a command that cannot be carried out, and gives what it says. Nothing goes to the standard output.
fn fails(there: &Installation, role: &str, args: &[&str]) -> String {
    let output = there.fleetctl_as(role, args);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{args:?}: {err}");
    err
}

#[test]
fn decisions_that_cannot_be_made_end_with_2_and_say_why() {
    let there = start();
    let decisions = |name: &'static str| -> [Vec<&'static str>; 4] {
        [
            vec!["source", "approve", name, "--plan", "0123456789ab"],
            vec!["source", "reject", name],
            vec!["source", "suspend", name, "--reason", "x"],
            vec!["source", "resume", name],
        ]
    };
    // A source that is not there, and names that cannot be any.
    for mut args in decisions("nowhere") {
        let said = fails(&there, "admin", &args);
        assert!(said.contains("nowhere"), "{args:?}: {said}");
        args[2] = "../devices";
        fails(&there, "admin", &args);
    }
    for args in [["get", "source", "nowhere"], ["describe", "source", "nowhere"]] {
        let said = fails(&there, "admin", &args);
        assert!(said.contains("nowhere"), "{args:?}: {said}");
    }
    // Nothing waits.
    for args in &decisions("main")[..2] {
        let said = fails(&there, "admin", args);
        assert!(said.contains("no commit of source/main waits for"), "{args:?}: {said}");
    }
    assert_eq!(told(&there.fleetctl(&["source", "resume", "main"])).0, Some(0), "resumed is resumed");

    let before = devices(&there);
    let commit = remove_two(&there);
    let source = wait_held(&there, &commit);
    let plan = digest(&source);
    // Who may not.
    for role in ["viewer", "operator", "installer"] {
        for mut args in decisions("main") {
            if args[1] == "approve" {
                args[4] = &plan;
            }
            let said = fails(&there, role, &args);
            assert!(said.contains("403") || said.contains("may not"), "{role} {args:?}: {said}");
        }
    }
    // What no digest, no reason and no time is.
    for (args, part) in [
        (&["source", "approve", "main", "--plan", "latest"][..], "12 hex digits"),
        (&["source", "approve", "main", "--plan", "0123456789a"], "12 hex digits"),
        (&["source", "reject", "main", "--plan", "sha256:"], "12 hex digits"),
        (&["source", "suspend", "main", "--reason", ""], "say why"),
        (&["source", "suspend", "main", "--reason", "two\nlines"], "one line"),
        (&["source", "suspend", "main"], "--reason"),
        (&["source", "suspend", "main", "--reason", "x", "--for", "soon"], "--for"),
        (&["source", "suspend", "main", "--reason", "x", "--for", "0s"], "not a duration"),
        (&["source", "suspend", "main", "--reason", "x", "--for", "400d"], "366 days"),
    ] {
        let said = fails(&there, "admin", args);
        assert!(said.contains(part), "{args:?}: {said}");
    }
    // Another plan than the one that waits: the one that does is shown.
    for args in [
        ["source", "approve", "main", "--plan", "0123456789ab"],
        ["source", "reject", "main", "--plan", "0123456789ab"],
    ] {
        let (code, out) = told(&there.fleetctl(&args));
        assert!(code == Some(1) && out.contains("is not the plan that waits") && out.contains(&plan), "{code:?} {out}");
    }
    for reason in ["HoldApproved", "HoldRejected", "SourceSuspended", "SourceResumed"] {
        assert_eq!(events(&there, reason), 0, "{reason}");
    }
    assert_eq!(devices(&there), before);

    // Decided one way, and then the other; sent again it is no news.
    for _ in 0..2 {
        there.fleetctl_ok(&["source", "reject", "main", "--plan", &plan]);
    }
    assert_eq!(events(&there, "HoldRejected"), 1);
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &plan]);
    there.wait_applied(&commit);
    assert!(fails(&there, "admin", &["source", "reject", "main"]).contains("waits for a decision"));
}

#[test]
fn sources_are_shown_in_the_same_shape_whatever_their_state() {
    let there = start();
    let first = there.repo.head();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&there.fleetctl_ok(args)).unwrap() };
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let list = json(&["get", "sources", "-o", "json"]);
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"List".into(), 1));
    let calm = json(&["get", "source", "main", "-o", "json"]);
    assert_eq!(keys(&calm), ["apiVersion", "kind", "metadata", "spec", "status"]);
    assert_eq!((&calm["apiVersion"], &calm["kind"]), (&"shorebase/v1alpha1".into(), &"Source".into()));
    assert_eq!(calm["metadata"]["name"], "main");
    assert_eq!(keys(&calm["spec"]), ["origin", "path", "revision", "url"]);
    assert_eq!((&calm["status"]["appliedCommit"], &calm["status"]["behindBy"]), (&first.as_str().into(), &0.into()));
    for absent in ["held", "suspended"] {
        assert_eq!(calm["status"].get(absent), None, "{absent}");
    }
    assert_eq!(there.fleetctl_ok(&["get", "sources", "-o", "name"]), "source/main\n");
    for role in ["viewer", "operator"] {
        assert!(there.fleetctl_as(role, &["get", "sources"]).status.success(), "{role}");
    }
    fails(&there, "installer", &["get", "sources"]);
    fails(&there, "installer", &["describe", "source", "main"]);
    fails(&there, "admin", &["get", "sources", "-o", "toml"]);

    let commit = remove_two(&there);
    wait_held(&there, &commit);
    there.fleetctl_ok(&["source", "suspend", "main", "--reason", "stocktaking", "--for", "1h"]);
    let waits = json(&["get", "source", "main", "-o", "json"]);
    let held = &waits["status"]["held"];
    assert_eq!(keys(held), ["commit", "digest", "reason", "sentences", "since", "summary"], "{held:#}");
    assert!(held["summary"]["sentence"].is_string(), "{held:#}");
    let suspended = &waits["status"]["suspended"];
    assert_eq!(keys(suspended), ["by", "reason", "since", "until"]);
    let table = there.fleetctl_ok(&["get", "sources"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    let described = there.fleetctl_ok(&["describe", "source", "main"]);
    for part in ["stocktaking", "user:tester", "removes 2 of 3 fleets", &digest(&waits)] {
        assert!(described.contains(part), "{part}: {described}");
    }
}
