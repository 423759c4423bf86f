//! Git, behind one door: the only crate that knows gix.
//!
//! [`local`] reads a repository on this disk, in process, for the command line. For the service, two halves talk over a pipe:
//!
//! * [`worker_main`] runs in a child process. It owns the disposable bare mirrors, speaks to Git hosts, maps packs, and may
//!   therefore hang, run out of memory or be killed by a signal without harm to anybody else.
//! * [`WorkerPool`] runs in the service. It starts workers on demand, hands each one request at a time, watches two deadlines
//!   (no progress, and in total) and kills what does not keep them.
//!
//! What this crate does not do: push, check out a working tree, follow submodules or LFS pointers, read anybody's Git
//! configuration, or decide what a commit means.
#![forbid(unsafe_code)]

mod error;
mod frame;
pub mod local;
mod object_id;
mod pool;
mod remote;
mod revision;
mod secret;
mod wire;
mod worker;

pub use error::{GitError, GitErrorKind};
pub use object_id::{ObjectId, ObjectIdError};
pub use pool::{Limits, WorkerCommand, WorkerPool};
pub use remote::{ClientCertificate, HttpsOptions, Remote, RemoteAuth, SshOptions, check_url, redact_url};
pub use secret::Secret;
pub use wire::{
    Change, ChangeKind, CommitSubject, EntryMode, FetchOutcome, History, HistoryCommit, Known, Merge, Merged, TreeEntry,
};
pub use worker::{askpass_main, worker_main};
