//! `fleetctl lint`: reads trees, has the library check them and shows what it found, in the form that people, builds and
//! code hosts read.

mod github;
mod gitlab;
mod human;
mod json;
mod junit;
mod read;
mod report;
mod sarif;
mod source;

use crate::cli::{LintArgs, LintFormat};
use crate::output::printable;
use crate::{Io, Outcome};

/// So many findings are shown to people who do not say how many they want.
const MAX_SHOWN: usize = 200;

/// Lints. The answer is negative when there is an error, with `--strict` also when there is a warning.
///
/// # Errors
/// A path that is not there or cannot be read.
pub(crate) fn run(args: &LintArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let mut remark = |text: &str| writeln!(io.err, "note: {}", printable(text));
    let mut report = read::report(args, &mut remark)?;
    let (verdict, counts) = (report.verdict(), (report.errors(), report.warnings()));
    let max = match (args.max, args.output) {
        (Some(0), _) => usize::MAX,
        (Some(max), _) => max,
        (None, LintFormat::Human) => MAX_SHOWN,
        (None, LintFormat::Json | LintFormat::Sarif | LintFormat::Github | LintFormat::Gitlab | LintFormat::Junit) => {
            usize::MAX
        }
    };
    let more = report.keep(max);
    match args.output {
        LintFormat::Human => human::write(&report, more, counts, &verdict, args.show_suppressed, io)?,
        LintFormat::Json => json::write(&report, counts, io)?,
        LintFormat::Sarif => sarif::write(&report, args.show_suppressed, io)?,
        LintFormat::Github => github::write(&report, &verdict, io)?,
        LintFormat::Gitlab => gitlab::write(&report, io)?,
        LintFormat::Junit => junit::write(&report, args.strict, io)?,
    }
    let (errors, warnings) = counts;
    Ok(if errors > 0 || (args.strict && warnings > 0) { Outcome::Negative } else { Outcome::Good })
}
