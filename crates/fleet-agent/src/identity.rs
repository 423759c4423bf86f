//! Who the device is: its key, which is its name for ever, and the certificate that the service gave it.

use std::io;
use std::sync::Arc;

use fleet_model::DeviceName;
use fleet_pki::tls::{ClientIdentity, TlsTime};
use fleet_pki::{CertificateFacts, DeviceKey};
use fleet_runtime::Clock;
use jiff::Timestamp;
use rand::Rng;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::client::{Client, ClientError};
use crate::config::{EnrollmentIdentity, Service};
use crate::disk::{self, Disk};
use crate::paths;

const MAX_BYTES: u64 = 1 << 20;

/// Why the device has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// Where, below the root.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key is unusable. It is never replaced: another key would be another device.
    #[error("the device's key {path} is unusable; restore it, or remove it to enrol as a new device")]
    Key {
        /// Where, below the root.
        path: String,
        /// Why.
        #[source]
        source: fleet_pki::KeyError,
    },
    /// A certificate cannot be read.
    #[error("the certificate cannot be read")]
    Certificate(#[from] fleet_pki::CertificateError),
    /// A certificate belongs to another key.
    #[error("the certificate does not belong to this device's key")]
    OtherKey,
    /// Certificate, key and authorities do not make a TLS configuration.
    #[error("certificate, key and trusted authorities cannot be used")]
    Tls(#[from] fleet_pki::tls::TlsError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The device's key.
#[derive(Debug)]
pub(crate) struct Identity {
    key: DeviceKey,
}

/// A management certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// PEM, the device's own first.
    pub(crate) chain_pem: String,
    /// What it says.
    pub(crate) facts: CertificateFacts,
}

impl Identity {
    /// Reads the key, or makes one at the first start.
    pub(crate) fn load_or_generate(disk: &dyn Disk) -> Result<Self, IdentityError> {
        let path = paths::key_file();
        let file_error = |source| IdentityError::File { path: path.to_string(), source };
        let key_error = |source| IdentityError::Key { path: path.to_string(), source };
        if let Some(bytes) = disk.read(&path, MAX_BYTES).map_err(file_error)? {
            let bytes = Zeroizing::new(bytes);
            let key = DeviceKey::from_pem(&String::from_utf8_lossy(&bytes)).map_err(key_error)?;
            return Ok(Self { key });
        }
        let key = DeviceKey::generate().map_err(key_error)?;
        disk::replace(disk, &path, key.pem().as_bytes(), 0o600, 0o700).map_err(file_error)?;
        info!(device = %key.device_name(), "Made a new key; it is this device's name");
        Ok(Self { key })
    }

    /// The device's name.
    pub(crate) fn name(&self) -> &DeviceName {
        self.key.device_name()
    }

    /// A request for a certificate, PEM.
    pub(crate) fn csr_pem(&self) -> Result<String, IdentityError> {
        let source_error = |source| IdentityError::Key { path: paths::key_file().to_string(), source };
        self.key.csr_pem(self.name().as_str()).map_err(source_error)
    }

    /// Checks a chain that the service sent.
    pub(crate) fn check(&self, chain_pem: &str) -> Result<Held, IdentityError> {
        let facts = CertificateFacts::from_pem(chain_pem)?;
        if facts.key_name.as_ref() != Some(self.name()) {
            return Err(IdentityError::OtherKey);
        }
        Ok(Held { chain_pem: chain_pem.to_owned(), facts })
    }

    /// The certificate on the disk. One that is of no use counts as none.
    pub(crate) fn load_certificate(&self, disk: &dyn Disk) -> Result<Option<Held>, IdentityError> {
        let path = paths::certificate_file();
        let file_error = |source| IdentityError::File { path: path.to_string(), source };
        let Some(bytes) = disk.read(&path, MAX_BYTES).map_err(file_error)? else { return Ok(None) };
        match self.check(&String::from_utf8_lossy(&bytes)) {
            Ok(held) => Ok(Some(held)),
            Err(error) => {
                warn!(file = %path, %error, "The stored certificate is of no use; enrolling again");
                Ok(None)
            }
        }
    }

    /// A client that may only enrol.
    pub(crate) fn enrollment_client(
        service: &Service,
        identity: &EnrollmentIdentity,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Client>, IdentityError> {
        let certificate = CertificateFacts::from_pem(&identity.certificate_pem)?;
        let tls_identity = ClientIdentity::new(identity.certificate_pem.clone(), identity.key_pem.clone());
        let time = trusted_time(clock, certificate.not_before, certificate.not_after);
        let tls = fleet_pki::tls::client_config(&service.ca_pem, Some(&tls_identity), &time)?;
        Ok(Client::new(&service.server, tls)?)
    }

    /// A client that is this device.
    pub(crate) fn management_client(
        &self,
        service: &Service,
        held: &Held,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Client>, IdentityError> {
        let time = trusted_time(clock, held.facts.not_before, held.facts.not_after);
        let identity = self.key.client_identity(&held.chain_pem);
        let tls = fleet_pki::tls::client_config(&service.ca_pem, Some(&identity), &time)?;
        Ok(Client::new(&service.server, tls)?)
    }
}

/// Stores a certificate, durably.
pub(crate) fn store_certificate(disk: &dyn Disk, held: &Held) -> Result<(), IdentityError> {
    let path = paths::certificate_file();
    disk::replace(disk, &path, held.chain_pem.as_bytes(), 0o600, 0o700)
        .map_err(|source| IdentityError::File { path: path.to_string(), source })
}

/// Forgets the certificate.
pub(crate) fn drop_certificate(disk: &dyn Disk) -> Result<(), IdentityError> {
    let path = paths::certificate_file();
    let removed = disk.remove(&path).and_then(|_| disk.sync_dir(path.parent().as_ref()));
    removed.map_err(|source| IdentityError::File { path: path.to_string(), source })
}

/// The time by which a server's certificate is judged: the clock's, if that is within the life of the device's own
/// certificate. Else the clock is wrong, or the certificate is over and the server will say so; then it is some moment
/// of that life, another one at every attempt. The server's certificate was valid in a part of it, so that a device
/// whose clock lost its battery or jumped by years gets through after a few attempts.
fn trusted_time(clock: Arc<dyn Clock>, not_before: Timestamp, not_after: Timestamp) -> TlsTime {
    TlsTime::from_fn(move || {
        let now = clock.now();
        if (not_before..=not_after).contains(&now) {
            return now;
        }
        let (first, last) = (not_before.as_second(), not_after.as_second());
        let moment = rand::rng().random_range(first..=last.max(first));
        Timestamp::from_second(moment).unwrap_or(not_before)
    })
}

/// When to renew: from half of the life on, `share` (0 to 1) of the way to three quarters of it.
pub(crate) fn renewal_due(facts: &CertificateFacts, share: f64) -> Timestamp {
    let life = facts.not_after.duration_since(facts.not_before);
    let wait = life.as_secs_f64() * (0.5 + 0.25 * share.clamp(0.0, 1.0));
    let wait = jiff::SignedDuration::try_from_secs_f64(wait).unwrap_or(life);
    facts.not_before.checked_add(wait).unwrap_or(facts.not_after)
}
