//! YAML inside a manifest's text: the same reader as for manifests, with placeholders taken for words.

use std::borrow::Cow;
use std::ops::Range;

use fleet_render::{Placeholder, placeholders};

use super::{MAX_PROBLEMS, Part, Problem, clip};
use crate::codes::{self, Code};
use crate::finding::Span;
use crate::yaml::{self, Entry, LoadedFile, NodeKind};

/// Longer lines are not looked at for what else is on them.
const MAX_LINE: usize = 1_000;
/// So many problems of one file's notation are looked at.
const MAX_NOTATION: usize = 20;

/// A text whose placeholders were replaced by words of the same length in bytes.
#[derive(Debug)]
pub(super) struct Neutral<'a> {
    pub(super) original: &'a str,
    pub(super) text: Cow<'a, str>,
    found: Vec<Placeholder>,
}

impl<'a> Neutral<'a> {
    /// Without `is_template` the text stays as it is, braces and all.
    pub(super) fn of(original: &'a str, is_template: bool) -> Self {
        let found = if is_template { placeholders(original) } else { Vec::new() };
        if found.is_empty() {
            return Self { original, text: Cow::Borrowed(original), found };
        }
        let mut text = String::with_capacity(original.len());
        let mut at = 0;
        for placeholder in &found {
            text.push_str(&original[at..placeholder.span.start]);
            // One that leaves no text on its line leaves no line either.
            let filler = if placeholder.is_silent && is_alone(original, &placeholder.span, true) { ' ' } else { 'x' };
            text.extend(original[placeholder.span.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { filler }));
            at = placeholder.span.end;
        }
        text.push_str(&original[at..]);
        Self { original, text: Cow::Owned(text), found }
    }

    /// Whether placeholders decide which text there is.
    pub(super) fn has_control(&self) -> bool {
        self.found.iter().any(|placeholder| placeholder.is_control)
    }

    /// Whether a placeholder touches these bytes.
    pub(super) fn is_touched(&self, span: &Range<usize>) -> bool {
        let next = self.found.partition_point(|placeholder| placeholder.span.end <= span.start);
        self.found.get(next).is_some_and(|placeholder| placeholder.span.start < span.end)
    }

    /// Whether what stands at this byte of the text is so for every device.
    ///
    /// Labels and names are words, so behind a placeholder that is one the text goes on as written, on other lines. One
    /// that decides over text, fills a line alone or could bring lines of its own makes everything behind it unsure.
    fn is_certain(&self, byte: usize) -> bool {
        let is_word = |placeholder: &Placeholder| {
            let inside = &self.original[placeholder.span.clone()];
            !placeholder.is_control
                && (placeholder.is_silent || !is_alone(self.original, &placeholder.span, false))
                && !inside.contains(['\\', '`', '\n'])
        };
        let line_start = self.text[..byte].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[byte..].find('\n').map_or(self.text.len(), |at| byte + at);
        let before = self.found.iter().take_while(|placeholder| placeholder.span.start <= byte);
        before.clone().all(is_word) && !self.is_touched(&(line_start..line_end.max(line_start + 1)))
    }
}

/// Whether nothing but placeholders and white space stands on the lines of the span; with `silent` only silent ones count.
fn is_alone(text: &str, span: &Range<usize>, silent: bool) -> bool {
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
    let line = &text[start..end];
    if line.len() > MAX_LINE {
        return false;
    }
    let mut rest = String::new();
    let mut at = 0;
    for placeholder in placeholders(line) {
        rest.push_str(&line[at..placeholder.span.start]);
        if silent && !placeholder.is_silent {
            return false;
        }
        at = placeholder.span.end;
    }
    rest.push_str(&line[at..]);
    rest.trim().is_empty()
}

/// The text of one YAML file of an application, read.
pub(super) struct Yaml<'n> {
    file: LoadedFile<'n>,
    root: Option<u32>,
    source: &'n Neutral<'n>,
    /// The file was read to its end.
    pub(super) is_whole: bool,
}

