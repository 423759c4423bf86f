//! Where a source stands, in a word and as the conditions `Reconciling` and `Stalled` that Kubernetes tools wait for. Both
//! follow from what is stored, so that they are never behind it.

use fleet_model::{Condition, ConditionStatus};
use fleet_store::RolloutProgress;

/// What the state follows from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The newest commit at the host.
    pub(super) observed: Option<&'a str>,
    /// The commit in force, and since when.
    pub(super) applied: Option<(&'a str, &'a str)>,
    /// The commit that all devices are healthy on, and since when.
    pub(super) settled: Option<(&'a str, &'a str)>,
    /// How far the devices are.
    pub(super) progress: RolloutProgress,
    /// The commit that waits for a person, and whether a person approved it.
    pub(super) held: Option<(&'a str, bool)>,
    /// Nothing is applied for now.
    pub(super) suspended: bool,
    /// The stored conditions.
    pub(super) conditions: &'a [Condition],
}

/// Reasons that pass without anybody's doing.
const PASSING: [&str; 6] =
    ["HostUnreachable", "RateLimited", "DeadlineExceeded", "MirrorRebuilding", "WorkerDied", "Failed"];

impl<'a> Facts<'a> {
    fn condition(&self, kind: &str) -> Option<&'a Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    fn no(&self, kind: &str) -> Option<&'a Condition> {
        self.condition(kind).filter(|condition| condition.status == ConditionStatus::False)
    }

