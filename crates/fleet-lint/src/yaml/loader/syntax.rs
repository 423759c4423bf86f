//! Where the mistake behind a syntax error most likely is, and what to do: the parser stops where it can go on no
//! longer, which often is a line behind the slip.

use granit_parser::ErrorKind;

use super::super::place::narrow;
use crate::finding::Span;

/// Longer lines are not looked at.
const MAX_LINE: usize = 2_000;
/// How far back a quotation's beginning is looked for, in bytes.
const MAX_QUOTATION: usize = 20_000;

/// A better place, message and hint; what is `None` stays as the parser has it.
#[derive(Debug, Default)]
pub(super) struct Advice {
    pub(super) at: Option<Span>,
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
}

impl Advice {
    fn hint(text: impl Into<String>) -> Self {
        Self { hint: Some(text.into()), ..Self::default() }
    }
}

/// Looks around the byte where the parser stopped. `brackets` are the places of the flow collections that are open there,
/// the innermost last.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum belongs to the parser and grows")]
pub(super) fn advice(kind: &ErrorKind, text: &str, byte: usize, brackets: &[Span]) -> Advice {
    if byte > text.len() || !text.is_char_boundary(byte) {
        return Advice::default();
    }
    let around = Around::of(text, byte);
    match kind {
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::SimpleKeyExpected
        | ErrorKind::InvalidSimpleKey
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation => around.block(kind),
        ErrorKind::InvalidColonPlacement
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::BlockEntryInFlowCollection => around.flow(brackets),
        ErrorKind::InvalidTrailingDoubleQuotedScalar => around.behind_quotation('"'),
        ErrorKind::InvalidTrailingSingleQuotedScalar => around.behind_quotation('\''),
        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::DocumentIndicatorInQuotedScalar => around.open_quotation(),
        ErrorKind::UnclosedQuotedScalar => Advice::hint("close the quotation on its line"),
        ErrorKind::UnknownQuotedScalarEscape => around.escape(),
        ErrorKind::UnexpectedCharacter { character } => {
            Advice::hint(format!("quote a value that begins with `{}`", character.escape_default()))
        }
        ErrorKind::MissingAnchorOrAliasName => Advice::hint("quote a value that begins with `*` or `&`"),
        ErrorKind::InvalidBlockScalarIndent => Advice::hint("indent every line of the block at least like its first"),
        ErrorKind::BlockSequenceEntryNotAllowed => {
            Advice::hint("put each item of a list on a line of its own, below the key")
        }
        ErrorKind::InvalidBlockScalarHeader => {
            Advice::hint("begin the text on the line below `|` or `>`, or quote a value that begins with one")
        }
        ErrorKind::InvalidBlockEntryWhitespace => Advice::hint("put a space behind the `-`"),
        _ => Advice::default(),
    }
}

/// The first tab in the indentation of a line behind this byte.
pub(super) fn tab_behind(text: &str, byte: usize) -> Option<Span> {
    let mut at = byte;
    for _ in 0..1_000 {
        at += text.get(at..)?.find('\n')? + 1;
        let blank = text[at..].bytes().take_while(|b| matches!(b, b' ' | b'\t'));
        if let Some(tab) = blank.into_iter().position(|b| b == b'\t') {
            return Some(span_at(text, at + tab, 1));
        }
    }
    None
}

/// A stretch of a line.
fn span_at(text: &str, byte: usize, characters: usize) -> Span {
    let before = &text[..byte];
    let line = narrow(before.bytes().filter(|b| *b == b'\n').count() + 1);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = narrow(before[start..].chars().count() + 1);
    Span { line, column, end_line: line, end_column: column.saturating_add(narrow(characters.max(1))) }
}

/// A line: its first byte and text.
#[derive(Debug, Clone, Copy)]
struct Line<'t> {
    start: usize,
    text: &'t str,
}