/// Reads one file as YAML; problems of its notation get `code`.
pub(super) fn read<'n>(
    source: &'n Neutral<'n>,
    number: usize,
    name: &str,
    code: Code,
    problems: &mut Vec<Problem>,
) -> Yaml<'n> {
    let mut file = yaml::load(&source.text, false);
    let mut looked = 0;
    for finding in std::mem::take(&mut file.findings) {
        // What other readers make of plain scalars, and tags, is not decided here.
        if problems.len() >= MAX_PROBLEMS || looked >= MAX_NOTATION {
            break;
        }
        if [codes::AMBIGUOUS, codes::TAG, codes::NUMBER, codes::KEY_NOT_TEXT].contains(&finding.code) {
            continue;
        }
        looked += 1;
        let span = bytes_of(&source.text, finding.span);
        if source.is_certain(span.start) {
            let message = format!("{}: {}", clip(name), finding.message);
            problems.push(Problem { code, part: Part::Text(number, span), message, hint: finding.hint });
        }
    }
    let filled = file.documents.iter().filter(|document| document.root.is_some());
    if let Some(second) = filled.clone().nth(1).filter(|_| !file.stopped) {
        let span = bytes_of(&source.text, second.span);
        problems.push(Problem::new(
            code,
            Part::Text(number, span),
            format!("{}: only one document is read", clip(name)),
        ));
    }
    let root = filled.clone().next().and_then(|document| document.root);
    let is_whole = !file.stopped;
    Yaml { file, root, source, is_whole }
}

/// The bytes of a span of lines and columns. Goes through the text: for what is reported only.
pub(super) fn bytes_of(text: &str, span: Span) -> Range<usize> {
    let byte = |line: u32, column: u32| {
        let mut start = 0;
        for _ in 1..line {
            start = text[start..].find('\n').map_or(text.len(), |at| start + at + 1);
        }
        let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
        text[start..].char_indices().nth(skip).map_or(text.len(), |(at, _)| start + at)
    };
    let start = byte(span.line, span.column);
    start..byte(span.end_line, span.end_column).max(start)
}

impl Yaml<'_> {
    /// The value of a path of keys below the top.
    pub(super) fn find(&self, pointer: &str) -> Option<u32> {
        self.root.and_then(|root| self.below(root, pointer))
    }

    /// The value of a path of keys below a value.
    pub(super) fn below(&self, node: u32, pointer: &str) -> Option<u32> {
        self.file.tree.find(node, pointer).map(|(node, _)| node)
    }

    /// The bytes of the key that the value at a path below a value stands under.
    pub(super) fn key_below(&self, node: u32, pointer: &str) -> Option<Range<usize>> {
        self.file.tree.find(node, pointer).and_then(|(_, key)| key).map(|key| bytes_of(&self.source.text, key))
    }

    pub(super) fn root(&self) -> Option<u32> {
        self.root
    }

    /// The entries of a mapping.
    pub(super) fn entries(&self, node: u32) -> Option<&[Entry]> {
        match &self.file.tree.node(node).kind {
            NodeKind::Mapping(entries) => Some(entries),
            NodeKind::Scalar | NodeKind::Sequence(_) => None,
        }
    }

    /// Whether the value is absent or `null`.
    pub(super) fn is_null(&self, node: u32) -> bool {
        matches!(self.file.tree.node(node).kind, NodeKind::Scalar)
            && self.file.scalars[node as usize].is_plain()
            && matches!(&*self.file.scalars[node as usize].text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// The text of a scalar as it was before placeholders became words, and its bytes in the original.
    pub(super) fn text(&self, node: u32) -> Option<(&str, Range<usize>)> {
        if !matches!(self.file.tree.node(node).kind, NodeKind::Scalar) {
            return None;
        }
        let scalar = &self.file.scalars[node as usize];
        let source = self.source.text.get(scalar.start_byte..scalar.end_byte)?;
        match source.find(&*scalar.text).filter(|_| !scalar.text.is_empty()) {
            Some(offset) => {
                let span = scalar.start_byte + offset..scalar.start_byte + offset + scalar.text.len();
                self.source.original.get(span.clone()).map(|text| (text, span))
            }
            None => Some((&scalar.text, scalar.start_byte..scalar.end_byte)),
        }
    }

    /// The bytes of a value, as a place to point at.
    pub(super) fn place(&self, node: u32) -> Range<usize> {
        bytes_of(&self.source.text, self.file.tree.value_span(node))
    }

    /// Whether a placeholder is in the key or value.
    pub(super) fn is_touched(&self, span: &Range<usize>) -> bool {
        self.source.is_touched(span)
    }
}
