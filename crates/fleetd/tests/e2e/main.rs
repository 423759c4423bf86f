//! From a commit to files on devices and back, with the real programs, a real database, real Git and real TLS.
//!
//! The programs `fleet-agent` and `fleetctl` must have been built (`cargo build`); `tests/run.sh` does that.
#![expect(clippy::print_stderr, reason = "the ends of logs, when a test fails")]
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that does not work")]

mod access;
mod before_merge;
mod broken;
mod commits;
mod credentials;
mod dependencies;
mod faults;
mod generate;
mod harness;
mod histories;
mod holds;
mod holds_durable;
#[path = "../load/hub.rs"]
mod hub;
mod kills;
mod load;
mod mirrors;
mod moves;
mod outbox;
mod plans;
mod proposals;
mod quarantine;
mod replicas;
mod repositories;
mod restored;
mod secrets;
mod service;
mod source_commands;
mod states;
mod statuses;
mod suspensions;
mod tombstones;
mod trust;
mod webhooks;
