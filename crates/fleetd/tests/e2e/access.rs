//! Who gets in: wrong certificates and tokens get an error and a log line, never data.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fleet_model::Role;
use fleet_pki::tls::{ClientIdentity, TlsTime, client_config};
use fleet_pki::{CertificateAuthority, DeviceCsr, DeviceKey, DeviceSigner, Lifetime};
use fleet_runtime::{Clock, ManualClock, SystemClock};
use fleet_user_api::LocalIssuer;
use std::sync::Arc;

use crate::commits::FILES;
use crate::harness::{Installation, eventually};

/// Asks with a client certificate, or none; the HTTP status and body, or `None` when TLS itself refuses.
fn ask(there: &Installation, identity: Option<&ClientIdentity>, path: &str) -> Option<(u16, String)> {
    let ca = fs::read_to_string(there.ca_file()).unwrap();
    let tls = client_config(&ca, identity, &TlsTime::system()).unwrap();
    request(tls, format!("{}{path}", there.agent_url()), None)
}

/// Asks with these settings for TLS and a token, or none; the HTTP status and body, or `None` when TLS itself refuses.
pub(crate) fn request(tls: rustls::ClientConfig, url: String, token: Option<&str>) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client =
            reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(Duration::from_secs(10)).build().unwrap();
        let mut request = client.get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    })
}

fn management(authority: &CertificateAuthority, clock: &dyn Clock, life: Duration) -> (String, ClientIdentity) {
    let key = DeviceKey::generate().unwrap();
    let name = key.device_name().to_string();
    let csr = DeviceCsr::parse(&key.csr_pem(&name).unwrap()).unwrap();
    let issued = authority
        .sign_device(
            &csr,
            DeviceSigner::DeviceEnrollment,
            fleet_model::OrgId::DEFAULT,
            clock.now(),
            Lifetime::at_most(life),
        )
        .unwrap();
    (name, key.client_identity(&issued.chain_pem))
}

/// The identity that an agent keeps below its root.
fn identity_of(root: &Path) -> (String, ClientIdentity) {
    let state = root.join("var/lib/fleet-agent");
    let find = |extension: &str| {
        let mut pending = vec![state.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    pending.push(path);
                } else if path.file_name().is_some_and(|n| n.to_string_lossy() == format!("agent.{extension}")) {
                    return fs::read_to_string(path).unwrap();
                }
            }
        }
        panic!("no agent.{extension} below {}", state.display());
    };
    let key = DeviceKey::from_pem(&find("key")).unwrap();
    let name = key.device_name().to_string();
    (name, key.client_identity(&find("crt")))
}

#[test]
fn only_a_devices_own_valid_certificate_gets_its_document() {
    let there = Installation::start(FILES);
    let one = there.start_device("kiosk-1");
    let two = there.start_device("kiosk-2");
    one.wait_file("/etc/motd", "first\n");
    two.wait_file("/etc/motd", "first\n");
    let (name, identity) = identity_of(&one.root);
    let (other, _) = identity_of(&two.root);
    let rendered = |name: &str| format!("/api/v1/devices/{name}/rendered");
    let (code, body) = ask(&there, Some(&identity), &rendered(&name)).unwrap();
    assert_eq!(code, 200);
    assert!(body.contains("/etc/motd"));

    let refused = |what: &str, answer: Option<(u16, String)>| {
        if let Some((code, body)) = answer {
            assert!(matches!(code, 401 | 403), "{what}: {code} {body}");
            assert!(!body.contains("/etc/motd") && body.contains("\"Status\""), "{what}: {body}");
        }
    };
    refused("another device's name", ask(&there, Some(&identity), &rendered(&other)));
    assert!(ask(&there, None, &rendered(&name)).is_none(), "without a certificate not even TLS");
    let stranger = tempfile::tempdir().unwrap();
    let foreign = CertificateAuthority::load_or_create(stranger.path(), SystemClock.now()).unwrap();
    let (_, forged) = management(&foreign, &SystemClock, Duration::from_secs(3600));
    assert!(ask(&there, Some(&forged), &rendered(&name)).is_none(), "of another authority not even TLS");
    let authority = CertificateAuthority::load_or_create(&there.data_dir(), SystemClock.now()).unwrap();
    let past = ManualClock::new(SystemClock.now() - Duration::from_secs(7200));
    let (expired_name, expired) = management(&authority, &past, Duration::from_secs(3600));
    refused("an expired certificate", ask(&there, Some(&expired), &rendered(&expired_name)));
    let enrolment = enrolment_identity(&authority);
    refused("an enrolment certificate", ask(&there, Some(&enrolment), &rendered(&name)));
    refused(
        "a management certificate that asks for enrolments",
        ask(&there, Some(&identity), &format!("/api/v1/enrollmentrequests/{other}")),
    );

    // Revocation works without the device's help.
    there.sql(&format!("update certificates set revoked_at = now() where device = '{name}'"));
    there.sql(&format!(
        "update devices set change_seq = nextval('device_change_seq') where name = '{name}'; notify shorebase_devices"
    ));
    eventually("the revoked certificate to be refused", || {
        let (code, body) = ask(&there, Some(&identity), &format!("{}?knownRenderedVersion=0", rendered(&name)))?;
        assert!(code == 200 || !body.contains("/etc/motd"));
        matches!(code, 401 | 403).then_some(())
    });
    for why in [
        "the certificate is that of another device",
        "an enrolment certificate can only enrol",
        "a management certificate cannot enrol",
        "the certificate was revoked",
    ] {
        eventually(&format!("{why:?} to be in the log"), || there.service_log().contains(why).then_some(()));
    }
}

