//! The pool with real workers in real processes, against repositories of the git program and a real Git host.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may panic; the lint excuses only the test functions themselves"
)]

#[path = "worker/damage.rs"]
mod damage;
#[path = "worker/deadlines.rs"]
mod deadlines;
#[path = "worker/differential.rs"]
mod differential;
#[path = "worker/disks.rs"]
mod disks;
#[path = "worker/faults.rs"]
mod faults;
#[path = "worker/front.rs"]
mod front;
#[path = "worker/https.rs"]
mod https;
#[path = "worker/local.rs"]
mod local;
#[path = "worker/merges.rs"]
mod merges;
#[path = "worker/ssh.rs"]
mod ssh;
#[path = "worker/ssh_shared.rs"]
mod ssh_shared;
#[path = "worker/support.rs"]
mod support;
#[path = "worker/transports.rs"]
mod transports;
#[path = "worker/trees.rs"]
mod trees;
