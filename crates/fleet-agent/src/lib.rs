//! The device side of Shorebase: enrols, holds a poll, applies files, proves it, reports, rolls back.
//!
//! [`Agent`] is the whole of it. Inside, the order of things is this:
//!
//! - `document` reads what the service sends and checks it without touching anything;
//! - `machine` decides, as a pure function of state and event, and `engine` carries out;
//! - `prepare`, `overlay` and `drift` are the engine's hands on managed files, `state` is its memory;
//! - everything that touches files goes through [`Disk`], everything that touches units through [`Services`];
//! - `agent` puts enrolment, polling, reporting and renewal around it.
//!
//! At every instant a power cut leaves a state from which the agent converges without help. It needs no inbound port
//! and links neither Git nor a database.
#![forbid(unsafe_code)]

mod agent;
mod banner;
mod client;
mod config;
mod disk;
mod document;
mod drift;
mod engine;
mod failure;
mod identity;
mod inspect;
mod machine;
mod overlay;
mod owners;
mod path;
mod paths;
mod prepare;
mod progress;
mod report;
mod services;
mod state;
mod system_info;

pub use agent::{Agent, AgentError};
pub use client::ClientError;
pub use config::{AgentConfig, ConfigError, EnrollmentIdentity, Service, Timings};
pub use disk::{Disk, EntryKind, Owner, RealDisk, Space, Stat};
pub use document::{Document, DocumentError, WantedFile};
pub use engine::{Engine, Verdict};
pub use failure::{Component, Failure, Phase, Recurrence};
pub use identity::IdentityError;
pub use inspect::{Inspection, inspect};
pub use machine::{Action, Event, MAX_ATTEMPTS, MAX_INTERRUPTIONS, Standing, standing, step};
pub use path::{FilePath, PathError};
pub use paths::DEFAULT_CONFIG;
pub use progress::Progress;
pub use services::{NoServices, ReloadRule, ServiceFailure, Services, Systemd};
pub use state::{Attempts, Blocked, Desired, ManagedFile, Original, Release, Stage, State};
