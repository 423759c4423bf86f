//! Chores of this workspace that need more than cargo: `cargo xtask help` lists them.

mod edges;
mod sqlx;
mod tidy;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  ci [ARGS]          all checks, as tests/run.sh ARGS
  tidy               sizes, names, crate edges, links in the documentation
  schemas [--check]  write schemas/ from the types, or only compare
  sqlx [--check]     write .sqlx/ from the queries of fleet-store, or only compare; starts a throw-away PostgreSQL
  help               this text
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci", rest @ ..] => succeed(Command::new(root().join("tests/run.sh")).args(rest)),
        ["tidy"] => tidy_command(),
        ["schemas"] => succeed(schema_test().env("UPDATE_SCHEMAS", "1")),
        ["schemas", "--check"] => succeed(&mut schema_test()),
        ["sqlx"] => sqlx::run(sqlx::Mode::Update),
        ["sqlx", "--check"] => sqlx::run(sqlx::Mode::Check),
        [] | ["help" | "--help" | "-h"] => {
            say(HELP.trim_end());
            Ok(())
        }
        other => bail!("unknown: {}\n{HELP}", other.join(" ")),
    }
}

fn tidy_command() -> Result<()> {
    let mut findings = tidy::check(root())?;
    findings.extend(edges::check(&edges::metadata(root())?));
    findings.extend(edges::check_built()?);
    for warning in tidy::large_files(root())? {
        say(&format!("warning: {warning}"));
    }
    for finding in &findings {
        say(&format!("error: {finding}"));
    }
    ensure!(findings.is_empty(), "{} findings", findings.len());
    say("tidy");
    Ok(())
}

fn schema_test() -> Command {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", "fleet-lint", "--test", "schemas"]);
    command
}

/// Cargo of the toolchain that runs this, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {}", command.get_program().display()))?;
    ensure!(status.success(), "{} failed ({status})", command.get_program().display());
    Ok(())
}

/// The top of the workspace.
pub(crate) fn root() -> &'static Path {
    static ROOT: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        here.canonicalize().unwrap_or(here)
    });
    &ROOT
}

/// One line for the person who runs this.
pub(crate) fn say(line: &str) {
    // A closed pipe is not worth a failure.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
