//! What a text says: its values in order, its comments, and where its block scalars stand.

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

use crate::Refusal;

/// How deep collections may lie in one another.
const MAX_DEPTH: usize = 64;

/// Columns that block lists and mappings may be indented by: the library counts them in the bits of a word.
const MAX_INDENT: usize = 60;

/// A text as its reader sees it.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// What it says, without places.
    said: Vec<Said>,
    /// The line of each, from 1.
    lines: Vec<usize>,
    /// Text of the comments, with their places in bytes.
    pub(crate) comments: Vec<(usize, String)>,
    pub(crate) blocks: Vec<BlockPlace>,
    /// The line of the first list or mapping that stands further right than the library can tell, from 1.
    pub(crate) too_far_right: Option<usize>,
}

/// One thing that a text says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Document,
    EndOfDocument,
    Sequence { anchor: usize, tag: Option<String> },
    Mapping { anchor: usize, tag: Option<String> },
    End,
    Alias(usize),
    Scalar { value: String, notation: Notation, anchor: usize, tag: Option<String> },
}

/// Notations that may give one text different types; the two kinds of quotes do not differ.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Notation {
    Plain,
    Quoted,
    Literal,
    Folded,
}

/// Where a block scalar stands, in bytes.
#[derive(Debug)]
pub(crate) struct BlockPlace {
    /// Behind the value before; the header lies between here and `text`.
    pub(crate) after: usize,
    /// The first character of its text that is no blank line, or behind it when it has none.
    pub(crate) text: usize,
    /// Where the next thing begins.
    pub(crate) end: usize,
    /// Columns that its lines are indented by; `None` when it has no text.
    pub(crate) indent: Option<usize>,
}

/// Reads a text whose line ends are LF.
pub(crate) fn read(text: &str) -> Result<Reading, Refusal> {
    let mut options = granit_parser::Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.block_scalar_eof_without_line_feed = true;
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut reading = Reading::default();
    let mut behind = 0;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| Refusal::Unreadable {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            message: error.to_string().split(" at ").next().unwrap_or_default().to_owned(),
        })?;
        let place = |marker: &granit_parser::Marker| marker.byte_offset().unwrap_or_default().min(text.len());
        let (start, end) = (place(&span.start), place(&span.end));
        if event == Event::StreamEnd {
            break;
        }
        if let Event::Comment(comment, _) = &event {
            reading.comments.push((start, comment.trim_end().to_owned()));
            continue;
        }
        if let Event::Scalar(value, ScalarStyle::Literal | ScalarStyle::Folded, ..) = &event {
            let has_text = value.chars().any(|c| c != '\n');
            let indent = span.indent.filter(|_| has_text);
            reading.blocks.push(BlockPlace { after: behind, text: start, end, indent });
        }
        if let Event::MappingStart(StructureStyle::Block, ..) | Event::SequenceStart(StructureStyle::Block, ..) = &event
            && span.start.col() > MAX_INDENT
        {
            reading.too_far_right.get_or_insert(span.start.line());
        }
        behind = end;
        if let Some(said) = said(event) {
            reading.said.push(said);
            reading.lines.push(span.start.line());
        }
    }
    reading.comments.sort_by_key(|(place, _)| *place);
    Ok(reading)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum belongs to the parser; what is left carries no value")]
fn said(event: Event<'_>) -> Option<Said> {
    let tag = |tag: Option<std::borrow::Cow<'_, granit_parser::Tag>>| tag.map(|tag| format!("{tag:?}"));
    Some(match event {
        Event::DocumentStart(..) => Said::Document,
        Event::DocumentEnd => Said::EndOfDocument,
        Event::SequenceStart(_, anchor, given) => Said::Sequence { anchor, tag: tag(given) },
        Event::MappingStart(_, anchor, given) => Said::Mapping { anchor, tag: tag(given) },
        Event::SequenceEnd | Event::MappingEnd => Said::End,
        Event::Alias(anchor) => Said::Alias(anchor),
        Event::Scalar(value, style, anchor, given) => {
            let notation = match style {
                ScalarStyle::Plain => Notation::Plain,
                ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Notation::Quoted,
                ScalarStyle::Literal => Notation::Literal,
                ScalarStyle::Folded => Notation::Folded,
            };
            Said::Scalar { value: value.into_owned(), notation, anchor, tag: tag(given) }
        }
        _ => return None,
    })
}

impl Reading {
    /// What differs in `after`, when it does not say the same.
    pub(crate) fn compare(&self, after: &Self) -> Result<(), String> {
        let differs = self.said.iter().zip(&after.said).position(|(before, after)| before != after);
        let at = differs.or((self.said.len() != after.said.len()).then_some(self.said.len().min(after.said.len())));
        if let Some(at) = at {
            let line = self.lines.get(at).or(self.lines.last()).copied().unwrap_or(1);
            return Err(format!("the value at line {line}"));
        }
        let texts = |reading: &Self| -> Vec<String> { reading.comments.iter().map(|(_, text)| text.clone()).collect() };
        let (before, after) = (texts(self), texts(after));
        if before == after {
            return Ok(());
        }
        let lost = before.iter().find(|comment| !after.contains(comment));
        Err(lost.map_or("the order of the comments".to_owned(), |lost| format!("the comment `#{lost}`")))
    }
}
