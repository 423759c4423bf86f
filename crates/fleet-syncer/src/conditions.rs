//! Conditions of a source: whether its host answers, whether its newest commit could be read, whether it is applied, and
//! whether it waits for a person.

use std::collections::BTreeSet;

use fleet_git::{GitError, GitErrorKind, Remote};
use fleet_lint::codes;
use fleet_model::{CommitId, Condition, ConditionStatus, Diagnostic, Digest, Severity, set_condition};
use fleet_store::Suspension;

use crate::guard::HoldReason;
use crate::source::QUARANTINED;

/// The condition about secrets.
const SECRETS: &str = "SecretsReadable";

/// Why a commit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// Its files do not parse or break a rule.
    ParseError,
    /// It defines what another source defines.
    OwnershipConflict,
    /// The source's path is not in it.
    PathMissing,
    /// It would remove everything.
    NothingLeft,
}

impl RefusalReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ParseError => "ParseError",
            Self::OwnershipConflict => "OwnershipConflict",
            Self::PathMissing => "PathMissing",
            Self::NothingLeft => "NothingLeft",
        }
    }
}

fn git_reason(kind: GitErrorKind) -> &'static str {
    match kind {
        GitErrorKind::HostUnreachable => "HostUnreachable",
        GitErrorKind::AuthFailed => "AuthFailed",
        GitErrorKind::RateLimited => "RateLimited",
        GitErrorKind::RefMissing => "RefMissing",
        GitErrorKind::PathMissing => "PathMissing",
        GitErrorKind::NotUtf8Path => "ParseError",
        GitErrorKind::DeadlineExceeded => "DeadlineExceeded",
        GitErrorKind::Corrupt => "MirrorRebuilding",
        GitErrorKind::TooLarge => "QuotaExceeded",
        GitErrorKind::DiskFull => "DiskFull",
        GitErrorKind::UnsupportedScheme => "UnsupportedScheme",
        GitErrorKind::WorkerDied => "WorkerDied",
        GitErrorKind::Other => "Failed",
    }
}

/// Whether the host proves who it is. Sources whose hosts always did do not speak of it.
pub(crate) fn transport(conditions: &mut Vec<Condition>, remote: &Remote, now: &str) {
    if remote.skips_verification() {
        let message = "the host's identity is not checked (skipServerVerification): anybody on the way can change what is applied";
        let insecure = Condition::new("InsecureTransport", ConditionStatus::True, "VerificationSkipped", message, now);
        set_condition(conditions, insecure);
    } else if is(conditions, "InsecureTransport", ConditionStatus::True) {
        let message = "the host's identity is checked";
        set_condition(
            conditions,
            Condition::new("InsecureTransport", ConditionStatus::False, "Verified", message, now),
        );
    }
}

/// The host answered.
pub(crate) fn reachable(conditions: &mut Vec<Condition>, now: &str) {
    set_condition(
        conditions,
        Condition::new("SourceReachable", ConditionStatus::True, "Reachable", "the host answers", now),
    );
}

/// The host, or our reading of it, failed; what is applied stays as it is.
pub(crate) fn unreachable(conditions: &mut Vec<Condition>, error: &GitError, applied: bool, now: &str) {
    let reason = git_reason(error.kind);
    let message = error.to_string();
    set_condition(conditions, Condition::new("SourceReachable", ConditionStatus::False, reason, &message, now));
    if !applied {
        set_condition(conditions, Condition::new("Ready", ConditionStatus::False, reason, message, now));
    }
}

/// A commit is applied.
///
/// `problems` objects wait for other repositories, `waiting` ones for a version of the service that can carry them out.
pub(crate) fn applied(conditions: &mut Vec<Condition>, commit: &str, problems: usize, waiting: usize, now: &str) {
    reachable(conditions, now);
    let message = format!("commit {commit} is valid");
    set_condition(conditions, Condition::new("Parsed", ConditionStatus::True, "Valid", message, now));
    let objects = |n: usize| if n == 1 { "1 object waits".to_owned() } else { format!("{n} objects wait") };
    let mut message = format!("commit {commit} is applied");
    if problems > 0 {
        message.push_str(&format!("; {} for other repositories", objects(problems)));
    }
    if waiting > 0 {
        message.push_str(&format!("; {} for what this version of the service cannot carry out", objects(waiting)));
    }
    not_held(conditions, "Applied", &format!("commit {commit} is applied"), now);
    let reason = if problems + waiting == 0 { "Applied" } else { "AppliedWithProblems" };
    set_condition(conditions, Condition::new("Ready", ConditionStatus::True, reason, message, now));
}

