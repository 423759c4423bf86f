//! `fleetctl fmt`: gives manifests one layout. Content of `gitRef`s and what `.fleetlint.yaml` excludes is left alone, and
//! so is every file whose layout cannot be proved to say the same.

mod files;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use fleet_fmt::MAX_BYTES;
use similar::TextDiff;

use crate::output::{count, printable};
use crate::{Io, Outcome};
use files::Candidate;

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Directories or files; - reads standard input and writes standard output
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Write nothing: list the files that would change, and exit with 1 when there is one
    #[arg(long)]
    check: bool,
    /// The same, showing what would change
    #[arg(long)]
    diff: bool,
}

pub(crate) fn run(args: &FmtArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    if args.paths.iter().any(|path| path.as_os_str() == "-") {
        if args.paths.len() > 1 {
            bail!("- stands for the text on standard input; name no files beside it");
        }
        return standard_input(args, io);
    }
    let found = files::find(&args.paths)?;
    for remark in &found.remarks {
        writeln!(io.err, "note: {}", printable(remark))?;
    }
    let (mut changed, mut failed) = (0, 0);
    for file in &found.files {
        match one(file, args, io) {
            Ok(is_new) => changed += usize::from(is_new),
            Err(Trouble::Output(error)) => return Err(error),
            Err(Trouble::File(error)) => {
                failed += 1;
                writeln!(io.err, "error: {}: {}", printable(&file.shown), printable(&format!("{error:#}")))?;
            }
        }
    }
    let total = count(found.files.len(), "file");
    let writes = !(args.check || args.diff);
    match (changed, writes) {
        (0, _) if failed > 0 => {}
        (0, _) => writeln!(io.err, "{total}: nothing to change")?,
        (changed, true) => writeln!(io.err, "{total}: {changed} changed")?,
        (changed, false) => writeln!(io.err, "{total}: {changed} would change; run fleetctl fmt")?,
    }
    if failed > 0 {
        bail!("{} could not be laid out, see above", count(failed, "file"));
    }
    Ok(if changed > 0 && !writes { Outcome::Negative } else { Outcome::Good })
}

/// What went wrong with one file.
enum Trouble {
    /// The file is left as it is; others may fare better.
    File(anyhow::Error),
    /// Nobody listens any more.
    Output(anyhow::Error),
}

/// Lays out one file. Says whether that changes it.
fn one(file: &Candidate, args: &FmtArgs, io: &mut Io<'_>) -> Result<bool, Trouble> {
    let output = |error: std::io::Error| Trouble::Output(error.into());
    let laid_out = fleet_fmt::format(&file.text).map_err(|refusal| Trouble::File(refusal.into()))?;
    if laid_out == file.text {
        return Ok(false);
    }
    if args.diff {
        io.out.write_all(diff(&file.shown, &file.text, &laid_out).as_bytes()).map_err(output)?;
    } else {
        if !args.check {
            replace(&file.path, &file.text, &laid_out).map_err(Trouble::File)?;
        }
        writeln!(io.out, "{}", printable(&file.shown)).map_err(output)?;
    }
    Ok(true)
}

fn diff(name: &str, before: &str, after: &str) -> String {
    let name = printable(name);
    let diff = TextDiff::from_lines(before, after);
    let text = diff.unified_diff().context_radius(3).header(&name, &format!("{name} (laid out)")).to_string();
    // What a repository says cannot drive the terminal; tabs are text.
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// Puts a file in the place of another in one motion, with its permissions. Fails when it changed since it was read.
fn replace(path: &Path, before: &str, after: &str) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path).context("cannot be read")?;
    if !metadata.is_file() || fs::read(path).context("cannot be read")? != before.as_bytes() {
        bail!("it changed meanwhile; run fleetctl fmt again");
    }
    let dir = path.parent().context("it has no directory")?;
    let mut beside = tempfile::Builder::new()
        .prefix(".fleetctl-fmt-")
        .tempfile_in(dir)
        .with_context(|| format!("no file can be made in {}", dir.display()))?;
    beside.write_all(after.as_bytes()).context("the new file cannot be written")?;
    beside.as_file().set_permissions(metadata.permissions()).context("the new file's permissions cannot be set")?;
    beside.as_file().sync_all().context("the new file cannot be written")?;
    beside.persist(path).context("the new file cannot take its place")?;
    Ok(())
}

fn standard_input(args: &FmtArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("cannot read standard input")?;
    let text = String::from_utf8(bytes).context("standard input is not UTF-8")?;
    let laid_out = fleet_fmt::format(&text).context("standard input")?;
    let is_new = laid_out != text;
    if args.diff && is_new {
        io.out.write_all(diff("-", &text, &laid_out).as_bytes())?;
    } else if !args.check && !args.diff {
        io.out.write_all(laid_out.as_bytes())?;
    }
    Ok(if is_new && (args.check || args.diff) { Outcome::Negative } else { Outcome::Good })
}
