//! How far a source is behind its host, and that its host went away or came back.

use fleet_git::GitErrorKind;
use fleet_model::{CommitId, Condition, ConditionStatus};
use fleet_store::{NewEvent, StoreError, record_behind, record_event};
use jiff::Timestamp;
use tracing::debug;

use super::{RunError, Source};
use crate::conditions;

/// Commits beyond this many are not counted.
const MAX_BEHIND: usize = 1_000;

/// A distance that could not be counted is counted again after this time: it may take a fetch.
const COUNT_AGAIN_SECONDS: i64 = 300;

/// What was noted last of the distance between two commits.
#[derive(Debug)]
pub(super) struct Noted {
    applied: CommitId,
    observed: CommitId,
    /// When the count failed.
    failed: Option<Timestamp>,
}

impl Noted {
    /// Whether there is nothing to count between these two now.
    fn stands(&self, applied: &CommitId, observed: &CommitId, now: Timestamp) -> bool {
        let rests = |at: Timestamp| (0..COUNT_AGAIN_SECONDS).contains(&now.as_second().saturating_sub(at.as_second()));
        (&self.applied, &self.observed) == (applied, observed) && self.failed.is_none_or(rests)
    }
}

/// A host that comes and goes is told of once in so long.
const FLAP_SECONDS: i64 = 600;

/// What was told of a host that comes and goes. All of it stands in the condition; events are for what lasts.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    /// When it was told last that the host went away.
    told: Option<Timestamp>,
    /// Whether that it is back is still to be told.
    is_open: bool,
    /// How often it went away since without a word.
    untold: u32,
}

impl Flaps {
    /// Whether a change is told; with how often the host went away before without a word.
    fn tells(&mut self, is_reachable: bool, now: Timestamp) -> Option<u32> {
        if is_reachable {
            return std::mem::take(&mut self.is_open).then_some(0);
        }
        if self.told.is_some_and(|at| (0..FLAP_SECONDS).contains(&(now.as_second() - at.as_second()))) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        (self.told, self.is_open) = (Some(now), true);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Source {
    /// Counts the commits between the one in force and the newest. It is a number for people: that it cannot be had fails
    /// nothing.
    pub(super) async fn note_behind(&mut self) {
        let (Some(observed), Some(applied)) = (self.observed.clone(), self.applied.clone()) else { return };
        if observed == applied {
            return self.note_not_behind(applied).await;
        }
        let now = self.shared.clock.now();
        if self.behind.as_ref().is_some_and(|noted| noted.stands(&applied, &observed, now)) {
            return;
        }
        // A commit that rests is not fetched for a number either.
        if self.quarantine.rests(&observed, now) {
            return;
        }
        let count = match self.commits_between(&applied, &observed).await {
            Ok(count) => Some(count),
            Err(error) => {
                debug!(source = self.definition.name, %error, "Cannot count the commits that are not in force");
                None
            }
        };
        if self.write_behind(count).await.is_ok() {
            self.behind = Some(Noted { applied, observed, failed: count.is_none().then_some(now) });
        }
    }

    /// Back at the commit in force. An apply notes that itself; a suspended source applies nothing, and what an earlier
    /// process noted of it is not known.
    async fn note_not_behind(&mut self, applied: CommitId) {
        let was_behind = match &self.behind {
            Some(noted) => noted.applied != noted.observed,
            None => conditions::is_suspended(&self.conditions),
        };
        if was_behind && self.write_behind(Some(0)).await.is_ok() {
            self.behind = Some(Noted { observed: applied.clone(), applied, failed: None });
        }
    }

    async fn commits_between(&self, applied: &CommitId, observed: &CommitId) -> Result<u32, RunError> {
        let git = &self.shared.git;
        let _in_use = self.mirror.in_use();
        let count = match git.lost_commits(self.mirror.path(), observed, applied, MAX_BEHIND).await {
            // A suspended source is only looked at: its newest commits are not here yet.
            Err(error) if error.kind == GitErrorKind::RefMissing => {
                self.mirror.fetch(git, Some(applied), self.mirror.poll(self.woken)).await?;
                git.lost_commits(self.mirror.path(), observed, applied, MAX_BEHIND).await?
            }
            other => other?,
        };
        Ok(u32::try_from(count.len()).unwrap_or(u32::MAX))
    }

    async fn write_behind(&self, count: Option<u32>) -> Result<(), StoreError> {
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        self.lease.fence(&mut transaction).await?;
        record_behind(&mut transaction, self.shared.config.org, &self.definition.name, count).await?;
        transaction.commit().await.map_err(StoreError::from)
    }

    /// Tells that the host went away, or is back. That it cannot be told fails nothing.
    pub(super) async fn tell_reachability(&mut self, before: &[Condition]) {
        let reachable = |conditions: &[Condition]| {
            let found = conditions.iter().find(|condition| condition.kind == "SourceReachable");
            found.is_none_or(|condition| condition.status != ConditionStatus::False)
        };
        let (was, is) = (reachable(before), reachable(&self.conditions));
        let Some(now) = self.conditions.iter().find(|c| c.kind == "SourceReachable").filter(|_| was != is) else {
            return;
        };
        let Some(untold) = self.flaps.tells(is, self.shared.clock.now()) else { return };
        let often = match untold {
            0 => String::new(),
            times => format!(" (it went away {times} more times before)"),
        };
        let message = match is {
            true => "The host answers again".to_owned(),
            false => format!("The host cannot be read: {}; the last commit stays in force{often}", now.message),
        };
        let event = NewEvent {
            kind: "Source",
            name: &self.definition.name,
            reason: &now.reason,
            warning: !is,
            message: &message,
            actor: "service:syncer",
            details: None,
        };
        let written = async {
            let mut transaction = self.lease.begin(&self.shared.store).await?;
            self.lease.fence(&mut transaction).await?;
            record_event(&mut transaction, self.shared.config.org, &event).await?;
            transaction.commit().await.map_err(StoreError::from)
        };
        if let Err(error) = written.await {
            debug!(source = self.definition.name, %error, "Cannot note an event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_counted_once_and_one_that_could_not_be_counted_now_and_then() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let commit = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
        let (applied, observed) = (commit("1"), commit("2"));
        let noted = |failed| Noted { applied: applied.clone(), observed: observed.clone(), failed };
        assert!(noted(None).stands(&applied, &observed, at(1_000_000)));
        assert!(!noted(None).stands(&observed, &observed, at(0)) && !noted(None).stands(&applied, &applied, at(0)));
        let failed = noted(Some(at(0)));
        assert!(failed.stands(&applied, &observed, at(0)) && failed.stands(&applied, &observed, at(299)));
        assert!(!failed.stands(&applied, &observed, at(300)));
        assert!(!failed.stands(&applied, &observed, at(-1)), "the clock was put back");
    }

    #[test]
    fn a_host_that_comes_and_goes_is_told_of_now_and_then() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let mut flaps = Flaps::default();
        assert_eq!(flaps.tells(true, at(0)), None, "nobody was told that it is away");
        assert_eq!((flaps.tells(false, at(1)), flaps.tells(true, at(2))), (Some(0), Some(0)));
        for n in 0..100 {
            assert_eq!((flaps.tells(false, at(3 + n)), flaps.tells(true, at(3 + n))), (None, None));
        }
        assert_eq!(flaps.tells(false, at(601)), Some(100), "and how often");
        assert_eq!(flaps.tells(true, at(900)), Some(0), "what was told ends");
        assert_eq!(flaps.tells(false, at(1_300)), Some(0));
    }
}
