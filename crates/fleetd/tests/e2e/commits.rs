//! Good commits reach devices; bad ones change nothing and are explained.

use std::fs;

use serde_json::Value;

use crate::harness::{Database, Installation, drop_while_running, eventually};

/// A fleet of kiosks with a config directory, an inline file with placeholders, and a policy that enrols them.
pub(crate) const FILES: &[(&str, &str)] = &[
    (
        "fleets/kiosks.yaml",
        "apiVersion: flightctl.io/v1beta1\n\
         kind: Fleet\n\
         metadata:\n\
         \x20 name: kiosks\n\
         spec:\n\
         \x20 selector:\n\
         \x20   matchLabels:\n\
         \x20     role: kiosk\n\
         \x20 template:\n\
         \x20   spec:\n\
         \x20     config:\n\
         \x20       - name: files\n\
         \x20         gitRef:\n\
         \x20           repository: .\n\
         \x20           path: config/kiosk\n\
         \x20       - name: identity\n\
         \x20         inline:\n\
         \x20           - path: /etc/identity\n\
         \x20             content: \"{{ .metadata.labels.alias }} at {{ getOrDefault .metadata.labels \\\"site\\\" \\\"nowhere\\\" }}\\n\"\n\
         \x20             mode: 0600\n",
    ),
    ("config/kiosk/etc/motd", "first\n"),
    ("config/kiosk/etc/kiosk/extra.conf", "extra\n"),
    (
        "policies/enrollment.yaml",
        "apiVersion: shorebase/v1alpha1\n\
         kind: EnrollmentPolicy\n\
         metadata:\n\
         \x20 name: kiosks\n\
         spec:\n\
         \x20 rules:\n\
         \x20   - match:\n\
         \x20       systemInfo:\n\
         \x20         hostname: kiosk-*\n\
         \x20     labels:\n\
         \x20       role: kiosk\n\
         \x20       site: berlin\n",
    ),
];

#[test]
fn a_commit_becomes_files_on_devices_and_their_state_comes_back() {
    let there = Installation::start(FILES);
    let mut one = there.start_device("kiosk-1");
    let two = there.start_device("kiosk-2");
    for device in [&one, &two] {
        device.wait_file("/etc/motd", "first\n");
        device.wait_file("/etc/identity", &format!("{} at berlin\n", device.hostname));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(one.path("/etc/identity")).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o600);

    there.repo.write("config/kiosk/etc/motd", "second\n").remove("config/kiosk/etc/kiosk/extra.conf");
    let commit = there.repo.commit("greet");
    for device in [&one, &two] {
        device.wait_file("/etc/motd", "second\n");
        device.wait_gone("/etc/kiosk/extra.conf");
    }
    there.wait_applied(&commit);
    let device = eventually("the status to come back", || {
        let device = there.device_object("kiosk-1")?;
        (device["status"]["config"]["renderedVersion"] == "2" && device["status"]["updated"]["status"] == "UpToDate")
            .then_some(device)
    });
    assert_eq!(device["metadata"]["owner"], "Fleet/kiosks");
    assert_eq!(device["metadata"]["annotations"]["shorebase/commit"], commit);
    assert_eq!(device["status"]["summary"]["status"], "Online");

    // A managed file that somebody edits, or removes, is put back.
    fs::write(one.path("/etc/motd"), "by hand\n").unwrap();
    one.wait_file("/etc/motd", "second\n");
    fs::remove_file(one.path("/etc/identity")).unwrap();
    one.wait_file("/etc/identity", "kiosk-1 at berlin\n");

    // A commit that changes nothing of the fleet touches no device.
    let before = there.sql("select name, rendered_version, change_seq from devices order by name");
    there.repo.write("README.md", "About\n").write("config/other/etc/x", "x\n");
    let unrelated = there.repo.commit("unrelated");
    there.wait_applied(&unrelated);
    assert_eq!(there.sql("select name, rendered_version, change_seq from devices order by name"), before);
    one.stop();
}

