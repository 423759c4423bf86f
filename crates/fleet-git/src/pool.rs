//! The side of the service: workers on demand, one request each, two deadlines.

mod fairness;
mod process;
mod ways;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleet_model::CommitId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::error::{GitError, GitErrorKind};
use crate::object_id::ObjectId;
use crate::remote::Remote;
use crate::wire::{Answer, Change, CommitSubject, FetchOutcome, History, Known, Merge, Op, Request, TreeEntry};

use fairness::Hosts;
use process::{Received, Worker};
use ways::Ways;

/// At most this many files or changes per answer.
const MAX_ENTRIES: usize = 200_000;

/// How to start a worker: the program that ends up in [`crate::worker_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// An absolute path, usually that of the service itself.
    pub program: PathBuf,
    /// Its arguments, usually `git-worker`.
    pub args: Vec<OsString>,
    /// Variables on top of the few that workers inherit (`PATH`, `TMPDIR`, `SSL_CERT_*`, `*_PROXY`). Not for secrets.
    pub env: Vec<(OsString, OsString)>,
}

impl WorkerCommand {
    /// `program` with `args`, with no variables of its own.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { program: program.into(), args: args.into_iter().map(Into::into).collect(), env: Vec::new() }
    }
}

/// What workers may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For a connection to be made.
    pub connect: Duration,
    /// Without any sign of life from the worker.
    pub no_progress: Duration,
    /// For a whole request, including the wait for a free worker.
    pub total: Duration,
    /// Workers at the same time; more requests wait.
    pub max_workers: usize,
    /// Writable memory of one worker, in bytes.
    pub memory: u64,
    /// The largest pack that a host may send, in bytes.
    pub pack: u64,
    /// Requests after which a worker is replaced.
    pub requests_per_worker: u32,
    /// How long an idle worker is kept.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            no_progress: Duration::from_secs(15),
            total: Duration::from_secs(120),
            max_workers: 4,
            memory: 2 << 30,
            pack: 2 << 30,
            requests_per_worker: 200,
            idle: Duration::from_secs(60),
        }
    }
}

/// Git, as the service sees it. Cloning shares the workers.
///
/// Every method may be cancelled by dropping its future; the worker that served it is killed then. All errors are
/// [`GitError`]; besides the kinds that a method names, each may fail with `DeadlineExceeded` and `WorkerDied`.
#[derive(Debug, Clone)]
pub struct WorkerPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    command: WorkerCommand,
    limits: Limits,
    free: Semaphore,
    hosts: Hosts,
    ways: Ways,
    idle: Mutex<Vec<Worker>>,
}

impl WorkerPool {
    /// A pool without workers yet.
    pub fn new(command: WorkerCommand, limits: Limits) -> Self {
        let free = Semaphore::new(limits.max_workers.clamp(1, Semaphore::MAX_PERMITS));
        let hosts = Hosts::new(limits.max_workers);
        Self {
            inner: Arc::new(Inner {
                command,
                limits,
                free,
                hosts,
                ways: Ways::default(),
                idle: Mutex::new(Vec::new()),
            }),
        }
    }

    /// The commit that `revision` (a branch, a tag, `HEAD`, `refs/…` or a full commit id) points at on the host. An unchanged
    /// poll moves a few hundred bytes, whatever the size of the repository.
    ///
    /// # Errors
    /// `HostUnreachable`, `AuthFailed`, `RateLimited`, `RefMissing`, `UnsupportedScheme`.
    pub async fn observe(&self, remote: &Remote, revision: &str) -> Result<CommitId, GitError> {
        let long_way = self.inner.ways.is_long(&remote.url);
        let op = Op::ObserveRef { remote: remote.clone(), revision: revision.to_owned(), long_way };
        let answer = self.call(op, format!("looking at {}", remote.display_url()), Received::default()).await;
        self.inner.ways.note(&remote.url, long_way, answer.as_ref().err());
        let (Answer::Observed { commit }, _) = answer? else { return Err(unexpected()) };
        Ok(commit)
    }

    /// Brings `revision` with its history into the bare repository `mirror` (an absolute path; created when absent, built anew
    /// when damaged) and compares it with `base`, the commit that the caller knows.
    ///
    /// # Errors
    /// Those of [`WorkerPool::observe`], `TooLarge` when the host sends more than [`Limits::pack`], `DiskFull`, and `Corrupt` when even a new
    /// mirror is not readable.
    pub async fn fetch(
        &self,
        mirror: &Path,
        remote: &Remote,
        revision: &str,
        base: Option<&CommitId>,
    ) -> Result<FetchOutcome, GitError> {
        self.fetch_seen(mirror, remote, revision, base, None).await
    }

