//! Statuses: durable when answered, written together, refused when they are not one.

use fleet_agent_api::AgentApiConfig;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{World, body_of, quick, status_body};

#[tokio::test]
async fn statuses_are_durable_when_answered_and_many_share_a_transaction() {
    let world = World::start(AgentApiConfig { status_window: std::time::Duration::from_millis(250), ..quick() }).await;
    let mut devices = Vec::new();
    for _ in 0..40 {
        devices.push(world.device(json!({"os": {"image": "quay.io/os:1"}})).await);
    }
    // Connections first, so that the statuses come together.
    let polls = join_all(devices.iter().map(|device| device.poll(&world, None).send())).await;
    assert!(polls.into_iter().all(|poll| poll.unwrap().status().as_u16() == 200));
    let before = world.metrics().status_transactions.get();
    let rounds = 5;
    for round in 1..=rounds {
        let answers = join_all(devices.iter().map(|device| {
            let mut body = status_body(&device.name, "1");
            body["status"]["systemInfo"]["hostname"] = json!(format!("round{round}"));
            device.put_status(&world, &body).send()
        }))
        .await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().status().as_u16() == 200));
        let stored =
            format!("select count(*) from device_status where document #>> '{{systemInfo,hostname}}' = 'round{round}'");
        assert_eq!(world.sql(&stored), "40", "durable when answered");
    }
    let transactions = world.metrics().status_transactions.get() - before;
    assert_eq!(world.metrics().statuses_written.get(), 40 * rounds);
    assert!(transactions < 40 * rounds / 4, "{transactions} transactions for {} statuses", 40 * rounds);
    world.stop().await;
}

