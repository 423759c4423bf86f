//! Whose turn it is: hosts that answer are not kept waiting by hosts that do not.
//!
//! Of all workers one is kept for work on mirrors, which needs no host. Of the others a host gets a few at a time; hosts that
//! nobody knows yet share some, and hosts whose last answer did not come in time share one, however many they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::error::{GitError, GitErrorKind};
use crate::remote::Remote;

/// Workers that one host may have at a time.
const PER_HOST: usize = 2;
/// Hosts that are remembered; beyond that, those that nobody waits for are forgotten.
const MAX_HOSTS: usize = 4_096;

/// How a host behaved last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unknown,
    Answers,
    KeepsWaiting,
}

#[derive(Debug)]
struct Host {
    standing: Standing,
    turns: Arc<Semaphore>,
}

/// All hosts, and the shares of workers.
#[derive(Debug)]
pub(super) struct Hosts {
    known: Mutex<HashMap<String, Host>>,
    per_host: usize,
    any: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The right to occupy a worker with a host, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Hosts {
    pub(super) fn new(workers: usize) -> Self {
        let remote = workers.saturating_sub(1).max(1);
        let share = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            known: Mutex::new(HashMap::new()),
            per_host: PER_HOST.min(remote.saturating_sub(1)).max(1),
            any: share(remote),
            unknown: share(remote / 2),
            waiting: share(1),
        }
    }

    /// Waits for a turn with the host of `remote`. Shares are taken from the narrowest to the widest, so that nobody holds
    /// a wide one while it waits for a narrow one.
    pub(super) async fn turn(&self, remote: &Remote) -> Result<Turn, AcquireError> {
        let (standing, turns) = self.look_up(&host_of(remote));
        let mut permits = Vec::with_capacity(3);
        match standing {
            Standing::Answers => {}
            Standing::Unknown => permits.push(Arc::clone(&self.unknown).acquire_owned().await?),
            Standing::KeepsWaiting => permits.push(Arc::clone(&self.waiting).acquire_owned().await?),
        }
        permits.push(turns.acquire_owned().await?);
        permits.push(Arc::clone(&self.any).acquire_owned().await?);
        Ok(Turn { _permits: permits })
    }

    /// Remembers how a request to the host of `remote` ended.
    pub(super) fn note(&self, remote: &Remote, failed: Option<&GitError>) {
        let standing = match failed.map(|error| error.kind) {
            Some(GitErrorKind::DeadlineExceeded | GitErrorKind::WorkerDied) => Standing::KeepsWaiting,
            None | Some(_) => Standing::Answers,
        };
        if let Some(host) = self.lock().get_mut(&host_of(remote)) {
            host.standing = standing;
        }
    }

    fn look_up(&self, name: &str) -> (Standing, Arc<Semaphore>) {
        let mut known = self.lock();
        if known.len() >= MAX_HOSTS {
            known.retain(|_, host| Arc::strong_count(&host.turns) > 1);
        }
        let host = known
            .entry(name.to_owned())
            .or_insert_with(|| Host { standing: Standing::Unknown, turns: Arc::new(Semaphore::new(self.per_host)) });
        (host.standing, Arc::clone(&host.turns))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Host>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scheme, host and port; every local repository is one host.
fn host_of(remote: &Remote) -> String {
    Remote::host_of(&remote.url).unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn remote(url: &str) -> Remote {
        Remote::anonymous(url)
    }

    fn late() -> GitError {
        GitError::new(GitErrorKind::DeadlineExceeded, "late")
    }

    #[test]
    fn urls_of_one_host_are_one_host() {
        assert_eq!(host_of(&remote("https://h:1/a")), host_of(&remote("https://h:1/b/c")));
        assert_ne!(host_of(&remote("https://h:1/a")), host_of(&remote("https://h:2/a")));
        assert_eq!(host_of(&remote("git@h:a")), host_of(&remote("git@h:b")));
        assert_eq!(host_of(&remote("/srv/a")), host_of(&remote("/srv/b")));
        assert_eq!(host_of(&remote("/srv/a")), host_of(&remote("file:///srv/b")));
    }

    #[tokio::test]
    async fn hosts_that_keep_us_waiting_share_one_worker_and_the_others_have_the_rest() {
        let hosts = Hosts::new(4);
        for n in 0..10 {
            let bad = remote(&format!("https://bad{n}/a"));
            drop(hosts.turn(&bad).await.unwrap());
            hosts.note(&bad, Some(&late()));
        }
        let good = remote("https://good/a");
        drop(hosts.turn(&good).await.unwrap());
        hosts.note(&good, None);
        let held = hosts.turn(&remote("https://bad0/a")).await.unwrap();
        let (second, unknown) = (remote("https://bad1/a"), remote("https://new/a"));
        let mut waits = Box::pin(hosts.turn(&second));
        assert!((&mut waits).now_or_never().is_none(), "the share of bad hosts is taken");
        let _new = hosts.turn(&unknown).await.unwrap();
        let _one = hosts.turn(&good).await.unwrap();
        let mut full = Box::pin(hosts.turn(&good));
        assert!((&mut full).now_or_never().is_none(), "one worker is kept for mirrors");
        drop(held);
        assert!((&mut full).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_pool_of_one_worker_works() {
        let hosts = Hosts::new(1);
        for url in ["https://a/a", "https://b/b"] {
            drop(hosts.turn(&remote(url)).await.unwrap());
            hosts.note(&remote(url), Some(&late()));
            drop(hosts.turn(&remote(url)).await.unwrap());
        }
    }

    #[test]
    fn memory_of_hosts_is_bounded() {
        let hosts = Hosts::new(4);
        for n in 0..(MAX_HOSTS + 10) {
            hosts.look_up(&format!("https://h{n}"));
        }
        assert!(hosts.lock().len() <= MAX_HOSTS);
    }
}
