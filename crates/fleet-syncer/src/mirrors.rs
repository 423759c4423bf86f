//! One mirror, one poll and one backoff for each repository, revision and credential, however many sources and manifests
//! use it.
//!
//! Whoever wants to know where a revision points is told what was seen a moment ago, unless something woke it since then.
//! A failure is everybody's failure: until its pause is over nobody asks the host again. Files are read from the mirror
//! without any of this; see `fleet_git` for what happens when it is replaced meanwhile.

mod bring;
mod disk;
mod pulls;
mod rate;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fleet_git::{FetchOutcome, GitError, Known, Remote, WorkerPool};
use fleet_model::{CommitId, Digest};
use fleet_runtime::{Backoff, Clock as _, SystemClock};
use tokio::sync::{Mutex, Notify, watch};

use crate::config::SyncerConfig;
use crate::metrics::SyncerMetrics;

use rate::{HostRate, Hurry, Rates};

/// Part of the poll interval for which an answer of a host serves others who poll: a poll comes after 0.8 intervals at
/// the earliest, so one that polls alone always asks.
const SHARED_PART: f64 = 0.75;
/// The longest pause after failures, unless polls are farther apart.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What tells one mirror from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    url: String,
    revision: String,
    /// The name of the credential, or the prefix that gives it; they stay the same while the service runs.
    credential: String,
}

impl Key {
    fn directory_name(&self) -> String {
        let id = Digest::of(format!("{}\n{}\n{}", self.url, self.revision, self.credential).as_bytes()).hex();
        format!("{}{}", disk::PREFIX, &id[..24])
    }
}

/// All mirrors.
#[derive(Debug)]
pub(crate) struct Mirrors {
    config: Arc<SyncerConfig>,
    metrics: SyncerMetrics,
    known: StdMutex<HashMap<Key, Arc<SharedMirror>>>,
    pulls: StdMutex<pulls::Wanted>,
    rates: Rates,
    /// Something was fetched, or the sources are known: have a look at the disk.
    chores: Arc<Notify>,
}

impl Mirrors {
    pub(crate) fn new(config: Arc<SyncerConfig>, metrics: SyncerMetrics) -> Self {
        let rates = Rates::new(config.polls_per_second_per_host);
        let pulls = StdMutex::default();
        Self { config, metrics, known: StdMutex::default(), pulls, rates, chores: Arc::default() }
    }

    /// The mirror of a repository at a revision. Whoever keeps it keeps it from being removed as unused.
    pub(crate) fn of(&self, url: &str, revision: &str, credential: Option<&str>) -> Arc<SharedMirror> {
        let revision = Some(revision.trim()).filter(|revision| !revision.is_empty()).unwrap_or("HEAD");
        let by = match credential {
            Some(name) => format!("name {name}"),
            None => self.config.credential_prefix(url),
        };
        let key = Key { url: normal(url), revision: revision.to_owned(), credential: by };
        let path = self.config.mirrors.join(key.directory_name());
        self.at(key, path, (url, revision, credential))
    }

    fn at(
        &self,
        key: Key,
        path: PathBuf,
        (url, revision, credential): (&str, &str, Option<&str>),
    ) -> Arc<SharedMirror> {
        let mut known = lock(&self.known);
        let mirror = known.entry(key).or_insert_with(|| {
            let cap = LONGEST_PAUSE.max(self.config.poll_interval);
            Arc::new(SharedMirror {
                path,
                rate: self.rates.of(&normal(url)),
                hurry: watch::Sender::default(),
                config: Arc::clone(&self.config),
                url: url.to_owned(),
                credential: credential.map(str::to_owned),
                revision: revision.to_owned(),
                shared_for: self.config.poll_interval.mul_f64(SHARED_PART),
                seen: Mutex::default(),
                fetching: Mutex::default(),
                observing_gate: StdMutex::new(Gate::new(cap)),
                fetching_gate: StdMutex::new(Gate::new(cap)),
                heard: watch::Sender::default(),
                users: AtomicUsize::default(),
                usage: StdMutex::new(Usage { used: now(), wanted: Instant::now(), asked: None, busy_until: None }),
                fetched: StdMutex::default(),
                standings: StdMutex::default(),
                metrics: self.metrics.clone(),
                chores: Arc::clone(&self.chores),
            })
        });
        Arc::clone(mirror)
    }

