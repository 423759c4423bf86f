//! The end of a look: a commit is applied, held or refused.

use std::sync::Arc;

use fleet_lint::{TreeReport, codes};
use fleet_model::{CommitId, Diagnostic, Kind};
use fleet_store::{
    NewEvent, Observation, StoreError, Ts, Verdict, clear_hold_unless_rejected, record_commit, record_event,
    record_observation,
};
use serde_json::json;
use tracing::{info, warn};

use super::{Checked, Refusal, RunError, Source, Step, Way, trusted};
use crate::absent::Absent;
use crate::apply::{Application, ApplyError, Outcome, Writer, apply};
use crate::conditions::{self, RefusalReason};
use crate::desired::{self, Desired, finding_in_file};
use crate::laps::Laps;
use crate::outbox;

/// The most findings that are kept of one commit.
const MAX_DIAGNOSTICS: usize = 500;

impl Source {
    /// Applies a commit that was judged and built, or holds it; says why it is refused.
    pub(super) async fn apply(
        &mut self,
        checked: Checked,
        desired: &Desired,
        way: Way,
        laps: &mut Laps,
    ) -> Result<Result<Step, Refusal>, RunError> {
        let Checked { snapshot, report, lint_commit, mut diagnostics } = checked;
        let shared = Arc::clone(&self.shared);
        let commit = snapshot.commit.clone();
        let mut after = self.conditions.clone();
        conditions::applied(&mut after, commit.short(), desired.problems, desired.waiting, &shared.clock.now_rfc3339());
        conditions::secrets(&mut after, &desired.unreadable, &shared.clock.now_rfc3339());
        let writer = Writer {
            store: &shared.store,
            lease: &self.lease,
            org: shared.config.org,
            cache: &shared.cache,
            turn: &shared.turn,
            outbox: &shared.outbox,
            now: shared.clock.now(),
            deletion_grace: shared.config.deletion_grace,
        };
        let (rewritten, vouched, restores) = match &way {
            Way::Forward(rewritten, vouched) => (rewritten.as_ref(), vouched.as_ref(), false),
            Way::Back => (None, None, true),
        };
        trusted::tell_applied(&mut after, &commit, &way, &shared.clock.now_rfc3339());
        let application = Application {
            source: &self.definition,
            base: self.applied.as_ref(),
            commit: &commit,
            lint_commit: lint_commit.as_ref(),
            desired,
            conditions: &after,
            conditions_before: &self.conditions,
            now: shared.clock.now_rfc3339(),
            rewritten,
            unrestored: self.unrestored.as_ref(),
            vouched,
            restores,
            diagnostics: &diagnostics,
        };
        let (reason, findings) = match apply(writer, &application, laps).await {
            Ok(Outcome::Held(held)) => {
                self.conditions = held.conditions;
                self.snapshot = Some(snapshot);
                self.held = Some((commit, shared.clock.now()));
                self.refused = None;
                return Ok(Ok(Step::Held));
            }
            Ok(Outcome::Distrusted(at)) => {
                self.snapshot = Some(snapshot);
                self.distrusted = Some(at);
                return Ok(Ok(Step::Held));
            }
            Ok(Outcome::Applied(applied)) => {
                info!(
                    source = self.definition.name,
                    commit = %commit,
                    manifests = applied.manifests,
                    revisions = applied.revisions,
                    devices = applied.devices.new_versions,
                    planning_ms = u64::try_from(applied.planning.as_millis()).unwrap_or(u64::MAX),
                    took = %laps,
                    "Applied a commit"
                );
                self.snapshot = Some(snapshot);
                self.applied = Some(commit);
                self.judged_by = None;
                self.conditions = after;
                self.only_waits = desired.problems == 0;
                self.uses_web = desired.uses_web();
                self.uses_secrets = desired.uses_secrets();
                self.absent = Absent::found(&desired.absent, shared.clock.now());
                self.refused = None;
                self.held = None;
                self.stale = false;
                return Ok(Ok(Step::Applied(applied)));
            }
            Err(ApplyError::Store(error)) => return Err(error.into()),
            Err(ApplyError::DefinedElsewhere(places)) => {
                let findings = places.iter().map(|place| {
                    let message = format!(
                        "{} {} is already defined by source {} at {}:{}",
                        place.kind, place.name, place.source, place.file, place.line
                    );
                    self.conflict(&report, place.kind, &place.name, message)
                });
                (RefusalReason::OwnershipConflict, findings.collect::<Vec<_>>())
            }
            Err(ApplyError::OwnedByAbsent(owners)) => {
                let findings = owners.iter().map(|owner| {
                    let message = format!(
                        "{} {} is defined by source {}, which is not back yet since desired state was dropped",
                        owner.kind, owner.name, owner.source
                    );
                    self.conflict(&report, owner.kind, &owner.name, message)
                });
                (RefusalReason::OwnershipConflict, findings.collect())
            }
            Err(ApplyError::SourceNameTaken(name)) => {
                let message = format!("a source named {name} exists already; give this ResourceSync another name");
                (RefusalReason::OwnershipConflict, vec![self.conflict(&report, Kind::ResourceSync, &name, message)])
            }
            Err(ApplyError::NothingLeft(count)) => {
                let message = format!(
                    "commit {} holds no manifest below {:?} and would remove all {count} objects of the source; \
                     to give a source up, remove it from the configuration",
                    commit.short(),
                    self.definition.path
                );
                let finding = finding_in_file(&self.definition.path, codes::NOTHING_LEFT, message);
                (RefusalReason::NothingLeft, vec![finding])
            }
        };
        diagnostics.extend(findings);
        self.snapshot = Some(snapshot);
        Ok(Err(Refusal { reason, diagnostics }))
    }

