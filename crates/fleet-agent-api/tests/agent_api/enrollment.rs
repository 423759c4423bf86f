//! From a fresh device to its first document, and back in after its certificate ran out.

use fleet_pki::{DeviceKey, Lifetime};
use fleet_runtime::Clock as _;
use fleet_store::{Decided, EnrollmentDecision, complete_enrollment, decide_enrollment, open_enrollments};
use jiff::ToSpan as _;
use serde_json::{Value, json};

use crate::world::{ORG, World, body_of, quick};

fn request(key: &DeviceKey) -> Value {
    json!({"apiVersion": "v1beta1", "kind": "EnrollmentRequest", "metadata": {"name": key.device_name().as_str()},
           "spec": {"csr": key.csr_pem(key.device_name().as_str()).unwrap(), "labels": {"alias": "kiosk"},
                    "deviceStatus": {"systemInfo": {"productSerial": "42"}}, "knownRenderedVersion": "0", "osMode": "image"}})
}

async fn post(world: &World, client: &reqwest::Client, body: &Value) -> reqwest::Response {
    client.post(world.url("/enrollmentrequests")).body(body.to_string()).send().await.unwrap()
}

async fn get(world: &World, client: &reqwest::Client, key: &DeviceKey) -> Value {
    let answer = client.get(world.url(&format!("/enrollmentrequests/{}", key.device_name()))).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    body_of(answer).await
}

async fn decide(world: &World, key: &DeviceKey, approved: bool) -> Decided {
    let labels = [("site".to_owned(), "berlin".to_owned())].into();
    let decision = EnrollmentDecision { approved, decided_by: "eve", labels: &labels, replace_labels: false };
    let mut transaction = world.store.begin().await.unwrap();
    let now = world.clock.now().into();
    let decided = decide_enrollment(&mut transaction, ORG, key.device_name().as_str(), &decision, now).await.unwrap();
    transaction.commit().await.unwrap();
    decided
}

/// What the reconciler does with approved requests.
async fn carry_out(world: &World, key: &DeviceKey, lifetime: Lifetime) -> String {
    let mut transaction = world.store.begin().await.unwrap();
    let open = open_enrollments(&mut transaction, ORG, fleet_model::Digest::of(b"no policies"), 10).await.unwrap();
    assert!(open.iter().any(|open| open.name == key.device_name().as_str() && open.approved), "{open:?}");
    let issued = world.certify(key, lifetime).await;
    complete_enrollment(&mut transaction, ORG, key.device_name().as_str(), &issued.chain_pem).await.unwrap();
    transaction.commit().await.unwrap();
    issued.chain_pem
}

#[tokio::test]
async fn a_device_enrols_and_gets_its_first_document() {
    let world = World::start(quick()).await;
    let (client, _) = world.enrolling_client();
    let key = DeviceKey::generate().unwrap();
    let created = post(&world, &client, &request(&key)).await;
    assert_eq!(created.status().as_u16(), 201);
    let created = body_of(created).await;
    assert_eq!((&created["kind"], &created["status"]["conditions"]), (&json!("EnrollmentRequest"), &json!([])));
    assert_eq!(created["spec"]["labels"]["alias"], "kiosk");
    let repeated = post(&world, &client, &request(&key)).await;
    assert_eq!((repeated.status().as_u16(), body_of(repeated).await["reason"].clone()), (409, json!("Conflict")));
    assert_eq!(get(&world, &client, &key).await["status"], json!({"conditions": []}));

    assert_eq!(decide(&world, &key, true).await, Decided::Recorded);
    assert_eq!(decide(&world, &key, true).await, Decided::AlreadyApproved);
    let approved = get(&world, &client, &key).await;
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(approved["status"]["approval"]["approvedBy"], "eve");
    assert_eq!(approved["status"].get("certificate"), None);
    let chain = carry_out(&world, &key, Lifetime::days(10)).await;
    world.put_device(key.device_name(), 1, &json!({"os": {"image": "quay.io/os:1"}}), true).await;
    let enrolled = get(&world, &client, &key).await;
    assert_eq!(enrolled["status"]["certificate"], json!(chain));

    let managed = world.client(&key.client_identity(&chain), true);
    let url = world.url(&format!("/devices/{}/rendered?knownRenderedVersion=0", key.device_name()));
    let first = managed.get(url).send().await.unwrap();
    assert_eq!(first.status().as_u16(), 200);
    assert_eq!(body_of(first).await["spec"]["os"]["image"], "quay.io/os:1");
    world.stop().await;
}

