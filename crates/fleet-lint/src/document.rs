//! One document: what it is, whether it fits its kind, and what it says.

mod inside;
mod rest;

use std::collections::HashSet;
use std::ops::Range;

use fleet_model::{API_VERSION, Kind, Manifest, SHOREBASE_API_VERSION};
use serde_json::Value;

use crate::apps::clip;
use crate::codes;
use crate::finding::{Finding, Span, nearest};
use crate::foreign;
use crate::parse::Declared;
use crate::rules::{self, Reference, Refused};
use crate::validate;
use crate::yaml::{LoadedFile, unescape};

/// Kinds of the API that exist elsewhere than in Git.
const OTHER_KINDS: [&str; 14] = [
    "AuthProvider",
    "Catalog",
    "CatalogItem",
    "CertificateSigningRequest",
    "DeviceList",
    "EnrollmentRequest",
    "Event",
    "FleetList",
    "ImageBuild",
    "ImageExport",
    "List",
    "Organization",
    "Source",
    "TemplateVersion",
];

/// With more misfits than this, nothing is said of the rest of a document.
const MAX_MENDED: usize = 50;

/// How many numbers of one document are tried without their fractions.
const MAX_WHOLE: usize = 20;

/// A document and the file it stands in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'t, 'a> {
    pub(crate) file: &'t LoadedFile<'a>,
    pub(crate) text: &'t str,
    pub(crate) root: u32,
}

/// What came of a document.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) manifest: Option<(Manifest, Value)>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) declared: Option<Declared>,
    pub(crate) references: Vec<Reference>,
    pub(crate) has_kind: bool,
    pub(crate) waits: Option<String>,
}

