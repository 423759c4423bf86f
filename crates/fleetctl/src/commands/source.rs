//! `fleetctl source`: decides about the commit of a source that waits, and suspends and resumes sources.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use fleet_model::{Digest, Source, SourceHold};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Connection;
use crate::client::Client;
use crate::duration::parse_duration;
use crate::objects::short;
use crate::output::printable;
use crate::{Io, Outcome};

/// Digests may be shortened to this many hex digits.
const MIN_DIGEST: usize = 12;

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Approve the plan of the commit that waits; without --plan it is shown
    Approve(ApproveSourceArgs),
    /// Reject the commit that waits: a newer one takes its place
    Reject(RejectSourceArgs),
    /// Look at the source and apply nothing
    Suspend(SuspendSourceArgs),
    /// Apply commits again
    Resume(ResumeSourceArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApproveSourceArgs {
    /// Name of the source
    pub(crate) name: String,
    /// Digest of the plan that you looked at, at least 12 digits
    #[arg(long, value_name = "DIGEST")]
    pub(crate) plan: Option<String>,
    /// Why, for others
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct RejectSourceArgs {
    /// Name of the source
    pub(crate) name: String,
    /// Only when this plan waits: its digest, at least 12 digits
    #[arg(long, value_name = "DIGEST")]
    pub(crate) plan: Option<String>,
    /// Why, for others
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct SuspendSourceArgs {
    /// Name of the source
    pub(crate) name: String,
    /// Why, for others
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// For how long: 30m, 2h, 7d; until it is resumed when absent
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeSourceArgs {
    /// Name of the source
    pub(crate) name: String,
    /// Why, for others
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

pub(crate) async fn source(
    command: &SourceCommand,
    connection: &Connection,
    io: &mut Io<'_>,
) -> anyhow::Result<Outcome> {
    let client = Client::new(connection)?;
    match command {
        SourceCommand::Approve(args) => approve(args, &client, io).await,
        SourceCommand::Reject(args) => reject(args, &client, io).await,
        SourceCommand::Suspend(args) => suspend(args, &client, io).await,
        SourceCommand::Resume(args) => resume(args, &client, io).await,
    }
}

async fn fetch(client: &Client, name: &str) -> anyhow::Result<Source> {
    parsed(client.get(&["sources", name], &[]).await?)
}

fn parsed(answer: Value) -> anyhow::Result<Source> {
    serde_json::from_value(answer).context("the service's answer is not a source")
}

async fn approve(args: &ApproveSourceArgs, client: &Client, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let name = &args.name;
    let source = fetch(client, name).await?;
    let wanted = args.plan.as_deref().map(checked).transpose()?;
    let Some(held) = &source.status.held else {
        let applied = source.status.plan.as_ref().map(|plan| plan.digest.as_str());
        if wanted.as_ref().zip(applied).is_some_and(|(wanted, applied)| is_meant(wanted, applied)) {
            writeln!(io.out, "source/{} is applied already", printable(name))?;
            return Ok(Outcome::Good);
        }
        bail!("no commit of source/{name} waits for approval");
    };
    match wanted {
        Some(wanted) if is_meant(&wanted, &held.digest) => {}
        Some(wanted) => {
            writeln!(io.out, "source/{}: {wanted} is not the plan that waits\n", printable(name))?;
            write_hold(name, held, io)?;
            return Ok(Outcome::Negative);
        }
        None => {
            write_hold(name, held, io)?;
            if !asked(io)? {
                return Ok(Outcome::Negative);
            }
        }
    }
    let body = json!({"digest": held.digest, "commit": held.commit, "reason": args.reason});
    client.send(Method::POST, &["sources", name, "approve"], &[], Some(&body)).await?;
    let commit = short(&held.commit);
    writeln!(
        io.out,
        "source/{} commit {} approved; it is applied if its plan is still this one",
        printable(name),
        printable(&commit)
    )?;
    Ok(Outcome::Good)
}

/// Asks a person at a terminal. Anybody else has to name the plan.
fn asked(io: &mut Io<'_>) -> anyhow::Result<bool> {
    if io.terminal.width.is_none() || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(io.out, "\nApprove this plan? [y/N] ")?;
    io.out.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn reject(args: &RejectSourceArgs, client: &Client, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let name = &args.name;
    let source = fetch(client, name).await?;
    let wanted = args.plan.as_deref().map(checked).transpose()?;
    let Some(held) = &source.status.held else { bail!("no commit of source/{name} waits for a decision") };
    if let Some(wanted) = wanted.filter(|wanted| !is_meant(wanted, &held.digest)) {
        writeln!(io.out, "source/{}: {wanted} is not the plan that waits\n", printable(name))?;
        write_hold(name, held, io)?;
        return Ok(Outcome::Negative);
    }
    let body = json!({"digest": held.digest, "reason": args.reason});
    client.send(Method::POST, &["sources", name, "reject"], &[], Some(&body)).await?;
    let commit = short(&held.commit);
    writeln!(
        io.out,
        "source/{} commit {} rejected; a newer commit takes its place",
        printable(name),
        printable(&commit)
    )?;
    Ok(Outcome::Good)
}

async fn suspend(args: &SuspendSourceArgs, client: &Client, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let mut body = json!({"reason": args.reason});
    if let Some(time) = args.duration {
        let until = io.clock.now().checked_add(time).context("that is too far ahead")?;
        body["until"] = until.to_string().into();
    }
    let answer = client.send(Method::POST, &["sources", &args.name, "suspend"], &[], Some(&body)).await?;
    let until = parsed(answer)?.status.suspended.and_then(|suspension| suspension.until);
    let until = until.map_or_else(|| "until it is resumed".to_owned(), |until| format!("until {until}"));
    writeln!(io.out, "source/{} suspended {}", printable(&args.name), printable(&until))?;
    Ok(Outcome::Good)
}

async fn resume(args: &ResumeSourceArgs, client: &Client, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let body = json!({"reason": args.reason});
    client.send(Method::POST, &["sources", &args.name, "resume"], &[], Some(&body)).await?;
    writeln!(io.out, "source/{} resumed", printable(&args.name))?;
    Ok(Outcome::Good)
}

/// The hex digits of a digest that may be shortened.
fn checked(text: &str) -> anyhow::Result<String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    if hex.len() < MIN_DIGEST || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("--plan {text:?}: give the plan's digest, at least {MIN_DIGEST} hex digits of it");
    }
    Ok(hex)
}

fn is_meant(wanted: &str, digest: &str) -> bool {
    digest.strip_prefix("sha256:").unwrap_or(digest).starts_with(wanted)
}

/// What waits and why, and how to go on.
pub(super) fn write_hold(name: &str, held: &SourceHold, io: &mut Io<'_>) -> std::io::Result<()> {
    let commit = short(&held.commit);
    let (name, commit) = (printable(name), printable(&commit));
    writeln!(
        io.out,
        "Commit {commit} waits for approval since {} ({}):",
        printable(&held.since),
        printable(&held.reason)
    )?;
    for sentence in &held.sentences {
        writeln!(io.out, "  {}", printable(sentence))?;
    }
    let summary = held.summary.get("sentence").and_then(Value::as_str).unwrap_or_default();
    writeln!(io.out, "Its plan: {}", printable(summary))?;
    writeln!(io.out, "  {}", printable(&held.digest))?;
    if let Some(decision) = &held.decision {
        let word = if decision.approved { "approved" } else { "rejected" };
        let why = if decision.reason.is_empty() { String::new() } else { format!(": {}", decision.reason) };
        writeln!(
            io.out,
            "It was {word} by {} at {}{}",
            printable(&decision.by),
            printable(&decision.at),
            printable(&why)
        )?;
    }
    let digest = held.digest.parse::<Digest>().map_or_else(|_| held.digest.clone(), |digest| digest.short());
    writeln!(io.out, "To look at it: fleetctl get plan {commit} --source {name} -o yaml")?;
    writeln!(io.out, "To approve it: fleetctl source approve {name} --plan {}", printable(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_may_be_shortened_to_twelve_digits() {
        let digest = Digest::of(b"plan");
        for good in [digest.to_string(), digest.hex(), digest.hex()[..12].to_owned(), digest.hex().to_uppercase()] {
            assert!(is_meant(&checked(&good).unwrap(), &digest.to_string()), "{good}");
        }
        assert!(!is_meant(&checked(&Digest::of(b"other").hex()).unwrap(), &digest.to_string()));
        let long = format!("{}0", digest.hex());
        for bad in ["", "sha256:", &digest.hex()[..11], "latest-plan-of-all", &long] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
