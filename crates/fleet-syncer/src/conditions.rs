//! Conditions of a source: whether its host answers, whether its newest commit could be read, whether it is applied.

use fleet_git::{GitError, GitErrorKind};
use fleet_model::{Condition, ConditionStatus, Diagnostic, Severity, set_condition};

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
        GitErrorKind::UnsupportedScheme => "UnsupportedScheme",
        GitErrorKind::WorkerDied => "WorkerDied",
        GitErrorKind::Other => "Failed",
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
    let reason = if problems + waiting == 0 { "Applied" } else { "AppliedWithProblems" };
    set_condition(conditions, Condition::new("Ready", ConditionStatus::True, reason, message, now));
}

/// The database would not take a commit; what is applied stays as it is.
pub(crate) fn not_written(conditions: &mut Vec<Condition>, error: &str, now: &str) {
    let message = format!("the newest commit cannot be written: {error}");
    set_condition(conditions, Condition::new("Ready", ConditionStatus::False, "Failed", message, now));
}

/// Whether the conditions tell of a commit that is not applied.
pub(crate) fn is_refused(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        let tells = condition.kind == "Parsed" || condition.kind == "Ready" && condition.reason == "Failed";
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
    set_condition(conditions, Condition::new("Parsed", ConditionStatus::False, reason.as_str(), &message, now));
    set_condition(conditions, Condition::new("Ready", ConditionStatus::False, reason.as_str(), message, now));
}
