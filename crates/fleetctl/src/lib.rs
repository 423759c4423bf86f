//! `fleetctl`: looks at fleets, checks repositories, approves devices and commits. It talks to the service's users' interface and
//! never to the database; desired state is changed in Git only.
//!
//! Exit codes: 0 all is well, 1 the answer is negative (findings, a refused commit), 2 it could not be done.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod commands;
mod config;
mod duration;
mod fmt;
mod init;
mod lint;
mod objects;
mod output;
mod plan;
mod render;
mod tree;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use fleet_runtime::{Clock, SystemClock};

pub use cli::Cli;
pub use output::Terminal;

use cli::Command;

/// How a command ended, when it could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Good,
    /// The answer is negative.
    Negative,
}

/// Where a command's words go.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Errors and remarks.
    pub err: &'a mut dyn Write,
    /// What `out` is shown on.
    pub terminal: Terminal,
    /// The time.
    pub clock: &'a dyn Clock,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// Runs the program on the process's arguments and terminal.
pub fn main_with_terminal() -> ExitCode {
    let terminal = Terminal::of_stdout();
    let (mut out, mut err) = (io::BufWriter::new(io::stdout().lock()), io::stderr().lock());
    let mut io = Io { out: &mut out, err: &mut err, terminal, clock: &SystemClock };
    let code = run(std::env::args_os(), &mut io);
    let code = if out.flush().is_err() && code == 0 { 2 } else { code };
    ExitCode::from(code)
}

/// Runs the program on these arguments, the program's name first. Returns the exit code; never panics on a closed pipe.
pub fn run(args: impl IntoIterator<Item = OsString>, io: &mut Io<'_>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let to: &mut dyn Write = if error.use_stderr() { io.err } else { io.out };
            // Nothing can be said to somebody who does not listen.
            let _ = write!(to, "{error}");
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let done = dispatch(cli, io).and_then(|outcome| {
        io.out.flush().context("cannot write the output")?;
        Ok(outcome)
    });
    match done {
        Ok(Outcome::Good) => 0,
        Ok(Outcome::Negative) => 1,
        Err(error) => {
            if !is_broken_pipe(&error) {
                let _ = writeln!(io.err, "error: {}", output::printable(&format!("{error:#}")));
            }
            2
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn dispatch(cli: Cli, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the network runtime")
    };
    io.terminal = io.terminal.with_color(cli.color);
    match cli.command {
        Command::Lint(args) => lint::run(&args, io),
        Command::Explain(args) => commands::explain(&args, io),
        Command::Fmt(args) => fmt::run(&args, io),
        Command::Init(args) => init::run(&args, io),
        Command::Render(args) => render::run(&args, io),
        Command::Plan(args) => plan::run(&args, &cli.connection, io),
        Command::Token(args) => commands::token(&args, io),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::command(), "fleetctl", &mut script);
            io.out.write_all(&script)?;
            Ok(Outcome::Good)
        }
        Command::Get(args) => runtime()?.block_on(commands::get(&args, &cli.connection, io)),
        Command::Describe(args) => runtime()?.block_on(commands::describe(&args, &cli.connection, io)),
        Command::Approve(args) => runtime()?.block_on(commands::approve(&args, &cli.connection, io)),
        Command::Sync(args) => runtime()?.block_on(commands::sync(&args, &cli.connection, io)),
        Command::Source { command } => runtime()?.block_on(commands::source(&command, &cli.connection, io)),
        Command::EnrollmentConfig(args) => runtime()?.block_on(commands::enrollment_config(&args, &cli.connection, io)),
        Command::Version(args) => runtime()?.block_on(commands::version(&args, &cli.connection, io)),
    }
}
