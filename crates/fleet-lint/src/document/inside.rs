//! Where a part of a text stands in the file, whatever the notation: quoted, folded, over several lines.
//!
//! Notations of YAML differ from the text in white space, quotes and escapes alone: what is left are the same characters
//! in the same order, so the part is found by counting.

use std::ops::Range;

use crate::finding::Span;
use crate::yaml::Style;

/// The place of the bytes `part` of `text`, which `source` writes in `style` beginning at the first character of `whole`.
pub(super) fn part(source: &str, style: Style, text: &str, part: &Range<usize>, whole: Span) -> Option<Span> {
    let before = text.get(..part.start)?;
    let inside = text.get(part.clone())?;
    let rest = &text[part.start..];
    let wanted = rest.find(|c| !is_white(c));
    // White space before what is looked for is taken back where it stands in the file as it is.
    let lead = wanted.map_or("", |at| &rest[..at]);
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let length = narrow(inside.trim_start_matches('\n').lines().next().unwrap_or_default().chars().count()).max(1);
    let ending =
        |line: u32, column: u32| Span { line, column, end_line: line, end_column: column.saturating_add(length) };
    if style == Style::Block
        && let Some((row, column)) = same_line(source, before, text)
    {
        let first = if row == 0 { whole.column.saturating_sub(1) } else { 0 };
        return Some(ending(whole.line.saturating_add(narrow(row)), narrow(column).saturating_add(first + 1)));
    }
    let at = match style {
        Style::Plain | Style::Block => same_bytes(source, before, wanted.map(|at| rest.as_bytes()[at]))?,
        Style::Single | Style::Double => {
            let count = before.chars().filter(|c| !is_white(*c)).count();
            let character = wanted.and_then(|at| rest[at..].chars().next());
            same_characters(source, style, count, character)?
        }
    };
    let at = if source.get(..at)?.ends_with(lead) && !lead.contains('\n') { at - lead.len() } else { at };
    let above = source.get(..at)?;
    let lines = above.bytes().filter(|b| *b == b'\n').count();
    let line = whole.line.saturating_add(narrow(lines));
    let column = match above.rfind('\n') {
        Some(end) => narrow(above[end + 1..].chars().count()).saturating_add(1),
        None => whole.column.saturating_add(narrow(above.chars().count())),
    };
    Some(ending(line, column))
}

fn is_white(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The row and column of what follows `before`, from 0, when that row of the block is the same row of the text.
fn same_line(source: &str, before: &str, text: &str) -> Option<(usize, usize)> {
    let row = before.matches('\n').count();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].split('\n').next()?;
    let own = source.split('\n').nth(row)?;
    let own = own.strip_suffix('\r').unwrap_or(own);
    // White space alone is found anywhere.
    let indent = own.strip_suffix(line).filter(|indent| !line.trim().is_empty() && indent.trim().is_empty())?;
    Some((row, indent.chars().count() + before[start..].chars().count()))
}

/// Where the byte stands in `source` that follows `before`, in a notation without escapes; behind the last one without it.
fn same_bytes(source: &str, before: &str, wanted: Option<u8>) -> Option<usize> {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let mut count = before.bytes().filter(|byte| !is_white(byte)).count();
    if wanted.is_none() {
        count = count.checked_sub(1)?;
    }
    let (at, found) = source.bytes().enumerate().filter(|(_, byte)| !is_white(byte)).nth(count)?;
    match wanted {
        Some(wanted) => (found == wanted).then_some(at),
        None => Some(at + 1),
    }
}

/// The same with escapes, by characters.
fn same_characters(source: &str, style: Style, count: usize, wanted: Option<char>) -> Option<usize> {
    let mut visible = Visible::of(source, style);
    match wanted {
        Some(wanted) => visible.nth(count).and_then(|(at, _, found)| (found == wanted).then_some(at)),
        None => visible.nth(count.checked_sub(1)?).map(|(_, end, _)| end),
    }
}

