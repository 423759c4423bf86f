//! One agent: enrols, is managed, tends its files, and ends when it is told to.

mod enroll;
mod manage;
mod once;
mod renew;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet_model::DeviceName;
use fleet_runtime::{Backoff, CancellationToken, Clock, ErrorChain};
use rand::Rng;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::banner::{self, Purpose};
use crate::client::{ClientError, KnownSpec};
use crate::config::AgentConfig;
use crate::disk::{Disk, RealDisk};
use crate::engine::Engine;
use crate::identity::{Held, Identity, IdentityError, drop_certificate};
use crate::path::FilePath;
use crate::paths;
use crate::progress::Progress;
use crate::services::{NoServices, Services, Systemd};
use manage::Ended;

/// Why an agent ended, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The root or the state directory cannot be used.
    #[error("the agent's directory below {} cannot be used", root.display())]
    Directory {
        /// The root.
        root: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another agent is at work.
    #[error("another agent runs with the state directory {} below {}", paths::STATE_DIR, root.display())]
    Running {
        /// The root.
        root: PathBuf,
    },
    /// Key or certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A bug; the state on the disk is as good as after a power cut.
    #[error("a part of the agent panicked")]
    Panicked,
    /// The service refuses to enrol the device. Only with [`Agent::run_once`]; [`Agent::run`] waits for another answer.
    #[error("the service refused to enrol this device: {0}")]
    Denied(String),
    /// The newest version could not be applied. Only with [`Agent::run_once`].
    #[error("the device did not converge: {0}")]
    NotConverged(String),
    /// Time is up. Only with [`Agent::run_once`].
    #[error("the device did not converge within {} s: {hint}", deadline.as_secs())]
    Deadline {
        /// How long it had.
        deadline: Duration,
        /// What it was waiting for.
        hint: String,
    },
    /// It was told to end before it was done. Only with [`Agent::run_once`].
    #[error("interrupted")]
    Interrupted,
}

/// An agent that has not started yet.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
    services: Option<Box<dyn Services>>,
}

/// An agent at work. What it does concurrently are futures of one task; only file work runs on other threads.
#[derive(Debug)]
struct Worker {
    config: AgentConfig,
    clock: Arc<dyn Clock>,
    disk: Arc<RealDisk>,
    engine: Arc<Mutex<Opened>>,
    identity: Identity,
    progress: watch::Receiver<Progress>,
    hint: Mutex<String>,
    /// The last document that was decided on since the agent started.
    decided: Mutex<Option<KnownSpec>>,
}

/// The engine and the lock that makes it the only one. Both live until the last file work is done.
#[derive(Debug)]
struct Opened {
    engine: Engine,
    _lock: OwnedFd,
}

fn backoff((base, max): (Duration, Duration)) -> Backoff {
    let base = base.max(Duration::from_millis(1));
    Backoff::new(base, max.max(base)).expect("the base is above zero and not above the maximum")
}

/// Up to half as much on top of what the service asks for, so that not all whom it asked come back at once.
fn spread(asked: Duration) -> Duration {
    asked.mul_f64(rand::rng().random_range(1.0..=1.5))
}

impl Agent {
    /// An agent for `config.root`. Below the root `/` it reloads units; below any other it tells no one. It ends once
    /// `shutdown` is cancelled. `clock` is asked about the life of certificates and nothing else.
    pub fn new(config: AgentConfig, clock: Arc<dyn Clock>, shutdown: CancellationToken) -> Self {
        Self { config, clock, shutdown, services: None }
    }

    /// Tells `services` of changed files instead.
    #[must_use]
    pub fn with_services(mut self, services: Box<dyn Services>) -> Self {
        self.services = Some(services);
        self
    }

    /// Enrols and is managed until shutdown.
    ///
    /// # Errors
    /// Only for what no waiting cures: directories, keys and certificates that cannot be used, another agent, a bug.
    pub async fn run(self) -> Result<(), AgentError> {
        let shutdown = self.shutdown.clone();
        let worker = self.open().await?;
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = worker.tend() => Err(error),
            error = worker.live() => Err(error),
        };
        worker.drain().await;
        result
    }

    /// Enrols if need be, applies what there is, reports it and returns what was reported.
    ///
    /// # Errors
    /// Also when the device did not converge within `deadline`; the error says what it was waiting for.
    pub async fn run_once(self, deadline: Duration) -> Result<Progress, AgentError> {
        let shutdown = self.shutdown.clone();
        let worker = self.open().await?;
        let result = tokio::select! {
            () = shutdown.cancelled() => Err(AgentError::Interrupted),
            done = tokio::time::timeout(deadline, worker.once()) => {
                done.unwrap_or_else(|_| Err(AgentError::Deadline { deadline, hint: worker.hint() }))
            }
        };
        worker.drain().await;
        result
    }

    async fn open(self) -> Result<Worker, AgentError> {
        let runtime = tokio::runtime::Handle::current();
        let opened = tokio::task::spawn_blocking(move || self.open_blocking(runtime)).await;
        opened.map_err(|_| AgentError::Panicked)?
    }

    fn open_blocking(self, runtime: tokio::runtime::Handle) -> Result<Worker, AgentError> {
        let Self { config, clock, shutdown: _, services } = self;
        let root = config.root.clone();
        let unusable = |source| AgentError::Directory { root: root.clone(), source };
        let disk = Arc::new(RealDisk::open(&root).map_err(unusable)?);
        disk.create_dirs(&FilePath::own(paths::STATE_DIR), 0o700).map_err(unusable)?;
        let lock = disk.try_lock(&paths::lock_file()).map_err(unusable)?;
        let Some(lock) = lock else { return Err(AgentError::Running { root }) };
        let services = services.unwrap_or_else(|| {
            if crate::disk::is_system_root(&root) {
                Box::new(Systemd::new(config.reload_rules.clone(), config.timings.reload_timeout, runtime))
            } else {
                Box::new(NoServices)
            }
        });
        let mut engine = Engine::open(disk.clone(), services).map_err(unusable)?;
        if let Err(failure) = engine.start() {
            warn!(%failure, "What was interrupted could not be taken up; it is tried again");
        }
        let identity = Identity::load_or_generate(disk.as_ref())?;
        for warning in &config.warnings {
            warn!("Configuration: {warning}");
        }
        info!(device = %identity.name(), root = %root.display(), version = %engine.state().current.version, "Agent started");
        let progress = engine.progress();
        let engine = Arc::new(Mutex::new(Opened { engine, _lock: lock }));
        let (hint, decided) = (Mutex::new("starting".to_owned()), Mutex::new(None));
        Ok(Worker { config, clock, disk, engine, identity, progress, hint, decided })
    }
}

