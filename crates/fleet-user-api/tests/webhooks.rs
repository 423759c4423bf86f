//! Webhooks through the real router, over a real database.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use fleet_pki::CertificateAuthority;
use fleet_runtime::{CancellationToken, Clock, SystemClock};
use fleet_store::{Channel, ConnectOptions, Store};
use fleet_test::{TestDatabase, wait_for};
use fleet_user_api::{
    Authenticator, HintSender, LocalIssuer, UserApi, UserApiConfig, UserApiMetrics, Webhook, WebhookProvider,
    WebhookSecret,
};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const SOURCES: [(&str, &str, &str); 4] = [
    ("fleets", "https://git.example/team/fleets.git", "main"),
    ("fleets-ssh", "git@git.example:team/fleets.git", "main"),
    ("release", "https://git.example/team/fleets", "release"),
    ("other", "https://git.example/team/other", "main"),
];

struct World {
    store: Store,
    router: Router,
    hints: Option<HintSender>,
    registry: Registry,
    db: TestDatabase,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let db = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: db.url(), max_connections: 5 }).await.unwrap();
        store.migrate().await.unwrap();
        for (name, url, revision) in SOURCES {
            let values =
                format!("'00000000-0000-0000-0000-000000000000', '{name}', 'config', '{url}', '{revision}', '/'");
            db.psql(&format!(
                "insert into desired.sources (org_id, name, origin, url, revision, path) values ({values})"
            ))
            .unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let issuer = LocalIssuer::load_or_create(dir.path(), Arc::clone(&clock)).unwrap();
        let auth = Authenticator::new(Arc::clone(&clock), Some(&issuer), &[]).unwrap();
        let ca = Arc::new(CertificateAuthority::load_or_create(dir.path(), clock.now()).unwrap());
        let hook = |name: &str, prefix: Option<&str>| Webhook {
            name: name.to_owned(),
            provider: WebhookProvider::GitLab,
            secret: WebhookSecret::new(SECRET.to_owned()).unwrap(),
            url_prefix: prefix.map(str::to_owned),
            header: None,
        };
        let config = UserApiConfig {
            webhooks: vec![hook("hub", None), hook("narrow", Some("https://git.example/team/"))],
            ..UserApiConfig::new("https://fleet.example:7443")
        };
        let mut registry = Registry::default();
        let api = UserApi::new(store.clone(), auth, ca, clock, config, UserApiMetrics::new(&mut registry));
        Self { store, router: api.router(), hints: api.hint_sender(), registry, db, _dir: dir }
    }

    async fn post(&self, hook: &str, token: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::post(format!("/api/v1/webhooks/{hook}")).header("x-gitlab-token", token);
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    fn counted(&self, hook: &str, result: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let labels = format!("webhook_requests_total{{hook=\"{hook}\",result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&labels)?.parse().ok()).unwrap_or(0)
    }
}

fn push(name: &str) -> String {
    json!({"ref": name, "project": {"git_http_url": "https://git.example/team/fleets.git"}}).to_string()
}

#[tokio::test]
async fn a_push_wakes_the_sources_that_follow_it_and_notes_when() {
    let mut world = World::new().await;
    let mut listener = world.store.listen().await.unwrap();
    let end = CancellationToken::new();
    let sender = world.hints.take().unwrap().run(end.clone());
    let work = async {
        let (code, answer) = world.post("hub", SECRET, push("refs/heads/main")).await;
        assert_eq!(code, StatusCode::ACCEPTED);
        assert_eq!((&answer["result"], &answer["sources"]), (&json!("accepted"), &json!(["fleets", "fleets-ssh"])));
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let next = tokio::time::timeout(Duration::from_secs(30), listener.next()).await.unwrap().unwrap();
            heard.extend(next.filter(|(channel, _)| *channel == Channel::Sources).map(|(_, name)| name));
        }
        heard.sort();
        assert_eq!(heard, ["fleets", "fleets-ssh"]);
        let noted = world.db.psql("select string_agg(source, ' ' order by source) from source_hints").unwrap();
        assert_eq!(noted.trim(), "fleets fleets-ssh");
        let narrow = world.post("narrow", SECRET, push("refs/heads/main")).await;
        assert_eq!(narrow.1["sources"], json!(["fleets"]), "only below its prefix");
        let unmatched = world.post("hub", SECRET, push("refs/heads/feature")).await;
        assert_eq!((unmatched.0, &unmatched.1["result"]), (StatusCode::ACCEPTED, &json!("unmatched")));
        end.cancel();
    };
    tokio::join!(sender, work);
    assert_eq!((world.counted("hub", "accepted"), world.counted("hub", "unmatched")), (1, 1));
    assert_eq!(world.db.psql("select count(*) from events").unwrap().trim(), "0");
}

