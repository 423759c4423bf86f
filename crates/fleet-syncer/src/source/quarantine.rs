//! A commit that cannot be worked on (it kills its worker, takes longer than allowed, is larger than allowed) is left alone
//! for a while after some attempts, so that one repository does not keep the workers busy.

use fleet_git::{GitError, GitErrorKind};
use fleet_model::{CommitId, Condition, ConditionStatus};
use jiff::{SignedDuration, Timestamp};

/// So many attempts are made in a row.
const ATTEMPTS: u32 = 3;
/// Then the commit rests for so long, unless somebody asks for it.
const REST: SignedDuration = SignedDuration::from_mins(10);

/// The reason of the condition that tells of it.
pub(crate) const QUARANTINED: &str = "Quarantined";

/// The newest commit's failures.
#[derive(Debug, Clone, Default)]
pub(super) struct Quarantine {
    commit: Option<CommitId>,
    failures: u32,
    until: Option<Timestamp>,
}

/// Whether an error tells of the commit, not of the host or the network.
pub(super) fn is_about_the_commit(error: &GitError) -> bool {
    match error.kind {
        GitErrorKind::WorkerDied
        | GitErrorKind::DeadlineExceeded
        | GitErrorKind::TooLarge
        | GitErrorKind::Corrupt
        | GitErrorKind::NotUtf8Path => true,
        GitErrorKind::HostUnreachable
        | GitErrorKind::AuthFailed
        | GitErrorKind::RateLimited
        | GitErrorKind::RefMissing
        | GitErrorKind::PathMissing
        | GitErrorKind::UnsupportedScheme
        | GitErrorKind::DiskFull
        | GitErrorKind::Other => false,
    }
}

impl Quarantine {
    /// What an earlier process wrote down: the commit goes on resting, and one more failure is enough.
    pub(super) fn noted(conditions: &[Condition], observed: Option<&str>) -> Self {
        let tells = |condition: &&Condition| {
            condition.kind == "Ready" && condition.status == ConditionStatus::False && condition.reason == QUARANTINED
        };
        let found = conditions.iter().find(tells).zip(observed.and_then(|commit| commit.parse::<CommitId>().ok()));
        let Some((condition, commit)) = found else { return Self::default() };
        if !condition.message.starts_with(&format!("commit {} ", commit.short())) {
            return Self::default();
        }
        let since = condition.last_transition_time.parse::<Timestamp>().ok();
        Self { commit: Some(commit), failures: ATTEMPTS, until: since.and_then(|since| since.checked_add(REST).ok()) }
    }

    /// Notes a failure with a commit. Returns how many there were in a row once the commit has to rest.
    pub(super) fn failed(&mut self, commit: &CommitId, now: Timestamp) -> Option<u32> {
        if self.commit.as_ref() != Some(commit) {
            *self = Self { commit: Some(commit.clone()), ..Self::default() };
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < ATTEMPTS {
            return None;
        }
        self.until = now.checked_add(REST).ok();
        Some(self.failures)
    }

    /// Whether the commit rests.
    pub(super) fn rests(&self, commit: &CommitId, now: Timestamp) -> bool {
        self.commit.as_ref() == Some(commit) && self.until.is_some_and(|until| now < until)
    }

    /// Somebody asks: the commit is tried again at once.
    pub(super) fn wake(&mut self) {
        self.until = None;
    }

    /// The source came to an end with whatever is newest.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_rests_after_three_failures_and_another_one_does_not() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let (one, two): (CommitId, CommitId) = ("a".repeat(40).parse().unwrap(), "b".repeat(40).parse().unwrap());
        let mut quarantine = Quarantine::default();
        assert_eq!((quarantine.failed(&one, at(0)), quarantine.failed(&one, at(1))), (None, None));
        assert!(!quarantine.rests(&one, at(1)));
        assert_eq!(quarantine.failed(&one, at(2)), Some(3));
        assert!(quarantine.rests(&one, at(601)) && !quarantine.rests(&two, at(3)));
        assert!(!quarantine.rests(&one, at(602)), "it is tried again");
        assert_eq!(quarantine.failed(&one, at(602)), Some(4));
        assert!(quarantine.rests(&one, at(603)), "one more failure and it rests again");
        quarantine.wake();
        assert!(!quarantine.rests(&one, at(604)), "somebody asked");
        assert_eq!(quarantine.failed(&two, at(605)), None, "a new commit begins afresh");
    }

    #[test]
    fn a_commit_that_rests_goes_on_resting_in_another_process() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let (one, two): (CommitId, CommitId) = ("a".repeat(40).parse().unwrap(), "b".repeat(40).parse().unwrap());
        let mut conditions = Vec::new();
        assert!(!Quarantine::noted(&conditions, Some(one.as_str())).rests(&one, at(1)));
        crate::conditions::quarantined(&mut conditions, &one, 3, "died", &at(100).to_string());
        let mut noted = Quarantine::noted(&conditions, Some(one.as_str()));
        assert!(noted.rests(&one, at(699)) && !noted.rests(&one, at(700)) && !noted.rests(&two, at(101)));
        noted.wake();
        assert_eq!(noted.failed(&one, at(700)), Some(4));
        // Another one was seen meanwhile, or none.
        for observed in [Some(two.as_str()), Some("x"), None] {
            assert!(!Quarantine::noted(&conditions, observed).rests(&two, at(101)), "{observed:?}");
        }
    }
}
