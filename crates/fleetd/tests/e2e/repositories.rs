//! Content from repositories that manifests name, and sources that ResourceSyncs bring in; over HTTPS with credentials.

use fleet_test::git_server::GitServer;
use fleet_test::ssh_server::SshServer;
use fleet_test::{GitRepo, TestDatabase};

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};

pub(crate) fn repository(name: &str, url: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: {name}\nspec:\n  type: git\n  url: {url}\n"
    )
}

/// A Git host with one bare repository, and the settings to reach it.
pub(crate) fn host(repo: &GitRepo) -> (tempfile::TempDir, GitServer, String) {
    let root = tempfile::Builder::new().prefix("shorebase-git").tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repo.git(&["clone", "--quiet", "--bare", ".", root.path().join("shared.git").to_str().unwrap()]);
    let server = GitServer::start(root.path(), Some(("robot", "s3cret"))).unwrap();
    let url = server.https_url("shared.git");
    let prefix = url.strip_suffix("shared.git").unwrap().to_owned();
    let password = root.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let ca = root.path().join("ca.pem");
    std::fs::write(&ca, server.ca_pem()).unwrap();
    let settings = format!(
        "{{pollInterval: 1s, deletionGracePeriod: 0s, credentials: [{{urlPrefix: '{prefix}', username: robot, passwordFile: '{}', caFile: '{}'}}]}}",
        password.display(),
        ca.display(),
    );
    (root, server, settings)
}

#[test]
fn content_of_another_repository_is_pinned_and_followed() {
    let shared = GitRepo::init();
    shared.write("base/etc/shared.conf", "one\n");
    shared.commit("one");
    let (root, server, settings) = host(&shared);
    let url = server.https_url("shared.git");
    let fleet = FILES[0].1.replace("          gitRef:\n            repository: .\n            path: config/kiosk\n",
        "          gitRef:\n            repository: shared\n            targetRevision: main\n            path: /base\n");
    let manifest = repository("shared", &url);
    let files = [("fleets/kiosks.yaml", fleet.as_str()), FILES[3], ("repositories.yaml", manifest.as_str())];
    let there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/shared.conf", "one\n");

    let push =
        |repo: &GitRepo| repo.git(&["push", "--quiet", root.path().join("shared.git").to_str().unwrap(), "main"]);
    shared.write("base/etc/shared.conf", "two\n");
    shared.commit("two");
    push(&shared);
    device.wait_file("/etc/shared.conf", "two\n");
    // A change elsewhere in that repository makes no revision.
    let revisions = there.sql("select count(*) from desired.fleet_revisions");
    shared.write("other/file", "x\n");
    let unrelated = shared.commit("unrelated");
    push(&shared);
    eventually("the other repository's commit to be seen", || {
        (there.sql("select commit_id from desired.dependencies") == unrelated).then_some(())
    });
    assert_eq!(there.sql("select count(*) from desired.fleet_revisions"), revisions);
    // The host goes away: what was pinned stays, and commits of the source are applied all the same.
    drop(server);
    there.repo.write("fleets/kiosks.yaml", fleet.replace("nowhere", "somewhere"));
    let commit = there.repo.commit("a change while the other host is away");
    there.wait_applied(&commit);
    assert_eq!(device.file("/etc/shared.conf").as_deref(), Some("two\n"));
    let log = there.service_log();
    assert!(!log.contains("s3cret"), "a password is in the log");
}

#[test]
fn a_resource_sync_brings_another_repository_in_and_takes_it_away() {
    let shared = GitRepo::init();
    for (path, content) in FILES {
        shared.write(&format!("team/{path}"), content.replace("path: config/kiosk", "path: team/config/kiosk"));
    }
    shared.commit("a team's fleet");
    let (_root, server, settings) = host(&shared);
    let manifest = repository("shared", &server.https_url("shared.git"));
    let sync = "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: team\nspec:\n  repository: shared\n  targetRevision: main\n  path: /team\n";
    let files = [("repositories.yaml", manifest.as_str()), ("sync.yaml", sync)];
    let there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "first\n");
    let fleet = there.object("fleets", "kiosks").expect("the team's fleet");
    assert_eq!(fleet["metadata"]["name"], "kiosks");

    // The root repository may not define what the team defines.
    there.repo.write(
        "fleets/kiosks.yaml",
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: kiosks\nspec:\n  template:\n    spec: {}\n",
    );
    let conflict = there.repo.commit("a conflict");
    let source = there.wait_refused(&conflict);
    let text = source["status"]["diagnostics"].to_string();
    assert!(text.contains("already defined by source team at team/fleets/kiosks.yaml:1"), "{text}");
    let conflict = source["status"]["diagnostics"].as_array().unwrap().iter().find(|d| d["code"] == "SB0602").unwrap();
    assert_eq!((&conflict["line"], &conflict["column"]), (&4.into(), &9.into()));
    there.repo.remove("fleets").remove("sync.yaml");
    let commit = there.repo.commit("without the team");
    there.wait_applied(&commit);
    assert_eq!(there.sql("select name from desired.sources"), "main");
    assert_eq!(there.sql("select count(*) from desired.fleets"), "0");
    assert_eq!(device.file("/etc/motd").as_deref(), Some("first\n"), "a device keeps its last document");
}