#[tokio::test]
async fn the_words_people_filter_by_are_derived_and_answered() {
    let world = World::start(quick()).await;
    let device = world.device(json!({"os": {"image": "quay.io/os:1"}})).await;
    let row =
        "select reported_version, summary_status, updated_status, applications_status, update_reason from devices";
    for (change, version, expected) in [
        (json!({}), "1", "1|Online|UpToDate|Healthy|Updated"),
        (json!({}), "0", "0|Online|OutOfDate|Healthy|Updated"),
        (json!({"os": {"image": "quay.io/os:other", "imageDigest": ""}}), "1", "1|Online|OutOfDate|Healthy|Updated"),
        (json!({"resources": {"cpu": "Critical"}}), "1", "1|Error|UpToDate|Healthy|Updated"),
        (
            json!({"conditions": [{"type": "Updating", "status": "True", "reason": "Rebooting"}], "applications": [{}]}),
            "1",
            "1|Rebooting|Updating|Degraded|Rebooting",
        ),
        (json!({"conditions": []}), "1", "1|Online|UpToDate|Healthy|"),
    ] {
        let mut body = status_body(&device.name, version);
        for (key, value) in change.as_object().unwrap() {
            body["status"][key] = value.clone();
        }
        let answer = device.put_status(&world, &body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{change}");
        let answer = body_of(answer).await;
        let words: Vec<&str> = expected.split('|').collect();
        assert_eq!(world.sql(row), expected, "{change}");
        assert_eq!(answer["status"]["summary"]["status"], words[1], "{change}");
        assert_eq!(answer["status"]["updated"]["status"], words[2], "{change}");
        assert_eq!(answer["status"]["somethingNewer"], json!({"a": 1}), "unknown parts are kept");
        assert_eq!(answer["metadata"]["name"], device.name.as_str());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_version_above_what_was_ever_given_marks_the_device() {
    let world = World::start(quick()).await;
    let device = world.device(json!({})).await;
    world.sql("update devices set dirty = false");
    let answer = device.put_status(&world, &status_body(&device.name, "9")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(world.sql("select reported_version, dirty, updated_status from devices"), "9|t|OutOfDate");
    world.stop().await;
}

#[tokio::test]
async fn other_contents_under_the_present_version_mark_the_device() {
    let world = World::start(quick()).await;
    let device = world.device(json!({"os": {"image": "quay.io/os:1"}})).await;
    world.sql("update devices set dirty = false");
    let hash = world.sql("select encode(rendered_digest, 'hex') from devices");
    let version = world.sql("select rendered_version from devices");
    let poll = async |held: &str| {
        let request = device.poll(&world, Some(&version)).header(fleet_model::annotations::SPEC_HASH_HEADER, held);
        tokio::time::timeout(std::time::Duration::from_millis(500), request.send()).await
    };
    let _held = poll(&hash).await;
    assert_eq!(world.sql("select dirty from devices"), "f", "the contents are those it should have");
    let marked = || world.sql("select dirty, reported_version - rendered_version from devices");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while marked() != "t|1" {
        assert!(std::time::Instant::now() < deadline, "{}", marked());
        // Again, since a busy machine may not get to it in time.
        let _held = poll("0000").await;
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_a_status_is_refused_with_the_reason() {
    let world = World::start(quick()).await;
    let device = world.device(json!({})).await;
    let good = || status_body(&device.name, "1");
    let with = |path: &[&str], value: Value| {
        let mut body = good();
        let mut at = &mut body;
        for key in path {
            at = &mut at[*key];
        }
        *at = value;
        body.to_string()
    };
    let without = |key: &str| {
        let mut body = good();
        body["status"].as_object_mut().unwrap().remove(key);
        body.to_string()
    };
    let mut table = vec![
        ("".to_owned(), 400, "EOF"),
        ("[]".to_owned(), 400, "request body"),
        ("{\"kind\":\"Device\"".to_owned(), 400, "EOF"),
        (with(&["kind"], json!("Fleet")), 400, "kind"),
        (with(&["apiVersion"], json!("v9")), 400, "apiVersion"),
        (with(&["metadata", "name"], json!("other")), 400, "metadata.name"),
        (with(&["status"], json!(null)), 400, "status"),
        (with(&["status", "conditions"], json!(null)), 400, "sequence"),
        (with(&["status", "config", "renderedVersion"], json!("-1")), 400, "renderedVersion"),
        (with(&["status", "config", "renderedVersion"], json!("9223372036854775807")), 400, "renderedVersion"),
        (with(&["status", "systemInfo", "hostname"], json!("a\0b")), 400, "NUL"),
        (with(&["status", "a\0b"], json!(1)), 400, "NUL"),
        (good().to_string().replace("kiosk", "\\ud800"), 400, "line 1"),
        (good().to_string().replace("\"kiosk\"", &"[".repeat(500)), 400, "recursion"),
        (with(&["status", "systemInfo", "hostname"], json!("x".repeat(1024 * 1024))), 413, "1048576"),
    ];
    for key in
        ["conditions", "systemInfo", "applications", "applicationsSummary", "resources", "integrity", "config", "os"]
    {
        table.push((without(key), 400, "missing field"));
    }
    for (body, code, part) in table {
        let url = world.url(&format!("/devices/{}/status", device.name));
        let shown: String = body.chars().take(120).collect();
        let answer = device.client.put(url).body(body).send().await.unwrap();
        let (got, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(got, code, "{shown}: {text}");
        assert!(text.contains(part), "{shown}: {part:?} is not in {text}");
    }
    assert_eq!(world.sql("select count(*) from device_status"), "0");
    assert_eq!(world.metrics().status_transactions.get(), 0);
    // Odd, but a status: an escaped backslash, a newer apiVersion spelling, the version left empty.
    let body = with(&["status", "systemInfo", "hostname"], json!("\\u0000"));
    let url = world.url(&format!("/devices/{}/status", device.name));
    assert_eq!(device.client.put(&url).body(body).send().await.unwrap().status().as_u16(), 200);
    let body = with(&["status", "config", "renderedVersion"], json!(""));
    assert_eq!(device.client.put(&url).body(body).send().await.unwrap().status().as_u16(), 200);
    world.stop().await;
}

/// Makes the database fail the status of one device, as `body` of a trigger function says.
fn trip(world: &World, name: &str, body: &str) {
    world.sql(&format!(
        "create sequence tripped; create function trip() returns trigger language plpgsql as $$ begin
           if new.name = '{name}' then {body} end if; return new; end $$;
         create trigger trip before insert or update on device_status for each row execute function trip()"
    ));
}

#[tokio::test]
async fn a_status_that_cannot_be_stored_does_not_take_others_with_it() {
    let window = std::time::Duration::from_millis(300);
    let world = World::start(AgentApiConfig { status_window: window, ..quick() }).await;
    let mut devices = Vec::new();
    for _ in 0..8 {
        devices.push(world.device(json!({})).await);
    }
    trip(&world, devices[3].name.as_str(), "raise exception 'no room';");
    let answers =
        join_all(devices.iter().map(|device| device.put_status(&world, &status_body(&device.name, "1")).send())).await;
    let codes: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(codes, [200, 200, 200, 500, 200, 200, 200, 200]);
    assert_eq!(world.sql("select count(*) from device_status"), "7");
    assert_eq!((world.metrics().statuses_written.get(), world.metrics().statuses_failed.get()), (7, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_transaction_that_lost_against_another_is_tried_again() {
    let world = World::start(quick()).await;
    let device = world.device(json!({})).await;
    // The first two attempts fail; a sequence counts also what was rolled back.
    let fail = "if nextval('tripped') <= 2 then raise exception 'busy' using errcode = '40001'; end if;";
    trip(&world, device.name.as_str(), fail);
    let answer = device.put_status(&world, &status_body(&device.name, "1")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(
        (world.sql("select count(*) from device_status").as_str(), world.metrics().status_transactions.get()),
        ("1", 3)
    );
    world.stop().await;
}

#[tokio::test]
async fn a_patch_changes_the_status_that_was_reported_last() {
    let world = World::start(quick()).await;
    let device = world.device(json!({"os": {"image": "quay.io/os:1"}})).await;
    assert_eq!(device.put_status(&world, &status_body(&device.name, "1")).send().await.unwrap().status().as_u16(), 200);
    let url = world.url(&format!("/devices/{}/status", device.name));
    let patch = |operations: Value| {
        let request = device.client.patch(&url).header("content-type", "application/json-patch+json");
        request.body(operations.to_string()).send()
    };
    let good = json!([
        {"op": "test", "path": "/status/config/renderedVersion", "value": "1"},
        {"op": "replace", "path": "/status/resources/cpu", "value": "Critical"},
        {"op": "add", "path": "/status/systemInfo/hostname", "value": "renamed"},
    ]);
    let answer: Value = serde_json::from_str(&patch(good).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(
        (&answer["status"]["summary"]["status"], &answer["metadata"]["name"]),
        (&"Error".into(), &device.name.as_str().into())
    );
    let stored = "select document #>> '{resources,cpu}', document #>> '{systemInfo,hostname}' from device_status";
    assert_eq!(world.sql(stored), "Critical|renamed");
    for (operations, code) in [
        (json!([{"op": "test", "path": "/status/config/renderedVersion", "value": "2"}]), 409),
        (json!([{"op": "replace", "path": "/metadata/name", "value": "another"}]), 400),
        (json!([{"op": "move", "from": "/status/os", "path": "/status/x"}]), 400),
        (json!([{"op": "remove", "path": "/status/systemInfo"}]), 400),
        (json!([{"op": "remove", "path": "/no/such"}]), 400),
        (json!({"op": "add"}), 400),
    ] {
        assert_eq!(patch(operations.clone()).await.unwrap().status().as_u16(), code, "{operations}");
    }
    assert_eq!(world.sql(stored), "Critical|renamed");
    world.stop().await;
}
