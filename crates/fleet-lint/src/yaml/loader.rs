//! Reads a file into a tree of places and finds what no value can show: duplicate keys, tags, merge keys, ambiguous
//! scalars, aliases that lead nowhere, and documents without bounds.

mod notation;
mod syntax;

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span as RawSpan};

use super::place::{clip, dash_before, place, scalar_span};
use super::scalar::{Plain, ambiguity, resolve};
use super::tree::{Entry, Node, NodeKind, ScalarText, Style, Tree};
use super::{MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES, MAX_TEXT_BYTES};
use crate::codes;
use crate::finding::{Finding, Span};
use notation::ambiguous;

/// One document of a file.
#[derive(Debug)]
pub(crate) struct LoadedDocument {
    /// The document's value; `None` when it is empty or not readable.
    pub(crate) root: Option<u32>,
    /// A finding makes the value meaningless: do not decode it.
    pub(crate) broken: bool,
    /// A finding about its notation is an error that nothing lowers.
    pub(crate) refused: bool,
    /// Where the document starts.
    pub(crate) span: Span,
}

/// A file as a tree of places.
#[derive(Debug, Default)]
pub(crate) struct LoadedFile<'a> {
    pub(crate) tree: Tree,
    /// By node; empty for collections.
    pub(crate) scalars: Vec<ScalarText<'a>>,
    pub(crate) documents: Vec<LoadedDocument>,
    pub(crate) findings: Vec<Finding>,
    /// Reading stopped before the end of the file.
    pub(crate) stopped: bool,
}

enum Frame<'a> {
    Sequence { node: u32, anchor: usize, items: Vec<u32> },
    Mapping { node: u32, anchor: usize, entries: Vec<Entry>, key: Option<Key<'a>> },
}

struct Key<'a> {
    text: Cow<'a, str>,
    span: Span,
    is_merge: bool,
}

#[derive(Clone, Copy, Default)]
struct Size {
    /// Values in the expanded subtree.
    nodes: u32,
    /// Bytes of text in the expanded subtree, keys included.
    bytes: u64,
    /// Levels of the subtree.
    height: u16,
}

impl Size {
    fn scalar(bytes: usize) -> Self {
        Self { nodes: 1, bytes: u64::try_from(bytes).unwrap_or(u64::MAX), height: 1 }
    }
}

struct Loader<'a> {
    file: LoadedFile<'a>,
    sizes: Vec<Size>,
    stack: Vec<Frame<'a>>,
    anchors: HashMap<usize, u32>,
    is_json: bool,
}

/// Reads `text`. Never fails: what cannot be read is a finding.
pub(crate) fn load(text: &str, is_json: bool) -> LoadedFile<'_> {
    let mut options = granit_parser::Options::default();
    options.disallow_directives = true;
    options.emit_unresolved_aliases = true;
    options.set_emit_comments(false);
    options.flow_nesting_limit = usize::from(MAX_DEPTH);
    options.block_nesting_limit = usize::from(MAX_DEPTH);
    options.block_scalar_eof_without_line_feed = true;
    if is_json {
        options.simple_key_max_lookahead = text.len().max(1024);
    }
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut loader =
        Loader { file: LoadedFile::default(), sizes: Vec::new(), stack: Vec::new(), anchors: HashMap::new(), is_json };
    while let Some(next) = parser.next_event() {
        match next {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => {
                if !loader.event(event, &span, text) {
                    loader.stop();
                    break;
                }
            }
            Err(error) => {
                loader.syntax_error(&error, text);
                loader.stop();
                break;
            }
        }
    }
    loader.file
}

