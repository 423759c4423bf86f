//! Private keys: ECDSA P-256, PEM on disk with mode 0600, wiped from memory, never printed.

use std::fmt;
use std::path::Path;

use fleet_model::DeviceName;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::files::{self, FileError};
use crate::fingerprint::device_name_from_point;
use crate::tls::ClientIdentity;

/// What is wrong with a private key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text holds no private key that can be read.
    #[error("the text holds no readable private key: expected one PEM section PRIVATE KEY or EC PRIVATE KEY")]
    Unreadable,
    /// Not an ECDSA P-256 key.
    #[error("the private key is not an ECDSA P-256 key ({reason})")]
    NotP256 {
        /// What the cryptographic library said.
        reason: String,
    },
    /// The cryptographic library failed.
    #[error("cannot {action}: {reason}")]
    Crypto {
        /// What was tried.
        action: &'static str,
        /// What the library said.
        reason: String,
    },
}

/// A P-256 key pair whose encoded form is wiped when dropped.
pub(crate) struct SigningKeyPair(KeyPair);

impl SigningKeyPair {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate()
            .map_err(|error| KeyError::Crypto { action: "generate a P-256 key", reason: error.to_string() })?;
        Ok(Self(pair))
    }

    /// Reads the first private key of a PEM text: PKCS#8 or SEC1.
    pub(crate) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::Unreadable)?;
        let pair = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256);
        pair.map(Self).map_err(|error| KeyError::NotP256 { reason: error.to_string() })
    }

    /// The PKCS#8 PEM of a key made by [`Self::generate`].
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl Drop for SigningKeyPair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SigningKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeyPair(redacted)")
    }
}

impl rcgen::PublicKeyData for SigningKeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(&self.0)
    }
}

impl rcgen::SigningKey for SigningKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        rcgen::SigningKey::sign(&self.0, message)
    }
}

/// The key of a device: it *is* the device's identity and is never replaced.
pub struct DeviceKey {
    pair: SigningKeyPair,
    pem: Zeroizing<String>,
    name: DeviceName,
}

impl DeviceKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] if the system yields no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = SigningKeyPair::generate()?;
        let pem = pair.to_pem();
        Self::new(pair, pem)
    }

    /// Reads an ECDSA P-256 key from PEM: PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    ///
    /// # Errors
    /// [`KeyError::Unreadable`], [`KeyError::NotP256`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::new(SigningKeyPair::from_pem(text)?, Zeroizing::new(text.to_owned()))
    }

    /// Reads the key from a file. One that others may read is used, with a warning in the log.
    ///
    /// # Errors
    /// [`KeyError::File`] (see [`FileError::is_not_found`] for a first start) and those of [`Self::from_pem`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = files::read_text(path)?;
        if files::is_open_to_others(path) {
            tracing::warn!(file = %path.display(), "The device key can be read by others; set its mode to 0600");
        }
        Self::from_pem(&text)
    }

    /// Reads the key from `path`, or makes one and stores it there if there is no such file. An unreadable key is an
    /// error, never replaced: a new key would be a new device.
    ///
    /// # Errors
    /// Those of [`Self::load`] and [`Self::save`].
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File(error)) if error.is_not_found() => {
                let key = Self::generate()?;
                key.save(path)?;
                Ok(key)
            }
            outcome => outcome,
        }
    }

    /// Writes the key to `path` with mode 0600, durably and in one motion. The directory must exist.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        Ok(files::replace_secret(path, self.pem.as_bytes())?)
    }

    fn new(pair: SigningKeyPair, pem: Zeroizing<String>) -> Result<Self, KeyError> {
        let name = device_name_from_point(pair.der_bytes())
            .map_err(|error| KeyError::NotP256 { reason: error.to_string() })?;
        Ok(Self { pair, pem, name })
    }

    /// The name of the device that has this key.
    pub fn device_name(&self) -> &DeviceName {
        &self.name
    }

    /// A signed certificate request (PEM) for this key that asks for `common_name` and nothing else. An agent asks
    /// for its [`device_name`](Self::device_name).
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn csr_pem(&self, common_name: &str) -> Result<String, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let request = params.serialize_request(&self.pair).and_then(|request| request.pem());
        request.map_err(|error| KeyError::Crypto { action: "sign a certificate request", reason: error.to_string() })
    }

    /// The key as PEM, the secret itself.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What this device presents in a TLS handshake: its certificate chain (PEM, its own first) and its key.
    pub fn client_identity(&self, chain_pem: &str) -> ClientIdentity {
        ClientIdentity::new(chain_pem.to_owned(), self.pem.clone())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// SEC1, with the parameters section that OpenSSL writes before it; private scalar 43.
    const SEC1_43: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAroAoGCCqGSM49\nAwEHoUQDQgAEmGriUG8f8QTQQjCGHY9LSY9LxMbQCbMPdUTcEpuC0o0APMzApkYO\nCuMopNl9PHth2G/GKJwYnyUlEQxEG7B+lw==\n-----END EC PRIVATE KEY-----\n";

    #[test]
    fn a_key_survives_its_file_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        let key = DeviceKey::load_or_generate(&path).unwrap();
        assert_eq!(DeviceKey::load_or_generate(&path).unwrap().device_name(), key.device_name());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(key.pem().starts_with("-----BEGIN PRIVATE KEY-----"));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_new_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        std::fs::write(&path, "not a key").unwrap();
        assert!(matches!(DeviceKey::load_or_generate(&path), Err(KeyError::Unreadable)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
    }

    #[test]
    fn a_sec1_key_has_the_golden_name() {
        let key = DeviceKey::from_pem(SEC1_43).unwrap();
        assert_eq!(key.device_name().as_str(), "sl6cls5g2vp5gf6fch16i81ncjcqh0sqiham1lbjjih6gtbadqtg");
        crate::DeviceCsr::parse(&key.csr_pem(key.device_name().as_str()).unwrap()).unwrap();
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        assert!(matches!(DeviceKey::from_pem(&p384), Err(KeyError::NotP256 { .. })));
    }

    #[test]
    fn secrets_cannot_be_printed() {
        let key = DeviceKey::generate().unwrap();
        let identity = key.client_identity("chain");
        let secret = key.pem().lines().nth(1).unwrap().to_owned();
        for shown in [format!("{key:?}"), format!("{:?}", key.pair), format!("{identity:?}")] {
            assert!(!shown.contains(&secret) && !shown.contains("PRIVATE KEY"), "{shown}");
        }
    }
}
