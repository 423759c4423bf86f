//! What stands inside the texts of a specification: placeholders that need labels, and credentials in plain text.
//!
//! Both are looked for in the document as JSON, by the places that may hold them, so that every kind of provider and
//! application is treated alike. Placeholders are kept for the rules across files, which know the devices.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::Kind;
use fleet_render::Template;
use regex::Regex;
use serde_json::Value;

use crate::codes;
use crate::document::Document;
use crate::finding::{Finding, Span};

/// Where placeholders are replaced, below the specification; `*` is every item or entry.
const TEMPLATED: [&[&str]; 15] = [
    &["os", "image"],
    &["config", "*", "inline", "*", "path"],
    &["config", "*", "inline", "*", "content"],
    &["config", "*", "gitRef", "path"],
    &["config", "*", "gitRef", "targetRevision"],
    &["config", "*", "httpRef", "suffix"],
    &["config", "*", "httpRef", "filePath"],
    &["config", "*", "secretRef", "name"],
    &["config", "*", "secretRef", "namespace"],
    &["config", "*", "secretRef", "mountPath"],
    &["applications", "*", "image"],
    &["applications", "*", "inline", "*", "path"],
    &["applications", "*", "inline", "*", "content"],
    &["applications", "*", "envVars", "*"],
    &["applications", "*", "volumes", "*", "image", "reference"],
];

/// Where whole files and settings stand, which people like to put credentials into.
const CONTENTS: [&[&str]; 3] = [
    &["config", "*", "inline", "*", "content"],
    &["applications", "*", "inline", "*", "content"],
    &["applications", "*", "envVars", "*"],
];

/// How many placeholders of one text have places of their own.
const MAX_PLACES: usize = 100;
/// How many credentials are named in one text.
const MAX_SECRETS: usize = 5;

/// A text with placeholders that need labels.
#[derive(Debug)]
pub(crate) struct LabelTemplate {
    pub(crate) template: Template,
    pub(crate) pointer: String,
    /// The place of the whole value.
    span: Span,
    /// Where placeholders begin: the byte in the text, and the place. Empty when the text does not stand in the file as
    /// it is.
    places: Vec<(usize, Span)>,
}

impl LabelTemplate {
    /// The place of the placeholder that holds a byte of the text.
    pub(crate) fn place(&self, byte: usize) -> Span {
        let before = self.places.partition_point(|(start, _)| *start <= byte);
        before.checked_sub(1).map_or(self.span, |at| self.places[at].1)
    }
}

/// The texts of a fleet's template whose placeholders need labels. Those that are no templates have findings already.
pub(crate) fn label_templates(document: &Document<'_, '_>, kind: Kind, value: &Value) -> Vec<LabelTemplate> {
    let mut templates = Vec::new();
    if kind != Kind::Fleet {
        return templates;
    }
    each_text(kind, value, &TEMPLATED, &mut |pointer, text, is_encoded| {
        if !text.contains("{{") {
            return;
        }
        let Ok(template) = Template::parse(text) else { return };
        let inputs = template.inputs();
        if inputs.labels.is_empty() && !inputs.all_labels {
            return;
        }
        let places = if is_encoded { Vec::new() } else { placeholders(document, pointer, text) };
        let span = document.value_span(pointer);
        templates.push(LabelTemplate { template, pointer: pointer.to_owned(), span, places });
    });
    templates
}

fn placeholders(document: &Document<'_, '_>, pointer: &str, text: &str) -> Vec<(usize, Span)> {
    let starts = text.match_indices("{{").map(|(at, _)| at).take(MAX_PLACES + 1).enumerate();
    starts
        .map(|(number, at)| {
            if number == MAX_PLACES {
                return (at, document.value_span(pointer));
            }
            let end = text[at..].find("}}").map_or(text.len(), |length| at + length + 2);
            (at, document.part_span(pointer, &(at..end)))
        })
        .collect()
}

/// Credentials in the contents of files and settings. What they are is never quoted.
pub(crate) fn secrets(document: &Document<'_, '_>, kind: Kind, value: &Value, findings: &mut Vec<Finding>) {
    each_text(kind, value, &CONTENTS, &mut |pointer, text, is_encoded| {
        for (what, range) in credentials(text).take(MAX_SECRETS) {
            let at = if is_encoded { document.value_span(pointer) } else { document.part_span(pointer, &range) };
            let message = format!("the text holds {what} in plain text; everyone who reads this repository has it");
            let hint = "revoke it, and bring secrets to devices another way than through Git";
            findings.push(Finding::new(codes::SECRET_IN_CONTENT, at, message).at_pointer(pointer).hint(hint));
        }
    });
}

