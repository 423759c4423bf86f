//! How far a source is behind its host, and that its host went away or came back.

use fleet_git::GitErrorKind;
use fleet_model::{CommitId, Condition, ConditionStatus};
use fleet_store::{NewEvent, StoreError, record_behind, record_event};
use tracing::debug;

use super::{RunError, Source};

/// Commits beyond this many are not counted.
const MAX_BEHIND: usize = 1_000;

impl Source {
    /// Counts the commits between the one in force and the newest. It is a number for people: that it cannot be had fails
    /// nothing.
    pub(super) async fn note_behind(&mut self) {
        let (Some(observed), Some(applied)) = (self.observed.clone(), self.applied.clone()) else { return };
        if observed == applied || self.behind.as_ref() == Some(&(applied.clone(), observed.clone())) {
            return;
        }
        // A commit that rests is not fetched for a number either.
        if self.quarantine.rests(&observed, self.shared.clock.now()) {
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
            self.behind = Some((applied, observed));
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
    pub(super) async fn tell_reachability(&self, before: &[Condition]) {
        let reachable = |conditions: &[Condition]| {
            let found = conditions.iter().find(|condition| condition.kind == "SourceReachable");
            found.is_none_or(|condition| condition.status != ConditionStatus::False)
        };
        let (was, is) = (reachable(before), reachable(&self.conditions));
        let Some(now) = self.conditions.iter().find(|c| c.kind == "SourceReachable").filter(|_| was != is) else {
            return;
        };
        let message = match is {
            true => "The host answers again".to_owned(),
            false => format!("The host cannot be read: {}; the last commit stays in force", now.message),
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
