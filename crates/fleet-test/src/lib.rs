//! Real parts for tests: a throw-away PostgreSQL, Git repositories, a TCP proxy that misbehaves, and waiting without hoping.
//!
//! For tests and `xtask` only. Nothing here is simulated: databases and repositories are those of the installed programs.
//! Helpers panic with a full sentence when the machine cannot do what a test needs; `try_` variants return it instead.
#![forbid(unsafe_code)]

mod connect_proxy;
mod fault_proxy;
pub mod file_server;
mod git_repo;
pub mod git_server;
mod postgres;
pub mod ssh_server;
mod wait;

pub use connect_proxy::ConnectProxy;
pub use fault_proxy::{Fault, TcpFaultProxy};
pub use git_repo::GitRepo;
pub use postgres::{TestDatabase, TestPostgres};
pub use wait::wait_for;
