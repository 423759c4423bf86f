//! Renewal: the same key, a new certificate, at once.

use fleet_pki::{CertificateFacts, DeviceKey};
use serde_json::{Value, json};

use crate::world::{Managed, World, body_of, quick};

fn request(device: &Managed, name: &str, key: &DeviceKey) -> Value {
    let csr = key.csr_pem(key.device_name().as_str()).unwrap();
    json!({"apiVersion": "v1beta1", "kind": "CertificateSigningRequest", "metadata": {"name": format!("{}-{name}", device.name)},
           "spec": {"request": data_encoding::BASE64.encode(csr.as_bytes()),
                    "signerName": "flightctl.io/device-management-renewal", "usages": ["clientAuth", "CA:false"]}})
}

async fn post(world: &World, device: &Managed, body: &Value) -> reqwest::Response {
    device.client.post(world.url("/certificatesigningrequests")).body(body.to_string()).send().await.unwrap()
}

#[tokio::test]
async fn a_device_renews_and_works_with_the_new_certificate() {
    let world = World::start(quick()).await;
    let (device, other) = (world.device(json!({})).await, world.device(json!({})).await);
    let mut body = request(&device, "0123abcd", &device.key);
    body["spec"]["expirationSeconds"] = json!(3600);
    world.sql(&format!(
        "insert into enrollments (org_id, name, csr, decision, decided_by, certificate)
         select id, '{}', 'csr', 'Approved', 'tester', 'the first one' from orgs",
        device.name
    ));
    let created = post(&world, &device, &body).await;
    assert_eq!(created.status().as_u16(), 201);
    let url = world.url(&format!("/certificatesigningrequests/{}-0123abcd", device.name));
    let read = body_of(device.client.get(&url).send().await.unwrap()).await;
    assert_eq!(read, body_of(created).await);
    assert_eq!(
        (&read["status"]["conditions"][0]["type"], &read["status"]["conditions"][0]["status"]),
        (&json!("Approved"), &json!("True"))
    );
    let chain = data_encoding::BASE64.decode(read["status"]["certificate"].as_str().unwrap().as_bytes()).unwrap();
    let chain = String::from_utf8(chain).unwrap();
    assert_eq!(
        world.sql("select certificate from enrollments"),
        chain.trim_end(),
        "a device that lost it gets this one"
    );
    let facts = CertificateFacts::from_pem(&chain).unwrap();
    let life = facts.not_after.as_second() - facts.not_before.as_second();
    assert!((3600..3900).contains(&life), "{life}");
    let noted = world.sql(&format!("select device, signer from certificates where serial = '{}'", facts.serial_hex));
    assert_eq!(noted, format!("{}|flightctl.io/device-management-renewal", device.name));
    let renewed = world.client(&device.key.client_identity(&chain), true);
    let poll = renewed.get(world.url(&format!("/devices/{}/rendered", device.name))).send().await.unwrap();
    assert_eq!(poll.status().as_u16(), 200);

    assert_eq!(post(&world, &device, &body).await.status().as_u16(), 409);
    assert_eq!(other.client.get(&url).send().await.unwrap().status().as_u16(), 401);
    let unknown = world.url("/certificatesigningrequests/unknown");
    assert_eq!(device.client.get(unknown).send().await.unwrap().status().as_u16(), 404);
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_a_renewal_is_refused_with_the_reason() {
    let world = World::start(quick()).await;
    let (device, other) = (world.device(json!({})).await, world.device(json!({})).await);
    let with = |path: &str, value: Value| {
        let mut body = request(&device, "1", &device.key);
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    let mut never = request(&device, "1", &device.key);
    never["spec"]["expirationSeconds"] = json!(0);
    for (body, part) in [
        (request(&device, "1", &other.key), "another device|key"),
        (with("/spec/request", json!("%%%")), "spec.request"),
        (with("/spec/signerName", json!("flightctl.io/enrollment")), "signerName"),
        (with("/spec/signerName", json!("flightctl.io/device-enrollment")), "signerName"),
        (with("/spec/usages", json!(["clientAuth"])), "CA:false"),
        (with("/spec/usages", json!([])), "usages"),
        (with("/metadata/name", json!("Not A Name")), "metadata.name"),
        (with("/kind", json!("Device")), "kind"),
        (never, "expirationSeconds"),
    ] {
        let answer = post(&world, &device, &body).await;
        let (code, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(code, 400, "{text}");
        assert!(part.split('|').any(|part| text.contains(part)), "{part:?} is not in {text}");
    }
    assert_eq!(world.sql("select count(*) from certificate_signing_requests"), "0");
    world.stop().await;
}
