//! Standard output as frames, standard error as last words.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;

use crate::error::{GitError, GitErrorKind};
use crate::frame::{FrameKind, header};
use crate::wire::Answer;

/// The only writer of standard output.
#[derive(Debug, Default)]
pub(super) struct Output {
    // Held while one frame is written, so that signs of progress do not cut into it.
    frame: Mutex<()>,
}

impl Output {
    /// Writes the last frame of an answer. One that does not fit is replaced by a `TooLarge` failure.
    pub(super) fn answer(&self, answer: &Answer) -> std::io::Result<()> {
        let json = serde_json::to_vec(answer)?;
        if header(FrameKind::Json, json.len()).is_ok() {
            return self.write(FrameKind::Json, &json);
        }
        let failure = GitError::new(
            GitErrorKind::TooLarge,
            format!("the answer is {} bytes long; ask for a smaller path", json.len()),
        );
        self.write(FrameKind::Json, &serde_json::to_vec(&Answer::Failed(failure))?)
    }

    /// Writes the content of one blob.
    pub(super) fn blob(&self, content: &[u8]) -> std::io::Result<()> {
        self.write(FrameKind::Blob, content)
    }

    /// Says that the worker is alive.
    pub(super) fn progress(&self) -> std::io::Result<()> {
        self.write(FrameKind::Progress, &[])
    }

    fn write(&self, kind: FrameKind, payload: &[u8]) -> std::io::Result<()> {
        let header = header(kind, payload.len()).map_err(std::io::Error::other)?;
        let _whole_frame = self.frame.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut out = std::io::stdout().lock();
        out.write_all(&header)?;
        out.write_all(payload)?;
        out.flush()
    }
}

/// Tells the pool, which keeps the end of standard error, why this worker gives up.
pub(super) fn last_words(text: &str) -> ExitCode {
    // Nothing is left to do when even this fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::FAILURE
}
