//! What signatures a pull request lacks under the rules in force, and which the commit will need that the Git host makes of it.

use fleet_git::{GitError, GitErrorKind};
use fleet_model::CommitId;
use fleet_render::plan::Plan;
use fleet_store::{SourceDefinition, StoreError};
use fleet_trust::{Violation, remedy};

use super::landing::Landing;
use crate::snapshot::Mirror;
use crate::source::{RunError, Shared};
use crate::trust;

/// What is told of signatures.
#[derive(Debug)]
pub(super) enum Signatures {
    /// Why they are not judged.
    NotJudged(String),
    /// They are.
    Judged {
        /// How many commits there are.
        commits: usize,
        /// Those that lack a signature, and why.
        lacking: Vec<Violation>,
        /// What to do about that.
        fix: Vec<String>,
        /// The rules that one commit with all of the changes is covered by.
        landing: Vec<String>,
    },
}

/// A failure of one of the two that are asked.
pub(super) enum Failure {
    Git(GitError),
    Store(StoreError),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Git(error) => Self::Git(error),
            RunError::Store(error) => Self::Store(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Signatures {
    /// In some words, for a status; `None` where no commit lacks a signature.
    pub(super) fn lack(&self) -> Option<String> {
        match self {
            Self::Judged { lacking, .. } => lacking.first().map(|first| first.sentence.clone()),
            Self::NotJudged(_) => None,
        }
    }
}

/// Judges the commits of a pull request; `None` where no rule asks for signatures.
///
/// # Errors
/// When the mirror or the database cannot be read.
pub(super) async fn judge(
    shared: &Shared,
    definition: &SourceDefinition,
    mirror: Mirror<'_>,
    (head, applied): (&CommitId, &CommitId),
    landing: &Landing,
    plan: &Plan,
) -> Result<Option<Signatures>, Failure> {
    let mut transaction = shared.store.begin().await?;
    let rules = trust::rules(&mut transaction, shared.config.org, &definition.name).await?;
    drop(transaction);
    if rules.trust().is_empty() {
        return Ok(None);
    }
    if !landing.has_base {
        let why = format!("the branch has lost {}, which is in force", applied.short());
        return Ok(Some(Signatures::NotJudged(why)));
    }
    let range = trust::judge_proposal(mirror, applied, head, rules.trust().to_vec()).await?;
    let effects = plan.effects(&plan.radius);
    let commits = range.commits().len();
    let lacking = range.violations(commits, &effects);
    let paths: Option<Vec<String>> = match mirror.git.diff(mirror.path, applied, &landing.commit, "").await {
        Ok(changes) => Some(changes.into_iter().map(|change| change.path).collect()),
        // What cannot be told counts as covered.
        Err(error) if [GitErrorKind::TooLarge, GitErrorKind::NotUtf8Path].contains(&error.kind) => None,
        Err(error) => return Err(Failure::Git(error)),
    };
    let fix = remedy(&lacking, applied.short(), commits.saturating_sub(1));
    let landing = range.covering(paths.as_deref(), &effects);
    Ok(Some(Signatures::Judged { commits, lacking, fix, landing }))
}
