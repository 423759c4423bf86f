//! What certificates contain: one profile each for servers, devices and enrolment, built from nothing.

use std::net::IpAddr;

use fleet_model::{Digest, OrgId, signer};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::DnsName;
use zeroize::Zeroizing;

use crate::authority::CertificateAuthority;
use crate::key::SigningKeyPair;
use crate::lifetime::{Lifetime, Window};
use crate::{CsrError, DEVICE_PREFIX, DeviceCsr, KeyError, der};

/// Signer of enrolment certificates.
pub(crate) const ENROLLMENT_SIGNER: &str = signer::ENROLLMENT;

/// Most names one server certificate may have.
const MAX_SERVER_NAMES: usize = 64;

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The request is not one for this kind of certificate.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The authority has expired.
    #[error("the certificate authority expired at {not_after}: it can issue nothing any more; replace it")]
    AuthorityExpired {
        /// When it expired.
        not_after: Timestamp,
    },
    /// The validity would end outside the calendar.
    #[error("the certificate's validity would lie outside the calendar; check the clock")]
    Time,
    /// A server name is neither a DNS name nor an IP address.
    #[error("{name:?} is neither a DNS name nor an IP address, so no server certificate can bear it")]
    ServerName {
        /// The name.
        name: String,
    },
    /// No or too many server names.
    #[error("a server certificate needs 1 to {MAX_SERVER_NAMES} names, got {count}")]
    ServerNames {
        /// How many were given.
        count: usize,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The cryptographic library failed.
    #[error("cannot sign the certificate: {reason}")]
    Crypto {
        /// What the library said.
        reason: String,
    },
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto { reason: error.to_string() }
    }
}

/// What a management certificate is issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceSigner {
    /// The first certificate of a device, after its enrolment was approved.
    DeviceEnrollment,
    /// A later one, asked for with the one before.
    DeviceRenewal,
}

impl DeviceSigner {
    /// The name on the wire, e.g. `flightctl.io/device-enrollment`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceEnrollment => signer::DEVICE_ENROLLMENT,
            Self::DeviceRenewal => signer::DEVICE_RENEWAL,
        }
    }

    /// The signer with this name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::DeviceEnrollment, Self::DeviceRenewal].into_iter().find(|signer| signer.name() == name)
    }
}

/// A certificate that was issued to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate and the intermediate authority below the root, in this order; PEM.
    pub chain_pem: String,
    /// The certificate alone; DER.
    pub der: Vec<u8>,
    /// Its common name.
    pub common_name: String,
    /// Serial number: lower-case hex, 32 digits; the same text as in [`crate::CertificateFacts::serial_hex`].
    pub serial_hex: String,
    /// Digest of the DER.
    pub sha256: Digest,
    /// Start of validity, a little before the time of issue.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// A certificate that was issued to a server, with its key.
#[derive(Clone)]
pub struct IssuedServer {
    /// The certificate and the intermediate authority below the root, in this order; PEM.
    pub chain_pem: String,
    /// The private key: PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// End of validity.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for IssuedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedServer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// What differs between kinds of certificates.
struct Profile {
    common_name: String,
    usage: ExtendedKeyUsagePurpose,
    names: Vec<SanType>,
    extensions: Vec<CustomExtension>,
}

impl CertificateAuthority {
    /// Issues a certificate to a server, with a new ECDSA P-256 key.
    ///
    /// `names` are DNS names and IP addresses; the first also becomes the common name where it fits.
    ///
    /// # Errors
    /// [`IssueError`], in particular for names that are none.
    pub fn issue_server(
        &self,
        names: &[String],
        now: Timestamp,
        lifetime: Lifetime,
    ) -> Result<IssuedServer, IssueError> {
        let alternative = server_names(names)?;
        let common_name = names.first().filter(|name| name.len() <= 64).map_or("server", String::as_str).to_owned();
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let profile = Profile { common_name, usage, names: alternative, extensions: Vec::new() };
        let key = SigningKeyPair::generate()?;
        let signer = self.server_signer();
        let window = Window::new(now, lifetime, signer.not_after)?;
        let issued = issue(profile, &key, &signer.issuer, &signer.pem, window)?;
        Ok(IssuedServer { chain_pem: issued.chain_pem, key_pem: key.to_pem(), not_after: issued.not_after })
    }

