//! What a document says, part by part: for people who look at one device.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::Prepared;
use super::resolve::Resolved;

/// What one device should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Files by their path on the device.
    pub files: BTreeMap<String, OutlineFile>,
    /// The operating system: an object with `image` or `catalogItemRef`.
    pub os: Option<Value>,
    /// Applications by name (the image where an application has none), as the device reads them.
    pub applications: BTreeMap<String, Value>,
    /// The other fields of the specification, by name.
    pub others: BTreeMap<String, Value>,
}

/// A file on a device.
#[derive(Clone, PartialEq, Eq)]
pub struct OutlineFile {
    /// Its content.
    pub content: Vec<u8>,
    /// Unix permission bits.
    pub mode: u32,
    /// Its owner.
    pub user: String,
    /// Its group.
    pub group: String,
    /// The name of the configuration provider that it comes from.
    pub provider: String,
    /// Whether the content is a secret and must not be shown.
    pub secret: bool,
}

/// Without the content, which may be secret.
impl fmt::Debug for OutlineFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, mode, user, group, provider, secret } = self;
        f.debug_struct("OutlineFile")
            .field("bytes", &content.len())
            .field("mode", mode)
            .field("user", user)
            .field("group", group)
            .field("provider", provider)
            .field("secret", secret)
            .finish()
    }
}

pub(super) fn outline(resolved: &Resolved<'_>, prepared: &Prepared) -> Outline {
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).expect("canonical JSON is JSON");
    let file = |file: &super::resolve::ResolvedFile<'_>| OutlineFile {
        content: file.content.to_vec(),
        mode: file.mode,
        user: file.user.to_owned(),
        group: file.group.to_owned(),
        provider: prepared.providers[file.slot.provider].name.clone(),
        secret: file.seal.is_some(),
    };
    Outline {
        files: resolved.files.iter().map(|resolved| (resolved.path.clone().into_owned(), file(resolved))).collect(),
        os: resolved.os.as_deref().map(json),
        applications: resolved
            .applications
            .iter()
            .flatten()
            .map(|application| (application.name.clone().into_owned(), json(&application.json)))
            .collect(),
        others: resolved.others.iter().map(|(key, bytes)| ((*key).to_owned(), json(bytes))).collect(),
    }
}
