//! Container image references: their grammar, whether they name their registry, and what placeholders can make of them.
//!
//! The grammar is that of the distribution project: `[host[:port]/]name[:tag][@algorithm:hex]`. Nothing is looked up.

use std::ops::Range;

use crate::placeholder::placeholders;

/// Longest reference, in bytes.
pub const MAX_IMAGE_BYTES: usize = 2048;
/// Longest path behind the registry, in bytes.
const MAX_PATH_BYTES: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG_BYTES: usize = 128;
/// Fewest hexadecimal digits of a digest.
const MIN_HEX: u8 = 32;
/// Digest algorithms with a length that everybody knows.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// Why a text is no image reference, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ImageProblem {
    /// What is wrong.
    pub reason: ImageReason,
    /// The bytes of the text that it is about; the whole text when it is no single part. On character boundaries.
    pub span: Range<usize>,
}

/// What is wrong with an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageReason {
    /// Nothing there.
    #[error("the image reference is empty")]
    Empty,
    /// Longer than [`MAX_IMAGE_BYTES`].
    #[error("the image reference has {0} bytes; at most {MAX_IMAGE_BYTES} are allowed")]
    TooLong(usize),
    /// It starts like a URL: `https://`, `docker://` …
    #[error("an image reference has no scheme; remove `{0}`")]
    Scheme(String),
    /// A capital letter behind the registry.
    #[error("the name {0:?} has capital letters; only lower-case ones are allowed behind the registry")]
    Capitals(String),
    /// The registry's host or port.
    #[error("{0:?} is not a registry: it must be a host name or address, with `:` and a port when there is one")]
    Registry(String),
    /// A part of the path.
    #[error(
        "{0:?} is not a part of an image's name: lower-case letters and digits, single `.` or `_`, `__` or `-` between them"
    )]
    Name(String),
    /// A path that is too long.
    #[error("the name behind the registry has {0} bytes; at most {MAX_PATH_BYTES} are allowed")]
    NameTooLong(usize),
    /// The part behind `:`.
    #[error("{0:?} is not a tag: letters, digits, `_`, and behind the first also `.` and `-`, at most {MAX_TAG_BYTES}")]
    Tag(String),
    /// The part behind `@`.
    #[error("{0:?} is not a digest: write `sha256:` and its hexadecimal digits")]
    Digest(String),
    /// A digest of a known algorithm with the wrong digits.
    #[error("a {algorithm} digest has {digits} lower-case hexadecimal digits; this one does not")]
    DigestDigits {
        /// The algorithm.
        algorithm: &'static str,
        /// How many digits it has.
        digits: usize,
    },
    /// Whatever the placeholders give, this text cannot be part of a reference there.
    #[error("with {0:?} here it is no image reference, whatever the placeholders give")]
    Template(String),
}