    fn conflict(&self, report: &TreeReport, kind: Kind, name: &str, message: String) -> Diagnostic {
        let placed = report.manifests.iter().find(|p| p.manifest().kind() == kind && p.manifest().name() == name);
        match placed {
            Some(placed) => desired::finding_at(placed, codes::DEFINED_ELSEWHERE, "/metadata/name", message, None),
            None => finding_in_file(&self.definition.path, codes::DEFINED_ELSEWHERE, message),
        }
    }

    /// Notes that a commit is refused, and why.
    pub(super) async fn refuse(&mut self, commit: CommitId, refusal: Refusal) -> Result<Step, RunError> {
        let Refusal { reason, mut diagnostics } = refusal;
        // Errors come first where there are more than anybody reads.
        if diagnostics.len() > MAX_DIAGNOSTICS {
            diagnostics.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
            diagnostics.truncate(MAX_DIAGNOSTICS);
        }
        let (org, name) = (self.shared.config.org, self.definition.name.clone());
        conditions::refused(
            &mut self.conditions,
            commit.short(),
            reason,
            &diagnostics,
            &self.shared.clock.now_rfc3339(),
        );
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        self.lease.fence(&mut transaction).await?;
        let news = record_commit(&mut transaction, org, &name, &commit, Verdict::Refused, &diagnostics, 0).await?;
        if news {
            let first = diagnostics.iter().find(|d| d.severity == fleet_model::Severity::Error);
            let first = first.map_or_else(|| reason.as_str().to_owned(), ToString::to_string);
            let message = format!("Refused commit {}: {first}", commit.short());
            warn!(source = name, commit = %commit, reason = reason.as_str(), first, "Refused a commit");
            let event = NewEvent {
                kind: "Source",
                name: &name,
                reason: "ResourceSyncParsingFailed",
                warning: true,
                message: &message,
                actor: "service:syncer",
                details: Some(json!({"commitHash": commit.as_str(), "errorCount": diagnostics.len()})),
            };
            record_event(&mut transaction, org, &event).await?;
        }
        let seen = Observation {
            commit: Some(&commit),
            polled_at: Some(Ts::from(self.shared.clock.now())),
            conditions: &self.conditions,
            diagnostics: Some(&diagnostics),
        };
        record_observation(&mut transaction, org, &name, &seen).await?;
        let told = (org, &self.definition, Ts::from(self.shared.clock.now()));
        outbox::refused(&mut transaction, &self.shared.outbox, told, &commit, &diagnostics).await?;
        clear_hold_unless_rejected(&mut transaction, org, &name).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        // Another source may give the object up: look again at every poll.
        self.held = None;
        self.refused = (reason != RefusalReason::OwnershipConflict).then_some(commit);
        self.stale = false;
        Ok(Step::Refused)
    }
}
