//! Places of the parser's events, as lines and columns in characters.

use granit_parser::{ScalarStyle, Span as RawSpan};

use crate::finding::Span;

/// The column of the first tab in the indentation of the line that `byte` stands on.
pub(super) fn tab_in_indentation(text: &str, byte: usize) -> Option<u32> {
    let start = text.get(..byte)?.rfind('\n').map_or(0, |at| at + 1);
    let indentation = text.get(start..)?.bytes().take_while(|b| matches!(b, b' ' | b'\t'));
    indentation.enumerate().find(|(_, b)| *b == b'\t').map(|(at, _)| narrow(at + 1))
}

/// The dash of an item that has no value.
pub(super) fn dash_before(span: &RawSpan, text: &str) -> Option<Span> {
    let line = text.get(..span.start.byte_offset()?)?.rsplit('\n').next()?;
    let dash = line.trim_end_matches([' ', '\t']);
    let here = place(span);
    let column = narrow(dash.strip_suffix('-')?.chars().count()).saturating_add(1);
    Some(Span::at(here.line, column))
}

/// At most 60 characters of `text`.
pub(super) fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn place(span: &RawSpan) -> Span {
    let (line, column) = (narrow(span.start.line()), narrow(span.start.col()).saturating_add(1));
    let (end_line, end_column) = (narrow(span.end.line()), narrow(span.end.col()).saturating_add(1));
    Span { line, column, end_line, end_column: if end_line == line { end_column.max(column + 1) } else { end_column } }
}

/// The span of a scalar; a block ends with its last line that is not blank.
pub(super) fn scalar_span(span: &RawSpan, style: ScalarStyle, text: &str) -> Span {
    let mut here = place(span);
    if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
        && let Some(slice) = span.byte_range().and_then(|range| text.get(range))
    {
        let trimmed = slice.trim_end();
        let lines = trimmed.bytes().filter(|b| *b == b'\n').count();
        let last = trimmed.rsplit('\n').next().unwrap_or_default();
        here.end_line = here.line.saturating_add(narrow(lines));
        let offset = if lines == 0 { here.column } else { 1 };
        here.end_column = offset.saturating_add(narrow(last.chars().count()));
    }
    here
}
