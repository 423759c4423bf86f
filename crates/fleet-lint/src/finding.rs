//! Spans, and findings before they know their file.

use fleet_model::Diagnostic;

use crate::codes::Code;

/// A stretch of text: lines and columns from 1, columns in characters, the end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// The column behind the last one.
    pub end_column: u32,
}

impl Span {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1, end_line: 1, end_column: 1 };

    /// One character.
    pub(crate) fn at(line: u32, column: u32) -> Self {
        Self { line, column, end_line: line, end_column: column.saturating_add(1) }
    }
}

/// A finding at a span.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) code: Code,
    pub(crate) span: Span,
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, pointer: String::new(), message: message.into(), hint: None }
    }

    pub(crate) fn at_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = pointer.into();
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn into_diagnostic(self, file: &str) -> Diagnostic {
        Diagnostic {
            code: self.code.code.to_owned(),
            severity: self.code.severity,
            message: shorten(self.message),
            file: file.to_owned(),
            line: self.span.line,
            column: self.span.column,
            end_line: self.span.end_line,
            end_column: self.span.end_column,
            pointer: self.pointer,
            hint: self.hint.map(shorten),
        }
    }
}

/// At most 600 characters: a finding may quote what a file says.
fn shorten(text: String) -> String {
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Sorts by file, line, column and code, and drops repetitions.
pub(crate) fn in_order(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.code, &a.pointer, &a.message)
            .cmp(&(&b.file, b.line, b.column, &b.code, &b.pointer, &b.message))
    });
    diagnostics.dedup_by(|a, b| {
        a.file == b.file && a.line == b.line && a.column == b.column && a.code == b.code && a.message == b.message
    });
}

/// The known word nearest to `word`, when it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = word.chars().count();
    known
        .into_iter()
        // Words of very different lengths are not compared letter by letter.
        .filter(|candidate| *candidate != word && candidate.chars().count().abs_diff(length) <= 1.max(length / 3))
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.chars().count().min(word.chars().count()) / 3))
        .min()
        .map(|(_, candidate)| candidate)
}
