//! Content that manifests take from elsewhere: one revision of a repository for each value of a placeholder.

use fleet_test::{GitRepo, TestDatabase};

use crate::commits::FILES;
use crate::harness::{Database, Device, Installation, eventually};
use crate::repositories::{host, repository};

fn fleet(target: &str) -> String {
    FILES[0].1.replace(
        "          gitRef:\n            repository: .\n            path: config/kiosk\n",
        &format!(
            "          gitRef:\n            repository: shared\n            targetRevision: '{target}'\n            path: /base\n"
        ),
    )
}

fn versions(there: &Installation) -> String {
    there.sql("select enrolled_labels->>'alias' || ' ' || rendered_version from devices order by 1")
}

/// A repository with a branch for each of these names.
fn branches(names: &[&str]) -> GitRepo {
    let shared = GitRepo::init();
    shared.write("README", "branches\n");
    shared.commit("nothing yet");
    for name in names {
        branch(&shared, name);
    }
    shared
}

fn branch(shared: &GitRepo, name: &str) {
    shared.git(&["checkout", "--quiet", "-b", name, "main"]);
    shared.write("base/etc/shared.conf", format!("for {name}\n"));
    shared.commit(name);
}

fn push(shared: &GitRepo, root: &tempfile::TempDir, name: &str) {
    shared.git(&["push", "--quiet", "--force", root.path().join("shared.git").to_str().unwrap(), name]);
}

#[test]
fn each_device_follows_the_branch_of_its_own_label_and_nobody_else_moves() {
    let shared = branches(&["kiosk-1", "kiosk-2"]);
    let (root, server, settings) = host(&shared);
    let manifest = repository("shared", &server.https_url("shared.git"));
    let fleet = fleet("{{ .metadata.labels.alias }}");
    let files = [("fleets/kiosks.yaml", fleet.as_str()), FILES[3], ("repositories.yaml", manifest.as_str())];
    let mut there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let one = there.start_device("kiosk-1");
    one.wait_file("/etc/shared.conf", "for kiosk-1\n");
    // A device that appears with a new value has it looked up, and the others do not notice.
    let two = there.start_device("kiosk-2");
    two.wait_file("/etc/shared.conf", "for kiosk-2\n");
    assert_eq!(versions(&there), "kiosk-1 1\nkiosk-2 1");

    // A branch changes: its device moves, once.
    shared.git(&["checkout", "--quiet", "kiosk-2"]);
    shared.write("base/etc/shared.conf", "second\n");
    shared.commit("second");
    push(&shared, &root, "kiosk-2");
    two.wait_file("/etc/shared.conf", "second\n");
    assert_eq!(versions(&there), "kiosk-1 1\nkiosk-2 2");

    // A branch that is not there concerns its device alone, which says so.
    let three = there.start_device("kiosk-3");
    let error = eventually("the reason", || {
        let error = there.sql("select render_error from devices where enrolled_labels->>'alias' = 'kiosk-3'");
        error.contains("Repository shared at kiosk-3").then_some(error)
    });
    assert!(error.contains("revision \"kiosk-3\" of Repository shared is not pinned yet: "), "{error}");
    assert_eq!(there.sql("select count(*) from desired.fleets where problem is null"), "1");
    assert_eq!(three.file("/etc/shared.conf"), None);
    there.repo.write("fleets/kiosks.yaml", fleet.replace("nowhere", "somewhere"));
    let commit = there.repo.commit("others move on");
    there.wait_applied(&commit);
    branch(&shared, "kiosk-3");
    push(&shared, &root, "kiosk-3");
    three.wait_file("/etc/shared.conf", "for kiosk-3\n");
    assert_eq!(versions(&there), "kiosk-1 1\nkiosk-2 2\nkiosk-3 1");
    eventually("nothing to be missing", || {
        (there.sql("select count(*) from desired.input_values") == "0").then_some(())
    });

    // The host goes away and the service starts again: a change of the fleet is applied with what was pinned last.
    drop(server);
    there.stop_service();
    std::fs::remove_dir_all(there.data_dir().join("mirrors")).unwrap();
    there.start_service();
    there.repo.write("fleets/kiosks.yaml", fleet.replace(" at {{", " is at {{"));
    let commit = there.repo.commit("a change while the other host is away");
    there.wait_applied(&commit);
    let identities: [(&Device, &str); 3] = [(&one, "kiosk-1"), (&two, "kiosk-2"), (&three, "kiosk-3")];
    for (device, name) in identities {
        device.wait_file("/etc/identity", &format!("{name} is at berlin\n"));
    }
    assert_eq!(two.file("/etc/shared.conf").as_deref(), Some("second\n"));
    assert_eq!(versions(&there), "kiosk-1 2\nkiosk-2 3\nkiosk-3 2");
}
