//! One worker process and the pipes to it.

use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Limits, WorkerCommand};
use crate::error::{GitError, GitErrorKind};
use crate::frame::{Decoder, FrameKind, header};
use crate::wire::Answer;
use crate::worker::MEMORY_VARIABLE;

const STDERR_BYTES: usize = 4 << 10;
const READ_BYTES: usize = 64 << 10;
/// How long a worker that is not needed any more may take to end.
const FAREWELL: Duration = Duration::from_secs(2);
const INHERITED: [&str; 14] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A running worker. Dropping it kills the process and everything it started.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    group: Option<rustix::process::Pid>,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    decoder: Decoder,
    last_words: BytesMut,
    pub(super) served: u32,
    pub(super) idle_since: Instant,
}

/// Why a worker is of no use any more.
#[derive(Debug)]
pub(super) enum Broken {
    /// It closed its output.
    Ended,
    /// No sign of life for too long.
    Silent,
    /// It sent what no worker of ours sends.
    Nonsense(String),
}

/// The blobs of an answer, and how much room there is for them.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) blobs: Vec<Bytes>,
    count_left: usize,
    bytes_left: u64,
}

impl Received {
    pub(super) fn with_room(count: usize, bytes: u64) -> Self {
        Self { blobs: Vec::with_capacity(count), count_left: count, bytes_left: bytes }
    }

    fn take(&mut self, blob: Bytes) -> Result<(), Broken> {
        let room = u64::try_from(blob.len()).ok().and_then(|length| self.bytes_left.checked_sub(length));
        let (Some(bytes), Some(count)) = (room, self.count_left.checked_sub(1)) else {
            return Err(Broken::Nonsense("more blobs than asked for".to_owned()));
        };
        (self.bytes_left, self.count_left) = (bytes, count);
        self.blobs.push(blob);
        Ok(())
    }
}

