//! Who is at the other end of a connection: what its certificate, whose chain TLS has verified, says.

use fleet_model::{DeviceName, OrgId};
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;

use crate::der::{self, Extension};
use crate::facts::{self, CertificateError, CertificateFacts};
use crate::issue::{DeviceSigner, ENROLLMENT_SIGNER};
use crate::{DEVICE_PREFIX, is_enrollment_common_name};

/// Why a certificate identifies nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It is no client certificate.
    #[error("the certificate is not for clients: {problem}")]
    NotForClients {
        /// What is missing or too much.
        problem: &'static str,
    },
    /// An extension is missing, damaged or out of place.
    #[error("the certificate's extension {extension} {problem}")]
    Extension {
        /// What the extension holds.
        extension: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Issued by a signer that identifies nobody.
    #[error("the certificate was issued by signer {signer:?}, which neither enrols nor manages devices")]
    Signer {
        /// The name of the signer.
        signer: String,
    },
    /// The common name does not fit the signer or the extensions.
    #[error("the certificate's common name {common_name:?} {problem}")]
    CommonName {
        /// The common name, empty if there is not exactly one.
        common_name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The holder of a verified client certificate.
///
/// An identity does not expire by itself and knows nothing of revocation: a connection, or a session resumed on
/// another, may outlive both. Look at [`Self::certificate`]'s `not_after` and at the revocation state of its `sha256`
/// for every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerIdentity {
    /// Holder of an enrolment certificate: may ask to become a managed device, nothing else.
    Enrollment {
        /// `client-enrollment`, possibly with `-` and a suffix.
        common_name: String,
        /// The organisation to enrol in.
        org: OrgId,
        /// The certificate.
        certificate: CertificateFacts,
    },
    /// A managed device.
    Management {
        /// The device, proved to hold the key that gives it its name.
        device: DeviceName,
        /// What the certificate was issued for: enrolment or renewal.
        signer: DeviceSigner,
        /// The device's organisation.
        org: OrgId,
        /// The certificate.
        certificate: CertificateFacts,
    },
}

impl PeerIdentity {
    /// Reads the first certificate (DER) that the peer presented.
    ///
    /// The chain must have been verified. Strict about everything else: the extensions, that the common name agrees
    /// with them, and that the key is the one the device is named after.
    ///
    /// # Errors
    /// [`IdentityError`]; never panics.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let parsed = facts::parse(der)?;
        check_purpose(&parsed)?;
        let certificate = CertificateFacts::of(&parsed, der)?;
        let signer = required(&parsed, der::SIGNER_NAME, "signer name")?;
        let org = required(&parsed, der::ORGANIZATION, "organisation")?;
        let org = uuid::Uuid::try_parse(org)
            .map_err(|_| IdentityError::Extension { extension: "organisation", problem: "is not a UUID" })?;
        let org = OrgId::from(org);
        let claimed = text(&parsed, der::DEVICE, "device")?;
        let common_name = certificate.common_name.clone().unwrap_or_default();
        if signer == ENROLLMENT_SIGNER {
            if claimed.is_some() {
                let problem = "has no place in an enrolment certificate";
                return Err(IdentityError::Extension { extension: "device", problem });
            }
            if !is_enrollment_common_name(&common_name) {
                return Err(IdentityError::CommonName { common_name, problem: "is not one for enrolment" });
            }
            return Ok(Self::Enrollment { common_name, org, certificate });
        }
        let signer =
            DeviceSigner::from_name(signer).ok_or_else(|| IdentityError::Signer { signer: signer.to_owned() })?;
        let claimed = claimed.ok_or(IdentityError::Extension { extension: "device", problem: "is missing" })?;
        let device = device_of(&common_name, claimed, &certificate)
            .map_err(|problem| IdentityError::CommonName { common_name, problem })?;
        Ok(Self::Management { device, signer, org, certificate })
    }

    /// The managed device, if it is one.
    pub fn device(&self) -> Option<&DeviceName> {
        match self {
            Self::Enrollment { .. } => None,
            Self::Management { device, .. } => Some(device),
        }
    }

    /// The organisation.
    pub fn org(&self) -> OrgId {
        match self {
            Self::Enrollment { org, .. } | Self::Management { org, .. } => *org,
        }
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateFacts {
        match self {
            Self::Enrollment { certificate, .. } | Self::Management { certificate, .. } => certificate,
        }
    }

    /// The end of the certificate's validity.
    pub fn not_after(&self) -> Timestamp {
        self.certificate().not_after
    }

    /// Whether the certificate is valid at `now`.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.certificate().is_valid_at(now)
    }
}

/// The device that the common name, the device extension and the key agree on.
fn device_of(common_name: &str, claimed: &str, certificate: &CertificateFacts) -> Result<DeviceName, &'static str> {
    if common_name != claimed {
        return Err("differs from the device extension");
    }
    let name = common_name.strip_prefix(DEVICE_PREFIX).ok_or("does not begin with device:")?;
    let name: DeviceName = name.parse().map_err(|_| "holds no device name")?;
    if certificate.key_name.as_ref() == Some(&name) { Ok(name) } else { Err("is not the name that the key has") }
}

fn check_purpose(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let refuse = |problem| Err(IdentityError::NotForClients { problem });
    if certificate.extensions_map().is_err() {
        return refuse("an extension occurs twice");
    }
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => return refuse("it is a certificate authority"),
        Ok(_) => {}
        Err(_) => return refuse("its basic constraints are damaged"),
    }
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if usage.value.client_auth => Ok(()),
        Ok(_) => refuse("its extended key usage lacks clientAuth"),
        Err(_) => refuse("its extended key usage is damaged"),
    }
}

fn required<'a>(
    certificate: &'a X509Certificate<'_>,
    wanted: Extension,
    extension: &'static str,
) -> Result<&'a str, IdentityError> {
    text(certificate, wanted, extension)?.ok_or(IdentityError::Extension { extension, problem: "is missing" })
}

fn text<'a>(
    certificate: &'a X509Certificate<'_>,
    wanted: Extension,
    extension: &'static str,
) -> Result<Option<&'a str>, IdentityError> {
    let Some(found) = certificate.extensions().iter().find(|found| wanted.is(found.oid.as_bytes())) else {
        return Ok(None);
    };
    match der::decode_text(found.value) {
        Some(text) => Ok(Some(text)),
        None => Err(IdentityError::Extension { extension, problem: "is not one DER string of at most 127 bytes" }),
    }
}

#[cfg(test)]
mod tests;