    /// Issues a management certificate for the key of `csr`.
    ///
    /// # Errors
    /// [`IssueError::Csr`] if the request is not for the key's own device, and others.
    pub fn sign_device(
        &self,
        csr: &DeviceCsr,
        signer: DeviceSigner,
        org: OrgId,
        now: Timestamp,
        lifetime: Lifetime,
    ) -> Result<Issued, IssueError> {
        let common_name = format!("{DEVICE_PREFIX}{}", csr.require_device()?);
        let extensions = vec![
            extension(der::SIGNER_NAME, signer.name())?,
            extension(der::ORGANIZATION, &org.to_string())?,
            extension(der::DEVICE, &common_name)?,
        ];
        self.sign_client(csr, common_name, extensions, now, lifetime)
    }

    /// Issues an enrolment certificate for the key of `csr`: whoever holds it may ask for enrolment in `org`.
    ///
    /// # Errors
    /// [`IssueError::Csr`] if the common name is not one for enrolment, and others.
    pub fn sign_enrollment(
        &self,
        csr: &DeviceCsr,
        org: OrgId,
        now: Timestamp,
        lifetime: Lifetime,
    ) -> Result<Issued, IssueError> {
        let common_name = csr.require_enrollment()?.to_owned();
        let extensions =
            vec![extension(der::SIGNER_NAME, ENROLLMENT_SIGNER)?, extension(der::ORGANIZATION, &org.to_string())?];
        self.sign_client(csr, common_name, extensions, now, lifetime)
    }

    fn sign_client(
        &self,
        csr: &DeviceCsr,
        common_name: String,
        extensions: Vec<CustomExtension>,
        now: Timestamp,
        lifetime: Lifetime,
    ) -> Result<Issued, IssueError> {
        let signer = self.client_signer();
        let window = Window::new(now, lifetime, signer.not_after)?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let profile = Profile { common_name, usage, names: Vec::new(), extensions };
        issue(profile, &csr.public_key, &signer.issuer, &signer.pem, window)
    }
}

fn issue(
    profile: Profile,
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, SigningKeyPair>,
    issuer_pem: &str,
    window: Window,
) -> Result<Issued, IssueError> {
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    window.apply(&mut params)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, profile.common_name.as_str());
    params.subject_alt_names = profile.names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![profile.usage];
    params.custom_extensions = profile.extensions;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, issuer)?;
    Ok(Issued {
        chain_pem: format!("{}{issuer_pem}", certificate.pem()),
        common_name: profile.common_name,
        serial_hex: data_encoding::HEXLOWER.encode(&serial),
        sha256: Digest::of(certificate.der()),
        not_before: window.not_before,
        not_after: window.not_after,
        der: certificate.der().to_vec(),
    })
}

/// A serial number of 16 bytes, 126 of its bits random; positive and always of the same length.
pub(crate) fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut serial = crate::random_bytes::<16>()
        .map_err(|_| IssueError::Crypto { reason: "the system has no random numbers".to_owned() })?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

fn extension(which: der::Extension, text: &str) -> Result<CustomExtension, IssueError> {
    which
        .with_text(text)
        .ok_or_else(|| IssueError::Crypto { reason: format!("the extension text {text:?} is too long") })
}

/// The names as they stand in a certificate. DNS names in lower case, without repetition.
pub(crate) fn server_names(names: &[String]) -> Result<Vec<SanType>, IssueError> {
    if names.is_empty() || names.len() > MAX_SERVER_NAMES {
        return Err(IssueError::ServerNames { count: names.len() });
    }
    let mut found = Vec::new();
    for name in names {
        let refuse = || IssueError::ServerName { name: name.chars().take(80).collect() };
        let entry = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                let name = name.to_ascii_lowercase();
                DnsName::try_from(name.as_str()).map_err(|_| refuse())?;
                SanType::DnsName(name.try_into().map_err(|_| refuse())?)
            }
        };
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}
