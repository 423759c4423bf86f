//! `fleetctl plan`: which objects and devices a change touches, before it is merged. Both sides come from Git; the
//! decision is the one that the service makes when it applies a commit.

mod detail;
mod human;
mod inventory;
mod json;
mod limits;
mod markdown;
mod masked;
mod names;
mod range;
mod signatures;
mod text;
mod words;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use fleet_git::GitErrorKind;
use fleet_lint::has_errors;
use fleet_render::plan::{self, Exceeded, Plan, State};

use crate::cli::Connection;
use crate::tree::Tree;
use crate::tree::clones::Clones;
use crate::tree::place::{Place, RepositoryArgs, show_errors, show_remarks};
use crate::tree::state;
use crate::{Io, Outcome};

use detail::Detail;
use inventory::Known;
use limits::Measured;
use names::Names;
use range::Range;
use signatures::{Question, Signatures};

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// With differences, for people
    Human,
    /// One JSON object
    Json,
    /// A comment for a pull request
    Markdown,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What to compare: BASE..HEAD, BASE... HEAD's merge base, BASE.. for the checkout as it lies there
    /// [default: from the merge base with origin's default branch to the checkout]
    #[arg(value_name = "BASE..HEAD")]
    pub(crate) range: Option<String>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The source's name in the service: its SyncPolicy is looked at
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Take the enrolled devices from the service, too; implied by --server
    #[arg(long)]
    pub(crate) live: bool,
    /// HEAD is a merge that only tries how this revision would land, as CI makes it: judge the signatures of its commits
    #[arg(long, value_name = "REV")]
    pub(crate) proposal: Option<String>,
    /// Exit with 1 when the change exceeds a limit of the SyncPolicy, or lacks a signature that it asks for
    #[arg(long)]
    pub(crate) fail_on_limits: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Human)]
    pub(crate) output: PlanFormat,
    /// Show at most so many groups of devices
    #[arg(long, value_name = "GROUPS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max: u16,
    /// The most bytes of a comment; GitHub takes 65,536
    #[arg(long, value_name = "BYTES", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(4_000..=10_000_000))]
    pub(crate) max_bytes: u32,
}

/// Everything that the outputs show.
#[derive(Debug)]
pub(crate) struct Report {
    plan: Plan,
    /// What is compared.
    range: Range,
    /// The source's path.
    path: Option<String>,
    known: Known,
    names: Names,
    /// For each group that is shown what changes, with contents.
    details: Vec<Detail>,
    measured: Vec<Measured>,
    exceeded: Vec<Exceeded>,
    /// Which commits lack a signature.
    signatures: Signatures,
    /// What people should know to read it.
    remarks: Vec<String>,
}

pub(crate) fn run(args: &PlanArgs, connection: &Connection, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let place = Place::find(&args.repository)?;
    let clones = Clones::open(&args.repository.repositories)?;
    let range = Range::read(args.range.as_deref(), place.repository()?)?;
    let proposal = match &args.proposal {
        Some(revision) => Some(place.repository()?.resolve(revision).context("--proposal")?),
        None => None,
    };
    let mut remarks = Vec::new();
    let base = load_base(&place, &range, &mut remarks)?;
    let head = match &range.head {
        Some(commit) => place.load_commit(&commit.id, base.as_ref())?,
        None => place.load_checkout(base.as_ref())?,
    };
    show_remarks(&head, io)?;
    let after = state::build(&head, base.as_ref().and_then(|tree| tree.lint_config.as_deref()), &clones, &Vec::new());
    if show_errors(&after.findings, io)? > 0 {
        return Ok(Outcome::Negative);
    }
    remarks.extend(after.remarks);
    let (mut current, mut incoming) = (State::default(), after.state);
    let mut policy = limits::Found::default();
    if let Some(tree) = &base {
        let before = state::build(tree, None, &clones, &Vec::new());
        if has_errors(&before.findings) {
            remarks.push(format!(
                "{} has errors, so the service does not apply it; what devices have now may come from an earlier commit",
                range.base
            ));
        }
        policy = limits::find(&before.report, args.source.as_deref());
        if has_errors(&before.findings) && !policy.trust().is_empty() {
            policy.unclear_trust = Some(format!("{} has errors, so that other rules may be in force", range.base));
        }
        current = before.state;
    }
    remarks.extend(policy.remark.take());
    let known = if args.live || connection.server.is_some() {
        inventory::live(connection, &mut current, &mut incoming)?
    } else {
        Known::of_manifests()
    };
    let plan = plan::plan(&current, &incoming, &known.inventory);
    let most = match args.output {
        PlanFormat::Human | PlanFormat::Markdown => usize::from(args.max),
        PlanFormat::Json => usize::MAX,
    };
    let details = detail::of_groups(&plan.groups, most, &current, &incoming, &known.inventory);
    let names = Names::collect(&current, &incoming, &known.inventory);
    let (measured, exceeded) = limits::measure(&plan.radius, &policy);
    remarks.extend(limits::grace(&plan.radius, &policy));
    let signatures = signatures::judge(&Question {
        place: &place,
        clones: &clones,
        range: &range,
        proposal: proposal.as_ref(),
        asked: policy.trust(),
        unclear: policy.unclear_trust.clone(),
        base: base.as_ref(),
        current: &current,
        incoming: &incoming,
        inventory: &known.inventory,
        plan: &plan,
    })?;
    let over = !exceeded.is_empty() || signatures.hold();
    let path = args.repository.path.clone();
    let report = Report { plan, range, path, known, names, details, measured, exceeded, signatures, remarks };
    match args.output {
        PlanFormat::Human => human::write(&report, io)?,
        PlanFormat::Json => json::write(&report, io)?,
        PlanFormat::Markdown => {
            let bytes = usize::try_from(args.max_bytes).context("--max-bytes")?;
            io.out.write_all(markdown::comment(&report, bytes).as_bytes())?;
        }
    }
    Ok(if over && args.fail_on_limits { Outcome::Negative } else { Outcome::Good })
}

/// The files before the change; none when the source's path was not there yet.
fn load_base(place: &Place, range: &Range, remarks: &mut Vec<String>) -> anyhow::Result<Option<Tree>> {
    match place.load_commit(&range.base.id, None) {
        Ok(tree) => Ok(Some(tree)),
        Err(error) => match error.downcast_ref::<fleet_git::GitError>() {
            Some(missing) if missing.kind == GitErrorKind::PathMissing => {
                remarks.push(format!("{}: everything is new", missing.message));
                Ok(None)
            }
            Some(_) | None => Err(error),
        },
    }
}
