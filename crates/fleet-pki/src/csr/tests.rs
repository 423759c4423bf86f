//! What requests are taken for, damaged and hostile ones included.

use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::*;
use crate::DeviceKey;

fn pem_of(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

fn csr(key: &KeyPair, common_name: &str, extensions: Vec<CustomExtension>) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    params.custom_extensions = extensions;
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn a_device_asks_for_its_own_name_with_or_without_the_prefix() {
    let key = DeviceKey::generate().unwrap();
    let name = key.device_name().as_str();
    for common_name in [name.to_owned(), format!("device:{name}")] {
        let csr = DeviceCsr::parse(&key.csr_pem(&common_name).unwrap()).unwrap();
        assert_eq!(csr.require_device().unwrap(), key.device_name());
        assert!(csr.require_enrollment().is_err());
    }
    let csr = DeviceCsr::parse(&key.csr_pem("evil").unwrap()).unwrap();
    assert!(matches!(csr.require_device(), Err(CsrError::NotTheKeysDevice { .. })));
}

#[test]
fn unknown_extensions_do_not_matter() {
    let key = KeyPair::generate().unwrap();
    let unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4, 5], vec![0x05, 0x00]);
    assert_eq!(DeviceCsr::parse(&csr(&key, "evil", vec![unknown])).unwrap().common_name(), "evil");
}

#[test]
fn rsa_requests_are_accepted_and_other_keys_refused() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    assert_eq!(DeviceCsr::parse(&csr(&rsa, "a", vec![])).unwrap().device_name().as_str().len(), 52);
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert!(matches!(DeviceCsr::parse(&csr(&ed, "a", vec![])), Err(CsrError::Key(_))));
}

#[test]
fn one_section_is_expected_and_nothing_else() {
    let key = DeviceKey::generate().unwrap();
    let one = key.csr_pem("a").unwrap();
    for (bad, says) in [
        (String::new(), "there is none"),
        (format!("{one}{one}"), "several"),
        (format!("{one}{}", key.pem()), "several"),
        (key.pem().to_owned(), "PrivateKey"),
        (one.replace("-----END", "-----FIN"), "missing section end"),
    ] {
        let error = DeviceCsr::parse(&bad).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
    let long = " ".repeat(MAX_CSR_TEXT + 1);
    assert_eq!(DeviceCsr::parse(&long), Err(CsrError::TooLong { length: MAX_CSR_TEXT + 1 }));
}

#[test]
fn base64_may_be_wrapped() {
    let key = DeviceKey::generate().unwrap();
    let pem = key.csr_pem("a").unwrap();
    let text = data_encoding::BASE64_MIME.encode(pem.as_bytes());
    assert_eq!(DeviceCsr::parse_base64(&text), DeviceCsr::parse(&pem));
    assert_eq!(DeviceCsr::parse_base64("%%"), Err(CsrError::Base64));
}

#[test]
fn a_request_must_have_one_common_name() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let none = params.serialize_request(&key).unwrap().pem().unwrap();
    assert_eq!(DeviceCsr::parse(&none), Err(CsrError::CommonName));
}

fn valid_der() -> &'static [u8] {
    static DER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    DER.get_or_init(|| {
        let key = DeviceKey::generate().unwrap();
        only_request(&key.csr_pem(key.device_name().as_str()).unwrap()).unwrap()
    })
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text: String, der: Vec<u8>) {
        let _ = DeviceCsr::parse(&text);
        let _ = DeviceCsr::parse_base64(&text);
        proptest::prop_assert!(DeviceCsr::parse(&pem_of(&der)).is_err());
    }

    #[test]
    fn a_changed_request_gains_nothing(at: proptest::sample::Index, flip in 1u8..) {
        let mut der = valid_der().to_vec();
        let original = DeviceCsr::from_der(&der).unwrap();
        let at = at.index(der.len());
        der[at] ^= flip;
        // A change outside what is signed may pass; then the request still says what its key signed.
        if let Ok(csr) = DeviceCsr::parse(&pem_of(&der)) {
            proptest::prop_assert_eq!(csr, original, "byte {} ^ {}", at, flip);
        }
    }

    #[test]
    fn a_cut_request_is_refused(at: proptest::sample::Index) {
        let der = valid_der();
        proptest::prop_assert!(DeviceCsr::parse(&pem_of(&der[..at.index(der.len())])).is_err());
    }
}
