//! One source: looks at its host, reads what is new, and applies or refuses it. Can be run at any time and twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fleet_git::WorkerPool;
use fleet_lint::{codes, has_errors};
use fleet_model::{CommitId, Condition, Diagnostic, Digest};
use fleet_runtime::Clock;
use fleet_store::{Lease, SourceDefinition, SourceRow, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::absent::Absent;
use crate::announced::Announcements;
use crate::building::Building;
use crate::conditions::{self, RefusalReason};
use crate::config::SyncerConfig;
use crate::dependencies::Dependencies;
use crate::desired::finding_in_file;
use crate::errand::Errand;
use crate::inputs::ContentCache;
use crate::laps::Laps;
use crate::lint_config::{LintConfigs, ReadConfig, judge};
use crate::metrics::SyncerMetrics;
use crate::mirrors::{Heard, Mirrors, SharedMirror, Standing};
use crate::outbox::Outbox;
use crate::planning::blocking;
use crate::poll_notes::PollNotes;
use crate::revisions::RevisionCache;
use crate::secrets::Secrets;
use crate::snapshot::{Mirror, Snapshot, is_about_the_commit};
use crate::web::WebFiles;

mod applying;
mod behind;
mod control;
mod in_force;
mod outside;
mod quarantine;
pub(crate) use quarantine::QUARANTINED;
use quarantine::Quarantine;
mod steps;
use steps::{Checked, Refusal, Way};
pub(crate) use steps::{RunError, Step};
mod trusted;

/// What all sources share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<SyncerConfig>,
    pub(crate) store: Store,
    pub(crate) git: WorkerPool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: RevisionCache,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) dependencies: Dependencies,
    pub(crate) web: WebFiles,
    pub(crate) secrets: Secrets,
    pub(crate) metrics: SyncerMetrics,
    pub(crate) polls: PollNotes,
    /// Held by whoever writes desired state.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// What Git hosts are told.
    pub(crate) outbox: Outbox,
}

/// A source at work.
#[derive(Debug)]
pub(crate) struct Source {
    shared: Arc<Shared>,
    lease: Lease,
    definition: SourceDefinition,
    mirror: Arc<SharedMirror>,
    /// Tells the mirror which commit is in force.
    standing: Standing,
    news: watch::Receiver<Heard>,
    /// When something woke the source last.
    woken: Option<Instant>,
    applied: Option<CommitId>,
    conditions: Vec<Condition>,
    snapshot: Option<Snapshot>,
    contents: ContentCache,
    lint_configs: LintConfigs,
    /// All that waits in the applied commit waits for another version of the service: looking again changes nothing.
    only_waits: bool,
    /// The commit refused last, so that it is not read again. Not kept where another source may cure it.
    refused: Option<CommitId>,
    /// Something outside the source's commit may have changed what it gives.
    stale: bool,
    /// What was in force before desired state was dropped, and could not be brought back.
    unrestored: Option<CommitId>,
    noted_poll: Option<Timestamp>,
    /// When the database was found to hold nothing that a look at an unchanged host has to heed.
    quiet_since: Option<Timestamp>,
    /// Which of the commits tried last lacks a signature.
    distrusted: Option<usize>,
    /// The commit that waits for a person, and when that was found last.
    held: Option<(CommitId, Timestamp)>,
    /// When the suspension ends by itself.
    suspended_until: Option<Timestamp>,
    announcements: Announcements,
    /// The newest commit that was seen.
    observed: Option<CommitId>,
    behind: Option<behind::Noted>,
    flaps: behind::Flaps,
    quarantine: Quarantine,
    /// Its ResourceSync left Git.
    leaving: bool,
    /// Files of web servers have a pace of their own.
    uses_web: bool,
    /// So have secrets.
    uses_secrets: bool,
    /// The rules that what is said of signatures was judged by.
    judged_by: Option<Digest>,
    /// Hosts that kept this look waiting.
    errand: Errand,
    /// Values of placeholders that stood for nothing when the source was planned last.
    absent: Absent,
    /// What was heard of them last, by place and what is pinned of it.
    secret_marks: HashMap<(String, Digest), Result<Digest, String>>,
}