    /// Somebody else may have applied what was fetched since: what this process fetched last is not the last word.
    pub(crate) fn forget_fetched(&self) {
        for mirror in lock(&self.known).values() {
            *lock(&mirror.fetched) = None;
        }
    }

    /// All sources have their mirrors by now; what else lies on the disk may be looked at.
    pub(crate) fn settled(&self) {
        self.chores.notify_one();
    }
}

/// One form for URLs that certainly name the same repository. Nothing is contacted with it.
fn normal(url: &str) -> String {
    let trimmed = match url.trim_end_matches('/') {
        "" => url,
        trimmed if trimmed.ends_with(':') => url,
        trimmed => trimmed,
    };
    let Some((scheme, rest)) = trimmed.split_once("://") else { return trimmed.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    if scheme == "file" {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        // Only a plain path means the same in both forms: escapes are decoded in URLs.
        return if path.contains('%') { format!("file://{path}") } else { path.to_owned() };
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let at = if user.is_empty() { "" } else { "@" };
    let host = host.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        "ssh" | "git+ssh" => ":22",
        "git" => ":9418",
        _ => "",
    };
    let host = host.strip_suffix(port).unwrap_or(&host);
    format!("{scheme}://{user}{at}{host}{path}")
}

/// How old what one is told may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// An answer to a question that was asked earlier will not do.
    since: Instant,
    /// Something woke the asker then: a pause after a failure before that does not count.
    woken: Option<Instant>,
}

/// What those who wait for news are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// What the revision pointed at last.
    commit: Option<CommitId>,
    failing: bool,
}

/// When the host may be asked again.
#[derive(Debug)]
struct Gate {
    backoff: Backoff,
    failed: Option<Failed>,
}

#[derive(Debug, Clone)]
struct Failed {
    began: Instant,
    error: GitError,
    /// Our own pause; somebody who was woken later may ask all the same.
    pause_until: Instant,
    /// What the host asked for; it binds everybody.
    shut_until: Option<Instant>,
}

impl Gate {
    fn new(cap: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1).min(cap), cap).expect("the base is no more than the cap");
        Self { backoff, failed: None }
    }

    /// The failure that stands for an answer now.
    fn closed(&self, woken: Option<Instant>, now: Instant) -> Option<GitError> {
        let failed = self.failed.as_ref()?;
        let is_shut = failed.shut_until.is_some_and(|until| now < until);
        let pauses = now < failed.pause_until && woken.is_none_or(|at| at <= failed.began);
        (is_shut || pauses).then(|| failed.error.clone())
    }

    fn note(&mut self, began: Instant, now: Instant, error: Option<&GitError>) {
        match error {
            None => {
                self.backoff.reset();
                self.failed = None;
            }
            Some(error) => {
                let pause_until = now + self.backoff.next_delay();
                let shut_until = error.retry_after.map(|wait| now + wait);
                self.failed = Some(Failed { began, error: error.clone(), pause_until, shut_until });
            }
        }
    }

    fn opens_at(&self) -> Option<Instant> {
        self.failed.as_ref().map(|failed| failed.shut_until.unwrap_or(failed.pause_until).max(failed.pause_until))
    }
}

#[derive(Debug)]
struct Usage {
    /// When its files were used last.
    used: SystemTime,
    /// When somebody asked about the repository last.
    wanted: Instant,
    /// When the host was asked last.
    asked: Option<Instant>,
    /// Somebody may be reading files until then.
    busy_until: Option<Instant>,
}

