//! Polls: news at once, held otherwise, without the database.

use std::time::{Duration, Instant};

use fleet_agent_api::AgentApiConfig;
use fleet_model::Digest;
use serde_json::json;

use crate::world::{World, body_of, quick, status_body};

#[tokio::test]
async fn a_change_wakes_exactly_its_device_and_unchanged_polls_cost_no_sql() {
    let hold = Duration::from_secs(50);
    let world = World::start(AgentApiConfig { recheck: 2 * hold, poll_hold: hold, ..quick() }).await;
    let spec = json!({"os": {"image": "quay.io/os:1"}});
    let (a, b) = (world.device(spec.clone()).await, world.device(spec.clone()).await);
    world.wait_indexed(2).await;
    let first = a.poll(&world, Some("0")).send().await.unwrap();
    assert_eq!(
        (first.status().as_u16(), &first.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let body = body_of(first).await;
    assert_eq!(
        (&body["kind"], &body["apiVersion"], &body["spec"]),
        (&json!("Device"), &json!("flightctl.io/v1beta1"), &spec)
    );
    let metadata = &body["metadata"];
    assert_eq!(
        (&metadata["name"], &metadata["owner"], &metadata["labels"]["site"]),
        (&json!(a.name.as_str()), &json!("Fleet/kiosks"), &json!("berlin"))
    );
    let hash = Digest::of(&serde_json::to_vec(&spec).unwrap()).hex();
    for (key, value) in [
        ("device-controller/renderedVersion", "1"),
        ("device-controller/renderedSpecHash", &hash),
        ("fleet-controller/templateVersion", "rev1"),
        ("shorebase/source", "main"),
        ("shorebase/commit", "c0ffee"),
    ] {
        assert_eq!(metadata["annotations"][key], json!(value), "{key}");
    }
    assert_eq!(body_of(b.poll(&world, None).send().await.unwrap()).await["spec"], spec);
    assert_eq!(world.metrics().poll_sql_statements.get(), 1, "both devices share one read of one document");

    let parked_b = tokio::task::JoinSet::from_iter([b.poll(&world, Some("1")).send()]);
    let woken = async {
        world.wait_parked(2).await;
        assert_eq!(world.metrics().poll_sql_statements.get(), 1);
        world.put_device(&a.name, 2, &json!({"os": {"image": "quay.io/os:2"}}), true).await;
        Instant::now()
    };
    let (answer, told) = tokio::join!(a.poll(&world, Some("1")).send(), woken);
    assert!(told.elapsed() < hold / 2, "it did not wait for anything else: {:?}", told.elapsed());
    let body = body_of(answer.unwrap()).await;
    assert_eq!(body["spec"]["os"]["image"], "quay.io/os:2");
    assert_eq!(body["metadata"]["annotations"]["device-controller/renderedVersion"], "2");
    assert_eq!(world.metrics().parked_polls.get(), 1, "the other device sleeps on");
    drop(parked_b);
    world.wait_parked(0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_lost_notification_delays_a_device_by_less_than_five_seconds() {
    let defaults = AgentApiConfig::default();
    let world = World::start(AgentApiConfig { recheck: defaults.recheck, ..quick() }).await;
    let device = world.device(json!({})).await;
    let changed = async {
        world.wait_parked(1).await;
        world.put_device(&device.name, 2, &json!({"systemd": {}}), false).await;
        Instant::now()
    };
    let (answer, changed) = tokio::join!(device.poll(&world, Some("1")).send(), changed);
    assert_eq!(answer.unwrap().status().as_u16(), 200);
    assert!(changed.elapsed() < Duration::from_secs(5), "{:?}", changed.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn a_new_poll_replaces_the_older_and_a_held_one_ends_without_news() {
    let hold = Duration::from_secs(6);
    let world = World::start(AgentApiConfig { poll_hold: hold, ..quick() }).await;
    let device = world.device(json!({})).await;
    let started = Instant::now();
    let second = async {
        world.wait_parked(1).await;
        device.poll(&world, Some("1")).send().await.unwrap()
    };
    let first = async {
        let answer = device.poll(&world, Some("1")).send().await.unwrap();
        (answer.status().as_u16(), started.elapsed())
    };
    let ((code, took), second) = tokio::join!(first, second);
    assert_eq!(code, 204);
    assert!(took < hold, "{took:?}");
    assert_eq!(second.status().as_u16(), 204);
    assert!(started.elapsed() >= hold);
    assert_eq!((world.metrics().polls_replaced.get(), world.metrics().polls_unchanged.get()), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_device_without_a_document_waits_and_gets_none() {
    let world = World::start(AgentApiConfig { poll_hold: Duration::from_millis(500), ..quick() }).await;
    let device = world.device(json!({})).await;
    world.sql(&format!(
        "update devices set rendered_version = 0, rendered_digest = null, change_seq = nextval('device_change_seq')
         where name = '{}'; notify shorebase_devices",
        device.name
    ));
    fleet_test::wait_for("the index follows", Duration::from_secs(30), || async {
        let code = device.poll(&world, Some("0")).send().await.unwrap().status().as_u16();
        (code == 204).then_some(())
    })
    .await;
    assert_eq!(device.poll(&world, None).send().await.unwrap().status().as_u16(), 204);
    world.stop().await;
}

#[tokio::test]
async fn a_missing_document_is_never_served_wrong_or_empty() {
    let world = World::start(quick()).await;
    let device = world.device(json!({"os": {"image": "quay.io/os:1"}})).await;
    world.sql("alter table rendered.specs rename to aside");
    let away = device.poll(&world, Some("0")).send().await.unwrap();
    assert_eq!((away.status().as_u16(), away.headers().contains_key("retry-after")), (503, true));
    world.sql("create table rendered.specs (like rendered.aside including all)");
    let missing = device.poll(&world, Some("0")).send().await.unwrap();
    assert_eq!((missing.status().as_u16(), missing.headers().contains_key("retry-after")), (503, true));
    world.sql("insert into rendered.specs select digest, 'null', created_at from rendered.aside");
    let wrong = device.poll(&world, Some("0")).send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 503);
    world.sql("drop table rendered.specs; alter table rendered.aside rename to specs");
    let found = device.poll(&world, Some("0")).send().await.unwrap();
    assert_eq!(body_of(found).await["spec"]["os"]["image"], "quay.io/os:1");
    world.stop().await;
}

#[tokio::test]
async fn a_device_that_the_database_lost_is_not_told_that_it_was_deleted() {
    let world = World::start(quick()).await;
    let device = world.lost_device().await;
    for request in [device.poll(&world, Some("1")), device.put_status(&world, &status_body(&device.name, "1"))] {
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
        let text = answer.text().await.unwrap();
        assert!(!(text.contains("Device of name") && text.contains("not found")), "{text}");
    }
    world.stop().await;
}

#[tokio::test]
async fn without_the_database_unchanged_polls_go_on_and_statuses_are_put_off() {
    let world = World::start(AgentApiConfig { poll_hold: Duration::from_millis(300), ..quick() }).await;
    let device = world.device(json!({})).await;
    assert_eq!(device.poll(&world, Some("0")).send().await.unwrap().status().as_u16(), 200);
    world.store.close().await;
    assert_eq!(device.poll(&world, Some("1")).send().await.unwrap().status().as_u16(), 204);
    assert_eq!(device.poll(&world, Some("0")).send().await.unwrap().status().as_u16(), 200, "from memory");
    let status = device.put_status(&world, &status_body(&device.name, "1")).send().await.unwrap();
    assert_eq!((status.status().as_u16(), status.headers().contains_key("retry-after")), (503, true));
    world.stop().await;
}

#[tokio::test]
async fn a_device_ahead_of_a_restored_database_gets_nothing_older_and_is_noted() {
    let world = World::start(AgentApiConfig { poll_hold: Duration::from_millis(300), ..quick() }).await;
    let device = world.device(json!({})).await;
    assert_eq!(device.poll(&world, Some("7")).send().await.unwrap().status().as_u16(), 204);
    let name = &device.name;
    fleet_test::wait_for("the version is noted", Duration::from_secs(30), || async {
        let row = world.sql(&format!("select reported_version, dirty from devices where name = '{name}'"));
        (row == "7|t").then_some(())
    })
    .await;
    world.put_device(name, 8, &json!({}), true).await;
    fleet_test::wait_for("a higher version arrives", Duration::from_secs(30), || async {
        let code = device.poll(&world, Some("7")).send().await.unwrap().status().as_u16();
        (code == 200).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn polls_leave_heartbeats_and_shutdown_ends_held_ones_at_once() {
    let world = World::start(quick()).await;
    let device = world.device(json!({})).await;
    let (request, started) = (device.poll(&world, Some("1")), Instant::now());
    let mut parked = tokio::task::JoinSet::new();
    parked.spawn(async move { request.send().await.unwrap().status().as_u16() });
    world.wait_parked(1).await;
    fleet_test::wait_for("a heartbeat is written", Duration::from_secs(30), || async {
        (world.sql("select count(*) from device_liveness where last_seen > now() - interval '1 min'") == "1")
            .then_some(())
    })
    .await;
    world.stop().await;
    assert_eq!(parked.join_all().await, [204]);
    assert!(started.elapsed() < quick().poll_hold, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_change_while_the_listener_is_cut_off_is_seen_when_it_is_back() {
    let world = World::start(AgentApiConfig { recheck: Duration::from_secs(60), ..quick() }).await;
    let device = world.device(json!({})).await;
    let changed = async {
        world.wait_parked(1).await;
        let cut = world.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and query ilike 'listen%'",
        );
        assert_eq!(cut, "1");
        world.put_device(&device.name, 2, &json!({"systemd": {}}), true).await;
    };
    let started = Instant::now();
    let (answer, ()) = tokio::join!(device.poll(&world, Some("1")).send(), changed);
    assert_eq!(answer.unwrap().status().as_u16(), 200);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn a_database_from_a_backup_is_read_again() {
    let world = World::start(quick()).await;
    let device = world.device(json!({})).await;
    world.put_device(&device.name, 5, &json!({"systemd": {}}), true).await;
    let version = async || {
        let body = body_of(device.poll(&world, None).send().await.unwrap()).await;
        body["metadata"]["annotations"]["device-controller/renderedVersion"].as_str().map(str::to_owned)
    };
    let until = async |wanted: &str| {
        fleet_test::wait_for("the index follows", Duration::from_secs(30), || async {
            (version().await.as_deref() == Some(wanted)).then_some(())
        })
        .await;
    };
    until("5").await;
    world.sql("update devices set change_seq = 0, rendered_version = 3");
    until("3").await;
    let behind = device.client.get(world.url(&format!("/devices/{}/rendered?knownRenderedVersion=5", device.name)));
    let answer = tokio::time::timeout(Duration::from_millis(700), behind.send()).await;
    assert!(answer.is_err(), "a device is never sent back: {answer:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_database_from_a_backup_is_read_again_also_for_devices_that_only_their_polls_read() {
    // Nothing is looked at but on notifications.
    let world = World::start(AgentApiConfig { recheck: Duration::from_secs(3_600), ..quick() }).await;
    let witness = world.device(json!({})).await;
    world.wait_indexed(1).await;
    let device = world.lost_device().await;
    world.put_device(&device.name, 5, &json!({"systemd": {}}), false).await;
    let version = async || {
        let body = body_of(device.poll(&world, None).send().await.unwrap()).await;
        body["metadata"]["annotations"]["device-controller/renderedVersion"].as_str().map(str::to_owned)
    };
    assert_eq!(version().await.as_deref(), Some("5"));
    // Back to a moment that is after all that was followed, and before what the poll read.
    let followed = format!("(select change_seq from devices where name = '{}')", witness.name);
    world.sql(&format!(
        "update devices set change_seq = {followed}, rendered_version = 3 where name = '{}'",
        device.name
    ));
    world.sql("notify shorebase_devices");
    fleet_test::wait_for("the index follows", Duration::from_secs(60), || async {
        (version().await.as_deref() == Some("3")).then_some(())
    })
    .await;
    world.stop().await;
}
