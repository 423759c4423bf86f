//! From the commit in force to the newest one, as far as signatures allow.

use fleet_model::{CommitId, Condition};
use fleet_store::{StoreError, record_verified};
use tracing::info;

use super::{Refusal, RunError, Source, Step, Way};
use crate::conditions;
use crate::guard::Rewritten;
use crate::laps::Laps;
use crate::snapshot::Mirror;
use crate::trust::{self, Range, Violation, Vouched};

/// So many commits are applied one after the other in one look, and as many tried without success; the next look goes on.
const MAX_STEPS: usize = 16;

/// What became of the commits before the newest one.
enum Part {
    /// Some were applied.
    Moved,
    /// None can be applied by itself.
    Stuck,
    /// The look ends with this.
    Done(Result<Step, Refusal>),
}

impl Source {
    /// Applies the newest commit; where rules ask for signatures that some commit lacks, the newest one before that commit,
    /// and the newest one waits for a person. `lost` is what was in force before desired state was dropped, or the source
    /// moved to another path.
    pub(super) async fn advance(
        &mut self,
        tip: &CommitId,
        lost: Option<&CommitId>,
        rewritten: Option<Rewritten>,
        laps: &mut Laps,
    ) -> Result<Result<Step, Refusal>, RunError> {
        for _ in 0..MAX_STEPS {
            let base = self.applied.clone().or_else(|| lost.cloned());
            let Some(range) = self.judge_signatures(base.as_ref(), tip).await? else {
                return self.take(tip, Way::Forward(rewritten, None), laps).await;
            };
            match self.advance_to_valid(tip, &range, rewritten.as_ref(), laps).await? {
                Part::Moved => {}
                Part::Done(result) => return Ok(result),
                Part::Stuck => {
                    self.shared.metrics.distrusted.inc();
                    let vouched = Vouched { count: range.commits().len(), range, holds: true };
                    return self.take(tip, Way::Forward(rewritten, Some(vouched)), laps).await;
                }
            }
        }
        self.stale = true;
        Ok(Ok(Step::Unchanged))
    }

    async fn advance_to_valid(
        &mut self,
        tip: &CommitId,
        range: &Range,
        rewritten: Option<&Rewritten>,
        laps: &mut Laps,
    ) -> Result<Part, RunError> {
        let all = range.commits().len();
        let mut count = range.acceptable();
        for _ in 0..MAX_STEPS {
            // The commit in force is looked at again; or its history was rewritten, or the commit in force came in by a
            // second parent, which is one decision.
            let is_all = count == all;
            if (count == 0 && all > 0) || ((rewritten.is_some() || range.is_detached()) && !is_all) {
                break;
            }
            let target = if is_all { tip.clone() } else { range.commits()[count - 1].id.clone() };
            let vouched = Vouched { range: range.clone(), count, holds: false };
            self.distrusted = None;
            let taken = self.take(&target, Way::Forward(rewritten.cloned(), Some(vouched)), laps).await?;
            if let Some(at) = self.distrusted.take() {
                // Up to the commit itself the plan may lack the effect that the rule is about.
                count = if at + 1 < count { at + 1 } else { at };
                continue;
            }
            if is_all {
                return Ok(Part::Done(taken));
            }
            return Ok(match taken {
                Ok(Step::Applied(_)) => {
                    info!(source = self.definition.name, commit = %target, "Applied the newest commit with valid signatures");
                    Part::Moved
                }
                Ok(Step::Held) => {
                    // What is known to wait is what the host shows.
                    self.held = self.held.take().map(|(_, at)| (tip.clone(), at));
                    Part::Done(Ok(Step::Held))
                }
                Ok(step) => Part::Done(Ok(step)),
                Err(refusal) => {
                    let first = refusal.diagnostics.first().map(ToString::to_string).unwrap_or_default();
                    info!(source = self.definition.name, commit = %target, first, "The newest signed commit has errors");
                    Part::Stuck
                }
            });
        }
        Ok(Part::Stuck)
    }

    /// The commits that are new, judged; `None` where no policy asks for signatures.
    async fn judge_signatures(&mut self, base: Option<&CommitId>, tip: &CommitId) -> Result<Option<Range>, RunError> {
        let (shared, name) = (std::sync::Arc::clone(&self.shared), self.definition.name.clone());
        let mut transaction = shared.store.begin().await?;
        let rules = trust::rules(&mut transaction, shared.config.org, &name).await?;
        let asked = rules.trust().to_vec();
        transaction.commit().await.map_err(StoreError::from)?;
        let now = shared.clock.now_rfc3339();
        let digest = trust::digest(&asked);
        if base == Some(tip) {
            // Nothing is new but, perhaps, the rules.
            self.judge_in_force(tip).await?;
        }
        if asked.is_empty() {
            let message = match rules.trust_elsewhere() {
                0 => "no policy asks for signatures",
                _ => "no policy that counts asks for signatures: those of sources that do not bring this one in do not",
            };
            conditions::verified(&mut self.conditions, "NoTrustRules", message, &now);
            self.note_verified(tip).await?;
            self.note_judged(digest).await?;
            return Ok(None);
        }
        let mirror = std::sync::Arc::clone(&self.mirror);
        let range = trust::judge(Mirror { git: &shared.git, path: mirror.path() }, base, tip, asked).await?;
        let valid = range.acceptable();
        let newest = if valid == range.commits().len() {
            Some(tip)
        } else {
            valid.checked_sub(1).map(|at| &range.commits()[at].id)
        };
        // Where it takes the plan to tell, whoever applies or holds by it notes that: what is found wanting is never shown as verified.
        if let Some(newest) = newest.or(base)
            && !range.depends_on_plan(valid)
        {
            self.note_verified(newest).await?;
        }
        let found: Vec<Violation> =
            range.violations(range.commits().len(), &[]).into_iter().map(Violation::from).collect();
        match found.first() {
            // Nothing is new: what was said when it came stays.
            None if range.commits().is_empty()
                && (conditions::is_verified(&self.conditions)
                    || conditions::is_unverified_in_force(&self.conditions)) => {}
            None => tell_verified(&mut self.conditions, tip, &range, &now),
            Some(first) => {
                let told = trust::sentences(&found).join("; ");
                conditions::not_verified(&mut self.conditions, first.reason, &told, &now);
            }
        }
        self.note_judged(digest).await?;
        Ok(Some(range))
    }

    async fn note_verified(&self, commit: &CommitId) -> Result<(), StoreError> {
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        self.lease.fence(&mut transaction).await?;
        record_verified(&mut transaction, self.shared.config.org, &self.definition.name, commit).await?;
        transaction.commit().await.map_err(StoreError::from)
    }
}

pub(super) fn tell_verified(conditions: &mut Vec<Condition>, commit: &CommitId, range: &Range, now: &str) {
    let who = range.signer().map(|who| format!(", signed by {who}")).unwrap_or_default();
    let message = format!("commit {}{who}: every signature that a rule asks for is there", commit.short());
    conditions::verified(conditions, "SignedBy", &message, now);
}

/// What is said of signatures once a commit is applied.
pub(super) fn tell_applied(conditions: &mut Vec<Condition>, commit: &CommitId, way: &Way, now: &str) {
    let Way::Forward(_, Some(vouched)) = way else { return };
    match vouched.holds {
        false if vouched.range.commits().is_empty() => {}
        false => tell_verified(conditions, commit, &vouched.range, now),
        // With violations only an approval lets it through.
        true => {
            let message = format!("commit {} lacks signatures, and its plan was approved", commit.short());
            conditions::verified(conditions, "Approved", &message, now);
        }
    }
}
