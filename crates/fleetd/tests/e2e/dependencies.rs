//! Content that manifests take from elsewhere: one revision of a repository for each value of a placeholder, and files of
//! web servers.

use fleet_test::file_server::FileServer;
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
    // While nothing changes, nothing is planned for it.
    let count = |name: &str| {
        let metrics = there.http_get("/metrics").unwrap();
        let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
        metrics.lines().filter_map(value).sum::<u64>()
    };
    let (polls, applied) =
        ("shorebase_syncer_sync_polls_unchanged_total", "shorebase_syncer_sync_commits_applied_total");
    eventually("a poll that finds nothing", || {
        let before = count(applied);
        let seen = count(polls);
        eventually("three polls", || (count(polls) >= seen + 3).then_some(()));
        (count(applied) == before).then_some(())
    });
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

fn web_fleet(suffix: &str) -> String {
    FILES[0].1.replace(
        "          gitRef:\n            repository: .\n            path: config/kiosk\n",
        &format!("          httpRef:\n            repository: web\n            suffix: '{suffix}'\n            filePath: /etc/web.conf\n"),
    )
}

pub(crate) fn web_repository(url: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: web\nspec:\n  type: http\n  url: {url}\n"
    )
}

/// Settings that trust the server, with short intervals.
pub(crate) fn web_settings(server: &FileServer, dir: &tempfile::TempDir) -> String {
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, server.ca_pem()).unwrap();
    format!(
        "{{pollInterval: 1s, credentials: [{{urlPrefix: '{}', caFile: '{}'}}]}}\nhttp: {{pollInterval: 1s}}",
        server.https_url(""),
        ca.display()
    )
}

/// How often the file was asked for so far, and a wait until it was asked for twice more: whatever it brought is in force.
fn two_more_looks(server: &FileServer, path: &str) {
    let looks = || server.requests().iter().filter(|line| line.contains(path)).count();
    let before = looks();
    eventually("two more looks", || (looks() >= before + 2).then_some(()));
}

#[test]
fn a_file_of_a_web_server_is_followed_and_stays_while_the_server_is_away() {
    // Below /plain/ there is nothing to ask with but the contents.
    let server = FileServer::start(
        "location /plain/ { alias {root}/; etag off; add_header Last-Modified ''; if_modified_since off; }",
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    server.write("kiosk-1.conf", "one\n").unwrap();
    let settings = web_settings(&server, &dir);
    let manifest = web_repository(server.https_url("").trim_end_matches('/'));
    let fleet = web_fleet("/{{ .metadata.labels.alias }}.conf");
    let plain = fleet
        .replace("name: kiosks", "name: gates")
        .replace("role: kiosk", "role: gate")
        .replace("suffix: '/{{ .metadata.labels.alias }}.conf'", "suffix: /plain/kiosk-1.conf");
    let policy = FILES[3]
        .1
        .replace("name: kiosks", "name: gates")
        .replace("kiosk-*", "gate-*")
        .replace("role: kiosk", "role: gate");
    let files = [
        ("fleets/kiosks.yaml", fleet.as_str()),
        ("fleets/gates.yaml", plain.as_str()),
        FILES[3],
        ("policies/gates.yaml", policy.as_str()),
        ("repositories.yaml", manifest.as_str()),
    ];
    let mut there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let one = there.start_device("kiosk-1");
    let gate = there.start_device("gate-1");
    one.wait_file("/etc/web.conf", "one\n");
    gate.wait_file("/etc/web.conf", "one\n");
    let revisions = there.sql("select count(*) from desired.fleet_revisions");

    // Written again with the same contents: another date, and nothing happens, with validators and without.
    server.write("kiosk-1.conf", "one\n").unwrap();
    two_more_looks(&server, " /kiosk-1.conf ");
    two_more_looks(&server, " /plain/kiosk-1.conf ");
    assert_eq!(versions(&there), "gate-1 1\nkiosk-1 1");
    assert_eq!(there.sql("select count(*) from desired.fleet_revisions"), revisions);

    // Other contents make one revision of each fleet, and their devices move once.
    server.write("kiosk-1.conf", "two\n").unwrap();
    one.wait_file("/etc/web.conf", "two\n");
    gate.wait_file("/etc/web.conf", "two\n");
    two_more_looks(&server, " /kiosk-1.conf ");
    assert_eq!(versions(&there), "gate-1 2\nkiosk-1 2");
    assert_eq!(
        there.sql("select count(*) from desired.fleet_revisions"),
        (revisions.parse::<u32>().unwrap() + 2).to_string()
    );

    // What a device's label asks for and is not there concerns that device.
    let two = there.start_device("kiosk-2");
    let error = eventually("the reason", || {
        let error = there.sql("select render_error from devices where enrolled_labels->>'alias' = 'kiosk-2'");
        error.contains("404").then_some(error)
    });
    assert!(error.contains("suffix \"/kiosk-2.conf\" of Repository web is not pinned yet: "), "{error}");
    server.write("kiosk-2.conf", "for two\n").unwrap();
    two.wait_file("/etc/web.conf", "for two\n");
    assert_eq!(versions(&there), "gate-1 2\nkiosk-1 2\nkiosk-2 1");

    // The server goes away, the service starts again, and a commit changes something else.
    drop(server);
    there.stop_service();
    there.start_service();
    there.repo.write("fleets/kiosks.yaml", fleet.replace(" at {{", " is at {{"));
    let commit = there.repo.commit("a change while the web server is away");
    there.wait_applied(&commit);
    one.wait_file("/etc/identity", "kiosk-1 is at berlin\n");
    two.wait_file("/etc/identity", "kiosk-2 is at berlin\n");
    assert_eq!(one.file("/etc/web.conf").as_deref(), Some("two\n"));
    assert_eq!(two.file("/etc/web.conf").as_deref(), Some("for two\n"));
    assert_eq!(versions(&there), "gate-1 2\nkiosk-1 3\nkiosk-2 2");
    eventually("the silence of the server to be told", || {
        let error = there.sql("select error from desired.http_files where url like '%kiosk-1.conf' limit 1");
        (!error.is_empty()).then_some(())
    });
}
