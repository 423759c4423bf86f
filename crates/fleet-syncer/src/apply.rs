//! One transaction moves a source from one commit to the next: manifests, fleets, revisions, further sources, and the
//! devices they concern. A crash leaves exactly the one or the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fleet_model::{CommitId, Condition, Diagnostic, Digest, Kind, OrgId};
use fleet_store::{
    Channel, Lease, ManifestPlace, NewEvent, ObjectOwner, PgConnection, PlanRow, SourceDefinition, Store, StoreError,
    Ts, Verdict, clear_hold, count_tombstones, insert_blobs, insert_revision, insert_tree, known_blobs,
    known_revisions, list_fleets, lock_device_changes, lock_source, manifests_elsewhere, mark_all_devices_dirty,
    mark_leaving, orphaned_sources, owned_by_absent, put_source, record_applied, record_commit, record_event,
    record_judged_trust, record_plan, record_verified, remove_source, replace_fleets, replace_manifests, replace_taken,
    settle_input_values, source_origin, source_suspension, stored_manifests, unsettled_sources,
};
use jiff::Timestamp;
use serde_json::json;
use tracing::info;

use crate::desired::Desired;
use crate::guard::Rewritten;
use crate::hold::{Held, Passage, Present, pass};
use crate::laps::Laps;
use crate::outbox::{self, Outbox};
use crate::planning::{self, Planner};
use crate::reconcile::{ReconcileOutcome, reconcile_devices};
use crate::restored::note_pins;
use crate::revisions::{Ready, RevisionCache, RevisionKey};
use crate::tombstones::{grace, noted};
use crate::trust::{self, Vouched};

mod scope;
use scope::scope;

/// Who writes, for whom, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// The database.
    pub(crate) store: &'a Store,
    /// The right to write.
    pub(crate) lease: &'a Lease,
    /// The organisation.
    pub(crate) org: OrgId,
    /// Prepared revisions.
    pub(crate) cache: &'a RevisionCache,
    /// Held by the one writer of this process: others wait for it without a connection of the database.
    pub(crate) turn: &'a tokio::sync::Mutex<()>,
    /// What Git hosts are told.
    pub(crate) outbox: &'a Outbox,
    /// The time.
    pub(crate) now: Timestamp,
    /// How long what left Git stays in force where no SyncPolicy says it.
    pub(crate) deletion_grace: Duration,
}

/// What is applied.
#[derive(Debug)]
pub(crate) struct Application<'a> {
    /// The source.
    pub(crate) source: &'a SourceDefinition,
    /// The commit the source is at, as far as the caller knows.
    pub(crate) base: Option<&'a CommitId>,
    /// The commit to move to.
    pub(crate) commit: &'a CommitId,
    /// The commit whose lint configuration judged it, unless that is its own.
    pub(crate) lint_commit: Option<&'a CommitId>,
    /// What it says.
    pub(crate) desired: &'a Desired,
    /// Conditions after it is applied.
    pub(crate) conditions: &'a [Condition],
    /// Conditions now.
    pub(crate) conditions_before: &'a [Condition],
    /// The time, as conditions carry it.
    pub(crate) now: String,
    /// Whether it rewrites history.
    pub(crate) rewritten: Option<&'a Rewritten>,
    /// What was in force before desired state was dropped, and cannot be brought back.
    pub(crate) unrestored: Option<&'a CommitId>,
    /// What is known of its signatures; `None` where no rule asked for any.
    pub(crate) vouched: Option<&'a Vouched>,
    /// It was in force before desired state was dropped: the guard let it pass then.
    pub(crate) restores: bool,
    /// Warnings about it.
    pub(crate) diagnostics: &'a [Diagnostic],
}

