//! Repositories, and resource syncs that bring further repositories in.

use serde::{Deserialize, Serialize};

use crate::{Condition, ObjectMeta};

/// The repository name that stands for the repository and commit a manifest lies in.
pub const SELF_REPOSITORY: &str = ".";

/// A place that content comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// `flightctl.io/v1beta1`.
    pub api_version: String,
    /// `Repository`.
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// Where it is.
    pub spec: RepositorySpec,
    /// `{conditions}`. Never part of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub status: Option<ConditionsStatus>,
}

/// Conditions alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionsStatus {
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// Where a repository is, by its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RepositorySpec {
    /// A Git repository.
    Git {
        /// `https://…`, `ssh://…` or `user@host:path`.
        url: String,
        /// How to talk HTTP to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http_config: Option<HttpConfig>,
        /// How to talk SSH to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ssh_config: Option<SshConfig>,
    },
    /// A web server with files.
    Http {
        /// The base URL.
        url: String,
        /// How to talk HTTP to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http_config: Option<HttpConfig>,
        /// Appended to the URL to test whether the server answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation_suffix: Option<String>,
    },
    /// A registry of container images.
    Oci {
        /// Host and optional port, without scheme and path.
        registry: String,
        /// `https` (the default) or `http`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheme: Option<String>,
        /// `Read` (the default) or `ReadWrite`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_mode: Option<String>,
        /// Do not check the server's certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skip_server_verification: Option<bool>,
    },
}

/// HTTP settings of a repository. Credentials in plain text are refused in a manifest: name a credential in the
/// service's configuration instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpConfig {
    /// Base64 of the PEM certificates to trust.
    #[serde(default, rename = "ca.crt", skip_serializing_if = "Option::is_none")]
    pub ca_crt: Option<String>,
    /// Do not check the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_server_verification: Option<bool>,
    /// Refused: plain-text credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Refused: plain-text credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Refused: plain-text credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Refused: plain-text credential.
    #[serde(default, rename = "tls.crt", skip_serializing_if = "Option::is_none")]
    pub tls_crt: Option<String>,
    /// Refused: plain-text credential.
    #[serde(default, rename = "tls.key", skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<String>,
}

/// SSH settings of a repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshConfig {
    /// Refused: plain-text credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_private_key: Option<String>,
    /// Refused: plain-text credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_passphrase: Option<String>,
    /// Do not check the host key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_server_verification: Option<bool>,
}

/// Brings a repository's manifests in as one more source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResourceSync {
    /// `flightctl.io/v1beta1`.
    pub api_version: String,
    /// `ResourceSync`.
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// What to bring in.
    pub spec: ResourceSyncSpec,
    /// Observed commit and conditions. Never part of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub status: Option<serde_json::Value>,
}

/// What a resource sync brings in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSyncSpec {
    /// `fleet`, the default and only type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub sync_type: Option<String>,
    /// The name of a Repository of type `git`.
    pub repository: String,
    /// Branch, tag or commit.
    pub target_revision: String,
    /// A directory or a file in the repository.
    pub path: String,
}