impl Document<'_, '_> {
    /// The node of a pointer, or of the nearest value above it.
    fn nearest_node(&self, pointer: &str) -> (u32, Option<Span>) {
        let mut pointer = pointer;
        loop {
            if let Some(found) = self.file.tree.find(self.root, pointer) {
                return found;
            }
            pointer = pointer.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// Where the value of a pointer stands.
    pub(crate) fn value_span(&self, pointer: &str) -> Span {
        self.file.tree.value_span(self.nearest_node(pointer).0)
    }

    /// Where the key of a pointer stands; of an item the item itself.
    pub(crate) fn key_span(&self, pointer: &str) -> Span {
        let (node, key) = self.nearest_node(pointer);
        key.unwrap_or_else(|| self.file.tree.value_span(node))
    }

    /// The text of a plain scalar.
    pub(crate) fn plain_text(&self, pointer: &str) -> Option<&str> {
        let (node, _) = self.file.tree.find(self.root, pointer)?;
        let scalar = &self.file.scalars[node as usize];
        scalar.is_plain().then_some(&*scalar.text)
    }

    /// Where a part of a text value stands, when the text stands in the file as it is; else the whole value.
    pub(crate) fn part_span(&self, pointer: &str, part: &Range<usize>) -> Span {
        let whole = self.value_span(pointer);
        self.exact_part(pointer, part).unwrap_or(whole)
    }

    fn exact_part(&self, pointer: &str, part: &Range<usize>) -> Option<Span> {
        let (node, _) = self.file.tree.find(self.root, pointer)?;
        let scalar = &self.file.scalars[node as usize];
        let source = self.text.get(scalar.start_byte..scalar.end_byte)?;
        inside::part(source, scalar.style, &scalar.text, part, self.file.tree.node(node).span)
    }
}

/// Checks one document that is not empty.
pub(crate) fn check(document: &Document<'_, '_>, mut value: Value) -> Checked {
    let mut checked = Checked::default();
    if !value.is_object() {
        let message = "the document is not a mapping with `apiVersion`, `kind`, `metadata` and `spec`";
        checked.findings.push(Finding::new(codes::NOT_A_MAPPING, document.value_span(""), message));
        return checked;
    }
    checked.has_kind = value.get("kind").is_some() || misspelt(&value, "kind").is_some();
    let Some(kind) = kind_of(document, &value, &mut checked.findings) else { return checked };
    if api_version(document, kind, &value, &mut checked.findings) {
        value["apiVersion"] = kind.api_version().into();
    } else {
        return checked;
    }
    if let Some(name) = value.pointer("/metadata/name").and_then(Value::as_str) {
        let span = document.value_span("/metadata/name");
        checked.declared = Some(Declared { kind, name: name.to_owned(), span });
    }
    checked.references = rules::references(document, kind, &value);

    let Refused { credentials: refused, waits, mut findings } = rules::refused_fields(document, kind, &value);
    checked.waits = waits;
    let is_refused = |pointer: &str| {
        refused
            .iter()
            .any(|r| pointer.strip_prefix(r.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let misfits: Vec<Finding> =
        validate::findings(document, kind, &value).into_iter().filter(|f| !is_refused(&f.pointer)).collect();
    // An unknown field can be lowered to a warning: what is left without it counts.
    let unknown: Vec<&str> =
        misfits.iter().filter(|f| f.code == codes::UNKNOWN_FIELD).map(|f| f.pointer.as_str()).collect();
    let fits = unknown.len() == misfits.len();
    let unknown_in: HashSet<String> =
        unknown.iter().filter_map(|pointer| Some(pointer.rsplit_once('/')?.0.to_owned())).collect();
    for pointer in &unknown {
        prune(&mut value, pointer);
    }
    let fits = fits
        && (unknown.is_empty() || validate::findings(document, kind, &value).iter().all(|f| is_refused(&f.pointer)));
    let is_mendable = !fits && misfits.len() <= MAX_MENDED;
    findings.extend(misfits);
    rules::labels(document, &value, &mut findings);
    let said = findings.len();
    if is_mendable {
        rest::check(document, kind, &value, &mut findings);
    }
    if fits {
        match Manifest::from_value(kind, &value) {
            Ok(manifest) => {
                rules::check(document, &manifest, &mut findings);
                checked.manifest = Some((manifest, value));
            }
            Err(_) if !refused.is_empty() => {}
            Err(error) => {
                let said = findings.len();
                whole_numbers(document, kind, &value, &mut findings);
                if findings.len() == said {
                    let message = format!("the document does not fit {kind}: {error}");
                    findings.push(Finding::new(codes::NOT_DECODED, document.value_span(""), message));
                }
            }
        }
    }
    if findings.iter().any(|f| f.code.is_fatal()) {
        checked.manifest = None;
    }
    // What an object lacks is most likely its unknown field, misspelt. The manifest stays away all the same.
    let lacks = findings.split_off(said);
    findings.extend(lacks.into_iter().filter(|f| f.code == codes::NOT_DECODED || !unknown_in.contains(&f.pointer)));
    checked.findings.extend(findings);
    checked
}

/// Finds the numbers that a schema takes for whole ones and the types do not: `420.0`.
fn whole_numbers(document: &Document<'_, '_>, kind: Kind, value: &Value, findings: &mut Vec<Finding>) {
    fn walk(value: &mut Value, pointer: &mut String, found: &mut Vec<(String, i64)>) {
        let length = pointer.len();
        match value {
            Value::Number(number) => {
                let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) else {
                    return;
                };
                // Through text: there is no conversion between the two that cannot lose anything.
                let Ok(whole) = format!("{float:.0}").parse::<i64>() else { return };
                found.push((pointer.clone(), whole));
                *value = whole.into();
            }
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    pointer.push_str(&format!("/{at}"));
                    walk(item, pointer, found);
                    pointer.truncate(length);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    walk(field, pointer, found);
                    pointer.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    let (mut whole, mut found) = (value.clone(), Vec::new());
    walk(&mut whole, &mut String::new(), &mut found);
    if Manifest::from_value(kind, &whole).is_err() {
        return;
    }
    // Where a number with a fraction is right, one without it decodes as well.
    for (pointer, number) in found.into_iter().take(MAX_WHOLE) {
        let mut one = whole.clone();
        let Some(place) = one.pointer_mut(&pointer) else { continue };
        *place = value.pointer(&pointer).cloned().unwrap_or_default();
        if Manifest::from_value(kind, &one).is_err() {
            let at = document.value_span(&pointer);
            let name = pointer.rsplit('/').next().unwrap_or_default();
            let message = format!("`{name}` is a number with a fraction, not a whole number");
            let hint = format!("write {number}");
            findings.push(Finding::new(codes::WRONG_TYPE, at, message).at_pointer(pointer).hint(hint));
        }
    }
}

/// Removes the field at a JSON pointer.
fn prune(value: &mut Value, pointer: &str) {
    let Some((above, name)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(fields)) = value.pointer_mut(above) {
        fields.remove(&unescape(name));
    }
}

fn kind_of(document: &Document<'_, '_>, value: &Value, findings: &mut Vec<Finding>) -> Option<Kind> {
    let Some(kind) = value.get("kind") else {
        if let Some((own, hint)) = misspelt(value, "kind") {
            let at = document.key_span(&own);
            let finding = Finding::new(codes::NO_KIND, at, "the document has no `kind`");
            findings.push(finding.at_pointer(own).hint(hint));
            return None;
        }
        let hint = format!("give its `kind`; if it is no manifest, {}", foreign::ELSEWHERE);
        findings.push(Finding::new(codes::NO_KIND, document.value_span(""), "the document has no `kind`").hint(hint));
        return None;
    };
    let at = document.value_span("/kind");
    let Some(text) = kind.as_str() else {
        let message = if kind.is_null() { "`kind` has no value" } else { "`kind` is not text" };
        let hint = format!("known kinds: {}", Kind::ALL.map(Kind::as_str).join(", "));
        findings.push(Finding::new(codes::NO_KIND, at, message).at_pointer("/kind").hint(hint));
        return None;
    };
    if let Ok(kind) = text.parse() {
        return Some(kind);
    }
    let api_version = value.get("apiVersion").and_then(Value::as_str);
    let finding = if OTHER_KINDS.contains(&text) {
        Finding::new(codes::KIND_NOT_FROM_GIT, at, format!("resources of kind {text} do not come from Git"))
            .hint(foreign::origin(text))
    } else if let Some(hint) = foreign::of_other_tool(api_version, text) {
        Finding::new(codes::UNKNOWN_KIND, at, format!("unknown kind {:?}", clip(text))).hint(hint)
    } else {
        let known = Kind::ALL.map(Kind::as_str);
        let hint = nearest(text, known)
            .map_or_else(|| format!("known kinds: {}", known.join(", ")), |kind| format!("did you mean `{kind}`?"));
        Finding::new(codes::UNKNOWN_KIND, at, format!("unknown kind {:?}", clip(text))).hint(hint)
    };
    findings.push(finding.at_pointer("/kind"));
    None
}

/// The pointer of the key that is meant to be `name`, and a hint; of a document that otherwise looks like a manifest.
fn misspelt(value: &Value, name: &str) -> Option<(String, String)> {
    let fields = value.as_object()?;
    let is_manifest =
        ["apiVersion", "kind", "metadata", "spec"].iter().filter(|key| fields.contains_key(**key)).count();
    let odd = fields.keys().map(String::as_str).filter(|key| !["metadata", "spec", "status"].contains(key));
    let key = odd.filter(|_| is_manifest >= 2).find(|key| nearest(key, [name]).is_some())?;
    Some((format!("/{}", key.replace('~', "~0").replace('/', "~1")), format!("did you mean `{name}`?")))
}

/// Whether the document has an `apiVersion` that fits its kind.
fn api_version(document: &Document<'_, '_>, kind: Kind, value: &Value, findings: &mut Vec<Finding>) -> bool {
    let canonical = kind.api_version();
    let hint = format!("write `apiVersion: {canonical}`");
    let Some(version) = value.get("apiVersion") else {
        if let Some((own, meant)) = misspelt(value, "apiVersion") {
            let at = document.key_span(&own);
            let finding = Finding::new(codes::NO_API_VERSION, at, "the document has no `apiVersion`");
            findings.push(finding.at_pointer(own).hint(meant));
            return false;
        }
        findings.push(
            Finding::new(codes::NO_API_VERSION, document.value_span(""), "the document has no `apiVersion`").hint(hint),
        );
        return false;
    };
    let at = document.value_span("/apiVersion");
    if version.is_null() {
        let finding = Finding::new(codes::NO_API_VERSION, at, "`apiVersion` has no value");
        findings.push(finding.at_pointer("/apiVersion").hint(hint));
        return false;
    }
    let text = version.as_str().unwrap_or_default();
    let is_ours = canonical == SHOREBASE_API_VERSION;
    if text == canonical || (!is_ours && Some(text) == API_VERSION.split('/').nth(1)) {
        return true;
    }
    if !is_ours && matches!(text, "flightctl.io/v1alpha1" | "v1alpha1") {
        let message = format!("`{text}` is an old version of kind {kind}; it is read as {canonical}");
        findings.push(Finding::new(codes::OLD_API_VERSION, at, message).at_pointer("/apiVersion").hint(hint));
        return true;
    }
    if !is_ours && version.as_str() == Some("") {
        let message = format!("the apiVersion is empty; it is read as {canonical}");
        findings.push(Finding::new(codes::OLD_API_VERSION, at, message).at_pointer("/apiVersion").hint(hint));
        return true;
    }
    let message = format!("the apiVersion {version} does not fit the kind {kind}");
    findings.push(Finding::new(codes::WRONG_API_VERSION, at, message).at_pointer("/apiVersion").hint(hint));
    false
}