impl Source {
    pub(crate) fn new(shared: Arc<Shared>, lease: Lease, row: SourceRow) -> Self {
        let definition = row.definition;
        let mirror = shared.mirrors.of(&definition.url, &definition.revision, definition.credential.as_deref());
        let news = mirror.news();
        let standing = mirror.standing();
        standing.at(row.applied_commit.as_ref());
        let mut conditions = row.conditions;
        let quarantine = Quarantine::noted(&conditions, row.observed_commit.as_deref());
        if let Ok(remote) = mirror.remote() {
            conditions::transport(&mut conditions, &remote, &shared.clock.now_rfc3339());
        }
        Self {
            shared,
            lease,
            definition,
            mirror,
            standing,
            news,
            woken: None,
            applied: row.applied_commit,
            conditions,
            snapshot: None,
            contents: ContentCache::default(),
            lint_configs: LintConfigs::default(),
            only_waits: false,
            refused: None,
            stale: false,
            unrestored: None,
            noted_poll: None,
            quiet_since: None,
            distrusted: None,
            held: None,
            suspended_until: None,
            announcements: Announcements::default(),
            observed: None,
            behind: None,
            flaps: behind::Flaps::default(),
            quarantine,
            leaving: row.leaving,
            uses_web: false,
            uses_secrets: false,
            judged_by: None,
            errand: Errand::default(),
            absent: Absent::default(),
            secret_marks: HashMap::new(),
        }
    }

    /// Looks once. A failure is noted on the source and changes nothing else.
    pub(crate) async fn run(&mut self) -> Result<Step, RunError> {
        let began = self.shared.clock.now();
        let held = |source: &Self| source.held.as_ref().map(|(commit, _)| commit.clone());
        let before = (self.applied.clone(), self.refused.clone(), held(self));
        let conditions_before = self.conditions.clone();
        let result = self.look().await;
        self.standing.at(self.applied.as_ref());
        if !matches!(result, Ok(Step::Unchanged)) {
            self.quiet_since = None;
        }
        match &result {
            Ok(step) => {
                if self.observed.as_ref().is_none_or(|commit| !self.quarantine.rests(commit, began)) {
                    self.quarantine.over();
                }
                let found_news = match step {
                    // What a suspended source sees is judged once it is resumed.
                    Step::Unchanged | Step::Suspended => false,
                    Step::Held => before.2 != held(self),
                    Step::Applied(_) => before.0 != self.applied,
                    Step::Refused => before.1 != self.refused,
                };
                if found_news {
                    self.shared.outbox.wake();
                    self.shared.outbox.wake_pulls(&self.definition.name);
                }
                self.announcements.looked(began, self.shared.clock.now(), found_news);
                self.judge_announcements().await;
                self.note_behind().await;
            }
            Err(_) => self.announcements.failed(),
        }
        match &result {
            Ok(step) => self.shared.metrics.observe_step(step),
            Err(RunError::Git(error)) => {
                self.shared.metrics.failures.inc();
                warn!(source = self.definition.name, %error, "Cannot read a source; its last commit stays in force");
                let now = self.shared.clock.now_rfc3339();
                let before = self.conditions.clone();
                conditions::unreachable(&mut self.conditions, error, self.applied.is_some(), &now);
                if self.applied.is_none() {
                    // What is said of a refused commit was replaced: it is to be said again.
                    self.refused = None;
                }
                if quarantine::is_about_the_commit(error) {
                    self.note_failure(&error.to_string());
                }
                if before != self.conditions {
                    self.note(self.observed.as_ref(), None).await?;
                }
            }
            // Suspended, moved or removed while a commit was read: the next look goes by that.
            Err(RunError::Store(error @ StoreError::Conflict { .. })) => {
                info!(source = self.definition.name, %error, "Looking at a source again");
                self.forget();
            }
            Err(RunError::Store(error)) => {
                self.shared.metrics.failures.inc();
                warn!(source = self.definition.name, %error, "Cannot write a source; trying again");
                // What the database holds now is not known: look again before the next write.
                self.forget();
                if !error.is_unavailable() {
                    let now = self.shared.clock.now_rfc3339();
                    conditions::not_written(&mut self.conditions, &error.to_string(), &now);
                    self.note(None, None).await?;
                }
            }
        }
        self.tell_reachability(&conditions_before).await;
        result
    }

    /// Counts news that webhooks missed. It is a number for people: that it cannot be had fails nothing.
    async fn judge_announcements(&mut self) {
        if !self.announcements.is_open() {
            return;
        }
        let (shared, now) = (Arc::clone(&self.shared), self.shared.clock.now());
        // Nothing is written: it reads when the last hint came, and counts in this process alone.
        let Ok(mut transaction) = shared.store.begin().await else { return };
        let name = &self.definition.name;
        if let Ok(true) = self.announcements.judge(&mut transaction, shared.config.org, name, now).await {
            info!(source = name, "A poll found what no webhook announced");
            shared.metrics.missed_by_webhooks(name);
        }
    }

    /// A look took longer than allowed and was given up.
    pub(crate) fn was_given_up(&mut self) {
        self.asked();
        self.note_failure("a look at it took longer than allowed");
    }

