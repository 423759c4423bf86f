//! A token bucket: a few things at once, then one per period. It holds no task and reads no clock.

use std::time::{Duration, Instant};

/// How fast something may happen: `burst` times at once, and once per `period` in the long run.
#[derive(Debug, Clone)]
pub struct Pace {
    period: Duration,
    /// How far ahead of an even rhythm one may be.
    slack: Duration,
    /// When the next one would come in an even rhythm.
    next: Option<Instant>,
}

impl Pace {
    /// A full bucket.
    pub fn new(burst: u32, period: Duration) -> Self {
        Self { period, slack: period.saturating_mul(burst.saturating_sub(1)), next: None }
    }

    /// How long to wait before the next one.
    pub fn delay(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now).saturating_sub(self.slack))
    }

    /// Notes that one happened.
    pub fn take(&mut self, now: Instant) {
        self.next = Some(self.next.map_or(now, |next| next.max(now)) + self.period);
    }

    /// Takes one if it may happen now.
    pub fn try_take(&mut self, now: Instant) -> bool {
        let may = self.delay(now).is_zero();
        if may {
            self.take(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_per_period() {
        let start = Instant::now();
        let mut pace = Pace::new(3, Duration::from_millis(100));
        let taken: Vec<u64> =
            (0..1000).filter(|millis| pace.try_take(start + Duration::from_millis(*millis))).collect();
        assert_eq!(taken, [0, 1, 2, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    #[test]
    fn a_rest_fills_the_bucket_up_to_its_burst_and_no_further() {
        let start = Instant::now();
        let mut pace = Pace::new(2, Duration::from_secs(1));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pace.try_take(start) && pace.try_take(start) && !pace.try_take(start));
        assert_eq!(pace.delay(start), Duration::from_secs(1));
        assert!(pace.try_take(at(60)) && pace.try_take(at(60)) && !pace.try_take(at(60)));
    }
}
