//! Judges the signatures of the commits that a source would move over, by the rules of what is applied now.
//!
//! Which commits a rule covers, and what is wrong with them, is decided in `fleet-trust`; here is what is read for it. A rule
//! that covers a commit by its paths is decided before anything is planned; one that covers it by its effect when the plan
//! is there, inside the transaction.

use std::collections::BTreeMap;

use fleet_git::{GitErrorKind, HistoryCommit};
use fleet_model::{CommitId, Digest, Kind, Manifest, PolicyPlace, SyncPolicySpec, SyncRules, SyncTrust};
use fleet_render::plan::{Plan, Radius};
use fleet_store::{PgConnection, StoreError, manifest_documents, sources_above};
use fleet_trust::{Candidates, DenialKind, Examined, MAX_COMMITS, NewCommit};
use tracing::warn;

use crate::guard::HoldReason;
use crate::planning::blocking;
use crate::snapshot::Mirror;
use crate::source::RunError;

pub(crate) use fleet_trust::Range;

/// A commit that lacks a signature which a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its place in the range; 0 is the oldest.
    pub(crate) at: usize,
    /// Whether there is no signature, or one that does not count.
    pub(crate) reason: HoldReason,
    /// For people: the commit, the rule, and why.
    pub(crate) sentence: String,
}

impl From<fleet_trust::Violation> for Violation {
    fn from(found: fleet_trust::Violation) -> Self {
        let reason = match found.kind {
            DenialKind::Unsigned => HoldReason::UnsignedCommit,
            DenialKind::Untrusted => HoldReason::UntrustedSigner,
        };
        Self { at: found.at, reason, sentence: found.sentence }
    }
}

/// What a commit is allowed to be applied with.
#[derive(Debug, Clone)]
pub(crate) struct Vouched {
    /// All commits.
    pub(crate) range: Range,
    /// How many of them, from the oldest, are about to be applied.
    pub(crate) count: usize,
    /// Whether violations are for a person to decide. Otherwise fewer commits are tried.
    pub(crate) holds: bool,
}

/// Violations in sentences, and what to do about them.
pub(crate) fn sentences(violations: &[Violation]) -> Vec<String> {
    fleet_trust::in_sentences(violations.iter().map(|violation| violation.sentence.as_str()))
}

/// The rules for a source, as of what is applied now: a commit that loosens them cannot use that itself.
///
/// # Errors
/// When the database fails.
pub(crate) async fn rules(
    connection: &mut PgConnection,
    org: fleet_model::OrgId,
    source: &str,
) -> Result<SyncRules, StoreError> {
    let stored = manifest_documents(connection, org, Kind::SyncPolicy, None).await?;
    let above = match stored.iter().any(|policy| policy.source != source) {
        true => sources_above(connection, org, source).await?,
        false => Vec::new(),
    };
    let place = |of: &str| match of {
        own if own == source => PolicyPlace::Own,
        other if above.iter().any(|above| above == other) => PolicyPlace::Above,
        _ => PolicyPlace::Elsewhere,
    };
    let mut policies: Vec<(PolicyPlace, SyncPolicySpec)> = Vec::with_capacity(stored.len());
    for stored in stored {
        match Manifest::from_document(Kind::SyncPolicy, stored.document) {
            Ok(Manifest::SyncPolicy(policy)) => policies.push((place(&stored.source), policy.spec)),
            Ok(_) => {}
            // Without it a commit could get by that it is there to stop.
            Err(error) => {
                warn!(policy = stored.name, %error, "Cannot read a stored SyncPolicy; nothing is applied without it");
                return Err(StoreError::Corrupt { what: "SyncPolicy", reason: format!("{}: {error}", stored.name) });
            }
        }
    }
    Ok(SyncRules::of_source(Some(source), policies.iter().map(|(place, policy)| (*place, policy))))
}

