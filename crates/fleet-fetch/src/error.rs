//! The one error of this crate: a kind to act on and a sentence to read.

use std::time::Duration;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The server answered, and says that there is no such thing (404, 410), or the secret does not exist.
    NotFound,
    /// The server refused the credentials (401, 403, 407, a client certificate), or asks for some where none are given.
    Denied,
    /// The server cannot be reached or cannot answer now: name, connection, TLS, 5xx, or an answer that was cut.
    Unreachable,
    /// There is more than the limit.
    TooLarge,
    /// It took too long, in total or without any progress.
    DeadlineExceeded,
    /// The server asks for patience (429, or 503 with a time).
    RateLimited {
        /// How long it asks to wait, if it says so in seconds.
        retry_after: Option<Duration>,
    },
    /// The place, its options or the answer make no sense; trying again does not help.
    Invalid,
    /// Anything else.
    Other,
}

/// A failed fetch. The message names the thing, the place and, where known, the fix; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// What to do about it.
    pub kind: FetchErrorKind,
    /// One sentence for people.
    pub message: String,
}

impl FetchError {
    /// An error of `kind`.
    pub fn new(kind: FetchErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(FetchErrorKind::Invalid, message)
    }
}

/// Words of others for a message: no control characters, at most 300 characters.
pub(crate) fn quoted(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}
