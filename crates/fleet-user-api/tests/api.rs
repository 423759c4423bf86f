//! The users' interface through its real router, over a real database.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{Method, Request, StatusCode};
use fleet_model::{OrgId, Role};
use fleet_pki::{CertificateAuthority, DeviceKey};
use fleet_runtime::{Clock, SystemClock};
use fleet_store::{Channel, ConnectOptions, Store, complete_enrollment, read_enrollments};
use fleet_test::{TestDatabase, wait_for};
use fleet_user_api::{Authenticator, LocalIssuer, PERMITTED_WRITES, UserApi, UserApiConfig, UserApiMetrics};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

#[path = "api/decisions.rs"]
mod decisions;

struct World {
    store: Store,
    router: Router,
    issuer: LocalIssuer,
    db: TestDatabase,
    _dir: tempfile::TempDir,
}

struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn ok(self) -> Value {
        assert_eq!(self.code, StatusCode::OK, "{}", self.body);
        self.body
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl World {
    async fn new() -> Self {
        Self::with_wait(Duration::from_millis(300)).await
    }

    /// As [`Self::new`], where an approval waits so long for the certificate.
    async fn with_wait(approval_wait: Duration) -> Self {
        let db = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: db.url(), max_connections: 5 }).await.unwrap();
        store.migrate().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let issuer = LocalIssuer::load_or_create(dir.path(), Arc::clone(&clock)).unwrap();
        let auth = Authenticator::new(Arc::clone(&clock), Some(&issuer), &[]).unwrap();
        let ca = Arc::new(CertificateAuthority::load_or_create(dir.path(), clock.now()).unwrap());
        let config = UserApiConfig { approval_wait, ..UserApiConfig::new("https://fleet.example:7443") };
        let router = UserApi::new(store.clone(), auth, ca, clock, config, UserApiMetrics::default()).router();
        Self { store, router, issuer, db, _dir: dir }
    }

    fn sql(&self, sql: &str) -> String {
        self.db.psql(sql).unwrap()
    }

    fn token(&self, role: Role) -> String {
        self.issuer.mint("ann", role, Duration::from_secs(600)).unwrap()
    }

    async fn raw(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { code: parts.status, headers: parts.headers, body }
    }

    async fn send(&self, role: Role, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(AUTHORIZATION, format!("Bearer {}", self.token(role)))
            .header(CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.raw(request.body(body).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Role::Viewer, Method::GET, path, None).await
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let body = self.get(path).await.ok();
        let items = body["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// One source with a fleet, a repository and a device, and three devices.
    fn fill(&self) {
        self.sql(
            r#"
insert into desired.sources (org_id, name, origin, url, revision, path, observed_commit, applied_commit, applied_at, last_polled_at, conditions, diagnostics)
values ('00000000-0000-0000-0000-000000000000', 'fleets', 'config', 'https://robot:secret@git.example/fleets.git', 'main', '/',
  'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '2026-01-02T03:04:05.6Z', '2026-01-02T03:05:00.123456Z',
  '[{"type":"Parsed","status":"False","reason":"Findings","message":"1 error","lastTransitionTime":"2026-01-02T03:05:00Z"}]',
  '[{"code":"SB0101","severity":"error","message":"unknown field `selctor`","file":"fleets/pos.yaml","line":7,"column":3,"endLine":7,"endColumn":10,"hint":"did you mean `selector`?"}]');
insert into desired.manifests (org_id, kind, name, source, file, line, end_line, document, digest, commit_id) values
 ('00000000-0000-0000-0000-000000000000', 'Fleet', 'pos', 'fleets', 'fleets/pos.yaml', 3, 20,
  '{"apiVersion":"flightctl.io/v1beta1","kind":"Fleet","metadata":{"name":"pos","labels":{"team":"shops"}},"spec":{"selector":{"matchLabels":{"site":"berlin"}},"template":{"spec":{"os":{"image":"quay.example/os:1"}}}}}', '\x00', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'),
 ('00000000-0000-0000-0000-000000000000', 'Repository', 'shared', 'fleets', 'repos.yaml', 1, 9,
  '{"apiVersion":"flightctl.io/v1beta1","kind":"Repository","metadata":{"name":"shared"},"spec":{"type":"git","url":"https://u:p@git.example/x","httpConfig":{"password":"hunter2"}}}', '\x00', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
insert into desired.fleet_revisions (org_id, fleet, name, digest, template, inputs, source, commit_id)
values ('00000000-0000-0000-0000-000000000000', 'pos', 'pos-1234', '\x00', '{"os":{"image":"quay.example/os:1"}}', '[]', 'fleets', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
insert into desired.fleets (org_id, name, source, revision) values ('00000000-0000-0000-0000-000000000000', 'pos', 'fleets', 'pos-1234');
insert into rendered.specs (digest, body) values ('\xabababababababababababababababababababababababababababababababab', '{"config":[{"inline":[],"name":"all"}],"z":1}');
insert into devices (org_id, name, labels, owner_fleet, fleet_revision, source, commit_id, rendered_version, rendered_digest, reported_version, summary_status, updated_status, applications_status, change_seq) values
 ('00000000-0000-0000-0000-000000000000', 'aaaaaaaaaaaaaaaa', '{"site":"berlin","alias":"till-1"}', 'pos', 'pos-1234', 'fleets', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 2, '\xabababababababababababababababababababababababababababababababab', 1, 'Online', 'UpToDate', 'Healthy', 11),
 ('00000000-0000-0000-0000-000000000000', 'bbbbbbbbbbbbbbbb', '{"site":"berlin"}', 'pos', 'pos-1234', null, null, 1, null, 1, 'Online', 'UpToDate', 'Healthy', 12),
 ('00000000-0000-0000-0000-000000000000', 'cccccccccccccccc', '{"site":"paris"}', null, null, null, null, 0, null, 0, 'Unknown', 'Unknown', 'Unknown', 13);
insert into device_status (org_id, name, document, received_at) values
 ('00000000-0000-0000-0000-000000000000', 'aaaaaaaaaaaaaaaa', '{"conditions":[],"summary":{"status":"Online","info":"fine"},"updated":{"status":"UpToDate"},"config":{"renderedVersion":"1"},"systemInfo":{"architecture":"amd64","bootID":"b","operatingSystem":"linux","agentVersion":"1","hostname":"till"}}', now());
insert into device_liveness (org_id, name, last_seen) values
 ('00000000-0000-0000-0000-000000000000', 'aaaaaaaaaaaaaaaa', now()),
 ('00000000-0000-0000-0000-000000000000', 'bbbbbbbbbbbbbbbb', now() - interval '1 hour');
"#,
        );
    }

    fn enroll(&self, name: &str) {
        self.sql(&format!(
            "insert into enrollments (org_id, name, csr, labels) values ('{}', '{name}', 'PEM', '{{\"alias\":\"till\"}}')",
            OrgId::DEFAULT
        ));
    }

    fn events(&self) -> String {
        self.sql("select string_agg(kind || ' ' || name || ' ' || reason || ' ' || actor, ';' order by id) from events")
            .trim()
            .to_owned()
    }
}

const PATHS: [&str; 31] = [
    "/devices",
    "/devices/x",
    "/devices/x/rendered",
    "/devices/x/lastseen",
    "/fleets",
    "/fleets/x",
    "/fleets/x/templateversions",
    "/fleets/x/templateversions/y",
    "/repositories",
    "/repositories/x",
    "/resourcesyncs",
    "/resourcesyncs/x",
    "/labels",
    "/events",
    "/sources",
    "/sources/x",
    "/sources/x/sync",
    "/sources/x/approve",
    "/sources/x/reject",
    "/sources/x/suspend",
    "/sources/x/resume",
    "/sources/x/plans",
    "/sources/x/plans/y",
    "/enrollmentrequests",
    "/enrollmentrequests/x",
    "/enrollmentrequests/x/approval",
    "/certificatesigningrequests",
    "/certificatesigningrequests/x",
    "/enrollmentconfig",
    "/organizations",
    "/webhooks/x",
];

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

#[tokio::test]
async fn every_path_and_method_asks_for_a_token_first() {
    let world = World::new().await;
    let asks = PATHS.into_iter().filter(|path| *path != "/webhooks/x");
    for path in asks.chain(["/version", "/auth/userinfo"]) {
        for method in METHODS {
            let request = Request::builder().method(method.clone()).uri(format!("/api/v1{path}"));
            let answer = world.raw(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.code, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer realm=\"shorebase\"");
            assert_eq!(answer.body["kind"], "Status");
        }
    }
    let open = world.raw(Request::get("/api/v1/auth/config").body(Body::empty()).unwrap()).await;
    assert_eq!(open.ok()["providers"], json!([]));
}

#[tokio::test]
async fn only_the_permitted_writes_exist_and_only_for_their_roles() {
    let world = World::new().await;
    for path in PATHS {
        for method in METHODS.into_iter().skip(1) {
            let permitted =
                PERMITTED_WRITES.iter().find(|w| w.method == method && w.path.replace("{name}", "x") == path);
            for role in Role::ALL {
                let code = world.send(role, method.clone(), path, Some(json!({}))).await.code;
                let what = format!("{method} {path} as {role}: {code}");
                match permitted {
                    // Nobody's role opens a webhook, only its secret.
                    Some(write) if write.action.roles().is_empty() => {
                        assert_eq!(code, StatusCode::UNAUTHORIZED, "{what}");
                    }
                    Some(write) if write.action.roles().contains(&role) => {
                        assert!(matches!(code, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND), "{what}");
                    }
                    Some(_) => assert_eq!(code, StatusCode::FORBIDDEN, "{what}"),
                    None => {
                        assert!(matches!(code, StatusCode::METHOD_NOT_ALLOWED | StatusCode::FORBIDDEN), "{what}");
                    }
                }
            }
        }
    }
    assert_eq!(world.events(), "");
}

#[tokio::test]
async fn installers_see_enrolment_only_and_viewers_no_rendered_documents() {
    let world = World::new().await;
    world.fill();
    for (role, path, code) in [
        (Role::Installer, "/devices", 403),
        (Role::Installer, "/sources", 403),
        (Role::Installer, "/enrollmentrequests", 200),
        (Role::Installer, "/version", 200),
        (Role::Viewer, "/devices/aaaaaaaaaaaaaaaa/rendered", 403),
        (Role::Operator, "/devices/aaaaaaaaaaaaaaaa/rendered", 200),
        (Role::Viewer, "/enrollmentconfig?csr=x", 403),
    ] {
        let answer = world.send(role, Method::GET, path, None).await;
        assert_eq!(answer.code.as_u16(), code, "{role} {path}: {}", answer.body);
    }
    let refused = world.send(Role::Viewer, Method::GET, "/devices/aaaaaaaaaaaaaaaa/rendered", None).await;
    assert_eq!(refused.message(), "ann has viewer; this needs operator or admin");
}

#[tokio::test]
async fn a_write_of_desired_state_is_told_where_the_object_is_defined() {
    let world = World::new().await;
    let body = |name: &str| Some(json!({"kind": "Fleet", "metadata": {"name": name}}));
    let none = world.send(Role::Admin, Method::POST, "/fleets", body("pos")).await;
    assert_eq!(none.code, StatusCode::METHOD_NOT_ALLOWED);
    assert!(none.message().contains("no source is configured yet"), "{}", none.message());
    world.fill();
    let want = "Fleet \"pos\" comes from Git and cannot be changed here: it is defined in fleets/pos.yaml:3 of \
                https://git.example/fleets.git (main), source \"fleets\"; change it there, and it is applied once it is merged";
    for (method, path) in [
        (Method::PUT, "/fleets/pos"),
        (Method::PATCH, "/fleets/pos"),
        (Method::DELETE, "/fleets/pos"),
        (Method::POST, "/fleets"),
        (Method::DELETE, "/fleets/pos/templateversions/pos-1234"),
    ] {
        let answer = world.send(Role::Admin, method, path, body("pos")).await;
        assert_eq!((answer.code, answer.message()), (StatusCode::METHOD_NOT_ALLOWED, want), "{path}");
        assert_eq!(answer.headers[ALLOW], "GET, HEAD");
        assert_eq!(answer.body["reason"], "Method Not Allowed");
    }
    let device = world.send(Role::Operator, Method::PATCH, "/devices/cccccccccccccccc", Some(json!([]))).await;
    assert!(device.message().contains("Device \"cccccccccccccccc\" is not defined yet"), "{}", device.message());
    assert!(device.message().contains("\"fleets\" (https://git.example/fleets.git at main)"), "{}", device.message());
}

#[tokio::test]
async fn a_device_shows_its_state_as_the_service_sees_it() {
    let world = World::new().await;
    world.fill();
    let mut device = world.get("/devices/aaaaaaaaaaaaaaaa").await.ok();
    assert!(device["metadata"]["creationTimestamp"].take().as_str().unwrap().ends_with('Z'));
    assert!(device["status"]["lastSeen"].take().is_string());
    assert_eq!(
        device,
        json!({
            "apiVersion": "flightctl.io/v1beta1",
            "kind": "Device",
            "metadata": {
                "name": "aaaaaaaaaaaaaaaa",
                "labels": {"site": "berlin", "alias": "till-1"},
                "annotations": {
                    "device-controller/renderedVersion": "2",
                    "device-controller/renderedSpecHash": "ab".repeat(32),
                    "fleet-controller/templateVersion": "pos-1234",
                    "fleet-controller/renderedTemplateVersion": "pos-1234",
                    "shorebase/source": "fleets",
                    "shorebase/commit": "a".repeat(40),
                },
                "owner": "Fleet/pos",
                "generation": 1,
                "resourceVersion": "11",
                "creationTimestamp": null,
            },
            "spec": {"os": {"image": "quay.example/os:1"}},
            "status": {
                "conditions": [{"type": "SpecValid", "status": "True", "reason": "Valid", "message": "",
                    "lastTransitionTime": device["status"]["conditions"][0]["lastTransitionTime"]}],
                "systemInfo": {"architecture": "amd64", "bootID": "b", "operatingSystem": "linux", "agentVersion": "1", "hostname": "till"},
                "applications": [],
                "applicationsSummary": {"status": "Healthy"},
                "resources": {"cpu": "Unknown", "memory": "Unknown", "disk": "Unknown"},
                "integrity": {"status": "Unknown"},
                "config": {"renderedVersion": "1"},
                "os": {"image": "", "imageDigest": ""},
                "updated": {"status": "OutOfDate", "info": "the device is at version 1 of 2"},
                "summary": {"status": "Online", "info": "fine"},
                "lifecycle": {"status": "Enrolled"},
                "lastSeen": null,
            },
        })
    );
    // The typed form reads it too.
    let typed: fleet_model::Device = serde_json::from_value({
        let mut whole = device;
        whole["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        whole
    })
    .unwrap();
    assert_eq!(typed.status.unwrap().summary.status, "Online");
    let missing = world.get("/devices/zzz").await;
    assert_eq!((missing.code.as_u16(), missing.message()), (404, "Device of name \"zzz\" not found"));
    assert_eq!(world.get("/devices/a%00b").await.code.as_u16(), 404);
}

#[tokio::test]
async fn rendered_documents_are_passed_on_byte_for_byte() {
    let world = World::new().await;
    world.fill();
    let path = "/devices/aaaaaaaaaaaaaaaa/rendered";
    let answer = world.send(Role::Operator, Method::GET, path, None).await.ok();
    assert_eq!(answer["spec"], json!({"config": [{"inline": [], "name": "all"}], "z": 1}));
    assert_eq!(answer["metadata"]["annotations"]["device-controller/renderedVersion"], "2");
    let known = format!("{path}?knownRenderedVersion=2");
    assert_eq!(world.send(Role::Operator, Method::GET, &known, None).await.code, StatusCode::NO_CONTENT);
    let without = world.send(Role::Operator, Method::GET, "/devices/cccccccccccccccc/rendered", None).await;
    assert_eq!(without.code, StatusCode::CONFLICT);
    assert!(world.get("/devices/aaaaaaaaaaaaaaaa/lastseen").await.ok()["lastSeen"].is_string());
    assert_eq!(world.get("/devices/cccccccccccccccc/lastseen").await.code, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn devices_are_selected_by_labels_and_fields() {
    let world = World::new().await;
    world.fill();
    let (a, b, c) = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc");
    for (query, want) in [
        ("labelSelector=site%3Dberlin", vec![a, b]),
        ("labelSelector=site%21%3Dberlin", vec![c]),
        ("labelSelector=site%20in%20(paris,rome)", vec![c]),
        ("labelSelector=site%20notin%20(paris)", vec![a, b]),
        ("labelSelector=alias", vec![a]),
        ("labelSelector=!alias,site=berlin", vec![b]),
        ("labelSelector=alias!=till-1", vec![b, c]),
        ("fieldSelector=metadata.owner=Fleet/pos", vec![a, b]),
        ("fieldSelector=!metadata.owner", vec![c]),
        ("fieldSelector=metadata.name%20in%20(aaaaaaaaaaaaaaaa,x)", vec![a]),
        ("fieldSelector=status.summary.status=Online", vec![a]),
        ("fieldSelector=status.summary.status=Unknown", vec![b, c]),
        ("fieldSelector=status.updated.status=OutOfDate", vec![a]),
        ("fieldSelector=metadata.alias%20contains%20till", vec![a]),
        ("fieldSelector=lastSeen%3E2020-01-01T00:00:00Z", vec![a, b]),
        ("fieldSelector=metadata.name!=aaaaaaaaaaaaaaaa&labelSelector=site=berlin", vec![b]),
    ] {
        assert_eq!(world.names(&format!("/devices?{query}")).await, want, "{query}");
    }
    for (query, problem) in [
        ("labelSelector=a%20b", "labelSelector: at character 3"),
        ("fieldSelector=spec.x=1", "supported fields: metadata.name, metadata.owner"),
        ("fieldSelector=metadata.name=a%00b", "U+0000"),
        ("fieldSelector=lastSeen%3C-009000-01-01T00:00:00Z", "is not one"),
        ("limit=1001", "limit must be"),
        ("continue=nonsense", "continue: "),
        ("org_id=00000000-0000-0000-0000-000000000001", "no such organization"),
    ] {
        let answer = world.get(&format!("/devices?{query}")).await;
        assert!(answer.code.is_client_error() && answer.message().contains(problem), "{query}: {}", answer.body);
    }
    assert_eq!(
        world.get("/labels?kind=Device&labelSelector=site=berlin").await.ok(),
        json!(["alias=till-1", "site=berlin"])
    );
    let summary = world.get("/devices?summaryOnly=true").await.ok()["summary"].take();
    assert_eq!(
        summary,
        json!({"total": 3, "applicationStatus": {"Healthy": 1, "Unknown": 2}, "summaryStatus": {"Online": 1, "Unknown": 2},
            "updateStatus": {"OutOfDate": 1, "UpToDate": 1, "Unknown": 1}})
    );
}

#[tokio::test]
async fn pages_follow_one_another_without_gaps() {
    let world = World::new().await;
    world.fill();
    let first = world.get("/devices?limit=2").await.ok();
    assert_eq!(first["kind"], "DeviceList");
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = world.get(&format!("/devices?limit=2&continue={token}")).await.ok();
    assert_eq!(second["metadata"], json!({}));
    assert_eq!(second["items"][0]["metadata"]["name"], "cccccccccccccccc");
}

#[tokio::test]
async fn what_git_defines_is_shown_with_its_place() {
    let world = World::new().await;
    world.fill();
    let fleet = world.get("/fleets?addDevicesSummary=true&labelSelector=team=shops").await.ok()["items"][0].take();
    assert_eq!(fleet["metadata"]["owner"], "Source/fleets");
    assert_eq!(fleet["metadata"]["annotations"]["shorebase/file"], "fleets/pos.yaml:3");
    assert_eq!(fleet["metadata"]["annotations"]["fleet-controller/templateVersion"], "pos-1234");
    assert_eq!(fleet["status"]["conditions"][0]["type"], "Valid");
    assert!(fleet["metadata"].get("deletionTimestamp").is_none(), "{fleet}");
    assert_eq!(fleet["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T03:04:05Z");
    assert_eq!(fleet["status"]["devicesSummary"]["total"], 2);
    assert!(serde_json::from_value::<fleet_model::Fleet>(fleet).is_ok());
    world.sql(
        "insert into tombstones (org_id, kind, name, source, file, line, end_line, document, digest, document_commit,
                                 generation, removed_by, removed_at, expires_at)
         select org_id, kind, name, source, file, line, end_line, document, digest, commit_id, generation,
                'dddddddddddddddddddddddddddddddddddddddd', '2026-01-02T03:04:05Z', '2026-01-02T04:04:05Z'
         from desired.manifests where name = 'pos';
         update desired.manifests set leaving = true where name = 'pos';",
    );
    let leaving = world.get("/fleets/pos").await.ok();
    assert_eq!(leaving["metadata"]["deletionTimestamp"], "2026-01-02T03:04:05Z");
    let annotations = &leaving["metadata"]["annotations"];
    assert_eq!(annotations["shorebase/removed-by"], "dddddddddddddddddddddddddddddddddddddddd");
    assert_eq!(annotations["shorebase/in-force-until"], "2026-01-02T04:04:05Z");
    let condition = &leaving["status"]["conditions"][1];
    assert_eq!((&condition["type"], &condition["status"]), (&"Terminating".into(), &"True".into()));
    assert_eq!(world.names("/fleets").await, ["pos"], "one row, whatever is known of it");
    let revision = world.get("/fleets/pos/templateversions/pos-1234").await.ok();
    assert_eq!(revision["spec"], json!({"fleet": "pos"}));
    assert_eq!(revision["status"]["os"]["image"], "quay.example/os:1");
    assert_eq!(world.names("/fleets/pos/templateversions").await, ["pos-1234"]);
    let repository = world.get("/repositories/shared").await.ok();
    assert_eq!(repository["spec"]["url"], "https://git.example/x");
    assert_eq!(repository["spec"]["httpConfig"]["password"], "*****");
    assert_eq!(world.get("/resourcesyncs").await.ok()["kind"], "ResourceSyncList");
    assert_eq!(world.get("/organizations").await.ok()["items"][0]["spec"]["displayName"], "default");
}

#[tokio::test]
async fn a_source_shows_its_findings_and_can_be_synced() {
    let world = World::new().await;
    world.fill();
    let source: fleet_model::Source = serde_json::from_value(world.get("/sources/fleets").await.ok()).unwrap();
    assert_eq!(source.spec.url, "https://git.example/fleets.git");
    assert_eq!(source.status.last_polled_at.as_deref(), Some("2026-01-02T03:05:00.123456Z"));
    let finding = source.status.diagnostics[0].to_string();
    assert_eq!(finding, "fleets/pos.yaml:7:3: error[SB0101]: unknown field `selctor`");
    let mut listener = world.store.listen().await.unwrap();
    let answer = world.send(Role::Operator, Method::POST, "/sources/fleets/sync", None).await;
    assert_eq!((answer.code, &answer.body["kind"]), (StatusCode::ACCEPTED, &json!("Source")));
    let heard = tokio::time::timeout(Duration::from_secs(30), listener.next()).await.unwrap().unwrap();
    assert_eq!(heard, Some((Channel::Sources, "fleets".to_owned())));
    assert_eq!(world.events(), "Source fleets SourceSyncRequested user:ann");
    let missing = world.send(Role::Operator, Method::POST, "/sources/none/sync", None).await;
    assert_eq!(missing.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_source_shows_the_plans_of_its_commits() {
    let world = World::new().await;
    world.fill();
    assert_eq!(world.names("/sources/fleets/plans").await, Vec::<String>::new());
    assert_eq!(world.get("/sources/fleets").await.ok()["status"].get("plan"), None);
    let (old, new, later) = ("9".repeat(40), "a".repeat(40), "c".repeat(40));
    for (commit, base, at) in
        [(&new, format!("'{old}'"), 2), (&old, "null".to_owned(), 1), (&later, "null".to_owned(), 3)]
    {
        world.sql(&format!(
            "insert into desired.plans (org_id, source, commit_id, base_commit, digest, summary, plan, created_at)
             values ('{}', 'fleets', '{commit}', {base}, decode(repeat('ab', 32), 'hex'),
                     '{{\"sentence\": \"1 device changes\"}}', '{{\"groups\": [1]}}', '2026-01-02T03:04:0{at}Z')",
            OrgId::DEFAULT
        ));
    }
    assert_eq!(world.names("/sources/fleets/plans").await, [later.clone(), new.clone(), old.clone()]);
    assert_eq!(world.names("/sources/fleets/plans?limit=1").await, [later.as_str()]);
    let listed = world.get("/sources/fleets/plans").await.ok();
    assert_eq!((&listed["kind"], listed["items"][1]["status"].get("plan")), (&json!("PlanList"), None));
    let digest = format!("sha256:{}", "ab".repeat(32));
    let plan = world.get(&format!("/sources/fleets/plans/{new}")).await.ok();
    assert_eq!(
        plan,
        json!({
            "apiVersion": "shorebase/v1alpha1", "kind": "Plan",
            "metadata": {"name": new, "owner": "Source/fleets", "creationTimestamp": "2026-01-02T03:04:02Z"},
            "spec": {"source": "fleets", "commit": new, "baseCommit": old},
            "status": {"digest": digest, "summary": {"sentence": "1 device changes"}, "plan": {"groups": [1]}},
        })
    );
    let source: fleet_model::Source = serde_json::from_value(world.get("/sources/fleets").await.ok()).unwrap();
    let shown = source.status.plan.unwrap();
    assert_eq!((shown.commit, shown.digest), (new.clone(), digest), "the applied commit's, though a later one exists");
    for missing in [
        "/sources/none/plans".to_owned(),
        format!("/sources/none/plans/{new}"),
        format!("/sources/fleets/plans/{}", "b".repeat(40)),
    ] {
        assert_eq!(world.get(&missing).await.code, StatusCode::NOT_FOUND, "{missing}");
    }
    let installer = world.send(Role::Installer, Method::GET, "/sources/fleets/plans", None).await;
    assert_eq!(installer.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_approval_is_recorded_once_and_shows_the_certificate_when_it_comes_in_time() {
    let world = World::with_wait(Duration::from_secs(60)).await;
    world.enroll("aaaaaaaaaaaaaaaa");
    let approval = json!({"approved": true, "labels": {"site": "berlin"}, "replaceLabels": false});
    let path = "/enrollmentrequests/aaaaaaaaaaaaaaaa/approval";
    let sign = async {
        wait_for("the decision", Duration::from_secs(30), || async {
            let found = read_enrollments::get(world.store.pool(), OrgId::DEFAULT, "aaaaaaaaaaaaaaaa").await.unwrap();
            found.unwrap().decision
        })
        .await;
        let mut transaction = world.store.begin().await.unwrap();
        complete_enrollment(&mut transaction, OrgId::DEFAULT, "aaaaaaaaaaaaaaaa", "CHAIN").await.unwrap();
        transaction.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.send(Role::Installer, Method::PUT, path, Some(approval.clone())), sign);
    let mut answer = answer.ok();
    assert!(answer["approvedAt"].take().is_string());
    assert_eq!(
        answer,
        json!({"approved": true, "labels": {"site": "berlin"}, "approvedBy": "ann", "approvedAt": null, "certificateIssued": true})
    );
    let again = world.send(Role::Admin, Method::PUT, path, Some(approval)).await;
    assert_eq!((again.code.as_u16(), again.message()), (400, "Enrollment request is already approved"));
    let shown = world.get("/enrollmentrequests/aaaaaaaaaaaaaaaa").await.ok();
    assert_eq!(shown["status"]["certificate"], "CHAIN");
    assert_eq!(shown["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(world.events(), "EnrollmentRequest aaaaaaaaaaaaaaaa EnrollmentRequestApproved user:ann");
}

#[tokio::test]
async fn an_approval_does_not_depend_on_the_signer_and_a_denial_does_not_wait() {
    let world = World::new().await;
    world.enroll("aaaaaaaaaaaaaaaa");
    world.enroll("bbbbbbbbbbbbbbbb");
    let decide = |name: &str, body: Value| {
        let path = format!("/enrollmentrequests/{name}/approval");
        let world = &world;
        async move { world.send(Role::Admin, Method::PUT, &path, Some(body)).await }
    };
    let approved = decide("aaaaaaaaaaaaaaaa", json!({"approved": true})).await.ok();
    assert_eq!(approved["certificateIssued"], false);
    let denied = decide("bbbbbbbbbbbbbbbb", json!({"approved": false})).await.ok();
    assert_eq!(denied["approved"], false);
    assert_eq!(
        decide("bbbbbbbbbbbbbbbb", json!({"approved": true})).await.message(),
        "Enrollment request is already denied"
    );
    assert_eq!(decide("cccccccccccccccc", json!({"approved": true})).await.code, StatusCode::NOT_FOUND);
    let bad = decide("cccccccccccccccc", json!({"approved": true, "labels": {"a b": "c"}})).await;
    assert!(bad.code == StatusCode::BAD_REQUEST && bad.message().contains("label key"), "{}", bad.body);
    assert_eq!(decide("cccccccccccccccc", json!({"approved": "yes"})).await.code, StatusCode::BAD_REQUEST);
    let open = world.names("/enrollmentrequests?fieldSelector=status.approval.approved=true").await;
    assert_eq!(open, ["aaaaaaaaaaaaaaaa"]);
}

fn csr(name: &str, key: &DeviceKey, common_name: &str) -> Value {
    use base64::Engine as _;
    json!({
        "apiVersion": "flightctl.io/v1beta1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(key.csr_pem(common_name).unwrap()),
            "signerName": "flightctl.io/enrollment", "usages": ["clientAuth", "CA:false"], "expirationSeconds": 3600,
        },
    })
}

#[tokio::test]
async fn an_enrolment_certificate_is_issued_at_once_and_goes_into_an_agent_configuration() {
    use base64::Engine as _;
    let world = World::new().await;
    let key = DeviceKey::generate().unwrap();
    let request = csr("ci-1", &key, "client-enrollment-ci");
    let post = |body: Value| world.send(Role::Installer, Method::POST, "/certificatesigningrequests", Some(body));
    let created = post(request.clone()).await;
    assert_eq!(created.code, StatusCode::CREATED, "{}", created.body);
    assert_eq!(created.body["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(post(request.clone()).await.code, StatusCode::CONFLICT);
    let config = world.send(Role::Installer, Method::GET, "/enrollmentconfig?csr=ci-1", None).await.ok();
    let service = &config["enrollment-service"];
    assert_eq!(service["service"]["server"], "https://fleet.example:7443");
    assert_eq!(service["authentication"]["client-key-data"], "");
    let decode = |value: &Value| {
        let text = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(text).unwrap()
    };
    let chain = decode(&service["authentication"]["client-certificate-data"]);
    let facts = fleet_pki::CertificateFacts::from_pem(&chain).unwrap();
    assert_eq!(facts.common_name.as_deref(), Some("client-enrollment-ci"));
    assert!(decode(&service["service"]["certificate-authority-data"]).contains("BEGIN CERTIFICATE"));
    let stored = world.sql("select serial || ' ' || signer from certificates").trim().to_owned();
    assert_eq!(stored, format!("{} flightctl.io/enrollment", facts.serial_hex));
    assert_eq!(world.events(), "CertificateSigningRequest ci-1 EnrollmentCertificateIssued user:ann");
    // Others see that there is a request, not the certificate.
    let shown = world.get("/certificatesigningrequests/ci-1").await.ok();
    assert!(shown["status"]["certificate"].is_string(), "the viewer is the owner here");
    world.sql("update certificate_signing_requests set owner = 'User/bob'");
    let shown = world.get("/certificatesigningrequests/ci-1").await.ok();
    assert!(shown["status"]["certificate"].is_null());
    let other = world.send(Role::Installer, Method::GET, "/enrollmentconfig?csr=ci-1", None).await;
    assert_eq!(other.code, StatusCode::NOT_FOUND);
    assert_eq!(world.names("/certificatesigningrequests").await, ["ci-1"]);
}

#[tokio::test]
async fn other_certificates_are_not_issued_to_users() {
    let world = World::new().await;
    let key = DeviceKey::generate().unwrap();
    for (change, problem) in [
        ((|c| c["spec"]["signerName"] = "flightctl.io/device-enrollment".into()) as fn(&mut Value), "spec.signerName"),
        (|c| c["spec"]["usages"] = json!(["clientAuth"]), "CA:false"),
        (|c| c["spec"]["request"] = "bm9uc2Vuc2U=".into(), "spec.request"),
        (|c| c["spec"]["expirationSeconds"] = (-1).into(), "spec.expirationSeconds"),
        (|c| c["metadata"]["name"] = "Not A Name".into(), "metadata.name"),
        (|c| c["kind"] = "Device".into(), "kind"),
    ] {
        let mut body = csr("a", &key, "client-enrollment-x");
        change(&mut body);
        let answer = world.send(Role::Admin, Method::POST, "/certificatesigningrequests", Some(body)).await;
        assert!(answer.code == StatusCode::BAD_REQUEST && answer.message().contains(problem), "{}", answer.body);
    }
    let device = csr("a", &key, &format!("device:{}", key.device_name()));
    let answer = world.send(Role::Admin, Method::POST, "/certificatesigningrequests", Some(device)).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{}", answer.body);
    assert_eq!(world.sql("select count(*) from certificates").trim(), "0");
}

#[tokio::test]
async fn events_come_newest_first_and_in_pages() {
    let world = World::new().await;
    for n in 1..=3 {
        world.sql(&format!(
            "insert into events (org_id, kind, name, reason, type, message, actor, details)
             values ('{}', 'Fleet', 'f{n}', 'FleetValid', 'Normal', 'm', 'service:syncer', '{{\"n\": {n}}}')",
            OrgId::DEFAULT
        ));
    }
    let names = |body: &Value| -> Vec<String> {
        body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["involvedObject"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.get("/events?limit=2").await.ok();
    assert_eq!(names(&first), ["f3", "f2"]);
    assert_eq!(first["items"][0]["details"], json!({"n": 3}));
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&world.get(&format!("/events?limit=2&continue={token}")).await.ok()), ["f1"]);
    assert_eq!(names(&world.get("/events?order=asc&fieldSelector=involvedObject.name!=f2").await.ok()), ["f1", "f3"]);
    assert_eq!(world.get("/events?order=up").await.code, StatusCode::BAD_REQUEST);
    assert_eq!(world.get("/events?labelSelector=a").await.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn protocol_versions_and_unknown_paths_are_answered_as_clients_expect() {
    let world = World::new().await;
    let version = world.get("/version").await;
    assert_eq!(version.headers["flightctl-api-version"], "v1beta1");
    assert!(version.ok()["version"].is_string());
    let unknown = world.get("/nonsense").await;
    assert_eq!((unknown.code, &unknown.body["kind"]), (StatusCode::NOT_FOUND, &json!("Status")));
    let request = Request::get("/api/v1/version").header("Flightctl-API-Version", "v9").body(Body::empty()).unwrap();
    assert_eq!(world.raw(request).await.code, StatusCode::NOT_ACCEPTABLE);
}