#[tokio::test]
async fn a_push_to_a_repository_that_manifests_take_content_from_wakes_their_sources() {
    let mut world = World::new().await;
    let org = "00000000-0000-0000-0000-000000000000";
    for (name, url) in [("content", "ssh://git@git.example:22/team/Content.git"), ("web", "https://web.example/files")]
    {
        let document = json!({"spec": {"type": "git", "url": url}});
        world
            .db
            .psql(&format!(
                "insert into desired.manifests (org_id, kind, name, source, file, line, end_line, document, digest, commit_id)
                 values ('{org}', 'Repository', '{name}', 'fleets', 'a', 1, 2, '{document}', '', '')"
            ))
            .unwrap();
    }
    for (source, repository, revision) in [
        ("other", "content", "main"),
        ("other", "content", "v2"),
        ("release", "content", "HEAD"),
        ("fleets", "web", "main"),
        ("fleets-ssh", "undefined", "main"),
    ] {
        let values = format!("'{org}', '{source}', '{repository}', '{revision}'");
        world.db.psql(&format!("insert into desired.takes_from values ({values})")).unwrap();
    }
    let mut listener = world.store.listen().await.unwrap();
    let end = CancellationToken::new();
    let sender = world.hints.take().unwrap().run(end.clone());
    let pushed =
        |name: &str| json!({"ref": name, "project": {"git_http_url": "https://git.example/team/content"}}).to_string();
    let work = async {
        let answer = world.post("hub", SECRET, pushed("refs/heads/main")).await.1;
        assert_eq!((&answer["result"], &answer["sources"]), (&json!("accepted"), &json!(["other", "release"])));
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let next = tokio::time::timeout(Duration::from_secs(30), listener.next()).await.unwrap().unwrap();
            heard.extend(next.filter(|(channel, _)| *channel == Channel::Sources).map(|(_, name)| name));
        }
        heard.sort();
        assert_eq!(heard, ["other", "release"]);
        let noted = world.db.psql("select count(*) from source_hints").unwrap();
        assert_eq!(noted.trim(), "0", "their own repositories were not announced to have changed");
        let feature = world.post("hub", SECRET, pushed("refs/heads/feature")).await.1;
        assert_eq!(feature["sources"], json!(["release"]), "placeholders may lead to any branch");
        let narrow = world.post("narrow", SECRET, pushed("refs/heads/main")).await.1;
        assert_eq!(narrow["result"], "unmatched", "the Repository does not lie below the hook's prefix");
        end.cancel();
    };
    tokio::join!(sender, work);
    let mut answers = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        assert_eq!(world.post("hub", SECRET, pushed("refs/tags/v2")).await.0, StatusCode::ACCEPTED);
        answers.push(began.elapsed());
    }
    answers.sort();
    assert!(answers[10] < Duration::from_millis(20), "answers wait for nothing: {answers:?}");
}