#[test]
fn a_repository_on_the_services_disk_needs_permission() {
    let secret = GitRepo::init();
    secret.write("etc/secret", "x\n");
    secret.commit("secret");
    let fleet = FILES[0].1.replace("repository: .\n", "repository: local\n            targetRevision: main\n");
    let manifest = repository("local", &secret.url());
    let files = [("fleets/kiosks.yaml", fleet.as_str()), FILES[3], ("repositories.yaml", manifest.as_str())];
    let there = Installation::start(&files);
    let head = there.repo.head();
    eventually("the outcome", || {
        let problem = there.sql("select problem from desired.fleets");
        let source = there.object("sources", "main")?;
        let refused = source["status"]["diagnostics"].to_string().contains("on the service's own disk");
        (problem.contains("on the service's own disk")
            || (refused && source["status"]["observedCommit"] == head.as_str()))
        .then_some(())
    });
    assert_eq!(there.sql("select count(*) from desired.file_trees"), "0");
}

#[test]
fn content_comes_over_ssh_with_an_encrypted_key() {
    let shared = GitRepo::init();
    shared.write("base/etc/shared.conf", "one\n");
    shared.commit("one");
    let server = SshServer::start().unwrap();
    let url = server.url(shared.path());
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let settings = format!(
        "{{pollInterval: 1s, credentials: [{{urlPrefix: '{}', privateKeyFile: '{}', passphraseFile: '{}', knownHostsFile: '{}'}}]}}",
        url.strip_suffix(shared.path().to_str().unwrap()).unwrap().to_owned() + "/",
        file("key", &server.encrypted_key()),
        file("passphrase", SshServer::PASSPHRASE),
        file("known_hosts", server.known_hosts()),
    );
    let fleet = FILES[0].1.replace("          gitRef:\n            repository: .\n            path: config/kiosk\n",
        "          gitRef:\n            repository: shared\n            targetRevision: main\n            path: /base\n");
    let manifest = repository("shared", &url);
    let files = [("fleets/kiosks.yaml", fleet.as_str()), FILES[3], ("repositories.yaml", manifest.as_str())];
    let there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/shared.conf", "one\n");
    shared.write("base/etc/shared.conf", "two\n");
    shared.commit("two");
    device.wait_file("/etc/shared.conf", "two\n");
    let log = there.service_log();
    assert!(!log.contains(SshServer::PASSPHRASE) && !log.contains("PRIVATE KEY"), "a secret is in the log");
}

#[test]
fn a_source_follows_its_repository_when_another_source_moves_it() {
    let (places, one, other) = (GitRepo::init(), GitRepo::init(), GitRepo::init());
    for (repo, name) in [(&one, "one"), (&other, "other")] {
        let fleet = FILES[0].1.replace("nowhere", name).replace("path: config/kiosk", "path: config");
        repo.write("fleets/kiosks.yaml", fleet).write("config/etc/motd", format!("{name}\n"));
        repo.write("policies/enrollment.yaml", FILES[3].1);
        repo.commit(name);
    }
    places.write("team.yaml", repository("team", &one.url())).write("spare.yaml", repository("spare", &one.url()));
    places.commit("places");
    let sync = |name: &str| {
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata: {{name: {name}}}\n\
             spec: {{repository: {name}, targetRevision: main, path: /}}\n"
        )
    };
    let (place, team) = (repository("places", &places.url()), sync("team"));
    let syncs = format!("{place}---\n{}", sync("places"));
    let there = Installation::start_with(
        &[("places.yaml", syncs.as_str()), ("team.yaml", team.as_str())],
        Database::Own(TestDatabase::create()),
        "{pollInterval: 1s, allowLocalRepositories: true, deletionGracePeriod: 0s}",
    );
    let device = there.start_device("kiosk-1");
    device.wait_file("/etc/motd", "one\n");
    // By now nothing is new in the root repository, and its polls ask the database nothing.
    let root = there.sql("select applied_commit from desired.sources where name = 'main'");
    let polled = || {
        there
            .http_get("/metrics")
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("shorebase_syncer_sync_polls_unchanged_total ")?.parse::<u64>().ok())
            .sum::<u64>()
    };
    let before = polled();
    eventually("some polls", || (polled() > before + 6).then_some(()));
    places.write("team.yaml", repository("team", &other.url()));
    places.commit("the team moved");
    device.wait_file("/etc/motd", "other\n");
    assert_eq!(there.sql("select url from desired.sources where name = 'team'"), other.url());
    assert_eq!(there.sql("select applied_commit from desired.sources where name = 'main'"), root);
    // One that leads nowhere any more changes nothing.
    places.remove("team.yaml");
    let commit = places.commit("the team lies nowhere");
    eventually("the Repository to be gone", || {
        (there.sql("select applied_commit from desired.sources where name = 'places'") == commit).then_some(())
    });
    let before = polled();
    eventually("some polls", || (polled() > before + 6).then_some(()));
    assert_eq!(there.sql("select url from desired.sources where name = 'team'"), other.url());
    assert_eq!(there.sql("select count(*) from desired.fleets"), "1");
}
