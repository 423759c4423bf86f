//! What the generator cannot know: the bounds, the unions and the strictness of manifests in Git.

use fleet_model::Kind;
use serde_json::{Map, Value, json};

use super::{api_versions, bounds};

/// A DNS-1123 subdomain.
pub(super) const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A device's key fingerprint.
pub(super) const DEVICE_NAME: &str = "^[0-9a-v]{16,64}$";
/// The value of a label.
pub(super) const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// The key of a label.
pub(super) const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$";

/// The key of an annotation, which may have capitals everywhere.
const ANNOTATION_KEY: &str = r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$";

/// Makes the generator's output plain: no `null`, no defaults, no number formats, plain enums.
pub(super) fn tidy(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    map.remove("default");
    map.remove("format");
    without_null(map);
    plain_enum(map);
    for (keyword, below) in map.iter_mut() {
        match (keyword.as_str(), below) {
            ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(tidy),
            ("items" | "additionalProperties" | "propertyNames", below) => tidy(below),
            ("oneOf" | "anyOf" | "allOf", Value::Array(list)) => list.iter_mut().for_each(tidy),
            _ => {}
        }
    }
}

fn without_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|t| t != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            map.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.retain(|branch| branch["type"] != "null");
        if let [Value::Object(one)] = &branches[..] {
            let one = one.clone();
            map.remove("anyOf");
            for (keyword, value) in one {
                map.entry(keyword).or_insert(value);
            }
        }
    }
}

/// `oneOf` of documented constants becomes `enum`, with the documentation in the description.
fn plain_enum(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get("oneOf") else { return };
    if branches.is_empty() || !branches.iter().all(|branch| branch.get("const").is_some_and(Value::is_string)) {
        return;
    }
    let values: Vec<Value> = branches.iter().map(|branch| branch["const"].clone()).collect();
    let mut description = map.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for branch in branches {
        if let (Some(value), Some(text)) = (branch["const"].as_str(), branch["description"].as_str()) {
            description.push_str(&format!("\n- `{value}`: {text}"));
        }
    }
    map.remove("oneOf");
    map.insert("type".to_owned(), json!("string"));
    map.insert("enum".to_owned(), Value::Array(values));
    map.insert("description".to_owned(), json!(description));
}

/// The top of a kind: which version and kind, a name, and nothing that only the service sets.
pub(super) fn root(schema: &mut Value, kind: Kind) {
    let name = if kind == Kind::Device { DEVICE_NAME } else { NAME };
    schema["properties"]["apiVersion"] = json!({
        "description": "API group and version of the kind.", "type": "string", "enum": api_versions(kind),
    });
    schema["properties"]["kind"] = json!({"description": "The kind.", "type": "string", "const": kind.as_str()});
    schema["properties"]["metadata"] = json!({
        "description": "Name, labels and annotations.",
        "$ref": "#/$defs/ObjectMeta",
        "required": ["name"],
        "properties": {"name": {"pattern": name}},
    });
    schema["additionalProperties"] = json!(false);
    schema["$id"] = json!(super::id(&kind.as_str().to_lowercase()));
}

/// The strictness, the unions and the bounds of the parts.
pub(super) fn definitions(schema: &mut Value) {
    let Some(Value::Object(definitions)) = schema.get_mut("$defs") else { return };
    for (name, definition) in definitions.iter_mut() {
        match name.as_str() {
            "ObjectMeta" => object_meta(definition),
            "ConfigProvider" => config_provider(definition),
            "BatchLimit" => number_or_text(definition),
            _ => {}
        }
        bounds::apply(name, definition);
        tagged_union(definition);
        definition["title"] = json!(spaced(name));
    }
    definitions.remove("ConfigSource");
}

/// `UpdateSchedule` as `Update schedule`.
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for (at, character) in name.chars().enumerate() {
        if at > 0 && character.is_uppercase() {
            text.push(' ');
            text.extend(character.to_lowercase());
        } else {
            text.push(character);
        }
    }
    text
}

pub(super) fn labels(schema: &mut Value) {
    schema["propertyNames"] = json!({"pattern": LABEL_KEY});
    schema["additionalProperties"] = json!({"type": "string", "maxLength": 63, "pattern": LABEL_VALUE});
}

fn object_meta(definition: &mut Value) {
    if let Some(Value::Object(properties)) = definition.get_mut("properties") {
        properties.retain(|name, _| matches!(name.as_str(), "name" | "labels" | "annotations"));
    }
    definition["description"] = json!("Name, labels and annotations of a resource.");
    definition["additionalProperties"] = json!(false);
    labels(&mut definition["properties"]["labels"]);
    definition["properties"]["annotations"]["propertyNames"] = json!({"pattern": ANNOTATION_KEY});
}

/// A provider's name beside exactly one of its sources, in one object.
fn config_provider(definition: &mut Value) {
    let Some(Value::Array(branches)) = definition.get("oneOf").cloned() else { return };
    let mut alternatives = Vec::new();
    for branch in branches {
        let Some(Value::Object(properties)) = branch.get("properties") else { continue };
        for (source, of_source) in properties {
            let mut of_source = of_source.clone();
            if of_source.get("description").is_none() {
                of_source["description"] = branch["description"].clone();
            }
            definition["properties"][source] = of_source;
            alternatives.push(json!({"required": [source]}));
        }
    }
    definition["oneOf"] = Value::Array(alternatives);
    definition["additionalProperties"] = json!(false);
}

/// Alternatives of plain types in one schema, so that a wrong type is one violation.
fn number_or_text(definition: &mut Value) {
    if let Some(map) = definition.as_object_mut() {
        map.remove("anyOf");
        map.insert("type".to_owned(), json!(["integer", "string"]));
    }
}

/// A union by the constant of one property, written so that only the branch of the given constant speaks.
fn tagged_union(definition: &mut Value) {
    let Some(Value::Array(branches)) = definition.get("oneOf").cloned() else { return };
    let constant = |branch: &Value| {
        let properties = branch.get("properties")?.as_object()?;
        properties.iter().find_map(|(name, property)| Some((name.clone(), property.get("const")?.clone())))
    };
    let Some((tag, _)) = branches.first().and_then(constant) else { return };
    let (mut values, mut rules) = (Vec::new(), Vec::new());
    let mut description = "Which fields there are.".to_owned();
    for mut branch in branches {
        let value = branch["properties"][&tag]["const"].clone();
        // Said once, by the enumeration.
        branch["properties"][&tag] = json!({});
        if let (Some(value), Some(text)) = (value.as_str(), branch["description"].as_str()) {
            description.push_str(&format!("\n- `{value}`: {text}"));
        }
        rules.push(json!({
            "if": {"properties": {&tag: {"const": &value}}, "required": [&tag]},
            "then": branch,
        }));
        values.push(value);
    }
    *definition = json!({
        "description": definition["description"],
        "type": "object",
        "required": [&tag],
        "properties": {&tag: {"description": description, "type": "string", "enum": values}},
        "allOf": rules,
    });
}