#[tokio::test]
async fn an_unknown_hook_and_a_wrong_secret_are_answered_alike() {
    let world = World::new().await;
    let wrong = world.post("hub", "another-token-of-32-bytes-length", push("refs/heads/main")).await;
    let unknown = world.post("nothing", SECRET, push("refs/heads/main")).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong, unknown);
    assert_eq!(world.post("hub", "", "").await, unknown);
    assert_eq!((world.counted("hub", "refused"), world.counted("-", "refused")), (2, 1));
    let giant = vec![b' '; (1 << 20) + 1];
    let too_large = world.post("hub", SECRET, giant.clone()).await;
    assert_eq!(too_large.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(too_large, world.post("nothing", "", giant).await);
    let odd = world.post("hub", SECRET, "{").await;
    assert_eq!(odd.0, StatusCode::BAD_REQUEST);
    // Replayed requests are taken: they cost a poll.
    let first = world.post("hub", SECRET, push("refs/heads/main")).await;
    assert_eq!(first, world.post("hub", SECRET, push("refs/heads/main")).await);
}

#[tokio::test]
async fn a_hint_is_answered_while_the_database_answers_nobody() {
    let world = World::new().await;
    assert_eq!(world.post("hub", SECRET, push("refs/heads/main")).await.0, StatusCode::ACCEPTED);
    let before = world.db.psql("select count(*) from source_hints").unwrap();
    let lock = "begin; lock table desired.sources, desired.takes_from, source_hints in access exclusive mode; select pg_sleep(55); commit";
    let url = world.db.url();
    let mut holder = std::process::Command::new("psql").args([&url, "-c", lock]).spawn().unwrap();
    wait_for("the lock", Duration::from_secs(25), || async {
        let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'source_hints'::regclass and granted";
        (world.db.psql(held).unwrap().trim() == "1").then_some(())
    })
    .await;
    let mut answers = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        let (code, answer) = world.post("hub", SECRET, push("refs/heads/main")).await;
        assert_eq!((code, &answer["result"]), (StatusCode::ACCEPTED, &json!("accepted")));
        answers.push(began.elapsed());
    }
    answers.sort();
    // When the list of sources is five seconds old, one of them gives the database two seconds.
    let waited = answers.iter().filter(|took| **took >= Duration::from_secs(2)).count();
    assert!(waited <= 5 && answers[50] < Duration::from_secs(1), "none waits for the lock: {answers:?}");
    let end = "select pg_terminate_backend(pid) from pg_locks
               where mode = 'AccessExclusiveLock' and relation = 'source_hints'::regclass";
    world.db.psql(end).unwrap();
    holder.wait().unwrap();
    assert_eq!(before.trim(), "0", "no request writes; that is the task's, which did not run");
}

#[tokio::test]
async fn a_thousand_hints_become_a_few_statements() {
    let mut world = World::new().await;
    let mut listener = world.store.listen().await.unwrap();
    let end = CancellationToken::new();
    let sender = world.hints.take().unwrap().run(end.clone());
    let work = async {
        let (mut taken, mut limited) = (0, 0);
        for _ in 0..1_000 {
            match world.post("hub", SECRET, push("refs/heads/release")).await.0 {
                StatusCode::ACCEPTED => taken += 1,
                StatusCode::TOO_MANY_REQUESTS => limited += 1,
                code => panic!("{code}"),
            }
        }
        assert!(taken >= 300, "{taken} taken, {limited} limited");
        // The first one comes for sure; others as long as there are some.
        let first = tokio::time::timeout(Duration::from_secs(30), listener.next()).await.unwrap();
        let mut heard = usize::from(first.unwrap().is_some());
        while let Ok(next) = tokio::time::timeout(Duration::from_millis(500), listener.next()).await {
            heard += usize::from(next.unwrap().is_some());
        }
        println!("{taken} taken, {limited} limited, {heard} notifications");
        assert!(heard >= 1 && heard * 5 <= taken, "{heard} notifications for {taken} hints");
        end.cancel();
    };
    tokio::join!(sender, work);
}
