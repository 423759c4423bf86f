//! The certificate authority: what it keeps on disk, and what it puts into certificates.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use fleet_model::{Digest, OrgId};
use fleet_pki::{
    CaError, CaWarning, CertificateAuthority, CertificateFacts, CsrError, DeviceCsr, DeviceKey, DeviceSigner,
    IssueError, Lifetime, PeerIdentity, ServerCertificate,
};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

const WEEK: Lifetime = Lifetime::days(7);

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn later(days: i64) -> Timestamp {
    now() + Duration::from_secs(86_400).checked_mul(u32::try_from(days).unwrap()).unwrap()
}

fn authority(dir: &Path) -> CertificateAuthority {
    CertificateAuthority::load_or_create(dir, now()).unwrap()
}

fn files_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_loaded_authority_is_the_one_that_was_created() {
    let dir = tempfile::tempdir().unwrap();
    let created = authority(dir.path());
    let before = files_of(&dir.path().join("ca"));
    let loaded = CertificateAuthority::load_or_create(dir.path(), later(1)).unwrap();
    assert_eq!(created.ca_bundle_pem(), loaded.ca_bundle_pem());
    assert_eq!(created.client_ca_roots(), loaded.client_ca_roots());
    assert_eq!(files_of(&dir.path().join("ca")), before);
    assert_eq!(before.len(), 6);
    assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
}

#[test]
fn its_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    authority(&dir);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("ca")), 0o700);
    for (name, _) in files_of(&dir.join("ca")) {
        assert_eq!(mode(&dir.join("ca").join(&name)), 0o600, "{name}");
    }
}

#[test]
fn open_keys_and_a_near_end_are_told() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path());
    let key = dir.path().join("ca/client-signer.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(authority(dir.path()).warnings(), [CaWarning::OpenToOthers { path: key }]);
    let old = CertificateAuthority::load_or_create(dir.path(), later(3650 - 300)).unwrap();
    assert_eq!(old.warnings().iter().filter(|warning| matches!(warning, CaWarning::Expires { .. })).count(), 3);
}

#[test]
fn an_unfinished_creation_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let unfinished = dir.path().join(".ca-0123456789abcdef");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("root.key"), "half a k").unwrap();
    let authority = authority(dir.path());
    assert!(!unfinished.exists());
    assert!(authority.warnings().is_empty());
}

#[test]
fn many_processes_creating_at_once_get_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let bundles: Vec<String> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..6).map(|_| scope.spawn(|| authority(dir.path()).ca_bundle_pem())).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(bundles.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn an_incomplete_or_mixed_authority_is_reported_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path());
    let key = dir.path().join("ca/client-signer.key");
    let server_key = dir.path().join("ca/server-signer.key");
    let load = || CertificateAuthority::load_or_create(dir.path(), now());
    let good = std::fs::read(&key).unwrap();

    std::fs::copy(&server_key, &key).unwrap();
    assert!(matches!(load(), Err(CaError::KeyMismatch { path }) if path == key));
    std::fs::write(&key, "rubbish").unwrap();
    assert!(matches!(load(), Err(CaError::Key { path, .. }) if path == key));
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(load(), Err(CaError::Incomplete { path }) if path == key));
    std::fs::write(&key, good).unwrap();
    load().unwrap();

    let other = tempfile::tempdir().unwrap();
    authority(other.path());
    std::fs::copy(other.path().join("ca/client-signer.crt"), dir.path().join("ca/client-signer.crt")).unwrap();
    assert!(matches!(load(), Err(CaError::Certificate { problem, .. }) if problem.contains("root did not sign")));
}

#[test]
fn the_root_key_may_be_kept_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path());
    std::fs::remove_file(dir.path().join("ca/root.key")).unwrap();
    authority(dir.path()).issue_server(&["localhost".to_owned()], now(), WEEK).unwrap();
}

/// A request that wants everything.
fn greedy_csr(common_name: impl FnOnce(&str) -> String) -> (DeviceCsr, DeviceKey) {
    let key = DeviceKey::generate().unwrap();
    let pair = KeyPair::from_pem(key.pem()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name(key.device_name().as_str()));
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.subject_alt_names = vec![SanType::DnsName("api.example.com".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    let forged = [0x13, 4, b'e', b'v', b'i', b'l'].to_vec();
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1, 2], forged)];
    let pem = params.serialize_request(&pair).unwrap().pem().unwrap();
    (DeviceCsr::parse(&pem).unwrap(), key)
}

#[test]
fn a_greedy_request_gets_a_device_certificate_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let (csr, key) = greedy_csr(str::to_owned);
    let org = OrgId::from(uuid::Uuid::from_u128(7));
    let issued = ca.sign_device(&csr, DeviceSigner::DeviceEnrollment, org, now(), WEEK).unwrap();

    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    assert_eq!(parsed.subject().to_string(), format!("CN=device:{}", key.device_name()));
    assert!(!parsed.is_ca());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
    assert_eq!(parsed.key_usage().unwrap().unwrap().value.flags, 1);
    let own: Vec<_> =
        parsed.extensions().iter().filter(|e| e.oid.to_id_string().starts_with("1.3.6.1.4.1.99999.1.")).collect();
    assert_eq!(own.len(), 3);
    assert!(own.iter().all(|extension| !extension.critical && extension.value[0] == 0x13));

    let identity = PeerIdentity::from_certificate(&issued.der).unwrap();
    assert_eq!(identity.device(), Some(key.device_name()));
    assert_eq!(identity.org(), org);
    assert!(matches!(identity, PeerIdentity::Management { signer: DeviceSigner::DeviceEnrollment, .. }));
    let facts = identity.certificate();
    assert_eq!((&facts.serial_hex, facts.sha256), (&issued.serial_hex, Digest::of(&issued.der)));
    assert_eq!((facts.not_before, facts.not_after), (issued.not_before, issued.not_after));
    assert_eq!(issued.not_after, later(7));
    assert_eq!(&CertificateFacts::from_pem(&issued.chain_pem).unwrap(), facts);
    assert_eq!(issued.serial_hex.len(), 32);
}