impl<'t> Line<'t> {
    fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start_matches(' ').len()
    }

    /// What stands behind indentation and dashes, and how many bytes are before it.
    fn content(&self) -> (usize, &'t str) {
        let mut rest = self.text.trim_start_matches(' ');
        while let Some(item) = rest.strip_prefix("- ") {
            rest = item.trim_start_matches(' ');
        }
        (self.text.len() - rest.len(), rest.trim_end())
    }

    /// Whether the line is neither an entry nor the beginning of one.
    fn is_bare(&self) -> bool {
        let (_, content) = self.content();
        let is_entry = content.contains(": ") || content.ends_with(':') || content.contains(":\t");
        !is_entry && !content.is_empty() && !content.starts_with(['#', '|', '>', '[', '{', '"', '\'', '-', '&', '%'])
            || content.starts_with('-') && content.len() > 1 && !content.starts_with("--")
    }
}

struct Around<'t> {
    text: &'t str,
    byte: usize,
    line: Line<'t>,
}

impl<'t> Around<'t> {
    fn of(text: &'t str, byte: usize) -> Self {
        let start = text[..byte].rfind('\n').map_or(0, |at| at + 1);
        let end = text[byte..].find('\n').map_or(text.len(), |at| byte + at);
        Self { text, byte, line: Line { start, text: &text[start..end] } }
    }

    /// The line above that is neither blank nor a comment.
    fn above(&self, line: Line<'t>) -> Option<Line<'t>> {
        let mut end = line.start.checked_sub(1)?;
        for _ in 0..100 {
            let start = self.text[..end].rfind('\n').map_or(0, |at| at + 1);
            let text = self.text[start..end].trim_end_matches('\r');
            if !text.trim().is_empty() && !text.trim_start().starts_with('#') {
                return (text.len() <= MAX_LINE && !text.starts_with("---")).then_some(Line { start, text });
            }
            end = start.checked_sub(1)?;
        }
        None
    }

    /// A mistake in a mapping or list of lines.
    fn block(&self, kind: &ErrorKind) -> Advice {
        if self.line.text.len() > MAX_LINE {
            return Advice::default();
        }
        let above = self.above(self.line);
        if let Some(advice) = [Some(self.line), above].into_iter().flatten().find_map(|line| self.odd_space(line)) {
            return advice;
        }
        let before = &self.text[self.line.start..self.byte];
        if *kind == ErrorKind::MappingValueNotAllowed && before.contains(": ") {
            return Advice::hint("quote a value that has `: ` in it");
        }
        if let Some(above) = above
            && *kind == ErrorKind::MappingValueNotAllowed
            && above.is_bare()
            && !self.goes_on(above)
        {
            return self.bare(above);
        }
        let touches = before.chars().next_back().is_some_and(|c| !c.is_whitespace());
        let goes_on = [ErrorKind::ExpectedBlockMappingKey, ErrorKind::ExpectedBlockSequenceEntry].contains(kind);
        Advice::hint(match goes_on && touches {
            true => "quote the whole value",
            false => "indent the line like the others of its mapping or list",
        })
    }

    /// Whether a line continues the value of the one above it.
    fn goes_on(&self, line: Line<'t>) -> bool {
        self.above(line).is_some_and(|first| {
            let (_, content) = first.content();
            first.indent() < line.indent() && !content.ends_with(':') && content.contains(": ")
        })
    }

    /// A line that should be `key: value`.
    fn bare(&self, line: Line<'t>) -> Advice {
        let (offset, content) = line.content();
        let word: String = content.chars().take(60).collect();
        let hint = match content.split_once(':') {
            _ if content.starts_with('-') => "put a space behind the `-`".to_owned(),
            Some((key, value)) => format!("put a space behind the colon: `{key}: {value}`"),
            None if line.indent() < self.line.indent() && !content.contains(char::is_whitespace) => {
                format!("put a colon behind it: `{word}:`")
            }
            None => "write `key: value`".to_owned(),
        };
        Advice {
            at: Some(span_at(self.text, line.start + offset, content.chars().count())),
            message: Some(format!("`{word}` is no `key: value`")),
            hint: Some(hint),
        }
    }

    /// Indentation with something that looks like a space.
    fn odd_space(&self, line: Line<'t>) -> Option<Advice> {
        let is_space = |c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}');
        let indentation = line.text.char_indices().take_while(|(_, c)| is_space(*c));
        let (at, odd) = indentation.into_iter().find(|(_, c)| !matches!(c, ' ' | '\t' | '\r'))?;
        Some(Advice {
            at: Some(span_at(self.text, line.start + at, 1)),
            message: Some(format!(
                "the line is indented with the character U+{:04X}, which is no space",
                u32::from(odd)
            )),
            hint: Some("indent with spaces".to_owned()),
        })
    }

