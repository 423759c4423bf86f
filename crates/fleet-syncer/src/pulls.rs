//! Plans open pull requests as if each were merged next, and tells the forge: statuses of its newest commit and one comment
//! that is kept up to date. Applies nothing, whoever opened it, and writes nothing but the outbox.
//!
//! A pull request may come from a stranger. Its commits go to a mirror of their own; of other repositories only those
//! revisions are read that are in force already; references to secrets stay references.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_forge::{ForgeError, ForgeErrorKind, Pull, StatusState, comment_mark};
use fleet_git::GitError;
use fleet_lint::{codes, has_errors};
use fleet_model::{CommitId, Diagnostic, Kind};
use fleet_render::plan::Plan;
use fleet_runtime::{CancellationToken, ErrorChain};
use fleet_store::{
    Lease, SourceDefinition, SourceRow, StoreError, Ts, list_fleets, list_sources, manifests_elsewhere,
    stored_manifests,
};
use tracing::{debug, info, warn};

use crate::building::{BuildFailure, Building};
use crate::desired::{Desired, finding_in_file};
use crate::errand::Errand;
use crate::inputs::ContentCache;
use crate::lint_config::LintConfigs;
use crate::outbox::{ForgeConfig, LINT, PLAN, Topic, linted, put, sentence};
use crate::planning::{Planner, blocking};
use crate::snapshot::{Mirror, Snapshot};
use crate::source::Shared;
use crate::trust;

mod comment;
mod due;
mod landing;
mod signatures;

use due::Due;
use landing::{Landing, land};
use signatures::Signatures;

/// How often open pull requests are listed though nothing woke, and how often at most.
const PERIOD: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(5);
/// So many pull requests of a source are planned, the newest ones.
const MAX_PULLS: usize = 20;
/// The longest that one may take where requests to hosts may not take longer.
const DEADLINE: Duration = Duration::from_secs(180);

/// Why a pull request could not be planned this time.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error("it moved meanwhile")]
    Moved,
    #[error("it took longer than {} s", .0.as_secs())]
    Late(Duration),
}

/// What came of a pull request.
#[derive(Debug)]
pub(crate) struct Preview {
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The plan, and why it would wait for a person; none where the commit would be refused.
    pub(crate) plan: Option<(Plan, Vec<String>)>,
    /// What the plan is of, where that is not the newest commit.
    landing: Option<String>,
    /// Which commits lack a signature, where rules ask for some.
    signatures: Option<Signatures>,
}

impl Preview {
    fn refused(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, plan: None, landing: None, signatures: None }
    }

    /// Why the pull request would wait for a person after the merge, as far as that is known.
    fn waits(&self) -> Vec<String> {
        let limits = self.plan.iter().flat_map(|(_, holds)| holds.iter().cloned());
        limits.chain(self.signatures.as_ref().and_then(Signatures::lack)).collect()
    }
}

/// Works until `term` ends.
pub(crate) async fn follow(shared: Arc<Shared>, lease: Lease, config: ForgeConfig, term: CancellationToken) {
    let mut wake = shared.outbox.subscribe_pulls();
    let mut due = Due::default();
    let mut all_at = Instant::now();
    while !term.is_cancelled() {
        let woken = due.woken(&wake.borrow_and_update());
        let is_all = Instant::now() >= all_at;
        let only = if is_all { None } else { Some(woken) };
        let pass = tokio::select! {
            () = term.cancelled() => return,
            pass = pass(&shared, &lease, &config, only.as_ref(), &mut due) => pass,
        };
        // After a failure all are looked at again.
        all_at = match (&pass, is_all) {
            (Err(_), _) => Instant::now(),
            (Ok(()), true) => Instant::now() + PERIOD,
            (Ok(()), false) => all_at,
        };
        let least = match pass {
            Ok(()) => LEAST,
            Err(PullError::Forge(ForgeError { kind: ForgeErrorKind::RateLimited { retry_after }, message })) => {
                warn!(message, "Leaving pull requests alone for a while");
                retry_after
            }
            Err(error) => {
                warn!(error = %ErrorChain(&error), "Cannot look at pull requests; trying again");
                PERIOD
            }
        };
        tokio::select! {
            () = term.cancelled() => return,
            () = tokio::time::sleep(least) => {}
        }
        tokio::select! {
            () = term.cancelled() => {}
            _ = wake.changed() => {}
            () = tokio::time::sleep(all_at.saturating_duration_since(Instant::now())) => {}
        }
    }
}

