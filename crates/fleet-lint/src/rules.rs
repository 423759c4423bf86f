//! What a document says: rules that no schema can express, for one document at a time.

mod applications;
mod config;
mod device;
mod others;
mod policy;
mod refused;
mod rollout;
mod trust;

use fleet_model::{
    DeviceSpec, Kind, LabelSelector, Manifest, MatchExpression, ResourceName, SELF_REPOSITORY, SelectorError,
    validate_label_key, validate_label_value,
};
use serde_json::Value;

use crate::codes;
use crate::document::Document;
use crate::finding::{Finding, Span};

pub(crate) use refused::{Refused, refused_fields};

/// What a document refers to outside itself.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) target: Target,
    pub(crate) span: Span,
    pub(crate) pointer: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A path in the same repository and commit, without placeholders.
    OwnPath(String),
    /// A path in the same repository with placeholders: this directory holds everything it can mean.
    OwnDirectory(String),
    /// A Repository by name, which must be a Git repository.
    Repository(String),
    /// A Repository by name, which must be a web server.
    WebServer(String),
}

/// The fields that only the service sets, under any parent of the given name.
const SET_BY_SERVICE: [(&str, &str); 8] = [
    ("", "status"),
    ("metadata", "owner"),
    ("metadata", "generation"),
    ("metadata", "resourceVersion"),
    ("metadata", "creationTimestamp"),
    ("metadata", "deletionTimestamp"),
    ("spec", "consoles"),
    ("spec", "decommissioning"),
];

/// Whether the field at this pointer is the service's own.
pub(crate) fn is_set_by_service(pointer: &str) -> bool {
    let mut parts = pointer.rsplit('/');
    let (name, above) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let of_application =
        parts.next() == Some("applications") && matches!(name, "desiredState" | "restartGeneration" | "annotations");
    SET_BY_SERVICE.contains(&(above, name)) || of_application
}

/// Everything the document refers to; also of documents that do not fit their kind.
pub(crate) fn references(document: &Document<'_, '_>, kind: Kind, value: &Value) -> Vec<Reference> {
    let config = match kind {
        Kind::Fleet => "/spec/template/spec/config",
        Kind::Device => "/spec/config",
        Kind::ResourceSync => {
            let name = value.pointer("/spec/repository").and_then(Value::as_str).filter(|name| is_name(name));
            return name.map(|name| repository(document, name, "/spec/repository".to_owned())).into_iter().collect();
        }
        Kind::Repository | Kind::EnrollmentPolicy | Kind::SyncPolicy => return Vec::new(),
    };
    let providers = value.pointer(config).and_then(Value::as_array);
    let mut references = Vec::new();
    for (at, provider) in providers.into_iter().flatten().enumerate() {
        if let Some(name) = provider.pointer("/httpRef/repository").and_then(Value::as_str)
            && is_name(name)
        {
            let pointer = format!("{config}/{at}/httpRef/repository");
            let target = Target::WebServer(name.to_owned());
            references.push(Reference { target, span: document.value_span(&pointer), pointer });
        }
        let git_ref = &provider["gitRef"];
        let (Some(name), Some(path)) = (git_ref["repository"].as_str(), git_ref["path"].as_str()) else { continue };
        let pointer = format!("{config}/{at}/gitRef");
        if name != SELF_REPOSITORY {
            if is_name(name) {
                references.push(repository(document, name, format!("{pointer}/repository")));
            }
        } else if let Ok(prefix) = fleet_render::literal_prefix(path) {
            let pointer = format!("{pointer}/path");
            let target = if path.contains("{{") { Target::OwnDirectory(prefix) } else { Target::OwnPath(prefix) };
            references.push(Reference { target, span: document.value_span(&pointer), pointer });
        }
    }
    references
}

/// Whether there can be a Repository of this name; what is no name has a finding of its own.
fn is_name(name: &str) -> bool {
    name.parse::<ResourceName>().is_ok()
}

fn repository(document: &Document<'_, '_>, name: &str, pointer: String) -> Reference {
    Reference { target: Target::Repository(name.to_owned()), span: document.value_span(&pointer), pointer }
}

/// Checks labels and the keys of annotations of any kind of document, wherever they may stand.
pub(crate) fn labels(document: &Document<'_, '_>, value: &Value, findings: &mut Vec<Finding>) {
    let count = |list: &str| value.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
    let batches = "/spec/rolloutPolicy/deviceSelection/sequence";
    let mut places = vec!["/metadata/labels".to_owned(), "/spec/template/metadata/labels".to_owned()];
    places.push("/spec/selector/matchLabels".to_owned());
    places.extend((0..count("/spec/rules")).map(|rule| format!("/spec/rules/{rule}/labels")));
    places.extend((0..count(batches)).map(|batch| format!("{batches}/{batch}/selector/matchLabels")));
    for place in places {
        let Some(Value::Object(labels)) = value.pointer(&place) else { continue };
        for (key, label) in labels {
            if let Err(error) = validate_label_key(key) {
                let pointer = below(&place, key);
                let at = document.key_span(&pointer);
                findings.push(Finding::new(codes::BAD_LABEL, at, error.to_string()).at_pointer(pointer));
            }
            if let Some(Err(error)) = label.as_str().map(validate_label_value) {
                let pointer = below(&place, key);
                let at = document.value_span(&pointer);
                findings.push(Finding::new(codes::BAD_LABEL, at, error.to_string()).at_pointer(pointer));
            }
        }
    }
    for place in ["/metadata/annotations", "/spec/template/metadata/annotations"] {
        let Some(Value::Object(annotations)) = value.pointer(place) else { continue };
        for key in annotations.keys() {
            // The prefix of an annotation may have capitals.
            if validate_label_key(&key.to_ascii_lowercase()).is_err() {
                let pointer = below(place, key);
                let message = format!(
                    "annotation key {key:?} is not `[prefix/]name`: a name of at most 63 letters, digits, '-', '_' and '.', \
                     starting and ending with a letter or digit, and a DNS prefix of at most 253"
                );
                let finding = Finding::new(codes::BAD_ANNOTATION, document.key_span(&pointer), message);
                findings.push(finding.at_pointer(pointer));
            }
        }
    }
}

