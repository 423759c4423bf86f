//! Fields that the format knows and this version treats specially: what the service cannot carry out yet, and what must
//! not be in Git.
//!
//! The table is the only place that says so: a version that learns a field deletes its row.

use fleet_model::Kind;
use serde_json::Value;

use crate::codes;
use crate::document::Document;
use crate::finding::{Finding, Span};
use crate::validate::dotted;

/// What the table says about a document.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Pointers of credentials; nothing below them is looked at, so that no finding quotes them.
    pub(crate) credentials: Vec<String>,
    /// Why the object as a whole waits.
    pub(crate) waits: Option<String>,
    pub(crate) findings: Vec<Finding>,
}

/// When a row applies.
#[derive(Clone, Copy)]
enum When {
    /// Whenever it is there.
    Given,
    /// When it has this value.
    Is(&'static str),
    /// When it is there in a Git repository.
    GivenForGit,
}

/// What a row says.
#[derive(Clone, Copy)]
enum What {
    /// The object waits for a version that can do it.
    Waits,
    /// The field alone does nothing yet, in this sentence.
    NoEffect(&'static str),
    /// A credential in plain text.
    Credential,
}

struct Row {
    kind: Kind,
    /// A JSON pointer; `*` stands for every item or field.
    pointer: &'static str,
    when: When,
    what: What,
}

const fn waits(kind: Kind, pointer: &'static str, when: When) -> Row {
    Row { kind, pointer, when, what: What::Waits }
}

const fn configured_elsewhere(pointer: &'static str) -> Row {
    Row { kind: Kind::Repository, pointer, when: When::GivenForGit, what: What::NoEffect(TRUST_IS_CONFIGURED) }
}

/// Who is trusted on the way to a repository is for those to say who run the service.
const TRUST_IS_CONFIGURED: &str = "this has no effect: the service's configuration (`git.credentials`) says which certificates and host keys are trusted";

const fn credential(pointer: &'static str) -> Row {
    Row { kind: Kind::Repository, pointer, when: When::Given, what: What::Credential }
}

const TABLE: &[Row] = &[
    waits(Kind::Fleet, "/spec/rolloutPolicy", When::Given),
    waits(Kind::Fleet, "/spec/template/spec/os/catalogItemRef", When::Given),
    waits(Kind::Fleet, "/spec/template/spec/applications/*/catalogItemRef", When::Given),
    waits(Kind::Fleet, "/spec/template/spec/applications/*/volumes/*/image/catalogItemRef", When::Given),
    waits(Kind::Device, "/spec/os/catalogItemRef", When::Given),
    waits(Kind::Device, "/spec/applications/*/catalogItemRef", When::Given),
    waits(Kind::Device, "/spec/applications/*/volumes/*/image/catalogItemRef", When::Given),
    waits(Kind::ResourceSync, "/spec/type", When::Is("catalog")),
    configured_elsewhere("/spec/httpConfig/ca.crt"),
    configured_elsewhere("/spec/httpConfig/skipServerVerification"),
    configured_elsewhere("/spec/sshConfig/skipServerVerification"),
    credential("/spec/httpConfig/username"),
    credential("/spec/httpConfig/password"),
    credential("/spec/httpConfig/token"),
    credential("/spec/httpConfig/tls.crt"),
    credential("/spec/httpConfig/tls.key"),
    credential("/spec/sshConfig/sshPrivateKey"),
    credential("/spec/sshConfig/privateKeyPassphrase"),
    credential("/spec/ociAuth"),
];

/// What the service does with an object of this kind that waits.
fn meanwhile(kind: Kind) -> &'static str {
    match kind {
        Kind::Fleet => "the fleet keeps what it has",
        Kind::Device => "the device keeps what it has",
        Kind::Repository => "what refers to it keeps what it has",
        Kind::ResourceSync => "nothing is brought in",
        Kind::EnrollmentPolicy | Kind::SyncPolicy => "it has no effect",
    }
}

fn cannot(kind: Kind, what: &str) -> String {
    format!("this version of the service cannot carry out {what} yet; {}", meanwhile(kind))
}

/// What the table says about `value`.
pub(crate) fn refused_fields(document: &Document<'_, '_>, kind: Kind, value: &Value) -> Refused {
    let mut refused = Refused::default();
    let mut waiting = Vec::new();
    for row in TABLE.iter().filter(|row| row.kind == kind) {
        let mut found = Vec::new();
        expand(value, row.pointer, &mut String::new(), &mut found);
        for (pointer, field) in found {
            if matches!(row.when, When::GivenForGit)
                && value.pointer("/spec/type").is_none_or(|of_type| of_type != "git")
            {
                continue;
            }
            let Some(at) = applies(row.when, document, &pointer, field) else { continue };
            let finding = match row.what {
                What::Waits => {
                    let what = described(row.when, &dotted(&pointer));
                    let finding = Finding::new(codes::UNSUPPORTED, at, cannot(kind, &what));
                    waiting.push(what);
                    finding
                }
                What::NoEffect(sentence) => Finding::new(codes::UNSUPPORTED, at, sentence),
                What::Credential => {
                    refused.credentials.push(pointer.clone());
                    let name = dotted(&pointer);
                    let message =
                        format!("`{name}` is a credential in plain text; whoever reads the repository has it");
                    let hint = "remove it, replace the credential, and give the new one to the service's configuration";
                    Finding::new(codes::CREDENTIAL, at, message).hint(hint)
                }
            };
            refused.findings.push(finding.at_pointer(pointer));
        }
    }
    refused.waits = match &waiting[..] {
        [] => None,
        [first, more @ ..] if more.len() >= 3 => {
            Some(cannot(kind, &format!("{first} and {} other fields", more.len())))
        }
        few => Some(cannot(kind, &few.join(" and "))),
    };
    refused
}

/// Where the row applies to a field, when it does.
fn applies(when: When, document: &Document<'_, '_>, pointer: &str, field: &Value) -> Option<Span> {
    match when {
        When::Given | When::GivenForGit => (!field.is_null()).then(|| document.key_span(pointer)),
        When::Is(value) => (field == value).then(|| document.value_span(pointer)),
    }
}

fn described(when: When, name: &str) -> String {
    match when {
        When::Given | When::GivenForGit => format!("`{name}`"),
        When::Is(value) => format!("`{name}: {value}`"),
    }
}

/// Host (with a user when there is one) and path of `[user@]host:path`, as Git tells it from a path on the disk.
pub(super) fn scp_like(url: &str) -> Option<(&str, &str)> {
    if url.contains("://") {
        return None;
    }
    let bracket = url.find('[').filter(|open| *open == 0 || url.as_bytes()[open - 1] == b'@');
    let from = bracket.and_then(|open| url[open..].find(']').map(|close| open + close)).unwrap_or(0);
    let colon = from + url[from..].find(':')?;
    let (host, path) = (&url[..colon], &url[colon + 1..]);
    (!host.contains('/') && !host.is_empty()).then_some((host, path))
}

/// All values that a pointer with `*` leads to.
fn expand<'v>(value: &'v Value, pattern: &str, at: &mut String, found: &mut Vec<(String, &'v Value)>) {
    let Some(rest) = pattern.strip_prefix('/') else {
        found.push((at.clone(), value));
        return;
    };
    let (part, rest) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let length = at.len();
    match (part, value) {
        ("*", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                at.push('/');
                at.push_str(&index.to_string());
                expand(item, rest, at, found);
                at.truncate(length);
            }
        }
        ("*", Value::Object(fields)) => {
            for (key, field) in fields {
                at.push('/');
                at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                expand(field, rest, at, found);
                at.truncate(length);
            }
        }
        (part, Value::Object(fields)) => {
            if let Some(field) = fields.get(part) {
                at.push('/');
                at.push_str(part);
                expand(field, rest, at, found);
                at.truncate(length);
            }
        }
        (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {}
    }
}
