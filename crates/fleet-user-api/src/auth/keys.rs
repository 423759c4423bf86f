//! Keys that verify tokens. A key is fit for the algorithms of its own type only, whatever a token says.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::AuthError;

/// An issuer with more keys is not looked at.
const MAX_KEYS: usize = 64;
/// RSA keys must have at least so many bits.
const MIN_RSA_BITS: usize = 2048;

/// A public key of an issuer.
pub(super) struct VerificationKey {
    id: String,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl VerificationKey {
    /// A key from a JWK; `None` when it is not a public key for signatures that we know, is too weak, or has no id.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.common.public_key_use.as_ref().is_some_and(|used_for| *used_for != PublicKeyUse::Signature) {
            return None;
        }
        let mut algorithms = fit_algorithms(&jwk.algorithm)?;
        if let Some(only) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Self { id: jwk.common.key_id.clone()?, algorithms, key: DecodingKey::from_jwk(jwk).ok()? })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The claims of a token that this key signed. The claims themselves are not checked here.
    pub(super) fn verify(&self, token: &str, algorithm: Algorithm) -> Result<Map<String, Value>, AuthError> {
        if !self.algorithms.contains(&algorithm) {
            return Err(AuthError::Algorithm);
        }
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let verified = jsonwebtoken::decode(token, &self.key, &validation).map_err(|error| {
            let algorithm = matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidAlgorithm);
            if algorithm { AuthError::Algorithm } else { AuthError::Signature }
        })?;
        Ok(verified.claims)
    }
}

fn fit_algorithms(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    if let AlgorithmParameters::EllipticCurve(ec) = parameters {
        let curves = [(EllipticCurve::P256, ES256), (EllipticCurve::P384, ES384)];
        return curves.into_iter().find(|(curve, _)| *curve == ec.curve).map(|(_, algorithm)| vec![algorithm]);
    }
    if let AlgorithmParameters::OctetKeyPair(pair) = parameters {
        return (pair.curve == EllipticCurve::Ed25519).then(|| vec![EdDSA]);
    }
    let AlgorithmParameters::RSA(rsa) = parameters else { return None };
    let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
    let significant = modulus.len() - modulus.iter().take_while(|byte| **byte == 0).count();
    (significant * 8 >= MIN_RSA_BITS).then(|| vec![RS256, RS384, RS512, PS256, PS384, PS512])
}

/// The keys of one issuer, by id.
#[derive(Debug, Default)]
pub(super) struct KeySet(HashMap<String, Arc<VerificationKey>>);

impl KeySet {
    /// Reads a JWK set. Keys that are not for us (encryption, unknown types, no id) are passed over.
    ///
    /// # Errors
    /// When it is not a JWK set, has too many keys, or none for us.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        #[derive(serde::Deserialize)]
        struct Wire {
            keys: Vec<Value>,
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| "it is not a JWK set")?;
        if wire.keys.len() > MAX_KEYS {
            return Err("it has more than 64 keys");
        }
        let usable = wire.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: HashMap<_, _> = usable
            .filter_map(|jwk| VerificationKey::from_jwk(&jwk))
            .map(|key| (key.id.clone(), Arc::new(key)))
            .collect();
        if keys.is_empty() { Err("it has no key for signatures with an id (kid)") } else { Ok(Self(keys)) }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<VerificationKey>> {
        self.0.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_document_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in ".{0,20}", kty in "EC|RSA|OKP|oct") {
            let _ = KeySet::parse(&bytes);
            let document = serde_json::json!({"keys": [{"kty": kty, "kid": "a", "n": n, "e": n, "x": n, "y": n, "k": n, "crv": "P-256"}]});
            let _ = KeySet::parse(document.to_string().as_bytes());
        }
    }

    #[test]
    fn symmetric_weak_and_foreign_keys_are_passed_over() {
        for key in [
            serde_json::json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}),
            serde_json::json!({"kty": "RSA", "kid": "a", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"}),
            serde_json::json!({"kty": "EC", "kid": "a", "crv": "P-521", "x": "AA", "y": "AA"}),
            serde_json::json!({"kty": "OKP", "kid": "a", "crv": "Ed25519", "x": "AAAA", "use": "enc"}),
            serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
        ] {
            assert!(KeySet::parse(serde_json::json!({"keys": [key]}).to_string().as_bytes()).is_err(), "{key}");
        }
    }
}
