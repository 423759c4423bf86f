//! How long each step of a piece of work took, for the log.

use std::fmt;
use std::time::{Duration, Instant};

/// A stopwatch with named laps.
#[derive(Debug)]
pub(crate) struct Laps {
    since: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Laps {
    /// Starts it.
    pub(crate) fn start() -> Self {
        Self { since: Instant::now(), laps: Vec::new() }
    }

    /// What was done since the last lap was `name`.
    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.laps.push((name, now.duration_since(self.since)));
        self.since = now;
    }

    /// The time of all laps of a name.
    pub(crate) fn of(&self, name: &str) -> Duration {
        self.laps.iter().filter(|(lap, _)| *lap == name).map(|(_, time)| *time).sum()
    }
}

/// `read 12, check 30`: milliseconds, in order; laps of less than one are left out.
impl fmt::Display for Laps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.laps.iter().filter(|(_, time)| time.as_millis() > 0);
        for (index, (name, time)) in shown.enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {}", time.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_are_told_in_order_without_those_that_took_no_time() {
        let laps = Laps {
            since: Instant::now(),
            laps: [("read", 12), ("check", 0), ("plan", 30), ("read", 1)]
                .map(|(name, ms)| (name, Duration::from_millis(ms)))
                .into(),
        };
        assert_eq!(laps.to_string(), "read 12, plan 30, read 1");
        assert_eq!(laps.of("read"), Duration::from_millis(13));
    }
}
