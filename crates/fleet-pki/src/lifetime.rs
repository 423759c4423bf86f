//! How long certificates live, and the validity window that follows.

use std::time::Duration;

use jiff::Timestamp;
use time::OffsetDateTime;

use crate::IssueError;

/// Longest time by which a certificate's validity starts before it was issued.
const MAX_BACKDATE_SECONDS: i64 = 300;

/// A requested life that is no life.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a certificate cannot live {seconds} s: ask for at least 1 s, or leave expirationSeconds out")]
pub struct LifetimeError {
    seconds: i64,
}

/// The life of a certificate in whole seconds: at least one. It can be lowered, never raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime {
    seconds: u32,
}

impl Lifetime {
    /// What the issuer allows. Parts of a second are dropped; the result is at least 1 s and at most 136 years.
    pub fn at_most(cap: Duration) -> Self {
        Self { seconds: u32::try_from(cap.as_secs()).unwrap_or(u32::MAX).max(1) }
    }

    /// `days` days.
    pub const fn days(days: u16) -> Self {
        Self { seconds: days as u32 * 86_400 }
    }

    /// The shorter of this life and the `seconds` a request asks for (`expirationSeconds`); a longer wish is cut.
    ///
    /// # Errors
    /// [`LifetimeError`] if the wish is zero or negative.
    pub fn lowered_to(self, seconds: Option<i64>) -> Result<Self, LifetimeError> {
        match seconds {
            None => Ok(self),
            Some(seconds) if seconds < 1 => Err(LifetimeError { seconds }),
            Some(seconds) => Ok(Self { seconds: u32::try_from(seconds).unwrap_or(u32::MAX).min(self.seconds) }),
        }
    }

    /// As a duration.
    pub fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// When a certificate is valid, in whole seconds as X.509 has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Window {
    /// From a little before `now` until `now + lifetime`, or the end of the issuer if that is earlier.
    ///
    /// The start lies back by a twentieth of the life, at least 1 s and at most 5 min: enough for verifiers whose
    /// clocks are behind, and little enough that "renew at a share of the life" still works for lives of minutes.
    pub(crate) fn new(now: Timestamp, lifetime: Lifetime, issuer_end: Timestamp) -> Result<Self, IssueError> {
        let now = now.as_second();
        let life = i64::from(lifetime.seconds);
        let at = |second| Timestamp::from_second(second).map_err(|_| IssueError::Time);
        let not_before = at(now - (life / 20).clamp(1, MAX_BACKDATE_SECONDS))?;
        let not_after = at(now + life)?.min(issuer_end);
        if not_after.as_second() <= now {
            return Err(IssueError::AuthorityExpired { not_after: issuer_end });
        }
        Ok(Self { not_before, not_after })
    }

    /// Writes the window into certificate parameters.
    pub(crate) fn apply(self, params: &mut rcgen::CertificateParams) -> Result<(), IssueError> {
        let convert = |at: Timestamp| OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| IssueError::Time);
        params.not_before = convert(self.not_before)?;
        params.not_after = convert(self.not_after)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_request_lowers_a_life_and_never_raises_it() {
        let week = Lifetime::days(7);
        assert_eq!(week.lowered_to(Some(60)).unwrap().as_duration(), Duration::from_secs(60));
        assert_eq!(week.lowered_to(Some(i64::MAX)).unwrap(), week);
        assert_eq!(week.lowered_to(None).unwrap(), week);
        assert!(week.lowered_to(Some(0)).is_err());
        assert!(week.lowered_to(Some(-1)).is_err());
        assert_eq!(Lifetime::at_most(Duration::ZERO).as_duration(), Duration::from_secs(1));
    }

    #[test]
    fn a_certificate_never_outlives_its_issuer() {
        let window = Window::new(at(1_000_000), Lifetime::days(7), at(1_000_100)).unwrap();
        assert_eq!(window.not_after, at(1_000_100));
        assert_eq!(window.not_before, at(1_000_000 - 300));
        assert!(Window::new(at(1_000_100), Lifetime::days(7), at(1_000_100)).is_err());
    }

    #[test]
    fn times_at_the_end_of_the_calendar_are_refused_not_wrapped() {
        assert!(matches!(Window::new(Timestamp::MAX, Lifetime::days(7), Timestamp::MAX), Err(IssueError::Time)));
        assert!(Window::new(Timestamp::MIN, Lifetime::days(7), Timestamp::MAX).is_err());
    }
}
