//! Credentials that manifests and sources name: used below their prefix alone, replaced without a restart, and shown nowhere.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use fleet_test::git_server::GitServer;
use fleet_test::{GitRepo, TestDatabase};
use serde_json::Value;

use crate::harness::{Database, Installation, eventually};
use crate::holds::fleet;

const OLD: &str = "Zk4-the-old-password";
const NEW: &str = "Zk4-the-new-password";

/// A Repository that is read with the credential of that name, and a ResourceSync of the same name that uses it.
fn team(name: &str, url: &str, credential: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata:\n  name: {name}\n  annotations:\n    \
         shorebase/credential: {credential}\nspec:\n  type: git\n  url: {url}\n---\n\
         apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: {name}\nspec:\n  repository: {name}\n  \
         targetRevision: main\n  path: /\n"
    )
}

/// Puts a file in the place of another one, at once.
fn put(file: &Path, content: &str) {
    let fresh = file.ancestors().nth(3).unwrap().join("fresh");
    fs::write(&fresh, content).unwrap();
    fs::rename(fresh, file).unwrap();
}

/// Why a source cannot be read: kind and words.
fn reachable(there: &Installation, source: &str) -> Option<(String, String, String)> {
    let source = there.object("sources", source)?;
    let all: Vec<Value> = source["status"]["conditions"].as_array()?.clone();
    let found = all.iter().find(|condition| condition["type"] == "SourceReachable")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

fn wait_refused(there: &Installation, source: &str, words: &str) -> String {
    eventually(&format!("source {source} to say {words:?}"), || {
        let (status, reason, message) = reachable(there, source)?;
        (status == "False" && reason == "AuthFailed" && message.contains(words)).then_some(message)
    })
}

fn wait_at(there: &Installation, source: &str, commit: &str) {
    eventually(&format!("source {source} at {commit}"), || {
        (there.object("sources", source)?["status"]["appliedCommit"] == commit).then_some(())
    });
}

#[test]
fn a_named_credential_is_used_below_its_prefix_alone_and_its_replacement_needs_no_restart() {
    let shared = GitRepo::init();
    shared.write("gates.yaml", fleet("gates", "one"));
    let first = shared.commit("one");
    let root = tempfile::Builder::new().prefix("shorebase-git").tempdir().unwrap();
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bare = root.path().join("team.git");
    shared.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let server = GitServer::start(root.path(), Some(("robot", OLD))).unwrap();
    let url = server.https_url("team.git");
    let prefix = url.strip_suffix("team.git").unwrap();
    // A host that nobody may contact: whoever is refused is refused before.
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let far = format!("https://localhost:{}/team.git", trap.local_addr().unwrap().port());

    let secrets = tempfile::tempdir().unwrap();
    let ops = secrets.path().join("all/ops");
    fs::create_dir_all(&ops).unwrap();
    for (file, content) in
        [("url-prefix", prefix), ("username", "robot"), ("password", OLD), ("ca.crt", server.ca_pem())]
    {
        fs::write(ops.join(file), content).unwrap();
    }
    let (ca, wrong) = (secrets.path().join("ca.pem"), secrets.path().join("wrong"));
    fs::write(&ca, server.ca_pem()).unwrap();
    fs::write(&wrong, "Zk4-of-somebody-else").unwrap();
    // By its prefix the URL would get another one, which does not open.
    let settings = format!(
        "{{pollInterval: 1s, deletionGracePeriod: 0s, credentialsDirectory: '{}', credentials: [{{urlPrefix: '{url}', username: robot, \
         passwordFile: '{}', caFile: '{}'}}]}}",
        secrets.path().join("all").display(),
        wrong.display(),
        ca.display(),
    );
    let repo = GitRepo::init();
    repo.write("team.yaml", team("team", &url, "ops"));
    let start = repo.commit("start");
    let source = repo.url();
    let database = Database::Own(TestDatabase::create());
    let there = Installation::start_at(repo, &source, database, &settings);
    there.wait_applied(&start);
    wait_at(&there, "team", &first);

    // For another host it is not used, nor is one that is not there, and both say so.
    there.repo.write("far.yaml", team("far", &far, "ops")).write("none.yaml", team("none", &url, "nobody"));
    there.wait_applied(&there.repo.commit("others"));
    let said = wait_refused(&there, "far", &format!("it is for URLs below {prefix} alone"));
    assert!(said.contains("\"ops\"") && said.contains(&far), "{said}");
    let said = wait_refused(&there, "none", "has none of that name under git.credentials");
    assert!(said.contains("\"nobody\""), "{said}");

    // By no name the prefix decides, and the name decides again: what is applied stays all the while.
    let at = || there.sql("select applied_commit from desired.sources where name = 'team'");
    there
        .repo
        .write("team.yaml", team("team", &url, "ops").replace("shorebase/credential: ops", "example.com/note: plain"));
    there.wait_applied(&there.repo.commit("by its prefix"));
    wait_refused(&there, "team", "");
    assert_eq!(at(), first, "another credential is no move");
    there.repo.write("team.yaml", team("team", &url, "ops"));
    there.wait_applied(&there.repo.commit("by its name"));
    eventually("the team's host to let us in", || (reachable(&there, "team")?.0 == "True").then_some(()));

    // The password changes at the host first, then in the directory.
    server.set_password("robot", NEW).unwrap();
    shared.write("gates.yaml", fleet("gates", "two"));
    let second = shared.commit("two");
    shared.git(&["push", "--quiet", bare.to_str().unwrap(), "main"]);
    wait_refused(&there, "team", "");
    assert_eq!(at(), first);
    put(&ops.join("password"), NEW);
    wait_at(&there, "team", &second);

    let log = eventually("the replacement to be told", || {
        Some(there.service_log()).filter(|log| log.contains("Git credentials were replaced"))
    });
    let stored = there.sql(
        "select (select string_agg(s::text, '') from desired.sources s) || (select string_agg(e::text, '') from events e)
           || (select string_agg(m::text, '') from desired.manifests m) || coalesce((select string_agg(p::text, '') from desired.plans p), '')",
    );
    let shown = there.fleetctl_ok(&["get", "sources", "-o", "json"]);
    let metrics = there.http_get("/metrics").unwrap();
    for (what, text) in [("log", &log), ("database", &stored), ("API", &shown), ("metrics", &metrics)] {
        for secret in [OLD, NEW, "Zk4-of-somebody-else"] {
            assert!(!text.contains(secret), "{secret} is in the {what}");
        }
    }
    assert!(trap.accept().is_err(), "somebody was contacted who must not know");
}