    /// A mistake behind an open bracket: on a line that is not indented below it, the bracket was never closed.
    fn flow(&self, brackets: &[Span]) -> Advice {
        let line = narrow(self.text[..self.line.start].bytes().filter(|b| *b == b'\n').count() + 1);
        let Some(open) = brackets.last() else { return Advice::default() };
        let Some(of_open) = self.text.split('\n').nth(open.line.saturating_sub(1) as usize) else {
            return Advice::default();
        };
        let index = open.column.saturating_sub(1) as usize;
        let close = if of_open.chars().nth(index) == Some('[') { ']' } else { '}' };
        let indent = of_open.len() - of_open.trim_start_matches(' ').len();
        if open.line >= line || self.line.indent() > indent || self.line.text.trim_start().starts_with([']', '}']) {
            return Advice::hint(format!("separate items with commas, and close with `{close}`"));
        }
        Advice {
            at: Some(*open),
            message: Some("the bracket is never closed".to_owned()),
            hint: Some(format!("close it with `{close}`; quote a value that begins with a bracket")),
        }
    }

    /// Text behind a quotation: one that began on an earlier line was most likely meant to end there.
    fn behind_quotation(&self, quote: char) -> Advice {
        let from = floor(self.text, self.byte.saturating_sub(MAX_QUOTATION));
        let behind = &self.text[from..self.byte];
        let open = behind.rfind(quote).and_then(|close| behind[..close].rfind(quote)).map(|open| from + open);
        match open {
            Some(open) if open < self.line.start => self.never_closed(open),
            _ => Advice::hint("quote the whole value"),
        }
    }

    fn open_quotation(&self) -> Advice {
        let from = floor(self.text, self.byte.saturating_sub(MAX_QUOTATION));
        let open = self.text[from..self.byte].rfind(['"', '\'']).map(|open| from + open);
        open.map_or_else(|| Advice::hint("close the quotation"), |open| self.never_closed(open))
    }

    fn never_closed(&self, open: usize) -> Advice {
        let rest = self.text[open..].lines().next().unwrap_or_default();
        Advice {
            at: Some(span_at(self.text, open, rest.trim_end().chars().count())),
            message: Some("the quotation is not closed on its line".to_owned()),
            hint: Some(format!("close it: {}", self.text[open..].chars().next().unwrap_or('"'))),
        }
    }

    /// The first escape in the quotation that begins here which YAML does not have.
    fn escape(&self) -> Advice {
        let mut rest = self.text[self.byte..].char_indices();
        while let Some((at, character)) = rest.next() {
            if character != '\\' {
                continue;
            }
            match rest.next() {
                Some((_, next)) if !"0abt\tnvfre \"/\\N_LPxuU\n\r".contains(next) => {
                    return Advice {
                        at: Some(span_at(self.text, self.byte + at, 2)),
                        message: Some(format!("`\\{}` is no escape of YAML", next.escape_default())),
                        hint: Some("write `\\\\` for a backslash, or use single quotes".to_owned()),
                    };
                }
                Some(_) => {}
                None => break,
            }
        }
        Advice::hint("write `\\\\` for a backslash, or use single quotes")
    }
}

/// The nearest beginning of a character at or before a byte.
fn floor(text: &str, byte: usize) -> usize {
    (0..=byte.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
