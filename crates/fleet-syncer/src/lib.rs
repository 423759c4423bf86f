//! The syncer: keeps desired state in the database equal to accepted commits, and devices in line with desired state.
//!
//! [`Syncer::run`] waits for the right to write (a lease with a fencing token), then runs one task for each source and
//! one for devices. Every pass looks at the whole truth and can be run twice; wake-ups only save time.
#![forbid(unsafe_code)]

mod absent;
mod announced;
mod apply;
mod building;
mod conditions;
mod config;
mod credentials;
mod dependencies;
mod desired;
mod enroll;
mod errand;
mod guard;
mod hold;
mod inputs;
mod laps;
mod leadership;
mod lint_config;
mod metrics;
mod mirrors;
mod outbox;
mod pins;
mod planning;
mod poll_notes;
mod progress;
mod pulls;
mod reconcile;
mod repositories;
mod restored;
mod retention;
mod revisions;
mod secrets;
mod snapshot;
mod source;
mod term;
mod tombstones;
mod trust;
mod values;
mod watch;
mod web;
mod work;

pub use apply::Applied;
pub use config::SyncerConfig;
pub use credentials::{GitCredential, GitCredentials};
pub use leadership::Syncer;
pub use metrics::SyncerMetrics;
pub use outbox::ForgeConfig;
pub use reconcile::ReconcileOutcome;
pub use secrets::SecretsConfig;
