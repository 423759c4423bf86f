//! Commits that have to be signed: what an unsigned one changes (nothing), and what lets it through.

use std::path::PathBuf;
use std::process::Command;

use crate::commits::FILES;
use crate::harness::{Database, Installation, drop_while_running, eventually};
use crate::holds::{condition, digest, events, fleet, told, wait_held};

/// An SSH key in a directory of its own: (private file, line of the public key).
pub(crate) fn key(there: &Installation, name: &str) -> (PathBuf, String) {
    let file = there.repo.scratch().join(name);
    let done = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&file).status();
    assert!(done.unwrap().success());
    let line = std::fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned();
    (file, line)
}

fn signed(there: &Installation, key: &(PathBuf, String), message: &str) -> String {
    there.repo.git(&["add", "--all"]);
    let signing = format!("user.signingKey={}", key.0.display());
    let how = ["-c", "gpg.format=ssh", "-c", &signing, "commit", "--quiet", "--allow-empty", "-S", "-m", message];
    there.repo.git(&how);
    there.repo.head()
}

/// A policy with the rules and this line of an allowed signer.
pub(crate) fn policy(line: &str, rules: &str) -> String {
    format!(
        "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: signatures\nspec:\n  trust:\n    signers:\n      \
         - name: platform\n        ssh: |\n          {line}\n    rules:\n{rules}"
    )
}

pub(crate) const EVERY: &str = "      - signedBy: [platform]\n";

/// A source whose policy asks for signatures; the commit that brings it is the last one that needs none.
fn start(options: &str, rules: &str) -> (Installation, (PathBuf, String)) {
    let there = Installation::start_with(
        FILES,
        Database::Own(fleet_test::TestDatabase::create()),
        "{pollInterval: 1s, allowLocalRepositories: true}",
    );
    let key = key(&there, "alice");
    there.repo.write("policies/trust.yaml", policy(&format!("alice@example.com {options}{}", key.1), rules));
    let commit = there.repo.commit("signatures from here on");
    there.wait_applied(&commit);
    (there, key)
}

fn verified(there: &Installation) -> String {
    there.sql("select coalesce(verified_commit, '') from desired.sources where name = 'main'").trim().to_owned()
}

fn applied(there: &Installation) -> String {
    there.object("sources", "main").unwrap()["status"]["appliedCommit"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_commit_nobody_signed_changes_nothing_and_the_newest_signed_one_is_applied() {
    let (there, key) = start("namespaces=\"git\" ", EVERY);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(condition(&source, "Verified"), ("True".to_owned(), "NoTrustRules".to_owned()));
    // Two at once: the signed one is applied, the unsigned one on top waits.
    let clone = there.repo.git(&["rev-parse", "HEAD"]);
    there.repo.branch("next").write("fleets/gates.yaml", fleet("gates", "one"));
    let good = signed(&there, &key, "gates, signed");
    there.repo.write("fleets/gates.yaml", fleet("gates", "two"));
    let bad = there.repo.commit("gates, by nobody");
    assert_eq!(applied(&there), clone);
    there.repo.switch("main");
    there.repo.git(&["merge", "--quiet", "--ff-only", "next"]);
    let source = wait_held(&there, &bad);
    assert_eq!(applied(&there), good);
    assert_eq!(verified(&there), good);
    assert_eq!(condition(&source, "Held"), ("True".to_owned(), "UnsignedCommit".to_owned()));
    let source = eventually("the condition", || {
        let source = there.object("sources", "main")?;
        (condition(&source, "Verified").0 == "False").then_some(source)
    });
    assert_eq!(condition(&source, "Verified").1, "UnsignedCommit");
    assert_eq!(condition(&source, "Ready"), ("False".to_owned(), "UnsignedCommit".to_owned()));
    let sentence = source["status"]["held"]["sentences"][0].as_str().unwrap();
    assert!(sentence.contains("gates, by nobody") && sentence.contains("it is not signed"), "{sentence}");
    assert!(sentence.contains("every commit (signed by platform)"), "{sentence}");
    assert_eq!(events(&there, "HoldStarted"), 1);
    // A signature on top vouches for itself alone.
    let on_top = signed(&there, &key, "signed on top");
    let source = wait_held(&there, &on_top);
    assert_eq!(applied(&there), good);
    assert_eq!(condition(&source, "Held").1, "UnsignedCommit");
    // Way out: somebody looks at the plan and approves it.
    there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source), "--reason", "looked at it"]);
    there.wait_applied(&on_top);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(condition(&source, "Verified"), ("True".to_owned(), "Approved".to_owned()));
    assert_eq!(verified(&there), on_top);
    // And the next one needs a signature again.
    let next = signed(&there, &key, "signed again");
    there.wait_applied(&next);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(condition(&source, "Verified"), ("True".to_owned(), "SignedBy".to_owned()));
    // A merge that is signed vouches for what it merges.
    there.repo.branch("side").write("fleets/gates.yaml", fleet("gates", "three"));
    there.repo.commit("unsigned on a branch");
    there.repo.switch("main");
    let signing = format!("user.signingKey={}", key.0.display());
    there.repo.git(&[
        "-c",
        "gpg.format=ssh",
        "-c",
        &signing,
        "merge",
        "--quiet",
        "-S",
        "--no-ff",
        "-m",
        "merged",
        "side",
    ]);
    there.wait_applied(&there.repo.head());
    // Dropped desired state comes back, whoever signed.
    let before = applied(&there);
    let waits = there.repo.commit("by nobody again");
    wait_held(&there, &waits);
    let Database::Own(database) = &there.database else { panic!("the database is our own") };
    drop_while_running(database, || "drop schema if exists desired cascade".to_owned());
    eventually("desired state to come back", || {
        (there.object("sources", "main")?["status"]["appliedCommit"] == before.as_str()).then_some(())
    });
    wait_held(&there, &waits);
    assert_eq!(applied(&there), before);
}

