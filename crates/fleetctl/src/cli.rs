//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use fleet_model::Role;

use crate::duration::parse_duration;

/// Looks at fleets of devices, checks the repositories that describe them, and approves devices.
///
/// Desired state is changed in Git; there is no `apply` here.
#[derive(Debug, Parser)]
#[command(
    name = "fleetctl",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        fleetctl lint                      check the repository in this directory\n  \
        fleetctl get devices -l site=berlin\n  \
        fleetctl approve r1qtmv -l site=berlin\n  \
        fleetctl sync --all --wait\n\n\
        Exit codes: 0 all is well, 1 the answer is negative (findings, a commit that is refused or waits), 2 it could not be done."
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// When to use colours; `auto` is on a terminal, and heeds NO_COLOR and CLICOLOR_FORCE
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The command, for completions.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// How to reach the service; what is not given comes from the configuration file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Configuration file [default: ~/.config/fleetctl/config.yaml]
    #[arg(long, global = true, env = "FLEETCTL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The service: https://host:3443
    #[arg(long, global = true, env = "FLEETCTL_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// PEM certificates to trust; nothing else is trusted then
    #[arg(long, global = true, env = "FLEETCTL_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// File with the bearer token [env of the token itself: FLEETCTL_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check manifests: the same checks that the service makes before it applies a commit
    #[command(after_help = LINT_HELP)]
    Lint(LintArgs),
    /// Explain the codes of findings: what they mean, with a wrong and a right example
    #[command(after_help = "Without a code all are listed.\n\n\
            Examples:\n  fleetctl explain SB0103\n  fleetctl explain sb0103 SB0301\n  fleetctl explain\n  \
            fleetctl explain -o json")]
    Explain(ExplainArgs),
    /// Give manifests one layout, without touching what they say or their comments
    #[command(
        after_help = "Content that gitRefs take, and what .fleetlint.yaml excludes, is left alone. A file that cannot be laid \
            out safely is named and left as it is: exit code 2.\n\n\
            Examples:\n  fleetctl fmt\n  fleetctl fmt --check\n  fleetctl fmt --diff fleets\n  fleetctl fmt - < pos.yaml"
    )]
    Fmt(crate::fmt::FmtArgs),
    /// Make a new repository for fleets
    #[command(after_help = "Examples:\n  fleetctl init fleets\n  fleetctl init --name shops --ci gitlab fleets\n  \
            mkdir fleets && cd fleets && git init && fleetctl init")]
    Init(crate::init::InitArgs),
    /// Show the exact document that each device gets, from the files in Git
    #[command(
        after_help = "Examples:\n  fleetctl render\n  fleetctl render kiosk-1 -o json | head -c -1 | sha256sum\n  \
            fleetctl render kiosk-1 --rev v1.2\n  fleetctl render new-one --label site=berlin\n  \
            fleetctl render -l site=berlin -o files --out /tmp/berlin"
    )]
    Render(crate::render::RenderArgs),
    /// Show which objects and devices a change touches, and how
    #[command(
        after_help = "Without revisions: what the checkout as it lies there would change, compared with where it left \
            the default branch of origin.\n\n\
            Examples:\n  fleetctl plan\n  fleetctl plan origin/main..HEAD -o markdown\n  fleetctl plan HEAD..\n  \
            fleetctl plan --server https://fleet.example.com:3443 --fail-on-limits\n  \
            fleetctl plan --repository configs=../configs@main"
    )]
    Plan(crate::plan::PlanArgs),
    /// Show resources
    #[command(
        after_help = "Types (short): devices (dev), fleets, sources (src), enrollmentrequests (er), events (ev), \
            repositories (repo), resourcesyncs (rs), templateversions (tv), plans, certificatesigningrequests (csr), \
            organizations (org)\n\n\
            Examples:\n  fleetctl get devices\n  fleetctl get dev -l 'site in (berlin,paris)' -o wide\n  \
            fleetctl get fleet/pos -o yaml\n  fleetctl get er --field-selector '!status.approval.approved'\n  \
            fleetctl get tv --fleetname pos\n  fleetctl get plans --source fleets\n  \
            fleetctl get plan 3f1c22a --source fleets -o yaml"
    )]
    Get(GetArgs),
    /// Show one resource for people: conditions, findings, recent events
    #[command(after_help = "Examples:\n  fleetctl describe source fleets\n  fleetctl describe dev/r1qtmv")]
    Describe(DescribeArgs),
    /// Approve or deny devices that ask to be enrolled
    #[command(after_help = "Names may be shortened to a unique beginning of at least 6 characters.\n\n\
            Examples:\n  fleetctl approve r1qtmv\n  fleetctl approve r1qtmv -l site=berlin -l stage=prod\n  \
            fleetctl approve r1qtmv --replace-labels -l site=berlin\n  fleetctl approve r1qtmv --deny")]
    Approve(ApproveArgs),
    /// Have sources polled now
    #[command(after_help = "Examples:\n  fleetctl sync fleets\n  fleetctl sync --all --wait\n  \
            fleetctl sync fleets --wait --commit $(git rev-parse HEAD)")]
    Sync(SyncArgs),
    /// Decide about a commit that waits for approval; suspend and resume sources
    #[command(after_help = "An approval names a plan: what was looked at is applied, and nothing else.\n\n\
            Examples:\n  fleetctl source approve fleets\n  fleetctl source approve fleets --plan 3f1c22a90b1d --reason 'shop 12 closes'\n  \
            fleetctl source reject fleets --reason 'wrong branch'\n  \
            fleetctl source suspend fleets --for 2h --reason 'stocktaking'\n  fleetctl source resume fleets")]
    Source {
        #[command(subcommand)]
        command: crate::commands::SourceCommand,
    },
    /// Make a token with the service's own key, on the service's machine
    #[command(
        after_help = "Examples:\n  fleetctl token --data-dir /var/lib/fleetd --role admin --ttl 12h > admin.token\n  \
            fleetctl token --key user-issuer.key --role installer --subject ci"
    )]
    Token(TokenArgs),
    /// Make an agent configuration with a new enrolment certificate
    #[command(
        after_help = "The key is made here and never sent. The file lets its holder ask for enrolment, no more.\n\n\
            Examples:\n  fleetctl enrollment-config -o config.yaml\n  fleetctl enrollment-config --ttl 30d -l site=berlin -o config.yaml"
    )]
    EnrollmentConfig(EnrollmentConfigArgs),
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  fleetctl completion bash > /etc/bash_completion.d/fleetctl")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the versions of this program and of the service
    #[command(after_help = "Examples:\n  fleetctl version\n  fleetctl version --client -o json")]
    Version(VersionArgs),
}