    /// As [`WorkerPool::fetch`], for a revision that [`WorkerPool::observe`] saw at commit `seen` a moment ago: when the
    /// mirror holds that commit, the host is not asked again.
    ///
    /// # Errors
    /// Those of [`WorkerPool::fetch`].
    pub async fn fetch_seen(
        &self,
        mirror: &Path,
        remote: &Remote,
        revision: &str,
        base: Option<&CommitId>,
        seen: Option<&CommitId>,
    ) -> Result<FetchOutcome, GitError> {
        self.fetch_known(mirror, remote, revision, Known { base, seen, others: &[] }).await
    }

    /// As [`WorkerPool::fetch`], for a mirror that several use.
    ///
    /// # Errors
    /// Those of [`WorkerPool::fetch`].
    pub async fn fetch_known(
        &self,
        mirror: &Path,
        remote: &Remote,
        revision: &str,
        known: Known<'_>,
    ) -> Result<FetchOutcome, GitError> {
        let op = Op::Fetch {
            mirror: mirror.to_owned(),
            remote: remote.clone(),
            revision: revision.to_owned(),
            base: known.base.cloned(),
            others: known.others.to_vec(),
            seen: known.seen.cloned(),
            max_pack_bytes: self.inner.limits.pack,
        };
        let (answer, _) = self.call(op, format!("fetching {}", remote.display_url()), Received::default()).await?;
        let Answer::Fetched(outcome) = answer else { return Err(unexpected()) };
        Ok(outcome)
    }

