//! YAML and JSON text with places: a tree that knows where every key and value stands, and the decoded documents.
//!
//! Two readers go over every document side by side: one with byte-exact places, which also finds duplicate keys, tags
//! and documents that grow without bound, and serde's, whose values are used. Where the two disagree the document is
//! refused. This module knows nothing of resources.

mod comments;
mod decode;
mod loader;
mod place;
mod scalar;
mod tree;

pub(crate) use comments::{Comment, Comments, comments};
pub(crate) use decode::decode_documents;
pub(crate) use loader::{LoadedFile, load};
pub(crate) use tree::{Entry, NodeKind, Style, Tree, unescape};

/// How deep a document may nest.
pub(crate) const MAX_DEPTH: u16 = 64;
/// How many values one document may hold once its aliases are expanded.
pub(crate) const MAX_NODES: u32 = 100_000;
/// How many bytes of text one document may hold once its aliases are expanded.
pub(crate) const MAX_TEXT_BYTES: u64 = 32 << 20;
/// How many documents one file may hold.
pub(crate) const MAX_DOCUMENTS: usize = 10_000;
