//! The `fleetctl` program: terminal, process and nothing else; the work is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetctl::main_with_terminal()
}
