//! The rendered document as it arrives: read, checked and turned into files, without touching anything.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use fleet_model::{
    ConfigSource, ContentEncoding, DeviceSpec, Digest, FileSpec, ObjectMeta, RenderedVersion, annotations,
};
use serde::Deserialize;

use crate::failure::{Component, Failure, Phase};
use crate::path::FilePath;
use crate::paths;

/// The most files one document may hold.
const MAX_FILES: usize = 20_000;

/// A file as the document wants it.
#[derive(Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Where.
    pub path: FilePath,
    /// Decoded contents.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner: a name or a number.
    pub user: String,
    /// Group: a name or a number.
    pub group: String,
}

impl std::fmt::Debug for WantedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Contents may be secret.
        f.debug_struct("WantedFile")
            .field("path", &self.path)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// A document whose envelope could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its version.
    pub version: RenderedVersion,
    /// Digest of its specification, without parts that change nothing on the device.
    pub digest: Digest,
    /// The files, in order of their paths, or why the document as a whole cannot be carried out.
    pub files: Result<Vec<WantedFile>, Failure>,
}

/// Why a document cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not shaped like a device.
    #[error("the rendered document is not a device in JSON")]
    Json(#[from] serde_json::Error),
    /// No version.
    #[error("the rendered document has no annotation {}", annotations::RENDERED_VERSION)]
    NoVersion,
    /// A version that is none.
    #[error("the rendered document's annotation {} is wrong", annotations::RENDERED_VERSION)]
    Version(#[from] fleet_model::IdError),
}

#[derive(Deserialize)]
struct Envelope {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: serde_json::Value,
}

impl Document {
    /// Reads an answer's body.
    ///
    /// # Errors
    /// When not even a version can be found. A document that has one but cannot be carried out is `Ok`, with the
    /// failure in [`Document::files`].
    pub fn parse(body: &[u8]) -> Result<Self, DocumentError> {
        let mut envelope: Envelope = serde_json::from_slice(body)?;
        let version = envelope
            .metadata
            .annotations
            .get(annotations::RENDERED_VERSION)
            .ok_or(DocumentError::NoVersion)?
            .parse()?;
        // Consoles come and go under one version; they are not part of what the device should be.
        if let Some(spec) = envelope.spec.as_object_mut() {
            spec.remove("consoles");
        }
        let digest = Digest::of(&serde_json::to_vec(&envelope.spec)?);
        Ok(Self { version, digest, files: read_spec(envelope.spec) })
    }
}

fn refuse(component: Component, element: &str, reason: impl Into<String>) -> Failure {
    Failure::new(Phase::Preparing, component, element, reason)
}

/// Whether a part of the specification asks for something: not absent, `null`, `{}`, `[]`, or an empty OS image.
fn asks_for_something(value: Option<&serde_json::Value>) -> bool {
    match value {
        None | Some(serde_json::Value::Null) => false,
        Some(serde_json::Value::Array(items)) => !items.is_empty(),
        Some(serde_json::Value::Object(fields)) => {
            fields.values().any(|v| !matches!(v.as_str(), Some("")) && !v.is_null())
        }
        Some(serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_)) => true,
    }
}

fn read_spec(spec: serde_json::Value) -> Result<Vec<WantedFile>, Failure> {
    let unsupported = [
        ("os", Component::Os, "operating-system images are not supported by this agent"),
        ("applications", Component::Applications, "applications are not supported by this agent"),
        ("updatePolicy", Component::UpdatePolicy, "update policies are not supported by this agent"),
        ("decommissioning", Component::Lifecycle, "decommissioning is not supported by this agent"),
    ];
    for (field, component, reason) in unsupported {
        if asks_for_something(spec.get(field)) {
            return Err(refuse(component, field, reason));
        }
    }
    let spec = if spec.is_null() { serde_json::json!({}) } else { spec };
    let spec: DeviceSpec =
        serde_json::from_value(spec).map_err(|e| refuse(Component::Config, "spec", format!("cannot be read: {e}")))?;
    let mut files = BTreeMap::new();
    for provider in spec.config.unwrap_or_default() {
        let ConfigSource::Inline(inline) = provider.source else {
            return Err(refuse(Component::Config, &provider.name, "is not an inline provider"));
        };
        for file in inline {
            let file = read_file(file)?;
            files.insert(file.path.clone(), file);
        }
    }
    if files.len() > MAX_FILES {
        return Err(refuse(Component::Config, "spec", format!("holds {} files, more than {MAX_FILES}", files.len())));
    }
    check_nesting(files.keys())?;
    Ok(files.into_values().collect())
}

/// No file may be needed as a directory of another one.
fn check_nesting<'a>(paths: impl Iterator<Item = &'a FilePath> + Clone) -> Result<(), Failure> {
    let all: BTreeSet<&FilePath> = paths.clone().collect();
    for path in paths {
        let mut at = path.parent();
        while let Some(directory) = at {
            if all.contains(&directory) {
                let reason = format!("is both a file and the directory of {path}");
                return Err(refuse(Component::Config, directory.as_str(), reason));
            }
            at = directory.parent();
        }
    }
    Ok(())
}

