//! While the device is enrolled: poll for documents, report, renew; each on its own beat.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_model::{DeviceStatus, Digest, ObjectMeta, annotations};
use fleet_runtime::ErrorChain;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::{AgentError, Worker, backoff};
use crate::client::{Client, ClientError, KnownSpec, Polled};
use crate::document::Document;
use crate::engine::Verdict;
use crate::identity::Held;
use crate::report::{self, Reporter};
use crate::system_info;

/// Why the certificate cannot be used any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The service deleted the device.
    Gone(String),
    /// It ran out.
    Expired(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(why) => write!(f, "the service no longer knows this device: {why}"),
            Self::Expired(why) => write!(f, "the certificate expired: {why}"),
        }
    }
}

/// The certificate in use and the client that presents it. A renewal replaces both.
#[derive(Debug)]
pub(super) struct Session(Mutex<(Arc<Client>, Held)>);

impl Session {
    pub(super) fn new(client: Arc<Client>, held: Held) -> Self {
        Self(Mutex::new((client, held)))
    }

    pub(super) fn client(&self) -> Arc<Client> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub(super) fn held(&self) -> Held {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(super) fn replace(&self, client: Arc<Client>, held: Held) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (client, held);
    }
}

/// The service's own digest of a document's specification. The agent's may differ: it is of the meaning that the
/// agent read, without consoles.
fn noted_hash(body: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Noted {
        metadata: ObjectMeta,
    }
    let noted: Noted = serde_json::from_slice(body).ok()?;
    noted.metadata.annotations.get(annotations::RENDERED_SPEC_HASH)?.parse().ok()
}

impl Worker {
    /// Is managed until the certificate is of no use.
    pub(super) async fn manage(&self, held: Held) -> Result<Ended, AgentError> {
        let session = self.session(held)?;
        tokio::select! {
            ended = self.poll(&session) => ended,
            ended = self.report(&session) => ended,
            never = self.renew(&session) => never,
        }
    }

    pub(super) fn session(&self, held: Held) -> Result<Session, AgentError> {
        let client = self.identity.management_client(&self.config.management, &held, self.clock.clone())?;
        Ok(Session::new(client, held))
    }

    /// Tries a certificate now and then until the service takes it.
    pub(super) async fn until_it_works(&self, doubted: Held) -> Result<Held, AgentError> {
        let timings = &self.config.timings;
        let session = self.session(doubted)?;
        let mut delays = backoff(timings.error_delay);
        loop {
            sleep(delays.next_delay()).await;
            // Without a known version the service answers at once. That it deleted the device is found out later.
            match session.client().poll(self.name(), None, timings.poll_timeout).await {
                Ok(Polled::Document(_) | Polled::Nothing) | Err(ClientError::DeviceGone(_)) => {
                    info!("The service takes the certificate again");
                    return Ok(session.held());
                }
                Err(error) => debug!(error = %ErrorChain(&error), "The certificate is still of no use"),
            }
        }
    }

    /// Whether an error means that the certificate is of no use.
    pub(super) fn ending(&self, error: &ClientError, session: &Session) -> Option<Ended> {
        match error {
            ClientError::DeviceGone(why) => Some(Ended::Gone(why.clone())),
            error if error.says_expired() || error.may_be_identity() && self.expired(&session.held()) => {
                Some(Ended::Expired(ErrorChain(error).to_string()))
            }
            ClientError::Setup(_)
            | ClientError::Transport { .. }
            | ClientError::Silent { .. }
            | ClientError::Stalled { .. }
            | ClientError::Refused { .. }
            | ClientError::Answer { .. } => None,
        }
    }