/// One mirror, shared by all who use the repository at this revision.
#[derive(Debug)]
pub(crate) struct SharedMirror {
    path: PathBuf,
    config: Arc<SyncerConfig>,
    url: String,
    /// The name of the credential, when one is named.
    credential: Option<String>,
    revision: String,
    shared_for: Duration,
    /// How often the host may be asked; of one on the disk any time.
    rate: Option<Arc<HostRate>>,
    /// How many wait for an answer who were woken since the host was asked last.
    hurry: watch::Sender<usize>,
    /// When the host was asked last, and what it said. The lock is held while it is asked.
    seen: Mutex<Option<(Instant, Result<CommitId, GitError>)>>,
    /// Held while the mirror changes.
    fetching: Mutex<()>,
    observing_gate: StdMutex<Gate>,
    fetching_gate: StdMutex<Gate>,
    heard: watch::Sender<Heard>,
    users: AtomicUsize,
    usage: StdMutex<Usage>,
    /// What was fetched last.
    fetched: StdMutex<Option<CommitId>>,
    /// The commits that those are at who share it, each by a number of its own.
    standings: StdMutex<(u64, BTreeMap<u64, CommitId>)>,
    metrics: SyncerMetrics,
    chores: Arc<Notify>,
}

/// Tells a mirror which commit one of those is at who share it, until dropped.
#[derive(Debug)]
pub(crate) struct Standing(Arc<SharedMirror>, u64);

impl Standing {
    /// It is at this commit now.
    pub(crate) fn at(&self, commit: Option<&CommitId>) {
        let mut standings = lock(&self.0.standings);
        match commit {
            Some(commit) if standings.1.get(&self.1) == Some(commit) => {}
            Some(commit) => drop(standings.1.insert(self.1, commit.clone())),
            None => drop(standings.1.remove(&self.1)),
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.at(None);
    }
}

/// Keeps a mirror from being evicted, until dropped.
#[derive(Debug)]
pub(crate) struct InUse(Arc<SharedMirror>);

impl Drop for InUse {
    fn drop(&mut self) {
        lock(&self.0.usage).used = now();
        self.0.users.fetch_sub(1, Ordering::SeqCst);
        // What had to stay until now may go.
        self.0.chores.notify_one();
    }
}

impl SharedMirror {
    /// The bare repository.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The repository, with what is needed to read it now: credentials are replaced while the service runs.
    ///
    /// # Errors
    /// `AuthFailed` when the credential that is named is none for this URL.
    pub(crate) fn remote(&self) -> Result<Remote, GitError> {
        match &self.credential {
            Some(name) => self.config.remote_with(&self.url, name),
            None => Ok(self.config.remote(&self.url)),
        }
    }

    /// What a poll wants to know, of somebody who was woken last at `woken`.
    pub(crate) fn poll(&self, woken: Option<Instant>) -> Wanted {
        self.no_older_than(self.shared_for, woken)
    }

    /// The same, from at most `age` ago.
    pub(crate) fn no_older_than(&self, age: Duration, woken: Option<Instant>) -> Wanted {
        let now = Instant::now();
        let since = now.checked_sub(age.min(self.shared_for)).unwrap_or(now);
        Wanted { since: woken.map_or(since, |woken| woken.max(since)), woken }
    }

    /// The commit that the revision points at.
    ///
    /// # Errors
    /// Those of [`WorkerPool::observe`], also when somebody else met them a moment ago.
    pub(crate) async fn observe(&self, git: &WorkerPool, wanted: Wanted) -> Result<CommitId, GitError> {
        let called = Instant::now();
        let asked = {
            let mut usage = lock(&self.usage);
            usage.wanted = called;
            usage.asked
        };
        let _hurry = wanted.woken.filter(|at| asked.is_none_or(|asked| *at > asked)).map(|_| Hurry::new(&self.hurry));
        let mut seen = self.seen.lock().await;
        if let Some((began, result)) = &*seen {
            let earliest = if result.is_ok() { wanted.since } else { called };
            if *began >= earliest {
                self.metrics.shared_looks.inc();
                return result.clone();
            }
        }
        let closed = lock(&self.observing_gate).closed(wanted.woken, Instant::now());
        if let Some(error) = closed {
            self.metrics.shared_looks.inc();
            return Err(error);
        }
        if let Some(rate) = &self.rate {
            rate.turn(self.hurry.subscribe()).await;
        }
        let began = Instant::now();
        lock(&self.usage).asked = Some(began);
        self.metrics.host_looks.inc();
        let result = match self.remote() {
            Ok(remote) => git.observe(&remote, &self.revision).await,
            Err(error) => Err(error),
        };
        lock(&self.observing_gate).note(began, Instant::now(), result.as_ref().err());
        *seen = Some((began, result.clone()));
        drop(seen);
        self.tell(result.as_ref().ok());
        result
    }