/// Whether all secrets that are in use can be read. Sources whose secrets always could do not speak of it.
pub(crate) fn secrets(conditions: &mut Vec<Condition>, unreadable: &BTreeSet<String>, now: &str) {
    if !unreadable.is_empty() {
        let shown: Vec<&str> = unreadable.iter().take(3).map(String::as_str).collect();
        let more = match unreadable.len() - shown.len() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        let message = format!("devices keep the secrets that they have: {}{more}", shown.join("; "));
        set_condition(conditions, Condition::new(SECRETS, ConditionStatus::False, "Unreadable", message, now));
    } else if has_unreadable_secrets(conditions) {
        let message = "all secrets that are in use can be read";
        set_condition(conditions, Condition::new(SECRETS, ConditionStatus::True, "Readable", message, now));
    }
}

/// Whether the conditions tell of a secret that cannot be read.
pub(crate) fn has_unreadable_secrets(conditions: &[Condition]) -> bool {
    is(conditions, SECRETS, ConditionStatus::False)
}

/// A closer word for the first error, where there is one.
fn said_reason(reason: RefusalReason, diagnostics: &[Diagnostic]) -> &'static str {
    let first = diagnostics.iter().find(|d| d.severity == Severity::Error).map(|d| d.code.as_str());
    match (reason, first) {
        (RefusalReason::ParseError, Some(code)) if code == codes::UNKNOWN_KIND.code => "UnknownKind",
        (RefusalReason::ParseError, Some(code)) if code == codes::DUPLICATE_RESOURCE.code => "DuplicateName",
        (_, _) => reason.as_str(),
    }
}

/// The database would not take a commit; what is applied stays as it is.
pub(crate) fn not_written(conditions: &mut Vec<Condition>, error: &str, now: &str) {
    let message = format!("the newest commit cannot be written: {error}");
    set_condition(conditions, Condition::new("Ready", ConditionStatus::False, "Failed", message, now));
}

/// The newest commit rests after failures; what is applied stays as it is.
pub(crate) fn quarantined(conditions: &mut Vec<Condition>, commit: &CommitId, failures: u32, error: &str, now: &str) {
    let message = format!(
        "commit {} could not be worked on {failures} times and rests for ten minutes ({error}); `fleetctl sync` tries again; \
         the last good commit stays in force",
        commit.short()
    );
    set_condition(conditions, Condition::new("Ready", ConditionStatus::False, QUARANTINED, message, now));
}

/// Whether the conditions tell of a commit that is not applied.
pub(crate) fn is_refused(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        let tells = condition.kind == "Parsed"
            || condition.kind == "Ready" && ["Failed", QUARANTINED].contains(&condition.reason.as_str());
        tells && condition.status == ConditionStatus::False
    })
}

/// A commit is refused; the last good one stays.
pub(crate) fn refused(
    conditions: &mut Vec<Condition>,
    commit: &str,
    reason: RefusalReason,
    diagnostics: &[Diagnostic],
    now: &str,
) {
    reachable(conditions, now);
    let mut errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    let first = errors.next().map_or_else(String::new, |d| format!(": {d}"));
    let more = match errors.count() {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    let message = format!("commit {commit} is refused{first}{more}; the last good commit stays in force");
    let reason = said_reason(reason, diagnostics);
    set_condition(conditions, Condition::new("Parsed", ConditionStatus::False, reason, &message, now));
    set_condition(conditions, Condition::new("Ready", ConditionStatus::False, reason, message, now));
    not_held(conditions, "Refused", &format!("commit {commit} is refused"), now);
}

/// What is said of a held commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldFacts<'a> {
    /// The commit.
    pub(crate) commit: &'a CommitId,
    /// Why it is held.
    pub(crate) reason: HoldReason,
    /// The same for people.
    pub(crate) sentences: &'a str,
    /// The plan that an approval has to name.
    pub(crate) digest: Digest,
}