    /// All files below `path` in a fetched commit, sorted by path; at most 200,000. An empty path is the root.
    ///
    /// # Errors
    /// `PathMissing`, `NotUtf8Path`, `RefMissing` (fetch first), `TooLarge`, `Corrupt` (fetch again).
    pub async fn list_tree(&self, mirror: &Path, commit: &CommitId, path: &str) -> Result<Vec<TreeEntry>, GitError> {
        let op = || Op::ListTree {
            mirror: mirror.to_owned(),
            commit: commit.clone(),
            path: path.to_owned(),
            max_entries: MAX_ENTRIES,
        };
        let doing = format!("listing the files of {}", commit.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::Tree { entries } = answer else { return Err(unexpected()) };
        Ok(entries)
    }

    /// All files at or below any of `paths` in a fetched commit, sorted by path; at most 200,000. Paths that are not there
    /// have none.
    ///
    /// # Errors
    /// `NotUtf8Path`, `RefMissing` (fetch first), `TooLarge`, `Corrupt` (fetch again).
    pub async fn list_places(
        &self,
        mirror: &Path,
        commit: &CommitId,
        paths: &[String],
    ) -> Result<Vec<TreeEntry>, GitError> {
        let op = || Op::ListPlaces {
            mirror: mirror.to_owned(),
            commit: commit.clone(),
            paths: paths.to_vec(),
            max_entries: MAX_ENTRIES,
        };
        let doing = format!("listing files of {}", commit.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::Tree { entries } = answer else { return Err(unexpected()) };
        Ok(entries)
    }

    /// What differs at or below any of `paths` from one fetched commit to another, sorted by path, without rename
    /// detection. A path that is missing in one of them has no files there: whether that means deletion is for the caller
    /// to judge.
    ///
    /// # Errors
    /// Those of [`WorkerPool::list_places`].
    pub async fn diff_places(
        &self,
        mirror: &Path,
        from: &CommitId,
        to: &CommitId,
        paths: &[String],
    ) -> Result<Vec<Change>, GitError> {
        let op = || Op::DiffPlaces {
            mirror: mirror.to_owned(),
            from: from.clone(),
            to: to.clone(),
            paths: paths.to_vec(),
            max_entries: MAX_ENTRIES,
        };
        let doing = format!("comparing files of {} with {}", from.short(), to.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::Changes { changes } = answer else { return Err(unexpected()) };
        Ok(changes)
    }

    /// What differs below `path` from one fetched commit to another, sorted by path, without rename detection. A path that is
    /// missing in `from` counts as empty there; one that is missing in `to` is an error, never a deletion.
    ///
    /// # Errors
    /// Those of [`WorkerPool::list_tree`].
    pub async fn diff(
        &self,
        mirror: &Path,
        from: &CommitId,
        to: &CommitId,
        path: &str,
    ) -> Result<Vec<Change>, GitError> {
        let op = || Op::Diff {
            mirror: mirror.to_owned(),
            from: from.clone(),
            to: to.clone(),
            path: path.to_owned(),
            max_entries: MAX_ENTRIES,
        };
        let doing = format!("comparing {} with {}", from.short(), to.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::Changes { changes } = answer else { return Err(unexpected()) };
        Ok(changes)
    }

    /// What a rewrite of history from `from` to `to` loses: the newest commits, at most `max`, that only `from` has in its
    /// history.
    ///
    /// # Errors
    /// `RefMissing` when the mirror does not hold one of the two (it may have been built anew), `Corrupt` (fetch again).
    pub async fn lost_commits(
        &self,
        mirror: &Path,
        from: &CommitId,
        to: &CommitId,
        max: usize,
    ) -> Result<Vec<CommitSubject>, GitError> {
        let op = || Op::LostCommits { mirror: mirror.to_owned(), from: from.clone(), to: to.clone(), max };
        let doing = format!("comparing the histories of {} and {}", from.short(), to.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::Lost { commits } = answer else { return Err(unexpected()) };
        Ok(commits)
    }

    /// The commits that `tip` has and `base` has not, along first parents, newest first, at most `max` (and 16 MiB): what a
    /// merge brings from its other parents is part of the merge. Without a base, or with one that the mirror does not know,
    /// down to the root.
    ///
    /// # Errors
    /// `RefMissing` when the mirror does not hold `tip`, `Corrupt` (fetch again).
    pub async fn history(
        &self,
        mirror: &Path,
        base: Option<&CommitId>,
        tip: &CommitId,
        max: usize,
    ) -> Result<History, GitError> {
        let op = || Op::History { mirror: mirror.to_owned(), base: base.cloned(), tip: tip.clone(), max };
        let doing = format!("reading the history of {}", tip.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::History(history) = answer else { return Err(unexpected()) };
        Ok(history)
    }

    /// What a merge of `theirs` into `ours` would be. The commit that comes of it lies in the mirror until that is put together
    /// or removed: read it right away. Renames are found as Git finds them; no merge drivers, filters or attributes count.
    ///
    /// # Errors
    /// `RefMissing` when the mirror does not hold one of the two; `Other` when they have no commit in common; `DiskFull`,
    /// `Corrupt` (fetch again).
    pub async fn merge(&self, mirror: &Path, ours: &CommitId, theirs: &CommitId) -> Result<Merge, GitError> {
        let op = || Op::Merge { mirror: mirror.to_owned(), ours: ours.clone(), theirs: theirs.clone() };
        let doing = format!("merging {} into {}", theirs.short(), ours.short());
        let (answer, _) = self.read(op, doing, Received::default).await?;
        let Answer::Merged(merge) = answer else { return Err(unexpected()) };
        Ok(merge)
    }

    /// The contents of blobs, in the order of `oids`.
    ///
    /// # Errors
    /// `TooLarge` names the blob that is above `max_blob_bytes` or brings the sum above `max_total_bytes`; `Corrupt` (fetch
    /// again).
    pub async fn read_blobs(
        &self,
        mirror: &Path,
        oids: &[ObjectId],
        max_blob_bytes: u64,
        max_total_bytes: u64,
    ) -> Result<Vec<Bytes>, GitError> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let op = || Op::ReadBlobs { mirror: mirror.to_owned(), oids: oids.to_vec(), max_blob_bytes, max_total_bytes };
        let room = || Received::with_room(oids.len(), max_total_bytes);
        match self.read(op, format!("reading {} files", oids.len()), room).await? {
            (Answer::BlobsEnd { count }, blobs) if count == oids.len() && blobs.len() == count => Ok(blobs),
            _ => Err(unexpected()),
        }
    }

    /// Ends workers that have been idle for too long. Requests do the same in passing; call this now and then when there
    /// may be none for long.
    pub fn reap(&self) {
        let idle = self.inner.limits.idle;
        let over: Vec<Worker> =
            self.idle_workers().extract_if(.., |worker| worker.idle_since.elapsed() >= idle).collect();
        over.into_iter().for_each(Worker::retire);
    }

    /// Work on a mirror. A fetch may put another one in its place meanwhile, so what looks like damage is tried again.
    async fn read(
        &self,
        op: impl Fn() -> Op,
        doing: String,
        room: impl Fn() -> Received,
    ) -> Result<(Answer, Vec<Bytes>), GitError> {
        match self.call(op(), doing.clone(), room()).await {
            Err(error) if error.kind == GitErrorKind::Corrupt => self.call(op(), doing, room()).await,
            result => result,
        }
    }

    async fn call(&self, op: Op, doing: String, received: Received) -> Result<(Answer, Vec<Bytes>), GitError> {
        let deadline = Instant::now() + self.inner.limits.total;
        let Some(remote) = op.remote().cloned() else { return self.work(op, doing, received, deadline).await };
        let Ok(turn) = timeout_at(deadline, self.inner.hosts.turn(&remote)).await else {
            return Err(GitError::new(
                GitErrorKind::DeadlineExceeded,
                format!(
                    "{doing} was not begun: other requests to this host, or to hosts that keep the service waiting, took all the time"
                ),
            ));
        };
        let _turn = turn.map_err(|_| GitError::other("the pool of Git workers is closed"))?;
        let result = self.work(op, doing, received, deadline).await;
        self.inner.hosts.note(&remote, result.as_ref().err());
        result
    }

    async fn work(
        &self,
        op: Op,
        doing: String,
        mut received: Received,
        deadline: Instant,
    ) -> Result<(Answer, Vec<Bytes>), GitError> {
        let limits = &self.inner.limits;
        let late = |what: &str| {
            GitError::new(
                GitErrorKind::DeadlineExceeded,
                format!("{doing} was stopped after {} s: {what}", limits.total.as_secs_f32()),
            )
        };
        let Ok(permit) = timeout_at(deadline, self.inner.free.acquire()).await else {
            return Err(late("no Git worker became free"));
        };
        let _permit = permit.map_err(|_| GitError::other("the pool of Git workers is closed"))?;
        let request =
            encoded(&Request { op, connect_ms: millis(limits.connect), no_progress_ms: millis(limits.no_progress) })?;
        let mut worker = self.checkout()?;
        // From here on `worker` is ours: dropping it, for whatever reason, kills the process.
        let answer = match timeout_at(deadline, worker.exchange(&request, limits.no_progress, &mut received)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => {
                let error = worker.obituary(broken, &doing, limits.no_progress).await;
                tracing::warn!(%error, "A Git worker was given up");
                return Err(error);
            }
            Err(_) => return Err(late("the work takes longer than git.requestTimeout allows")),
        };
        self.give_back(worker, &answer);
        if let Answer::Failed(error) = answer { Err(error) } else { Ok((answer, received.blobs)) }
    }

    fn checkout(&self) -> Result<Worker, GitError> {
        self.reap();
        loop {
            let candidate = self.idle_workers().pop();
            let Some(mut worker) = candidate else {
                return Worker::start(&self.inner.command, &self.inner.limits);
            };
            if worker.is_alive() {
                return Ok(worker);
            }
        }
    }

    fn give_back(&self, mut worker: Worker, answer: &Answer) {
        let healthy = match answer {
            // After these, threads or memory of the failed request may still be around.
            Answer::Failed(error) => {
                use GitErrorKind::{Corrupt, DeadlineExceeded, DiskFull, Other, TooLarge};
                ![Corrupt, DeadlineExceeded, DiskFull, Other, TooLarge].contains(&error.kind)
            }
            Answer::Observed { .. }
            | Answer::Fetched(_)
            | Answer::Tree { .. }
            | Answer::Changes { .. }
            | Answer::Lost { .. }
            | Answer::History(_)
            | Answer::Merged(_)
            | Answer::BlobsEnd { .. } => true,
        };
        if !healthy || !worker.is_quiet() {
            return;
        }
        if worker.served < self.inner.limits.requests_per_worker {
            worker.idle_since = Instant::now();
            self.idle_workers().push(worker);
        } else {
            worker.retire();
        }
    }

    fn idle_workers(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encoded(request: &Request) -> Result<Zeroizing<Vec<u8>>, GitError> {
    // Room from the start, so that growing does not leave copies of secrets behind.
    let mut json = Zeroizing::new(Vec::with_capacity(64 << 10));
    serde_json::to_writer(&mut *json, request)
        .map_err(|error| GitError::other(format!("cannot encode a request: {error}")))?;
    Ok(json)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unexpected() -> GitError {
    GitError::new(GitErrorKind::WorkerDied, "the Git worker answered another question than was asked")
}