    fn note_failure(&mut self, error: &str) {
        let Some(commit) = self.observed.clone().filter(|commit| self.applied.as_ref() != Some(commit)) else { return };
        if let Some(failures) = self.quarantine.failed(&commit, self.shared.clock.now()) {
            let now = self.shared.clock.now_rfc3339();
            conditions::quarantined(&mut self.conditions, &commit, failures, error, &now);
        }
    }

    /// Somebody wants to know: the next look is noted whatever it finds.
    pub(crate) fn asked(&mut self) {
        self.quarantine.wake();
        self.noted_poll = None;
        self.quiet_since = None;
        self.held = None;
        // It may be about a pull request.
        self.shared.outbox.wake_pulls(&self.definition.name);
    }

    /// Something woke the source then: what was seen of its host before does not count.
    pub(crate) fn woken(&mut self, at: Instant) {
        self.woken = Some(at);
        self.shared.dependencies.woken(at);
    }

    /// Waits until somebody else saw another commit at the host, or that it is back.
    pub(crate) async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How long to wait after a failure of the host, which all who use it share.
    pub(crate) fn pause(&self) -> Option<std::time::Duration> {
        self.mirror.pause()
    }

    fn forget(&mut self) {
        self.stale = true;
        self.refused = None;
    }

    /// Asks what is newest, or hears what others were told a moment ago.
    async fn observe(&mut self) -> Result<CommitId, RunError> {
        let commit = self.mirror.observe(&self.shared.git, self.mirror.poll(self.woken)).await;
        self.news.mark_unchanged();
        let commit = commit?;
        self.observed = Some(commit.clone());
        Ok(commit)
    }

    async fn look(&mut self) -> Result<Step, RunError> {
        if self.leaving {
            return self.leave().await;
        }
        let shared = Arc::clone(&self.shared);
        let mut laps = Laps::start();
        self.observed = None;
        self.errand = Errand::default();
        let mut seen = None;
        if self.is_quiet() {
            let commit = self.observe().await?;
            if self.applied.as_ref() == Some(&commit) {
                self.note_poll(&commit).await?;
                return Ok(Step::Unchanged);
            }
            seen = Some(commit);
        }
        // First: a suspension is over also while the host is away.
        let suspension = self.suspension().await?;
        let commit = match seen {
            Some(commit) => commit,
            None => self.observe().await?,
        };
        if let Some(suspension) = &suspension {
            self.refresh_applied().await?;
            if self.applied.is_some() || self.position_here().await?.is_none() {
                return self.stay(&commit, suspension).await;
            }
        } else if self.refused.as_ref() == Some(&commit) {
            self.note_poll(&commit).await?;
            return Ok(Step::Refused);
        } else if self.is_known_to_wait(&commit) {
            self.note_poll(&commit).await?;
            return Ok(Step::Held);
        } else if self.quarantine.rests(&commit, shared.clock.now()) {
            self.note_poll(&commit).await?;
            return Ok(Step::Refused);
        }
        // Back at the applied commit after a refused or held one: what is shown must be about this commit again.
        self.stale |= conditions::is_refused(&self.conditions) || conditions::is_held(&self.conditions);
        if self.applied.as_ref() == Some(&commit) && !self.stale && !self.outside_changed().await? {
            self.judge_in_force(&commit).await?;
            self.note_poll(&commit).await?;
            return Ok(Step::Unchanged);
        }
        laps.lap("observe");
        self.refresh_applied().await?;
        let lost = if self.applied.is_none() { self.position_here().await? } else { None };
        // Moved to another path: what is new is compared with what was in force, as ever.
        let moved = if self.applied.is_none() && lost.is_none() { self.position_at_branch().await? } else { None };
        let base = self.applied.clone().or(lost.clone()).or(moved.clone());
        let _in_use = self.mirror.in_use();
        let fetched = self.mirror.fetch(&shared.git, base.as_ref(), self.mirror.poll(self.woken)).await?;
        let commit = fetched.commit;
        self.observed = Some(commit.clone());
        laps.lap("fetch");
        let rewritten = match base.filter(|_| fetched.forced) {
            Some(base) => Some(self.rewritten(base, &commit).await?),
            None => None,
        };
        // Desired state was dropped: first what was in force, whatever becomes of the newest commit. Also when it is the newest
        // one: what it has from elsewhere may have moved since.
        self.unrestored = None;
        if let Some(last) = lost.clone() {
            self.unrestored = (!self.restore(&last).await?).then_some(last);
        } else if self.applied.is_none() {
            self.unrestored = self.lost_elsewhere().await?;
        }
        if let Some(suspension) = &suspension {
            return self.stay(&commit, suspension).await;
        }
        let before = lost.or(moved.filter(|moved| *moved != commit));
        match self.advance(&commit, before.as_ref(), rewritten, &mut laps).await? {
            Ok(step) => Ok(step),
            Err(refusal) => self.refuse(commit, refusal).await,
        }
    }

