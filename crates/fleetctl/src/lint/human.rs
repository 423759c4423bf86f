//! Findings for people, in the manner of compilers: the line, what is marked in it, and what to do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use anstyle::{AnsiColor, Style};
use fleet_lint::codes;
use fleet_model::Severity;

use super::report::{Finding, Report, Suppressed, count, thousands};
use super::source::Excerpt;
use crate::Io;
use crate::output::{Terminal, one_line};

/// How wide results are where nobody knows.
const WIDTH: usize = 120;
/// Lines longer than this, in bytes, are cut before they are laid out.
const LONG_LINE: usize = 2_000;
/// How much of a long line is kept on each side of the place, in characters.
const AROUND: usize = 300;
/// So many codes are named on the line that says how to have them explained.
const MAX_CODES: usize = 8;

/// Writes the findings; `more` are left out.
pub(super) fn write(
    report: &Report,
    more: usize,
    counts: (usize, usize),
    verdict: &str,
    show_suppressed: bool,
    io: &mut Io<'_>,
) -> io::Result<()> {
    let renderer = renderer(io.terminal);
    let terminal = io.terminal;
    let paint = |style: Style, text: &str| terminal.paint(style, text);
    let mut by_file: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for finding in &report.findings {
        let counts = by_file.entry(&finding.diagnostic.file).or_default();
        counts[usize::from(finding.diagnostic.severity == Severity::Warning)] += 1;
    }
    let mut file = "";
    for finding in &report.findings {
        let own = finding.diagnostic.file.as_str();
        if own != file && by_file.len() > 1 {
            let counts = by_file.get(own).map(|[errors, warnings]| tally(*errors, *warnings)).unwrap_or_default();
            let name = paint(Style::new().bold().underline(), &one_line(own));
            writeln!(io.out, "{name}  {}\n", paint(Style::new().dimmed(), &counts))?;
        }
        file = own;
        writeln!(io.out, "{}\n", finding_text(finding, &renderer))?;
    }
    if more > 0 {
        writeln!(io.out, "… and {} more; --max 0 shows all\n", thousands(more))?;
    }
    if show_suppressed {
        for Suppressed { finding, reason } in &report.suppressed {
            let line = format!("suppressed: {} (reason: {reason})", finding.diagnostic);
            writeln!(io.out, "{}\n", paint(Style::new().dimmed(), &one_line(&line)))?;
        }
    }
    let codes: BTreeSet<&str> = report.findings.iter().map(|finding| finding.diagnostic.code.as_str()).collect();
    if !codes.is_empty() {
        let named: Vec<&str> = codes.iter().copied().take(MAX_CODES).collect();
        writeln!(io.out, "explain: fleetctl explain {}", named.join(" "))?;
    }
    let style = match counts {
        (0, 0) => AnsiColor::Green,
        (0, _) => AnsiColor::Yellow,
        (_, _) => AnsiColor::Red,
    };
    writeln!(io.out, "{}", paint(style.on_default().bold(), verdict))
}

fn tally(errors: usize, warnings: usize) -> String {
    let parts = [(errors, "error"), (warnings, "warning")];
    parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(*n, what)).collect::<Vec<_>>().join(", ")
}

fn renderer(terminal: Terminal) -> Renderer {
    let renderer = if terminal.color { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(terminal.width.unwrap_or(WIDTH))
}

/// One finding.
fn finding_text(finding: &Finding, renderer: &Renderer) -> String {
    let diagnostic = &finding.diagnostic;
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let (message, file) = (one_line(&diagnostic.message), one_line(&diagnostic.file));
    let title = level.primary_title(message.as_str()).id(diagnostic.code.as_str());
    let number = usize::try_from(diagnostic.line).unwrap_or(1);
    let column = usize::try_from(diagnostic.column).unwrap_or(1);
    let origin = Origin::path(file.as_str()).line(number).char_column(column);
    // A build's log is read by more people than the repository: the line of a credential is not shown.
    let shows_secret = [codes::CREDENTIAL.code, codes::SECRET_IN_CONTENT.code].contains(&diagnostic.code.as_str());
    let excerpt = finding.source.as_ref().filter(|_| !shows_secret).map(|source| source.excerpt(diagnostic));
    let line = excerpt.as_ref().map(window);
    let mut group: Group<'_> = match &line {
        Some((line, begin, end)) => {
            let snippet = Snippet::source(line.as_ref()).line_start(number);
            let marked = snippet.annotation(AnnotationKind::Primary.span(*begin..*end));
            // A line that was cut has other columns than the file.
            if matches!(line, Cow::Borrowed(_)) {
                title.element(marked.path(file.as_str()))
            } else {
                title.element(origin).element(marked)
            }
        }
        None => title.element(origin),
    };
    let hint = diagnostic.hint.as_deref().map(one_line);
    if let Some(hint) = &hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// The line to lay out and the marked bytes in it. Control characters are shown as spaces, and of a very long line the
/// part around the place is kept.
fn window<'a>(excerpt: &Excerpt<'a>) -> (Cow<'a, str>, usize, usize) {
    let Excerpt { line, begin, end } = *excerpt;
    let is_bad = |c: char| c.is_control() && c != '\t';
    if line.len() <= LONG_LINE && !line.contains(is_bad) {
        return (Cow::Borrowed(line), begin, end);
    }
    let before = line[..begin].char_indices().rev().nth(AROUND).map_or(0, |(at, _)| at);
    let marked: String = line[begin..end].chars().take(AROUND).collect();
    let after: String = line[end..].chars().take(if begin + marked.len() == end { AROUND } else { 0 }).collect();
    let clean = |text: &str| text.chars().map(|c| if is_bad(c) { ' ' } else { c }).collect::<String>();
    let mut text = if before > 0 { "…".to_owned() } else { String::new() };
    text.push_str(&clean(&line[before..begin]));
    let begin = text.len();
    text.push_str(&clean(&marked));
    let end = text.len();
    text.push_str(&clean(&after));
    (Cow::Owned(text), begin, end)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_model::Diagnostic;
    use proptest::prelude::*;

    use super::super::source::Source;
    use super::*;

    fn at(text: &str, line: u32, column: u32, end_line: u32, end_column: u32) -> Finding {
        let diagnostic = Diagnostic {
            code: "SB0001".to_owned(),
            severity: Severity::Error,
            message: "m".to_owned(),
            file: "f.yaml".to_owned(),
            line,
            column,
            end_line,
            end_column,
            pointer: String::new(),
            hint: None,
        };
        Finding { diagnostic, artifact: "f.yaml".to_owned(), source: Some(Arc::new(Source::new(text.into()))) }
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(
            text in "[aé\u{1f6a2}\u{1b}\\n\\r\\t]{0,40}", line in 0..9_u32, column in 0..9_u32, lines in 0..3_u32,
            columns in 0..9_u32, long in any::<bool>(),
        ) {
            let text = if long { text.replace('a', &"a".repeat(3_000)) } else { text };
            let shown = finding_text(&at(&text, line, column, line + lines, columns), &renderer(Terminal::PLAIN));
            let is_clean = !shown.contains('\u{1b}');
            prop_assert!(is_clean);
            let has_place = shown.contains("f.yaml:");
            prop_assert!(has_place);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place_and_keeps_its_column() {
        let line = format!("{}here{}", "x ".repeat(100_000), " y".repeat(100_000));
        let shown =
            finding_text(&at(&line, 1, 200_001, 1, 200_005), &renderer(Terminal { color: false, width: Some(80) }));
        assert!(shown.contains("f.yaml:1:200001"), "{shown}");
        assert!(shown.contains("here") && shown.contains("^^^^"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }
}
