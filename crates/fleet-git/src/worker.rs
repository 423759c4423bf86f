//! The worker: one process, one request at a time, frames in and frames out.
//!
//! Nothing here is async. A worker may block for ever, run out of memory or die by a signal; the pool on the other side of
//! the pipe expects that. Standard output carries frames only; standard error carries last words.

pub(crate) mod activity;
pub(crate) mod ancestry;
pub(crate) mod blobs;
pub(crate) mod classify;
mod fetch;
pub(crate) mod history;
mod limits;
mod merge;
mod mirror;
mod output;
mod quick;
mod session;
mod ssh;
pub(crate) mod tree;
mod upload_pack;

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use crate::error::GitError;
use crate::frame::{Decoder, Frame, FrameKind};
use crate::wire::{Answer, Known, Op, Request};

use activity::Activity;
use output::Output;
pub use ssh::askpass_main;

/// The environment variable that carries the worker's memory limit in bytes; without it, 2 GiB.
pub(crate) const MEMORY_VARIABLE: &str = "SHOREBASE_GIT_WORKER_MEMORY";

/// Runs a Git worker: reads requests from standard input, answers on standard output, ends when standard input closes,
/// also in the middle of a request. Never prints anything else on standard output.
pub fn worker_main() -> ExitCode {
    if let Err(error) = limits::apply(std::env::var(MEMORY_VARIABLE).ok().as_deref()) {
        return output::last_words(&format!("cannot limit the worker's memory: {error}"));
    }
    let requests = match request_reader() {
        Ok(requests) => requests,
        Err(error) => return output::last_words(&format!("cannot start the reader of requests: {error}")),
    };
    let output = Output::default();
    for frame in requests {
        let answer = match serde_json::from_slice::<Request>(&frame.payload) {
            Ok(request) => perform(request, &output).unwrap_or_else(Answer::Failed),
            // The text of a serde error may quote the request, which may hold a secret.
            Err(_) => {
                return output::last_words(
                    "a request that is not understood; are service and worker the same version?",
                );
            }
        };
        if output.answer(&answer).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Reads requests on a thread of its own, so that a closed pipe ends the process even while it waits for a host.
fn request_reader() -> std::io::Result<Receiver<Frame>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new().name("requests".to_owned()).spawn(move || {
        let mut decoder = Decoder::default();
        let mut portion = vec![0; 64 << 10];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut portion) {
                Ok(0) => {
                    ssh::shared::end();
                    std::process::exit(0)
                }
                Ok(count) => decoder.push(&portion[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => std::process::exit(1),
            }
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) if frame.kind == FrameKind::Json => {
                        if sender.send(frame).is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Ok(Some(_)) | Err(_) => {
                        output::last_words("bytes on standard input that are not requests");
                        std::process::exit(1);
                    }
                }
            }
        }
    })?;
    Ok(receiver)
}

fn perform(request: Request, output: &Output) -> Result<Answer, GitError> {
    let timeouts = Timeouts {
        connect: Duration::from_millis(request.connect_ms.max(1)),
        no_progress: Duration::from_millis(request.no_progress_ms.max(1)),
    };
    match request.op {
        Op::ObserveRef { remote, revision, long_way } => Activity::watched(output, |activity| {
            let commit = session::observe(&remote, &revision, long_way, timeouts, activity)?;
            Ok(Answer::Observed { commit })
        }),
        Op::Fetch { mirror, remote, revision, base, others, seen, max_pack_bytes } => {
            Activity::watched(output, |activity| {
                let known = Known { base: base.as_ref(), others: &others, seen: seen.as_ref() };
                let wanted = fetch::Wanted { remote: &remote, revision: &revision, known, timeouts, max_pack_bytes };
                fetch::fetch(&mirror, &wanted, activity).map(Answer::Fetched)
            })
        }
        Op::ListTree { mirror, commit, path, max_entries } => {
            mirror::read(&mirror, |repo| tree::list(repo, &commit, &path, max_entries))
                .map(|entries| Answer::Tree { entries })
        }
        Op::ListPlaces { mirror, commit, paths, max_entries } => {
            mirror::read(&mirror, |repo| tree::list_places(repo, &commit, &paths, max_entries))
                .map(|entries| Answer::Tree { entries })
        }
        Op::Diff { mirror, from, to, path, max_entries } => {
            mirror::read(&mirror, |repo| tree::diff(repo, &from, &to, &path, max_entries))
                .map(|changes| Answer::Changes { changes })
        }
        Op::DiffPlaces { mirror, from, to, paths, max_entries } => {
            mirror::read(&mirror, |repo| tree::diff_places(repo, &from, &to, &paths, max_entries))
                .map(|changes| Answer::Changes { changes })
        }
        Op::Merge { mirror, ours, theirs } => Activity::watched(output, |activity| {
            // It writes: no fetch may clean up meanwhile.
            let _guard = mirror::Guard::take(&mirror, timeouts.no_progress, activity)?;
            mirror::read(&mirror, |repo| merge::merge(repo, &ours, &theirs, activity)).map(Answer::Merged)
        }),
        Op::LostCommits { mirror, from, to, max } => Activity::watched(output, |activity| {
            mirror::read(&mirror, |repo| ancestry::lost(repo, &from, &to, max, activity))
                .map(|commits| Answer::Lost { commits })
        }),
        Op::History { mirror, base, tip, max } => Activity::watched(output, |activity| {
            mirror::read(&mirror, |repo| history::history(repo, base.as_ref(), &tip, max, activity))
                .map(Answer::History)
        }),
        Op::ReadBlobs { mirror, oids, max_blob_bytes, max_total_bytes } => {
            let bounds = blobs::Bounds { max_blob_bytes, max_total_bytes };
            mirror::read(&mirror, |repo| blobs::read(repo, &oids, bounds, output))
                .map(|count| Answer::BlobsEnd { count })
        }
    }
}

/// How long the network may keep the worker waiting.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    connect: Duration,
    no_progress: Duration,
}