/// The pointer of a field below another pointer.
fn below(place: &str, key: &str) -> String {
    format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Checks what a manifest that fits its schema means.
pub(crate) fn check(document: &Document<'_, '_>, manifest: &Manifest, findings: &mut Vec<Finding>) {
    match manifest {
        Manifest::Fleet(fleet) => {
            selector(document, fleet.spec.selector.as_ref(), findings);
            device_spec(document, "/spec/template/spec", &fleet.spec.template.spec, true, findings);
            if let Some(policy) = &fleet.spec.rollout_policy {
                rollout::check(document, "/spec/rolloutPolicy", policy, findings);
            }
        }
        Manifest::Device(device) => {
            if let Some(spec) = &device.spec {
                device_spec(document, "/spec", spec, false, findings);
            }
        }
        Manifest::Repository(repository) => others::repository(document, repository, findings),
        Manifest::ResourceSync(sync) => others::resource_sync(document, sync, findings),
        Manifest::EnrollmentPolicy(policy) => policy::enrollment_policy(document, policy, findings),
        Manifest::SyncPolicy(sync_policy) => policy::sync_policy(document, sync_policy, findings),
    }
}

/// Checks a device specification at `pointer`. Placeholders count only in a fleet's template.
fn device_spec(
    document: &Document<'_, '_>,
    pointer: &str,
    spec: &DeviceSpec,
    is_template: bool,
    findings: &mut Vec<Finding>,
) {
    config::check(document, pointer, spec, is_template, findings);
    applications::check(document, pointer, spec, is_template, findings);
    device::check(document, pointer, spec, is_template, findings);
}

fn selector(document: &Document<'_, '_>, selector: Option<&LabelSelector>, findings: &mut Vec<Finding>) {
    let Some(selector) = selector else {
        let at = document.value_span("/spec");
        let hint = "give `selector` with matchLabels or matchExpressions";
        findings.push(
            Finding::new(codes::NO_SELECTOR, at, "the fleet has no selector, so no device belongs to it")
                .at_pointer("/spec")
                .hint(hint),
        );
        return;
    };
    if selector.is_empty() {
        let at = document.key_span("/spec/selector");
        let message = "the selector has neither matchLabels nor matchExpressions; it selects nothing";
        findings.push(Finding::new(codes::BAD_SELECTOR, at, message).at_pointer("/spec/selector"));
    }
    expressions(document, "/spec/selector", selector, findings);
}

/// Checks the expressions of the selector at `pointer`.
pub(crate) fn expressions(
    document: &Document<'_, '_>,
    pointer: &str,
    selector: &LabelSelector,
    findings: &mut Vec<Finding>,
) {
    for (at, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let one = LabelSelector { match_labels: None, match_expressions: Some(vec![expression.clone()]) };
        let Err(error) = one.validate() else { continue };
        let pointer = format!("{pointer}/matchExpressions/{at}");
        let (below, hint) = fault_of(expression, &error);
        let pointer = below.map_or_else(|| pointer.clone(), |below| format!("{pointer}/{below}"));
        let span = match error {
            SelectorError::UnexpectedValues { .. } => document.key_span(&pointer),
            SelectorError::Empty | SelectorError::Label(_) | SelectorError::MissingValues { .. } => {
                document.value_span(&pointer)
            }
        };
        let finding = Finding::new(codes::BAD_SELECTOR, span, error.to_string());
        findings.push(finding.at_pointer(pointer).maybe_hint(hint.map(str::to_owned)));
    }
}

/// Which field of an expression is wrong, and what to do.
fn fault_of(expression: &MatchExpression, error: &SelectorError) -> (Option<String>, Option<&'static str>) {
    match error {
        SelectorError::MissingValues { .. } => {
            (expression.values.is_some().then(|| "values".to_owned()), Some("add the values to `values`"))
        }
        SelectorError::UnexpectedValues { .. } => {
            (Some("values".to_owned()), Some("remove `values`, or use the operator In or NotIn"))
        }
        SelectorError::Empty | SelectorError::Label(_) if validate_label_key(&expression.key).is_err() => {
            (Some("key".to_owned()), None)
        }
        SelectorError::Empty | SelectorError::Label(_) => {
            let values = expression.values.iter().flatten();
            let bad = values.into_iter().position(|value| validate_label_value(value).is_err());
            (bad.map(|at| format!("values/{at}")), None)
        }
    }
}
