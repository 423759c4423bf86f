//! Roles of users, and the tokens that the service's own issuer gives out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a user may do. A user may hold several roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read everything but rendered documents.
    Viewer,
    /// Read everything, trigger syncs.
    Operator,
    /// Read and decide enrolment requests, get enrolment certificates.
    Installer,
    /// All of these.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Installer, Self::Admin];

    /// The role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Installer => "installer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("unknown role {text:?}; roles are viewer, operator, installer and admin"))
    }
}

/// Tokens of the service's own issuer: JWTs signed with ES256 by a key in the service's data directory.
pub mod local_token {
    use super::{Deserialize, Role, Serialize};

    /// The issuer's name, in `iss`.
    pub const ISSUER: &str = "shorebase:local";
    /// The audience, in `aud`.
    pub const AUDIENCE: &str = "shorebase";
    /// The file of the signing key in the service's data directory: PKCS#8 PEM, mode 0600.
    pub const KEY_FILE: &str = "user-issuer.key";
    /// The longest life of a token: 366 days, in seconds.
    pub const MAX_SECONDS: i64 = 366 * 24 * 60 * 60;

    /// The claims.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Claims {
        /// [`ISSUER`].
        pub iss: String,
        /// [`AUDIENCE`].
        pub aud: String,
        /// Who acts.
        pub sub: String,
        /// Issued at, seconds since 1970.
        pub iat: i64,
        /// Not before.
        pub nbf: i64,
        /// Expires at.
        pub exp: i64,
        /// What they may do.
        pub roles: Vec<Role>,
    }

    impl Claims {
        /// Claims of a token that is valid from `now` for `seconds` (at least 1, at most [`MAX_SECONDS`]).
        pub fn new(subject: &str, role: Role, now: i64, seconds: i64) -> Self {
            Self {
                iss: ISSUER.to_owned(),
                aud: AUDIENCE.to_owned(),
                sub: subject.to_owned(),
                iat: now,
                nbf: now,
                exp: now.saturating_add(seconds.clamp(1, MAX_SECONDS)),
                roles: vec![role],
            }
        }
    }
}