    /// Those who wait are told of a new commit and of a host that is back, not of one that went away.
    fn tell(&self, found: Option<&CommitId>) {
        self.heard.send_if_modified(|heard| match found {
            None => {
                heard.failing = true;
                false
            }
            Some(commit) => {
                let is_news = heard.failing || heard.commit.as_ref() != Some(commit);
                *heard = Heard { commit: Some(commit.clone()), failing: false };
                is_news
            }
        });
    }

    /// Brings what the revision points at into the mirror, once for all, and compares it with `base`.
    ///
    /// # Errors
    /// Those of [`WorkerPool::fetch`], also when somebody else met them a moment ago.
    pub(crate) async fn fetch(
        &self,
        git: &WorkerPool,
        base: Option<&CommitId>,
        wanted: Wanted,
    ) -> Result<FetchOutcome, GitError> {
        let _turn = self.fetching.lock().await;
        let began = Instant::now();
        let closed = lock(&self.fetching_gate).closed(wanted.woken, began);
        if let Some(error) = closed {
            return Err(error);
        }
        let seen = self.heard.borrow().commit.clone();
        let others = self.others(base);
        let known = Known { base, others: &others, seen: seen.as_ref() };
        let result = match self.remote() {
            Ok(remote) => git.fetch_known(&self.path, &remote, &self.revision, known).await,
            Err(error) => Err(error),
        };
        lock(&self.fetching_gate).note(began, Instant::now(), result.as_ref().err());
        if let Ok(outcome) = &result {
            *lock(&self.fetched) = Some(outcome.commit.clone());
            if let Some(why) = &outcome.rebuilt {
                tracing::info!(repository = fleet_git::redact_url(&self.url), why, "Built a mirror anew");
            }
            if let Some(why) = &outcome.not_repacked {
                let repository = fleet_git::redact_url(&self.url);
                tracing::warn!(repository, why, "Cannot put the packs of a mirror together; trying again in an hour");
            }
        }
        lock(&self.usage).used = now();
        self.chores.notify_one();
        result
    }

    /// Somebody who shares the mirror, and says which commit it is at.
    pub(crate) fn standing(self: &Arc<Self>) -> Standing {
        let mut standings = lock(&self.standings);
        standings.0 += 1;
        Standing(Arc::clone(self), standings.0)
    }

    /// The commits that others are at than somebody who is at `base`.
    fn others(&self, base: Option<&CommitId>) -> Vec<CommitId> {
        let standings = lock(&self.standings);
        let mut others: Vec<CommitId> = standings.1.values().filter(|at| base != Some(at)).cloned().collect();
        others.sort_unstable();
        others.dedup();
        others
    }

    /// What was fetched last, since the service started.
    pub(crate) fn fetched(&self) -> Option<CommitId> {
        lock(&self.fetched).clone()
    }

    /// How long nobody asks the host, after a failure.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let opens_at = |gate: &StdMutex<Gate>| lock(gate).opens_at();
        let until = opens_at(&self.observing_gate).max(opens_at(&self.fetching_gate))?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Tells when the revision points elsewhere, or the host is back.
    pub(crate) fn news(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// Keeps the mirror where it is while its files are read.
    pub(crate) fn in_use(self: &Arc<Self>) -> InUse {
        self.users.fetch_add(1, Ordering::SeqCst);
        InUse(Arc::clone(self))
    }

    /// The same for readers that do not say when they are done, for so long.
    pub(crate) fn in_use_for(&self, time: Duration) {
        let mut usage = lock(&self.usage);
        usage.used = now();
        usage.busy_until = Some(Instant::now() + time);
    }

    fn is_in_use(&self, now: Instant) -> bool {
        self.users.load(Ordering::SeqCst) > 0 || lock(&self.usage).busy_until.is_some_and(|until| now < until)
    }
}

/// The clock that the times of files come from.
fn now() -> SystemTime {
    SystemClock.now().into()
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