    /// Reads a commit of the mirror and applies it, or says why not.
    async fn take(&mut self, commit: &CommitId, way: Way, laps: &mut Laps) -> Result<Result<Step, Refusal>, RunError> {
        let shared = Arc::clone(&self.shared);
        let shared_mirror = Arc::clone(&self.mirror);
        let mirror = Mirror { git: &shared.git, path: shared_mirror.path() };
        let snapshot = match Snapshot::read(mirror, commit, &self.definition.path, self.snapshot.as_ref()).await {
            Ok(snapshot) => snapshot,
            Err(error) if is_about_the_commit(&error) => {
                let finding = finding_in_file(&self.definition.path, codes::NOT_A_FILE, error.message);
                return Ok(Err(Refusal { reason: RefusalReason::ParseError, diagnostics: vec![finding] }));
            }
            Err(error) => return Err(error.into()),
        };
        let (lint_commit, config, own) = self.lint_configs(mirror, &snapshot).await?;
        laps.lap("read");
        let report = blocking("checking", snapshot.check(&config.0)).await?;
        let mut diagnostics = self.irregular_files(&snapshot);
        diagnostics.extend(own.1.iter().cloned());
        diagnostics.extend(report.diagnostics.iter().cloned());
        let path_missing = !snapshot.has_path(&self.definition.path);
        if path_missing {
            let message = format!("the source's path {:?} is not in commit {}", self.definition.path, commit.short());
            diagnostics.push(finding_in_file(&self.definition.path, codes::SOURCE_PATH, message));
        }
        laps.lap("check");
        if has_errors(&diagnostics) {
            let reason = if path_missing { RefusalReason::PathMissing } else { RefusalReason::ParseError };
            self.snapshot = Some(snapshot);
            return Ok(Err(Refusal { reason, diagnostics }));
        }
        let (source, only_in_force, errand) = (self.definition.name.as_str(), false, &self.errand);
        let building =
            Building { shared: &shared, source, report: &report, snapshot: &snapshot, mirror, errand, only_in_force };
        let built = match &way {
            Way::Forward(..) => building.run(&mut self.contents).await?,
            Way::Back => building.run_again(&mut self.contents).await?,
        };
        shared.web.names(&self.definition.name, self.errand.files());
        laps.lap("build");
        match built {
            Err(findings) => {
                diagnostics.extend(findings);
                self.snapshot = Some(snapshot);
                Ok(Err(Refusal { reason: RefusalReason::ParseError, diagnostics }))
            }
            Ok(desired) => {
                let checked = Checked { snapshot, report, lint_commit, diagnostics };
                self.apply(checked, &desired, way, laps).await
            }
        }
    }

    /// The configuration that judges a commit, with the commit it comes from when that is another, and its own.
    async fn lint_configs(
        &mut self,
        mirror: Mirror<'_>,
        snapshot: &Snapshot,
    ) -> Result<(Option<CommitId>, ReadConfig, ReadConfig), RunError> {
        let own = self.lint_configs.of_snapshot(mirror, snapshot).await?;
        let position = self.position().await?;
        let Some(judge) = judge(&snapshot.commit, self.applied.as_ref(), position.as_ref()) else {
            return Ok((None, Arc::clone(&own), own));
        };
        match self.lint_configs.of_commit(mirror, &judge).await? {
            Some(config) => Ok((Some(judge), config, own)),
            None => {
                info!(source = self.definition.name, commit = %judge, "The mirror does not have the commit applied last");
                Ok((None, Arc::clone(&own), own))
            }
        }
    }

    /// The database is the truth about which commit is applied.
    async fn refresh_applied(&mut self) -> Result<(), StoreError> {
        let (store, org) = (&self.shared.store, self.shared.config.org);
        self.applied = fleet_store::applied_commit(store.pool(), org, &self.definition.name).await?;
        Ok(())
    }

    fn irregular_files(&self, snapshot: &Snapshot) -> Vec<Diagnostic> {
        let finding = |(path, _)| {
            let message = "is a symbolic link or a submodule; manifests must be regular files";
            finding_in_file(path, codes::NOT_A_FILE, format!("{path} {message}"))
        };
        snapshot.irregular_candidates(&self.definition.path).map(finding).collect()
    }
}
