//! The tree of places: nodes in one list, children by number, so that an alias shares its anchor's node.

use std::borrow::Cow;
use std::collections::HashMap;

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
    pub(crate) style: Style,
    /// The file mode that the scalar stands for, when it is one with leading zeros.
    pub(crate) octal: Option<u32>,
    pub(crate) start_byte: usize,
    pub(crate) end_byte: usize,
}

impl ScalarText<'_> {
    /// Not quoted and not a block.
    pub(crate) fn is_plain(&self) -> bool {
        self.style == Style::Plain
    }
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
    /// Lines of its own, behind `|` or `>`.
    #[default]
    Block,
}

/// The places of all values of a file.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Of large mappings: the numbers of their entries in the order of keys.
    by_key: HashMap<u32, Box<[u32]>>,
}

/// Mappings with more entries than this are searched by halves.
const LARGE: usize = 32;

impl Tree {
    pub(crate) fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    /// Prepares the search in a mapping that is complete.
    pub(super) fn index(&mut self, mapping: u32) {
        let NodeKind::Mapping(entries) = &self.node(mapping).kind else { return };
        if entries.len() > LARGE {
            let mut order: Vec<u32> = (0..).take(entries.len()).collect();
            order.sort_by_key(|at| &entries[*at as usize].key);
            self.by_key.insert(mapping, order.into_boxed_slice());
        }
    }

    /// The first entry with `key` that is no merge key.
    fn direct(&self, mapping: u32, entries: &'_ [Entry], key: &str) -> Option<usize> {
        let is_it = |entry: &Entry| !entry.is_merge && &*entry.key == key;
        let Some(order) = self.by_key.get(&mapping).filter(|_| entries.len() > LARGE) else {
            return entries.iter().position(is_it);
        };
        let from = order.partition_point(|at| &*entries[*at as usize].key < key);
        let same = order[from..].iter().map(|at| *at as usize).take_while(|at| &*entries[*at].key == key);
        same.into_iter().find(|at| is_it(&entries[*at]))
    }

    /// The entry of `key`: a direct one, else one that is merged in.
    fn entry(&self, mapping: u32, key: &str, fuel: u8) -> Option<&Entry> {
        let NodeKind::Mapping(entries) = &self.node(mapping).kind else { return None };
        let fuel = fuel.checked_sub(1)?;
        self.direct(mapping, entries, key).map(|at| &entries[at]).or_else(|| {
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
