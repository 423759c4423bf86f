//! JSON Schemas of the kinds, generated from the types that decode them and then made strict.
//!
//! [`generate`] is the one origin: the validators of this crate are compiled from its result, and the files under
//! `schemas/` are its result written down, which a test compares.

mod bounds;
mod strict;

pub(crate) use bounds::is_ruled;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use fleet_model::{API_VERSION, Device, EnrollmentPolicy, Fleet, Kind, Repository, ResourceSync, SyncPolicy};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schemas as values, by kind.
static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> =
    LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, schema_of(kind))).collect());

/// The schema of one kind, a JSON Schema of draft 2020-12.
pub fn of_kind(kind: Kind) -> &'static Value {
    &SCHEMAS[&kind]
}

/// The name of a kind's schema file: `fleet.json` for `Fleet`.
pub fn file_name(kind: Kind) -> String {
    format!("{}.json", kind.as_str().to_lowercase())
}

/// All schema files by name: one per kind, and `any.json` for a document of any kind. Pretty-printed, with a newline
/// at the end.
pub fn generate() -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> =
        SCHEMAS.iter().map(|(kind, schema)| (file_name(*kind), text(schema))).collect();
    files.insert("any.json".to_owned(), text(&any()));
    files.insert("fleetlint.json".to_owned(), text(&crate::config::schema()));
    files
}

fn text(schema: &Value) -> String {
    format!("{:#}\n", sorted(schema))
}

/// With the fields of every object in alphabetical order, however the JSON library is built.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let by_name: BTreeMap<&String, Value> = fields.iter().map(|(name, field)| (name, sorted(field))).collect();
            Value::Object(by_name.into_iter().map(|(name, field)| (name.clone(), field)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn root_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn schema_of(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::Fleet => root_of::<Fleet>(),
        Kind::Device => root_of::<Device>(),
        Kind::Repository => root_of::<Repository>(),
        Kind::ResourceSync => root_of::<ResourceSync>(),
        Kind::EnrollmentPolicy => root_of::<EnrollmentPolicy>(),
        Kind::SyncPolicy => root_of::<SyncPolicy>(),
    };
    strict::tidy(&mut schema);
    strict::root(&mut schema, kind);
    strict::definitions(&mut schema);
    schema
}

/// The identity of a schema: a name, not a place to load it from.
pub(crate) fn id(name: &str) -> String {
    format!("urn:shorebase:schema:{name}")
}

/// The `apiVersion`s that a manifest of this kind may carry.
pub(crate) fn api_versions(kind: Kind) -> Vec<&'static str> {
    let canonical = kind.api_version();
    if canonical == API_VERSION { vec![canonical, "v1beta1"] } else { vec![canonical] }
}

fn any() -> Value {
    let mut definitions = Map::new();
    let mut branches = Vec::new();
    for (kind, schema) in SCHEMAS.iter() {
        let mut own = schema.as_object().cloned().unwrap_or_default();
        own.remove("$schema");
        // A part with an id of its own would be the root of its references.
        own.remove("$id");
        if let Some(Value::Object(more)) = own.remove("$defs") {
            definitions.extend(more);
        }
        branches.push(json!({
            "if": {"properties": {"kind": {"const": kind.as_str()}}, "required": ["kind"]},
            "then": {"$ref": format!("#/$defs/{kind}")},
        }));
        definitions.insert(kind.to_string(), Value::Object(own));
    }
    let kinds: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": id("any"),
        "title": "Manifest",
        "description": "A document of any kind that may come from Git.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {"kind": {"type": "string", "enum": kinds}},
        "allOf": branches,
        "$defs": definitions,
    })
}
