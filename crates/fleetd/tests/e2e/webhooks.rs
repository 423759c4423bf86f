//! Webhooks as Git hosts send them: a push is applied at once though the next poll is minutes away.

use std::time::{Duration, Instant};

use fleet_pki::tls::{TlsTime, client_config};
use fleet_test::git_server::GitServer;
use fleet_test::{GitRepo, TestDatabase};
use serde_json::{Value, json};

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};
use crate::repositories::repository;

const SECRET: &str = "an e2e secret of some length";

/// A Git host over HTTPS with the bare repository that the service's only source is at; a poll comes every ten minutes.
struct World {
    there: Installation,
    /// What people push from.
    repo: GitRepo,
    root: tempfile::TempDir,
    url: String,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    server: GitServer,
}

impl World {
    fn start() -> Self {
        Self::start_with("- {name: hub, provider: github, secretFile: '{secret}'}")
    }

    /// With these hooks, whose secret lies in `{secret}`.
    fn start_with(hooks: &str) -> Self {
        let repo = GitRepo::init();
        for (path, content) in FILES {
            repo.write(path, content);
        }
        let first = repo.commit("first");
        let root = tempfile::Builder::new().prefix("shorebase-git").tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        repo.git(&["clone", "--quiet", "--bare", ".", root.path().join("fleet.git").to_str().unwrap()]);
        let server = GitServer::start(root.path(), None).unwrap();
        let url = server.https_url("fleet.git");
        let (ca, secret) = (root.path().join("ca.pem"), root.path().join("secret"));
        std::fs::write(&ca, server.ca_pem()).unwrap();
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let settings = format!(
            "{{pollInterval: 10m, credentials: [{{urlPrefix: '{}', caFile: '{}'}}]}}\nwebhooks:\n{}",
            url.strip_suffix("fleet.git").unwrap(),
            ca.display(),
            hooks.replace("{secret}", secret.to_str().unwrap()),
        );
        let database = Database::Own(TestDatabase::create());
        let there = Installation::start_at(GitRepo::init(), &url, database, &settings);
        there.wait_applied(&first);
        let ca = std::fs::read_to_string(there.ca_file()).unwrap();
        let tls = client_config(&ca, None, &TlsTime::system()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(Duration::from_secs(10)).build().unwrap()
        });
        Self { there, repo, root, url, runtime, client, server }
    }

    /// Changes a file and pushes it. Returns the commit.
    fn push(&self, text: &str) -> String {
        self.repo.write("config/kiosk/etc/motd", text);
        let commit = self.repo.commit("change");
        self.repo.git(&["push", "--quiet", self.root.path().join("fleet.git").to_str().unwrap(), "main"]);
        commit
    }

    fn body(&self, name: &str) -> Vec<u8> {
        json!({"ref": name, "repository": {"clone_url": self.url}}).to_string().into_bytes()
    }

    /// Sends a body as GitHub does. Status, answer, and how long that took.
    fn send(&self, secret: &str, body: Vec<u8>) -> (u16, Value, Duration) {
        let signature = format!("sha256={}", signature(secret, &body));
        self.post("hub", &[("x-github-event", "push".to_owned()), ("x-hub-signature-256", signature)], body)
    }

    /// Sends a body to a hook. Status, answer, and how long that took.
    fn post(&self, hook: &str, headers: &[(&str, String)], body: Vec<u8>) -> (u16, Value, Duration) {
        let started = Instant::now();
        self.runtime.block_on(async {
            let mut request = self
                .client
                .post(format!("{}/api/v1/webhooks/{hook}", self.there.user_url()))
                .header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            let answer = request.body(body).send().await.unwrap();
            let (code, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            (code, serde_json::from_str(&text).unwrap(), started.elapsed())
        })
    }

    fn applied(&self) -> String {
        self.there.sql("select applied_commit from desired.sources where name = 'main'")
    }

    /// The sum of the counters that begin so.
    fn counted(&self, names: &[&str]) -> u64 {
        let metrics = self.there.http_get("/metrics").unwrap();
        let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        metrics.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).filter_map(value).sum()
    }

    /// Does something of which the host is not asked anything. A service that has just started looks a second time by itself,
    /// and counts a look after it has written what came of it: then it is done again.
    fn nobody_asks(&self, what: impl Fn()) {
        eventually("nobody to ask the host", || {
            let seen = || (self.applied(), self.looks(), self.server.requests().len());
            let before = seen();
            what();
            std::thread::sleep(Duration::from_millis(700));
            (seen() == before).then_some(())
        });
    }

    /// How often the source was looked at.
    fn looks(&self) -> u64 {
        self.counted(&[
            "shorebase_syncer_sync_polls_unchanged_total",
            "shorebase_syncer_sync_commits_applied_total",
            "shorebase_syncer_sync_commits_refused_total",
            "shorebase_syncer_sync_failures_total",
        ])
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    aws_lc_rs::hmac::sign(&key, body).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_signed_webhook_has_a_push_applied_and_a_forged_one_does_nothing() {
    let world = World::start();
    world.nobody_asks(|| {
        let (code, answer, _) = world.send("another secret of some length", world.body("refs/heads/main"));
        assert_eq!((code, &answer["kind"]), (401, &json!("Status")));
        let (code, answer, _) = world.send(SECRET, world.body("refs/heads/feature"));
        assert_eq!((code, &answer["result"]), (202, &json!("unmatched")));
    });
    let pushed = world.push("second\n");
    let (code, answer, _) = world.send(SECRET, world.body("refs/heads/main"));
    assert_eq!((code, &answer["sources"]), (202, &json!(["main"])));
    world.there.wait_applied(&pushed);
    let source = world.there.object("sources", "main").unwrap();
    assert!(source["status"]["lastHintAt"].is_string(), "{source}");
    let told = world.there.fleetctl_ok(&["describe", "source", "main"]);
    assert!(told.contains("lastHintAt"), "{told}");
    assert!(!world.there.service_log().contains(SECRET));

    // The branch is removed: the source says so, and keeps what it has.
    world.repo.git(&[
        "--git-dir",
        world.root.path().join("fleet.git").to_str().unwrap(),
        "update-ref",
        "-d",
        "refs/heads/main",
    ]);
    let mut gone: Value = serde_json::from_slice(&world.body("refs/heads/main")).unwrap();
    gone["deleted"] = true.into();
    assert_eq!(world.send(SECRET, gone.to_string().into_bytes()).0, 202);
    eventually("the branch to be missed", || {
        let source = world.there.object("sources", "main")?;
        let conditions = source["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|c| c["type"] == "SourceReachable" && c["reason"] == "RefMissing").then_some(())
    });
    assert_eq!(world.applied(), pushed);
}

#[test]
fn a_push_to_a_repository_that_fleets_take_content_from_is_followed_at_once() {
    let world = World::start();
    let content = GitRepo::init();
    content.write("base/etc/shared.conf", "one\n");
    content.commit("one");
    let bare = world.root.path().join("content.git");
    content.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let url = world.url.replace("fleet.git", "content.git");
    let fleet = FILES[0].1.replace(
        "            repository: .\n            path: config/kiosk\n",
        "            repository: shared\n            targetRevision: main\n            path: /base\n",
    );
    world.repo.write("fleets/kiosks.yaml", fleet).write("repositories.yaml", repository("shared", &url));
    let pushed = world.push("with content of another repository\n");
    world.send(SECRET, world.body("refs/heads/main"));
    world.there.wait_applied(&pushed);
    content.write("base/etc/shared.conf", "two\n");
    let second = content.commit("two");
    content.git(&["push", "--quiet", bare.to_str().unwrap(), "main"]);
    // The list of what sources take content from is read every few seconds.
    let started = Instant::now();
    eventually("the repository to be known", || {
        let body = json!({"ref": "refs/heads/main", "repository": {"ssh_url": url.replace("https://", "ssh://git@")}});
        let (code, answer, _) = world.send(SECRET, body.to_string().into_bytes());
        (code == 202 && answer["sources"] == json!(["main"])).then_some(())
    });
    eventually("the new content", || {
        let pinned = "select r.inputs::text from desired.fleets f join desired.fleet_revisions r on r.fleet = f.name and r.name = f.revision";
        world.there.sql(pinned).contains(&second).then_some(())
    });
    assert!(started.elapsed() < Duration::from_secs(300), "long before the next poll");
}

#[test]
fn a_burst_of_hints_makes_a_few_looks_and_the_last_push_is_not_lost() {
    let world = World::start();
    let looks = world.looks();
    let started = Instant::now();
    let mut pushed = String::new();
    for round in 0..200 {
        if round % 40 == 39 {
            pushed = world.push(&format!("round {round}\n"));
        }
        let (code, answer, _) = world.send(SECRET, world.body("refs/heads/main"));
        assert_eq!(code, 202, "{answer}");
    }
    let burst = started.elapsed();
    world.there.wait_applied(&pushed);
    // A look is counted a moment after it wrote what came of it.
    let made = eventually("a look", || Some(world.looks() - looks).filter(|made| *made >= 1));
    println!("200 hints in {burst:?}: {made} looks");
    // Three at once and two a second, and those of the start; wait_applied took some time too.
    let most = 5 + 2 * (started.elapsed().as_secs() + 1);
    assert!(made <= most, "{made} looks for 200 hints in {burst:?}, at most {most}");
    assert_eq!(world.counted(&["shorebase_user_api_webhook_requests_total{hook=\"hub\",result=\"accepted\"}"]), 200);
}

#[test]
fn a_push_that_a_proven_webhook_did_not_announce_is_counted() {
    let world = World::start();
    let missed = || world.counted(&["shorebase_syncer_webhook_missed_total"]);
    let sync = |commit: &str| {
        world.there.fleetctl_ok(&["sync", "main"]);
        world.there.wait_applied(commit);
    };
    sync(&world.push("found by hand, and no webhook was ever seen\n"));
    let announced = world.push("announced\n");
    world.send(SECRET, world.body("refs/heads/main"));
    world.there.wait_applied(&announced);
    assert_eq!(missed(), 0);
    // Further back than the slack for clocks that differ.
    std::thread::sleep(Duration::from_millis(2_500));
    world.there.fleetctl_ok(&["sync", "main", "--wait"]);
    std::thread::sleep(Duration::from_millis(2_500));
    world.there.fleetctl_ok(&["sync", "main", "--wait"]);
    sync(&world.push("not announced\n"));
    assert_eq!(missed(), 0, "it may still come");
    std::thread::sleep(Duration::from_millis(5_100));
    eventually("the missed announcement to be counted", || {
        world.there.fleetctl_ok(&["sync", "main", "--wait"]);
        (missed() == 1).then_some(())
    });
}

/// A push to a branch as each kind of host tells it: hook, body, and the headers that prove it.
type Told = (&'static str, Value, fn(&str, &[u8]) -> Vec<(&'static str, String)>);

fn told_by_hosts(url: &str, branch: &str) -> Vec<Told> {
    use base64::Engine as _;
    let (name, web) = (format!("refs/heads/{branch}"), url.trim_end_matches(".git"));
    let at = json!({"ref": name, "repository": {"clone_url": url}});
    vec![
        ("github", at.clone(), |secret, body| {
            vec![
                ("x-github-event", "push".to_owned()),
                ("x-hub-signature-256", format!("sha256={}", signature(secret, body))),
            ]
        }),
        ("gitea", at, |secret, body| {
            vec![("x-gitea-event", "push".to_owned()), ("x-gitea-signature", signature(secret, body))]
        }),
        ("gitlab", json!({"object_kind": "push", "ref": name, "project": {"git_http_url": url}}), |secret, _| {
            vec![("x-gitlab-event", "Push Hook".to_owned()), ("x-gitlab-token", secret.to_owned())]
        }),
        (
            "bitbucket",
            json!({
                "push": {"changes": [{"new": {"type": "branch", "name": branch}}]},
                "repository": {"full_name": "fleet", "links": {"html": {"href": web}}},
            }),
            |secret, body| {
                vec![
                    ("x-event-key", "repo:push".to_owned()),
                    ("x-hub-signature", format!("sha256={}", signature(secret, body))),
                ]
            },
        ),
        (
            "azure",
            json!({
                "eventType": "git.push",
                "resource": {"refUpdates": [{"name": name}], "repository": {"remoteUrl": url}},
            }),
            |secret, _| {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("fleetd:{secret}"));
                vec![("authorization", format!("Basic {pair}"))]
            },
        ),
        ("generic", json!({"url": url, "ref": branch}), |secret, body| {
            vec![("x-shorebase-signature-256", format!("sha256={}", signature(secret, body)))]
        }),
    ]
}