/// The beginning of a text that a message quotes.
fn quoted(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Checks a reference without placeholders: `[host[:port]/]name[:tag][@digest]`.
///
/// # Errors
/// The first part that breaks the grammar, with its place.
pub fn check_image_reference(text: &str) -> Result<(), ImageProblem> {
    let problem = |reason, span| Err(ImageProblem { reason, span });
    if text.is_empty() {
        return problem(ImageReason::Empty, 0..0);
    }
    if text.len() > MAX_IMAGE_BYTES {
        return problem(ImageReason::TooLong(text.len()), 0..text.len());
    }
    if let Some(end) = text.find("://") {
        return problem(ImageReason::Scheme(quoted(&text[..end + 3])), 0..end + 3);
    }
    let name_and_tag = text.find('@').map_or(text, |at| &text[..at]);
    let slash = name_and_tag.rfind('/').map_or(0, |slash| slash + 1);
    let name = name_and_tag[slash..].find(':').map_or(name_and_tag, |colon| &text[..slash + colon]);
    let first = name.find('/').map(|end| &name[..end]);
    // A first part that fits both is the registry when it looks like one.
    let registry = first.filter(|first| !is_name_part(first) || (is_registry_like(first) && is_registry(first)));
    if let Some(registry) = registry.filter(|registry| !is_registry(registry)) {
        return problem(ImageReason::Registry(quoted(registry)), 0..registry.len());
    }
    let mut at = registry.map_or(0, |registry| registry.len() + 1);
    let path = at..name.len();
    for part in name[at..].split('/') {
        let span = at..at + part.len();
        if !is_name_part(part) {
            let lower = part.to_ascii_lowercase();
            let reason = if lower != part && is_name_part(&lower) { ImageReason::Capitals } else { ImageReason::Name };
            return problem(reason(quoted(part)), span);
        }
        at = span.end + 1;
    }
    if path.len() > MAX_PATH_BYTES {
        return problem(ImageReason::NameTooLong(path.len()), path);
    }
    if name.len() < name_and_tag.len() {
        let span = name.len() + 1..name_and_tag.len();
        if !is_tag(&text[span.clone()]) {
            return problem(ImageReason::Tag(quoted(&text[span.clone()])), span);
        }
    }
    if name_and_tag.len() < text.len() {
        let span = name_and_tag.len() + 1..text.len();
        if let Err(reason) = check_digest(&text[span.clone()]) {
            return problem(reason, span);
        }
    }
    Ok(())
}

/// Whether the reference says which registry it comes from: its first part has a dot or a port, or is `localhost`.
///
/// Placeholders count as text without a slash; where only they can tell, the answer is yes.
pub fn is_fully_qualified(text: &str) -> bool {
    let mut literal = String::with_capacity(text.len());
    let mut at = 0;
    let mut leading = false;
    for placeholder in placeholders(text) {
        literal.push_str(&text[at..placeholder.span.start]);
        leading |= literal.is_empty();
        // As a port would: a first part with a placeholder may be a registry.
        literal.push(':');
        at = placeholder.span.end;
    }
    literal.push_str(&text[at..]);
    match literal.split_once('/') {
        Some((first, _)) => is_registry_like(first),
        None => leading,
    }
}

/// Checks a reference with placeholders: with some text in place of each `{{…}}` it must be a reference.
///
/// Between the first and the last of `if`, `with`, `else` and `end` any text may stand.
///
/// # Errors
/// The first character that cannot stand there, with its place.
pub fn check_image_template(text: &str) -> Result<(), ImageProblem> {
    let found = placeholders(text);
    if found.is_empty() {
        return check_image_reference(text);
    }
    let literal: usize = text.len() - found.iter().map(|p| p.span.len()).sum::<usize>();
    if literal > MAX_IMAGE_BYTES {
        return Err(ImageProblem { reason: ImageReason::TooLong(literal), span: 0..text.len() });
    }
    if let Some(end) = text[..found[0].span.start].find("://") {
        return Err(ImageProblem { reason: ImageReason::Scheme(quoted(&text[..end + 3])), span: 0..end + 3 });
    }
    let mut holes: Vec<(Range<usize>, bool)> = Vec::new();
    let controls = || found.iter().filter(|p| p.is_control);
    if let (Some(first), Some(last)) = (controls().next(), controls().next_back()) {
        holes.push((first.span.start..last.span.end, true));
    }
    let outside = |span: &Range<usize>| holes.first().is_none_or(|(hole, _)| !hole.contains(&span.start));
    let others: Vec<_> = found.iter().filter(|p| outside(&p.span)).map(|p| (p.span.clone(), !p.is_silent)).collect();
    holes.extend(others);
    holes.sort_by_key(|(span, _)| span.start);

    let mut states = vec![State::Host(Edge::Start), State::Path(Sep::Start)];
    let mut at = 0;
    for (hole, is_any) in holes.into_iter().chain([(text.len()..text.len(), false)]) {
        for (offset, c) in text[at..hole.start].char_indices() {
            states = next_states(&states, c);
            if states.is_empty() {
                let span = at + offset..at + offset + c.len_utf8();
                return Err(ImageProblem { reason: ImageReason::Template(c.to_string()), span });
            }
        }
        if is_any {
            states = reachable(states);
        }
        at = hole.end;
    }
    if states.iter().any(State::is_end) {
        return Ok(());
    }
    let last = text.chars().next_back().map_or(0, char::len_utf8);
    let tail = if text.ends_with("}}") { 0..text.len() } else { text.len() - last..text.len() };
    Err(ImageProblem { reason: ImageReason::Template(quoted(&text[tail.clone()])), span: tail })
}

fn is_registry_like(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// `host[:port]`.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let is_address = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("")) };
            (is_address, port)
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (host.split('.').all(is_host_part), port)
        }
    };
    host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_host_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Lower-case letters and digits with separators between them: one `.`, `_` or `__`, any number of `-`.
fn is_name_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = part.split(is_word);
    // Words are one character each here, so what is between two of them is empty or a separator.
    let (Some(first), Some(last)) = (separators.next(), separators.next_back()) else { return false };
    first.is_empty()
        && last.is_empty()
        && separators.all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG_BYTES
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

