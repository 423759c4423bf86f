//! The first look at a token, before anything in it is believed: which issuer, which key, which algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::AuthError;

/// No token is longer, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The algorithms that any issuer may use: public-key signatures only.
const ALLOWED: [(&str, Algorithm); 9] = [
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("EdDSA", Algorithm::EdDSA),
];

/// What a token says of itself.
#[derive(Debug)]
pub(super) struct Unverified {
    pub(super) issuer: String,
    pub(super) key_id: String,
    pub(super) algorithm: Algorithm,
}

impl Unverified {
    pub(super) fn parse(token: &str) -> Result<Self, AuthError> {
        if token.len() > MAX_TOKEN {
            return Err(AuthError::Malformed("it is longer than 16 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AuthError::Malformed("it does not have three parts"));
        };
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(AuthError::Malformed("it wants extensions (crit)"));
        }
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let algorithm = ALLOWED.iter().find(|(name, _)| *name == algorithm).ok_or(AuthError::Algorithm)?.1;
        let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            issuer: text(&object(payload)?, "iss").ok_or(AuthError::UnknownIssuer)?,
            key_id: text(&header, "kid").ok_or(AuthError::Malformed("it does not name its key (kid)"))?,
            algorithm,
        })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, AuthError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Malformed("a part is not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| AuthError::Malformed("a part is not a JSON object"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Unverified::parse(&text);
        }

        #[test]
        fn no_claims_make_it_panic(header in "\\PC{0,60}", payload in "\\PC{0,60}") {
            let token = format!("{}.{}.x", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            prop_assert!(Unverified::parse(&token).is_err());
        }
    }

    #[test]
    fn a_huge_token_is_refused() {
        assert!(matches!(Unverified::parse(&"a".repeat(MAX_TOKEN + 1)), Err(AuthError::Malformed(_))));
    }
}
