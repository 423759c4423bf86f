//! Who is asking: bearer tokens (JWT) of the service's own issuer and of OpenID Connect providers.
//!
//! A token is accepted when one configured issuer signed it with a key that is fit for its algorithm, it is meant for
//! our audience, and it is valid now. Roles come from a claim. Tokens are taken from the `Authorization` header only,
//! and never logged.

mod config;
mod jwks;
mod keys;
mod local;
mod token;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use fleet_http::ApiError;
use fleet_model::{Role, local_token};
use fleet_runtime::Clock;
use serde_json::{Map, Value};

pub use config::{AuthConfigError, KeyLocation, OidcConfig};
pub use local::{LocalIssuer, LocalIssuerError};

use jwks::KeyCache;
use keys::VerificationKey;

/// Somebody who showed a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A name for people, from the configured claim, or the subject.
    pub name: String,
    /// Who vouches for the name.
    pub issuer: String,
    /// What they may do.
    pub roles: BTreeSet<Role>,
}

impl Actor {
    /// The actor as events carry it: `user:<name>`.
    pub fn as_event_actor(&self) -> String {
        format!("user:{}", self.name)
    }
}

/// Why nobody was recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No `Authorization: Bearer` header.
    #[error("no bearer token; send one in the Authorization header")]
    Missing,
    /// Not a JWT, or one with parts that are not allowed.
    #[error("the bearer token is not a JWT that is accepted here: {0}")]
    Malformed(&'static str),
    /// The issuer is not configured.
    #[error("the token's issuer is not trusted here")]
    UnknownIssuer,
    /// The algorithm is not allowed, or does not fit the key.
    #[error("the token's algorithm is not allowed for its key")]
    Algorithm,
    /// The issuer has no such key.
    #[error("the token's key is not one of its issuer")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Meant for somebody else.
    #[error("the token is not meant for this service (aud)")]
    Audience,
    /// Not valid any more.
    #[error("the token has expired")]
    Expired,
    /// Not valid yet.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The issuer's keys cannot be had.
    #[error("the keys of the token's issuer cannot be read now")]
    KeysUnavailable,
}

impl AuthError {
    /// The answer to the client: 401 with a challenge, or 503 when only the issuer is away.
    pub fn answer(&self) -> ApiError {
        if *self == Self::KeysUnavailable {
            return ApiError::unavailable("the token's issuer cannot be reached to check it; try again", 5);
        }
        let mut challenge = "Bearer realm=\"shorebase\"".to_owned();
        if *self != Self::Missing {
            challenge += &format!(r#", error="invalid_token", error_description="{self}""#);
        }
        let answer = ApiError::unauthorized(self.to_string());
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => answer.with_header(WWW_AUTHENTICATE, challenge),
            Err(_) => answer,
        }
    }
}

/// Recognises users by their tokens.
#[derive(Debug)]
pub struct Authenticator {
    clock: Arc<dyn Clock>,
    issuers: Vec<Issuer>,
}

#[derive(Debug)]
struct Issuer {
    name: String,
    audiences: Vec<String>,
    keys: Keys,
    role_claim: Vec<String>,
    role_map: std::collections::BTreeMap<String, Role>,
    name_claim: String,
}

#[derive(Debug)]
enum Keys {
    Own(Arc<VerificationKey>),
    Cached(KeyCache),
}

impl Authenticator {
    /// Trusts the service's own issuer and the given providers. No network is used before the first token comes.
    ///
    /// # Errors
    /// When a provider's settings are not usable, with the name of the provider.
    pub fn new(
        clock: Arc<dyn Clock>,
        local: Option<&LocalIssuer>,
        providers: &[OidcConfig],
    ) -> Result<Self, AuthConfigError> {
        let own = local.map(|local| Issuer {
            name: local_token::ISSUER.to_owned(),
            audiences: vec![local_token::AUDIENCE.to_owned()],
            keys: Keys::Own(local.verification_key()),
            role_claim: vec!["roles".to_owned()],
            role_map: Role::ALL.into_iter().map(|role| (role.as_str().to_owned(), role)).collect(),
            name_claim: "sub".to_owned(),
        });
        let mut issuers: Vec<Issuer> = own.into_iter().collect();
        for provider in providers {
            if issuers.iter().any(|known| known.name == provider.issuer) {
                return Err(AuthConfigError::new(&provider.issuer, "is configured twice"));
            }
            provider.check()?;
            issuers.push(Issuer {
                name: provider.issuer.clone(),
                audiences: provider.audiences.clone(),
                keys: Keys::Cached(KeyCache::new(provider, Arc::clone(&clock))?),
                role_claim: provider.role_claim.clone(),
                role_map: provider.role_map(),
                name_claim: provider.name_claim.clone(),
            });
        }
        Ok(Self { clock, issuers })
    }

