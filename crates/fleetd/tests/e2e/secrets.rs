//! Secrets that manifests take: they reach devices, follow their store, and are shown to nobody.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::Digest;
use fleet_pki::tls::{TlsTime, client_config};
use fleet_test::TestDatabase;
use serde_json::Value;

use crate::access::request;
use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};
use crate::holds::condition;

fn fleet(secret: &str) -> String {
    FILES[0].1.replace(
        "          gitRef:\n            repository: .\n            path: config/kiosk\n",
        &format!("          secretRef: {secret}\n"),
    )
}

const DOOR: &str = "{namespace: ops, name: door, mountPath: /etc/door}";

/// A service whose secrets lie in the directory, with one more setting.
fn start(secrets: &Path, more: &str, fleet: &str) -> Installation {
    let settings =
        format!("{{pollInterval: 1s}}\nsecrets: {{directory: '{}', pollInterval: 1s{more}}}", secrets.display());
    let files = [("fleets/kiosks.yaml", fleet), FILES[3]];
    Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings)
}

/// Writes a key, at once.
fn put(secrets: &Path, place: &str, key: &str, content: &str) {
    let directory = secrets.join(place);
    fs::create_dir_all(&directory).unwrap();
    let fresh = secrets.join("fresh");
    fs::write(&fresh, content).unwrap();
    fs::rename(fresh, directory.join(key)).unwrap();
}

