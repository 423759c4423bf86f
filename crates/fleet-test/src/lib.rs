//! Real parts for tests: a throw-away PostgreSQL, Git repositories, a TCP proxy that misbehaves, and waiting without hoping.
//!
//! For tests and `xtask` only. Databases and repositories are those of the installed programs; only the forge API
//! ([`forge_host`]) is the documented contract in code.
//! Helpers panic with a full sentence when the machine cannot do what a test needs; `try_` variants return it instead.
#![forbid(unsafe_code)]

mod bad_hosts;
mod connect_proxy;
mod fault_proxy;
pub mod file_server;
pub mod forge_host;
mod git_repo;
pub mod git_server;
mod logged;
mod postgres;
mod process_tree;
mod reserved_port;
mod shapes;
pub mod ssh_server;
mod sync_service;
mod wait;

pub use bad_hosts::{BadHost, Badness};
pub use connect_proxy::ConnectProxy;
pub use fault_proxy::{Fault, TcpFaultProxy};
pub use git_repo::GitRepo;
pub use logged::LoggedProcess;
pub use postgres::{TestDatabase, TestPostgres};
pub use process_tree::{TreeUse, percentile, tree_use};
pub use reserved_port::ReservedPort;
pub use shapes::{BareRepo, RepoFarm, Shape};
pub use sync_service::{SyncService, SyncSettings};
pub use wait::wait_for;