impl Worker {
    /// Starts a worker with an environment of its own, in a process group of its own.
    pub(super) fn start(command: &WorkerCommand, limits: &Limits) -> Result<Self, GitError> {
        let shown = command.program.display();
        let mut process = Command::new(&command.program);
        process.args(&command.args).env_clear();
        for variable in INHERITED {
            if let Some(value) = std::env::var_os(variable) {
                process.env(variable, value);
            }
        }
        process
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .env(MEMORY_VARIABLE, limits.memory.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = process.spawn().map_err(|error| {
            GitError::new(GitErrorKind::WorkerDied, format!("cannot start the Git worker {shown}: {error}"))
        })?;
        let (Some(stdin), Some(stdout), stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(GitError::new(GitErrorKind::WorkerDied, format!("the Git worker {shown} has no pipes")));
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        Ok(Self {
            child,
            group,
            stdin: Some(stdin),
            stdout,
            stderr,
            decoder: Decoder::default(),
            last_words: BytesMut::new(),
            served: 0,
            idle_since: Instant::now(),
        })
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets a worker that is not needed any more end by itself, with the connections that it holds.
    pub(super) fn retire(mut self) {
        self.stdin = None;
        // Without a runtime it is killed here and now.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.end());
        }
    }

    async fn end(mut self) {
        // One that ended well has ended what it ran.
        if let Ok(Ok(status)) = timeout(FAREWELL, self.child.wait()).await
            && status.success()
        {
            self.group = None;
        }
    }

    /// Whether nothing is left over from the last answer.
    pub(super) fn is_quiet(&self) -> bool {
        self.decoder.is_empty()
    }

    /// Sends one request and takes its answer; blobs go to `received`.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        no_progress: Duration,
        received: &mut Received,
    ) -> Result<Answer, Broken> {
        self.served = self.served.saturating_add(1);
        let head = header(FrameKind::Json, request.len()).map_err(|error| Broken::Nonsense(error.to_string()))?;
        let Some(stdin) = &mut self.stdin else { return Err(Broken::Ended) };
        let sent = timeout(no_progress, async {
            stdin.write_all(&head).await?;
            stdin.write_all(request).await?;
            stdin.flush().await
        });
        // A program that closed its input may have written why; that is read below.
        if sent.await.is_err() {
            return Err(Broken::Silent);
        }
        let mut alive_until = Instant::now() + no_progress;
        loop {
            while let Some(frame) = self.decoder.next_frame().map_err(|error| Broken::Nonsense(error.to_string()))? {
                match frame.kind {
                    FrameKind::Progress => {}
                    FrameKind::Blob => received.take(frame.payload)?,
                    FrameKind::Json => {
                        return serde_json::from_slice(&frame.payload)
                            .map_err(|error| Broken::Nonsense(error.to_string()));
                    }
                }
            }
            match timeout_at(alive_until, self.read_some()).await {
                Ok(Some(true)) => alive_until = Instant::now() + no_progress,
                Ok(Some(false)) => {}
                Ok(None) => return Err(Broken::Ended),
                Err(_) => return Err(Broken::Silent),
            }
        }
    }

    /// Reads from either pipe: `Some(true)` when output arrived, `Some(false)` for standard error, `None` at the end.
    async fn read_some(&mut self) -> Option<bool> {
        let buffer = self.decoder.buffer_mut();
        buffer.reserve(READ_BYTES);
        let stderr = &mut self.stderr;
        let mut portion = [0_u8; 1024];
        tokio::select! {
            count = self.stdout.read_buf(buffer) => count.is_ok_and(|count| count > 0).then_some(true),
            count = async {
                match stderr {
                    Some(stderr) => stderr.read(&mut portion).await,
                    None => std::future::pending().await,
                }
            } => {
                match count {
                    Ok(count) if count > 0 => keep_tail(&mut self.last_words, &portion[..count]),
                    Ok(_) | Err(_) => self.stderr = None,
                }
                Some(false)
            }
        }
    }

    /// What to tell about the end of this worker, which is killed when it still runs.
    pub(super) async fn obituary(mut self, broken: Broken, doing: &str, no_progress: Duration) -> GitError {
        let died = |message| GitError::new(GitErrorKind::WorkerDied, message);
        match broken {
            Broken::Silent => GitError::new(
                GitErrorKind::DeadlineExceeded,
                format!("{doing} was stopped: no progress for {} s", no_progress.as_secs_f32()),
            ),
            Broken::Nonsense(what) => died(format!("{doing} failed: the Git worker sent nonsense ({what})")),
            Broken::Ended => {
                let status = match timeout(Duration::from_secs(1), self.child.wait()).await {
                    Ok(Ok(status)) => status.to_string(),
                    Ok(Err(_)) | Err(_) => "it closed its output".to_owned(),
                };
                let drained = timeout(Duration::from_millis(200), async {
                    let mut portion = [0_u8; 1024];
                    while let Some(stderr) = &mut self.stderr {
                        match stderr.read(&mut portion).await {
                            Ok(count) if count > 0 => keep_tail(&mut self.last_words, &portion[..count]),
                            Ok(_) | Err(_) => self.stderr = None,
                        }
                    }
                });
                // A grandchild may hold the pipe open; what was read by then is what there is to say.
                let _ = drained.await;
                let words = String::from_utf8_lossy(&self.last_words);
                let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
                let advice = if words.contains("memory allocation") {
                    "; it hit its memory limit, which git.workerMemory sets"
                } else {
                    ""
                };
                let words = if words.is_empty() { words } else { format!(": {words}") };
                died(format!("{doing} failed: the Git worker died ({status}){words}{advice}"))
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The worker leads its group, and with it goes what it runs: `git upload-pack`, SSH clients. When it has ended by
        // itself, what it left goes now: the number is not given to others while anything of the group runs.
        if let Some(group) = self.group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

fn keep_tail(tail: &mut BytesMut, portion: &[u8]) {
    tail.extend_from_slice(portion);
    if tail.len() > STDERR_BYTES {
        let excess = tail.len() - STDERR_BYTES;
        let _ = tail.split_to(excess);
    }
}