#[test]
fn a_person_approves_and_labels_decide_who_belongs_where() {
    let settings = "{deletionGracePeriod: 0s, pollInterval: 1s, allowLocalRepositories: true}";
    let there = Installation::start_with(FILES, Database::Own(fleet_test::TestDatabase::create()), settings);
    let device = there.start_device("gateway-1");
    let name = eventually("the enrolment request", || {
        let list: Value =
            serde_json::from_str(&there.fleetctl_ok(&["get", "enrollmentrequests", "-o", "json"])).unwrap();
        list["items"][0]["metadata"]["name"].as_str().map(str::to_owned)
    });
    assert!(there.device_object("gateway-1").is_none(), "nobody approved it");
    let banner = device.file("/etc/issue.d/fleet-agent-banner.issue").expect("a banner");
    assert!(banner.contains(&name), "{banner}");
    there.fleetctl_ok(&["approve", &name, "-l", "role=gateway"]);
    let object = eventually("the device", || there.device_object("gateway-1"));
    assert_eq!(object["metadata"]["owner"], Value::Null, "no fleet selects gateways");

    // The inventory in Git gives it another role; the fleet's files follow.
    there.repo.write(
        "devices/gateway.yaml",
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {name}\n  labels:\n    role: kiosk\n    site: paris\n"
        ),
    );
    there.repo.commit("a gateway that is a kiosk");
    device.wait_file("/etc/identity", "gateway-1 at paris\n");
    // Leaving a fleet keeps the last document.
    there.repo.remove("devices/gateway.yaml");
    let commit = there.repo.commit("no kiosk after all");
    there.wait_applied(&commit);
    let object = there.device_object("gateway-1").unwrap();
    assert_eq!(object["metadata"]["owner"], Value::Null);
    assert_eq!(device.file("/etc/identity").as_deref(), Some("gateway-1 at paris\n"));
}

#[test]
fn a_bad_commit_changes_nothing_and_lint_says_the_same() {
    let there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    let good = there.repo.head();
    there.wait_applied(&good);
    let fleet = FILES[0].1;
    let duplicate =
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {name: kiosks}\nspec: {template: {spec: {}}}\n";
    let broken: [(&str, &str, String, &str); 5] = [
        ("a typo in kind", "fleets/kiosks.yaml", fleet.replace("kind: Fleet", "kind: Flet"), "fleets/kiosks.yaml:2:"),
        ("a duplicate name", "fleets/z.yaml", duplicate.to_owned(), "fleets/z.yaml:3:"),
        (
            "a bad indent",
            "fleets/kiosks.yaml",
            fleet.replace("  name: kiosks", "\tname: kiosks"),
            "fleets/kiosks.yaml:4:",
        ),
        ("an unknown field", "fleets/kiosks.yaml", fleet.replace("matchLabels", "matchLabel"), "fleets/kiosks.yaml:7:"),
        (
            "a missing directory",
            "fleets/kiosks.yaml",
            fleet.replace("config/kiosk", "config/kioks"),
            "fleets/kiosks.yaml:15:",
        ),
    ];
    let before = there.sql("select name, rendered_version, change_seq from devices");
    for (what, file, content, place) in broken {
        there.repo.write(file, &content).write("config/kiosk/etc/motd", "must not arrive\n");
        let commit = there.repo.commit(what);
        let source = there.wait_refused(&commit);
        assert_eq!(source["status"]["appliedCommit"], good.as_str(), "{what}");
        let told: Vec<String> = source["status"]["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| {
                format!("{}:{}:{}: {} {}", d["file"].as_str().unwrap(), d["line"], d["column"], d["code"], d["message"])
            })
            .collect();
        assert!(told.iter().any(|line| line.starts_with(place)), "{what}: {told:#?}");
        let lint = there.lint(&["-o", "json"]);
        assert_eq!(lint.status.code(), Some(1), "{what}: {}", String::from_utf8_lossy(&lint.stderr));
        let lint: Value = serde_json::from_slice(&lint.stdout).unwrap();
        assert_eq!(lint["diagnostics"], source["status"]["diagnostics"], "{what}");
        let human = String::from_utf8(there.lint(&[]).stdout).unwrap();
        let first = &told[0];
        let first_place = first.split(": ").next().unwrap();
        assert!(human.contains(first_place), "{what}: {first_place} is not in\n{human}");
        let table = there.fleetctl_ok(&["get", "sources"]);
        assert!(table.contains(first_place), "{what}: {first_place} is not in\n{table}");
        there.repo.force(&good);
        eventually("the good commit to be seen again", || {
            let source = there.object("sources", "main")?;
            let clean = source["status"]["diagnostics"].as_array()?.is_empty();
            let ready = source["status"]["conditions"].to_string().contains("is applied");
            (source["status"]["observedCommit"] == good.as_str() && clean && ready).then_some(())
        });
    }
    assert_eq!(there.sql("select name, rendered_version, change_seq from devices"), before);
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"));
}

