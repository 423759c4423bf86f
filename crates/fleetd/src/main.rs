//! `fleetd`: the service.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use fleet_runtime::{CancellationToken, init_logging};
use fleetd::config::{self, Config, ENVIRONMENT};

/// The Shorebase service: follows Git repositories and keeps fleets of devices in line with them.
#[derive(Debug, Parser)]
#[command(name = "fleetd", version, after_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until it is told to end.
    #[command(after_help = "Example:\n  fleetd serve --config /etc/fleetd/config.yaml")]
    Serve(ConfigArgument),
    /// Bring the database schema up to date, and end.
    Migrate(ConfigArgument),
    /// Check the configuration file: exit code 0 when it is good, 1 with all problems when not.
    CheckConfig(ConfigArgument),
    /// Read Git repositories for the service; started by it.
    #[command(hide = true)]
    GitWorker,
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "FLEETD_CONFIG", default_value = "/etc/fleetd/config.yaml")]
    config: PathBuf,
}

impl ConfigArgument {
    fn load(&self) -> Result<Config, config::ConfigErrors> {
        config::load(&self.config, &|name| std::env::var(name).ok())
    }
}

fn after_help() -> String {
    let mut text = "Environment, in place of values in the configuration file:\n".to_owned();
    for (variable, place) in ENVIRONMENT {
        text.push_str(&format!("  {variable:<26}{place}\n"));
    }
    text
}

fn main() -> ExitCode {
    if let Some(answered) = fleet_git::askpass_main() {
        return answered;
    }
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::GitWorker => return fleet_git::worker_main(),
        Command::CheckConfig(argument) => return check_config(argument),
        Command::Serve(argument) => with_runtime(argument, |config| fleetd::serve(config, CancellationToken::new())),
        Command::Migrate(argument) => with_runtime(argument, |config| async move { fleetd::migrate(&config).await }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn with_runtime<F>(argument: &ConfigArgument, run: impl FnOnce(Config) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let config = argument.load()?;
    // What the service writes is for its own user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    init_logging(&config.log_level, config.log_format)?;
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(run(config))
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn check_config(argument: &ConfigArgument) -> ExitCode {
    match argument.load() {
        Ok(config) => {
            let database =
                if config.database.url.is_some() { "a database of your own" } else { "the embedded database" };
            println!("{}: good; {} sources, {database}", argument.config.display(), config.sources.len());
            ExitCode::SUCCESS
        }
        Err(errors) => fail(&errors.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "the reason of a failure, also before logging is set up")]
fn fail(message: &str) -> ExitCode {
    eprintln!("fleetd: {message}");
    ExitCode::FAILURE
}
