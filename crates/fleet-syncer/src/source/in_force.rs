//! What is said of the signatures of the commit in force, when rules changed after it was applied.

use std::sync::Arc;

use fleet_model::{CommitId, Digest, SyncTrust};
use fleet_store::{StoreError, judged_trust, record_judged_trust};
use tracing::info;

use super::trusted::tell_verified;
use super::{RunError, Source};
use crate::conditions;
use crate::snapshot::Mirror;
use crate::trust::{self, Violation};

impl Source {
    /// Judges the commit in force again when the rules are not those that it was judged by. It stays in force, whatever they
    /// are by now.
    pub(super) async fn judge_in_force(&mut self, commit: &CommitId) -> Result<(), RunError> {
        let (shared, org, name) = (Arc::clone(&self.shared), self.shared.config.org, self.definition.name.clone());
        let mut transaction = shared.store.begin().await?;
        let asked = trust::rules(&mut transaction, org, &name).await?.trust().to_vec();
        let rules = trust::digest(&asked);
        if self.judged_by.is_none() {
            self.judged_by = judged_trust(&mut transaction, org, &name).await?;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        match self.judged_by {
            Some(judged_by) if judged_by == rules => return Ok(()),
            Some(_) => self.tell_in_force(commit, asked).await?,
            // An earlier version of the service applied it, and did not note the rules.
            None => {}
        }
        self.note_judged(rules).await?;
        Ok(())
    }

    async fn tell_in_force(&mut self, commit: &CommitId, asked: Vec<SyncTrust>) -> Result<(), RunError> {
        let (shared, now) = (Arc::clone(&self.shared), self.shared.clock.now_rfc3339());
        if asked.is_empty() {
            conditions::verified(&mut self.conditions, "NoTrustRules", "no policy asks for signatures", &now);
        } else {
            let mirror = Arc::clone(&self.mirror);
            let _in_use = mirror.in_use();
            // It may have been removed to make room.
            mirror.fetch(&shared.git, Some(commit), mirror.poll(self.woken)).await?;
            // It stands alone, as a source's first commit does.
            let range = trust::judge(Mirror { git: &shared.git, path: mirror.path() }, None, commit, asked).await?;
            let found: Vec<Violation> =
                range.violations(range.commits().len(), &[]).into_iter().map(Violation::from).collect();
            match found.first() {
                None => tell_verified(&mut self.conditions, commit, &range, &now),
                Some(first) => {
                    let told = format!("commit {} {}: {}", commit.short(), conditions::STAYS, first.sentence);
                    info!(
                        source = self.definition.name,
                        told, "The commit in force lacks signatures by rules that are new"
                    );
                    conditions::not_verified(&mut self.conditions, first.reason, &told, &now);
                }
            }
        }
        self.note(Some(commit), Some(shared.clock.now())).await?;
        Ok(())
    }

    /// Notes which rules what is said of signatures was judged by.
    pub(super) async fn note_judged(&mut self, rules: Digest) -> Result<(), StoreError> {
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        self.lease.fence(&mut transaction).await?;
        record_judged_trust(&mut transaction, self.shared.config.org, &self.definition.name, rules).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        self.judged_by = Some(rules);
        Ok(())
    }
}
