//! Clocks that are wrong, services that are away or come from a backup: nothing good is lost by it.

use super::service::hash_of;
use super::*;

const HOURS_A_DAY: i64 = 24;

fn start() -> jiff::Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn days(number: i64) -> jiff::Timestamp {
    start() + jiff::SignedDuration::from_hours(HOURS_A_DAY * number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_loses_no_certificate_while_nobody_answers() {
    let bench = Bench::new(Arc::new(ManualClock::new(start()))).await;
    bench.service.with(|known| {
        known.approve = true;
        known.document = Some(("1".to_owned(), spec("/etc/motd", "one")));
    });
    bench.agent(CancellationToken::new()).run_once(PATIENCE).await.unwrap();
    let stored = bench.read("/var/lib/fleet-agent/certs/agent.crt").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(bench.root.path(), &bench.service);
    config.management.server = format!("https://{free}");
    let polled = |ended: &Result<_, AgentError>| matches!(ended, Err(AgentError::Deadline { hint, .. }) if hint.contains("Polling"));
    let once = async |seconds| {
        let clock = Arc::new(ManualClock::new(days(400)));
        Agent::new(config.clone(), clock, CancellationToken::new()).run_once(Duration::from_secs(seconds)).await
    };
    let mut ended = once(1).await;
    if !polled(&ended) {
        // On a busy machine it may take longer until it has asked.
        ended = once(20).await;
    }
    assert!(polled(&ended), "{ended:?}");
    assert_eq!(bench.read("/var/lib/fleet-agent/certs/agent.crt").unwrap(), stored);
    assert_eq!(bench.service.with(|known| known.submissions), 1, "it did not enrol again");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_doubted_by_mistake_is_kept_and_used_again() {
    let mut bench = Bench::new(Arc::new(ManualClock::new(start()))).await;
    let clock = Arc::new(ManualClock::new(start()));
    bench.clock = clock.clone();
    bench.service.with(|known| {
        known.approve = true;
        known.document = Some(("1".to_owned(), spec("/etc/motd", "one")));
    });
    let (token, ended) = bench.start();
    bench.reported("1").await;
    clock.set(days(400));
    bench.service.with(|known| {
        known.approve = false;
        known.enrollments.clear();
        known.answer_next_poll = Some((401, "0"));
    });
    wait_for("it is refused", || bench.service.with(|known| known.answer_next_poll.is_none().then_some(()))).await;
    assert!(bench.read("/var/lib/fleet-agent/certs/agent.crt").is_some());
    bench.service.with(|known| known.document = Some(("2".to_owned(), spec("/etc/motd", "two"))));
    bench.file_becomes("/etc/motd", "two").await;
    bench.reported("2").await;
    bench.service.with(|known| {
        assert!(known.enrollments.values().all(|(_, certificate)| certificate.is_none()), "nobody approved");
    });
    token.cancel();
    ended.await.unwrap().unwrap();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pass_tells_a_service_from_a_backup_where_the_device_is() {
    let bench = Bench::new(Arc::new(SystemClock)).await;
    bench.service.with(|known| {
        known.approve = true;
        known.document = Some(("5".to_owned(), spec("/etc/motd", "five")));
    });
    let once = || bench.agent(CancellationToken::new()).run_once(PATIENCE);
    assert_eq!(once().await.unwrap().current.get(), 5);
    // An older version, then the same one with other contents.
    for (had, restored, next) in [("5", "3", "6"), ("6", "6", "7")] {
        bench.service.with(|known| {
            known.statuses.clear();
            known.polls.clear();
            known.document = Some((restored.to_owned(), spec("/etc/motd", "from a backup")));
        });
        let moves_ahead = async {
            bench.reported(had).await;
            let polled = format!("knownRenderedVersion={had}");
            wait_for("it tells", || bench.service.with(|known| known.polls.contains(&polled).then_some(()))).await;
            assert_ne!(bench.read("/etc/motd").as_deref(), Some("from a backup"));
            bench.service.with(|known| known.document = Some((next.to_owned(), spec("/etc/motd", next))));
        };
        let (done, ()) = tokio::join!(once(), moves_ahead);
        assert_eq!(done.unwrap().current.to_string(), next);
        assert_eq!(bench.read("/etc/motd").as_deref(), Some(next));
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_carry_the_services_own_digest_of_what_was_decided_on() {
    let mut bench = Bench::new(Arc::new(SystemClock)).await;
    let mut specs = [spec("/etc/motd", "one"), spec("/etc/motd", "two")];
    // Refused for good is decided on, too.
    specs[1]["applications"] = json!([{"name": "web"}]);
    bench.service.with(|known| known.approve = true);
    let (token, ended) = bench.start();
    for (version, spec) in ["1", "2"].into_iter().zip(specs) {
        let hash = hash_of(&spec);
        bench.service.with(|known| known.document = Some((version.to_owned(), spec)));
        wait_for("the digest is sent", || {
            bench.service.with(|known| (known.hashes.last()?.as_ref() == Some(&hash)).then_some(()))
        })
        .await;
    }
    token.cancel();
    ended.await.unwrap().unwrap();
    bench.service.with(|known| assert_eq!(known.hashes[0], None, "nothing was decided on"));
    bench.end().await;
}

#[test]
fn a_fleet_that_is_sent_away_comes_back_spread_out() {
    let asked = Duration::from_secs(100);
    let waits: Vec<Duration> = (0..200).map(|_| spread(asked)).collect();
    assert!(waits.iter().all(|wait| (asked..=asked.mul_f64(1.5)).contains(wait)));
    assert!(waits.iter().max().unwrap().abs_diff(*waits.iter().min().unwrap()) > Duration::from_secs(25));
}
