//! One pass: enrol if need be, apply what there is, report, done.

use fleet_runtime::ErrorChain;
use tokio::time::sleep;
use tracing::warn;

use super::manage::{Ended, Session};
use super::{AgentError, Worker, backoff};
use crate::banner::Purpose;
use crate::client::Polled;
use crate::engine::{Engine, Verdict};
use crate::progress::Progress;
use crate::report::{self, Reporter};

impl Worker {
    pub(super) async fn once(&self) -> Result<Progress, AgentError> {
        let mut held = self.identity.load_certificate(self.disk.as_ref())?;
        let mut doubted = None;
        let mut cycles = backoff(self.config.timings.enrollment_delay);
        loop {
            let certificate = match held.take() {
                Some(held) => held,
                None => self.obtain(doubted.take(), true).await?,
            };
            self.show_banner(Purpose::Manage);
            let session = self.session(certificate)?;
            match self.pass(&session).await? {
                Ok(progress) if progress.failed => return Err(AgentError::NotConverged(progress.message)),
                Ok(progress) => return Ok(progress),
                Err(ended) => {
                    doubted = self.leave(ended).await?;
                    sleep(cycles.next_delay()).await;
                }
            }
        }
    }

    async fn pass(&self, session: &Session) -> Result<Result<Progress, Ended>, AgentError> {
        let timings = &self.config.timings;
        let mut errors = backoff(timings.error_delay);
        let mut retries = backoff(timings.retry_delay);
        let mut reporter = Reporter::default();
        // Without a known version the service answers at once.
        let mut known = None;
        loop {
            let tended =
                self.with_engine(
                    |engine: &mut Engine| {
                        if engine.is_unsettled() { engine.resume() } else { engine.check_drift().map(drop) }
                    },
                );
            if let Err(failure) = tended.await? {
                warn!(%failure, "Managed files could not be tended; it is tried again");
                self.set_hint(failure.to_string());
                sleep(retries.next_delay()).await;
                continue;
            }
            let pause = match session.client().poll(self.name(), known, timings.poll_timeout).await {
                Ok(Polled::Nothing) if known.is_none() => break,
                Ok(Polled::Nothing) => {
                    known = None;
                    retries.next_delay()
                }
                Ok(Polled::Document(body)) => match self.take(body).await? {
                    Some(Verdict::Decided | Verdict::Known) => break,
                    Some(Verdict::Again) => {
                        let message = self.progress.borrow().message.clone();
                        self.set_hint(format!("the newest version is still to be applied: {message}"));
                        // A service that was restored from a backup offers what the device has left behind. It learns
                        // where the device is from a status and from the known version, and moves ahead.
                        let body = report::body(self.name(), self.status(&mut reporter, session).await?);
                        match session.client().put_status(self.name(), &body).await {
                            Ok(()) => {
                                known = Some(self.known());
                                retries.next_delay()
                            }
                            Err(error) => match self.ending(&error, session) {
                                Some(ended) => return Ok(Err(ended)),
                                None => self.failed("Reporting", &error, &mut errors),
                            },
                        }
                    }
                    None => errors.next_delay(),
                },
                Err(error) => match self.ending(&error, session) {
                    Some(ended) => return Ok(Err(ended)),
                    None => self.failed("Polling", &error, &mut errors),
                },
            };
            sleep(pause).await;
        }
        loop {
            let body = report::body(self.name(), self.status(&mut reporter, session).await?);
            match session.client().put_status(self.name(), &body).await {
                Ok(()) => return Ok(Ok(self.progress.borrow().clone())),
                Err(error) => match self.ending(&error, session) {
                    Some(ended) => return Ok(Err(ended)),
                    None => {
                        self.set_hint(format!("reporting: {}", ErrorChain(&error)));
                        sleep(self.failed("Reporting", &error, &mut errors)).await;
                    }
                },
            }
        }
    }
}
