//! How often one host is asked where revisions point: a token bucket for each. Who was woken by a push or a person goes
//! before those who ask on a period.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use fleet_git::Remote;
use fleet_runtime::Pace;
use tokio::sync::{Mutex, watch};

use super::lock;

/// The shortest time before somebody looks again whether it is its turn.
const SHORTEST: Duration = Duration::from_millis(2);

/// The buckets of all hosts. Those of hosts that no mirror has any more are forgotten.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: u32,
    hosts: StdMutex<HashMap<String, Arc<HostRate>>>,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), hosts: StdMutex::default() }
    }

    /// The bucket of a URL's host; the local disk has none.
    pub(super) fn of(&self, url: &str) -> Option<Arc<HostRate>> {
        let host = Remote::host_of(url)?;
        let mut hosts = lock(&self.hosts);
        hosts.retain(|known, rate| *known == host || Arc::strong_count(rate) > 1);
        Some(Arc::clone(hosts.entry(host).or_insert_with(|| Arc::new(HostRate::new(self.per_second)))))
    }
}

/// What one host may be asked: at once as much as in a second.
#[derive(Debug)]
pub(super) struct HostRate {
    pace: StdMutex<Pace>,
    /// How many wait that were woken.
    pressing: AtomicUsize,
    /// Held by the next of those that were woken, and by the next of the others.
    first: Mutex<()>,
    rest: Mutex<()>,
}

impl HostRate {
    fn new(per_second: u32) -> Self {
        let pace = Pace::new(per_second, Duration::from_secs(1) / per_second);
        Self {
            pace: StdMutex::new(pace),
            pressing: AtomicUsize::default(),
            first: Mutex::default(),
            rest: Mutex::default(),
        }
    }

    /// Waits until the host may be asked. With the number of those who were woken and wait for the same answer; that may
    /// change meanwhile.
    pub(super) async fn turn(&self, mut woken: watch::Receiver<usize>) {
        let pressed = async {
            if woken.wait_for(|count| *count > 0).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = pressed => {}
            () = self.take(false) => return,
        }
        self.take(true).await;
    }

    async fn take(&self, presses: bool) {
        let _counted = presses.then(|| Counted::new(&self.pressing));
        let _next = if presses { self.first.lock().await } else { self.rest.lock().await };
        loop {
            let pause = {
                let mut pace = lock(&self.pace);
                let now = Instant::now();
                let is_mine = presses || self.pressing.load(Ordering::SeqCst) == 0;
                if is_mine && pace.try_take(now) {
                    return;
                }
                pace.delay(now).max(SHORTEST)
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Counts until dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Somebody who was woken waits for an answer, until dropped.
#[derive(Debug)]
pub(super) struct Hurry<'a>(&'a watch::Sender<usize>);

impl<'a> Hurry<'a> {
    pub(super) fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|count| *count += 1);
        Self(waiting)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_bucket_each_and_the_disk_has_none() {
        let rates = Rates::new(5);
        let (one, other) = (rates.of("https://h/a").unwrap(), rates.of("https://h/b").unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &rates.of("https://i/a").unwrap()));
        assert!(rates.of("/srv/a").is_none() && rates.of("file:///srv/a").is_none());
        assert_eq!(lock(&rates.hosts).len(), 2);
        rates.of("https://j/a").unwrap();
        assert_eq!(lock(&rates.hosts).len(), 2, "h is in use, i is not");
    }

    #[tokio::test]
    async fn a_second_passes_at_once_and_the_rest_at_the_rate() {
        let rate = HostRate::new(50);
        let nobody = watch::Sender::new(0_usize);
        let begin = Instant::now();
        for _ in 0..50 {
            rate.turn(nobody.subscribe()).await;
        }
        // On a busy machine the bucket fills up meanwhile.
        let refilled = u32::try_from(begin.elapsed().as_millis() / 20).unwrap();
        assert!(refilled < 50, "the first ones do not wait");
        for _ in 0..25 {
            rate.turn(nobody.subscribe()).await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(480), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn who_was_woken_goes_first_also_when_that_happens_in_the_queue() {
        // Slow, so that nothing flows back before all are in the queue.
        let rate = Arc::new(HostRate::new(1));
        let order = Arc::new(StdMutex::new(Vec::new()));
        let nobody = watch::Sender::new(0_usize);
        rate.turn(nobody.subscribe()).await;
        let ask = |name: &'static str, woken: watch::Receiver<usize>| {
            let (rate, order) = (Arc::clone(&rate), Arc::clone(&order));
            async move {
                rate.turn(woken).await;
                lock(&order).push(name);
            }
        };
        let (late, early) = (watch::Sender::new(0_usize), watch::Sender::new(1_usize));
        let mut tasks = tokio::task::JoinSet::new();
        for (name, woken) in [("a", &nobody), ("b", &nobody), ("c", &late), ("d", &early)] {
            tasks.spawn(ask(name, woken.subscribe()));
            // It is in the queue afterwards: nothing else runs on this thread.
            tokio::task::yield_now().await;
        }
        let hurry = Hurry::new(&late);
        tasks.join_all().await;
        assert_eq!(*lock(&order), ["d", "c", "a", "b"]);
        drop(hurry);
        assert_eq!((*late.borrow(), rate.pressing.load(Ordering::SeqCst)), (0, 0));
    }
}