#[test]
fn nobody_gets_a_certificate_of_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let other = DeviceKey::generate().unwrap();
    for stolen in ["evil".to_owned(), other.device_name().to_string(), format!("device:{}", other.device_name())] {
        let (csr, _) = greedy_csr(|_| stolen);
        let refused = ca.sign_device(&csr, DeviceSigner::DeviceRenewal, OrgId::DEFAULT, now(), WEEK);
        assert!(matches!(refused, Err(IssueError::Csr(CsrError::NotTheKeysDevice { .. }))));
        assert!(ca.sign_enrollment(&csr, OrgId::DEFAULT, now(), WEEK).is_err());
    }
}

#[test]
fn an_enrolment_certificate_can_only_enrol() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let (csr, _) = greedy_csr(|_| "client-enrollment-berlin".to_owned());
    let short = WEEK.lowered_to(Some(3600)).unwrap();
    let issued = ca.sign_enrollment(&csr, OrgId::DEFAULT, now(), short).unwrap();
    let identity = PeerIdentity::from_certificate(&issued.der).unwrap();
    assert!(
        matches!(&identity, PeerIdentity::Enrollment { common_name, .. } if common_name == "client-enrollment-berlin")
    );
    assert_eq!(identity.not_after(), now() + Duration::from_secs(3600));
    assert!(identity.is_valid_at(now()) && !identity.is_valid_at(later(1)));
}

#[test]
fn serial_numbers_are_never_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let (csr, _) = greedy_csr(str::to_owned);
    let serial = || ca.sign_device(&csr, DeviceSigner::DeviceRenewal, OrgId::DEFAULT, now(), WEEK).unwrap().serial_hex;
    assert_ne!(serial(), serial());
}

#[test]
fn an_ended_authority_issues_nothing_and_a_certificate_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let (csr, _) = greedy_csr(str::to_owned);
    let sign = |at| ca.sign_device(&csr, DeviceSigner::DeviceRenewal, OrgId::DEFAULT, at, WEEK);
    assert_eq!(sign(later(3649)).unwrap().not_after, later(3650));
    assert!(matches!(sign(later(3650)), Err(IssueError::AuthorityExpired { .. })));
}

#[test]
fn a_server_certificate_is_kept_while_it_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let place = dir.path().join("agent-api");
    let get = |names: &[&str], at| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ServerCertificate::load_or_issue(&place, &ca, &names, at).unwrap()
    };
    let first = get(&["fleet.example.com", "127.0.0.1", "::1"], now());
    assert_eq!(get(&["::1", "127.0.0.1", "FLEET.example.com"], later(59)).facts(), first.facts());
    let renewed = get(&["fleet.example.com", "127.0.0.1", "::1"], later(61));
    assert_ne!(renewed.facts(), first.facts());
    assert!(later(59) < first.renew_at() && first.renew_at() < later(61));
    let renamed = get(&["fleet.example.org"], later(61));
    assert_ne!(renamed.facts(), renewed.facts());

    std::fs::write(place.join("server.pem"), "torn").unwrap();
    let repaired = get(&["fleet.example.org"], later(61));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = authority(elsewhere.path());
    let names = ["fleet.example.org".to_owned()];
    let foreign = ServerCertificate::load_or_issue(&place, &other, &names, later(61)).unwrap();
    assert_ne!(foreign.facts(), repaired.facts());
}

#[test]
fn names_that_no_certificate_can_bear_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    for bad in ["", "a b", "https://x", "fleet.example.com:7443", "ü.example.com"] {
        let refused = ca.issue_server(&[bad.to_owned()], now(), WEEK);
        assert!(matches!(refused, Err(IssueError::ServerName { .. })), "{bad:?}");
    }
    assert!(matches!(ca.issue_server(&[], now(), WEEK), Err(IssueError::ServerNames { count: 0 })));
}

#[test]
fn an_operators_files_are_checked_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let load = || ServerCertificate::from_files(&chain, &key).map_err(|error| error.to_string());
    let issued = ca.issue_server(&["localhost".to_owned()], now(), WEEK).unwrap();
    assert!(load().unwrap_err().contains("tls.crt"));
    std::fs::write(&chain, &issued.chain_pem).unwrap();
    assert!(load().unwrap_err().contains("tls.key"));
    std::fs::write(&key, DeviceKey::generate().unwrap().pem()).unwrap();
    assert!(load().unwrap_err().contains("cannot be used with the certificate"));
    std::fs::write(&key, issued.key_pem.as_bytes()).unwrap();
    assert_eq!(load().unwrap().facts().not_after, issued.not_after);
    std::fs::write(&chain, "").unwrap();
    assert!(load().unwrap_err().contains("tls.crt"));
}
