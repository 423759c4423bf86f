//! What any certificate says about itself: serial number, validity, digest, common name, and the name its key has.

use fleet_model::{DeviceName, Digest};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;

use crate::fingerprint::device_name;

/// Longest common name that is read; X.509 allows 64 characters.
pub(crate) const MAX_COMMON_NAME: usize = 256;

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The text holds no `CERTIFICATE` section.
    #[error("the text holds no PEM certificate (-----BEGIN CERTIFICATE-----)")]
    Missing,
    /// The text is not PEM.
    #[error("the PEM text is damaged: {problem}")]
    Pem {
        /// What is wrong.
        problem: String,
    },
    /// Not the DER of one certificate.
    #[error("the certificate cannot be read: {problem}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
    },
}

/// What a certificate says about itself. Nothing is verified: not the signature, not the validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject's common name, if there is exactly one.
    pub common_name: Option<String>,
    /// Serial number: lower-case hex, whole bytes, no leading zero byte.
    pub serial_hex: String,
    /// Digest of the DER.
    pub sha256: Digest,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity; the certificate is still valid in this second.
    pub not_after: Timestamp,
    /// The device name that belongs to the certificate's key, if it is of a kind that names devices.
    pub key_name: Option<DeviceName>,
}

impl CertificateFacts {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        Self::of(&parse(der)?, der)
    }

    /// Reads the first certificate, the holder's, of a PEM chain.
    ///
    /// # Errors
    /// [`CertificateError`] if there is none or it cannot be read.
    pub fn from_pem(chain: &str) -> Result<Self, CertificateError> {
        let chain = certificates_from_pem(chain)?;
        Self::from_der(chain.first().ok_or(CertificateError::Missing)?)
    }

    pub(crate) fn of(certificate: &X509Certificate<'_>, der: &[u8]) -> Result<Self, CertificateError> {
        let at = |second| {
            Timestamp::from_second(second)
                .map_err(|_| CertificateError::Malformed { problem: "its validity lies outside the calendar" })
        };
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        Ok(Self {
            common_name: common_name(certificate.subject()).map(str::to_owned),
            serial_hex: data_encoding::HEXLOWER.encode(&serial[zeros..]),
            sha256: Digest::of(der),
            not_before: at(certificate.validity().not_before.timestamp())?,
            not_after: at(certificate.validity().not_after.timestamp())?,
            key_name: device_name(certificate.public_key()).ok(),
        })
    }

    /// Whether the certificate is valid at `now`.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before.as_second()..=self.not_after.as_second()).contains(&now.as_second())
    }
}

/// All certificates of a PEM text, in their order; at least one. Other sections are passed over.
///
/// # Errors
/// [`CertificateError`] if there is none or the text is damaged. The certificates themselves are not looked into.
pub fn certificates_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem { problem: error.to_string() })?;
    if certificates.is_empty() { Err(CertificateError::Missing) } else { Ok(certificates) }
}

/// Parses exactly one certificate.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateError::Malformed { problem: "bytes follow its end" }),
        Err(_) => Err(CertificateError::Malformed { problem: "it is not a DER X.509 certificate" }),
    }
}

/// The common name of a subject that has exactly one of acceptable length.
pub(crate) fn common_name<'a>(subject: &'a x509_parser::x509::X509Name<'_>) -> Option<&'a str> {
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?;
    (names.next().is_none() && name.len() <= MAX_COMMON_NAME).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_certificates_is_told_from_a_damaged_one() {
        assert_eq!(CertificateFacts::from_pem("hello"), Err(CertificateError::Missing));
        let damaged = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(CertificateFacts::from_pem(damaged), Err(CertificateError::Pem { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, text: String) {
            let _ = CertificateFacts::from_der(&bytes);
            let _ = CertificateFacts::from_pem(&text);
        }
    }
}
