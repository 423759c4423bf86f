//! Validation against the JSON Schemas, with every violation worded for people and put at its place.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use fleet_model::Kind;
use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Violation};
use serde_json::Value;

use crate::codes;
use crate::document::Document;
use crate::finding::{Finding, Span, nearest};
use crate::foreign;
use crate::rules::is_set_by_service;
use crate::schema;
use crate::yaml::unescape;
pub(crate) use hints::valid_name;
use hints::{meant, of_type, pair_misspelt};

mod hints;

static VALIDATORS: LazyLock<BTreeMap<Kind, Validator>> = LazyLock::new(|| {
    let compile = |kind| jsonschema::validator_for(schema::of_kind(kind)).expect("a generated schema compiles");
    Kind::ALL.into_iter().map(|kind| (kind, compile(kind))).collect()
});

/// What in `value` does not fit the schema of its kind.
pub(crate) fn findings(document: &Document<'_, '_>, kind: Kind, value: &Value) -> Vec<Finding> {
    let validator = &VALIDATORS[&kind];
    if validator.is_valid(value) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let reader = Reader { document, kind, value };
    let mut missing = Vec::new();
    for violation in validator.iter_errors(value) {
        let next = findings.len();
        reader.word(&violation, &mut findings);
        let is_missing = findings.get(next).is_some_and(|f| [codes::MISSING_FIELD, codes::NO_NAME].contains(&f.code));
        if let (Violation::Required { property }, true) = (violation.kind(), is_missing) {
            missing.push((next, property.as_str().unwrap_or_default().to_owned()));
        }
    }
    if !missing.is_empty() {
        let is_unknown = |(_, finding): &(usize, &Finding)| finding.code == codes::UNKNOWN_FIELD;
        let unknown: Vec<usize> = findings.iter().enumerate().filter(is_unknown).map(|(at, _)| at).collect();
        pair_misspelt(&mut findings, &missing, &unknown);
    }
    // An unknown field most likely is the misspelt one of the union.
    let unknown: HashSet<String> = findings
        .iter()
        .filter(|f| f.code == codes::UNKNOWN_FIELD)
        .filter_map(|f| f.pointer.rsplit_once('/').map(|(above, _)| above.to_owned()))
        .collect();
    // What is no mapping has none of the fields either.
    let no_mapping: HashSet<String> =
        findings.iter().filter(|f| f.code == codes::WRONG_TYPE).map(|f| f.pointer.clone()).collect();
    let is_union = |f: &Finding| f.code == codes::ONE_OF || f.message.starts_with("none of");
    findings.retain(|f| !is_union(f) || !(unknown.contains(&f.pointer) || no_mapping.contains(&f.pointer)));
    findings
}

struct Reader<'r, 't, 'a> {
    document: &'r Document<'t, 'a>,
    kind: Kind,
    value: &'r Value,
}

