//! Comments that suppress findings: `# fleetlint: ignore SB0505 -- why`, or `ignore-file` above the first document.
//!
//! At the end of a line such a comment is about that line, on a line of its own about the next one that is neither
//! blank nor a comment; a line that opens a block of text stands for the whole block. Only what may be lowered can be
//! suppressed, and a reason must be given.

use crate::codes::{self, Code};
use crate::finding::{Finding, Span, nearest};
use crate::yaml::{self, Comment, Comments};

/// How a comment to lint begins.
const MARK: &str = "fleetlint:";
/// How many codes one file may suppress.
const MAX_SUPPRESSIONS: usize = 1_000;
/// What to write.
const FORM: &str = "write `# fleetlint: ignore SB0505 -- why`, or `ignore-file` above the first document";

/// One code that a comment suppresses.
#[derive(Debug, Clone)]
pub(crate) struct Suppression {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    /// Where the code stands in the comment.
    pub(crate) span: Span,
    /// First and last line it is about; `None` for the whole file.
    pub(crate) lines: Option<(u32, u32)>,
}

impl Suppression {
    /// Whether a finding of this code on this line is suppressed.
    pub(crate) fn covers(&self, code: &str, line: u32) -> bool {
        self.code == code && self.lines.is_none_or(|(first, last)| (first..=last).contains(&line))
    }
}

/// Reads the comments to lint. Text without [`MARK`] costs one search.
pub(crate) fn read(text: &str, findings: &mut Vec<Finding>) -> Vec<Suppression> {
    if !text.contains(MARK) {
        return Vec::new();
    }
    let all = yaml::comments(text);
    let mut suppressions = Vec::new();
    for comment in &all.comments {
        if let Some(said) = comment.text.trim_start().strip_prefix(MARK) {
            if suppressions.len() >= MAX_SUPPRESSIONS {
                let message = format!(
                    "the file suppresses more than {MAX_SUPPRESSIONS} codes; from here on nothing is suppressed"
                );
                findings.push(
                    Finding::new(codes::BAD_SUPPRESSION, comment.span, message)
                        .hint("lower the code in .fleetlint.yaml"),
                );
                break;
            }
            suppressions.extend(Reader { all: &all, comment, findings }.directive(said));
        }
    }
    suppressions
}

struct Reader<'r> {
    all: &'r Comments,
    comment: &'r Comment,
    findings: &'r mut Vec<Finding>,
}

impl Reader<'_> {
    /// What the text behind [`MARK`] asks for.
    fn directive(mut self, said: &str) -> Vec<Suppression> {
        let (what, reason) = match said.split_once("--") {
            Some((what, reason)) => (what, reason.trim()),
            None => (said, ""),
        };
        let (verb, codes) = what.trim().split_once(char::is_whitespace).unwrap_or((what.trim(), ""));
        let lines = match verb {
            "ignore" => {
                let Some(line) = self.all.line_of(self.comment) else {
                    self.refuse("no line follows that the comment could be about");
                    return Vec::new();
                };
                Some((line, self.all.last_line(line)))
            }
            "ignore-file" if self.all.first_value.is_some_and(|line| line <= self.comment.span.line) => {
                self.refuse("`ignore-file` must stand above the first document");
                return Vec::new();
            }
            "ignore-file" => None,
            _ => {
                self.refuse("the comment to lint starts neither with `ignore` nor with `ignore-file`");
                return Vec::new();
            }
        };
        if codes.trim().is_empty() {
            self.refuse("the comment names no code");
            return Vec::new();
        }
        let known: Vec<(&'static Code, Span)> =
            codes.split(',').take(MAX_SUPPRESSIONS).map(str::trim).filter_map(|code| self.code(code)).collect();
        if reason.is_empty() {
            let message = "the suppression gives no reason, so it suppresses nothing";
            let hint = "write the reason behind the codes: `-- why`";
            self.findings.push(Finding::new(codes::NO_REASON, self.comment.span, message).hint(hint));
            return Vec::new();
        }
        let suppression = |(code, span): (&'static Code, Span)| Suppression {
            code: code.code,
            reason: reason.to_owned(),
            span,
            lines,
        };
        known.into_iter().map(suppression).collect()
    }

    fn refuse(&mut self, message: &str) {
        self.findings.push(Finding::new(codes::BAD_SUPPRESSION, self.comment.span, message).hint(FORM));
    }

    /// The code of this text, when it may be suppressed.
    fn code(&mut self, name: &str) -> Option<(&'static Code, Span)> {
        let span = self.span_of(name);
        if name.is_empty() || name.contains(char::is_whitespace) {
            self.refuse("codes are separated by commas, and the reason follows behind `--`");
            return None;
        }
        match known(name, span) {
            Ok(code) if code.can_be_suppressed() => Some((code, span)),
            Ok(code) => {
                self.findings.push(not_adjustable(code, "suppressed", span));
                None
            }
            Err(finding) => {
                self.findings.push(*finding);
                None
            }
        }
    }

    /// Where a part of the comment stands.
    fn span_of(&self, part: &str) -> Span {
        let whole = self.comment.span;
        let Some(at) = self.comment.text.find(part).filter(|_| !part.is_empty()) else { return whole };
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let column = whole.column.saturating_add(1).saturating_add(count(&self.comment.text[..at]));
        Span { column, end_line: whole.line, end_column: column.saturating_add(count(part)), ..whole }
    }
}

/// The code of this name, or what is wrong with it.
pub(crate) fn known(name: &str, span: Span) -> Result<&'static Code, Box<Finding>> {
    codes::find(name).ok_or_else(|| {
        let near = nearest(name, codes::ALL.iter().map(|code| code.code));
        let hint =
            near.map_or_else(|| "codes are `SB` and four digits".to_owned(), |near| format!("did you mean `{near}`?"));
        let short: String = name.chars().take(40).collect();
        Box::new(Finding::new(codes::UNKNOWN_CODE, span, format!("there is no code {short:?}")).hint(hint))
    })
}

/// What is said where someone tries to lower a code that stays.
pub(crate) fn not_adjustable(code: &Code, what: &str, span: Span) -> Finding {
    let reason = if code.code.starts_with("SB07") {
        "it is about lint's own settings"
    } else {
        "the document behind it would not be well defined"
    };
    let message = format!("{} ({}) cannot be {what}: {reason}", code.code, code.title);
    Finding::new(codes::NOT_ADJUSTABLE, span, message)
        .hint("correct what the finding names, or exclude the file in .fleetlint.yaml")
}
