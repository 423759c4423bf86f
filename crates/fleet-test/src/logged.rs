//! A program that logs to its standard error, with the moment at which each line came.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<(Instant, String)>>,
    grown: Condvar,
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct LoggedProcess {
    child: Child,
    log: Arc<Log>,
}

impl LoggedProcess {
    /// Starts it with nothing to read.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            let sink = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    sink.lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
                    sink.grown.notify_all();
                }
            });
        }
        Ok(Self { child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many lines there are so far.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many lines from number `from` on hold all of `words`.
    #[must_use]
    pub fn count(&self, from: usize, words: &[&str]) -> usize {
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(from).filter(|(_, line)| words.iter().all(|word| line.contains(word))).count()
    }

    /// Waits for the first line from number `from` on that holds all of `words`, and returns it with its moment.
    ///
    /// # Panics
    /// When it does not come within `deadline`; the message has the last lines.
    pub fn line(&self, from: usize, words: &[&str], deadline: Duration) -> (Instant, String) {
        let started = Instant::now();
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looked_at = from;
        loop {
            let found = lines.iter().skip(looked_at).find(|(_, line)| words.iter().all(|word| line.contains(word)));
            if let Some(found) = found {
                return found.clone();
            }
            looked_at = lines.len().max(from);
            let Some(left) = deadline.checked_sub(started.elapsed()) else {
                let last: Vec<&str> = lines.iter().rev().take(30).map(|(_, line)| line.as_str()).collect();
                panic!(
                    "waited {deadline:?} for a line with {words:?}; the last lines, newest first:\n{}",
                    last.join("\n")
                );
            };
            lines = self.log.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for LoggedProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