/// What an apply did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Manifests that were written or removed.
    pub manifests: usize,
    /// Revisions that are new.
    pub revisions: usize,
    /// What happened to devices.
    pub devices: ReconcileOutcome,
    /// Devices that the plan says get another document.
    pub planned: usize,
    /// How long the plan took.
    pub planning: Duration,
    /// Whether sources came or went.
    pub sources_changed: bool,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in force.
    Applied(Applied),
    /// It waits for a person; nothing changed.
    Held(Held),
    /// This one of the commits lacks a signature; nothing changed.
    Distrusted(usize),
}

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Another source defines some of the same objects.
    #[error("{} objects are defined by another source", .0.len())]
    DefinedElsewhere(Vec<ManifestPlace>),
    /// Another source defined some of the same objects, and is not back since desired state was dropped.
    #[error("{} objects are defined by another source that is not back yet", .0.len())]
    OwnedByAbsent(Vec<ObjectOwner>),
    /// A ResourceSync has the name of a source that it did not make.
    #[error("a source named {0:?} exists already")]
    SourceNameTaken(String),
    /// The commit holds no manifest, and the source has some.
    #[error("the commit holds no manifest and would remove all {0}")]
    NothingLeft(usize),
    /// The database failed, or somebody else was faster.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Applies a commit, unless the guard holds it.
///
/// # Errors
/// [`ApplyError`]; then nothing was written.
pub(crate) async fn apply(
    writer: Writer<'_>,
    application: &Application<'_>,
    laps: &mut Laps,
) -> Result<Outcome, ApplyError> {
    let _turn = writer.turn.lock().await;
    let mut transaction = writer.lease.begin(writer.store).await?;
    let (outcome, fresh) = apply_in(&mut transaction, writer, application, laps).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    laps.lap("commit");
    writer.cache.keep(&fresh);
    Ok(outcome)
}

/// Revisions that a commit brings, ready to render.
type Fresh = HashMap<RevisionKey, Arc<Ready>>;