/// Looks at the open pull requests of all sources, or of some.
async fn pass(
    shared: &Shared,
    lease: &Lease,
    config: &ForgeConfig,
    only: Option<&HashSet<String>>,
    due: &mut Due,
) -> Result<(), PullError> {
    let rows = list_sources(shared.store.pool(), shared.config.org).await?;
    let is_asked = |source: &str| only.is_none_or(|only| only.contains(source));
    let (mut open, mut unknown) = (HashSet::new(), HashSet::new());
    let (mut asked, mut with_pulls) = (Vec::new(), Vec::new());
    for row in &rows {
        let definition = &row.definition;
        if !is_asked(&definition.name) {
            continue;
        }
        asked.push(definition);
        let is_ours =
            shared.outbox.nearest(&definition.url).is_some_and(|near| Arc::ptr_eq(&near.forge, &config.forge));
        let (Some(repository), Some(applied), true) =
            (config.forge.repository(&definition.url), row.applied_commit.clone(), is_ours)
        else {
            continue;
        };
        let branch = definition.revision.strip_prefix("refs/heads/").unwrap_or(&definition.revision);
        let pulls = match config.forge.open_pulls(&repository, branch).await {
            Ok(pulls) => pulls,
            Err(error) if error.kind.concerns_the_host() => return Err(error.into()),
            Err(error) => {
                with_pulls.push(definition);
                // What was told of its pull requests stays known.
                unknown.insert(definition.name.as_str());
                info!(source = definition.name, %error, "Cannot list pull requests; trying again later");
                continue;
            }
        };
        if !pulls.is_empty() {
            with_pulls.push(definition);
        }
        for pull in pulls.into_iter().take(MAX_PULLS) {
            let key = (definition.name.clone(), pull.number);
            open.insert(key.clone());
            let pair = (pull.head.clone(), applied.clone());
            // What the source is at is told of as what it is.
            let is_known = pull.head == applied || row.observed_commit.as_deref() == Some(pull.head.as_str());
            if is_known || !due.is_due(&key, &pair, Instant::now()) {
                continue;
            }
            let one = one(shared, lease, config, row, &pull, &applied);
            let deadline = DEADLINE.max(shared.config.git_request_timeout.saturating_mul(2));
            match tokio::time::timeout(deadline, one).await.unwrap_or(Err(PullError::Late(deadline))) {
                Ok(()) => due.done(key, pair),
                Err(PullError::Forge(error)) if error.kind.concerns_the_host() => return Err(error.into()),
                Err(error) => {
                    info!(source = definition.name, pull = pull.number, %error, "Cannot plan a pull request; trying again later");
                    due.failed(key, pair, Instant::now());
                }
            }
        }
    }
    due.retain(|key| open.contains(key) || !is_asked(&key.0) || unknown.contains(key.0.as_str()));
    let forge = &config.forge.settings().url_prefix;
    match only {
        None => shared.mirrors.keep_pulls(forge, &with_pulls),
        Some(_) => shared.mirrors.keep_some_pulls(forge, &asked, &with_pulls),
    }
    Ok(())
}

async fn one(
    shared: &Shared,
    lease: &Lease,
    config: &ForgeConfig,
    row: &SourceRow,
    pull: &Pull,
    applied: &CommitId,
) -> Result<(), PullError> {
    let definition = &row.definition;
    let preview = preview(shared, config, definition, pull, applied).await?;
    if config.commit_statuses {
        let mut transaction = lease.begin(&shared.store).await?;
        lease.fence(&mut transaction).await?;
        let at = Ts::from(shared.clock.now());
        let (source, url) = (definition.name.as_str(), definition.url.as_str());
        let topic = Topic { org: shared.config.org, source, url, commit: &pull.head, at };
        let lint = linted(&preview.diagnostics);
        let waits = preview.waits();
        let (state, told) = match &preview.plan {
            None => (StatusState::Failure, "would be refused".to_owned()),
            Some((plan, _)) if waits.is_empty() => (StatusState::Success, sentence(plan)),
            Some(_) => {
                (StatusState::Success, format!("after the merge it would wait for approval: {}", waits.join("; ")))
            }
        };
        let lint_state = if preview.plan.is_some() { StatusState::Success } else { StatusState::Failure };
        put(&mut transaction, &shared.outbox, topic, LINT, lint_state, &lint).await?;
        put(&mut transaction, &shared.outbox, topic, PLAN, state, &told).await?;
        transaction.commit().await.map_err(StoreError::from)?;
    }
    if config.plan_comments {
        let mark = comment_mark(&definition.name);
        let body = comment::write(&mark, &definition.name, &pull.head, applied, &preview);
        let repository = config.forge.repository(&definition.url).ok_or(PullError::Moved)?;
        let done = config.forge.put_comment(&repository, pull.number, &mark, &body).await?;
        debug!(source = definition.name, pull = pull.number, ?done, "Told a pull request its plan");
    }
    Ok(())
}

async fn preview(
    shared: &Shared,
    config: &ForgeConfig,
    definition: &SourceDefinition,
    pull: &Pull,
    applied: &CommitId,
) -> Result<Preview, PullError> {
    let git = &shared.git;
    let pulls_mirror = shared.mirrors.of_pulls(definition, &config.forge.settings().url_prefix);
    let _in_use = pulls_mirror.in_use();
    let path = pulls_mirror.path();
    let fetched = pulls_mirror.fetch_pull(git, &config.forge.kind().pull_ref(pull.number)).await?;
    if fetched.commit != pull.head {
        return Err(PullError::Moved);
    }
    let mirror = Mirror { git, path };
    let landing = land(mirror, &pulls_mirror.remote()?, definition, pull, applied).await?;
    let mut preview = planned(shared, definition, mirror, &landing, applied).await?;
    if let Some((plan, _)) = &preview.plan {
        let ends = (&pull.head, applied);
        preview.signatures = signatures::judge(shared, definition, mirror, ends, &landing, plan).await?;
    }
    preview.landing = landing.told;
    Ok(preview)
}

