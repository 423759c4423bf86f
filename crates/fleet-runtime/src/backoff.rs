//! Exponential backoff with full jitter.

use std::time::Duration;

use rand::Rng;

/// Bounds that make no backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("backoff needs 0 < base <= max, got base {base:?} and max {max:?}")]
pub struct BackoffError {
    base: Duration,
    max: Duration,
}

/// Delays that double from `base` up to `max`, each drawn evenly from between a tenth of the bound and the bound, so
/// that a herd spreads out.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff at its start.
    ///
    /// # Errors
    /// When `base` is zero or above `max`.
    pub fn new(base: Duration, max: Duration) -> Result<Self, BackoffError> {
        if base.is_zero() || base > max { Err(BackoffError { base, max }) } else { Ok(Self { base, max, failures: 0 }) }
    }

    /// The upper bound of the next delay.
    fn bound(&self) -> Duration {
        self.base.saturating_mul(2_u32.saturating_pow(self.failures.min(20))).min(self.max)
    }

    /// Counts one more failure and returns how long to wait now.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::rng().random_range(0.1..=1.0))
    }

    /// Back to the start, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_within_bounds() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).unwrap();
        for round in 0..100_u32 {
            let bound =
                Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(round.min(20))).min(Duration::from_secs(60));
            let delay = backoff.next_delay();
            assert!(delay <= bound && delay >= bound.mul_f64(0.099), "{round}: {delay:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }

    #[test]
    fn nonsense_bounds_are_refused() {
        assert!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).is_err());
        assert!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)).is_err());
    }
}