async fn apply_in(
    connection: &mut PgConnection,
    writer: Writer<'_>,
    application: &Application<'_>,
    laps: &mut Laps,
) -> Result<(Outcome, Fresh), ApplyError> {
    let Application { source: definition, base, commit, lint_commit, desired, conditions, diagnostics, .. } =
        application;
    let source = definition.name.as_str();
    let (org, at) = (writer.org, Ts::from(writer.now));
    laps.lap("wait");
    lock_device_changes(connection).await?;
    laps.lap("lock");
    writer.lease.fence(connection).await?;
    let present = lock_source(connection, org, definition, application.restores).await?;
    if present.as_ref().map(Option::as_ref) != Some(*base) {
        return Err(StoreError::Conflict { what: format!("source {source}") }.into());
    }
    let suspended = source_suspension(connection, org, source).await?;
    let over = |until: Ts| until.to_jiff() <= writer.now;
    if !application.restores && suspended.is_some_and(|found| !found.until.is_some_and(over)) {
        // It was suspended while the commit was read.
        return Err(StoreError::Conflict { what: format!("source {source}, which is suspended") }.into());
    }
    let objects: Vec<(Kind, String)> = desired.manifests.iter().map(|row| (row.kind, row.name.clone())).collect();
    let stored = stored_manifests(connection, org, source).await?;
    // What this source defines already, no other can.
    let new: Vec<(Kind, String)> = objects.iter().filter(|key| !stored.contains_key(*key)).cloned().collect();
    let elsewhere = match new.is_empty() {
        true => Vec::new(),
        false => manifests_elsewhere(connection, org, source, &new).await?,
    };
    if !elsewhere.is_empty() {
        return Err(ApplyError::DefinedElsewhere(elsewhere));
    }
    let absent = match new.is_empty() {
        true => Vec::new(),
        false => owned_by_absent(connection, org, source, &new).await?,
    };
    if !absent.is_empty() {
        return Err(ApplyError::OwnedByAbsent(absent));
    }
    if objects.is_empty() && !stored.is_empty() {
        return Err(ApplyError::NothingLeft(stored.len()));
    }
    let before = list_fleets(connection, org).await?;
    laps.lap("stored");
    let planner = Planner { org, source, stored: &stored, fleets: &before, desired, cache: writer.cache };
    let plan = planner.start(connection).await?;
    laps.lap("plan");
    let (mut plan, comparing) = plan.finish().await?;
    laps.lap("wait for the plan");
    let passage = match application.restores {
        true => Passage::Free { approved: None },
        false => pass(connection, writer, application, &mut plan, Present { stored: &stored, fleets: &before }).await?,
    };
    let approved = match passage {
        Passage::Free { approved } => approved,
        Passage::Held(held) => return Ok((Outcome::Held(held), Fresh::new())),
        Passage::Distrusted(at) => return Ok((Outcome::Distrusted(at), Fresh::new())),
    };
    store_contents(connection, desired).await?;
    let fresh = store_revisions(connection, org, desired).await?;
    let revisions = fresh.len();
    laps.lap("revisions");
    // Of the rules before: a commit cannot shorten the grace of what it removes itself.
    let grace = grace(&trust::rules(connection, org, source).await?, writer.deletion_grace, writer.now);
    let changes = replace_manifests(connection, org, source, commit, stored, &desired.manifests, grace).await?;
    replace_fleets(connection, org, source, &before, &desired.fleets).await?;
    replace_taken(connection, org, source, &desired.takes).await?;
    if settle_input_values(connection, org, &desired.missing_before, &desired.missing_values).await? {
        // Devices that wait for a value hear what became of it.
        Channel::Enrollment.notify(connection, "").await?;
    }
    let sources_changed = replace_child_sources(connection, org, source, desired).await?;
    if !changes.revived.is_empty() || count_tombstones(connection, org).await? > 0 {
        mark_leaving(connection, org).await?;
    }
    let after = list_fleets(connection, org).await?;
    laps.lap("manifests");
    let devices_changed = changes.written.iter().chain(&changes.removed).any(|(kind, _)| *kind == Kind::Device);
    let first = base.is_none();
    let waiting = unsettled_sources(connection, org).await?;
    let devices = if !waiting.is_empty() {
        // Desired state is being made again and is not whole: nobody is moved on half of it. All are looked at later.
        info!(source, waiting = waiting.join(", "), "Devices wait until all sources are back");
        mark_all_devices_dirty(connection, org).await?;
        ReconcileOutcome::default()
    } else {
        match scope(&before, &after, devices_changed || first || sources_changed) {
            None => ReconcileOutcome::default(),
            Some(scope) => reconcile_devices(connection, org, &scope, first, at, &fresh, writer.cache).await?,
        }
    };
    laps.lap("devices");
    if sources_changed || first {
        // What another source waited for may be there now.
        Channel::Enrollment.notify(connection, "").await?;
    }
    let of_kind = |kind: Kind| changes.written.iter().chain(&changes.removed).any(|(changed, _)| *changed == kind);
    if of_kind(Kind::EnrollmentPolicy) {
        Channel::Enrollment.notify(connection, "").await?;
    }
    if [Kind::SyncPolicy, Kind::ResourceSync, Kind::Repository].into_iter().any(of_kind) {
        // What is held elsewhere may go ahead by now, or lack a signature; a source rests while its ResourceSync leaves, and
        // follows the Repository that another source defines.
        Channel::Sources.notify(connection, "").await?;
    }
    let manifests = changes.written.len() + changes.removed.len();
    let news = record_commit(connection, org, source, commit, Verdict::Applied, diagnostics, manifests).await?;
    // The same commit looked at again: what it changed at first is what people want to know.
    let moves = *base != Some(*commit) || !planning::is_empty(&plan);
    if moves {
        let row = PlanRow {
            source,
            commit,
            base: *base,
            digest: plan.digest,
            summary: noted(planning::stored_summary(&plan), changes.removed.len(), grace),
            plan: planning::stored_plan(&plan),
        };
        record_plan(connection, org, &row, at).await?;
        if !application.restores {
            outbox::applied(connection, writer, application, &plan, approved.as_ref()).await?;
        }
    }
    // Also back at a commit that was applied before, when nothing but files of fleets differs.
    if moves || news || manifests > 0 || revisions > 0 {
        let kept = grace.filter(|_| !changes.removed.is_empty());
        let kept = kept.map(|grace| format!(" (in force until {:.0})", grace.until.to_jiff())).unwrap_or_default();
        let message = format!(
            "Applied commit {}: {} objects changed, {} removed{}, {} new fleet revisions, {} devices get a new \
             version; plan {}{}",
            commit.short(),
            changes.written.len(),
            changes.removed.len(),
            kept,
            revisions,
            devices.new_versions,
            plan.digest.short(),
            approved.map(|approved| format!(", approved by {}", approved.by)).unwrap_or_default(),
        );
        let event = NewEvent {
            kind: "Source",
            name: source,
            reason: "ResourceSyncSynced",
            warning: false,
            message: &message,
            actor: "service:syncer",
            details: Some(json!({
                "commitHash": commit.as_str(),
                "changeCount": manifests,
                "removedCount": changes.removed.len(),
                "errorCount": 0,
                "planDigest": plan.digest,
            })),
        };
        record_event(connection, org, &event).await?;
    }
    record_applied(connection, org, definition, commit, *lint_commit, at, objects.len(), conditions, diagnostics)
        .await?;
    note_pins(connection, org, source, desired).await?;
    record_verified(connection, org, source, commit).await?;
    // The rules that a commit brings itself are not those that it is judged by, now or later.
    let rules = trust::digest(trust::rules(connection, org, source).await?.trust());
    record_judged_trust(connection, org, source, rules).await?;
    laps.lap("records");
    if !application.restores {
        clear_hold(connection, org, source).await?;
    }
    let (planned, planning) = (plan.summary.devices.changed, laps.of("plan") + comparing);
    Ok((Outcome::Applied(Applied { manifests, revisions, devices, planned, planning, sources_changed }), fresh))
}