impl Reader<'_, '_, '_> {
    fn word(&self, violation: &ValidationError<'_>, findings: &mut Vec<Finding>) {
        let pointer = violation.instance_path().as_str();
        let at = self.document.value_span(pointer);
        let field = &*name_of_field(pointer);
        let in_labels = is_label_pointer(pointer);
        let is_ruled = schema::is_ruled(violation.schema_path().as_str());
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum belongs to the validator and grows")]
        let finding = match violation.kind() {
            Violation::AdditionalProperties { unexpected } | Violation::UnevaluatedProperties { unexpected } => {
                findings.extend(unexpected.iter().map(|name| self.unknown_field(violation, pointer, name)));
                return;
            }
            // A kind of object without any field: the validator points at the object as a whole.
            Violation::FalseSchema if self.value.pointer(pointer).is_some_and(Value::is_object) => {
                let fields = self.value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
                findings.extend(fields.map(|(name, _)| self.unknown_field(violation, pointer, name)));
                return;
            }
            Violation::Required { property } => self.missing(violation, pointer, property.as_str().unwrap_or_default()),
            Violation::Type { kind } => self.wrong_type(violation, pointer, field, kind),
            // A value of another type has its finding already.
            Violation::Enum { .. } | Violation::Constant { .. } if !violation.instance().is_string() => return,
            Violation::Enum { options } => not_allowed(violation.instance(), options, field, at),
            Violation::Constant { expected_value } => {
                not_allowed(violation.instance(), &Value::Array(vec![(**expected_value).clone()]), field, at)
            }
            Violation::OneOfNotValid { .. } | Violation::OneOfMultipleValid { .. } => {
                match self.union(violation, pointer) {
                    Some(finding) => finding,
                    None => return,
                }
            }
            // What is empty is no name either.
            Violation::MinLength { .. } if pointer == "/metadata/name" => return,
            Violation::Pattern { .. } if pointer == "/metadata/name" => self.bad_name(violation.instance(), at),
            // The rules of labels are worded by the rules themselves.
            Violation::Pattern { .. } | Violation::MaxLength { .. } | Violation::PropertyNames { .. } if in_labels => {
                return;
            }
            Violation::Pattern { .. }
            | Violation::PropertyNames { .. }
            | Violation::MaxLength { .. }
            | Violation::MinLength { .. }
            | Violation::MinItems { .. }
                if is_ruled =>
            {
                return;
            }
            // A number that the types cannot hold would not be decoded, and no rule would see it.
            Violation::Minimum { .. } | Violation::Maximum { .. }
                if is_ruled && (is_small(violation.instance()) || field == "percentage") =>
            {
                return;
            }
            Violation::Minimum { .. } | Violation::Maximum { .. } if field == "mode" => {
                bounds(at, "`mode` is not from 0 to 07777".to_owned())
            }
            Violation::AnyOf { .. } => self.none_given(violation, pointer),
            Violation::Pattern { .. } => self.pattern(violation, field, at),
            Violation::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default();
                let own = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                let finding = self.pattern(error, name, self.document.key_span(&own));
                findings.push(finding.at_pointer(own));
                return;
            }
            Violation::MinProperties { .. } if pointer.ends_with("/match") => {
                Finding::new(codes::RULE_MATCHES_NOBODY, at, "the rule asks for nothing, so it matches no device")
                    .hint("give names, serialNumbers or systemInfo")
            }
            Violation::Maximum { limit } => bounds(at, format!("`{field}` is greater than {limit}")),
            Violation::Minimum { limit } => bounds(at, format!("`{field}` is less than {limit}")),
            Violation::MaxLength { limit } => bounds(at, format!("`{field}` is longer than {limit} characters")),
            Violation::MinLength { limit: 1 } => bounds(at, format!("`{field}` is empty")),
            Violation::MinLength { limit } => bounds(at, format!("`{field}` is shorter than {limit} characters")),
            Violation::MinItems { limit: 1 } => bounds(at, format!("`{field}` is an empty list")),
            Violation::MinItems { limit } => bounds(at, format!("`{field}` has fewer than {limit} items")),
            Violation::MaxItems { limit } => bounds(at, format!("`{field}` has more than {limit} items")),
            _ => Finding::new(codes::SCHEMA, at, format!("`{field}` does not fit: {}", violation.masked())),
        };
        let pointer = if finding.pointer.is_empty() { pointer.to_owned() } else { finding.pointer.clone() };
        findings.push(finding.at_pointer(pointer));
    }

    fn unknown_field(&self, violation: &ValidationError<'_>, pointer: &str, name: &str) -> Finding {
        let own = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        let at = self.document.key_span(&own);
        if is_set_by_service(&own) {
            let message = format!("only the service sets `{name}`");
            return Finding::new(codes::SET_BY_SERVICE, at, message).at_pointer(own).hint("remove the field");
        }
        let above = violation.schema_path().as_str();
        let known = self.fields_beside(above);
        let hint = foreign::old_field(&own).map(str::to_owned).or_else(|| self.in_other_branches(above, name));
        let hint = hint.or_else(|| meant(name, &known).map(|near| format!("did you mean `{near}`?")));
        let odd = name.chars().next().filter(|c| c.is_whitespace() && *c != ' ');
        let hint = odd
            .map(|odd| format!("the key begins with U+{:04X}, which is no space; indent with spaces", u32::from(odd)))
            .or(hint);
        let is_label = || known.contains(&"matchLabels") && self.value.pointer(&own).is_some_and(Value::is_string);
        let hint = hint.or_else(|| is_label().then(|| "put the label below `matchLabels`".to_owned()));
        let hint = hint.or_else(|| (!known.is_empty()).then(|| format!("known fields: {}", known.join(", "))));
        Finding::new(codes::UNKNOWN_FIELD, at, format!("unknown field `{name}`")).at_pointer(own).maybe_hint(hint)
    }

    /// The fields of the object whose schema has the keyword at this path.
    fn fields_beside(&self, schema_path: &str) -> Vec<&'static str> {
        schema_path
            .rsplit_once('/')
            .and_then(|(above, _)| schema::of_kind(self.kind).pointer(above))
            .and_then(|schema| schema["properties"].as_object())
            .map(|fields| fields.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// The other branches of a union that have the field.
    fn in_other_branches(&self, schema_path: &str, name: &str) -> Option<String> {
        let (union, _) = schema_path.split_once("/allOf/")?;
        let union = schema::of_kind(self.kind).pointer(union)?;
        let tag = union["required"][0].as_str()?;
        let branches = union["allOf"].as_array()?.iter();
        let having = branches.filter(|branch| branch["then"]["properties"].get(name).is_some());
        let having: Vec<&str> = having.filter_map(|branch| branch["if"]["properties"][tag]["const"].as_str()).collect();
        (!having.is_empty()).then(|| format!("`{name}` is a field of {tag} {}", having.join(", ")))
    }

    fn missing(&self, violation: &ValidationError<'_>, pointer: &str, name: &str) -> Finding {
        let at = self.document.value_span(pointer);
        let is_name = matches!((pointer, name), ("/metadata", "name") | ("", "metadata"));
        if is_name {
            return Finding::new(codes::NO_NAME, at, "the document has no `metadata.name`")
                .hint("add `name` below `metadata`");
        }
        let place = if pointer.is_empty() { String::new() } else { format!(" in {}", dotted(pointer)) };
        let finding = Finding::new(codes::MISSING_FIELD, at, format!("the field `{name}` is missing{place}"));
        let schema = violation.schema_path().as_str().rsplit_once('/');
        let schema = schema.and_then(|(above, _)| schema::of_kind(self.kind).pointer(above));
        let Some(options) = schema.and_then(|schema| schema["properties"][name]["enum"].as_array()) else {
            return finding.hint(format!("add `{name}`"));
        };
        // A union without the field that chooses says nothing about the other fields.
        let fields = schema.map(fields_of_branches).unwrap_or_default();
        let given = self.value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        let mut odd = given.map(|(key, _)| key.as_str()).filter(|key| !fields.contains(key));
        if let Some(misspelt) = odd.find(|key| meant(key, &[name]).is_some()) {
            let own = format!("{pointer}/{}", misspelt.replace('~', "~0").replace('/', "~1"));
            let at = self.document.key_span(&own);
            return Finding::new(codes::UNKNOWN_FIELD, at, format!("unknown field `{misspelt}`"))
                .at_pointer(own)
                .hint(format!("did you mean `{name}`?"));
        }
        let options: Vec<&str> = options.iter().filter_map(Value::as_str).collect();
        finding.hint(format!("give `{name}`: {}", options.join(", ")))
    }

    fn wrong_type(&self, violation: &ValidationError<'_>, pointer: &str, field: &str, kind: &TypeKind) -> Finding {
        let wanted = match kind {
            TypeKind::Single(one) => one.to_string(),
            TypeKind::Multiple(several) => several.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(" or "),
        };
        let instance = violation.instance();
        let at = self.document.value_span(pointer);
        if instance.is_null() {
            let message = format!("`{field}` has no value");
            let is_item = field.ends_with(']');
            let hint = if is_item { "remove the item or give it a value" } else { "remove the key or give it a value" };
            return Finding::new(codes::WRONG_TYPE, at, message).hint(hint);
        }
        let is_fraction = wanted.contains("integer") && instance.is_number();
        let given = if is_fraction { "a number with a fraction" } else { name_of(instance) };
        let message = format!("`{field}` is {given}, not {}", plain_type(&wanted));
        let finding = Finding::new(codes::WRONG_TYPE, at, message);
        if let Some(hint) = foreign::old_value(pointer, instance) {
            return finding.hint(hint);
        }
        let fields = self.fields_beside(violation.schema_path().as_str());
        let plain = self.document.plain_text(pointer);
        finding.maybe_hint(of_type(instance, &wanted, plain, field, &fields))
    }

    /// A text that does not look as it must, in the words of the schema.
    fn pattern(&self, violation: &ValidationError<'_>, field: &str, at: Span) -> Finding {
        let path = violation.schema_path().as_str();
        let words = path
            .rsplit_once('/')
            .and_then(|(above, _)| schema::of_kind(self.kind).pointer(above)?.get("patternErrorMessage")?.as_str())
            .unwrap_or("does not look as it must");
        let given = violation.instance().as_str().unwrap_or_default();
        let message =
            if given == field { format!("{given:?} {words}") } else { format!("`{field}`: {given:?} {words}") };
        Finding::new(codes::SCHEMA, at, message)
    }

    /// The fields that the alternatives of a union require.
    fn alternatives(&self, violation: &ValidationError<'_>) -> Vec<&'static str> {
        let branches = schema::of_kind(self.kind).pointer(violation.schema_path().as_str()).and_then(Value::as_array);
        branches.into_iter().flatten().filter_map(|branch| branch["required"][0].as_str()).collect()
    }

    /// None of several fields is given.
    fn none_given(&self, violation: &ValidationError<'_>, pointer: &str) -> Finding {
        let names = self.alternatives(violation).join(", ");
        let place = if pointer.is_empty() { String::new() } else { format!(" in {}", dotted(pointer)) };
        Finding::new(
            codes::MISSING_FIELD,
            self.document.value_span(pointer),
            format!("none of {names} is given{place}"),
        )
        .hint(format!("give at least one of {names}"))
    }

    /// None or several of the fields of a union are given.
    fn union(&self, violation: &ValidationError<'_>, pointer: &str) -> Option<Finding> {
        let at = self.document.value_span(pointer);
        let names = self.alternatives(violation);
        let given: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| self.value.pointer(pointer).is_some_and(|value| value.get(name).is_some()))
            .collect();
        // A key without a value has its finding, and most likely is the one too many.
        let is_null = |name: &&&str| self.value.pointer(pointer).is_some_and(|value| value[**name].is_null());
        if given.iter().any(|name| is_null(&name)) && given.iter().filter(|name| !is_null(name)).count() <= 1 {
            return None;
        }
        let message = if given.is_empty() {
            format!("none of {} is given", names.join(", "))
        } else {
            format!("{} are given together", given.join(" and "))
        };
        Some(Finding::new(codes::ONE_OF, at, message).hint(format!("give exactly one of {}", names.join(", "))))
    }

    fn bad_name(&self, instance: &Value, at: Span) -> Finding {
        let name = instance.as_str().unwrap_or_default();
        if self.kind == Kind::Device {
            let message =
                format!("the device name {name:?} is not a key fingerprint (16 to 64 characters of 0-9 and a-v)");
            return Finding::new(codes::BAD_DEVICE_NAME, at, message)
                .hint("use the name that the device shows when it enrols; give it a label to know it by");
        }
        let message =
            format!("the name {name:?} is not a DNS-1123 subdomain (lower-case letters, digits, '-' and '.')");
        let hint = valid_name(name).map(|name| format!("did you mean `{name}`?"));
        Finding::new(codes::BAD_NAME, at, message).maybe_hint(hint)
    }
}