#[test]
fn every_kind_of_host_is_believed_by_its_own_proof_and_asked_only_when_it_concerns_a_source() {
    let hooks = ["github", "gitea", "gitlab", "bitbucket", "azure", "generic"]
        .map(|kind| format!("- {{name: {kind}, provider: {kind}, secretFile: '{{secret}}'}}"));
    let world = World::start_with(&hooks.join("\n"));
    let asked = || world.server.requests().len();
    let bytes = |body: &Value| body.to_string().into_bytes();
    let (ours, theirs) = (told_by_hosts(&world.url, "main"), told_by_hosts(&world.url, "feature"));
    // Nothing of this has the host asked anything.
    world.nobody_asks(|| {
        for ((hook, body, prove), (_, other, _)) in ours.iter().zip(&theirs) {
            let body = bytes(body);
            let (code, answer, _) = world.post(hook, &prove("another secret of some length", &body), body.clone());
            assert_eq!((code, &answer["kind"]), (401, &json!("Status")), "{hook}");
            assert_eq!(world.post(hook, &[], body.clone()).0, 401, "{hook} without a proof");
            let (code, answer, _) = world.post("nobody", &prove(SECRET, &body), body.clone());
            assert_eq!((code, &answer["kind"]), (401, &json!("Status")), "{hook} at a hook that is not there");
            let other = bytes(other);
            let (code, answer, _) = world.post(hook, &prove(SECRET, &other), other.clone());
            assert_eq!((code, &answer["result"]), (202, &json!("unmatched")), "{hook}: {answer}");
            let large = [body, vec![b' '; 1 << 20]].concat();
            assert_eq!(world.post(hook, &prove(SECRET, &large), large.clone()).0, 413, "{hook}");
            let broken = b"{\"ref\": ".to_vec();
            assert_eq!(world.post(hook, &prove(SECRET, &broken), broken.clone()).0, 400, "{hook}");
        }
    });
    // What concerns a source has it looked at; sent again it costs a look and changes nothing.
    let mut quickest = Duration::MAX;
    for (hook, body, prove) in &ours {
        let body = bytes(body);
        let pushed = world.push(&format!("pushed to {hook}\n"));
        let (code, answer, took) = world.post(hook, &prove(SECRET, &body), body.clone());
        assert_eq!((code, &answer["sources"]), (202, &json!(["main"])), "{hook}: {answer}");
        quickest = quickest.min(took);
        world.there.wait_applied(&pushed);
    }
    assert!(quickest < Duration::from_secs(2), "{quickest:?}: answers do not wait for the host");
    let (before, looks, replayed) = (asked(), world.looks(), Instant::now());
    let plans = || world.there.sql("select count(*) from desired.commits");
    let commits = plans();
    let (hook, body, prove) = &ours[0];
    for _ in 0..20 {
        let body = bytes(body);
        assert_eq!(world.post(hook, &prove(SECRET, &body), body.clone()).0, 202);
    }
    eventually("a look", || (world.looks() > looks).then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    let asked = asked() - before;
    // Three looks at once and two a second, one request each, and what the last push still had to ask.
    let most = 4 + 2 * usize::try_from(replayed.elapsed().as_secs() + 1).unwrap();
    assert!(asked <= most && plans() == commits, "{asked} requests for 20 replays, at most {most}");
    let log = world.there.service_log();
    assert!(!log.contains(SECRET));
}