/// Stores the revisions that are new, and gives them ready to render.
async fn store_revisions(connection: &mut PgConnection, org: OrgId, desired: &Desired) -> Result<Fresh, StoreError> {
    let known = known_revisions(connection, org, &desired.revisions).await?;
    let mut fresh = Fresh::new();
    for row in &desired.revisions {
        let key = (row.fleet.clone(), row.name.clone());
        if known.contains(&key) || !insert_revision(connection, org, row).await? {
            continue;
        }
        if let Some(revision) = desired.prepared.get(&key) {
            let (source, commit) = (row.source.clone(), row.commit.clone());
            fresh.insert(key, Arc::new(Ready { revision: Arc::clone(revision), source, commit }));
        }
    }
    Ok(fresh)
}

async fn store_contents(connection: &mut PgConnection, desired: &Desired) -> Result<(), StoreError> {
    let digests: Vec<Digest> = desired.blobs.keys().copied().collect();
    let known: BTreeSet<Digest> = known_blobs(connection, &digests).await?.into_iter().collect();
    let missing: Vec<(Digest, &[u8])> = desired
        .blobs
        .iter()
        .filter(|(digest, _)| !known.contains(digest))
        .map(|(digest, content)| (*digest, &content[..]))
        .collect();
    insert_blobs(connection, &missing).await?;
    for (digest, files) in &desired.trees {
        insert_tree(connection, *digest, files).await?;
    }
    Ok(())
}

/// Sources that this one brings in follow their ResourceSyncs; one whose ResourceSync is gone goes with all it defined.
async fn replace_child_sources(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    desired: &Desired,
) -> Result<bool, ApplyError> {
    let mut changed = false;
    for child in &desired.child_sources {
        let taken = child.name == source
            || source_origin(connection, org, &child.name).await?.is_some_and(|origin| origin != child.origin);
        if taken {
            return Err(ApplyError::SourceNameTaken(child.name.clone()));
        }
        changed |= put_source(connection, org, child).await?;
    }
    changed |= remove_orphans(connection, org).await?;
    if changed {
        Channel::Sources.notify(connection, "").await?;
    }
    Ok(changed)
}

/// Removes sources whose ResourceSync is gone. One that goes may have brought in others: repeats until all that are left
/// have theirs. Returns whether any went.
pub(crate) async fn remove_orphans(connection: &mut PgConnection, org: OrgId) -> Result<bool, StoreError> {
    let mut any = false;
    loop {
        let orphans = orphaned_sources(connection, org).await?;
        if orphans.is_empty() {
            return Ok(any);
        }
        for orphan in &orphans {
            remove_source(connection, org, orphan).await?;
        }
        any = true;
    }
}