/// The fields of a union by tag.
fn fields_of_branches(schema: &'static Value) -> Vec<&'static str> {
    let branches = schema["allOf"].as_array().into_iter().flatten();
    let fields = branches.filter_map(|branch| branch["then"]["properties"].as_object());
    fields.flatten().map(|(name, _)| name.as_str()).collect()
}

/// The last part of a pointer as people call it: `tags[0]` for an item of a list.
fn name_of_field(pointer: &str) -> Cow<'_, str> {
    let mut parts = pointer.rsplit('/');
    let last = parts.next().unwrap_or_default();
    match parts.next() {
        None => Cow::Borrowed("the document"),
        Some(list) if !list.is_empty() && !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) => {
            Cow::Owned(format!("{list}[{last}]"))
        }
        Some(_) if last.contains('~') => Cow::Owned(unescape(last)),
        Some(_) => Cow::Borrowed(last),
    }
}

fn is_small(number: &Value) -> bool {
    number.as_f64().is_some_and(|number| (0.0..=f64::from(u32::MAX)).contains(&number))
}

fn bounds(at: Span, message: String) -> Finding {
    Finding::new(codes::OUT_OF_BOUNDS, at, message)
}

fn not_allowed(instance: &Value, options: &Value, field: &str, at: Span) -> Finding {
    let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let given = instance.as_str().unwrap_or_default();
    let hint = match (field, given) {
        ("type", "ssh") => Some("a repository over SSH is `type: git` with `sshConfig`".to_owned()),
        _ => nearest(given, options.iter().copied()).map(|near| format!("did you mean `{near}`?")),
    };
    Finding::new(codes::NOT_ALLOWED, at, format!("`{field}` is not one of {}", options.join(", "))).maybe_hint(hint)
}

/// Whether the pointer leads to labels or annotations or into them.
pub(crate) fn is_label_pointer(pointer: &str) -> bool {
    let mut parts = pointer.rsplit('/');
    let is_map = |part: Option<&str>| matches!(part, Some("labels" | "matchLabels" | "annotations"));
    is_map(parts.next()) || is_map(parts.next())
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn plain_type(name: &str) -> String {
    match name {
        "string" => "text".to_owned(),
        "object" => "a mapping".to_owned(),
        "array" => "a list".to_owned(),
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    }
}

/// `/spec/config/0/name` as `spec.config[0].name`.
pub(crate) fn dotted(pointer: &str) -> String {
    let mut text = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    text
}
