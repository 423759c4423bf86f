//! The program `fleet-agent`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use fleet_agent::{Agent, AgentConfig};
use fleet_runtime::{CancellationToken, ErrorChain, LogFormat, SystemClock, init_logging, shutdown_signal};

const EXAMPLES: &str = "Examples:
  fleet-agent                          Run until stopped, with /etc/fleet-agent/config.yaml
  fleet-agent --once --deadline 120    Enrol if need be, apply what there is, report and exit
  fleet-agent --root /tmp/device-1     A device of its own below a directory; needs no privileges
  fleet-agent status --output json     What is applied, without asking the service

Exit status: 0 when stopped or converged, 1 on failure with the reason on standard error, 2 on wrong usage.";

#[derive(Debug, Parser)]
#[command(name = "fleet-agent", version, about = "Keeps this device as its fleet says", after_help = EXAMPLES)]
struct Cli {
    /// Take every path to be below this directory: configuration, state, managed files, banner
    #[arg(long, global = true, value_name = "DIR", default_value = "/", env = "FLEET_AGENT_ROOT")]
    root: PathBuf,
    /// Configuration file, an absolute path below the root
    #[arg(long, global = true, value_name = "FILE", default_value = fleet_agent::DEFAULT_CONFIG)]
    config: String,
    /// Log lines for people or for machines
    #[arg(long, global = true, value_enum, default_value_t = Log::Text)]
    log_format: Log,
    /// Enrol if need be, apply what there is, report, and exit
    #[arg(long, global = true)]
    once: bool,
    /// With --once: give up after so many seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 300)]
    deadline: u64,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until stopped; this is what happens without a command
    Run,
    /// Print what is applied on this device
    Status {
        /// How to print it
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        None | Some(Command::Run) => run(&cli),
        Some(Command::Status { output }) => status(&cli.root, *output),
        Some(Command::Version) => print(concat!("fleet-agent ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(std::io::stderr().lock(), "fleet-agent: {}", ErrorChain(error.as_ref()));
            drop(told);
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn status(root: &Path, output: Output) -> anyhow::Result<()> {
    let found = fleet_agent::inspect(root)?;
    match output {
        Output::Text => print(&found.to_string()),
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&found)?)),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let config = AgentConfig::load(&cli.root, Some(&cli.config))?;
    let format = match cli.log_format {
        Log::Text => LogFormat::Text,
        Log::Json => LogFormat::Json,
    };
    init_logging(&config.log_level, format)?;
    // One thread for the network and a few for files and names: a device has better things to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let agent = Agent::new(config, Arc::new(SystemClock), shutdown.clone());
        let (once, deadline) = (cli.once, Duration::from_secs(cli.deadline));
        let work = async {
            if once {
                let progress = agent.run_once(deadline).await?;
                return print(&format!("{}\n", progress.message));
            }
            Ok(agent.run().await?)
        };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            result = &mut work => result,
            heard = shutdown_signal(shutdown) => {
                heard?;
                work.await
            }
        }
    })
}
