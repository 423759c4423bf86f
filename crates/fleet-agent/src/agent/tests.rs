//! Whole agents against a service with real mutual TLS.

mod service;
mod troubles;

use std::fs;
use std::path::Path;
use std::time::Duration;

use fleet_model::Labels;
use fleet_runtime::{ManualClock, Supervisor, SystemClock};
use serde_json::{Value, json};
use service::TestService;

use super::*;
use crate::config::Timings;

const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `look` finds something.
async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn config(root: &Path, service: &TestService) -> AgentConfig {
    let milliseconds = Duration::from_millis;
    AgentConfig {
        root: root.to_owned(),
        enrollment: service.server.clone(),
        enrollment_identity: service.identity.clone(),
        enrollment_ui_endpoint: "https://ui.example".to_owned(),
        management: service.server.clone(),
        default_labels: Labels::from([("site".to_owned(), "berlin".to_owned())]),
        log_level: "info".to_owned(),
        reload_rules: vec![],
        timings: Timings {
            poll_min_interval: milliseconds(10),
            error_delay: (milliseconds(10), milliseconds(50)),
            retry_delay: (milliseconds(10), milliseconds(50)),
            enrollment_delay: (milliseconds(10), milliseconds(50)),
            drift_check_interval: milliseconds(50),
            certificate_check_interval: milliseconds(50),
            ..Timings::default()
        },
        warnings: vec![],
    }
}

fn spec(path: &str, content: &str) -> Value {
    let id = rustix::process::geteuid().as_raw().to_string();
    json!({"config": [{"name": "", "inline": [{"path": path, "content": content, "user": id, "group": id}]}]})
}

struct Bench {
    supervisor: Supervisor,
    service: Arc<TestService>,
    root: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

impl Bench {
    async fn new(clock: Arc<dyn Clock>) -> Self {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        let service = TestService::start(&mut supervisor, clock.clone()).await;
        Self { supervisor, service, root: tempfile::tempdir().unwrap(), clock }
    }

    fn agent(&self, shutdown: CancellationToken) -> Agent {
        Agent::new(config(self.root.path(), &self.service), self.clock.clone(), shutdown)
    }

    /// Starts an agent that runs until the returned token is cancelled; the result comes through the receiver.
    fn start(&mut self) -> (CancellationToken, tokio::sync::oneshot::Receiver<Result<(), AgentError>>) {
        let token = CancellationToken::new();
        let agent = self.agent(token.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let shutdown = self.supervisor.shutdown();
        self.supervisor.spawn("agent", async move {
            let _ = sender.send(agent.run().await);
            shutdown.cancelled().await;
        });
        (token, receiver)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.path().join(&path[1..])).ok()
    }

    async fn file_becomes(&self, path: &str, content: &str) {
        wait_for(&format!("{path} is {content:?}"), || self.read(path).filter(|found| found == content)).await;
    }

    async fn reported(&self, version: &str) -> Value {
        wait_for(&format!("version {version} is reported"), || {
            self.service.with(|known| {
                let last = known.statuses.last()?;
                (last["config"]["renderedVersion"] == version && last["updated"]["status"] != "Updating")
                    .then(|| last.clone())
            })
        })
        .await
    }

