//! The comments of a file, for the few files in which one is meant for lint.
//!
//! The file is read a second time for them, so that the tree of places never depends on comments.

use granit_parser::{Event, Parser, Placement, ScalarStyle};

use super::MAX_DEPTH;
use super::place::{narrow, place, scalar_span};
use crate::finding::Span;

/// One comment.
#[derive(Debug)]
pub(crate) struct Comment {
    /// What stands behind `#`.
    pub(crate) text: String,
    /// From `#` to the end of the line.
    pub(crate) span: Span,
    /// The comment has its line for itself.
    pub(crate) own_line: bool,
}

/// The comments of a file and what is needed to say which lines they are about.
#[derive(Debug, Default)]
pub(crate) struct Comments {
    pub(crate) comments: Vec<Comment>,
    /// Of every block scalar, in order: the line of its `|` or `>`, and its last line.
    pub(crate) blocks: Vec<(u32, u32)>,
    /// The first line with a value.
    pub(crate) first_value: Option<u32>,
    /// By line from 0: the number, from 1, of the first line from there on that is neither blank nor a comment.
    next_lines: Vec<Option<u32>>,
}

impl Comments {
    /// The line that a comment is about: its own, or the first one below that is neither blank nor a comment.
    pub(crate) fn line_of(&self, comment: &Comment) -> Option<u32> {
        if !comment.own_line {
            return Some(comment.span.line);
        }
        self.next_lines.get(usize::try_from(comment.span.line).ok()?).copied().flatten()
    }

    /// The last line of what starts on a line: that of a block scalar, else the line itself.
    pub(crate) fn last_line(&self, line: u32) -> u32 {
        let from = self.blocks.partition_point(|(header, _)| *header < line);
        let here = self.blocks[from..].iter().take_while(|(header, _)| *header == line);
        here.map(|(_, last)| *last).max().unwrap_or(line)
    }
}

fn next_lines(text: &str) -> Vec<Option<u32>> {
    let mut next: Vec<Option<u32>> = lines(text)
        .enumerate()
        .map(|(at, line)| {
            let line = line.trim_start();
            (!line.is_empty() && !line.starts_with('#')).then(|| narrow(at + 1))
        })
        .collect();
    for at in (1..next.len()).rev() {
        next[at - 1] = next[at - 1].or(next[at]);
    }
    next
}

/// The lines of a text, as YAML counts them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let here = rest?;
        let Some(end) = here.find(['\n', '\r']) else {
            rest = None;
            return Some(here);
        };
        let after = &here[end..];
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..));
        Some(&here[..end])
    })
}

/// The comments of `text`, up to the first error of syntax.
pub(crate) fn comments(text: &str) -> Comments {
    let mut options = granit_parser::Options::default();
    options.disallow_directives = true;
    options.set_emit_comments(true);
    options.flow_nesting_limit = usize::from(MAX_DEPTH);
    options.block_nesting_limit = usize::from(MAX_DEPTH);
    options.max_buffered_comment_events = usize::MAX;
    options.emit_unresolved_aliases = true;
    options.block_scalar_eof_without_line_feed = true;
    let mut found = Comments { next_lines: next_lines(text), ..Comments::default() };
    for next in Parser::new_from_str_with_options(text, options) {
        let Ok((event, span)) = next else { break };
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum belongs to the parser; only these count")]
        match event {
            Event::Comment(said, placement) => {
                let own_line = !matches!(placement, Placement::Right);
                found.comments.push(Comment { text: said.into_owned(), span: place(&span), own_line });
            }
            Event::Scalar(_, style, ..) => {
                let here = scalar_span(&span, style, text);
                found.first_value.get_or_insert(here.line);
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    let start = span.start.byte_offset().and_then(|at| text.get(..at)).unwrap_or_default();
                    // Above the first character there may be blank lines.
                    let blank = &start[start.trim_end().len()..];
                    let header = here.line.saturating_sub(narrow(lines(blank).count() - 1));
                    found.blocks.push((header, here.end_line));
                }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                found.first_value.get_or_insert(place(&span).line);
            }
            _ => {}
        }
    }
    found
}