const LINT_HELP: &str = "Examples:
  fleetctl lint                                 the repository in this directory
  fleetctl lint --root . fleets/berlin          a part of it; paths count from the root
  fleetctl lint fleets/pos.yaml                 single files
  fleetctl lint --rev origin/main               a revision instead of the files on disk
  fleetctl lint - --stdin-path fleets/pos.yaml < draft.yaml

In a build:
  fleetctl lint -o github                       GitHub Actions: annotations in the pull request
  fleetctl lint -o sarif > lint.sarif           GitHub code scanning, Azure DevOps, editors
  fleetctl lint -o gitlab > codequality.json    GitLab: artifacts:reports:codequality
  fleetctl lint -o junit > lint.xml             Jenkins, GitLab, Azure Pipelines: test reports
  fleetctl lint -o json | jq .diagnostics       scripts

Files that Git ignores are left out, unless they are named.
A finding that is right as it is: `# fleetlint: ignore SB0505 -- why` on its line or the one above.
Severities for the whole repository: .fleetlint.yaml at its root.

Exit codes: 0 no errors, 1 errors (with --strict also warnings), 2 it could not be done.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintFormat {
    /// With source lines, for people
    Human,
    /// One JSON object
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Workflow commands of GitHub Actions
    Github,
    /// Code quality report of GitLab
    Gitlab,
    /// JUnit XML, a suite per file
    Junit,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Repositories, or files; with --root also parts of that repository; `-` is standard input
    #[arg(default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// The repository that the directories are parts of: paths in manifests count from here
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Check this revision of the Git repository: a branch, tag or commit
    #[arg(long, value_name = "REV")]
    pub(crate) rev: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = LintFormat::Human)]
    pub(crate) output: LintFormat,
    /// Exit with 1 also when there are only warnings
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show at most so many findings, errors first; 0 is all [default: 200 for people, else all]
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<usize>,
    /// Show also what comments suppress (JSON and JUnit always do)
    #[arg(long)]
    pub(crate) show_suppressed: bool,
    /// What standard input is called in findings, and where in the repository it would be
    #[arg(long, value_name = "NAME")]
    pub(crate) stdin_path: Option<PathBuf>,
    /// Use this file instead of .fleetlint.yaml at the root of the repository
    #[arg(long, value_name = "FILE", conflicts_with = "no_lint_config")]
    pub(crate) lint_config: Option<PathBuf>,
    /// Use no .fleetlint.yaml
    #[arg(long)]
    pub(crate) no_lint_config: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// Pages, or a table
    Human,
    /// A JSON list
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Codes of findings, such as SB0103
    #[arg(value_name = "CODE")]
    pub(crate) codes: Vec<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = ExplainFormat::Human)]
    pub(crate) output: ExplainFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The most important columns
    Table,
    /// More columns
    Wide,
    /// The resources as JSON
    Json,
    /// The resources as YAML
    Yaml,
    /// TYPE/NAME, one per line
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// TYPE, or TYPE/NAME
    #[arg(value_name = "TYPE[/NAME]")]
    pub(crate) what: String,
    /// Names; devices and enrolment requests by a unique beginning of at least 6 characters
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Label selector: a=b,c in (d,e),!f
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Field selector: status.summary.status=Online
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// The fleet whose template versions are shown
    #[arg(long, value_name = "FLEET")]
    pub(crate) fleetname: Option<String>,
    /// The source whose plans are shown: what its applied commits changed
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// Show at most so many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: Option<u32>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// TYPE, or TYPE/NAME
    #[arg(value_name = "TYPE[/NAME]")]
    pub(crate) what: String,
    /// Name
    pub(crate) name: Option<String>,
    /// The fleet whose template version is shown
    #[arg(long, value_name = "FLEET")]
    pub(crate) fleetname: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Names of enrolment requests, or unique beginnings
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// A label for the device: key=value
    #[arg(short = 'l', long = "label", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Use only the labels given here, none of those the device asked for
    #[arg(long)]
    pub(crate) replace_labels: bool,
    /// Deny instead
    #[arg(long, conflicts_with_all = ["labels", "replace_labels"])]
    pub(crate) deny: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Names of sources
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) sources: Vec<String>,
    /// All sources
    #[arg(long)]
    pub(crate) all: bool,
    /// Wait until the newest commit is applied, or refused, or waits for approval
    #[arg(long)]
    pub(crate) wait: bool,
    /// Wait until this commit is applied or refused (its full id)
    #[arg(long, requires = "wait", value_name = "ID")]
    pub(crate) commit: Option<fleet_model::CommitId>,
    /// How long to wait at most
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The service's data directory
    #[arg(long, value_name = "DIR", required_unless_present = "key", conflicts_with = "key")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The signing key itself
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// What the token allows: viewer, operator, installer or admin
    #[arg(long, default_value_t = Role::Viewer)]
    pub(crate) role: Role,
    /// How long it is valid: 30m, 12h, 7d; at most 366d
    #[arg(long, default_value = "12h", value_parser = parse_duration)]
    pub(crate) ttl: Duration,
    /// Who gets it; shown in events
    #[arg(long, default_value = "fleetctl")]
    pub(crate) subject: String,
}