impl Worker {
    fn name(&self) -> &DeviceName {
        self.identity.name()
    }

    fn hint(&self) -> String {
        self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what is being waited for.
    fn set_hint(&self, hint: impl Into<String>) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = hint.into();
    }

    /// Logs a failed request and returns how long to wait.
    fn failed(&self, what: &str, error: &ClientError, backoff: &mut Backoff) -> Duration {
        let delay = backoff.next_delay().max(error.retry_after().map_or(Duration::ZERO, spread));
        let seconds = delay.as_secs_f64();
        warn!(error = %ErrorChain(error), retry_in_seconds = seconds, "{what} failed");
        self.set_hint(format!("{what}: {}", ErrorChain(error)));
        delay
    }

    /// Runs file work with the engine on a thread that may block.
    async fn with_engine<T, W>(&self, work: W) -> Result<T, AgentError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Engine) -> T + Send + 'static,
    {
        let engine = self.engine.clone();
        let run = move || work(&mut engine.lock().unwrap_or_else(PoisonError::into_inner).engine);
        tokio::task::spawn_blocking(run).await.map_err(|_| AgentError::Panicked)
    }

    /// Waits for file work that goes on after its future was dropped.
    async fn drain(&self) {
        if self.with_engine(|_| ()).await.is_err() {
            warn!("File work panicked while the agent ended");
        }
    }

    /// Goes on with what could not come to its end, and puts back what was changed by hand, for ever.
    async fn tend(&self) -> AgentError {
        let mut retries = backoff(self.config.timings.retry_delay);
        loop {
            let work = |engine: &mut Engine| {
                if engine.is_unsettled() { engine.resume() } else { engine.check_drift().map(drop) }
            };
            let pause = match self.with_engine(work).await {
                Err(error) => return error,
                Ok(Ok(())) => {
                    retries.reset();
                    self.config.timings.drift_check_interval
                }
                Ok(Err(failure)) => {
                    warn!(%failure, "Managed files could not be tended; it is tried again");
                    retries.next_delay()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Enrols and is managed, over and over, for ever.
    async fn live(&self) -> AgentError {
        let mut cycles = backoff(self.config.timings.enrollment_delay);
        let mut held = match self.identity.load_certificate(self.disk.as_ref()) {
            Ok(held) => held,
            Err(error) => return error.into(),
        };
        let mut doubted = None;
        loop {
            let certificate = match held.take() {
                Some(held) => held,
                None => match self.obtain(doubted.take(), false).await {
                    Ok(held) => held,
                    Err(error) => return error,
                },
            };
            self.show_banner(Purpose::Manage);
            let began = Instant::now();
            let ended = match self.manage(certificate).await {
                Ok(ended) => ended,
                Err(error) => return error,
            };
            if began.elapsed() > self.config.timings.enrollment_delay.1.saturating_mul(2) {
                cycles.reset();
            }
            doubted = match self.leave(ended).await {
                Ok(doubted) => doubted,
                Err(error) => return error,
            };
            tokio::time::sleep(cycles.next_delay()).await;
        }
    }

    /// Prepares for enrolling again. A certificate that seems to have expired is kept, for that may be a mistake: it is
    /// returned, to be tried again until there is another one.
    async fn leave(&self, ended: Ended) -> Result<Option<Held>, AgentError> {
        warn!(reason = %ended, "The certificate is of no use at present; enrolling again with the same key");
        self.set_hint(ended.to_string());
        match ended {
            Ended::Expired(_) => Ok(self.identity.load_certificate(self.disk.as_ref()).unwrap_or_else(|error| {
                warn!(error = %ErrorChain(&error), "The certificate could not be read again");
                None
            })),
            Ended::Gone(_) => {
                if let Err(error) = drop_certificate(self.disk.as_ref()) {
                    warn!(error = %ErrorChain(&error), "The certificate could not be removed");
                }
                *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let saved = self.with_engine(Engine::reenrolled).await?;
                saved.unwrap_or_else(|failure| warn!(%failure, "The count of versions could not be reset"));
                Ok(None)
            }
        }
    }

    /// A certificate to be managed with: a new one by enrolling, or the one that is doubted, should it work after all.
    async fn obtain(&self, doubted: Option<Held>, give_up: bool) -> Result<Held, AgentError> {
        let Some(doubted) = doubted else { return self.enroll(give_up).await };
        tokio::select! {
            enrolled = self.enroll(give_up) => enrolled,
            works = self.until_it_works(doubted) => works,
        }
    }

    fn show_banner(&self, purpose: Purpose) {
        banner::write(self.disk.as_ref(), purpose, &self.config.enrollment_ui_endpoint, self.name());
    }

    fn expired(&self, held: &Held) -> bool {
        self.clock.now() > held.facts.not_after
    }
}
