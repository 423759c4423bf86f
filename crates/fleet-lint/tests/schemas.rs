//! The committed schemas are those the linter validates with, and of use in an editor. `UPDATE_SCHEMAS=1` writes them.

use std::path::Path;

use fleet_lint::schema;
use fleet_model::Kind;
use serde_json::{Value, json};

#[test]
fn committed_schemas_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let generated = schema::generate();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        for (name, text) in &generated {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    for (name, text) in &generated {
        let committed = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(committed == *text, "schemas/{name} is not current: run this test with UPDATE_SCHEMAS=1 and commit");
    }
    let committed =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for name in committed.filter(|name| name.ends_with(".json")) {
        assert!(generated.contains_key(&name), "schemas/{name} is not generated any more: remove it");
    }
}

/// Calls `with` for every schema that stands for a value, with its pointer.
fn each(schema: &Value, at: &str, with: &mut impl FnMut(&str, &Value)) {
    with(at, schema);
    for keyword in ["properties", "$defs"] {
        for (name, below) in schema[keyword].as_object().into_iter().flatten() {
            each(below, &format!("{at}/{keyword}/{name}"), with);
        }
    }
    for (index, branch) in schema["allOf"].as_array().into_iter().flatten().enumerate() {
        each(&branch["then"], &format!("{at}/allOf/{index}/then"), with);
    }
    if schema["items"].is_object() {
        each(&schema["items"], &format!("{at}/items"), with);
    }
}

#[test]
fn every_type_and_field_is_described() {
    for kind in Kind::ALL {
        let root = schema::of_kind(kind);
        assert_eq!(root["$id"], format!("urn:shorebase:schema:{}", kind.as_str().to_lowercase()));
        assert!(root["title"].is_string(), "{kind}");
        let mut silent = Vec::new();
        each(root, "", &mut |at, schema| {
            let parts: Vec<&str> = at.rsplit('/').take(2).collect();
            let is_named = parts.get(1).is_some_and(|above| matches!(*above, "properties" | "$defs"));
            // The property that chooses a branch is described once, outside the branches, and metadata by its type.
            let is_said_elsewhere = schema == &json!({}) || at.ends_with("/metadata/properties/name");
            if is_named && schema["description"].as_str().is_none_or(str::is_empty) && !is_said_elsewhere {
                silent.push(at.to_owned());
            }
            if parts.get(1) == Some(&"$defs") && !schema["title"].is_string() {
                silent.push(format!("{at}: no title"));
            }
        });
        assert_eq!(silent, Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn unknown_fields_are_refused_everywhere() {
    for kind in Kind::ALL {
        let mut open = Vec::new();
        each(schema::of_kind(kind), "", &mut |at, schema| {
            let is_union = schema["allOf"].is_array();
            let may_have_any = at.ends_with("/properties/values") || at.ends_with("/metadata");
            if schema["properties"].is_object() && schema["additionalProperties"] != false && !is_union && !may_have_any
            {
                open.push(at.to_owned());
            }
        });
        assert_eq!(open, Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn the_schema_for_any_kind_judges_as_those_of_the_kinds() {
    let text = &schema::generate()["any.json"];
    let any = jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
    let spec = |application: Value| json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"applications": [application]}}});
    let cases = [
        (Kind::Fleet, spec(json!({"appType": "container", "image": "quay.io/a/b:1", "ports": ["80:80"]})), true),
        (Kind::Fleet, spec(json!({"appType": "container", "image": "quay.io/a/b:1", "ports": ["80"]})), false),
        (Kind::Fleet, spec(json!({"appType": "container", "inline": []})), false),
        (
            Kind::Fleet,
            spec(
                json!({"appType": "helm", "image": "a", "catalogItemRef": {"catalog": "a", "item": "b", "version": "c"}}),
            ),
            false,
        ),
        (Kind::Fleet, spec(json!({"image": "quay.io/a/b:1"})), false),
        (Kind::Repository, json!({"type": "oci", "registry": "quay.io"}), true),
        (Kind::Repository, json!({"type": "oci", "url": "quay.io"}), false),
        (Kind::ResourceSync, json!({"repository": "a", "targetRevision": "main", "path": "/"}), true),
        (Kind::SyncPolicy, json!({"limits": {"removedFleets": {}}}), false),
        (Kind::SyncPolicy, json!({}), true),
        (Kind::EnrollmentPolicy, json!({"rules": [{"match": {}}]}), false),
    ];
    for (kind, spec, is_good) in cases {
        let document =
            json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": "a"}, "spec": spec});
        let own = jsonschema::validator_for(schema::of_kind(kind)).unwrap();
        assert_eq!(own.is_valid(&document), is_good, "{document}");
        assert_eq!(any.is_valid(&document), is_good, "{document}");
    }
}