async fn planned(
    shared: &Shared,
    definition: &SourceDefinition,
    mirror: Mirror<'_>,
    landing: &Landing,
    applied: &CommitId,
) -> Result<Preview, PullError> {
    let git = &shared.git;
    let source_mirror = shared.mirrors.of(&definition.url, &definition.revision, definition.credential.as_deref());
    let snapshot = Snapshot::read(mirror, &landing.commit, &definition.path, None).await?;
    let mut configs = LintConfigs::default();
    let own = configs.of_snapshot(mirror, &snapshot).await?;
    let in_use = source_mirror.in_use();
    let place = Mirror { git, path: source_mirror.path() };
    let judge = configs.of_commit(place, applied).await?.unwrap_or_else(|| Arc::clone(&own));
    drop(in_use);
    let report = blocking("checking", snapshot.check(&judge.0)).await?;
    let mut diagnostics: Vec<Diagnostic> = own.1.iter().chain(&report.diagnostics).cloned().collect();
    let irregular = snapshot
        .irregular_candidates(&definition.path)
        .map(|(path, _)| finding_in_file(path, codes::NOT_A_FILE, format!("{path} is a symbolic link or a submodule")));
    diagnostics.extend(irregular);
    if !snapshot.has_path(&definition.path) {
        let message = format!("the source's path {:?} is not in this commit", definition.path);
        diagnostics.push(finding_in_file(&definition.path, codes::SOURCE_PATH, message));
    }
    if has_errors(&diagnostics) {
        return Ok(Preview::refused(diagnostics));
    }
    let (source, only_in_force) = (definition.name.as_str(), true);
    let errand = &Errand::default();
    let building = Building { shared, source, report: &report, snapshot: &snapshot, mirror, errand, only_in_force };
    match building.run(&mut ContentCache::default()).await? {
        Err(findings) => {
            diagnostics.extend(findings);
            Ok(Preview::refused(diagnostics))
        }
        Ok(desired) => plan(shared, definition, &desired, diagnostics).await,
    }
}

impl From<BuildFailure> for PullError {
    fn from(failure: BuildFailure) -> Self {
        match failure {
            BuildFailure::Git(error) => Self::Git(error),
            BuildFailure::Store(error) => Self::Store(error),
        }
    }
}

impl From<signatures::Failure> for PullError {
    fn from(failure: signatures::Failure) -> Self {
        match failure {
            signatures::Failure::Git(error) => Self::Git(error),
            signatures::Failure::Store(error) => Self::Store(error),
        }
    }
}

async fn plan(
    shared: &Shared,
    definition: &SourceDefinition,
    desired: &Desired,
    mut diagnostics: Vec<Diagnostic>,
) -> Result<Preview, PullError> {
    let (org, source) = (shared.config.org, definition.name.as_str());
    // Nobody writes desired state while it is read.
    let turn = shared.turn.lock().await;
    let mut transaction = shared.store.begin().await?;
    let stored = stored_manifests(&mut transaction, org, source).await?;
    let fleets = list_fleets(&mut transaction, org).await?;
    let keys = desired.manifests.iter().map(|row| (row.kind, row.name.clone()));
    let new: Vec<(Kind, String)> = keys.filter(|key| !stored.contains_key(key)).collect();
    let elsewhere = manifests_elsewhere(&mut transaction, org, source, &new).await?;
    let rules = trust::rules(&mut transaction, org, source).await?;
    let planning = Planner { org, source, stored: &stored, fleets: &fleets, desired, cache: &shared.cache }
        .start(&mut transaction)
        .await?;
    drop(transaction);
    drop(turn);
    let (plan, _) = planning.finish().await?;
    if desired.manifests.is_empty() && !stored.is_empty() {
        let message = format!("no manifest is left below {:?}", definition.path);
        diagnostics.push(finding_in_file(&definition.path, codes::NOTHING_LEFT, message));
        return Ok(Preview::refused(diagnostics));
    }
    for place in &elsewhere {
        let message = format!("{} {} is already defined by source {}", place.kind, place.name, place.source);
        diagnostics.push(finding_in_file(&definition.path, codes::DEFINED_ELSEWHERE, message));
    }
    if !elsewhere.is_empty() {
        return Ok(Preview::refused(diagnostics));
    }
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let limits = rules.limits(wide(plan.radius.fleets_before), wide(plan.radius.devices_before));
    let holds = plan.radius.exceeds(&limits).into_iter().map(|exceeded| exceeded.sentence).collect();
    Ok(Preview { diagnostics, plan: Some((plan, holds)), landing: None, signatures: None })
}
