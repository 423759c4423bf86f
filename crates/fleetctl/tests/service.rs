//! The commands against the real users' interface: TLS, tokens, database.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fleet_http::HttpLimits;
use fleet_model::OrgId;
use fleet_pki::{CertificateAuthority, ServerCertificate, tls};
use fleet_runtime::{CancellationToken, Clock, Supervisor, SystemClock};
use fleet_store::{ConnectOptions, Store};
use fleet_test::TestDatabase;
use fleet_user_api::{Authenticator, LocalIssuer, UserApi, UserApiConfig, UserApiMetrics};
use fleetctl::{Io, Terminal};
use tokio::runtime::Runtime;

/// A service, and how to talk to it.
struct World {
    db: TestDatabase,
    dir: tempfile::TempDir,
    config: PathBuf,
    _server: Supervisor,
    _runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let db = TestDatabase::create();
        let dir = tempfile::tempdir().unwrap();
        let (server, port) = runtime.block_on(serve(&db, dir.path()));
        let config = dir.path().join("config.yaml");
        std::fs::write(
            &config,
            format!("server: https://localhost:{port}\ncertificate-authority: root.pem\ntoken-file: token\n"),
        )
        .unwrap();
        let world = Self { db, dir, config, _server: server, _runtime: runtime };
        world.log_in("admin");
        world
    }

    fn log_in(&self, role: &str) {
        let data = self.dir.path().to_str().unwrap();
        let (code, token, err) = execute(&["token", "--data-dir", data, "--role", role, "--subject", "ann"]);
        assert_eq!(code, 0, "{err}");
        std::fs::write(self.dir.path().join("token"), token).unwrap();
    }

    fn run(&self, args: &str) -> (u8, String, String) {
        let config = self.config.to_str().unwrap();
        let mut all = vec!["--config", config];
        all.extend(args.split(' '));
        execute(&all)
    }

    /// The output of a command that must succeed.
    fn good(&self, args: &str) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!(code, 0, "{args}: {out}{err}");
        out
    }

    fn sql(&self, sql: &str) -> String {
        self.db.psql(sql).unwrap()
    }
}

async fn serve(db: &TestDatabase, dir: &Path) -> (Supervisor, u16) {
    let store = Store::connect(&ConnectOptions { url: db.url(), max_connections: 3 }).await.unwrap();
    store.migrate().await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let issuer = LocalIssuer::load_or_create(dir, Arc::clone(&clock)).unwrap();
    let auth = Authenticator::new(Arc::clone(&clock), Some(&issuer), &[]).unwrap();
    let ca = Arc::new(CertificateAuthority::load_or_create(dir, clock.now()).unwrap());
    std::fs::write(dir.join("root.pem"), ca.root_pem()).unwrap();
    let certificate = ServerCertificate::load_or_issue(dir, &ca, &["localhost".to_owned()], clock.now()).unwrap();
    let tls = tls::user_server_config(&certificate, &tls::TlsTime::system()).unwrap();
    let config =
        UserApiConfig { approval_wait: Duration::from_millis(100), ..UserApiConfig::new("https://localhost:7443") };
    let router = UserApi::new(store, auth, ca, clock, config, UserApiMetrics::default()).router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = Supervisor::new(CancellationToken::new());
    let shutdown = server.shutdown();
    let tls = Arc::new(ArcSwap::new(tls));
    server.spawn("users", fleet_http::serve(listener, tls, router, shutdown, HttpLimits::default()));
    (server, port)
}

fn execute(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let code = fleetctl::run(std::iter::once("fleetctl").chain(args.iter().copied()).map(OsString::from), &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

const ORG: OrgId = OrgId::DEFAULT;

#[test]
fn devices_are_listed_in_every_format() {
    let world = World::new();
    let (code, out, err) = world.run("get devices");
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "no devices\n"));
    world.sql(&format!(
        "insert into devices (org_id, name, labels, change_seq, rendered_version, reported_version, summary_status)
         values ('{ORG}', 'abcdef0123456789', '{{\"alias\":\"till-1\",\"site\":\"berlin\"}}', 1, 3, 2, 'Online'),
                ('{ORG}', 'abcdeg0123456789', '{{\"site\":\"paris\"}}', 2, 0, 0, 'Unknown')"
    ));
    assert_eq!(
        world.good("get devices"),
        "NAME              ALIAS   OWNER  VERSION  UPDATED  STATUS   LAST SEEN\n\
         abcdef0123456789  till-1  -      0/3      Unknown  Online   -\n\
         abcdeg0123456789  -       -      0/0      Unknown  Unknown  -\n"
    );
    assert_eq!(world.good("get dev -l site=berlin -o name"), "device/abcdef0123456789\n");
    let json: serde_json::Value = serde_json::from_str(&world.good("get dev/abcdef -o json")).unwrap();
    assert_eq!(json["metadata"]["name"], "abcdef0123456789");
    let yaml: serde_yaml::Value = serde_yaml::from_str(&world.good("get devices -o yaml")).unwrap();
    assert_eq!(yaml["items"][1]["metadata"]["labels"]["site"], "paris");
    assert!(world.good("describe device abcdef").contains("Labels:      alias=till-1\n             site=berlin\n"));
    let (code, _, err) = world.run("get device abcde");
    assert!(code == 2 && err.contains("at least 6 characters"), "{err}");
    let (code, _, err) = world.run("get devices --field-selector nonsense=1");
    assert!(code == 2 && err.contains("supported fields: metadata.name"), "{err}");
}

