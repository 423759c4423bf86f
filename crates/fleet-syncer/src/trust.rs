//! Judges the signatures of the commits that a source would move over, by the rules of what is applied now.
//!
//! Judged are the commits along first parents from the one in force to the newest one, each by what it changes against
//! its first parent: a merge vouches for what it merges. A rule that covers a commit by its paths is decided before anything
//! is planned; one that covers it by its effect when the plan is there, inside the transaction.

use std::sync::Arc;

use fleet_git::{GitErrorKind, HistoryCommit};
use fleet_model::{CommitId, Kind, Manifest, PolicyPlace, SyncPolicySpec, SyncRules, SyncTrust, TrustEffect};
use fleet_render::plan::{Plan, Radius};
use fleet_store::{PgConnection, StoreError, manifest_documents, sources_above};
use fleet_trust::{DenialKind, Judged, Policy, SignedCommit, Subject};
use tracing::warn;

use crate::guard::HoldReason;
use crate::planning::blocking;
use crate::snapshot::Mirror;
use crate::source::RunError;

/// The most commits whose signatures are judged at once.
pub(crate) const MAX_COMMITS: usize = 1_000;
/// So many violations are named.
const MAX_TOLD: usize = 10;

/// The commits between the one in force and the newest one, judged.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    /// What the policies asked for when this was judged.
    pub(crate) asked: Arc<Vec<SyncTrust>>,
    policy: Arc<Policy>,
    /// Oldest first.
    pub(crate) commits: Arc<Vec<TrustedCommit>>,
    /// Whether there are more commits than were judged.
    too_long: bool,
    /// The commit in force is not where the first parents lead: what is new may take back what is in force. It is one
    /// decision, and each commit counts as one that changes every file.
    pub(crate) detached: bool,
}

/// One commit and what each rule says of it.
#[derive(Debug, Clone)]
pub(crate) struct TrustedCommit {
    pub(crate) id: CommitId,
    subject: String,
    judged: Judged,
    /// By rule: whether it covers this commit by what it changes.
    covered: Vec<bool>,
}

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

impl Range {
    /// How many commits, from the oldest, break no rule by what they change.
    pub(crate) fn acceptable(&self) -> usize {
        if self.too_long {
            return 0;
        }
        let breaks = |commit: &TrustedCommit| {
            commit.covered.iter().zip(&commit.judged.rules).any(|(covered, judged)| *covered && judged.is_err())
        };
        self.commits.iter().position(breaks).unwrap_or(self.commits.len())
    }

    /// Every violation among the first `count` commits, oldest first, where a plan does this; at most a few and what more
    /// there are.
    pub(crate) fn violations(&self, count: usize, effects: &[TrustEffect]) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.too_long {
            let sentence = format!(
                "more than {MAX_COMMITS} commits are new, too many to judge their signatures: push fewer at once"
            );
            found.push(Violation { at: 0, reason: HoldReason::UntrustedSigner, sentence });
        }
        for (at, commit) in self.commits.iter().enumerate().take(count) {
            let rules = self.policy.rules().zip(&commit.covered).zip(&commit.judged.rules);
            for ((rule, covered), judged) in rules {
                let Err(denial) = judged else { continue };
                let effect = rule.covers_effect(effects);
                if !covered && effect.is_none() {
                    continue;
                }
                let reason = match denial.kind {
                    DenialKind::Unsigned => HoldReason::UnsignedCommit,
                    DenialKind::Untrusted => HoldReason::UntrustedSigner,
                };
                let because = effect
                    .filter(|_| !covered)
                    .map(|effect| format!(", as the plan has the effect {}", effect.as_str()));
                let sentence = format!(
                    "commit {} ({}) breaks {}{}: {}",
                    commit.id.short(),
                    commit.subject,
                    rule.told(),
                    because.unwrap_or_default(),
                    denial.words
                );
                found.push(Violation { at, reason, sentence });
                break;
            }
            if found.len() > MAX_TOLD {
                break;
            }
        }
        found
    }

    /// Who signed the newest commit, where somebody did.
    pub(crate) fn signer(&self) -> Option<&str> {
        let judged = &self.commits.last()?.judged;
        judged.rules.iter().find_map(|judged| judged.as_ref().ok()).map(String::as_str)
    }
}

/// Violations in sentences, and what to do about them.
pub(crate) fn sentences(violations: &[Violation]) -> Vec<String> {
    let mut told: Vec<String> = violations.iter().take(MAX_TOLD).map(|violation| violation.sentence.clone()).collect();
    if violations.len() > MAX_TOLD {
        told.push("more commits break rules than are named here".to_owned());
    }
    if !told.is_empty() {
        told.push("push the commits again with signatures, or have the plan approved".to_owned());
    }
    told
}

