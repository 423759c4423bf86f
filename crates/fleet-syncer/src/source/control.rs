//! What holds a source back and what is noted of it: suspensions, commits that wait, and the way back after desired state
//! was dropped.

use std::time::Duration;

use fleet_git::GitErrorKind;
use fleet_model::{CommitId, Condition, Digest};
use fleet_store::{
    NewEvent, Observation, SourcePosition, StoreError, Suspension, Ts, end_suspension, last_position, record_event,
    record_observation, source_defines_anything, source_suspension,
};
use jiff::Timestamp;
use tracing::{info, warn};

use super::{RunError, Source, Step, Way};
use crate::conditions;
use crate::guard::{MAX_LOST, Rewritten};
use crate::laps::Laps;

/// How old the noted time of the last poll may get before it is written again though nothing else changed.
const POLL_NOTE_SECONDS: i64 = 30;

/// How long a commit that waits is left alone: its plan is made again then, because devices and rules may have changed.
/// Decisions wake the source at once.
const HOLD_RECHECK_SECONDS: i64 = 60;

/// How long it is taken for granted that an unchanged host needs nothing but a note: whatever could change that wakes the
/// source, and a commit that is not the applied one is never judged without asking the database again.
const QUIET_SECONDS: i64 = 300;

/// How many states of secrets are remembered.
const MAX_MARKS: usize = 4096;

impl Source {
    /// Whether the database said, not long ago, that only a new commit concerns this source: it is not suspended, uses no
    /// other repository, and nothing of it waits.
    pub(super) fn is_quiet(&self) -> bool {
        let now = self.shared.clock.now().as_second();
        !self.stale && self.quiet_since.is_some_and(|since| (0..QUIET_SECONDS).contains(&(now - since.as_second())))
    }

