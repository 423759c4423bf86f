//! Who may do what: decided by the certificate of the connection, for every request.

use fleet_pki::{DeviceKey, Lifetime};
use fleet_runtime::Clock as _;
use fleet_store::revoke_device_certificates;
use jiff::ToSpan as _;
use serde_json::json;

use crate::world::{ORG, World, quick, status_body};

async fn refused(request: reqwest::RequestBuilder, what: &str) {
    let answer = request.send().await.unwrap();
    let code = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert_eq!(code, 401, "{what}: {text}");
    assert!(text.contains("\"kind\":\"Status\"") && !text.contains("quay.io"), "{what}: {text}");
}

#[tokio::test]
async fn a_certificate_opens_only_its_own_doors() {
    let world = World::start(quick()).await;
    let (a, b) = (world.device(json!({"os": {"image": "quay.io/os:1"}})).await, world.device(json!({})).await);
    let (enrolling, _) = world.enrolling_client();
    let rendered = world.url(&format!("/devices/{}/rendered", a.name));
    let status = world.url(&format!("/devices/{}/status", a.name));
    let body = status_body(&a.name, "1").to_string();
    for (client, who) in [(&b.client, "another device"), (&enrolling, "an enrolment certificate")] {
        refused(client.get(&rendered), who).await;
        refused(client.put(&status).body(body.clone()), who).await;
        refused(client.patch(&status).body("[]"), who).await;
    }
    refused(enrolling.post(world.url("/certificatesigningrequests")).body("{}"), "enrolling").await;
    refused(enrolling.get(world.url("/certificatesigningrequests/x")), "enrolling").await;
    refused(a.client.post(world.url("/enrollmentrequests")).body("{}"), "managed").await;
    refused(a.client.get(world.url(&format!("/enrollmentrequests/{}", a.name))), "managed").await;
    assert_eq!(world.sql("select count(*) from device_status"), "0");
    assert_eq!(a.client.patch(&status).body("[]").send().await.unwrap().status().as_u16(), 409, "nothing to patch yet");
    // Without a certificate there is no connection at all.
    let nobody = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(world.authority.root_pem().as_bytes()).unwrap()])
        .build()
        .unwrap();
    assert!(nobody.get(&rendered).send().await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn a_certificate_that_expires_on_an_open_connection_opens_nothing() {
    let world = World::start(quick()).await;
    let device = world.device(json!({"os": {"image": "quay.io/os:1"}})).await;
    assert_eq!(device.poll(&world, None).send().await.unwrap().status().as_u16(), 200);
    let expired = async {
        world.wait_parked(1).await;
        world.clock.set(device.issued.not_after.checked_add(1.second()).unwrap());
        world.put_device(&device.name, 2, &json!({"os": {"image": "quay.io/os:2"}}), true).await;
    };
    tokio::join!(refused(device.poll(&world, Some("1")), "held while it expired"), expired);
    refused(device.poll(&world, None), "expired").await;
    refused(device.put_status(&world, &status_body(&device.name, "1")), "expired").await;
    refused(device.client.post(world.url("/certificatesigningrequests")).body("{}"), "expired").await;
    world.stop().await;
}

#[tokio::test]
async fn revocation_cuts_a_held_poll_and_everything_after() {
    let world = World::start(quick()).await;
    let (device, other) = (world.device(json!({"os": {"image": "quay.io/os:1"}})).await, world.device(json!({})).await);
    let revoke = async {
        world.wait_parked(1).await;
        let mut transaction = world.store.begin().await.unwrap();
        let now = world.clock.now().into();
        let revoked = revoke_device_certificates(&mut transaction, ORG, &device.name, "stolen", now).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(revoked, 1);
    };
    let started = std::time::Instant::now();
    tokio::join!(refused(device.poll(&world, Some("1")), "held"), revoke);
    assert!(started.elapsed() < quick().poll_hold / 2, "{:?}", started.elapsed());
    refused(device.poll(&world, None), "revoked").await;
    refused(device.put_status(&world, &status_body(&device.name, "1")), "revoked").await;
    refused(device.client.get(world.url("/certificatesigningrequests/x")), "revoked").await;
    assert_eq!(other.poll(&world, None).send().await.unwrap().status().as_u16(), 200);
    world.stop().await;
}

#[tokio::test]
async fn a_revoked_enrolment_certificate_cannot_enrol() {
    let world = World::start(quick()).await;
    let (client, issued) = world.enrolling_client();
    world.sql(&format!(
        "insert into certificates (serial, org_id, signer, fingerprint, not_before, not_after, revoked_at)
         values ('{}', '{ORG}', 'flightctl.io/enrollment', '', now(), now(), now())",
        issued.serial_hex
    ));
    refused(client.post(world.url("/enrollmentrequests")).body("{}"), "revoked").await;
    world.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_makes_no_connection() {
    let (world, stranger) = tokio::join!(World::start(quick()), World::start(quick()));
    let key = DeviceKey::generate().unwrap();
    let foreign = stranger.certify(&key, Lifetime::days(10)).await;
    let client = world.client(&key.client_identity(&foreign.chain_pem), true);
    assert!(client.get(world.url(&format!("/devices/{}/rendered", key.device_name()))).send().await.is_err());
    world.stop().await;
    stranger.stop().await;
}
