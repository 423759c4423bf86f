//! Certificate requests from outside: parsed, their signature checked, and reduced to the two things that matter,
//! the public key and the common name. Whatever else a request asks for (names, usages, being an authority,
//! extensions nobody knows) is not an error and has no effect.

use fleet_model::{DeviceName, IdError};
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::FromDer as _;

use crate::facts::common_name;
use crate::fingerprint::{FingerprintError, device_name};
use crate::{DEVICE_PREFIX, is_enrollment_common_name};

/// Longest text of a request, in bytes, that is looked at.
pub const MAX_CSR_TEXT: usize = 64 * 1024;

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// The text is too long.
    #[error("the certificate request has {length} bytes; the limit is {MAX_CSR_TEXT}")]
    TooLong {
        /// Length of the text, in bytes.
        length: usize,
    },
    /// The base64 around the PEM is damaged.
    #[error("the certificate request is not base64 of a PEM text")]
    Base64,
    /// Not exactly one PEM `CERTIFICATE REQUEST`.
    #[error("expected exactly one PEM section CERTIFICATE REQUEST: {problem}")]
    Pem {
        /// What was found.
        problem: String,
    },
    /// The section is not a PKCS#10 request.
    #[error("the certificate request is not one DER PKCS#10 request")]
    Malformed,
    /// Signed in a way that is not accepted.
    #[error("the certificate request is signed with {algorithm}: use ECDSA or RSA with SHA-256, SHA-384 or SHA-512")]
    SignatureAlgorithm {
        /// Object identifier of the algorithm.
        algorithm: String,
    },
    /// The signature does not belong to the key.
    #[error("the signature of the certificate request does not match its public key")]
    Signature,
    /// The key names no device.
    #[error("the certificate request cannot be used: {0}")]
    Key(#[from] FingerprintError),
    /// There is not exactly one common name.
    #[error("the certificate request must have exactly one common name, of at most 256 bytes")]
    CommonName,
    /// The common name is not that of the key's device: an attempt to be another device, or a mistake.
    #[error("the certificate request is for {found:?}, but its key belongs to device {expected}")]
    NotTheKeysDevice {
        /// The common name of the request.
        found: String,
        /// The device that has the key.
        expected: DeviceName,
    },
    /// The common name is not one for enrolment.
    #[error("the common name {found:?} is not client-enrollment or client-enrollment-<suffix>")]
    NotForEnrollment {
        /// The common name of the request.
        found: String,
    },
}

/// A checked request: its signature proves that the sender holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCsr {
    pub(crate) public_key: SubjectPublicKeyInfo,
    common_name: String,
    device_name: DeviceName,
}

impl DeviceCsr {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// [`CsrError`]; never panics, whatever the text.
    pub fn parse(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > MAX_CSR_TEXT {
            return Err(CsrError::TooLong { length: pem.len() });
        }
        Self::from_der(&only_request(pem)?)
    }

    /// Reads base64 (standard alphabet, padded; white space is passed over) of a PEM request: the body of a
    /// CertificateSigningRequest resource.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn parse_base64(text: &str) -> Result<Self, CsrError> {
        if text.len() > MAX_CSR_TEXT {
            return Err(CsrError::TooLong { length: text.len() });
        }
        let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pem = data_encoding::BASE64.decode(&compact).map_err(|_| CsrError::Base64)?;
        Self::parse(std::str::from_utf8(&pem).map_err(|_| CsrError::Base64)?)
    }

    fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let info = &request.certification_request_info;
        let device_name = device_name(&info.subject_pki)?;
        check_signature(&request)?;
        // The library reads only keys it can sign for; everything that passed the fingerprint is among them, except
        // RSA keys with unusual parameters.
        let public_key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| CsrError::Malformed)?;
        let common_name = common_name(&info.subject).ok_or(CsrError::CommonName)?.to_owned();
        Ok(Self { public_key, common_name, device_name })
    }

    /// The common name the request asks for. It is a claim, not a fact.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// The name of the device that holds the request's key.
    pub fn device_name(&self) -> &DeviceName {
        &self.device_name
    }

    /// That the request asks for a certificate of the key's own device: its common name is the device's name, with or
    /// without `device:` before it.
    ///
    /// # Errors
    /// [`CsrError::NotTheKeysDevice`].
    pub fn require_device(&self) -> Result<&DeviceName, CsrError> {
        let claimed = self.common_name.strip_prefix(DEVICE_PREFIX).unwrap_or(&self.common_name);
        let claimed: Result<DeviceName, IdError> = claimed.parse();
        if claimed.as_ref() == Ok(&self.device_name) {
            return Ok(&self.device_name);
        }
        Err(CsrError::NotTheKeysDevice { found: self.common_name.clone(), expected: self.device_name.clone() })
    }

    /// That the request asks for an enrolment certificate; see [`is_enrollment_common_name`].
    ///
    /// # Errors
    /// [`CsrError::NotForEnrollment`].
    pub fn require_enrollment(&self) -> Result<&str, CsrError> {
        if is_enrollment_common_name(&self.common_name) {
            return Ok(&self.common_name);
        }
        Err(CsrError::NotForEnrollment { found: self.common_name.clone() })
    }
}

/// The DER of the one section of the text.
fn only_request(pem: &str) -> Result<Vec<u8>, CsrError> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes());
    let problem = match (sections.next(), sections.next()) {
        (Some(Ok((SectionKind::Csr, der))), None) => return Ok(der),
        (None, _) => "there is none".to_owned(),
        (Some(Err(error)), _) | (Some(Ok(_)), Some(Err(error))) => error.to_string(),
        (Some(Ok(_)), Some(Ok(_))) => "there are several sections".to_owned(),
        (Some(Ok((kind, _))), None) => format!("found {kind:?}"),
    };
    Err(CsrError::Pem { problem })
}

fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), CsrError> {
    // The verifier of the library would also accept SHA-1.
    let accepted = [
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
    ];
    let algorithm = &request.signature_algorithm.algorithm;
    if !accepted.contains(algorithm) {
        return Err(CsrError::SignatureAlgorithm { algorithm: algorithm.to_id_string() });
    }
    request.verify_signature().map_err(|_| CsrError::Signature)
}

#[cfg(test)]
mod tests;