/// Credentials in a text, in order: what each is, and its bytes. Of a private key these are those of its first line.
pub fn credentials(text: &str) -> impl Iterator<Item = (&'static str, Range<usize>)> + '_ {
    SECRETS.captures_iter(text).filter_map(move |captures| {
        let (index, (_, what)) = KINDS.iter().enumerate().find(|(at, _)| captures.get(at + 1).is_some())?;
        let found = captures.get(index + 1)?;
        (stands_alone(text, found.start(), found.end()) && !is_harmless(found.as_str()))
            .then_some((*what, found.range()))
    })
}

/// Kinds of credentials whose form leaves no doubt.
const KINDS: [(&str, &str); 5] = [
    (r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----", "a private key"),
    (r"(?:AKIA|ASIA)[0-9A-Z]{16}", "an access key of AWS"),
    (r"gh[opsur]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{82}", "a token of GitHub"),
    (r"glpat-[0-9A-Za-z_\-]{20,}", "a token of GitLab"),
    (r"eyJ[0-9A-Za-z_\-]{10,}\.eyJ[0-9A-Za-z_\-]{10,}\.[0-9A-Za-z_\-]{20,}", "a signed bearer token (JWT)"),
];

static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    let groups: Vec<String> = KINDS.iter().map(|(pattern, _)| format!("({pattern})")).collect();
    Regex::new(&groups.join("|")).expect("the patterns are constants, and a test compiles them")
});

/// Whether a match is no part of a longer word.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let (before, after) = (text.as_bytes()[..start].last(), text.as_bytes().get(end));
    ![before, after].into_iter().flatten().any(is_word)
}

/// Keys that need a password, and the keys of AWS's own documentation.
fn is_harmless(found: &str) -> bool {
    found.contains(" ENCRYPTED ") || found.ends_with("EXAMPLE")
}

/// Calls `take` with the pointer, the text and whether the text was encoded, for every text at one of `places`.
fn each_text(kind: Kind, value: &Value, places: &[&[&str]], take: &mut dyn FnMut(&str, &str, bool)) {
    let base = match kind {
        Kind::Fleet => "/spec/template/spec",
        Kind::Device => "/spec",
        Kind::Repository | Kind::ResourceSync | Kind::EnrollmentPolicy | Kind::SyncPolicy => return,
    };
    let Some(spec) = value.pointer(base) else { return };
    let mut pointer = base.to_owned();
    for place in places {
        descend(spec, place, &mut pointer, take);
    }
}

fn descend(value: &Value, place: &[&str], pointer: &mut String, take: &mut dyn FnMut(&str, &str, bool)) {
    let [part, rest @ ..] = place else {
        if let Value::String(text) = value {
            take(pointer, text, false);
        }
        return;
    };
    let length = pointer.len();
    match (value, *part) {
        (Value::Array(items), "*") => {
            for (at, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{at}"));
                descend(item, rest, pointer, take);
                pointer.truncate(length);
            }
        }
        (Value::Object(fields), "*") => {
            for (name, field) in fields {
                pointer.push('/');
                pointer.push_str(&escaped(name));
                descend(field, rest, pointer, take);
                pointer.truncate(length);
            }
        }
        (Value::Object(fields), name) => {
            let Some(field) = fields.get(name) else { return };
            pointer.push('/');
            pointer.push_str(name);
            let is_encoded =
                name == "content" && fields.get("contentEncoding").and_then(Value::as_str) == Some("base64");
            if is_encoded {
                let bytes = field.as_str().and_then(|text| STANDARD.decode(text).ok());
                if let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    take(pointer, &text, true);
                }
            } else {
                descend(field, rest, pointer, take);
            }
            pointer.truncate(length);
        }
        _ => {}
    }
}

fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) { Cow::Owned(name.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_of_a_certain_form_are_found() {
        let is_secret = |text: &str| credentials(text).next().is_some();
        let key = |what: &str| format!("x\n-----BEGIN {what}PRIVATE KEY-----\nMII");
        for secret in [
            key(""),
            key("RSA "),
            key("OPENSSH "),
            "key=AKIA1234567890ABCDEF".to_owned(),
            format!("ghp_{}", "a1".repeat(18)),
            format!("url: https://x:github_pat_{}@github.com", "a_".repeat(41)),
            format!("'glpat-{}'", "Ab_-1".repeat(4)),
            format!("Bearer eyJ{a}.eyJ{a}.{a}{a}", a = "a1-_".repeat(5)),
        ] {
            assert!(is_secret(&secret), "{secret}");
        }
        for harmless in [
            key("ENCRYPTED "),
            "-----BEGIN PUBLIC KEY-----".to_owned(),
            "-----BEGIN CERTIFICATE-----".to_owned(),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "MAKIA1234567890ABCDEF".to_owned(),
            "AKIA1234567890ABCDEFG".to_owned(),
            "ghp_short".to_owned(),
            "glpat-{{ .metadata.labels.token }}".to_owned(),
            "eyJhbGciOi.not.a.token".to_owned(),
        ] {
            assert!(!is_secret(&harmless), "{harmless}");
        }
    }
}