fn check_digest(digest: &str) -> Result<(), ImageReason> {
    let bad = || ImageReason::Digest(quoted(digest));
    let (algorithm, hex) = digest.split_once(':').ok_or_else(bad)?;
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if !algorithm.split(['+', '.', '_', '-']).all(is_part) {
        return Err(bad());
    }
    if let Some((algorithm, digits)) = ALGORITHMS.into_iter().find(|(known, _)| *known == algorithm) {
        let fits = hex.len() == digits && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        return if fits { Ok(()) } else { Err(ImageReason::DigestDigits { algorithm, digits }) };
    }
    let fits = hex.len() >= usize::from(MIN_HEX) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(()) } else { Err(bad()) }
}

/// Where in the grammar a text stands. The same language as [`check_image_reference`], without its lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Host(Edge),
    /// Inside `[` and `]`, with something in it or not.
    Address(bool),
    AddressEnd,
    Port(bool),
    Path(Sep),
    Tag(bool),
    Algorithm(bool),
    /// So many digits of a digest, up to [`MIN_HEX`].
    Hex(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Start,
    Word,
    Hyphen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sep {
    /// Before the first character of the whole reference's first part, or of a later part.
    Start,
    Word,
    /// Behind `.` or `__`: a word must come.
    Full,
    Underscore,
    Hyphen,
}

impl State {
    fn is_end(&self) -> bool {
        matches!(self, Self::Path(Sep::Word) | Self::Tag(true) | Self::Hex(MIN_HEX))
    }

    /// Adds every state that `c` leads to.
    fn step(self, c: char, to: &mut Vec<State>) {
        let lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        let next = match (self, c) {
            (Self::Host(Edge::Start), '[') => Self::Address(false),
            (Self::Host(_), c) if c.is_ascii_alphanumeric() => Self::Host(Edge::Word),
            (Self::Host(Edge::Word | Edge::Hyphen), '-') => Self::Host(Edge::Hyphen),
            (Self::Host(Edge::Word), '.') => Self::Host(Edge::Start),
            (Self::Host(Edge::Word) | Self::AddressEnd, ':') => Self::Port(false),
            (Self::Address(_), c) if c.is_ascii_hexdigit() || c == ':' => Self::Address(true),
            (Self::Address(true), ']') => Self::AddressEnd,
            (Self::Port(_), '0'..='9') => Self::Port(true),
            (Self::Host(Edge::Word) | Self::AddressEnd | Self::Port(true) | Self::Path(Sep::Word), '/') => {
                Self::Path(Sep::Start)
            }
            (Self::Path(_), _) if lower => Self::Path(Sep::Word),
            (Self::Path(Sep::Word), '.') | (Self::Path(Sep::Underscore), '_') => Self::Path(Sep::Full),
            (Self::Path(Sep::Word), '_') => Self::Path(Sep::Underscore),
            (Self::Path(Sep::Word | Sep::Hyphen), '-') => Self::Path(Sep::Hyphen),
            (Self::Path(Sep::Word), ':') => Self::Tag(false),
            (Self::Tag(_), c) if c.is_ascii_alphanumeric() || c == '_' => Self::Tag(true),
            (Self::Tag(true), '.' | '-') => Self::Tag(true),
            (Self::Path(Sep::Word) | Self::Tag(true), '@') => Self::Algorithm(false),
            (Self::Algorithm(false), c) if c.is_ascii_alphabetic() => Self::Algorithm(true),
            (Self::Algorithm(true), c) if c.is_ascii_alphanumeric() => Self::Algorithm(true),
            (Self::Algorithm(true), '+' | '.' | '_' | '-') => Self::Algorithm(false),
            (Self::Algorithm(true), ':') => Self::Hex(0),
            (Self::Hex(digits), c) if c.is_ascii_hexdigit() => Self::Hex(digits.saturating_add(1).min(MIN_HEX)),
            _ => return,
        };
        if !to.contains(&next) {
            to.push(next);
        }
    }
}

fn next_states(from: &[State], c: char) -> Vec<State> {
    let mut to = Vec::new();
    from.iter().for_each(|state| state.step(c, &mut to));
    to
}

/// Every state that some text leads to, the empty one included.
fn reachable(mut states: Vec<State>) -> Vec<State> {
    let mut done = 0;
    while done < states.len() {
        let from = states[done];
        "aG0.-_/:@+[]".chars().for_each(|c| from.step(c, &mut states));
        done += 1;
    }
    states
}

#[cfg(test)]
mod tests;
