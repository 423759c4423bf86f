//! Which pull requests are looked at, and when again. A pure decision.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fleet_model::CommitId;

/// How long one that cannot be planned rests, at first and at most.
const REST: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// A source's name and the number of a pull request.
pub(super) type Key = (String, u64);
/// Its newest commit and the commit in force.
pub(super) type Pair = (CommitId, CommitId);

/// What became of pull requests so far.
#[derive(Debug, Default)]
pub(super) struct Due {
    told: HashMap<Key, Pair>,
    failed: HashMap<Key, Failed>,
    /// How often each source was woken, as far as that was looked at.
    woken: HashMap<String, u64>,
}

#[derive(Debug)]
struct Failed {
    pair: Pair,
    times: u32,
    until: Instant,
}

impl Due {
    /// The sources that were woken since this was asked last.
    pub(super) fn woken(&mut self, now: &HashMap<String, u64>) -> HashSet<String> {
        let news = now.iter().filter(|(source, times)| self.woken.get(*source) != Some(times));
        let news = news.map(|(source, _)| source.clone()).collect();
        self.woken.clone_from(now);
        news
    }

    /// Whether a pull request is to be planned.
    pub(super) fn is_due(&self, key: &Key, pair: &Pair, now: Instant) -> bool {
        let rests = self.failed.get(key).is_some_and(|failed| failed.pair == *pair && now < failed.until);
        !rests && self.told.get(key) != Some(pair)
    }

    /// It was told.
    pub(super) fn done(&mut self, key: Key, pair: Pair) {
        self.failed.remove(&key);
        self.told.insert(key, pair);
    }

    /// It could not be planned: the same commits are left alone for longer and longer.
    pub(super) fn failed(&mut self, key: Key, pair: Pair, now: Instant) {
        let before = self.failed.get(&key).filter(|failed| failed.pair == pair).map_or(0, |failed| failed.times);
        let rest = REST.0.saturating_mul(1 << before.min(16)).min(REST.1);
        self.failed.insert(key, Failed { pair, times: before + 1, until: now + rest });
    }

    /// Forgets all but those for which `keep` says yes.
    pub(super) fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.told.retain(|key, _| keep(key));
        self.failed.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(head: char) -> Pair {
        let id = |digit: char| digit.to_string().repeat(40).parse().unwrap();
        (id(head), id('0'))
    }

    fn key(source: &str) -> Key {
        (source.to_owned(), 7)
    }

    #[test]
    fn a_pull_request_that_fails_rests_longer_each_time_unless_it_moves() {
        let (mut due, now) = (Due::default(), Instant::now());
        let (one, minute) = (key("a"), Duration::from_secs(60));
        assert!(due.is_due(&one, &pair('1'), now));
        due.failed(one.clone(), pair('1'), now);
        assert!(!due.is_due(&one, &pair('1'), now + minute / 2) && due.is_due(&one, &pair('1'), now + minute));
        due.failed(one.clone(), pair('1'), now + minute);
        assert!(!due.is_due(&one, &pair('1'), now + 2 * minute) && due.is_due(&one, &pair('1'), now + 3 * minute));
        assert!(due.is_due(&one, &pair('2'), now + 2 * minute), "somebody pushed");
        for _ in 0..40 {
            due.failed(one.clone(), pair('1'), now);
        }
        assert!(!due.is_due(&one, &pair('1'), now + 59 * minute) && due.is_due(&one, &pair('1'), now + 60 * minute));
        due.done(one.clone(), pair('1'));
        assert!(!due.is_due(&one, &pair('1'), now + 90 * minute), "it was told");
        due.retain(|(source, _)| source != "a");
        assert!(due.is_due(&one, &pair('1'), now), "it was closed and comes back");
    }

    #[test]
    fn only_sources_that_were_woken_are_looked_at_in_between() {
        let mut due = Due::default();
        let times = |all: &[(&str, u64)]| all.iter().map(|(source, times)| ((*source).to_owned(), *times)).collect();
        assert_eq!(due.woken(&times(&[("a", 1), ("b", 4)])).len(), 2);
        assert!(due.woken(&times(&[("a", 1), ("b", 4)])).is_empty());
        assert_eq!(due.woken(&times(&[("a", 2), ("b", 4)])), HashSet::from(["a".to_owned()]));
    }
}
