//! The service's own issuer: tokens for the first user and for machines where no identity provider is at hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_model::{Role, local_token};
use fleet_pki::DeviceKey;
use fleet_runtime::Clock;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::keys::VerificationKey;

/// What is wrong with the issuer's key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalIssuerError {
    /// The key file cannot be read, made or understood.
    #[error("signing key of user tokens")]
    Key(#[from] fleet_pki::KeyError),
    /// The key cannot sign, or a token cannot be made.
    #[error("signing key of user tokens cannot be used: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
    /// The key's public half is not fit to verify.
    #[error("signing key of user tokens is not an ECDSA P-256 key in PKCS#8")]
    NotP256,
    /// The token would be for nobody.
    #[error("a token needs a subject: the name of the user or machine that gets it")]
    NoSubject,
}

/// Signs and verifies tokens with a key in the service's data directory.
pub struct LocalIssuer {
    key: EncodingKey,
    public: Arc<VerificationKey>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalIssuer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl LocalIssuer {
    /// Reads the key from [`local_token::KEY_FILE`] in `dir`, or makes one (mode 0600).
    ///
    /// # Errors
    /// [`LocalIssuerError`], naming the file.
    pub fn load_or_create(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, LocalIssuerError> {
        let file = DeviceKey::load_or_generate(&dir.join(local_token::KEY_FILE))?;
        let key = EncodingKey::from_ec_pem(file.pem().as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256)?);
        let public = VerificationKey::from_jwk(&jwk).ok_or(LocalIssuerError::NotP256)?;
        Ok(Self { key, public: Arc::new(public), clock })
    }

    /// A token for `subject` with one role, valid from now for `life`: at least 1 s, at most 366 days.
    ///
    /// # Errors
    /// When the subject is empty or signing fails.
    pub fn mint(&self, subject: &str, role: Role, life: Duration) -> Result<String, LocalIssuerError> {
        if subject.trim().is_empty() {
            return Err(LocalIssuerError::NoSubject);
        }
        let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let claims = local_token::Claims::new(subject, role, self.clock.now().as_second(), seconds);
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.public.id().to_owned());
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }

    pub(super) fn verification_key(&self) -> Arc<VerificationKey> {
        Arc::clone(&self.public)
    }
}