#[derive(Debug, Args)]
pub(crate) struct EnrollmentConfigArgs {
    /// Name of the certificate signing request [default: client-enrollment-<random>]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Host name under which devices reach the service, when it is another than the service says
    #[arg(long, value_name = "HOST")]
    pub(crate) server_name: Option<String>,
    /// How long the enrolment certificate is valid [default: as long as the service allows]
    #[arg(long, value_parser = parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// A label that the device asks for: key=value
    #[arg(short = 'l', long = "label", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Write to this file, readable by you only, instead of the terminal
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionFormat {
    /// Two lines
    Human,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// This program's version only
    #[arg(long)]
    pub(crate) client: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = VersionFormat::Human)]
    pub(crate) output: VersionFormat,
}

pub(crate) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not key=value"))?;
    fleet_model::validate_label_key(key).map_err(|error| error.to_string())?;
    fleet_model::validate_label_value(value).map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        for sub in command().get_subcommands() {
            assert!(
                sub.get_after_help().is_some_and(|help| help.to_string().contains("Example")),
                "{}",
                sub.get_name()
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for bad in [
            "fleetctl lint --lint-config a --no-lint-config",
            "fleetctl lint --max x",
            "fleetctl approve",
            "fleetctl approve abcdef --deny -l a=b",
            "fleetctl approve abcdef -l nonsense",
            "fleetctl sync",
            "fleetctl sync a --all",
            "fleetctl sync a --commit 0123456789012345678901234567890123456789",
            "fleetctl sync a --wait --commit main",
            "fleetctl source",
            "fleetctl source approve",
            "fleetctl source suspend a",
            "fleetctl source suspend a --reason b --for ever",
            "fleetctl token --role admin",
            "fleetctl token --data-dir a --key b",
            "fleetctl token --data-dir a --role root",
            "fleetctl token --data-dir a --ttl 12",
            "fleetctl get devices --limit 0",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for good in [
            "fleetctl lint a b -o json",
            "fleetctl lint - --stdin-path a.yaml --strict --max 0 --color always",
            "fleetctl explain",
            "fleetctl --color never explain sb0103 -o json",
            "fleetctl get dev abc -l a=b -o wide --server https://x",
            "fleetctl --server https://x describe source/a",
            "fleetctl approve abcdef -l a=b -l c= --replace-labels",
            "fleetctl token --key k --role admin --ttl 7d --subject me",
            "fleetctl source approve a --plan 0123456789ab --reason b",
            "fleetctl source suspend a --reason b --for 2h",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good).err());
        }
    }
}
