//! The guard: whether a commit may be applied, or waits for a person. A pure decision.

use fleet_git::CommitSubject;
use fleet_model::{CommitId, Digest, ForcedPush, SyncRules};
use fleet_render::plan::Radius;
use fleet_store::{HoldDecision, HoldRow};

use crate::trust::{self, Violation};

/// So many lost commits are named.
pub(crate) const MAX_LOST: usize = 10;

/// The history of a branch was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// The commit in force, which is not in the new history.
    pub(crate) base: CommitId,
    /// The newest commits that are lost, at most [`MAX_LOST`] and one; `None` when the mirror does not have them any more.
    pub(crate) lost: Option<Vec<CommitSubject>>,
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The commit.
    pub(crate) commit: &'a CommitId,
    /// The commit in force.
    pub(crate) base: Option<&'a CommitId>,
    /// The digest of its plan.
    pub(crate) digest: Digest,
    /// How far it reaches, with all that goes along.
    pub(crate) radius: &'a Radius,
    /// What goes along with it and is not in its plan, in sentences.
    pub(crate) along: &'a [String],
    /// The rules in force before it.
    pub(crate) rules: &'a SyncRules,
    /// Whether it rewrites history.
    pub(crate) rewritten: Option<&'a Rewritten>,
    /// What was in force before desired state was dropped, and cannot be brought back.
    pub(crate) unrestored: Option<&'a CommitId>,
    /// Commits without the signatures that the rules ask for.
    pub(crate) violations: &'a [Violation],
    /// What is held of the source so far.
    pub(crate) stored: Option<&'a HoldRow>,
}

/// Why a commit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldReason {
    /// It reaches too far.
    BlastRadius,
    /// History was rewritten.
    NonFastForward,
    /// A commit is not signed.
    UnsignedCommit,
    /// A commit is not signed by somebody whom a rule trusts.
    UntrustedSigner,
    /// What was approved is not what it would change now.
    PlanStale,
    /// Somebody rejected it.
    Rejected,
}

impl HoldReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BlastRadius => "BlastRadius",
            Self::NonFastForward => "NonFastForward",
            Self::UnsignedCommit => "UnsignedCommit",
            Self::UntrustedSigner => "UntrustedSigner",
            Self::PlanStale => "PlanStale",
            Self::Rejected => "Rejected",
        }
    }

    fn stored(text: &str) -> Self {
        let all = [Self::NonFastForward, Self::UnsignedCommit, Self::UntrustedSigner, Self::PlanStale];
        all.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Self::BlastRadius)
    }
}

/// A commit that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Why.
    pub(crate) reason: HoldReason,
    /// The same in sentences, without full stops.
    pub(crate) sentences: Vec<String>,
    /// Whether this commit was not held before.
    pub(crate) is_news: bool,
    /// An approval that does not count any more: the plan is another.
    pub(crate) outdated: Option<HoldDecision>,
}

/// The guard's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Go ahead.
    Apply {
        /// Whose approval makes it possible.
        approved: Option<HoldDecision>,
        /// History was rewritten, and the policy says to follow.
        follows: bool,
    },
    /// Wait.
    Hold(Hold),
}

/// Judges a commit by its plan.
pub(crate) fn judge(question: Question<'_>) -> Judgement {
    let Question { commit, base, digest, radius, along, rules, rewritten, unrestored, violations, stored } = question;
    let before = stored.filter(|hold| hold.commit == *commit);
    let decision = before.and_then(|hold| hold.decision.as_ref());
    // Looked at again because something outside the commit moved, another plan is another question.
    let still = |decision: &HoldDecision| base != Some(commit) || decision.digest == digest;
    if let (Some(held), Some(decision)) = (before, decision)
        && !decision.approved
        && still(decision)
    {
        let sentences = held.sentences.clone();
        return Judgement::Hold(Hold { reason: HoldReason::Rejected, sentences, is_news: false, outdated: None });
    }
    let follows = rewritten.is_some() && rules.forced_push() == ForcedPush::Follow;
    let mut sentences = rewritten.filter(|_| !follows).map_or_else(Vec::new, |rewritten| told(rewritten, commit));
    let mut reason = if sentences.is_empty() { HoldReason::BlastRadius } else { HoldReason::NonFastForward };
    if let Some(first) = violations.first() {
        reason = first.reason;
        sentences.extend(trust::sentences(violations));
    }
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let limits = rules.limits(wide(radius.fleets_before), wide(radius.devices_before));
    let exceeded = radius.exceeds(&limits);
    if !exceeded.is_empty() {
        sentences.extend(exceeded.into_iter().map(|exceeded| exceeded.sentence).chain(along.iter().cloned()));
    }
    // Nothing tells how far a commit reaches when what was in force cannot be brought back. One that was held is held as before.
    if let Some(held) = before.filter(|_| sentences.is_empty() && radius.objects_before == 0) {
        reason = HoldReason::stored(&held.reason);
        sentences.clone_from(&held.sentences);
    }
    if let Some(lost) = unrestored.filter(|_| sentences.is_empty() && radius.objects_before == 0) {
        sentences.push(format!(
            "commit {}, which was in force before desired state was lost, cannot be brought back, so nothing tells what changes",
            lost.short()
        ));
    }
    if sentences.is_empty() {
        return Judgement::Apply { approved: None, follows };
    }
    let outdated = match decision {
        Some(decision) if decision.approved && decision.digest == digest => {
            return Judgement::Apply { approved: Some(decision.clone()), follows };
        }
        Some(decision) if decision.approved => Some(decision.clone()),
        Some(_) | None => None,
    };
    let was_stale = before.is_some_and(|hold| HoldReason::stored(&hold.reason) == HoldReason::PlanStale);
    if (outdated.is_some() || was_stale) && reason != HoldReason::PlanStale {
        reason = HoldReason::PlanStale;
        sentences.insert(0, STALE.to_owned());
    }
    Judgement::Hold(Hold { reason, sentences, is_news: before.is_none(), outdated })
}

const STALE: &str = "the plan that was approved is not the plan any more";

/// A rewritten history in sentences: what happened, and one for each lost commit.
fn told(rewritten: &Rewritten, commit: &CommitId) -> Vec<String> {
    let base = rewritten.base.short();
    let mut sentences =
        vec![format!("history was rewritten: the commit in force, {base}, is not an ancestor of {}", commit.short())];
    match &rewritten.lost {
        None => {
            sentences.push("which commits are lost is not known: the mirror does not have them any more".to_owned())
        }
        Some(lost) => {
            let one = |lost: &CommitSubject| format!("loses {} {}", lost.id.short(), lost.subject);
            sentences.extend(lost.iter().take(MAX_LOST).map(one));
            if lost.len() > MAX_LOST {
                sentences.push("loses more commits than are named here".to_owned());
            }
        }
    }
    sentences
}

#[cfg(test)]
mod tests;