fn source(world: &World, observed: char, applied: char, parsed: &str, diagnostics: &str) {
    world.sql(&format!(
        "delete from desired.sources; insert into desired.sources (org_id, name, origin, url, revision, path,
           observed_commit, applied_commit, last_polled_at, conditions, diagnostics)
         values ('{ORG}', 'fleets', 'config', 'https://git.example/f.git', 'main', '/', repeat('{observed}', 40), repeat('{applied}', 40),
           clock_timestamp(), '[{{\"type\":\"Parsed\",\"status\":\"{parsed}\",\"reason\":\"r\",\"message\":\"m\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}}]', '{diagnostics}')"
    ));
}

const FINDING: &str = r#"[{"code":"SB0101","severity":"error","message":"unknown field `x`","file":"a.yaml","line":2,"column":3,"endLine":2,"endColumn":4,"hint":"remove it"}]"#;

#[test]
fn a_refused_commit_is_explained_in_the_words_of_lint() {
    let world = World::new();
    source(&world, 'b', 'a', "False", FINDING);
    let words = "a.yaml:2:3: error[SB0101]: unknown field `x`\n";
    let table = world.good("get sources");
    assert!(table.contains("fleets  main      Refused  bbbbbbbbbbbb  aaaaaaaaaaaa"), "{table}");
    assert!(table.contains(words), "{table}");
    let described = world.good("describe source fleets");
    assert!(described.contains(words) && described.contains("hint: remove it"), "{described}");
    let commit = "b".repeat(40);
    let (code, out, err) = world.run(&format!("sync fleets --wait --commit {commit}"));
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("refused bbbbbbbbbbbb") && out.contains(words), "{out}");
}

#[test]
fn a_sync_waits_until_the_source_was_polled() {
    let world = World::new();
    let (code, _, err) = world.run("sync --all");
    assert!(code == 2 && err.contains("no sources"), "{err}");
    source(&world, 'a', 'a', "True", "[]");
    assert_eq!(world.good("sync fleets"), "source/fleets asked to sync\n");
    // Nobody polls: the wait ends, and says so.
    let (code, _, err) = world.run("sync fleets --wait --timeout 1s");
    assert!(code == 2 && err.contains("was not applied within 1 s"), "{err}");
    // Its host does not answer: that is said at once, and once.
    world.sql(
        "update desired.sources set conditions = conditions || '[{\"type\": \"SourceReachable\", \"status\": \"False\",
           \"reason\": \"Timeout\", \"message\": \"no answer\", \"lastTransitionTime\": \"2026-01-01T00:00:00Z\"}]'::jsonb",
    );
    let (code, _, err) = world.run("sync fleets --wait --timeout 2s");
    let obstacle = "source/fleets waits: its host could not be read (Timeout): no answer\n";
    assert!(code == 2 && err.starts_with(obstacle) && err.matches(" waits: ").count() == 1, "{err}");
    // Somebody polls.
    let (code, out) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.run("sync --all --wait --timeout 30s"));
        while !waiting.is_finished() {
            world.sql("update desired.sources set last_polled_at = clock_timestamp()");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (code, out, _) = waiting.join().unwrap();
        (code, out)
    });
    assert_eq!((code, out.as_str()), (0, "source/fleets applied aaaaaaaaaaaa\n"));
    assert!(world.good("get events").contains("SourceSyncRequested"));
}

#[test]
fn devices_are_approved_by_a_beginning_of_their_name() {
    let world = World::new();
    for name in ["abcdef0123456789", "abcdeg0123456789"] {
        world.sql(&format!("insert into enrollments (org_id, name, csr) values ('{ORG}', '{name}', 'x')"));
    }
    let (code, _, err) = world.run("approve abcde0");
    assert!(code == 2 && err.contains("no enrollmentrequest"), "{err}");
    world.log_in("viewer");
    let (code, _, err) = world.run("approve abcdef");
    assert!(code == 2 && err.contains("answered 403") && err.contains("needs installer or admin"), "{err}");
    world.log_in("installer");
    assert_eq!(
        world.good("approve abcdef -l site=berlin --replace-labels"),
        "enrollmentrequest/abcdef0123456789 approved; the certificate follows\n"
    );
    assert_eq!(world.good("approve er/abcdeg --deny"), "enrollmentrequest/abcdeg0123456789 denied\n");
    let row =
        world.sql("select decision || decided_by || decision_labels || replace_labels from enrollments order by name");
    assert!(row.contains("Approvedann{\"site\": \"berlin\"}true") && row.contains("Deniedann{}false"), "{row}");
    let (code, _, err) = world.run("approve abcdef abcdeg");
    assert!(code == 2 && err.contains("already approved") && err.contains("already denied"), "{err}");
    assert!(world.good("get er").contains("Denied"));
}