/// A commit waits for a person; what is applied stays as it is.
pub(crate) fn held(conditions: &mut Vec<Condition>, facts: &HeldFacts<'_>, now: &str) {
    reachable(conditions, now);
    let commit = facts.commit.short();
    let valid = format!("commit {commit} is valid");
    set_condition(conditions, Condition::new("Parsed", ConditionStatus::True, "Valid", valid, now));
    let message = match facts.reason {
        HoldReason::Rejected => format!("commit {commit} was rejected; a newer one is waited for"),
        HoldReason::BlastRadius
        | HoldReason::NonFastForward
        | HoldReason::UnsignedCommit
        | HoldReason::UntrustedSigner
        | HoldReason::PlanStale => {
            format!("commit {commit} waits for approval: {}; plan {}", facts.sentences, facts.digest)
        }
    };
    let reason = facts.reason.as_str();
    set_condition(conditions, Condition::new("Held", ConditionStatus::True, reason, &message, now));
    set_condition(conditions, Condition::new("Ready", ConditionStatus::False, reason, message, now));
}

/// The newest commit has every signature that the rules ask for: `reason` is `SignedBy`, `NoTrustRules` or `Approved`.
pub(crate) fn verified(conditions: &mut Vec<Condition>, reason: &str, message: &str, now: &str) {
    set_condition(conditions, Condition::new("Verified", ConditionStatus::True, reason, message, now));
}

/// A commit lacks a signature; what is applied stays as it is.
pub(crate) fn not_verified(conditions: &mut Vec<Condition>, reason: HoldReason, message: &str, now: &str) {
    set_condition(conditions, Condition::new("Verified", ConditionStatus::False, reason.as_str(), message, now));
}

/// Nothing is held. Sources that never had anything held do not speak of it.
fn not_held(conditions: &mut Vec<Condition>, reason: &str, message: &str, now: &str) {
    if is(conditions, "Held", ConditionStatus::True) {
        set_condition(conditions, Condition::new("Held", ConditionStatus::False, reason, message, now));
    }
}

fn is(conditions: &[Condition], kind: &str, status: ConditionStatus) -> bool {
    conditions.iter().any(|condition| condition.kind == kind && condition.status == status)
}

/// Whether the conditions tell that signatures are as they should be.
pub(crate) fn is_verified(conditions: &[Condition]) -> bool {
    is(conditions, "Verified", ConditionStatus::True)
}

/// Said of a commit in force that lacks signatures by rules that are newer.
pub(crate) const STAYS: &str = "was applied before the rules of now and stays in force";

/// Whether what the conditions tell of missing signatures is about the commit in force.
pub(crate) fn is_unverified_in_force(conditions: &[Condition]) -> bool {
    let tells = |condition: &Condition| condition.kind == "Verified" && condition.status == ConditionStatus::False;
    conditions.iter().any(|condition| tells(condition) && condition.message.contains(STAYS))
}

/// Whether the conditions tell of a commit that waits for a person.
pub(crate) fn is_held(conditions: &[Condition]) -> bool {
    is(conditions, "Held", ConditionStatus::True)
}

/// The source is looked at and not applied. `behind` is the newest commit, when that is not the one in force.
pub(crate) fn suspended(
    conditions: &mut Vec<Condition>,
    suspension: &Suspension,
    behind: Option<&CommitId>,
    now: &str,
) {
    reachable(conditions, now);
    let until = suspension.until.map(|until| format!(" until {}", until.to_jiff())).unwrap_or_default();
    let who = format!("suspended by {}{until}: {}", suspension.by, suspension.reason);
    set_condition(conditions, Condition::new("Suspended", ConditionStatus::True, "Suspended", &who, now));
    if let Some(commit) = behind {
        let message = format!("commit {} is not applied: {who}", commit.short());
        set_condition(conditions, Condition::new("Ready", ConditionStatus::False, "Suspended", message, now));
    }
}

/// Whether the conditions tell of a suspension.
pub(crate) fn is_suspended(conditions: &[Condition]) -> bool {
    is(conditions, "Suspended", ConditionStatus::True)
}