#[test]
fn a_commit_cannot_loosen_the_trust_it_is_judged_by() {
    let (there, key) = start("", EVERY);
    let before = applied(&there);
    let other = self::key(&there, "mallory");
    // Mallory adds a key of their own, takes the rules away, or just signs.
    there.repo.write("policies/trust.yaml", policy(&format!("mallory@example.com {}", other.1), EVERY));
    let commit = signed(&there, &other, "mallory is trusted");
    let source = wait_held(&there, &commit);
    assert_eq!(condition(&source, "Held").1, "UntrustedSigner");
    assert_eq!(applied(&there), before);
    there.repo.remove("policies/trust.yaml");
    let commit = there.repo.commit("no rules any more");
    wait_held(&there, &commit);
    assert_eq!((applied(&there), verified(&there)), (before.clone(), before.clone()));
    // Who is trusted may hand over, in one push with the first commit of the successor.
    let next = there.repo.at_once(|repo| {
        repo.force(&before);
        repo.write("policies/trust.yaml", policy(&format!("mallory@example.com {}", other.1), EVERY));
        signed(&there, &key, "mallory is trusted");
        signed(&there, &other, "by mallory")
    });
    there.wait_applied(&next);
    let (code, out) = told(&there.fleetctl(&["sync", "main", "--wait"]));
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_signer_whose_time_is_over_is_not_trusted() {
    // Commits are dated 2026-01-01 here.
    let (there, key) = start("valid-before=\"20251231Z\" ", EVERY);
    let before = applied(&there);
    let commit = signed(&there, &key, "too late");
    let source = wait_held(&there, &commit);
    assert_eq!(condition(&source, "Held").1, "UntrustedSigner");
    let sentence = source["status"]["held"]["sentences"][0].as_str().unwrap();
    assert!(sentence.contains("was not valid when it was committed"), "{sentence}");
    assert_eq!(applied(&there), before);
}

/// Notes in the database every commit that anybody could see as verified from now on.
fn note_verified(there: &Installation) {
    there.sql(
        "create table seen_verified (commit_id text);
         create function note_verified() returns trigger language plpgsql as $$ begin
           insert into seen_verified values (new.verified_commit);
           return new;
         end $$;
         create trigger note_verified after update of verified_commit on desired.sources
           for each row execute function note_verified()",
    );
}

#[test]
fn rules_by_path_and_by_effect_cover_what_they_name() {
    let rules = "      - paths: [\"fleets/prod/**\"]\n        effects: [RemoveFleet, SyncPolicy]\n        signedBy: [platform]\n";
    let (there, key) = start("", rules);
    // Nobody has to sign a new fleet elsewhere.
    there.repo.write("fleets/gates.yaml", fleet("gates", "one"));
    there.wait_applied(&there.repo.commit("gates"));
    there.repo.write("fleets/prod/tills.yaml", fleet("tills", "one"));
    let commit = there.repo.commit("tills");
    let source = wait_held(&there, &commit);
    let sentence = source["status"]["held"]["sentences"][0].as_str().unwrap();
    assert!(sentence.contains("fleets/prod/**"), "{sentence}");
    there.repo.force("HEAD~1").write("fleets/prod/tills.yaml", fleet("tills", "one"));
    there.wait_applied(&signed(&there, &key, "tills, signed"));
    // By its effect: the commit before the one that removes a fleet is applied by itself.
    note_verified(&there);
    let (doors, removes) = there.repo.at_once(|repo| {
        repo.write("fleets/doors.yaml", fleet("doors", "one"));
        let doors = repo.commit("doors");
        repo.remove("fleets/gates.yaml");
        (doors, repo.commit("no gates"))
    });
    let source = wait_held(&there, &removes);
    let sentence = source["status"]["held"]["sentences"][0].as_str().unwrap();
    assert!(sentence.contains("the plan has the effect RemoveFleet"), "{sentence}");
    // Looked at again, it is not shown as verified for a while either, until its plan is there.
    assert_eq!(told(&there.fleetctl(&["sync", "main", "--wait"])).0, Some(1));
    assert_eq!((applied(&there), verified(&there)), (doors.clone(), doors.clone()));
    assert_eq!(there.sql("select string_agg(distinct commit_id, ' ') from seen_verified"), doors);
    there.repo.force("HEAD~1").remove("fleets/gates.yaml");
    there.wait_applied(&signed(&there, &key, "no gates, signed"));
}

#[test]
fn a_merge_that_takes_back_what_is_in_force_is_covered_by_what_it_takes_back() {
    let (there, key) = start("", "      - paths: [\"fleets/**\"]\n        signedBy: [platform]\n");
    let before = there.repo.head();
    there.repo.write("fleets/gates.yaml", fleet("gates", "one"));
    let good = signed(&there, &key, "gates, signed");
    there.wait_applied(&good);
    // A commit that no rule covers, on what was there before, and a merge that keeps nothing of what is in force.
    there.repo.git(&["switch", "--quiet", "-c", "side", &before]);
    there.repo.write("README.md", "harmless");
    there.repo.commit("harmless, by nobody");
    there.repo.git(&["merge", "--quiet", "-s", "ours", "-m", "merge, by nobody", &good]);
    let bad = there.repo.head();
    there.repo.switch("main");
    there.repo.git(&["merge", "--quiet", "--ff-only", "side"]);
    let source = wait_held(&there, &bad);
    assert_eq!(condition(&source, "Held").1, "UnsignedCommit");
    assert_eq!(applied(&there), good, "no part of it is applied either");
    assert_eq!(there.sql("select count(*) from desired.fleets where name = 'gates'").trim(), "1");
}

#[test]
fn rules_that_come_later_from_elsewhere_are_told_of_the_commit_in_force_and_leave_it_there() {
    let team = fleet_test::GitRepo::init();
    for (path, content) in FILES {
        team.write(path, *content);
    }
    let unsigned = team.commit("nobody signed this");
    let sync = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata: {{name: team}}\nspec: {{type: git, url: '{}'}}\n---\n\
         apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata: {{name: team}}\n\
         spec: {{repository: team, targetRevision: main, path: /}}\n",
        team.url()
    );
    let there = Installation::start_with(
        &[("team.yaml", sync.as_str())],
        Database::Own(fleet_test::TestDatabase::create()),
        "{pollInterval: 1s, allowLocalRepositories: true, deletionGracePeriod: 0s}",
    );
    let told = |reason: &str| {
        eventually(&format!("Verified to say {reason}"), || {
            let source = there.object("sources", "team")?;
            let all = source["status"]["conditions"].as_array()?;
            let found =
                all.iter().find(|condition| condition["type"] == "Verified" && condition["reason"] == reason)?;
            let applied = source["status"]["appliedCommit"] == unsigned.as_str();
            applied.then(|| (found["status"].clone(), found["message"].as_str().unwrap_or_default().to_owned()))
        })
    };
    assert_eq!(told("NoTrustRules").0, "True");
    let alice = key(&there, "alice");
    let rules =
        policy(&format!("alice@example.com {}", alice.1), EVERY).replace("spec:\n", "spec:\n  sources: [team]\n");
    there.repo.write("policies/trust.yaml", &rules);
    there.wait_applied(&there.repo.commit("the team signs from here on"));
    let (status, message) = told("UnsignedCommit");
    assert_eq!(status, "False");
    assert!(message.contains("was applied before the rules of now and stays in force: "), "{message}");
    assert_eq!(there.sql("select count(*) from desired.fleets where source = 'team'"), "1");
    assert_ne!(
        there.object("sources", "team").unwrap()["status"]["state"],
        "Unverified",
        "its newest commit is in force"
    );

    // Rules that it does satisfy, and none.
    let others = rules.replace(EVERY, "      - effects: [RemoveFleet]\n        signedBy: [platform]\n");
    there.repo.write("policies/trust.yaml", others);
    there.wait_applied(&there.repo.commit("only what removes a fleet"));
    told("SignedBy");
    there.repo.remove("policies/trust.yaml").write("README.md", "no rules\n");
    there.wait_applied(&there.repo.commit("no rules"));
    assert_eq!(told("NoTrustRules").0, "True");
}