#[test]
fn an_agent_configuration_is_made_with_a_key_that_fits_its_certificate() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let file = world.dir.path().join("agent.yaml");
    let path = file.to_str().unwrap();
    world.good(&format!("enrollment-config --server-name fleet.example --ttl 1d -l site=berlin -o {path}"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let config: fleet_model::EnrollmentConfig = serde_yaml::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(config.enrollment_service.service.server, "https://fleet.example:7443");
    assert_eq!(config.default_labels["site"], "berlin");
    use base64::Engine as _;
    let decode =
        |text: &str| String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap();
    let auth = &config.enrollment_service.authentication;
    let key = fleet_pki::DeviceKey::from_pem(&decode(&auth.client_key_data)).unwrap();
    let identity = key.client_identity(&decode(&auth.client_certificate_data));
    let ca = decode(&config.enrollment_service.service.certificate_authority_data);
    // Certificate and key belong together, and the authority can be read: TLS takes them.
    tls::client_config(&ca, Some(&identity), &tls::TlsTime::system()).unwrap();
    assert!(world.good("get csr").contains("flightctl.io/enrollment"));
}

#[test]
fn failures_say_what_to_do() {
    let world = World::new();
    assert!(world.good("version").starts_with("client "));
    let versions: serde_json::Value = serde_json::from_str(&world.good("version -o json")).unwrap();
    assert_eq!(versions["clientVersion"], versions["serverVersion"]);
    std::fs::write(world.dir.path().join("token"), "a.b.c").unwrap();
    let (code, _, err) = world.run("get devices");
    assert!(code == 2 && err.contains("not logged in") && err.contains("answered 401"), "{err}");
    let (code, out, err) = world.run("version");
    assert!(code == 2 && out.starts_with("client ") && err.contains("401"), "{err}");
    // Another authority than the service's.
    let other = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::load_or_create(other.path(), SystemClock.now()).unwrap();
    std::fs::write(world.dir.path().join("root.pem"), ca.root_pem()).unwrap();
    let (code, _, err) = world.run("get devices");
    assert!(code == 2 && err.contains("cannot reach the service"), "{err}");
    let (code, _, err) = execute(&["token", "--data-dir", "/nonexistent"]);
    assert!(code == 2 && err.contains("/nonexistent/user-issuer.key"), "{err}");
    let (code, _, err) = execute(&["get", "devices", "--config", "/nonexistent.yaml"]);
    assert!(code == 2 && err.contains("/nonexistent.yaml"), "{err}");
}

#[test]
fn a_plan_looks_at_enrolled_devices_and_their_labels_on_request() {
    let world = World::new();
    let repo = fleet_test::GitRepo::init();
    let fleet = |text: &str| {
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: pos\nspec:\n  selector:\n    matchLabels:\n      \
             site: berlin\n  template:\n    spec:\n      config:\n      - name: c\n        inline:\n        - path: /etc/motd\n          \
             content: {text}\n"
        )
    };
    repo.write("pos.yaml", fleet("one")).commit("one");
    repo.write("pos.yaml", fleet("two"));
    // More devices than one page has.
    world.sql(&format!(
        "insert into devices (org_id, name, labels, change_seq, rendered_version, reported_version, summary_status)
         select '{ORG}', lpad(n::text, 16, '0'), jsonb_build_object('site', case when n % 2 = 0 then 'berlin' else 'paris' end,
           'alias', 'till-' || n), n, 0, 0, 'Unknown' from generate_series(1, 1100) n"
    ));
    let root = repo.path().to_str().unwrap();
    let offline = world.good(&format!("plan --root {root} HEAD.."));
    assert!(offline.contains("0 devices change, 0 do not change") && offline.contains("0 devices known"), "{offline}");
    let (code, live, err) = world.run(&format!("plan --root {root} HEAD.. --live --fail-on-limits"));
    assert_eq!(code, 1, "{live}{err}");
    assert!(live.contains("550 devices change, 550 do not change") && live.contains("1,100 enrolled"), "{live}");
    assert!(live.contains("550 devices change the same way: till-2 (0000000000000002), till-4"), "{live}");
    assert!(live.contains("-one") && live.contains("+two"), "{live}");
    assert!(live.contains("changes, without a rollout policy, 550 of 1100 devices"), "{live}");
    std::fs::write(world.dir.path().join("token"), "nonsense").unwrap();
    let (code, out, err) = world.run(&format!("plan --root {root} HEAD.. --live"));
    assert!(code == 2 && out.is_empty() && err.contains("not logged in"), "{out}{err}");
}