fn read_file(file: FileSpec) -> Result<WantedFile, Failure> {
    let FileSpec { path: text, content, content_encoding, mode, user, group } = file;
    let path = FilePath::parse(&text).map_err(|e| refuse(Component::Config, &text, e.to_string()))?;
    if let Some(reserved) = paths::reserved_directory(&path) {
        return Err(refuse(Component::Config, &text, format!("lies in {reserved}, which the agent keeps for itself")));
    }
    let content = match content_encoding {
        None | Some(ContentEncoding::Plain) => content.into_bytes(),
        Some(ContentEncoding::Base64) => base64::engine::general_purpose::STANDARD
            .decode(content.as_bytes())
            .map_err(|e| refuse(Component::Config, &text, format!("content is not base64: {e}")))?,
    };
    let mode = mode.unwrap_or(0o644);
    if mode > 0o7777 {
        return Err(refuse(
            Component::Config,
            &text,
            format!("mode {mode} is not made of permission bits (0 to 4095)"),
        ));
    }
    let name_or_root = |name: Option<String>| name.filter(|n| !n.is_empty()).unwrap_or_else(|| "root".to_owned());
    Ok(WantedFile { path, content, mode, user: name_or_root(user), group: name_or_root(group) })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn body(version: &str, spec: &Value) -> Vec<u8> {
        let annotations = json!({"device-controller/renderedVersion": version});
        json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device",
            "metadata": {"name": "d", "annotations": annotations}, "spec": spec})
        .to_string()
        .into_bytes()
    }

    fn inline(files: &Value) -> Value {
        json!({"config": [{"name": "", "inline": files}]})
    }

    fn failure_of(spec: &Value) -> String {
        Document::parse(&body("3", spec)).unwrap().files.unwrap_err().to_string()
    }

    #[test]
    fn files_are_decoded_and_the_later_provider_wins() {
        let spec = json!({"config": [
            {"name": "a", "inline": [{"path": "/etc/motd", "content": "aGkK", "contentEncoding": "base64", "mode": 384}]},
            {"name": "b", "inline": [{"path": "/etc/motd", "content": "hello"}, {"path": "/etc/a", "content": "", "group": ""}]},
        ], "applications": [], "os": {"image": ""}, "consoles": [{"sessionID": "x"}]});
        let document = Document::parse(&body("7", &spec)).unwrap();
        assert_eq!(document.version.get(), 7);
        let files = document.files.unwrap();
        assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["/etc/a", "/etc/motd"]);
        assert_eq!((files[1].content.as_slice(), files[1].mode), (b"hello".as_slice(), 0o644));
        assert_eq!(files[0].group, "root");
        let mut quiet = spec;
        quiet.as_object_mut().unwrap().remove("consoles");
        assert_eq!(Document::parse(&body("7", &quiet)).unwrap().digest, document.digest);
    }

    #[test]
    fn what_the_agent_cannot_do_is_refused_as_a_whole_and_by_name() {
        let file = json!([{"path": "/etc/motd", "content": "x"}]);
        let mut spec = inline(&file);
        spec["applications"] = json!([{"name": "web"}]);
        assert!(failure_of(&spec).contains("applications are not supported by this agent"));
        for (field, value) in
            [("os", json!({"image": "quay.io/a/b:c"})), ("decommissioning", json!({"target": "Unenroll"}))]
        {
            let mut spec = inline(&file);
            spec[field] = value;
            assert!(failure_of(&spec).contains("not supported"), "{field}");
        }
    }

    #[test]
    fn bad_files_are_named() {
        for (file, part) in [
            (json!({"path": "/etc/../x", "content": ""}), "/etc/../x"),
            (json!({"path": "/etc/x", "content": "%%", "contentEncoding": "base64"}), "not base64"),
            (json!({"path": "/etc/x", "content": "", "mode": 65536}), "mode 65536"),
            (json!({"path": "/var/lib/fleet-agent/state.json", "content": ""}), "keeps for itself"),
            (json!({"path": "/etc/x"}), "content"),
        ] {
            let told = failure_of(&inline(&json!([file])));
            assert!(told.contains(part), "{told}");
        }
        let nested = inline(&json!([{"path": "/a/b", "content": ""}, {"path": "/a/b/c", "content": ""}]));
        assert!(failure_of(&nested).contains("both a file and the directory"));
        assert!(Document::parse(b"{}").is_err() && Document::parse(&body("x", &json!({}))).is_err());
    }

    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-zA-Z0-9/._ -]{0,12}".prop_map(Value::from),
            prop::sample::select(vec!["/etc/motd", "base64", "root", "/../x"]).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let keys = prop::sample::select(vec![
                "config",
                "inline",
                "path",
                "content",
                "contentEncoding",
                "mode",
                "user",
                "group",
                "os",
                "applications",
                "name",
                "gitRef",
                "consoles",
                "systemd",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((keys, inner), 0..5)
                    .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(spec in any_json(), noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let document = Document::parse(&body("1", &spec)).unwrap();
            if let Ok(files) = document.files {
                prop_assert!(files.iter().all(|f| f.mode <= 0o7777 && f.path.as_str().starts_with('/')));
            }
            let _ = Document::parse(&noise);
        }
    }
}