impl<'a> Loader<'a> {
    /// Takes one event; false when reading must stop.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum belongs to the parser; what is left carries no value")]
    fn event(&mut self, event: Event<'a>, span: &RawSpan, text: &str) -> bool {
        match event {
            Event::DocumentStart(..) => {
                if self.file.documents.len() >= MAX_DOCUMENTS {
                    self.find(Finding::new(
                        codes::TOO_MANY_DOCUMENTS,
                        place(span),
                        format!("the file has more than {MAX_DOCUMENTS} documents"),
                    ));
                    return false;
                }
                self.anchors.clear();
                self.file.documents.push(LoadedDocument {
                    root: None,
                    broken: false,
                    refused: false,
                    span: place(span),
                });
            }
            Event::Scalar(value, style, anchor, tag) => {
                if tag.is_some() {
                    self.tag(span);
                }
                let mut span_here = scalar_span(span, style, text);
                if span.start.index() == span.end.index() && matches!(self.stack.last(), Some(Frame::Sequence { .. })) {
                    span_here = dash_before(span, text).unwrap_or(span_here);
                }
                return self.scalar(value, style, anchor, span, span_here);
            }
            Event::SequenceStart(_, anchor, tag) => {
                if tag.is_some() {
                    self.tag(span);
                }
                return self.open(place(span), |node| Frame::Sequence { node, anchor, items: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                if tag.is_some() {
                    self.tag(span);
                }
                if self.expects_key() && is_placeholder(span, text) {
                    let message = "two braces begin a mapping in a mapping, not a placeholder";
                    let hint = "quote a value that begins with a placeholder: \"{{ … }}\"";
                    self.fatal(Finding::new(codes::KEY_NOT_TEXT, place(span), message).hint(hint));
                    return false;
                }
                return self.open(place(span), |node| Frame::Mapping { node, anchor, entries: Vec::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => return self.close(),
            Event::Alias(id) => {
                let Some(&node) = self.anchors.get(&id) else {
                    self.fatal(Finding::new(
                        codes::ALIAS,
                        place(span),
                        "the alias stands inside the value it refers to",
                    ));
                    return self.value(None, place(span));
                };
                return self.value(Some(node), place(span));
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("the alias `*{name}` refers to an anchor that is not defined before it");
                let hint = format!("quote it if it is text: \"*{name}\"");
                self.fatal(Finding::new(codes::ALIAS, place(span), message).hint(hint));
                return self.value(None, place(span));
            }
            _ => {}
        }
        true
    }

    fn find(&mut self, finding: Finding) {
        if let Some(document) = self.file.documents.last_mut() {
            document.refused |= finding.code.is_fatal();
        }
        self.file.findings.push(finding);
    }

    fn fatal(&mut self, finding: Finding) {
        if let Some(document) = self.file.documents.last_mut() {
            document.broken = true;
        }
        self.find(finding);
    }

    fn stop(&mut self) {
        self.file.stopped = true;
        if let Some(document) = self.file.documents.last_mut() {
            document.broken = true;
        }
    }

    fn tag(&mut self, span: &RawSpan) {
        let at = span.tag_span().map_or_else(|| place(span), |tag| place(&tag));
        let hint = "remove the tag; quote a value that must stay text";
        self.fatal(Finding::new(codes::TAG, at, "YAML tags are not allowed in manifests").hint(hint));
    }

    fn push(&mut self, span: Span, kind: NodeKind, scalar: ScalarText<'a>, size: Size) -> u32 {
        // The file's size bounds the count of nodes far below `u32::MAX`.
        let id = u32::try_from(self.file.tree.nodes.len()).unwrap_or(u32::MAX);
        self.file.tree.nodes.push(Node { span, kind });
        self.file.scalars.push(scalar);
        self.sizes.push(size);
        id
    }

    fn scalar(&mut self, value: Cow<'a, str>, style: ScalarStyle, anchor: usize, raw: &RawSpan, span: Span) -> bool {
        let plain = style == ScalarStyle::Plain;
        if value.contains('\0') {
            // Written as an escape: neither the database nor a file name can hold it.
            let message = "the character U+0000 is not allowed; to bring bytes to a device use contentEncoding: base64";
            self.find(Finding::new(codes::CONTROL_CHARACTER, span, message));
        }
        if self.expects_key() {
            return self.key(value, plain, anchor, span);
        }
        // `key:` without a value: point at the key.
        let is_absent = plain && raw.start.index() == raw.end.index();
        let (span, key) = match self.stack.last() {
            Some(Frame::Mapping { key: Some(key), .. }) => {
                (if is_absent { key.span } else { span }, Some(key.text.clone()))
            }
            _ => (span, None),
        };
        let octal = if plain { self.check_plain(&value, key.as_deref(), span) } else { None };
        let text = ScalarText {
            text: value,
            style: match style {
                ScalarStyle::Plain => Style::Plain,
                ScalarStyle::SingleQuoted => Style::Single,
                ScalarStyle::DoubleQuoted => Style::Double,
                ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
            },
            octal,
            start_byte: raw.start.byte_offset().unwrap_or(0),
            end_byte: raw.end.byte_offset().unwrap_or(0),
        };
        let size = Size::scalar(text.text.len());
        let node = self.push(span, NodeKind::Scalar, text, size);
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        self.value(Some(node), span)
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Mapping { key: None, .. }))
    }

    fn key(&mut self, text: Cow<'a, str>, plain: bool, anchor: usize, span: Span) -> bool {
        if anchor != 0 {
            // An anchored key is a value that aliases may repeat.
            let style = if plain { Style::Plain } else { Style::Double };
            let scalar = ScalarText { text: text.clone(), style, ..ScalarText::default() };
            let size = Size::scalar(scalar.text.len());
            let node = self.push(span, NodeKind::Scalar, scalar, size);
            self.anchors.insert(anchor, node);
        }
        if plain && resolve(&text) != Plain::Text {
            let message = format!("the key `{}` is not text", clip(&text));
            self.fatal(Finding::new(codes::KEY_NOT_TEXT, span, message).hint("quote the key"));
        } else if plain && let Some(other) = ambiguity(&text) {
            self.find(ambiguous(&text, other, span));
        }
        let is_merge = text == "<<";
        if is_merge && !plain {
            self.fatal(Finding::new(codes::MERGE_KEY, span, "the key \"<<\" is quoted, yet some readers merge it"));
        }
        if let Some(Frame::Mapping { key, .. }) = self.stack.last_mut() {
            *key = Some(Key { text, span, is_merge });
        }
        true
    }

    fn open(&mut self, span: Span, frame: impl FnOnce(u32) -> Frame<'a>) -> bool {
        if self.expects_key() {
            self.fatal(Finding::new(codes::KEY_NOT_TEXT, span, "a list or mapping is used as a key"));
            return false;
        }
        if self.stack.len() >= usize::from(MAX_DEPTH) {
            self.fatal(too_deep(span));
            return false;
        }
        let node = self.push(span, NodeKind::Scalar, ScalarText::default(), Size::default());
        self.stack.push(frame(node));
        true
    }

    fn close(&mut self) -> bool {
        let Some(frame) = self.stack.pop() else { return true };
        let mut keys = 0;
        let (node, anchor, kind, children): (u32, usize, NodeKind, Vec<u32>) = match frame {
            Frame::Sequence { node, anchor, items } => {
                (node, anchor, NodeKind::Sequence(items.clone().into_boxed_slice()), items)
            }
            Frame::Mapping { node, anchor, entries, .. } => {
                self.check_entries(&entries);
                keys = entries.iter().map(|entry| entry.key.len()).sum();
                let children = entries.iter().map(|entry| entry.value).collect();
                (node, anchor, NodeKind::Mapping(entries.into_boxed_slice()), children)
            }
        };
        let mut size = Size { height: 0, ..Size::scalar(keys) };
        for child in &children {
            let of_child = self.sizes[*child as usize];
            size.nodes = size.nodes.saturating_add(of_child.nodes);
            size.bytes = size.bytes.saturating_add(of_child.bytes);
            size.height = size.height.max(of_child.height);
        }
        size.height = size.height.saturating_add(1);
        let span = self.file.tree.node(node).span;
        if size.nodes > MAX_NODES {
            let message = format!("the document has more than {MAX_NODES} values once its aliases are expanded");
            self.fatal(Finding::new(codes::TOO_MANY_NODES, span, message));
            return false;
        }
        if size.bytes > MAX_TEXT_BYTES {
            let message =
                format!("the document has more than {MAX_TEXT_BYTES} bytes of text once its aliases are expanded");
            self.fatal(Finding::new(codes::TOO_MANY_NODES, span, message));
            return false;
        }
        if usize::from(size.height) + self.stack.len() > usize::from(MAX_DEPTH) {
            self.fatal(too_deep(span));
            return false;
        }
        // Where the collection ends: behind its last child.
        let end =
            children.iter().map(|child| self.file.tree.node(*child).span).map(|s| (s.end_line, s.end_column)).max();
        let slot = &mut self.file.tree.nodes[node as usize];
        slot.kind = kind;
        if let Some((end_line, end_column)) = end.filter(|end| *end > (span.line, span.column)) {
            (slot.span.end_line, slot.span.end_column) = (end_line, end_column);
        }
        self.file.tree.index(node);
        self.sizes[node as usize] = size;
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        self.value(Some(node), span)
    }

    /// Hands a finished value to what it stands in; `None` when it is not usable.
    fn value(&mut self, node: Option<u32>, span: Span) -> bool {
        let node = node.unwrap_or_else(|| self.push(span, NodeKind::Scalar, ScalarText::default(), Size::scalar(0)));
        match self.stack.last_mut() {
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { entries, key, .. }) => match key.take() {
                Some(Key { text, span, is_merge }) => {
                    entries.push(Entry { key: text.into(), key_span: span, value: node, is_merge });
                }
                None => {
                    // Only an alias comes here without a key before it.
                    let message = "an alias is used as a key";
                    self.fatal(Finding::new(codes::KEY_NOT_TEXT, span, message).hint("write the key out"));
                    return false;
                }
            },
            None => {
                if let Some(document) = self.file.documents.last_mut() {
                    document.root = Some(node);
                }
            }
        }
        true
    }
}

/// Whether the brace is the second of two.
fn is_placeholder(span: &RawSpan, text: &str) -> bool {
    span.start.byte_offset().is_some_and(|byte| text[..byte].ends_with('{') && text[byte..].starts_with('{'))
}

fn too_deep(span: Span) -> Finding {
    Finding::new(codes::TOO_DEEP, span, format!("the document nests deeper than {MAX_DEPTH} levels"))
}
