//! Real parts for tests: a throw-away PostgreSQL, Git repositories, a TCP proxy that misbehaves, and waiting without hoping.
//!
//! For tests and `xtask` only. Databases and repositories are those of the installed programs; only the forge API
//! ([`forge_host`]) is the documented contract in code.
//! Helpers panic with a full sentence when the machine cannot do what a test needs; `try_` variants return it instead.
#![forbid(unsafe_code)]

mod fault_proxy;
pub mod forge_host;
mod git_repo;
pub mod git_server;
mod postgres;
pub mod ssh_server;
mod wait;

pub use fault_proxy::{Fault, TcpFaultProxy};
pub use git_repo::GitRepo;
pub use postgres::{TestDatabase, TestPostgres};
pub use wait::wait_for;