#[test]
fn removing_every_manifest_is_refused() {
    let there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    there.repo.remove("fleets").remove("policies").remove("config").write("README.md", "gone\n");
    let commit = there.repo.commit("oops");
    let source = there.wait_refused(&commit);
    let text = source["status"]["conditions"].to_string();
    assert!(text.contains("NothingLeft"), "{text}");
    assert_eq!(there.sql("select count(*) from desired.manifests"), "2");
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"));
}

#[test]
fn dropped_desired_state_comes_back_from_git_with_the_same_digests() {
    let mut there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    there.repo.write("config/kiosk/etc/motd", "second\n");
    there.repo.commit("second");
    device.wait_file("/etc/motd", "second\n");
    let state =
        "select name, rendered_version, encode(rendered_digest, 'hex'), fleet_revision, owner_fleet from devices";
    let before = there.sql(state);
    let documents = there.sql(
        "select encode(digest, 'hex'), md5(body) from rendered.specs r
                               where exists (select from devices d where d.rendered_digest = r.digest)",
    );
    assert!(!documents.is_empty());
    there.stop_service();
    drop_tables(&there, "('desired', 'rendered')");
    there.start_service();
    let head = there.repo.head();
    there.wait_applied(&head);
    assert_eq!(there.sql(state), before);
    assert_eq!(
        there.sql(
            "select encode(digest, 'hex'), md5(body) from rendered.specs r
                   where exists (select from devices d where d.rendered_digest = r.digest)"
        ),
        documents
    );
    there.repo.write("config/kiosk/etc/motd", "third\n");
    there.repo.commit("third");
    device.wait_file("/etc/motd", "third\n");
}

/// Drops all tables at once: a service that misses one makes all of them again.
fn drop_tables(there: &Installation, schemas: &str) {
    let Database::Own(database) = &there.database else { panic!("the embedded database is the service's own") };
    drop_while_running(database, || {
        let tables = there.sql(&format!(
            "select string_agg(table_schema || '.' || table_name, ', ') from information_schema.tables where table_schema in {schemas}"
        ));
        assert!(tables.split(", ").count() > 7, "{tables}");
        format!("drop table if exists {tables} cascade")
    });
}

#[test]
fn tables_dropped_under_a_running_service_come_back() {
    let there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    let state = "select rendered_version, encode(rendered_digest, 'hex'), fleet_revision, owner_fleet from devices";
    let before = there.sql(state);
    drop_tables(&there, "('desired')");
    let head = there.repo.head();
    eventually("desired state to come back", || {
        let Database::Own(database) = &there.database else { return None };
        // Without the table it is an error.
        (database.psql("select count(*) from desired.manifests").ok()? == "2").then_some(())
    });
    there.wait_applied(&head);
    assert_eq!(there.sql(state), before);
    there.repo.write("config/kiosk/etc/motd", "second\n");
    there.repo.commit("second");
    device.wait_file("/etc/motd", "second\n");
}