/// The source is not suspended. Returns whether it was.
pub(crate) fn resumed(conditions: &mut Vec<Condition>, now: &str) -> bool {
    let was = is_suspended(conditions);
    if was {
        let message = "commits are applied again";
        set_condition(conditions, Condition::new("Suspended", ConditionStatus::False, "Resumed", message, now));
    }
    was
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(conditions: &[Condition], kind: &str) -> Option<(ConditionStatus, String)> {
        let found = conditions.iter().find(|condition| condition.kind == kind)?;
        Some((found.status, found.reason.clone()))
    }

    #[test]
    fn a_hold_is_told_and_ends_with_the_next_commit() {
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let mut conditions = Vec::new();
        applied(&mut conditions, "one", 0, 0, "t1");
        assert_eq!(status(&conditions, "Held"), None, "never held, never told");
        let digest = Digest::of(b"plan");
        let facts = HeldFacts { commit: &commit, reason: HoldReason::BlastRadius, sentences: "too much", digest };
        held(&mut conditions, &facts, "t2");
        assert_eq!(status(&conditions, "Held"), Some((ConditionStatus::True, "BlastRadius".to_owned())));
        assert_eq!(status(&conditions, "Ready"), Some((ConditionStatus::False, "BlastRadius".to_owned())));
        let message = &conditions.iter().find(|c| c.kind == "Held").unwrap().message;
        assert!(message.contains("too much") && message.contains(&digest.to_string()), "{message}");
        assert!(is_held(&conditions) && !is_refused(&conditions));
        for end in [true, false] {
            let mut conditions = conditions.clone();
            match end {
                true => applied(&mut conditions, "two", 0, 0, "t3"),
                false => refused(&mut conditions, "two", RefusalReason::ParseError, &[], "t3"),
            }
            assert!(!is_held(&conditions));
        }
    }

    #[test]
    fn a_suspended_source_says_who_and_until_when() {
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let until = Some(fleet_store::Ts::from(jiff::Timestamp::from_second(60).unwrap()));
        let suspension = Suspension { reason: "freeze".to_owned(), by: "user:ann".to_owned(), until };
        let mut conditions = Vec::new();
        applied(&mut conditions, "one", 0, 0, "t1");
        assert!(!resumed(&mut conditions, "t1"));
        suspended(&mut conditions, &suspension, None, "t2");
        assert_eq!(status(&conditions, "Ready"), Some((ConditionStatus::True, "Applied".to_owned())));
        let message = &conditions.iter().find(|c| c.kind == "Suspended").unwrap().message;
        assert_eq!(message, "suspended by user:ann until 1970-01-01T00:01:00Z: freeze");
        suspended(&mut conditions, &suspension, Some(&commit), "t2");
        assert_eq!(status(&conditions, "Ready"), Some((ConditionStatus::False, "Suspended".to_owned())));
        assert!(resumed(&mut conditions, "t3"));
        assert_eq!(status(&conditions, "Suspended"), Some((ConditionStatus::False, "Resumed".to_owned())));
    }

    #[test]
    fn secrets_that_cannot_be_read_are_told_until_they_can() {
        let mut conditions = Vec::new();
        secrets(&mut conditions, &BTreeSet::new(), "t1");
        assert_eq!(status(&conditions, SECRETS), None);
        secrets(&mut conditions, &BTreeSet::from(["there is no secret ops/pin".to_owned()]), "t2");
        assert!(has_unreadable_secrets(&conditions));
        assert!(conditions[0].message.contains("ops/pin"), "{conditions:?}");
        secrets(&mut conditions, &BTreeSet::new(), "t3");
        assert_eq!(status(&conditions, SECRETS), Some((ConditionStatus::True, "Readable".to_owned())));
    }

    #[test]
    fn a_host_that_is_not_checked_is_told_and_one_that_is_never_is_not() {
        let mut remote = Remote::anonymous("https://git.example/a.git");
        let mut conditions = Vec::new();
        transport(&mut conditions, &remote, "t1");
        assert_eq!(status(&conditions, "InsecureTransport"), None);
        remote.https.skip_verify = true;
        transport(&mut conditions, &remote, "t2");
        let insecure = Some((ConditionStatus::True, "VerificationSkipped".to_owned()));
        assert_eq!(status(&conditions, "InsecureTransport"), insecure);
        remote.https.skip_verify = false;
        transport(&mut conditions, &remote, "t3");
        assert_eq!(status(&conditions, "InsecureTransport").unwrap().0, ConditionStatus::False);
    }
}