/// What a plan does, as rules name it.
pub(crate) fn effects(plan: &Plan, radius: &Radius) -> Vec<TrustEffect> {
    use fleet_render::plan::Change;
    let touched = |kinds: &[Kind]| {
        plan.objects.iter().any(|object| kinds.contains(&object.kind) && object.change != Change::Moved)
    };
    let devices = radius.devices_unmanaged > 0
        || !plan.groups.is_empty()
        || !plan.unmanaged.is_empty()
        || !plan.reassigned.is_empty();
    let fleets = plan.objects.iter().any(|object| object.kind == Kind::Fleet && object.change == Change::Removed);
    let all = [
        (TrustEffect::SyncPolicy, touched(&[Kind::SyncPolicy])),
        (TrustEffect::Sources, touched(&[Kind::Repository, Kind::ResourceSync])),
        (TrustEffect::Enrollment, touched(&[Kind::EnrollmentPolicy])),
        (TrustEffect::RemoveFleet, fleets || radius.fleets_removed > 0),
        (TrustEffect::OsImage, plan.groups.iter().any(|group| group.os.is_some())),
        (TrustEffect::Applications, plan.groups.iter().any(|group| !group.applications.is_empty())),
        (TrustEffect::AnyDevice, devices),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(effect, _)| effect).collect()
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
    let asked = Arc::new(asked);
    let policy = Arc::new(Policy::new(&asked));
    let commits = history.commits;
    let mut dates: Vec<Option<i64>> = commits.iter().map(committed_at).collect();
    // The parent of the oldest one is in force already; how old that is counts too.
    let oldest = commits.last().and_then(|oldest| oldest.first_parent.as_ref());
    dates.push(match oldest {
        Some(parent) => mirror.git.history(mirror.path, None, parent, 1).await?.commits.first().and_then(committed_at),
        None => None,
    });
    let detached = goes_back || base.is_some() && !commits.is_empty() && oldest != base;
    let (judging, judged_commits, judged_dates) = (Arc::clone(&policy), commits.clone(), dates);
    let judged = blocking("judging signatures", move || {
        let one = |(at, commit): (usize, &HistoryCommit)| {
            let parent_committed_at = judged_dates.get(at + 1).copied().flatten();
            judging.judge(Subject { id: &commit.id, raw: commit.raw.as_deref(), parent_committed_at })
        };
        judged_commits.iter().enumerate().map(one).collect::<Vec<Judged>>()
    })
    .await?;
    let mut found = Vec::with_capacity(commits.len());
    for (commit, judged) in commits.into_iter().zip(judged).rev() {
        let covered = covered(mirror, &policy, &commit, base.is_none() || detached, &judged).await?;
        found.push(TrustedCommit { id: commit.id, subject: commit.subject, judged, covered });
    }
    Ok(Range { asked, policy, commits: Arc::new(found), too_long, detached })
}

fn committed_at(commit: &HistoryCommit) -> Option<i64> {
    SignedCommit::parse(commit.raw.as_deref()?).ok().map(|commit| commit.committed_at)
}

/// By rule: whether a commit is covered by what it changes. What cannot be told counts as covered.
async fn covered(
    mirror: Mirror<'_>,
    policy: &Policy,
    commit: &HistoryCommit,
    is_first: bool,
    judged: &Judged,
) -> Result<Vec<bool>, RunError> {
    // Only where a signature is missing does it matter what the commit changes.
    let asks = policy.rules().zip(&judged.rules).any(|(rule, judged)| rule.asks_for_paths() && judged.is_err());
    let changed: Option<Vec<String>> = match (&commit.first_parent, asks) {
        (Some(parent), true) if !is_first => match mirror.git.diff(mirror.path, parent, &commit.id, "").await {
            Ok(changes) => Some(changes.into_iter().map(|change| change.path).collect()),
            Err(error) if [GitErrorKind::TooLarge, GitErrorKind::NotUtf8Path].contains(&error.kind) => None,
            Err(error) => return Err(error.into()),
        },
        (Some(_) | None, _) => None,
    };
    let covers = |rule: fleet_trust::RuleView<'_>| match &changed {
        None => rule.covers_everything() || rule.asks_for_paths(),
        Some(paths) => rule.covers_everything() || paths.iter().any(|path| rule.covers_path(path)),
    };
    Ok(policy.rules().map(covers).collect())
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
    let asked = vouched.map_or(&[][..], |vouched| &vouched.range.asked[..]);
    if asked != rules.trust() {
        return Err(StoreError::Conflict { what: "the rules for signatures".to_owned() });
    }
    Ok(vouched.map_or_else(Vec::new, |vouched| vouched.range.violations(vouched.count, &effects(plan, radius))))
}
