//! Devices: what they should be (specification) and what they say they are (status).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Application, Condition, DeviceConsole, DeviceDecommission, ObjectMeta, OsSpec, ResourceMonitor, SystemdSpec,
    UpdatePolicy,
};

/// Annotation keys on devices that are part of the agent protocol, and ours.
pub mod annotations {
    /// The device's rendered version, decimal.
    pub const RENDERED_VERSION: &str = "device-controller/renderedVersion";
    /// Hex SHA-256 of the rendered specification.
    pub const RENDERED_SPEC_HASH: &str = "device-controller/renderedSpecHash";
    /// Request header of a poll, ours: the [`RENDERED_SPEC_HASH`] of the document that the device decided on last.
    pub const SPEC_HASH_HEADER: &str = "shorebase-spec-hash";
    /// The fleet revision the device should be at.
    pub const TEMPLATE_VERSION: &str = "fleet-controller/templateVersion";
    /// The fleet revision the rendered document was made from.
    pub const RENDERED_TEMPLATE_VERSION: &str = "fleet-controller/renderedTemplateVersion";
    /// Why the newest fleet revision could not be rendered for the device.
    pub const LAST_ROLLOUT_ERROR: &str = "fleet-controller/lastRolloutError";
    /// The source that the rendered document came from.
    pub const SOURCE: &str = "shorebase/source";
    /// The Git commit that the rendered document came from.
    pub const COMMIT: &str = "shorebase/commit";
    /// Of a Repository: the name of the service's credential that it is read with.
    pub const CREDENTIAL: &str = "shorebase/credential";
    /// Of an object that left Git: the commit without it.
    pub const REMOVED_BY: &str = "shorebase/removed-by";
    /// Of an object that left Git: when its grace is over (RFC 3339).
    pub const IN_FORCE_UNTIL: &str = "shorebase/in-force-until";
}

/// A device: in Git its labels and stand-alone specification, on the API also its status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// `flightctl.io/v1beta1`.
    pub api_version: String,
    /// `Device`.
    pub kind: String,
    /// Name (the key fingerprint) and labels.
    pub metadata: ObjectMeta,
    /// What a device outside any fleet should be. A fleet's template takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<DeviceSpec>,
    /// What the device reported last. Never part of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub status: Option<DeviceStatus>,
}

/// What a device should be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceSpec {
    /// The operating-system image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<OsSpec>,
    /// Files on the device, from several providers; where two provide one path the later one wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Vec<ConfigProvider>>,
    /// Workloads on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applications: Option<Vec<Application>>,
    /// The systemd units to report on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<SystemdSpec>,
    /// Resource monitors with their alert rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceMonitor>>,
    /// When downloads and updates may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<UpdatePolicy>,
    /// Set by the service only: consoles that wait for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub consoles: Option<Vec<DeviceConsole>>,
    /// Set by the service only: the device is to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub decommissioning: Option<DeviceDecommission>,
}

/// A named provider of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfigProvider {
    /// The provider's name, unique in the specification.
    pub name: String,
    /// Where the files come from.
    #[serde(flatten)]
    pub source: ConfigSource,
}

/// Where the files of a provider come from; exactly one is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ConfigSource {
    /// Files written in the manifest itself.
    Inline(Vec<FileSpec>),
    /// Files of a directory, or one file, in a Git repository.
    GitRef(GitRef),
    /// One file from a web server.
    HttpRef(HttpRef),
    /// Files from a Kubernetes secret.
    SecretRef(SecretRef),
}

/// Files in a Git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitRef {
    /// The name of a Repository, or `.` for the repository and commit that the manifest itself lies in.
    pub repository: String,
    /// Branch, tag or commit. With repository `.` it may be left out or `HEAD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_revision: Option<String>,
    /// A directory, laid over `/` of the device, or one file, which lands at `/<its name>`. Relative to the
    /// repository's root; a leading `/` is allowed.
    pub path: String,
}

/// One file from a web server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRef {
    /// The name of a Repository of type `http`.
    pub repository: String,
    /// Appended to the Repository's URL; may have a query. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Absolute path of the file on the device. May have placeholders in a fleet's template.
    pub file_path: String,
}