/// What the service says of a held commit's signatures, without what there is to do.
fn held_sentences(source: &serde_json::Value) -> Vec<String> {
    let all = source["status"]["held"]["sentences"].as_array().unwrap();
    let all = all.iter().map(|sentence| sentence.as_str().unwrap().to_owned());
    all.filter(|sentence| sentence.starts_with("commit ")).collect()
}

#[test]
fn the_plan_of_a_branch_says_what_the_service_holds_after_it() {
    let rules = "      - paths: [\"fleets/prod/**\"]\n        effects: [RemoveFleet, SyncPolicy]\n        signedBy: [platform]\n";
    let (there, key) = start("", rules);
    there.repo.write("fleets/gates.yaml", fleet("gates", "one")).write("fleets/doors.yaml", fleet("doors", "one"));
    let mut base = there.repo.commit("gates and doors");
    there.wait_applied(&base);
    type Step<'a> = (&'a str, &'a dyn Fn(&Installation));
    let steps: [Step<'_>; 4] = [
        ("harmless", &|there| {
            there.repo.write("README.md", "words");
            there.repo.commit("words, by nobody");
        }),
        ("a path", &|there| {
            there.repo.write("README.md", "more words");
            there.repo.commit("words, by nobody");
            there.repo.write("fleets/prod/tills.yaml", fleet("tills", "one"));
            there.repo.commit("tills, by nobody");
            signed(there, &key, "on top, signed");
        }),
        ("an effect", &|there| {
            there.repo.write("fleets/lifts.yaml", fleet("lifts", "one"));
            there.repo.commit("lifts, by nobody");
            there.repo.remove("fleets/gates.yaml");
            there.repo.commit("no gates, by nobody");
            there.repo.write("README.md", "even more words");
            there.repo.commit("on top, by nobody");
        }),
        ("an effect, signed", &|there| {
            there.repo.remove("fleets/doors.yaml");
            signed(there, &key, "no doors, signed");
            there.repo.write("README.md", "yet more words");
            there.repo.commit("on top, by nobody");
        }),
    ];
    for (what, change) in steps {
        there.repo.git(&["switch", "--quiet", "-C", "next", &base]);
        change(&there);
        let tip = there.repo.head();
        let range = format!("{base}..{tip}");
        let output = there.offline(&["plan", &range, "--source", "main", "-o", "json"]);
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let held = plan["signatures"]["held"].as_array().unwrap_or_else(|| panic!("{plan:#}")).iter();
        let said: Vec<String> = held.map(|one| one["sentence"].as_str().unwrap().to_owned()).collect();
        there.repo.git(&["switch", "--quiet", "main"]);
        there.repo.git(&["reset", "--quiet", "--hard", &tip]);
        if said.is_empty() {
            there.wait_applied(&tip);
            base = tip;
            continue;
        }
        let source = wait_held(&there, &tip);
        assert_eq!(held_sentences(&source), said, "{what}");
        let word = plan["signatures"]["held"][0]["code"].as_str().unwrap();
        assert_eq!(condition(&source, "Held").1, word, "{what}");
        there.fleetctl_ok(&["source", "approve", "main", "--plan", &digest(&source), "--reason", what]);
        there.wait_applied(&tip);
        base = tip;
    }
}
