//! The one error of this crate: a kind to act on and a sentence to read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What to do about a failure. The names are the reasons that conditions of a source show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GitErrorKind {
    /// The host, or the repository on it, cannot be reached: name, connection, TLS, 404, 5xx, or a broken answer.
    HostUnreachable,
    /// The host refused the credentials (401, 403), or asks for some where none are configured.
    AuthFailed,
    /// The host asked to slow down (429).
    RateLimited,
    /// The branch, tag or commit does not exist there, or a commit is not in the mirror.
    RefMissing,
    /// The path does not exist in that commit.
    PathMissing,
    /// A path below the wanted one is not UTF-8.
    NotUtf8Path,
    /// The request took too long, in total or without any progress.
    DeadlineExceeded,
    /// The mirror is damaged. The next fetch builds it anew.
    Corrupt,
    /// A blob, the sum of the blobs, or the number of entries is above the caller's limit.
    TooLarge,
    /// The disk that holds the mirror is full, or its quota is used up.
    DiskFull,
    /// The URL is of a kind that is not supported.
    UnsupportedScheme,
    /// The worker process ended in the middle of a request, or answered nonsense.
    WorkerDied,
    /// Anything else.
    Other,
}

/// A failed request. The message names the thing, the place and, where known, the fix; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct GitError {
    /// What to do about it.
    pub kind: GitErrorKind,
    /// One sentence for people.
    pub message: String,
    /// How long the host asked to be left alone (`Retry-After`); at most an hour.
    #[serde(default)]
    pub retry_after: Option<Duration>,
    /// It was the answer to the quick question, and the long way may have another one.
    #[serde(default)]
    pub(crate) only_quick: bool,
}

impl GitError {
    /// An error of `kind`.
    pub fn new(kind: GitErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, only_quick: false }
    }

    /// An error of reading or writing a file; `doing` says which and why.
    pub(crate) fn of_disk(error: &std::io::Error, doing: &str) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if [StorageFull, QuotaExceeded].contains(&error.kind()) {
            return Self::disk_full(doing);
        }
        Self::other(format!("{doing}: {error}"))
    }

    pub(crate) fn disk_full(doing: &str) -> Self {
        let fix = "the disk is full; free space there, or lower git.mirrors.maxBytes";
        Self::new(GitErrorKind::DiskFull, format!("{doing}: {fix}"))
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(GitErrorKind::Other, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(GitErrorKind::Corrupt, message)
    }
}