    /// How long the source may be left alone: until its suspension ends, or a web server is asked or a secret read again.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let web = self.uses_web.then(|| self.shared.config.http_poll_interval);
        let secrets = self.shared.secrets.poll_interval().filter(|_| self.uses_secrets);
        web.into_iter().chain(secrets).chain(self.until_resumed()).min()
    }

    /// How long the suspension still lasts that ends by itself.
    pub(crate) fn until_resumed(&self) -> Option<Duration> {
        let left = self.suspended_until?.as_second() - self.shared.clock.now().as_second();
        // The end has passed for sure when it is looked at.
        u64::try_from(left).ok().map(|left| Duration::from_secs(left + 1))
    }

    /// Whether a secret has other contents than these by now, cannot be read any more, or can be again.
    pub(super) async fn secret_moved(&mut self, place: &str, tree: Digest) -> bool {
        let mark = self.shared.secrets.mark(place, &self.errand).await;
        let told = conditions::has_unreadable_secrets(&self.conditions);
        let key = (place.to_owned(), tree);
        let moved = match (self.secret_marks.get(&key), &mark) {
            (Some(before), now) => before != now,
            (None, Ok(now)) => *now != tree || told,
            (None, Err(_)) => !told,
        };
        // One is added whenever a secret changes. Without them there is one look too many.
        if self.secret_marks.len() >= MAX_MARKS {
            self.secret_marks.clear();
        }
        self.secret_marks.insert(key, mark);
        moved
    }

    /// Whether the commit was found to wait for a person a moment ago.
    pub(super) fn is_known_to_wait(&self, commit: &CommitId) -> bool {
        let now = self.shared.clock.now().as_second();
        let fresh = |at: &Timestamp| (0..HOLD_RECHECK_SECONDS).contains(&(now - at.as_second()));
        self.held.as_ref().is_some_and(|(held, at)| held == commit && fresh(at))
    }

    /// The suspension in force. One that is over is ended.
    pub(super) async fn suspension(&mut self) -> Result<Option<Suspension>, StoreError> {
        let (org, name, now) = (self.shared.config.org, self.definition.name.clone(), self.shared.clock.now());
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        let mut found = source_suspension(&mut transaction, org, &name).await?;
        let is_over = found.as_ref().and_then(|found| found.until).is_some_and(|until| until.to_jiff() <= now);
        if is_over {
            self.lease.fence(&mut transaction).await?;
        }
        if is_over && end_suspension(&mut transaction, org, &name, Some(Ts::from(now))).await? {
            let event = NewEvent {
                kind: "Source",
                name: &name,
                reason: "SourceSuspensionExpired",
                warning: false,
                message: "The suspension is over; commits are applied again",
                actor: "service:syncer",
                details: None,
            };
            record_event(&mut transaction, org, &event).await?;
            info!(source = name, "A suspension is over");
        }
        transaction.commit().await.map_err(StoreError::from)?;
        if is_over {
            found = None;
        }
        self.suspended_until = found.as_ref().and_then(|found| found.until).map(|until| until.to_jiff());
        if found.is_none() && conditions::resumed(&mut self.conditions, &self.shared.clock.now_rfc3339()) {
            // What is shown must be about commits again.
            self.stale = true;
            self.held = None;
            self.refused = None;
            self.note(None, None).await?;
        }
        Ok(found)
    }

    /// Notes what was seen of a suspended source, and does no more.
    pub(super) async fn stay(&mut self, commit: &CommitId, suspension: &Suspension) -> Result<Step, RunError> {
        let before = self.conditions.clone();
        let behind = Some(commit).filter(|commit| self.applied.as_ref() != Some(commit));
        conditions::suspended(&mut self.conditions, suspension, behind, &self.shared.clock.now_rfc3339());
        self.note_news(&before, commit).await?;
        Ok(Step::Suspended)
    }

    /// What a new history loses of the old one.
    pub(super) async fn rewritten(&self, base: CommitId, commit: &CommitId) -> Result<Rewritten, RunError> {
        let lost = self.shared.git.lost_commits(self.mirror.path(), &base, commit, MAX_LOST + 1).await;
        let lost = match lost {
            Ok(lost) => Some(lost),
            Err(error) if error.kind == GitErrorKind::RefMissing => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Rewritten { base, lost })
    }

    /// Which commit was applied last, also before desired state was dropped.
    pub(super) async fn position(&self) -> Result<Option<SourcePosition>, StoreError> {
        let mut transaction = self.shared.store.begin().await?;
        last_position(&mut transaction, self.shared.config.org, &self.definition.name).await
    }

    /// The same, unless the source lies elsewhere by now.
    pub(super) async fn position_here(&self) -> Result<Option<CommitId>, StoreError> {
        let here = (&self.definition.url, &self.definition.revision);
        let is_here = |position: &SourcePosition| {
            position.place.as_ref().is_none_or(|(url, rev)| (url, rev) == here)
                && position.path.as_ref().is_none_or(|path| *path == self.definition.path)
        };
        // What is stored is not to be brought back, even if it is of another path: it changes as any commit changes it. Nor
        // is a commit at another path than it was in force with.
        let (org, name) = (self.shared.config.org, self.definition.name.as_str());
        let mut transaction = self.shared.store.begin().await?;
        if source_defines_anything(&mut transaction, org, name).await? {
            return Ok(None);
        }
        drop(transaction);
        Ok(self.position().await?.filter(is_here).map(|position| position.commit))
    }

    /// What was in force before desired state was dropped and is not to be brought back, because the source lies elsewhere by
    /// now: nothing tells how far its newest commit reaches.
    pub(super) async fn lost_elsewhere(&self) -> Result<Option<CommitId>, StoreError> {
        Ok(self.position().await?.filter(|position| position.manifests > 0).map(|position| position.commit))
    }

    /// Which commit of this repository and branch was applied last, at whatever path.
    pub(super) async fn position_at_branch(&self) -> Result<Option<CommitId>, StoreError> {
        let here = (&self.definition.url, &self.definition.revision);
        let is_here = |position: &SourcePosition| position.place.as_ref().is_some_and(|(url, rev)| (url, rev) == here);
        Ok(self.position().await?.filter(is_here).map(|position| position.commit))
    }

    /// What the source defines stays as it is until the grace is over: nothing new is looked for. Only what is missing,
    /// because desired state was dropped, is brought back.
    pub(super) async fn leave(&mut self) -> Result<Step, RunError> {
        self.refresh_applied().await?;
        if self.applied.is_none()
            && let Some(last) = self.position_here().await?
        {
            let _in_use = self.mirror.in_use();
            self.mirror.fetch(&self.shared.git, Some(&last), self.mirror.poll(self.woken)).await?;
            let _restored = self.restore(&last).await?;
        }
        Ok(Step::Suspended)
    }

    /// Brings back what was in force; `false` where that cannot be read or be applied any more. The newest commit has to do then,
    /// when a person says so.
    pub(super) async fn restore(&mut self, last: &CommitId) -> Result<bool, RunError> {
        let name = self.definition.name.clone();
        match self.take(last, Way::Back, &mut Laps::start()).await {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(refusal)) => {
                let first = refusal.diagnostics.first().map(ToString::to_string).unwrap_or_default();
                warn!(source = name, commit = %last, first, "Cannot bring back the commit applied last");
            }
            Err(RunError::Git(error)) if error.kind == GitErrorKind::RefMissing => {
                warn!(source = name, commit = %last, %error, "Cannot bring back the commit applied last");
            }
            // A worker that died or was late says nothing about the commit: what comes instead would pass the guard as the
            // first commit of a source.
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    /// Notes that the host answered, when something about that is new or the last note is old.
    pub(super) async fn note_poll(&mut self, commit: &CommitId) -> Result<(), StoreError> {
        let before = self.conditions.clone();
        conditions::reachable(&mut self.conditions, &self.shared.clock.now_rfc3339());
        self.note_news(&before, commit).await
    }

    async fn note_news(&mut self, before: &[Condition], commit: &CommitId) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        let age = self.noted_poll.map(|at| now.as_second() - at.as_second());
        if age.is_none() || before != self.conditions {
            self.note(Some(commit), Some(now)).await?;
            self.noted_poll = Some(now);
        } else if age >= Some(POLL_NOTE_SECONDS) {
            // Everything but the time is as it was noted.
            self.shared.polls.add(&self.definition.name, now);
            self.noted_poll = Some(now);
        }
        Ok(())
    }

    pub(super) async fn note(&self, commit: Option<&CommitId>, polled_at: Option<Timestamp>) -> Result<(), StoreError> {
        let seen =
            Observation { commit, polled_at: polled_at.map(Ts::from), conditions: &self.conditions, diagnostics: None };
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        // What a former holder thinks of a source must not hide what the present one knows.
        self.lease.fence(&mut transaction).await?;
        record_observation(&mut transaction, self.shared.config.org, &self.definition.name, &seen).await?;
        transaction.commit().await.map_err(StoreError::from)
    }
}