/// The entries of a Kubernetes secret, each as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The secret's name. May have placeholders in a fleet's template.
    pub name: String,
    /// The secret's namespace. May have placeholders in a fleet's template.
    pub namespace: String,
    /// Absolute path of the directory on the device. May have placeholders in a fleet's template.
    pub mount_path: String,
    /// Owner of the files: a name or a numeric id; `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group of the files: a name or a numeric id; `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// One file on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSpec {
    /// Absolute path on the device.
    pub path: String,
    /// The contents, encoded as `contentEncoding` says.
    pub content: String,
    /// How `content` is encoded; plain text when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<ContentEncoding>,
    /// Unix permission bits as a number: 420 is 0644, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner: a name or a numeric id; `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group: a name or a numeric id; `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// How file contents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ContentEncoding {
    /// As they are.
    Plain,
    /// Base64 with the standard alphabet and padding.
    Base64,
}

/// The answer to a rendered poll, as the agent reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedDevice {
    /// `flightctl.io/v1beta1`.
    pub api_version: String,
    /// `Device`.
    pub kind: String,
    /// Name, labels, and in [`annotations`] the rendered version and hash.
    pub metadata: ObjectMeta,
    /// The rendered specification: one inline provider, no placeholders.
    pub spec: DeviceSpec,
}

/// What a device says of itself. Parts that this version does not look into are kept as they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// `Updating` and others.
    pub conditions: Vec<Condition>,
    /// The machine.
    pub system_info: SystemInfo,
    /// systemd units, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<Vec<serde_json::Value>>,
    /// Applications, one entry each.
    pub applications: Vec<serde_json::Value>,
    /// `{status: Healthy|Degraded|Error|Unknown|NoApplications, info?}`.
    pub applications_summary: StatusWord,
    /// `{cpu, memory, disk}`, each `Healthy|Warning|Critical|Error|Unknown`.
    pub resources: serde_json::Value,
    /// `{status: Verified|Failed|Unknown|Unsupported, …}`.
    pub integrity: serde_json::Value,
    /// The rendered version that is applied.
    pub config: ConfigStatus,
    /// The booted image: `{image, imageDigest}`; both empty in package mode.
    pub os: serde_json::Value,
    /// `{status: UpToDate|OutOfDate|Updating|Unknown, info?}`.
    pub updated: StatusWord,
    /// `{status: Online|Degraded|Error|Rebooting|PoweredOff|Unknown|…, info?}`.
    pub summary: StatusWord,
    /// `{status: Unknown|Enrolled|Decommissioning|Decommissioned, info?}`.
    pub lifecycle: StatusWord,
    /// `{osMode: image|package}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<serde_json::Value>,
    /// What an agent newer than this service sends.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// A one-word status with an optional sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusWord {
    /// The word.
    pub status: String,
    /// The sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
}

impl StatusWord {
    /// A word without a sentence.
    pub fn new(status: &str) -> Self {
        Self { status: status.to_owned(), info: None }
    }
}

/// The configuration that is applied on the device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Decimal rendered version.
    pub rendered_version: String,
}

/// Facts about the machine: four that are always there, others by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemInfo {
    /// CPU architecture, in Go's terms (`amd64`, `arm64`).
    pub architecture: String,
    /// The kernel's boot id.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// `linux`.
    pub operating_system: String,
    /// The agent's version.
    pub agent_version: String,
    /// Facts collected by scripts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_info: BTreeMap<String, String>,
    /// Further facts: `hostname`, `productSerial`, `netIpDefault` …
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

impl SystemInfo {
    /// A fact by its key: `architecture`, `hostname`, `productSerial`, `customInfo.<key>` …
    pub fn get(&self, key: &str) -> Option<&str> {
        match key {
            "architecture" => Some(&self.architecture),
            "bootID" => Some(&self.boot_id),
            "operatingSystem" => Some(&self.operating_system),
            "agentVersion" => Some(&self.agent_version),
            _ => match key.strip_prefix("customInfo.") {
                Some(custom) => self.custom_info.get(custom).map(String::as_str),
                None => self.more.get(key).and_then(serde_json::Value::as_str),
            },
        }
    }
}