fn enrolment_identity(authority: &CertificateAuthority) -> ClientIdentity {
    let key = DeviceKey::generate().unwrap();
    let csr = DeviceCsr::parse(&key.csr_pem("client-enrollment").unwrap()).unwrap();
    let issued =
        authority.sign_enrollment(&csr, fleet_model::OrgId::DEFAULT, SystemClock.now(), Lifetime::days(1)).unwrap();
    key.client_identity(&issued.chain_pem)
}

#[test]
fn only_a_valid_token_gets_an_answer() {
    let there = Installation::start(FILES);
    let ca = fs::read_to_string(there.ca_file()).unwrap();
    let get = |path: &str, token: Option<&str>| {
        let tls = client_config(&ca, None, &TlsTime::system()).unwrap();
        request(tls, format!("{}{path}", there.user_url()), token).expect("TLS works without a client certificate")
    };
    let good = there.token("viewer");
    assert_eq!(get("/api/v1/fleets", Some(&good)).0, 200);
    let stranger = tempfile::tempdir().unwrap();
    let foreign = LocalIssuer::load_or_create(stranger.path(), Arc::new(SystemClock)).unwrap();
    let forged = foreign.mint("mallory", Role::Admin, Duration::from_secs(3600)).unwrap();
    let past = Arc::new(ManualClock::new(SystemClock.now() - Duration::from_secs(7200)));
    let old = LocalIssuer::load_or_create(&there.data_dir(), past).unwrap();
    let expired = old.mint("tester", Role::Admin, Duration::from_secs(3600)).unwrap();
    let tampered = {
        let mut parts: Vec<&str> = good.split('.').collect();
        let other = foreign.mint("tester", Role::Admin, Duration::from_secs(3600)).unwrap();
        let payload = other.split('.').nth(1).unwrap().to_owned();
        parts[1] = &payload;
        parts.join(".")
    };
    for (what, token) in [
        ("no token", None),
        ("a token of another issuer", Some(forged.as_str())),
        ("an expired token", Some(expired.as_str())),
        ("a token with another body", Some(tampered.as_str())),
        ("no JWT at all", Some("letmein")),
    ] {
        let (code, body) = get("/api/v1/fleets", token);
        assert_eq!(code, 401, "{what}: {body}");
        assert!(!body.contains("kiosks"), "{what}: {body}");
    }
    let viewer = there.fleetctl_as("viewer", &["approve", &"0".repeat(52)]);
    assert_ne!(viewer.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&viewer.stderr).contains("403"), "{}", String::from_utf8_lossy(&viewer.stderr));
}

#[test]
fn desired_state_is_read_only_and_says_where_it_is_defined() {
    let there = Installation::start(FILES);
    let head = there.repo.head();
    there.wait_applied(&head);
    let ca = fs::read_to_string(there.ca_file()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (code, body) = runtime.block_on(async {
        let tls = client_config(&ca, None, &TlsTime::system()).unwrap();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        let url = format!("{}/api/v1/fleets/kiosks", there.user_url());
        let answer = client.delete(url).bearer_auth(there.token("admin")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });
    assert_eq!(code, 405, "{body}");
    for part in ["fleets/kiosks.yaml", &there.repo.url()] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
}
