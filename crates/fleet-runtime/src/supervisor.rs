//! Starts tasks and joins every one of them. A task that ends unasked ends the program.

use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

/// A task that ended when nobody had asked it to.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailure {
    /// It returned.
    #[error("task {task} ended by itself")]
    Ended {
        /// The task's name.
        task: String,
    },
    /// It panicked.
    #[error("task {task} panicked")]
    Panicked {
        /// The task's name.
        task: String,
    },
    /// It did not end in time after shutdown was asked for.
    #[error("tasks still running {seconds} s after shutdown was asked for: {tasks}")]
    Stuck {
        /// Names, comma-separated.
        tasks: String,
        /// How long they were waited for.
        seconds: u64,
    },
}

/// Owns the tasks of a program.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    names: Vec<(Id, String)>,
    shutdown: CancellationToken,
}

impl Supervisor {
    /// A supervisor whose tasks watch `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), names: Vec::new(), shutdown }
    }

    /// The token that asks all tasks to end.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task that runs until shutdown.
    pub fn spawn<F>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = self.tasks.spawn(task);
        self.names.push((handle.id(), name.into()));
    }

    fn take_name(&mut self, id: Id) -> String {
        match self.names.iter().position(|(known, _)| *known == id) {
            Some(at) => self.names.swap_remove(at).1,
            None => "?".to_owned(),
        }
    }

    /// Waits until shutdown is asked for and every task has ended, at most `grace` after it was asked for. A task that
    /// ends before that asks the others to shut down too.
    ///
    /// # Errors
    /// The first task that ended unasked, panicked or did not end in time.
    pub async fn run(mut self, grace: Duration) -> Result<(), TaskFailure> {
        let mut first_failure = None;
        let mut deadline: Option<tokio::time::Instant> = None;
        loop {
            if self.shutdown.is_cancelled() && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + grace);
            }
            let overdue = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled(), if deadline.is_none() => {}
                () = overdue => {
                    let tasks = self.names.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
                    self.tasks.abort_all();
                    return Err(first_failure.unwrap_or(TaskFailure::Stuck { tasks, seconds: grace.as_secs() }));
                }
                ended = self.tasks.join_next_with_id() => {
                    let Some(ended) = ended else { break };
                    let asked = self.shutdown.is_cancelled();
                    let failure = match ended {
                        Ok((id, ())) => {
                            let task = self.take_name(id);
                            debug!(task, "A task ended");
                            (!asked).then_some(TaskFailure::Ended { task })
                        }
                        Err(join_error) => {
                            let task = self.take_name(join_error.id());
                            (!join_error.is_cancelled()).then_some(TaskFailure::Panicked { task })
                        }
                    };
                    if let Some(failure) = failure {
                        error!(error = %failure, "Shutting down because a task failed");
                        first_failure.get_or_insert(failure);
                        self.shutdown.cancel();
                    }
                }
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
}

/// Cancels `shutdown` on SIGINT or SIGTERM, then returns.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub async fn shutdown_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => info!("Interrupted; shutting down"),
        _ = terminate.recv() => info!("Asked to terminate; shutting down"),
        () = shutdown.cancelled() => {}
    }
    shutdown.cancel();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_unasked_is_an_error_and_ends_the_others() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        let token = supervisor.shutdown();
        supervisor.spawn("waits", async move { token.cancelled().await });
        supervisor.spawn("quits", async {});
        let failure = supervisor.run(Duration::from_secs(10)).await.unwrap_err();
        assert!(matches!(failure, TaskFailure::Ended { task } if task == "quits"));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn("panics", async { panic!("on purpose") });
        assert!(matches!(supervisor.run(Duration::from_secs(10)).await, Err(TaskFailure::Panicked { .. })));
    }

    #[tokio::test]
    async fn an_asked_shutdown_is_clean() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        let token = supervisor.shutdown();
        let inner = token.clone();
        supervisor.spawn("waits", async move { inner.cancelled().await });
        token.cancel();
        assert!(supervisor.run(Duration::from_secs(10)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_task_is_named() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn("deaf", std::future::pending());
        supervisor.shutdown().cancel();
        let failure = supervisor.run(Duration::from_secs(5)).await.unwrap_err();
        assert!(failure.to_string().contains("deaf"), "{failure}");
    }
}
