//! `fleetctl explain`: the pages of codes, laid out for a terminal.

use anstyle::{AnsiColor, Style};
use anyhow::bail;
use fleet_lint::codes::{self, Code};
use fleet_model::Severity;
use serde_json::{Value, json};

use crate::cli::{ExplainArgs, ExplainFormat};
use crate::output::{Terminal, printable, table};
use crate::{Io, Outcome};

/// Lines of text are not longer than this, however wide the terminal is.
const MAX_WIDTH: usize = 100;

/// Explains codes, or lists all.
///
/// # Errors
/// Something that is no code, with those that it may be meant for.
pub(crate) fn explain(args: &ExplainArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let chosen: Vec<&Code> = match args.codes.is_empty() {
        true => codes::ALL.iter().collect(),
        false => args.codes.iter().map(|text| code(text)).collect::<Result<_, _>>()?,
    };
    match args.output {
        ExplainFormat::Json => {
            let pages: Vec<Value> = chosen.into_iter().map(as_json).collect();
            writeln!(io.out, "{:#}", Value::Array(pages))?;
        }
        ExplainFormat::Human if args.codes.is_empty() => {
            let row = |code: &Code| vec![code.code.to_owned(), severity(code).to_owned(), code.title.to_owned()];
            let rows = codes::ALL.iter().map(row).collect();
            write!(io.out, "{}", table(&["CODE", "SEVERITY", "TITLE"], rows))?;
        }
        ExplainFormat::Human => {
            for (at, code) in chosen.into_iter().enumerate() {
                if at > 0 {
                    writeln!(io.out)?;
                }
                write!(io.out, "{}", page(code, io.terminal))?;
            }
        }
    }
    Ok(Outcome::Good)
}

fn severity(code: &Code) -> &'static str {
    match code.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn as_json(code: &'static Code) -> Value {
    json!({
        "code": code.code,
        "title": code.title,
        "severity": severity(code),
        "canBeLowered": code.can_be_lowered(),
        "canBeSuppressed": code.can_be_suppressed(),
        "page": fleet_lint::explain(code.code),
    })
}

/// The code that somebody means: `SB0103`, `sb103`, `103`.
fn code(text: &str) -> anyhow::Result<&'static Code> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.strip_prefix("SB").unwrap_or(&upper);
    let wanted = match digits.len() {
        1..=4 if digits.bytes().all(|b| b.is_ascii_digit()) => format!("SB{digits:0>4}"),
        _ => upper,
    };
    if let Some(code) = codes::find(&wanted) {
        return Ok(code);
    }
    let distance = |code: &&Code| strsim::osa_distance(&wanted, code.code);
    let about = |code: &&Code| {
        let word = text.to_lowercase();
        word.chars().count() >= 3 && code.title.to_lowercase().contains(&word)
    };
    let mut near: Vec<&Code> = codes::ALL.iter().filter(|code| distance(code) == 1 || about(code)).collect();
    near.truncate(3);
    let shown: String = printable(text).chars().take(40).collect();
    if near.is_empty() {
        bail!("there is no code {shown:?}; `fleetctl explain` lists all");
    }
    let near: Vec<String> = near.iter().map(|code| format!("{} ({})", code.code, code.title)).collect();
    bail!("there is no code {shown:?}; did you mean {}? `fleetctl explain` lists all", near.join(" or "));
}

/// The page of a code: headings in bold, examples indented, text as wide as the terminal.
fn page(code: &Code, terminal: Terminal) -> String {
    let width = terminal.width.unwrap_or(MAX_WIDTH).clamp(20, MAX_WIDTH);
    let paint = |style: Style, text: &str| terminal.paint(style, text);
    let mut shown = String::new();
    let mut paragraph = String::new();
    let mut in_code = false;
    for line in fleet_lint::explain(code.code).unwrap_or_default().lines() {
        if !in_code && !line.is_empty() && !line.starts_with("```") && !line.starts_with('#') {
            paragraph.push_str(line);
            paragraph.push(' ');
            continue;
        }
        shown.push_str(&wrapped(&std::mem::take(&mut paragraph), width));
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            let comment = line.starts_with("# file: ");
            // A tab would not be seen.
            let text = printable(&line.replace('\t', "→ "));
            shown.push_str("    ");
            shown.push_str(&if comment { paint(Style::new().dimmed(), &text) } else { text });
            shown.push('\n');
        } else if let Some(title) = line.strip_prefix("# ") {
            let color = match code.severity {
                Severity::Error => AnsiColor::Red,
                Severity::Warning => AnsiColor::Yellow,
            };
            shown.push_str(&format!("{} ({})\n", paint(color.on_default().bold(), title), severity(code)));
        } else if let Some(heading) = line.strip_prefix("## ") {
            shown.push_str(&paint(Style::new().bold(), heading));
            shown.push('\n');
        } else {
            shown.push('\n');
        }
    }
    shown.push_str(&wrapped(&paragraph, width));
    // A heading stands directly above what belongs to it.
    let mut out = String::new();
    let mut lines = shown.lines().peekable();
    let headings = ["Wrong", "Right", "Fix", "Example"].map(|heading| paint(Style::new().bold(), heading));
    while let Some(line) = lines.next() {
        out.push_str(line.trim_end());
        out.push('\n');
        if headings.iter().any(|heading| heading == line) {
            lines.next_if(|next| next.is_empty());
        }
    }
    out
}

/// A paragraph in lines of at most `width` characters, where words allow it.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    if column > 0 {
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_understood_however_they_are_written() {
        for text in ["SB0103", "sb0103", "sb103", "103", "0103", " SB103 "] {
            assert_eq!(code(text).unwrap().code, "SB0103", "{text}");
        }
        let error = |text: &str| code(text).unwrap_err().to_string();
        assert!(error("SB0133").contains("did you mean SB0103"), "{}", error("SB0133"));
        assert!(error("misspelt").contains("SB0504"), "{}", error("misspelt"));
        assert!(error("nonsense").contains("lists all"));
        assert!(error("\u{1b}[31m").chars().all(|c| !c.is_control()));
    }

    #[test]
    fn every_page_fits_its_terminal_and_says_everything() {
        for code in codes::ALL {
            let shown = page(code, Terminal { color: false, width: Some(60) });
            assert!(shown.starts_with(code.code) && shown.contains("\nFix\n"), "{shown}");
            assert!(!shown.contains("```") && !shown.contains("\n#"), "{shown}");
            let is_text = |line: &&str| !line.starts_with("    ") && !line.starts_with(code.code) && line.contains(' ');
            for line in shown.lines().filter(is_text) {
                assert!(line.chars().count() <= 60, "{}: {line}", code.code);
            }
        }
    }
}