    /// The names of the trusted issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(|issuer| issuer.name.as_str())
    }

    /// Who showed this `Authorization` header.
    ///
    /// # Errors
    /// [`AuthError`]; its text holds nothing of the token.
    pub async fn authenticate(&self, authorization: Option<&HeaderValue>) -> Result<Actor, AuthError> {
        let text = bearer(authorization)?;
        let token = token::Unverified::parse(text)?;
        let issuer = self.issuers.iter().find(|i| i.name == token.issuer).ok_or(AuthError::UnknownIssuer)?;
        let key = match &issuer.keys {
            Keys::Own(key) if key.id() == token.key_id => Arc::clone(key),
            Keys::Own(_) => return Err(AuthError::UnknownKey),
            Keys::Cached(cache) => cache.find(&token.key_id).await?,
        };
        let claims = key.verify(text, token.algorithm)?;
        issuer.check(&claims, self.clock.now().as_second())?;
        Ok(issuer.actor(&claims))
    }
}

fn bearer(authorization: Option<&HeaderValue>) -> Result<&str, AuthError> {
    let header = authorization.ok_or(AuthError::Missing)?;
    let text = header.to_str().map_err(|_| AuthError::Malformed("the header is not text"))?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthError::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Missing);
    }
    Ok(token.trim())
}

/// Clocks of issuer and service may differ by so much, in seconds.
const LEEWAY: i64 = 30;

impl Issuer {
    /// Checks the claims of a token whose signature is right.
    fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<(), AuthError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.name) {
            return Err(AuthError::UnknownIssuer);
        }
        let ours = |audience: &Value| audience.as_str().is_some_and(|a| self.audiences.iter().any(|own| own == a));
        let meant = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(ours),
            Some(one) => ours(one),
            None => false,
        };
        if !meant {
            return Err(AuthError::Audience);
        }
        let expires = seconds(claims, "exp")?.ok_or(AuthError::Malformed("it has no expiry (exp)"))?;
        if expires.saturating_add(LEEWAY) <= now {
            return Err(AuthError::Expired);
        }
        if seconds(claims, "nbf")?.is_some_and(|begin| begin > now.saturating_add(LEEWAY)) {
            return Err(AuthError::NotYetValid);
        }
        match claims.get("sub").and_then(Value::as_str) {
            Some(subject) if !subject.is_empty() => Ok(()),
            _ => Err(AuthError::Malformed("it has no subject (sub)")),
        }
    }

    fn actor(&self, claims: &Map<String, Value>) -> Actor {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = text(&self.name_claim).or(text("sub")).unwrap_or_default();
        // Names end up in events and logs: printable and short.
        let name = name.chars().filter(|c| !c.is_control()).take(128).collect();
        Actor { name, issuer: self.name.clone(), roles: self.roles(claims) }
    }

    /// The roles in the claim: a list of texts, or one text with roles between spaces. Names that mean nothing here
    /// are passed over.
    fn roles(&self, claims: &Map<String, Value>) -> BTreeSet<Role> {
        let mut path = self.role_claim.iter();
        let Some(mut found) = path.next().and_then(|first| claims.get(first)) else { return BTreeSet::new() };
        for part in path {
            let Some(inner) = found.get(part) else { return BTreeSet::new() };
            found = inner;
        }
        let known = |name: &str| self.role_map.get(name).copied();
        match found {
            Value::Array(names) => names.iter().filter_map(Value::as_str).filter_map(known).collect(),
            Value::String(names) => names.split_whitespace().filter_map(known).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => BTreeSet::new(),
        }
    }
}

/// A time claim, in whole seconds.
fn seconds(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<i64>, AuthError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    if let Some(whole) = value.as_i64() {
        return Ok(Some(whole));
    }
    // RFC 7519 allows fractions; a token that says so is valid for the whole seconds of it.
    let Some(fraction) = value.as_f64().filter(|n| n.is_finite() && n.abs() < 1e12) else {
        return Err(AuthError::Malformed("a time in it is not a number"));
    };
    let text = format!("{:.0}", fraction.trunc());
    text.parse().map(Some).map_err(|_| AuthError::Malformed("a time in it is not a number"))
}

#[cfg(test)]
mod tests;