/// The characters of a scalar that are not white space: first byte, end, and what they stand for.
struct Visible<'s> {
    source: &'s str,
    style: Style,
    at: usize,
}

impl<'s> Visible<'s> {
    fn of(source: &'s str, style: Style) -> Self {
        let quote = match style {
            Style::Single => '\'',
            Style::Double => '"',
            Style::Plain | Style::Block => return Self { source, style, at: 0 },
        };
        let source = source.strip_suffix(quote).unwrap_or(source);
        Self { source, style, at: usize::from(source.starts_with(quote)) }
    }

    /// The character of an escape behind its backslash, and how many bytes it takes.
    fn escape(rest: &str) -> (Option<char>, usize) {
        let Some(kind) = rest.chars().next() else { return (None, 0) };
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0' => return (Some('\0'), 1),
            'a' => return (Some('\u{7}'), 1),
            'b' => return (Some('\u{8}'), 1),
            'e' => return (Some('\u{1b}'), 1),
            'v' => return (Some('\u{b}'), 1),
            'f' => return (Some('\u{c}'), 1),
            'N' => return (Some('\u{85}'), 1),
            '_' => return (Some('\u{a0}'), 1),
            'L' => return (Some('\u{2028}'), 1),
            'P' => return (Some('\u{2029}'), 1),
            't' | 'n' | 'r' => return (None, 1),
            other if is_white(other) => return (None, 1),
            other => return (Some(other), other.len_utf8()),
        };
        let code = rest.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        (code.and_then(char::from_u32).filter(|c| !is_white(*c)), 1 + digits)
    }
}

impl Iterator for Visible<'_> {
    type Item = (usize, usize, char);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.at;
            let rest = self.source.get(start..)?;
            let character = rest.chars().next()?;
            self.at += character.len_utf8();
            match (self.style, character) {
                (Style::Double, '\\') => {
                    let (meant, length) = Self::escape(&rest[1..]);
                    self.at = start + 1 + length;
                    if let Some(meant) = meant {
                        return Some((start, self.at, meant));
                    }
                }
                (Style::Single, '\'') if rest[1..].starts_with('\'') => {
                    self.at += 1;
                    return Some((start, self.at, character));
                }
                (_, character) if is_white(character) => {}
                (_, character) => return Some((start, self.at, character)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_in_every_notation() {
        let whole = Span { line: 3, column: 10, end_line: 9, end_column: 1 };
        for (source, style, text, expected) in [
            ("a {{x}}", Style::Plain, "a {{x}}", (3, 12)),
            ("a\n      {{x}}", Style::Plain, "a {{x}}", (4, 7)),
            ("\"a\\t\\u00e4 {{x}}\"", Style::Double, "a\t\u{e4} {{x}}", (3, 21)),
            ("\"a\\\n    b\n    {{x}}\"", Style::Double, "ab {{x}}", (5, 5)),
            ("'it''s {{x}}'", Style::Single, "it's {{x}}", (3, 17)),
            ("a\n\n      \u{1f600} {{x}}\n", Style::Block, "a\n\u{1f600} {{x}}\n", (5, 9)),
            ("a\r\n      {{x}}\r\n", Style::Block, "a\n{{x}}\n", (4, 7)),
        ] {
            let start = text.find("{{").unwrap();
            let found = part(source, style, text, &(start..start + 5), whole).unwrap();
            assert_eq!((found.line, found.column), expected, "{source:?}");
            assert_eq!(found.end_column - found.column, 5, "{source:?}");
        }
        // A tab at a line's beginning is pointed at itself.
        let tab = part("a\n      \tb", Style::Block, "a\n\tb", &(2..3), whole).unwrap();
        assert_eq!((tab.line, tab.column), (4, 7));
        assert_eq!(part("abc", Style::Plain, "abd", &(2..3), whole), None);
    }
}