#[test]
fn a_refused_tip_does_not_hide_the_last_good_commit_when_desired_state_is_made_again() {
    let mut there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    let good = there.repo.head();
    there.wait_applied(&good);
    there.repo.write("fleets/kiosks.yaml", "kind: Flet\n");
    let bad = there.repo.commit("broken");
    there.wait_refused(&bad);
    let state = "select rendered_version, encode(rendered_digest, 'hex'), fleet_revision, owner_fleet from devices";
    let before = there.sql(state);
    there.stop_service();
    drop_tables(&there, "('desired', 'rendered')");
    there.start_service();
    let source = there.wait_refused(&bad);
    assert_eq!(source["status"]["appliedCommit"], good.as_str());
    assert_eq!(there.sql(state), before);
    let newcomer = there.start_device("kiosk-2");
    newcomer.wait_file("/etc/motd", "first\n");
}

#[test]
fn nobody_is_moved_while_only_half_of_desired_state_is_back() {
    // The root repository has two fleets; another one, brought in by a ResourceSync, says that the device is a gate.
    let team = fleet_test::GitRepo::init();
    let gate = FILES[0]
        .1
        .replace("name: kiosks", "name: gates")
        .replace("role: kiosk", "role: gate")
        .replace("nowhere", "a gate");
    let sync = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata: {{name: team}}\nspec: {{type: git, url: '{}'}}\n---\n\
         apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata: {{name: team}}\n\
         spec: {{repository: team, targetRevision: main, path: /}}\n",
        team.url()
    );
    let mut files = FILES.to_vec();
    files.extend([("fleets/gates.yaml", gate.as_str()), ("team.yaml", sync.as_str())]);
    team.write("README.md", "nothing yet\n");
    team.commit("nothing yet");
    let database = Database::Own(fleet_test::TestDatabase::create());
    let mut there = Installation::start_with(&files, database, "{allowLocalRepositories: true, pollInterval: 1s}");
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/identity", "kiosk-1 at berlin\n");
    let name = there.sql("select name from devices");
    let manifest = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {name}\n  labels: {{role: gate, site: oslo}}\n"
    );
    team.write("device.yaml", manifest);
    team.commit("a gate");
    device.wait_file("/etc/identity", "kiosk-1 at oslo\n");
    let state = "select owner_fleet, rendered_version, encode(rendered_digest, 'hex') from devices";
    let before = there.sql(state);
    assert!(before.starts_with("gates|"), "{before}");
    there.stop_service();
    drop_tables(&there, "('desired')");
    let away = team.scratch().join("away");
    std::fs::rename(team.path(), &away).unwrap();
    there.start_service();
    let head = there.repo.head();
    there.wait_applied(&head);
    there.repo.write("config/kiosk/etc/motd", "second\n");
    let second = there.repo.commit("while the team's host is away");
    there.wait_applied(&second);
    assert_eq!(there.sql(state), before, "the device must not become a kiosk for a while");
    std::fs::rename(&away, team.path()).unwrap();
    // By itself it is asked the later the longer it was away.
    there.fleetctl_ok(&["sync", "team"]);
    device.wait_file("/etc/motd", "second\n");
    assert_eq!(device.file("/etc/identity").as_deref(), Some("kiosk-1 at oslo\n"));
    assert!(there.sql(state).starts_with("gates|3|"), "{}", there.sql(state));
}

#[test]
fn a_device_that_cannot_follow_its_fleet_says_so() {
    let there = Installation::start(FILES);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    there
        .repo
        .write("fleets/kiosks.yaml", FILES[0].1.replace("{{ .metadata.labels.alias }}", "{{ .metadata.labels.rack }}"));
    let commit = there.repo.commit("racks");
    there.wait_applied(&commit);
    let object = there.device_object("kiosk-1").unwrap();
    assert_eq!(object["status"]["updated"]["status"], "OutOfDate", "{object:#}");
    let told = object["status"]["updated"]["info"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("rack"), "{told}");
    assert_eq!(device.file("/etc/identity").as_deref(), Some("kiosk-1 at berlin\n"), "the last document stays");
}

#[test]
fn the_embedded_database_survives_a_killed_service() {
    let mut there = Installation::start_with(FILES, Database::Embedded, "{}");
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    there.kill_service();
    there.repo.write("config/kiosk/etc/motd", "second\n");
    there.repo.commit("while the service is away");
    there.start_service();
    device.wait_file("/etc/motd", "second\n");
    there.stop_service();
}
