//! What goes wrong with a forge, and what to do about it.

use std::time::Duration;

/// What kind of failure it is: decides whether, and when, to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeErrorKind {
    /// The token is missing, wrong, or may not do this.
    Denied,
    /// The repository, commit or pull request is not there, or the token may not see it.
    NotFound,
    /// Too many requests.
    RateLimited {
        /// When the host wants to be asked again; between a second and an hour.
        retry_after: Duration,
    },
    /// No answer: no connection, no valid certificate, or none in time.
    Unreachable,
    /// The host understood the request and refuses what it says.
    Invalid,
    /// The host failed, or its answer cannot be understood.
    Server,
}

impl ForgeErrorKind {
    /// One word, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unreachable => "unreachable",
            Self::Invalid => "invalid",
            Self::Server => "server",
        }
    }

    /// Whether the host as a whole is in trouble, not this one request.
    pub fn concerns_the_host(self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unreachable | Self::Server)
    }
}

/// A failure: one sentence with the place and the way out. Never holds a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ForgeError {
    /// What kind it is.
    pub kind: ForgeErrorKind,
    /// The sentence.
    pub message: String,
}

impl ForgeError {
    pub(crate) fn new(kind: ForgeErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