/// Puts each of two directories in the place of the other, at once.
fn exchange(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// Waits until the source was looked at, and its secrets with it, so often that one look began and ended meanwhile.
fn some_looks(there: &Installation) {
    let looks = || {
        let metrics = there.http_get("/metrics")?;
        let value = |line: &str| line.strip_prefix("shorebase_syncer_sync_polls_unchanged_total ")?.parse::<u64>().ok();
        Some(metrics.lines().filter_map(value).sum::<u64>())
    };
    let before = eventually("the looks so far", looks);
    eventually("three more looks", || (looks()? >= before + 3).then_some(()));
}

fn get(there: &Installation, role: &str, path: &str) -> String {
    let tls = client_config(&fs::read_to_string(there.ca_file()).unwrap(), None, &TlsTime::system()).unwrap();
    let url = format!("{}/api/v1{path}", there.user_url());
    let (status, body) = request(tls, url, Some(&there.token(role))).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// All that people and programs can ask for about one fleet and its device.
fn shown(there: &Installation) -> Vec<(String, String)> {
    let device = there.device_object("kiosk-1").unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    let mut paths: Vec<String> = [
        "/devices",
        "/fleets",
        "/fleets/kiosks",
        "/fleets/kiosks/templateversions",
        "/repositories",
        "/events?limit=1000",
        "/sources",
        "/sources/main",
        "/sources/main/plans",
        "/labels?kind=Device",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(format!("/devices/{device}"));
    paths.push(format!("/devices/{device}/rendered"));
    let names = |path: &str| -> Vec<String> {
        let list: Value = serde_json::from_str(&get(there, "admin", path)).unwrap();
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let versions = names("/fleets/kiosks/templateversions");
    paths.extend(versions.iter().map(|name| format!("/fleets/kiosks/templateversions/{name}")));
    let commits = there.sql("select commit_id from desired.plans");
    paths.extend(commits.lines().map(|commit| format!("/sources/main/plans/{commit}")));
    assert!(!versions.is_empty() && !commits.is_empty());
    let mut all: Vec<(String, String)> =
        paths.into_iter().map(|path| (path.clone(), get(there, "admin", &path))).collect();
    all.push(("the log".to_owned(), there.service_log()));
    all.push(("metrics".to_owned(), there.http_get("/metrics").unwrap()));
    for args in [
        &["plan", "HEAD~1..HEAD"][..],
        &["plan", "HEAD~1..HEAD", "-o", "json"],
        &["plan", "HEAD~1..HEAD", "-o", "markdown"],
    ] {
        let output = there.online(args);
        let said = [output.stdout, output.stderr].concat();
        all.push((args.join(" "), String::from_utf8(said).unwrap()));
    }
    for args in
        [&["describe", "fleet", "kiosks"][..], &["describe", "source", "main"], &["describe", "device", &device]]
    {
        all.push((args.join(" "), there.fleetctl_ok(args)));
    }
    let stored = there.sql("select plan::text || summary::text from desired.plans");
    all.push(("stored plans".to_owned(), stored));
    all.push(("the outbox".to_owned(), there.sql("select description from outbox")));
    all
}

/// The content and all that it could be found by.
fn signs(content: &str) -> Vec<String> {
    let digest = Digest::of(content.as_bytes());
    vec![
        content.trim().to_owned(),
        STANDARD.encode(content).trim_end_matches('=').to_owned(),
        digest.hex(),
        digest.short(),
        STANDARD.encode(digest.as_bytes()).trim_end_matches('=').to_owned(),
    ]
}

#[test]
fn a_secret_reaches_devices_follows_its_store_and_is_shown_to_nobody() {
    let secrets = tempfile::tempdir().unwrap();
    let (one, two, other) = ("Zw9q-hunter-PIN-1\n", "Zw9q-hunter-PIN-2\n", "Kk3v-token\n");
    put(secrets.path(), "ops/door", "pin", one);
    put(secrets.path(), "ops/door", "token", other);
    let there = start(secrets.path(), "", &fleet(DOOR));
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/door/pin", one);
    kiosk.wait_file("/etc/door/token", other);
    let metadata = fs::metadata(kiosk.path("/etc/door/pin")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777, 0o644);

    // Another content reaches devices without a commit, as a revision of its own.
    let revisions = || there.sql("select count(*) from desired.fleet_revisions");
    let before = revisions();
    put(secrets.path(), "ops/door", "pin", two);
    kiosk.wait_file("/etc/door/pin", two);
    assert_ne!(revisions(), before);
    // A commit after it, so that there is a plan in which the secret stays.
    there
        .repo
        .write("fleets/kiosks.yaml", fleet(DOOR).replace("nowhere", "somewhere").replace("/etc/door", "/etc/gate"));
    let commit = there.repo.commit("the gate");
    there.wait_applied(&commit);
    kiosk.wait_file("/etc/gate/pin", two);
    kiosk.wait_gone("/etc/door/pin");

    let all = shown(&there);
    for (what, text) in &all {
        for content in [one, two, other] {
            for sign in signs(content) {
                assert!(!text.contains(&sign), "{what} shows {sign}:\n{text}");
            }
        }
    }
    let rendered = &all.iter().find(|(path, _)| path.ends_with("/rendered")).unwrap().1;
    assert!(rendered.contains("/etc/gate/pin") && rendered.contains("*****"), "{rendered}");
    // What keeps the digest of the document from telling is not shown either.
    let hidden =
        there.sql("select substring(convert_from(body, 'UTF8') from 'secret-([0-9a-f]{64})') from rendered.specs");
    for hidden in hidden.lines().filter(|line| !line.is_empty()) {
        assert!(all.iter().all(|(_, text)| !text.contains(hidden)), "{hidden}");
    }
    assert!(hidden.lines().any(|line| line.len() == 64), "{hidden}");
    let plan = &all.iter().find(|(path, _)| path == "plan HEAD~1..HEAD").unwrap().1;
    assert!(plan.contains("known to the service alone"), "{plan}");
    let stored = &all.iter().find(|(path, _)| path == "stored plans").unwrap().1;
    assert!(stored.contains("\"secret\": true") && stored.contains("/etc/gate/pin"), "{stored}");
}

#[test]
fn a_secret_that_is_away_or_shrinks_takes_nothing_from_devices() {
    let secrets = tempfile::tempdir().unwrap();
    put(secrets.path(), "ops/door", "pin", "1\n");
    put(secrets.path(), "ops/door", "token", "1\n");
    let mut there = start(secrets.path(), "", &fleet(DOOR));
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/door/token", "1\n");
    let versions = |there: &Installation| there.sql("select rendered_version from devices");
    let told = |there: &Installation, status: &str, word: &str| {
        eventually(&format!("{status} to be told: {word}"), || {
            let source = there.object("sources", "main")?;
            let all = source["status"]["conditions"].as_array()?.clone();
            let found = all.iter().find(|condition| condition["type"] == "SecretsReadable")?;
            (found["status"] == status && found["message"].as_str()?.contains(word)).then_some(())
        });
    };
    let before = versions(&there);

    fs::remove_file(secrets.path().join("ops/door/token")).unwrap();
    told(&there, "False", "(token)");
    fs::rename(secrets.path().join("ops"), secrets.path().join("gone")).unwrap();
    told(&there, "False", "ops/door");
    // A commit is applied meanwhile, with what was read last; so it is after a restart.
    for (n, place) in ["somewhere", "elsewhere"].into_iter().enumerate() {
        there.repo.write(
            "fleets/kiosks.yaml",
            fleet(DOOR)
                .replace(
                    "getOrDefault .metadata.labels \\\"site\\\" \\\"nowhere\\\"",
                    "getOrDefault .metadata.labels \\\"spot\\\" \\\"nowhere\\\"",
                )
                .replace("nowhere", place),
        );
        let commit = there.repo.commit(place);
        there.wait_applied(&commit);
        kiosk.wait_file("/etc/identity", &format!("kiosk-1 at {place}\n"));
        assert_eq!(versions(&there).trim().parse::<usize>().unwrap(), before.trim().parse::<usize>().unwrap() + n + 1);
        assert_eq!(kiosk.file("/etc/door/pin").as_deref(), Some("1\n"));
        assert_eq!(kiosk.file("/etc/door/token").as_deref(), Some("1\n"));
        if n == 0 {
            there.stop_service();
            there.start_service();
        }
    }
    assert_eq!(condition(&there.object("sources", "main").unwrap(), "SecretsReadable").1, "Unreadable");

    fs::rename(secrets.path().join("gone"), secrets.path().join("ops")).unwrap();
    put(secrets.path(), "ops/door", "token", "2\n");
    kiosk.wait_file("/etc/door/token", "2\n");
    told(&there, "True", "can be read");
}

#[test]
fn secrets_that_are_not_allowed_wait_with_the_reason() {
    let secrets = tempfile::tempdir().unwrap();
    put(secrets.path(), "ops/door", "pin", "1\n");
    put(secrets.path(), "bank/vault", "pin", "2\n");
    let mut there = start(secrets.path(), ", namespaces: [ops]", &fleet(DOOR));
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/door/pin", "1\n");
    there.repo.write("fleets/kiosks.yaml", fleet(&DOOR.replace("ops, name: door", "bank, name: vault")));
    let commit = there.repo.commit("the vault");
    there.wait_applied(&commit);
    let problem = there.sql("select problem from desired.fleets");
    assert!(problem.contains("bank/vault") && problem.contains("secrets.namespaces"), "{problem}");
    assert_eq!(kiosk.file("/etc/door/pin").as_deref(), Some("1\n"), "the fleet stays at its last revision");

    // Without any store the sentence names the setting, and nothing goes either.
    there.stop_service();
    there.set_git_settings("{pollInterval: 1s}");
    there.start_service();
    there.repo.write("fleets/kiosks.yaml", fleet(DOOR));
    let commit = there.repo.commit("the door again");
    there.wait_applied(&commit);
    let problem = there.sql("select problem from desired.fleets");
    assert!(problem.contains("secrets.directory"), "{problem}");
    assert_eq!(kiosk.file("/etc/door/pin").as_deref(), Some("1\n"));
}

#[test]
fn a_secret_written_again_as_it_was_moves_nobody_and_one_that_cannot_be_read_stays() {
    let secrets = tempfile::tempdir().unwrap();
    let (one, two) = ("Qx7-first-PIN\n", "Qx7-second-PIN\n");
    put(secrets.path(), "ops/door", "pin", one);
    let there = start(secrets.path(), "", &fleet(DOOR));
    let kiosk = there.start_device("kiosk-1");
    kiosk.wait_file("/etc/door/pin", one);
    // A commit, so that there is a plan to look at.
    there.repo.write("fleets/kiosks.yaml", fleet(DOOR).replace("nowhere", "somewhere"));
    there.wait_applied(&there.repo.commit("somewhere"));
    kiosk.wait_file("/etc/identity", "kiosk-1 at berlin\n");
    let state = || {
        there.sql(
            "select (select count(*) from desired.fleet_revisions), (select string_agg(rendered_version::text, ',') from devices),
                    (select count(*) from events where reason = 'ResourceSyncSynced')",
        )
    };
    let before = eventually("the device to rest", || {
        let source = there.object("sources", "main")?;
        (source["status"]["state"] == "Settled").then(state)
    });
    // Another file, and another directory, with the same content: as Kubernetes does when it writes a volume again.
    put(secrets.path(), "ops/door", "pin", one);
    some_looks(&there);
    put(secrets.path(), "next/door", "pin", one);
    exchange(&secrets.path().join("next"), &secrets.path().join("ops"));
    some_looks(&there);
    assert_eq!(state(), before);

    // In the place of the directory is a file: told, without what was read before, and nothing goes.
    fs::rename(secrets.path().join("ops"), secrets.path().join("away")).unwrap();
    fs::write(secrets.path().join("ops"), two).unwrap();
    let readable = |status: &str| {
        eventually(&format!("SecretsReadable to be {status}"), || {
            (condition(&there.object("sources", "main")?, "SecretsReadable").0 == status).then_some(())
        });
    };
    readable("False");
    assert_eq!(kiosk.file("/etc/door/pin").as_deref(), Some(one));
    let quiet = |state: &str| state.rsplit_once('|').map(|(front, _)| front.to_owned());
    assert_eq!(quiet(&state()), quiet(&before));
    fs::remove_file(secrets.path().join("ops")).unwrap();
    fs::rename(secrets.path().join("away"), secrets.path().join("ops")).unwrap();
    readable("True");
    assert_eq!(quiet(&state()), quiet(&before), "back with the same content");
    put(secrets.path(), "ops/door", "pin", two);
    kiosk.wait_file("/etc/door/pin", two);
    let revisions = |state: &str| state.split('|').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(revisions(&state()), revisions(&before) + 1);
    for (what, text) in &shown(&there) {
        for sign in [one, two].into_iter().flat_map(signs) {
            assert!(!text.contains(&sign), "{what} shows {sign}:\n{text}");
        }
    }
}
