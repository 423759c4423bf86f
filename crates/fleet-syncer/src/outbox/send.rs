//! Tells one forge what waits for it: one thing at a time, in order within each context of a source, and again until it is
//! taken. What was taken and not yet noted when the service stopped is told a second time, which changes nothing there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_forge::{ForgeError, ForgeErrorKind, Status, StatusState};
use fleet_runtime::{Backoff, CancellationToken, ErrorChain, Pace};
use fleet_store::{
    Lease, Message, SourcePlace, StoreError, Ts, drop_untold, due_messages, message_done, message_failed,
    outbox_backlog, source_places, tidy_outbox, told_by_others,
};
use tracing::{debug, info, warn};

use super::ForgeConfig;
use crate::source::Shared;

/// How often it is looked though nothing woke.
const PERIOD: Duration = Duration::from_secs(5);
/// So many contexts are looked at in one go.
const BATCH: i64 = 100;
/// Forges want no more than 80 requests a minute that write something.
const BURST: u32 = 20;
const RHYTHM: Duration = Duration::from_millis(750);
/// The first and the longest wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How often something is tried that the forge refuses as it is, or does not know: half an hour and more.
const INVALID_ATTEMPTS: i32 = 3;
const UNKNOWN_ATTEMPTS: i32 = 15;
/// How long what was told is kept, and what nobody could be told.
const KEEP_TOLD: Duration = Duration::from_secs(24 * 3_600);
const KEEP_UNTOLD: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long what waits for a forge that is not configured any more is kept: it may have been taken out by mistake.
const KEEP_STRANDED: Duration = Duration::from_secs(24 * 3_600);
/// How often old rows are removed and the backlog is measured.
const TIDY: Duration = Duration::from_secs(600);
const MEASURE: Duration = Duration::from_secs(15);

/// Works until `term` ends.
pub(super) async fn deliver(shared: Arc<Shared>, lease: Lease, config: ForgeConfig, term: CancellationToken) {
    let mut wake = shared.outbox.wake.subscribe();
    let mut sender = Sender::new(shared, lease, config);
    while !term.is_cancelled() {
        let pass = tokio::select! {
            () = term.cancelled() => return,
            pass = sender.pass() => pass,
        };
        let next = pass.unwrap_or_else(|error| {
            warn!(error = %ErrorChain(&error), "Cannot read or write what forges are to be told; trying again");
            Next::Wake
        });
        match next {
            Next::Now => {}
            Next::Wake => tokio::select! {
                () = term.cancelled() => {}
                _ = wake.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            },
            // Nothing wakes a sender whose forge is to be left alone.
            Next::After(pause) => tokio::select! {
                () = term.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            },
        }
    }
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    Wake,
    After(Duration),
}