    /// Where the newest commit stands.
    pub(super) fn state(&self) -> &'static str {
        let is_newest = |commit: &str| self.observed.is_none_or(|observed| observed == commit);
        if self.suspended {
            return "Suspended";
        }
        if let Some((_, approved)) = self.held.filter(|(commit, _)| is_newest(commit)) {
            return if approved { "Approved" } else { "Held" };
        }
        // The commit in force stays that, also when rules that came later ask for signatures that it lacks.
        let is_in_force = self.applied.is_some_and(|(applied, _)| is_newest(applied));
        if self.no("Verified").is_some() && !is_in_force {
            return "Unverified";
        }
        let rests = self.no("Ready").is_some_and(|ready| ready.reason == "Quarantined");
        if self.no("Parsed").is_some() || rests {
            return "Refused";
        }
        match (self.observed, self.applied) {
            (None, None) => "Pending",
            (_, Some((applied, _))) if is_newest(applied) => match self.settled {
                Some((settled, _)) if settled == applied => "Settled",
                Some(_) | None => "RollingOut",
            },
            (_, _) => "Observed",
        }
    }

    /// Whether work is under way, and whether it needs a person to go on.
    pub(super) fn conditions(&self) -> [Condition; 2] {
        [self.reconciling(), self.stalled()]
    }

    fn reconciling(&self) -> Condition {
        let state = self.state();
        let short = |commit: &str| commit.get(..8).unwrap_or(commit).to_owned();
        let RolloutProgress { devices, updated, .. } = self.progress;
        let since_applied = self.applied.map_or("", |(_, at)| at);
        let (status, message, since) = match (state, self.applied, self.settled) {
            ("RollingOut", Some((applied, at)), _) => {
                let message = format!("{updated} of {devices} devices are healthy on commit {}", short(applied));
                (ConditionStatus::True, message, at)
            }
            ("Settled", Some((applied, _)), Some((_, at))) => {
                (ConditionStatus::False, format!("all devices were healthy on commit {}", short(applied)), at)
            }
            ("Pending", _, _) => (ConditionStatus::True, "the repository was not read yet".to_owned(), since_applied),
            ("Observed" | "Approved", _, _) => {
                let newest = self.observed.map(short).unwrap_or_default();
                (ConditionStatus::True, format!("commit {newest} is on its way"), since_applied)
            }
            (_, _, _) => {
                let why = self.no("Ready").map_or("nothing is under way", |ready| &ready.message);
                let since = self.no("Ready").map_or(since_applied, |ready| &ready.last_transition_time);
                (ConditionStatus::False, why.to_owned(), since)
            }
        };
        let since = if since.is_empty() { "1970-01-01T00:00:00Z" } else { since };
        Condition::new("Reconciling", status, state, message, since)
    }

    fn stalled(&self) -> Condition {
        let stuck = ["Ready", "SourceReachable"]
            .into_iter()
            .filter_map(|kind| self.no(kind))
            .find(|condition| !PASSING.contains(&condition.reason.as_str()) && condition.reason != "Suspended");
        match stuck {
            Some(condition) => Condition::new(
                "Stalled",
                ConditionStatus::True,
                &condition.reason,
                &condition.message,
                &condition.last_transition_time,
            ),
            None => {
                let since = self.condition("Ready").map_or("1970-01-01T00:00:00Z", |c| &c.last_transition_time);
                Condition::new("Stalled", ConditionStatus::False, "Progressing", "nothing waits for a person", since)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: ConditionStatus, reason: &str) -> Condition {
        Condition::new(kind, status, reason, "why", "2001-01-01T00:00:00Z")
    }

    fn facts(conditions: &[Condition]) -> Facts<'_> {
        Facts {
            observed: Some("a"),
            applied: Some(("a", "2001-01-01T00:00:00Z")),
            settled: None,
            progress: RolloutProgress { devices: 12, updated: 7, failed: 0 },
            held: None,
            suspended: false,
            conditions,
        }
    }

    #[test]
    fn the_state_follows_the_commit_through_its_life() {
        let none: [Condition; 0] = [];
        let pending = Facts { observed: None, applied: None, ..facts(&none) };
        assert_eq!(pending.state(), "Pending");
        assert_eq!(Facts { applied: None, ..facts(&none) }.state(), "Observed");
        assert_eq!(Facts { observed: Some("b"), ..facts(&none) }.state(), "Observed");
        let held = Facts { observed: Some("b"), held: Some(("b", false)), ..facts(&none) };
        assert_eq!(held.state(), "Held");
        assert_eq!(Facts { held: Some(("b", true)), ..held }.state(), "Approved");
        assert_eq!(Facts { observed: Some("c"), ..held }.state(), "Observed", "another commit is held");
        assert_eq!(facts(&none).state(), "RollingOut");
        assert_eq!(Facts { settled: Some(("a", "")), ..facts(&none) }.state(), "Settled");
        assert_eq!(Facts { settled: Some(("older", "")), ..facts(&none) }.state(), "RollingOut");
        assert_eq!(Facts { suspended: true, ..held }.state(), "Suspended");
        let refused = [condition("Parsed", ConditionStatus::False, "ParseError")];
        assert_eq!(Facts { observed: Some("b"), ..facts(&refused) }.state(), "Refused");
        let unsigned = [condition("Verified", ConditionStatus::False, "UnsignedCommit")];
        assert_eq!(Facts { observed: Some("b"), ..facts(&unsigned) }.state(), "Unverified");
        assert_eq!(facts(&unsigned).state(), "RollingOut", "rules that came later ask for its signature");
    }

    #[test]
    fn what_a_person_has_to_mend_is_stalled_and_what_passes_is_not() {
        let stalled = |conditions: &[Condition]| facts(conditions).stalled().status;
        for reason in ["ParseError", "BlastRadius", "AuthFailed", "RefMissing", "UnsignedCommit"] {
            assert_eq!(
                stalled(&[condition("Ready", ConditionStatus::False, reason)]),
                ConditionStatus::True,
                "{reason}"
            );
        }
        let away = condition("SourceReachable", ConditionStatus::False, "AuthFailed");
        let ready = condition("Ready", ConditionStatus::True, "Applied");
        assert_eq!(stalled(&[ready.clone(), away]), ConditionStatus::True, "also while a commit is in force");
        for reason in PASSING.into_iter().chain(["Suspended"]) {
            let away = condition("SourceReachable", ConditionStatus::False, reason);
            assert_eq!(stalled(&[away]), ConditionStatus::False, "{reason}");
        }
        assert_eq!(stalled(&[ready]), ConditionStatus::False);
    }

    #[test]
    fn a_rollout_is_told_with_its_numbers_and_ends_settled() {
        let none: [Condition; 0] = [];
        let [reconciling, _] = facts(&none).conditions();
        assert_eq!((reconciling.status, reconciling.reason.as_str()), (ConditionStatus::True, "RollingOut"));
        assert_eq!(reconciling.message, "7 of 12 devices are healthy on commit a");
        let settled = Facts { settled: Some(("a", "2002-02-02T00:00:00Z")), ..facts(&none) };
        let [reconciling, _] = settled.conditions();
        assert_eq!((reconciling.status, reconciling.reason.as_str()), (ConditionStatus::False, "Settled"));
        assert_eq!(reconciling.last_transition_time, "2002-02-02T00:00:00Z");
    }
}
