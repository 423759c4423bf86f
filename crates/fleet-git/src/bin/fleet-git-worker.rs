//! The Git worker as a program of its own. `fleetd git-worker` runs the same function; this one serves the tests of
//! this crate and anybody who wants the worker without the service.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleet_git::askpass_main().unwrap_or_else(fleet_git::worker_main)
}
