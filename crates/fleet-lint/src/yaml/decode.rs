//! Decodes documents with serde, in step with the tree of places: whatever the two readers see differently is refused.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::loader::LoadedFile;
use super::place::narrow;
use super::scalar::{Plain, resolve};
use super::tree::NodeKind;
use crate::codes;
use crate::finding::{Finding, Span};

/// Decodes every readable document: one entry per document of `file`, in order.
pub(crate) fn decode_documents(text: &str, file: &LoadedFile<'_>, is_json: bool) -> (Vec<Option<Value>>, Vec<Finding>) {
    if is_json {
        return decode_json(text, file);
    }
    let mut findings = Vec::new();
    let mut values = Vec::with_capacity(file.documents.len());
    let mut readers = serde_yaml::Deserializer::from_str(text);
    // After its first error serde's reader stands anywhere, and asking it for more may panic.
    let mut in_step = true;
    for (at, document) in file.documents.iter().enumerate() {
        if file.stopped && at + 1 == file.documents.len() {
            // Nothing is expected of it, and what made the one reader stop may keep the other one busy for long.
            values.push(None);
            continue;
        }
        let reader = if in_step { readers.next() } else { None };
        let Some(reader) = reader else {
            if in_step {
                findings.push(disagreement(document.span, "one YAML reader sees no document here"));
                in_step = false;
            }
            values.push(None);
            continue;
        };
        let (Some(root), false) = (document.root, document.broken) else {
            in_step = IgnoredAny::deserialize(reader).is_ok();
            values.push(None);
            continue;
        };
        let differs = Cell::new(None);
        match (Seed { file, node: root, differs: &differs }).deserialize(reader) {
            Ok(value) => values.push(Some(value)),
            Err(error) => {
                in_step = false;
                findings.push(match (differs.get(), error.location()) {
                    (Some(node), _) => {
                        disagreement(file.tree.value_span(node), "two YAML readers disagree about this value")
                    }
                    (None, at) => {
                        let at = at.map_or(document.span, |at| character(text, at.index()));
                        disagreement(at, &format!("one YAML reader refuses the document: {error}"))
                    }
                });
                values.push(None);
            }
        }
    }
    if in_step
        && !file.stopped
        && let Some(more) = readers.next()
        && !serde_yaml::Value::deserialize(more).is_ok_and(|value| value.is_null())
    {
        let at = file.documents.last().map_or(Span::START, |document| document.span);
        findings.push(disagreement(at, "one YAML reader sees more in the file than the other"));
    }
    (values, findings)
}

/// The place of the character with this number, from 0.
fn character(text: &str, number: usize) -> Span {
    let end = text.char_indices().nth(number).map_or(text.len(), |(at, _)| at);
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    Span::at(narrow(line), narrow(before[line_start..].chars().count() + 1))
}

fn decode_json(text: &str, file: &LoadedFile<'_>) -> (Vec<Option<Value>>, Vec<Finding>) {
    let [document] = &file.documents[..] else { return (file.documents.iter().map(|_| None).collect(), Vec::new()) };
    let (Some(node), false) = (document.root, document.broken) else { return (vec![None], Vec::new()) };
    let differs = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    match (Seed { file, node, differs: &differs }).deserialize(&mut reader) {
        Ok(value) => (vec![Some(value)], Vec::new()),
        Err(error) => {
            let at = differs.get().map_or(document.span, |node| file.tree.value_span(node));
            (vec![None], vec![disagreement(at, &format!("two readers disagree about the document: {error}"))])
        }
    }
}

fn disagreement(span: Span, message: &str) -> Finding {
    Finding::new(codes::READERS_DISAGREE, span, message).hint("quote the value, or write it in a simpler way")
}

/// Decodes the value of one node.
#[derive(Clone, Copy)]
struct Seed<'t, 'a> {
    file: &'t LoadedFile<'a>,
    node: u32,
    differs: &'t Cell<Option<u32>>,
}