#[derive(Debug)]
pub(super) struct Sender {
    shared: Arc<Shared>,
    lease: Lease,
    config: ForgeConfig,
    /// Prefixes of other forges inside this one's.
    except: Vec<String>,
    pace: Pace,
    backoff: Backoff,
    /// A failure that was told already.
    warned: Option<String>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, lease: Lease, config: ForgeConfig) -> Self {
        let own = config.forge.settings().url_prefix.clone();
        let prefixes = shared.outbox.forges.iter().map(|other| other.forge.settings().url_prefix.clone());
        let except = prefixes.filter(|other| *other != own && other.starts_with(&own)).collect();
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT).expect("one second is less than five minutes");
        Self { shared, lease, config, except, pace: Pace::new(BURST, RHYTHM), backoff, warned: None }
    }

    /// The next message of each context.
    pub(super) async fn pass(&mut self) -> Result<Next, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (pool, org) = (shared.store.pool(), shared.config.org);
        let (prefix, now) = (&self.config.forge.settings().url_prefix, Ts::from(self.shared.clock.now()));
        let due = due_messages(pool, org, prefix, &self.except, now, BATCH).await?;
        if due.is_empty() {
            return Ok(Next::Wake);
        }
        let places = source_places(pool, org).await?;
        for message in due {
            tokio::time::sleep(self.pace.delay(Instant::now())).await;
            self.pace.take(Instant::now());
            let others = told_by_others(pool, org, &message.source, &message.commit).await?;
            match self.send(&message, &places, &others).await {
                Ok(()) => {
                    self.done(&message, None).await?;
                    self.backoff.reset();
                    if self.warned.take().is_some() {
                        info!(forge = self.name(), "A forge takes commit statuses again");
                    }
                }
                Err(error) => {
                    if let Some(pause) = self.failed(&message, &error).await? {
                        return Ok(Next::After(pause));
                    }
                }
            }
        }
        Ok(Next::Now)
    }

    fn name(&self) -> &str {
        &self.config.forge.settings().api_url
    }

    async fn send(&self, message: &Message, places: &[SourcePlace], others: &[String]) -> Result<(), ForgeError> {
        let invalid = |message: String| ForgeError { kind: ForgeErrorKind::Invalid, message };
        let repository = self.config.forge.repository(&message.url);
        let repository = repository.ok_or_else(|| {
            invalid(format!("{} names no repository of {}", message.url, self.config.forge.settings().url_prefix))
        })?;
        // Sources of one repository must not overwrite each other's words. A commit that another one was told of keeps the
        // names that it has, though that source is gone by now.
        let here = |url: &str| self.config.forge.repository(url).as_ref() == Some(&repository);
        let shared = places.iter().filter(|place| here(&place.url)).count() > 1 || others.iter().any(|url| here(url));
        let context = match shared {
            true => format!("{} ({})", message.context, message.source),
            false => message.context.clone(),
        };
        let state = StatusState::stored(&message.state);
        let status = Status {
            commit: &message.commit,
            context: &context,
            state: state.ok_or_else(|| invalid(format!("unknown state {:?}", message.state)))?,
            description: &message.description,
            target_url: message.target_url.as_deref(),
        };
        self.config.forge.set_status(&repository, &status).await
    }

    async fn done(&self, message: &Message, error: Option<&str>) -> Result<(), StoreError> {
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        self.lease.fence(&mut transaction).await?;
        message_done(&mut transaction, self.shared.config.org, message, error, Ts::from(self.shared.clock.now()))
            .await?;
        transaction.commit().await.map_err(StoreError::from)?;
        let sent = [("forge", self.config.forge.kind().as_str().to_owned())];
        if error.is_none() {
            debug!(source = message.source, commit = %message.commit, context = message.context, "Told a forge");
            self.shared.metrics.outbox.sent.get_or_create(&sent).inc();
        }
        Ok(())
    }

    /// Notes a failure. Returns how long the forge is left alone, when it is the forge that failed.
    async fn failed(&mut self, message: &Message, error: &ForgeError) -> Result<Option<Duration>, StoreError> {
        let metrics = &self.shared.metrics.outbox;
        let kind = [("forge", self.config.forge.kind().as_str().to_owned()), ("kind", error.kind.as_str().to_owned())];
        metrics.failures.get_or_create(&kind).inc();
        let most = match error.kind {
            ForgeErrorKind::Invalid => INVALID_ATTEMPTS,
            ForgeErrorKind::NotFound => UNKNOWN_ATTEMPTS,
            ForgeErrorKind::Denied
            | ForgeErrorKind::RateLimited { .. }
            | ForgeErrorKind::Unreachable
            | ForgeErrorKind::Server => i32::MAX,
        };
        let (source, context) = (&message.source, &message.context);
        if message.attempts + 1 >= most {
            warn!(source, commit = %message.commit, context, %error, "Giving up: a forge does not take a commit status");
            metrics.given_up.inc();
            self.done(message, Some(&error.message)).await?;
            return Ok(None);
        }
        if self.warned.as_ref() != Some(&error.message) {
            warn!(source, commit = %message.commit, context, %error, "Cannot tell a forge; trying again");
            self.warned = Some(error.message.clone());
        }
        let pause = match error.kind {
            ForgeErrorKind::RateLimited { retry_after } => retry_after,
            ForgeErrorKind::Unreachable | ForgeErrorKind::Server => self.backoff.next_delay(),
            ForgeErrorKind::Denied | ForgeErrorKind::NotFound | ForgeErrorKind::Invalid => wait(message.attempts),
        };
        let again_at = Ts::from(self.shared.clock.now() + pause);
        let mut transaction = self.lease.begin(&self.shared.store).await?;
        self.lease.fence(&mut transaction).await?;
        message_failed(&mut transaction, self.shared.config.org, message, &error.message, again_at).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(error.kind.concerns_the_host().then_some(pause))
    }
}

/// How long a message waits that failed so often before.
fn wait(attempts: i32) -> Duration {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT).expect("one second is less than five minutes");
    let mut delay = backoff.next_delay();
    for _ in 0..attempts.clamp(0, 20) {
        delay = backoff.next_delay();
    }
    delay
}

/// Removes what is old, and measures what waits.
pub(super) async fn tidy(shared: Arc<Shared>, lease: Lease, term: CancellationToken) {
    let mut tidied: Option<Instant> = None;
    while !term.is_cancelled() {
        if tidied.is_none_or(|at| at.elapsed() >= TIDY) {
            match tidy_once(&shared, &lease).await {
                Ok(()) => tidied = Some(Instant::now()),
                Err(error) => debug!(error = %ErrorChain(&error), "Cannot remove old rows of the outbox; trying again"),
            }
        }
        let now = Ts::from(shared.clock.now());
        if let Ok((waiting, oldest)) = outbox_backlog(shared.store.pool(), shared.config.org, now).await {
            shared.metrics.outbox.waiting.set(waiting);
            shared.metrics.outbox.oldest.set(oldest);
        }
        tokio::select! {
            () = term.cancelled() => {}
            () = tokio::time::sleep(MEASURE) => {}
        }
    }
}

pub(super) async fn tidy_once(shared: &Shared, lease: &Lease) -> Result<(), StoreError> {
    let before = |age: Duration| Ts::from(shared.clock.now() - age);
    let prefix = |config: &ForgeConfig| (config.forge.settings().url_prefix.clone(), config.commit_statuses);
    let forges: Vec<(String, bool)> = shared.outbox.forges.iter().map(prefix).collect();
    let mut transaction = lease.begin(&shared.store).await?;
    lease.fence(&mut transaction).await?;
    tidy_outbox(&mut transaction, shared.config.org, before(KEEP_TOLD), before(KEEP_UNTOLD)).await?;
    let stranded = drop_untold(&mut transaction, shared.config.org, &forges, before(KEEP_STRANDED)).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    if stranded > 0 {
        info!(messages = stranded, "Dropped what waited for a day for forges that are not configured any more");
    }
    Ok(())
}
