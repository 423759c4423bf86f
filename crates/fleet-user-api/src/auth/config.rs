//! Settings of an identity provider.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleet_model::Role;
use serde::Deserialize;

/// What is wrong with an identity provider's settings.
#[derive(Debug, thiserror::Error)]
#[error("identity provider {issuer:?}: {problem}")]
pub struct AuthConfigError {
    issuer: String,
    problem: String,
}

impl AuthConfigError {
    pub(super) fn new(issuer: &str, problem: impl Into<String>) -> Self {
        Self { issuer: issuer.to_owned(), problem: problem.into() }
    }
}

/// An OpenID Connect provider whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcConfig {
    /// The issuer, exactly as in `iss`: an `https://` URL.
    pub issuer: String,
    /// The audiences of which a token must name one.
    pub audiences: Vec<String>,
    /// Where the keys are; found by discovery when absent.
    #[serde(default)]
    pub keys: KeyLocation,
    /// PEM certificates to trust when asking the provider; nothing else is trusted then. The system's otherwise.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The claim with the roles, as a path: `[realm_access, roles]`.
    #[serde(default = "default_role_claim")]
    pub role_claim: Vec<String>,
    /// Which value of the claim means which role. Without it `viewer`, `operator`, `installer` and `admin` mean
    /// themselves.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    /// The claim with the user's name; `sub` where it is absent.
    #[serde(default = "default_name_claim")]
    pub name_claim: String,
}

/// Where a provider's keys are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyLocation {
    /// Where `<issuer>/.well-known/openid-configuration` says.
    #[default]
    Discovery,
    /// A JWK set at a URL.
    Url(String),
    /// A JWK set in a file, read again when a token names a key that is not in it.
    File(PathBuf),
}

fn default_role_claim() -> Vec<String> {
    vec!["roles".to_owned()]
}

fn default_name_claim() -> String {
    "preferred_username".to_owned()
}

impl OidcConfig {
    /// A provider with the default settings.
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audiences: vec![audience.to_owned()],
            keys: KeyLocation::Discovery,
            ca_file: None,
            role_claim: default_role_claim(),
            roles: BTreeMap::new(),
            name_claim: default_name_claim(),
        }
    }

    pub(super) fn check(&self) -> Result<(), AuthConfigError> {
        let problem = |text: String| Err(AuthConfigError::new(&self.issuer, text));
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return problem("audiences must name at least one audience, and none that is empty".to_owned());
        }
        if self.role_claim.is_empty() {
            return problem("roleClaim must name a claim".to_owned());
        }
        let url = match &self.keys {
            KeyLocation::Discovery => &self.issuer,
            KeyLocation::Url(url) => url,
            KeyLocation::File(_) => return Ok(()),
        };
        if !is_safe_url(url) {
            return problem(format!("{url:?} is not an https:// URL (http:// is allowed to this machine only)"));
        }
        Ok(())
    }

    pub(super) fn role_map(&self) -> BTreeMap<String, Role> {
        if self.roles.is_empty() {
            return Role::ALL.into_iter().map(|role| (role.as_str().to_owned(), role)).collect();
        }
        self.roles.clone()
    }
}

/// Keys are fetched over TLS, or from this machine.
pub(super) fn is_safe_url(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    match url.scheme() {
        "https" => url.host_str().is_some(),
        "http" => matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")),
        _ => false,
    }
}