    async fn poll(&self, session: &Session) -> Result<Ended, AgentError> {
        let timings = &self.config.timings;
        let mut errors = backoff(timings.error_delay);
        let mut retries = backoff(timings.retry_delay);
        loop {
            let began = Instant::now();
            let known = Some(self.known());
            let pause = match session.client().poll(self.name(), known, timings.poll_timeout).await {
                Ok(Polled::Nothing) => {
                    errors.reset();
                    timings.poll_min_interval.saturating_sub(began.elapsed())
                }
                Ok(Polled::Document(body)) => match self.take(body).await? {
                    Some(Verdict::Decided) => {
                        errors.reset();
                        retries.reset();
                        Duration::ZERO
                    }
                    Some(Verdict::Known) => timings.poll_min_interval.saturating_sub(began.elapsed()),
                    Some(Verdict::Again) => retries.next_delay(),
                    None => errors.next_delay(),
                },
                Err(error) => match self.ending(&error, session) {
                    Some(ended) => return Ok(ended),
                    None => self.failed("Polling", &error, &mut errors),
                },
            };
            if !pause.is_zero() {
                debug!(seconds = pause.as_secs_f64(), "Next poll after a pause");
                sleep(pause).await;
            }
        }
    }

    /// What a poll tells of what the device has: the newest version, and the service's digest of it when it came with
    /// a document since the agent started.
    pub(super) fn known(&self) -> KnownSpec {
        let version = {
            let progress = self.progress.borrow();
            progress.desired.max(progress.current)
        };
        let decided = *self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        KnownSpec { version, hash: decided.filter(|known| known.version == version).and_then(|known| known.hash) }
    }

    /// Hands a document to the engine. `None` when it cannot be read at all.
    pub(super) async fn take(&self, body: Vec<u8>) -> Result<Option<Verdict>, AgentError> {
        let work = move |engine: &mut crate::engine::Engine| match Document::parse(&body) {
            Err(error) => Err(ErrorChain(&error).to_string()),
            Ok(document) => {
                let verdict = engine.offer(&document).unwrap_or_else(|failure| {
                    warn!(%failure, "A version could not be brought to an end; it is tried again");
                    Verdict::Again
                });
                Ok((verdict, KnownSpec { version: document.version, hash: noted_hash(&body) }))
            }
        };
        match self.with_engine(work).await? {
            Ok((verdict, offered)) => {
                if matches!(verdict, Verdict::Decided | Verdict::Known) {
                    *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(offered);
                }
                Ok(Some(verdict))
            }
            Err(why) => {
                warn!(why, "The service sent something that is no rendered document; nothing is changed");
                self.set_hint(format!("the service sent something that is no rendered document: {why}"));
                Ok(None)
            }
        }
    }

    pub(super) async fn status(&self, reporter: &mut Reporter, session: &Session) -> Result<DeviceStatus, AgentError> {
        let (disk, held) = (self.disk.clone(), session.held());
        let gathered = tokio::task::spawn_blocking(move || system_info::gather(disk.as_ref(), Some(&held))).await;
        let info = gathered.map_err(|_| AgentError::Panicked)?;
        let progress = self.progress.borrow().clone();
        Ok(reporter.status(&progress, info, &self.clock.now_rfc3339()))
    }

    /// Reports at every change and at least once per interval. A status counts as told once it was answered 200.
    async fn report(&self, session: &Session) -> Result<Ended, AgentError> {
        let timings = &self.config.timings;
        let mut progress = self.progress.clone();
        let mut reporter = Reporter::default();
        let mut errors = backoff(timings.error_delay);
        let mut told: Option<(DeviceStatus, Instant)> = None;
        loop {
            progress.mark_unchanged();
            let status = self.status(&mut reporter, session).await?;
            let due =
                told.as_ref().is_none_or(|(old, at)| *old != status || at.elapsed() >= timings.status_update_interval);
            if due {
                let body = report::body(self.name(), status.clone());
                match session.client().put_status(self.name(), &body).await {
                    Ok(()) => {
                        errors.reset();
                        told = Some((status, Instant::now()));
                    }
                    Err(error) => match self.ending(&error, session) {
                        Some(ended) => return Ok(ended),
                        None => {
                            sleep(self.failed("Reporting", &error, &mut errors)).await;
                            continue;
                        }
                    },
                }
            }
            let last = told.as_ref().map_or_else(Instant::now, |(_, at)| *at);
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return Err(AgentError::Panicked) },
                () = sleep_until(last + timings.status_update_interval) => {}
            }
        }
    }
}
