//! The public-key side of Shorebase: the built-in certificate authority, checks of certificate requests, what a
//! client certificate says about its holder, and TLS configurations.
//!
//! - A device's name is the fingerprint of its key ([`device_name_from_spki`]); a key belongs to one device for ever.
//! - [`DeviceCsr`] reads a request from outside; [`CertificateAuthority`] answers it with a certificate whose contents
//!   it chooses itself: of the request it takes the public key and nothing else.
//! - [`PeerIdentity`] reads the certificate of a connection. TLS has checked the chain; whether the certificate is
//!   revoked or has expired *since the connection began* is for the caller to look at, per request.
//! - [`tls`] builds the rustls configurations of both servers and of their clients.
//!
//! This is the only crate that uses X.509 libraries. It reads and writes files only in directories it is given, knows
//! no clock (times are passed in) and runs no tasks.
#![forbid(unsafe_code)]

mod authority;
mod csr;
mod der;
mod facts;
mod files;
mod fingerprint;
mod identity;
mod issue;
mod key;
mod lifetime;
mod server;
pub mod tls;

pub use authority::{CaError, CaWarning, CertificateAuthority};
pub use csr::{CsrError, DeviceCsr, MAX_CSR_TEXT};
pub use facts::{CertificateError, CertificateFacts, certificates_from_pem};
pub use files::FileError;
pub use fingerprint::{FingerprintError, device_name_from_point, device_name_from_spki};
pub use identity::{IdentityError, PeerIdentity};
pub use issue::{DeviceSigner, IssueError, Issued, IssuedServer};
pub use key::{DeviceKey, KeyError};
pub use lifetime::{Lifetime, LifetimeError};
pub use server::{SERVER_LIFETIME, ServerCertificate, ServerCertificateError};

/// The start of the common name of every management certificate; the device's name follows.
pub const DEVICE_PREFIX: &str = "device:";

/// The common name of an enrolment certificate, or its start when `-` and a suffix follow.
pub const ENROLLMENT_COMMON_NAME: &str = "client-enrollment";

/// Whether `name` may be the common name of an enrolment certificate: `client-enrollment`, or `client-enrollment-`
/// and a suffix of letters, digits, `-`, `_` and `.`; at most 64 characters, the limit X.509 sets.
pub fn is_enrollment_common_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(ENROLLMENT_COMMON_NAME) else { return false };
    let suffix_ok = |suffix: &str| {
        !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    name.len() <= 64 && (rest.is_empty() || rest.strip_prefix('-').is_some_and(suffix_ok))
}

/// `length` bytes from the operating system's generator, by way of the TLS provider.
pub(crate) fn random_bytes<const LENGTH: usize>() -> Result<[u8; LENGTH], rustls::crypto::GetRandomFailed> {
    let mut bytes = [0; LENGTH];
    tls::provider().secure_random.fill(&mut bytes)?;
    Ok(bytes)
}