/// Judges the commits from `base` (exclusive) to `tip`. A source's first commit stands alone: it counts as one that changes
/// every file, whatever came before it.
///
/// # Errors
/// When the mirror or the database cannot be read.
pub(crate) async fn judge(
    mirror: Mirror<'_>,
    base: Option<&CommitId>,
    tip: &CommitId,
    asked: Vec<SyncTrust>,
) -> Result<Range, RunError> {
    let max = if base.is_some() { MAX_COMMITS } else { 1 };
    let mut history = mirror.git.history(mirror.path, base, tip, max).await?;
    let too_long = base.is_some() && !history.complete;
    // Back at a commit that the one in force came from: nothing is new, and all of it is another state.
    let goes_back = history.commits.is_empty() && base.is_some_and(|base| base != tip);
    if goes_back {
        history = mirror.git.history(mirror.path, None, tip, 1).await?;
    }
    let commits: Vec<NewCommit> = history.commits.into_iter().map(candidate).collect();
    let oldest = commits.last().and_then(|oldest| oldest.first_parent.as_ref());
    let before = match oldest {
        Some(parent) => before(mirror, parent).await?,
        None => None,
    };
    let detached = goes_back || base.is_some() && !commits.is_empty() && oldest != base;
    examine(mirror, asked, Candidates { commits, before, too_long, is_first: base.is_none(), detached }).await
}

/// Judges the commits of a pull request: those that it has and `base` has not. What it lacks of `base`, it does not take back
/// when it is merged.
///
/// # Errors
/// When the mirror or the database cannot be read.
pub(crate) async fn judge_proposal(
    mirror: Mirror<'_>,
    base: &CommitId,
    tip: &CommitId,
    asked: Vec<SyncTrust>,
) -> Result<Range, RunError> {
    let history = mirror.git.history(mirror.path, Some(base), tip, MAX_COMMITS).await?;
    let too_long = !history.complete;
    let commits: Vec<NewCommit> = history.commits.into_iter().map(candidate).collect();
    let before = match commits.last().and_then(|oldest| oldest.first_parent.as_ref()) {
        Some(parent) => before(mirror, parent).await?,
        None => None,
    };
    examine(mirror, asked, Candidates { commits, before, too_long, is_first: false, detached: false }).await
}

fn candidate(commit: HistoryCommit) -> NewCommit {
    let HistoryCommit { id, first_parent, subject, raw } = commit;
    NewCommit { id, first_parent, subject, raw }
}

async fn before(mirror: Mirror<'_>, parent: &CommitId) -> Result<Option<Vec<u8>>, RunError> {
    let history = mirror.git.history(mirror.path, None, parent, 1).await?;
    Ok(history.commits.into_iter().next().and_then(|commit| commit.raw))
}

async fn examine(mirror: Mirror<'_>, asked: Vec<SyncTrust>, candidates: Candidates) -> Result<Range, RunError> {
    let examined = blocking("judging signatures", move || Examined::new(asked, candidates)).await?;
    let mut changed = BTreeMap::new();
    for (parent, commit) in examined.open() {
        match mirror.git.diff(mirror.path, &parent, &commit, "").await {
            Ok(changes) => drop(changed.insert(commit, changes.into_iter().map(|change| change.path).collect())),
            // What cannot be told counts as covered.
            Err(error) if [GitErrorKind::TooLarge, GitErrorKind::NotUtf8Path].contains(&error.kind) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(examined.finish(&changed))
}

/// Names rules: other rules have another digest.
pub(crate) fn digest(rules: &[SyncTrust]) -> Digest {
    // Types of ours, with text for keys: they always have a JSON form.
    Digest::of(&serde_json::to_vec(rules).unwrap_or_default())
}

/// What is wrong with a plan under the rules in force now.
///
/// # Errors
/// `Conflict` when the rules are not those that the commits were judged by: they are to be judged again.
pub(crate) fn violations(
    vouched: Option<&Vouched>,
    rules: &SyncRules,
    plan: &Plan,
    radius: &Radius,
) -> Result<Vec<Violation>, StoreError> {
    let asked = vouched.map_or(&[][..], |vouched| vouched.range.asked());
    if asked != rules.trust() {
        return Err(StoreError::Conflict { what: "the rules for signatures".to_owned() });
    }
    let found = vouched.map_or_else(Vec::new, |vouched| vouched.range.violations(vouched.count, &plan.effects(radius)));
    Ok(found.into_iter().map(Violation::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_rules_have_another_digest() {
        let rules = |json: &str| digest(&serde_json::from_str::<Vec<SyncTrust>>(json).unwrap());
        assert_eq!(rules("[]"), digest(&[]));
        assert_ne!(rules("[]"), rules(r#"[{"signers":[],"rules":[]}]"#));
    }
}
