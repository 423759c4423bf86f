//! The tree of places: nodes in one list, children by number, so that an alias shares its anchor's node.

use std::borrow::Cow;

use crate::finding::Span;

/// One value's place and children.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: NodeKind,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Scalar,
    Sequence(Box<[u32]>),
    Mapping(Box<[Entry]>),
}

/// One entry of a mapping.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) key_span: Span,
    pub(crate) value: u32,
    /// The entry is a merge key, `<<`.
    pub(crate) is_merge: bool,
}

/// The text of a scalar while its file is being read; dropped afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScalarText<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Not quoted and not a block.
    pub(crate) plain: bool,
    /// A block whose lines are taken as they are.
    pub(crate) literal: bool,
    /// The file mode that the scalar stands for, when it is one with leading zeros.
    pub(crate) octal: Option<u32>,
    pub(crate) start_byte: usize,
    pub(crate) end_byte: usize,
}

/// The places of all values of a file.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

impl Tree {
    pub(crate) fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    /// The entry of `key`: a direct one, else one that is merged in.
    fn entry(&self, mapping: u32, key: &str, fuel: u8) -> Option<&Entry> {
        let NodeKind::Mapping(entries) = &self.node(mapping).kind else { return None };
        let fuel = fuel.checked_sub(1)?;
        entries.iter().find(|e| !e.is_merge && &*e.key == key).or_else(|| {
            entries.iter().filter(|e| e.is_merge).find_map(|merge| match &self.node(merge.value).kind {
                NodeKind::Sequence(items) => items.iter().find_map(|item| self.entry(*item, key, fuel)),
                NodeKind::Mapping(_) => self.entry(merge.value, key, fuel),
                NodeKind::Scalar => None,
            })
        })
    }

    /// The node that a JSON pointer leads to, and the span of the key it stands under.
    pub(crate) fn find(&self, root: u32, pointer: &str) -> Option<(u32, Option<Span>)> {
        let mut at = root;
        let mut key_span = None;
        for part in pointer.split('/').skip(1) {
            match &self.node(at).kind {
                NodeKind::Mapping(_) => {
                    let key = if part.contains('~') { Cow::Owned(unescape(part)) } else { Cow::Borrowed(part) };
                    let entry = self.entry(at, &key, 8)?;
                    key_span = Some(entry.key_span);
                    at = entry.value;
                }
                NodeKind::Sequence(items) => {
                    key_span = None;
                    at = *items.get(part.parse::<usize>().ok()?)?;
                }
                NodeKind::Scalar => return None,
            }
        }
        Some((at, key_span))
    }

    /// What to underline for a value: a scalar as a whole, of a mapping its first key, of a sequence its start.
    pub(crate) fn value_span(&self, id: u32) -> Span {
        let node = self.node(id);
        match &node.kind {
            NodeKind::Scalar => node.span,
            NodeKind::Mapping(entries) => match entries.first() {
                Some(first) if (first.key_span.line, first.key_span.column) == (node.span.line, node.span.column) => {
                    first.key_span
                }
                _ => Span::at(node.span.line, node.span.column),
            },
            NodeKind::Sequence(_) => Span::at(node.span.line, node.span.column),
        }
    }
}

/// Undoes the escapes of a JSON pointer's part.
pub(crate) fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
