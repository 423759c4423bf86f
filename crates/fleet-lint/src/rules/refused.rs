//! Fields that the format knows and this version refuses: what it cannot carry out yet, and what must not be in Git.
//!
//! The table is the only place that says so: a version that learns a field deletes its row.

use fleet_model::Kind;
use serde_json::Value;

use crate::codes::{self, Code};
use crate::document::Document;
use crate::finding::Finding;
use crate::validate::dotted;

/// When a field is refused.
#[derive(Clone, Copy)]
enum When {
    /// Whenever it is there.
    Given,
    /// When it has this value.
    Is(&'static str),
    /// When it is a URL for SSH.
    IsSshUrl,
}

struct Row {
    kind: Kind,
    /// A JSON pointer; `*` stands for every item or field.
    pointer: &'static str,
    when: When,
    code: Code,
}

const fn later(kind: Kind, pointer: &'static str, when: When) -> Row {
    Row { kind, pointer, when, code: codes::UNSUPPORTED }
}

const fn credential(pointer: &'static str) -> Row {
    Row { kind: Kind::Repository, pointer, when: When::Given, code: codes::CREDENTIAL }
}

const TABLE: &[Row] = &[
    later(Kind::Fleet, "/spec/rolloutPolicy", When::Given),
    later(Kind::Fleet, "/spec/template/spec/os", When::Given),
    later(Kind::Fleet, "/spec/template/spec/applications", When::Given),
    later(Kind::Fleet, "/spec/template/spec/systemd", When::Given),
    later(Kind::Fleet, "/spec/template/spec/resources", When::Given),
    later(Kind::Fleet, "/spec/template/spec/updatePolicy", When::Given),
    later(Kind::Fleet, "/spec/template/spec/config/*/httpRef", When::Given),
    later(Kind::Fleet, "/spec/template/spec/config/*/secretRef", When::Given),
    later(Kind::Device, "/spec/os", When::Given),
    later(Kind::Device, "/spec/applications", When::Given),
    later(Kind::Device, "/spec/systemd", When::Given),
    later(Kind::Device, "/spec/resources", When::Given),
    later(Kind::Device, "/spec/updatePolicy", When::Given),
    later(Kind::Device, "/spec/config/*/httpRef", When::Given),
    later(Kind::Device, "/spec/config/*/secretRef", When::Given),
    later(Kind::Repository, "/spec/type", When::Is("http")),
    later(Kind::Repository, "/spec/type", When::Is("oci")),
    later(Kind::Repository, "/spec/url", When::IsSshUrl),
    later(Kind::ResourceSync, "/spec/type", When::Is("catalog")),
    later(Kind::SyncPolicy, "/spec/*", When::Given),
    credential("/spec/httpConfig/username"),
    credential("/spec/httpConfig/password"),
    credential("/spec/httpConfig/token"),
    credential("/spec/httpConfig/tls.crt"),
    credential("/spec/httpConfig/tls.key"),
    credential("/spec/sshConfig/sshPrivateKey"),
    credential("/spec/sshConfig/privateKeyPassphrase"),
    credential("/spec/ociAuth"),
    later(Kind::Repository, "/spec/sshConfig", When::Given),
];

/// The fields of `value` that this version refuses: their pointers, and the findings.
pub(crate) fn refused_fields(document: &Document<'_, '_>, kind: Kind, value: &Value) -> (Vec<String>, Vec<Finding>) {
    let mut pointers = Vec::new();
    let mut findings = Vec::new();
    for row in TABLE.iter().filter(|row| row.kind == kind) {
        let mut found = Vec::new();
        expand(value, row.pointer, String::new(), &mut found);
        for (pointer, field) in found {
            let (refused, at) = match row.when {
                When::Given => (!field.is_null(), document.key_span(&pointer)),
                When::Is(value) => (field == value, document.value_span(&pointer)),
                When::IsSshUrl => (field.as_str().is_some_and(is_ssh_url), document.value_span(&pointer)),
            };
            if !refused {
                continue;
            }
            let name = dotted(&pointer);
            let finding = if row.code == codes::CREDENTIAL {
                Finding::new(
                    row.code,
                    at,
                    format!("`{name}` is a credential in plain text; whoever reads the repository has it"),
                )
                .hint("remove it, replace the credential, and give the new one to the service's configuration")
            } else {
                let message = match row.when {
                    When::Given => format!("`{name}` is not supported by this version"),
                    When::Is(value) => format!("`{name}: {value}` is not supported by this version"),
                    When::IsSshUrl => format!("`{name}`: repositories over SSH are not supported by this version"),
                };
                Finding::new(row.code, at, message)
            };
            findings.push(finding.at_pointer(pointer.clone()));
            // A type that is refused makes every other field of its branch moot.
            let is_type = kind == Kind::Repository && pointer == "/spec/type";
            pointers.push(if is_type { "/spec".to_owned() } else { pointer });
        }
    }
    (pointers, findings)
}

fn is_ssh_url(url: &str) -> bool {
    let scp_like =
        !url.contains("://") && url.split('/').next().is_some_and(|host| host.contains('@') && host.contains(':'));
    url.starts_with("ssh://") || url.starts_with("git+ssh://") || scp_like
}

/// All values that a pointer with `*` leads to.
fn expand<'v>(value: &'v Value, pattern: &str, at: String, found: &mut Vec<(String, &'v Value)>) {
    let Some(rest) = pattern.strip_prefix('/') else {
        found.push((at, value));
        return;
    };
    let (part, rest) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    match (part, value) {
        ("*", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                expand(item, rest, format!("{at}/{index}"), found);
            }
        }
        ("*", Value::Object(fields)) => {
            for (key, field) in fields {
                expand(field, rest, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        (part, Value::Object(fields)) => {
            if let Some(field) = fields.get(part) {
                expand(field, rest, format!("{at}/{part}"), found);
            }
        }
        (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {}
    }
}