impl Seed<'_, '_> {
    fn child(self, node: u32) -> Self {
        Self { node, ..self }
    }

    fn differ<E: Error>(self) -> E {
        self.differs.set(Some(self.node));
        E::custom("the readers disagree")
    }

    /// What the other reader takes the plain scalar for.
    fn plain(self) -> Option<Plain> {
        let scalar = &self.file.scalars[self.node as usize];
        let is_scalar = matches!(self.file.tree.node(self.node).kind, NodeKind::Scalar);
        (is_scalar && scalar.is_plain()).then(|| resolve(&scalar.text))
    }

    fn int<E: Error>(self, number: i128, value: Number) -> Result<Value, E> {
        if self.plain() == Some(Plain::Int(number)) { Ok(Value::Number(value)) } else { self.float(&value) }
    }

    /// JSON writes `1e3` and `1000.0`, which serde may hand over as a float.
    fn float<E: Error>(self, value: &Number) -> Result<Value, E> {
        let same = match self.plain() {
            Some(Plain::Float(other)) => value.as_f64().is_some_and(|own| own.to_bits() == other.to_bits()),
            _ => false,
        };
        if same { Ok(Value::Number(value.clone())) } else { Err(self.differ()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        if self.plain() == Some(Plain::Null) { Ok(Value::Null) } else { Err(self.differ()) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        if self.plain() == Some(Plain::Bool(value)) { Ok(Value::Bool(value)) } else { Err(self.differ()) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.int(value.into(), value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.int(value.into(), value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.float(&number),
            None => Err(self.differ()),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        let scalar = &self.file.scalars[self.node as usize];
        if let Some(octal) = scalar.octal
            && scalar.text == value
        {
            return Ok(Value::Number(octal.into()));
        }
        let is_scalar = matches!(self.file.tree.node(self.node).kind, NodeKind::Scalar);
        let is_text = is_scalar && (!scalar.is_plain() || resolve(&scalar.text) == Plain::Text);
        // A zero before digits makes text of a plain number for one reader; the finding is made elsewhere.
        let leading_zero = scalar.is_plain() && matches!(resolve(&scalar.text), Plain::Int(_));
        if scalar.text == value && is_scalar && (is_text || leading_zero) {
            Ok(Value::String(value.to_owned()))
        } else {
            Err(self.differ())
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let NodeKind::Sequence(nodes) = &self.file.tree.node(self.node).kind else { return Err(self.differ()) };
        let mut values = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(value) = items.next_element_seed(self.child(*node))? else { return Err(self.differ()) };
            values.push(value);
        }
        if items.next_element::<IgnoredAny>()?.is_some() {
            return Err(self.differ());
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let NodeKind::Mapping(own) = &self.file.tree.node(self.node).kind else { return Err(self.differ()) };
        let mut map = Map::new();
        let mut merged = Vec::new();
        for entry in own {
            if entries.next_key_seed(KeySeed { key: &entry.key })?.is_none() {
                return Err(self.differ());
            }
            let value = entries.next_value_seed(self.child(entry.value))?;
            if entry.is_merge {
                merged.push(value);
            } else {
                map.insert(entry.key.as_ref().to_owned(), value);
            }
        }
        if entries.next_key::<IgnoredAny>()?.is_some() {
            return Err(self.differ());
        }
        for value in merged {
            merge(&mut map, value);
        }
        Ok(Value::Object(map))
    }
}

/// Adds what `map` does not have yet.
fn merge(map: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(more) => {
            for (key, value) in more {
                map.entry(key).or_insert(value);
            }
        }
        Value::Array(items) => items.into_iter().for_each(|item| merge(map, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reads a key that must be this one.
struct KeySeed<'k> {
    key: &'k str,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {:?}", self.key)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if value == self.key { Ok(()) } else { Err(E::custom(format_args!("one reader sees the key {value:?}"))) }
    }
}
