//! What can come of a look at a source, and of a commit on its way.

use fleet_git::GitError;
use fleet_lint::TreeReport;
use fleet_model::{CommitId, Diagnostic};
use fleet_store::StoreError;

use crate::apply::Applied;
use crate::building::BuildFailure;
use crate::conditions::RefusalReason;
use crate::guard::Rewritten;
use crate::snapshot::Snapshot;
use crate::trust::Vouched;

/// What a run of a source did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is new.
    Unchanged,
    /// A commit was applied.
    Applied(Applied),
    /// A commit was refused, now or before.
    Refused,
    /// A commit waits for a person.
    Held,
    /// The source is suspended.
    Suspended,
}

/// Why a run did not come to an end; the next one starts afresh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The host, or our reading of it, failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BuildFailure> for RunError {
    fn from(failure: BuildFailure) -> Self {
        match failure {
            BuildFailure::Git(error) => Self::Git(error),
            BuildFailure::Store(error) => Self::Store(error),
        }
    }
}

/// Why a commit is not applied.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: RefusalReason,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// How a commit is taken.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// It is the newest one; with what it rewrites.
    Forward(Option<Rewritten>, Option<Vouched>),
    /// It was in force before desired state was dropped.
    Back,
}

/// A commit without errors in it, and what is known of it.
pub(super) struct Checked {
    pub(super) snapshot: Snapshot,
    pub(super) report: TreeReport,
    /// The commit whose lint configuration judged it, when that is another.
    pub(super) lint_commit: Option<CommitId>,
    pub(super) diagnostics: Vec<Diagnostic>,
}