    async fn end(self) {
        self.supervisor.shutdown().cancel();
        self.supervisor.run(Duration::from_secs(20)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_enrols_applies_reports_and_follows() {
    let mut bench = Bench::new(Arc::new(SystemClock)).await;
    fs::create_dir_all(bench.root.path().join("etc")).unwrap();
    fs::write(bench.root.path().join("etc/hostname"), "till-7\n").unwrap();
    let (token, ended) = bench.start();
    let name = wait_for("it asks", || bench.service.with(|known| known.enrollments.keys().next().cloned())).await;
    let banner = wait_for("the banner is there", || bench.read("/etc/issue.d/fleet-agent-banner.issue")).await;
    assert!(banner.contains(&format!("https://ui.example/enroll/{name}")));
    bench.service.with(|known| {
        let request = &known.enrollments[&name].0;
        let labels = request.spec.labels.as_ref().unwrap();
        assert_eq!((labels["alias"].as_str(), labels["site"].as_str()), ("till-7", "berlin"));
        known.document = Some(("1".to_owned(), spec("/etc/motd", "one")));
        known.answer_next_poll = Some((503, "0"));
        known.approve = true;
    });
    bench.file_becomes("/etc/motd", "one").await;
    let status = bench.reported("1").await;
    assert_eq!(status["systemInfo"]["hostname"], "till-7");
    assert_eq!(status["conditions"][0]["reason"], "Updated");
    bench.service.with(|known| known.document = Some(("2".to_owned(), spec("/etc/motd", "two"))));
    bench.file_becomes("/etc/motd", "two").await;
    bench.reported("2").await;
    fs::write(bench.root.path().join("etc/motd"), "by hand").unwrap();
    bench.file_becomes("/etc/motd", "two").await;
    wait_for("the drift is reported", || {
        bench.service.with(|known| {
            let message = known.statuses.last()?["conditions"][0]["message"].as_str()?.to_owned();
            message.contains("put back 1 changed on the device: /etc/motd").then_some(())
        })
    })
    .await;
    // What it cannot do is refused, reported, and does not stop it from following.
    let mut unsupported = spec("/etc/motd", "three");
    unsupported["applications"] = json!([{"name": "web"}]);
    bench.service.with(|known| known.document = Some(("3".to_owned(), unsupported)));
    wait_for("the refusal is reported", || {
        bench.service.with(|known| {
            let message = known.statuses.last()?["conditions"][0]["message"].as_str()?.to_owned();
            message.contains("applications are not supported by this agent").then_some(())
        })
    })
    .await;
    assert_eq!(bench.read("/etc/motd").as_deref(), Some("two"));
    assert!(matches!(bench.agent(CancellationToken::new()).run().await, Err(AgentError::Running { .. })));
    token.cancel();
    ended.await.unwrap().unwrap();
    // A restart needs no new enrolment, and goes on where it was.
    bench.service.with(|known| known.document = Some(("4".to_owned(), spec("/etc/issue", "four"))));
    let (token, ended) = bench.start();
    bench.file_becomes("/etc/issue", "four").await;
    wait_for("the obsolete file is gone", || bench.read("/etc/motd").is_none().then_some(())).await;
    token.cancel();
    ended.await.unwrap().unwrap();
    assert_eq!(bench.service.with(|known| known.submissions), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_device_enrols_again_with_the_same_key() {
    let mut bench = Bench::new(Arc::new(SystemClock)).await;
    bench.service.with(|known| {
        known.approve = true;
        known.document = Some(("7".to_owned(), spec("/etc/motd", "seven")));
    });
    let (token, ended) = bench.start();
    bench.file_becomes("/etc/motd", "seven").await;
    bench.reported("7").await;
    bench.service.with(|known| {
        known.devices.clear();
        known.enrollments.clear();
        known.statuses.clear();
        // The service counts from the start.
        known.document = Some(("1".to_owned(), spec("/etc/motd", "anew")));
    });
    bench.file_becomes("/etc/motd", "anew").await;
    bench.reported("1").await;
    bench.service.with(|known| assert_eq!((known.submissions, known.enrollments.len()), (2, 1)));
    token.cancel();
    ended.await.unwrap().unwrap();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_in_time_and_an_expired_one_replaced() {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(start));
    let day = |number: i64| start + jiff::SignedDuration::from_hours(24 * number);
    let mut bench = Bench::new(clock.clone()).await;
    bench.service.with(|known| {
        known.approve = true;
        known.document = Some(("1".to_owned(), spec("/etc/motd", "one")));
    });
    let certificate = bench.root.path().join("var/lib/fleet-agent/certs/agent.crt");
    let stored = || fs::read_to_string(&certificate).ok();
    let (token, ended) = bench.start();
    bench.reported("1").await;
    let first = stored().unwrap();
    clock.set(day(10));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.service.with(|known| known.renewals), 0, "a third of its life is too early");
    clock.set(day(24));
    let second = wait_for("the certificate is renewed", || stored().filter(|now| *now != first)).await;
    bench.service.with(|known| known.document = Some(("2".to_owned(), spec("/etc/motd", "two"))));
    bench.reported("2").await;
    token.cancel();
    ended.await.unwrap().unwrap();
    // It was off for long; its certificate is over, its key is not.
    clock.set(day(60));
    bench.service.with(|known| known.document = Some(("3".to_owned(), spec("/etc/motd", "three"))));
    let (token, ended) = bench.start();
    bench.file_becomes("/etc/motd", "three").await;
    assert_ne!(stored().unwrap(), second);
    assert_eq!(bench.service.with(|known| known.enrollments.len()), 1, "the same key, the same device");
    token.cancel();
    ended.await.unwrap().unwrap();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pass_converges_or_says_why_not() {
    let bench = Bench::new(Arc::new(SystemClock)).await;
    let once = |deadline| bench.agent(CancellationToken::new()).run_once(deadline);
    let mut told = String::new();
    // On a busy machine it may take longer until it has asked.
    for seconds in [2, 8, 32] {
        told = once(Duration::from_secs(seconds)).await.unwrap_err().to_string();
        if told.contains("waits for approval") {
            break;
        }
    }
    assert!(told.contains("waits for approval"), "{told}");
    bench.service.with(|known| known.deny = true);
    assert!(matches!(once(PATIENCE).await, Err(AgentError::Denied(why)) if why.contains("not one of ours")));
    bench.service.with(|known| (known.deny, known.approve) = (false, true));
    assert_eq!(once(PATIENCE).await.unwrap().current.get(), 0, "nothing to apply is converged");
    bench.service.with(|known| known.document = Some(("5".to_owned(), spec("/etc/motd", "five"))));
    assert_eq!(once(PATIENCE).await.unwrap().current.get(), 5);
    assert_eq!(bench.read("/etc/motd").as_deref(), Some("five"));
    bench.reported("5").await;
    assert_eq!(once(PATIENCE).await.unwrap().current.get(), 5);
    bench.service.with(|known| known.document = Some(("6".to_owned(), json!({"os": {"image": "quay.io/a:b"}}))));
    let told = once(PATIENCE).await.unwrap_err().to_string();
    assert!(told.contains("operating-system images are not supported"), "{told}");
    let shown = crate::inspect(bench.root.path()).unwrap();
    assert_eq!((shown.applied_version.get(), shown.desired_version.get(), shown.reason), (5, 6, "Error"));
    assert!(shown.to_string().contains("/etc/motd") && shown.certificate_not_after.is_some());
    bench.service.with(|known| assert!(known.polls.iter().all(|query| query.is_empty()), "{:?}", known.polls));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_years_off_does_not_strand_a_device() {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let day = |number: i64| start + jiff::SignedDuration::from_hours(24 * number);
    for years in [-20, 20] {
        let clock = Arc::new(ManualClock::new(start));
        let mut bench = Bench::new(clock.clone()).await;
        bench.clock = Arc::new(ManualClock::new(day(365 * years)));
        bench.service.with(|known| {
            known.approve = true;
            known.document = Some(("1".to_owned(), spec("/etc/motd", "one")));
        });
        let (token, ended) = bench.start();
        bench.reported("1").await;
        // A clock outside of the certificate's life would not tell when it is time.
        wait_for("it renewed", || bench.service.with(|known| (known.renewals > 0).then_some(()))).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        token.cancel();
        ended.await.unwrap().unwrap();
        assert!(bench.service.with(|known| known.renewals) == 1, "{years} years: renews over and over");
        // The certificate ends while the device's clock knows nothing of it.
        clock.set(day(60));
        bench.service.with(|known| known.document = Some(("2".to_owned(), spec("/etc/motd", "two"))));
        let (token, ended) = bench.start();
        bench.file_becomes("/etc/motd", "two").await;
        token.cancel();
        ended.await.unwrap().unwrap();
        bench.end().await;
    }
}

#[test]
fn the_work_of_an_agent_can_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    let make = |config| Agent::new(config, Arc::new(SystemClock), CancellationToken::new());
    let check = |config: AgentConfig| {
        sendable(&make(config.clone()).run());
        sendable(&make(config).run_once(PATIENCE));
    };
    let _ = check;
}
