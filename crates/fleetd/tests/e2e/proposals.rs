//! What pull requests are told before the merge is what the service does after it: the plan of the merge, and the signatures that
//! are missing.

use fleet_test::forge_host::Flavor;

use crate::commits::FILES;
use crate::harness::eventually;
use crate::holds::{condition, digest, fleet, wait_held};
use crate::outbox::World;
use crate::trust::{EVERY, key, policy};

/// Opens or moves a pull request to what is checked out.
fn propose(world: &World, number: u64) -> String {
    let head = world.repo.head();
    world.publish(&format!("HEAD:refs/pull/{number}/head"));
    world.forge.put_pull(number, &head, "main");
    world.there.fleetctl_ok(&["sync", "main"]);
    head
}

fn comment(world: &World, number: u64, part: &str) -> String {
    eventually(&format!("a comment on {number} with {part:?}: {:?}", world.forge.comments(number)), || {
        let comments = world.forge.comments(number);
        assert!(comments.len() <= 1, "{comments:?}");
        comments.first().map(|one| one.body.clone()).filter(|body| body.contains(part))
    })
}

/// The digest that a comment ends with.
fn told_digest(comment: &str) -> &str {
    comment.split("<sub>Plan `").nth(1).and_then(|rest| rest.split('`').next()).unwrap()
}

#[test]
fn a_pull_request_that_is_behind_is_planned_as_the_merge_that_lands() {
    let world = World::start(Flavor::GitHub, FILES);
    let kiosk = world.there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    let base = world.repo.head();
    world.repo.branch("topic").write("config/kiosk/etc/motd", "second\n");
    world.repo.commit("another greeting");
    propose(&world, 7);
    let told = comment(&world, 7, "1 device gets another document");
    assert!(!told.contains("behind"), "{told}");

    // The branch it is for goes on.
    world.repo.switch("main").write("fleets/gates.yaml", fleet("gates", "gate"));
    let applied = world.repo.commit("gates");
    world.publish("main");
    world.there.wait_applied(&applied);
    world.repo.switch("topic");
    propose(&world, 7);
    let told = comment(&world, 7, "it is 1 commit behind");
    assert!(told.contains(&world.repo.head()[..12]), "{told}");
    assert!(!told.contains("Fleet/gates"), "what came since stays: {told}");
    assert!(told.contains("1 device gets another document"), "{told}");

    // Both change one file: the plan is of the pull request as it is, and says so.
    world.repo.git(&["switch", "--quiet", "-c", "other", &base]);
    world.repo.write("config/kiosk/etc/motd", "other\n");
    world.repo.commit("a third greeting");
    world.repo.switch("main");
    world.repo.git(&["merge", "--quiet", "--no-ff", "-m", "merge of pull request 7", "topic"]);
    let landed = world.repo.head();
    world.publish("main");
    world.there.wait_applied(&landed);
    let source = world.there.object("sources", "main").unwrap();
    assert_eq!(source["status"]["plan"]["digest"], told_digest(&told), "{told}");
    kiosk.wait_file("/etc/motd", "second\n");
    world.forge.close_pull(7);

    world.repo.switch("other");
    propose(&world, 8);
    let told = comment(&world, 8, "conflicts with it");
    assert!(told.contains("config/kiosk/etc/motd") && told.contains("merge or rebase first"), "{told}");
    assert!(told.contains("Fleet/gates"), "as it is, it takes back what came since: {told}");
}

#[test]
fn a_pull_request_is_told_which_signatures_it_lacks() {
    let world = World::start(Flavor::GitLab, FILES);
    let key = key(&world.there, "alice");
    world.repo.write("policies/trust.yaml", policy(&format!("alice@example.com {}", key.1), EVERY));
    let applied = world.repo.commit("signatures from here on");
    world.publish("main");
    world.there.wait_applied(&applied);
    let gitlab = |number: u64| {
        world.publish(&format!("HEAD:refs/merge-requests/{number}/head"));
        propose(&world, number)
    };
    world.repo.branch("topic").write("fleets/gates.yaml", fleet("gates", "gate"));
    world.repo.commit("gates, by nobody");
    // A commit cannot grant itself trust.
    let mallory = crate::trust::key(&world.there, "mallory");
    world.repo.write("policies/trust.yaml", policy(&format!("mallory@example.com {}", mallory.1), EVERY));
    let sign = |key: &(std::path::PathBuf, String), message: &str| {
        world.repo.git(&["add", "--all"]);
        let signing = format!("user.signingKey={}", key.0.display());
        world.repo.git(&["-c", "gpg.format=ssh", "-c", &signing, "commit", "--quiet", "-S", "-m", message]);
        world.repo.head()
    };
    sign(&mallory, "mallory is trusted");
    let head = gitlab(3);
    let told = comment(&world, 3, "### Signatures");
    assert!(told.contains("**2 of 2 commits lack a signature that a rule asks for:**"), "{told}");
    assert!(told.contains("- UnsignedCommit: `commit ") && told.contains("- UntrustedSigner: `commit "), "{told}");
    assert!(told.contains("git rebase --force-rebase --rebase-merges -S"), "{told}");
    assert!(told.contains("It will need a signature under each of these:\n\n- `the rule for every commit"), "{told}");
    world.wait_shown(&head, "shorebase/plan", "success", "after the merge it would wait for approval: commit ");

    // What it says is what the service says once it landed as it is.
    world.repo.git(&["switch", "--quiet", "main"]);
    world.repo.git(&["merge", "--quiet", "--ff-only", "topic"]);
    world.publish("main");
    let source = wait_held(&world.there, &head);
    for sentence in source["status"]["held"]["sentences"].as_array().unwrap().iter().filter_map(|one| one.as_str()) {
        assert!(!sentence.starts_with("commit ") || told.contains(sentence), "{sentence}: {told}");
    }
    assert_eq!(condition(&source, "Held").1, "UnsignedCommit");
    assert_eq!(digest(&source), told_digest(&told), "signatures are no part of the plan");

    // Signed by whom the rules name.
    world.repo.git(&["switch", "--quiet", "-C", "topic", &applied]);
    world.repo.write("fleets/gates.yaml", fleet("gates", "gate"));
    sign(&key, "gates, signed");
    gitlab(4);
    let told = comment(&world, 4, "The commit of this pull request has every signature that a rule asks for.");
    assert!(
        told.contains("A merge or squash that the Git host makes is another commit with its own signature"),
        "{told}"
    );
}
