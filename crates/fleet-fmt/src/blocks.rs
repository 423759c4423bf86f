//! Block scalars: taken out of a text before it is laid out, and put back with their lines as they were, moved as one.

use crate::Refusal;
use crate::reading::{BlockPlace, Reading};

/// A block scalar that was taken out.
#[derive(Debug)]
pub(crate) struct Block {
    /// What stands in its place.
    token: String,
    /// `|`, `>-`, `|2+` and the like.
    header: String,
    /// Its lines without their indentation, each with its line feed; the last may lack one at the end of the text.
    lines: Vec<String>,
    /// The line it stood at, from 1.
    line: usize,
}

/// The text with a word in place of every block scalar.
pub(crate) fn take_out(text: &str, reading: &Reading) -> Result<(String, Vec<Block>), Refusal> {
    let stem = unused_word(text);
    let mut lean = String::with_capacity(text.len());
    let (mut blocks, mut done) = (Vec::new(), 0);
    for place in &reading.blocks {
        let line = line_at(text, place.after);
        let unusual = Refusal::Unusual { line, what: "a block scalar whose beginning is not found; write it anew" };
        let (start, header) = header(text, place).ok_or_else(|| unusual.clone())?;
        if start < done {
            return Err(unusual);
        }
        let token = format!("{stem}{}", blocks.len());
        let header_end = text[start..].find('\n').map_or(text.len(), |at| start + at + 1);
        let (lines, end) = lines(text, header_end, place, header.contains('+'));
        lean.push_str(&text[done..start]);
        lean.push_str(&token);
        lean.push_str(&text[start + header.len()..header_end]);
        done = end;
        blocks.push(Block { token, header: header.to_owned(), lines, line: line_at(text, start) });
    }
    lean.push_str(&text[done..]);
    Ok((lean, blocks))
}

/// A word that the text does not have.
fn unused_word(text: &str) -> String {
    let mut stem = "block".to_owned();
    while text.contains(&stem) {
        stem.push('x');
    }
    stem
}

fn line_at(text: &str, byte: usize) -> usize {
    text[..byte].matches('\n').count() + 1
}

/// The header of a block scalar and its place: behind the colon, dash, anchor, tag and comments before it.
fn header<'a>(text: &'a str, place: &BlockPlace) -> Option<(usize, &'a str)> {
    let mut at = place.after;
    while at < place.text.max(place.after) {
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let step = match first {
            '|' | '>' => {
                let length = rest.find(|c: char| !matches!(c, '|' | '>' | '+' | '-' | '0'..='9')).unwrap_or(rest.len());
                return Some((at, &rest[..length]));
            }
            '#' => rest.find('\n')?,
            '&' | '!' => rest.find(char::is_whitespace)?,
            ':' | '-' | '?' | '.' => 1,
            _ if first.is_whitespace() => first.len_utf8(),
            _ => return None,
        };
        at += step;
    }
    None
}

/// The lines of a block scalar from `start` without their indentation, and where they end. Blank lines behind it belong
/// to it when it keeps them.
fn lines(text: &str, start: usize, place: &BlockPlace, keeps: bool) -> (Vec<String>, usize) {
    let (mut lines, mut end, mut count) = (Vec::new(), start, 0);
    let mut at = start;
    for line in text[start..].split_inclusive('\n') {
        if at >= place.end {
            break;
        }
        let bare = line.trim_end_matches('\n');
        let spaces = bare.len() - bare.trim_start_matches(' ').len();
        let is_blank = spaces == bare.len() && place.indent.is_none_or(|indent| spaces <= indent);
        let indent = match place.indent {
            _ if is_blank => bare.len(),
            Some(indent) if spaces >= indent => indent,
            _ => break,
        };
        at += line.len();
        lines.push(line[indent..].to_owned());
        if !is_blank || keeps {
            (count, end) = (lines.len(), at);
        }
    }
    lines.truncate(count);
    (lines, end)
}

/// The laid out text with its block scalars.
pub(crate) fn put_back(text: &str, blocks: &[Block]) -> Result<String, Refusal> {
    let mut out = String::with_capacity(text.len());
    let mut waiting = blocks.iter().peekable();
    for line in text.split_inclusive('\n') {
        let Some((block, at)) = waiting.peek().and_then(|block| Some((*block, word(line, &block.token)?))) else {
            out.push_str(line);
            continue;
        };
        waiting.next();
        let rest = &line[at + block.token.len()..];
        let indent =
            indent(&line[..at], &block.header).filter(|_| rest.trim_start().is_empty() || rest.starts_with(" #"));
        let Some(indent) = indent else {
            return Err(Refusal::Unusual { line: block.line, what: "a block scalar in this place; write `key: |`" });
        };
        out.push_str(&line[..at]);
        out.push_str(&block.header);
        out.push_str(rest);
        for line in &block.lines {
            if line != "\n" {
                out.extend(std::iter::repeat_n(' ', indent));
            }
            out.push_str(line);
        }
    }
    match waiting.next() {
        Some(block) => Err(Refusal::Unusual { line: block.line, what: "a block scalar in this place; write `key: |`" }),
        None => Ok(out),
    }
}

/// Where a token stands as a whole word: `block1` is not in `block12`.
fn word(line: &str, token: &str) -> Option<usize> {
    let at = line.find(token)?;
    let next = line[at + token.len()..].chars().next();
    next.is_none_or(|c| !c.is_ascii_digit()).then_some(at)
}

/// Columns that a block scalar's lines are indented by, when `prefix` stands before its header.
fn indent(prefix: &str, header: &str) -> Option<usize> {
    let explicit = header.chars().find_map(|c| c.to_digit(10)).and_then(|digit| usize::try_from(digit).ok());
    let mut column = prefix.len() - prefix.trim_start_matches(' ').len();
    let mut rest = &prefix[column..];
    // The column of the innermost key or dash before it.
    let mut parent = None;
    while let Some(inner) = rest.strip_prefix("- ") {
        let spaces = inner.len() - inner.trim_start_matches(' ').len();
        parent = Some(column);
        column += 2 + spaces;
        rest = &inner[spaces..];
    }
    let has_key = rest.contains(": ");
    match (explicit, if has_key { Some(column) } else { parent }) {
        (None, Some(parent)) => Some(parent + 2),
        (None, None) => Some(column.max(2)),
        (Some(explicit), Some(parent)) => Some(parent + explicit),
        (Some(_), None) => None,
    }
}