#[tokio::test]
async fn an_approved_device_whose_certificate_ran_out_gets_a_new_one_without_a_person() {
    let world = World::start(quick()).await;
    let (client, _) = world.enrolling_client();
    let key = DeviceKey::generate().unwrap();
    post(&world, &client, &request(&key)).await;
    decide(&world, &key, true).await;
    let waiting = post(&world, &client, &request(&key)).await;
    assert_eq!(waiting.status().as_u16(), 409, "its certificate is on the way");
    let old = carry_out(&world, &key, Lifetime::days(2)).await;
    assert_eq!(post(&world, &client, &request(&key)).await.status().as_u16(), 409, "its certificate is valid");
    world.clock.set(world.clock.now().checked_add((24 * 3).hours()).unwrap());
    let mut again = request(&key);
    again["spec"]["labels"] = json!({"alias": "somebody-else"});
    assert_eq!(post(&world, &client, &again).await.status().as_u16(), 201);
    let waiting = get(&world, &client, &key).await;
    assert_eq!(
        (waiting["status"].get("certificate"), &waiting["status"]["approval"]["approved"]),
        (None, &json!(true))
    );
    assert_eq!(waiting["spec"]["labels"]["alias"], "kiosk", "approved labels stay");
    assert_eq!(waiting["spec"]["csr"], again["spec"]["csr"]);
    let new = carry_out(&world, &key, Lifetime::days(2)).await;
    assert_ne!(old, new);

    // A stolen device comes back only through a person.
    world.clock.set(world.clock.now().checked_add((24 * 3).hours()).unwrap());
    world.sql("update certificates set revoked_at = now()");
    assert_eq!(post(&world, &client, &request(&key)).await.status().as_u16(), 409);
    assert_eq!(world.metrics().enrollments_recovered.get(), 1);
    world.stop().await;
}

#[tokio::test]
async fn denied_stays_denied_and_a_failed_approval_is_tried_again() {
    let world = World::start(quick()).await;
    let (client, _) = world.enrolling_client();
    let (denied, failed) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    for key in [&denied, &failed] {
        post(&world, &client, &request(key)).await;
    }
    decide(&world, &denied, false).await;
    assert_eq!(decide(&world, &denied, true).await, Decided::AlreadyDenied);
    assert_eq!(post(&world, &client, &request(&denied)).await.status().as_u16(), 409);
    assert_eq!(get(&world, &client, &denied).await["status"]["conditions"][0]["type"], "Denied");
    decide(&world, &failed, true).await;
    world.sql("update enrollments set failure = 'no disk' where decision = 'Approved'");
    let status = get(&world, &client, &failed).await["status"].clone();
    assert_eq!(
        (&status["conditions"][1]["type"], &status["conditions"][1]["message"]),
        (&json!("Failed"), &json!("no disk"))
    );
    assert_eq!(post(&world, &client, &request(&failed)).await.status().as_u16(), 201);
    assert_eq!(get(&world, &client, &failed).await["status"]["conditions"].as_array().unwrap().len(), 1);
    assert_eq!(decide(&world, &DeviceKey::generate().unwrap(), true).await, Decided::NotFound);
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_with_the_reason() {
    let world = World::start(quick()).await;
    let (client, _) = world.enrolling_client();
    let (key, other) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let with = |path: &str, value: Value| {
        let mut body = request(&key);
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
    let other_csr = other.csr_pem(other.device_name().as_str()).unwrap();
    let liar = other.csr_pem(key.device_name().as_str()).unwrap();
    for (body, part) in [
        (json!([]), "request body"),
        (with("/kind", json!("Device")), "kind"),
        (with("/apiVersion", json!("v2")), "apiVersion"),
        (with("/metadata/name", json!("kiosk")), "metadata.name"),
        (with("/metadata/name", json!(other.device_name().as_str())), "metadata.name"),
        (with("/spec/csr", json!("nonsense")), "spec.csr"),
        (with("/spec/csr", json!(other_csr)), "metadata.name"),
        (with("/spec/csr", json!(liar)), "spec.csr"),
        (with("/spec/labels", json!({"a b": "c"})), "a b"),
        (with("/spec/labels", json!({"a": "c d"})), "c d"),
        (with("/spec/labels", json!(many)), "64"),
        (with("/spec/deviceStatus", json!("text")), "deviceStatus"),
        (with("/spec/deviceStatus", json!({"a": "\0"})), "NUL"),
        (with("/spec/knownRenderedVersion", json!("x")), "knownRenderedVersion"),
        (with("/spec/knownRenderedVersion", json!("9223372036854775807")), "knownRenderedVersion"),
        (with("/spec/osMode", json!("dos")), "osMode"),
    ] {
        let answer = post(&world, &client, &body).await;
        let (code, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(code, 400, "{text}");
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let large = with("/spec/deviceStatus", json!({"a": "x".repeat(512 * 1024)}));
    assert_eq!(post(&world, &client, &large).await.status().as_u16(), 413);
    assert_eq!(world.sql("select count(*) from enrollments"), "0");
    let unknown = client.get(world.url(&format!("/enrollmentrequests/{}", key.device_name()))).send().await.unwrap();
    assert_eq!(unknown.status().as_u16(), 404);
    world.stop().await;
}
