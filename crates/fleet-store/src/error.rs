//! What can go wrong with the database, by what failed.

/// Result of a database operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be reached or answered badly.
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database URL does not parse.
    #[error("database URL: {0}")]
    Url(#[source] sqlx::Error),
    /// A stored value does not fit its type: the database was changed by something else.
    #[error("stored {what} does not fit: {reason}")]
    Corrupt {
        /// The table and column.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The caller gave the wait up.
    #[error("database: no answer in {seconds} s")]
    TooSlow {
        /// How long it waited.
        seconds: u64,
    },
    /// The caller's lease was taken over; nothing was written.
    #[error("lease {name:?} is held by somebody else; nothing was written")]
    Fenced {
        /// The lease's name.
        name: String,
    },
    /// Somebody else writes it, and took longer than the caller would wait.
    #[error("{what} is being written, and was not free within {seconds} s; nothing was written")]
    Busy {
        /// What is not free.
        what: String,
        /// How long the caller waited.
        seconds: u64,
    },
    /// Somebody else changed the row first; nothing was written.
    #[error("{what} changed meanwhile; nothing was written")]
    Conflict {
        /// What changed.
        what: String,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl StoreError {
    /// Whether the same transaction may succeed when it is tried again at once: a serialisation failure or a deadlock.
    pub fn is_retryable(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("40001" | "40P01"))
    }

    /// Whether a lock was not to be had in time.
    pub(crate) fn is_locked(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().as_deref() == Some("55P03")
    }

    /// Whether a table or schema is not there: somebody dropped it while the service runs.
    pub fn is_missing_table(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("42P01" | "3F000"))
    }

    /// Whether the database is away: the work can be tried again later, unchanged.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::TooSlow { .. }
            | Self::Database(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => true,
            // 57xxx: the server is shutting down, starting, or gave the statement up; 55P03: a lock was not to be had in
            // time; 53xxx: out of connections or resources; 08xxx: the connection broke.
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|c| c.starts_with("57") || c == "55P03" || c.starts_with("53") || c.starts_with("08")),
            Self::Database(_)
            | Self::Migration(_)
            | Self::Url(_)
            | Self::Corrupt { .. }
            | Self::Fenced { .. }
            | Self::Busy { .. }
            | Self::Conflict { .. } => false,
        }
    }
}
