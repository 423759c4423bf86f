//! Certificates that a verified chain could in principle carry, and what each is taken for.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, PublicKeyData as _,
};

use super::*;
use crate::device_name_from_point;

const ORG: &str = "00000000-0000-0000-0000-000000000000";
const MANAGEMENT: &str = "flightctl.io/device-enrollment";

/// A self-signed certificate of `key`; the texts are those of the three extensions.
fn forge(
    key: &KeyPair,
    common_name: &str,
    texts: [Option<&str>; 3],
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let extensions = [der::SIGNER_NAME, der::ORGANIZATION, der::DEVICE].into_iter().zip(texts);
    params.custom_extensions = extensions.filter_map(|(which, text)| which.with_text(text?)).collect();
    change(&mut params);
    params.self_signed(key).unwrap().der().to_vec()
}

fn key_and_common_name() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let name = format!("device:{}", device_name_from_point(key.der_bytes()).unwrap());
    (key, name)
}

fn refusal(der: &[u8]) -> String {
    PeerIdentity::from_certificate(der).unwrap_err().to_string()
}

#[test]
fn a_device_is_what_name_extension_and_key_agree_on() {
    let (key, name) = key_and_common_name();
    let identity =
        PeerIdentity::from_certificate(&forge(&key, &name, [Some(MANAGEMENT), Some(ORG), Some(&name)], |_| ()))
            .unwrap();
    assert_eq!(identity.device().unwrap().as_str(), name.strip_prefix("device:").unwrap());
    assert_eq!(identity.org(), OrgId::DEFAULT);

    let (other_key, other) = key_and_common_name();
    let bare = name.strip_prefix("device:").unwrap();
    for (key, common_name, claimed, says) in [
        (&key, other.as_str(), name.as_str(), "differs from the device extension"),
        (&other_key, name.as_str(), name.as_str(), "is not the name that the key has"),
        (&key, bare, bare, "does not begin with device:"),
        (&key, "device:../x", "device:../x", "holds no device name"),
    ] {
        let refused = refusal(&forge(key, common_name, [Some(MANAGEMENT), Some(ORG), Some(claimed)], |_| ()));
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn every_extension_is_required_where_it_belongs() {
    let (key, name) = key_and_common_name();
    let enrollment = Some(ENROLLMENT_SIGNER);
    for (common_name, texts, says) in [
        (name.as_str(), [None, Some(ORG), Some(name.as_str())], "signer name is missing"),
        (&name, [Some(MANAGEMENT), None, Some(&name)], "organisation is missing"),
        (&name, [Some(MANAGEMENT), Some("default"), Some(&name)], "organisation is not a UUID"),
        (&name, [Some(MANAGEMENT), Some(ORG), None], "device is missing"),
        (&name, [Some("flightctl.io/server-svc"), Some(ORG), Some(&name)], "neither enrols nor manages"),
        ("client-enrollment", [enrollment, Some(ORG), Some(&name)], "has no place"),
        (&name, [enrollment, Some(ORG), None], "is not one for enrolment"),
        ("client-enrollment-", [enrollment, Some(ORG), None], "is not one for enrolment"),
    ] {
        let refused = refusal(&forge(&key, common_name, texts, |_| ()));
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn an_enrolment_certificate_names_no_device() {
    let (key, _) = key_and_common_name();
    for name in ["client-enrollment", "client-enrollment-berlin"] {
        let der = forge(&key, name, [Some(ENROLLMENT_SIGNER), Some(ORG), None], |_| ());
        let identity = PeerIdentity::from_certificate(&der).unwrap();
        assert_eq!(identity.device(), None);
        assert!(matches!(identity, PeerIdentity::Enrollment { common_name, .. } if common_name == name));
    }
}

#[test]
fn certificates_that_are_not_for_clients_are_refused() {
    let (key, name) = key_and_common_name();
    let texts = [Some(MANAGEMENT), Some(ORG), Some(name.as_str())];
    let authority = forge(&key, &name, texts, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(refusal(&authority).contains("certificate authority"));
    let server = forge(&key, &name, texts, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(refusal(&server).contains("clientAuth"));
    let twice = forge(&key, &name, texts, |params| {
        params.custom_extensions.push(params.custom_extensions[0].clone());
    });
    assert!(refusal(&twice).contains("twice"));
    let damaged = forge(&key, &name, [None, Some(ORG), Some(&name)], |params| {
        let not_a_string = CustomExtension::from_oid_content(der::SIGNER_NAME.arcs, vec![0x02, 0x01, 0x05]);
        params.custom_extensions.push(not_a_string);
    });
    assert!(refusal(&damaged).contains("is not one DER string"));
}

fn valid_der() -> &'static (Vec<u8>, PeerIdentity) {
    static DER: std::sync::OnceLock<(Vec<u8>, PeerIdentity)> = std::sync::OnceLock::new();
    DER.get_or_init(|| {
        let (key, name) = key_and_common_name();
        let der = forge(&key, &name, [Some(MANAGEMENT), Some(ORG), Some(&name)], |_| ());
        let identity = PeerIdentity::from_certificate(&der).unwrap();
        (der, identity)
    })
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        proptest::prop_assert!(PeerIdentity::from_certificate(&bytes).is_err());
    }

    #[test]
    fn no_changed_byte_makes_it_another_device(at: proptest::sample::Index, flip in 1u8..) {
        let (der, original) = valid_der();
        let mut der = der.clone();
        let at = at.index(der.len());
        der[at] ^= flip;
        if let Ok(identity) = PeerIdentity::from_certificate(&der) {
            if let Some(device) = identity.device() {
                proptest::prop_assert_eq!(Some(device), original.device());
            }
            proptest::prop_assert_ne!(identity.certificate().sha256, original.certificate().sha256);
        }
    }
}
