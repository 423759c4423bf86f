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
        /// How to talk to it; `https` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheme: Option<OciScheme>,
        /// What it may be used for; `Read` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_mode: Option<AccessMode>,
        /// Refused: plain-text credential.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oci_auth: Option<OciAuth>,
        /// Base64 of the PEM certificates to trust.
        #[serde(default, rename = "ca.crt", skip_serializing_if = "Option::is_none")]
        ca_crt: Option<String>,
        /// Do not check the server's certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skip_server_verification: Option<bool>,
        /// Images of the registry that people may build upon.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base_images: Option<Vec<BaseImage>>,
    },
}

/// How to talk to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OciScheme {
    /// Without encryption.
    Http,
    /// With TLS.
    Https,
}

/// What a registry may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AccessMode {
    /// Images are pulled.
    Read,
    /// Images are pulled and pushed.
    ReadWrite,
}

/// Credentials of a registry, by their type. Refused in a manifest: name a credential in the service's configuration
/// instead.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "authType", rename_all = "camelCase", deny_unknown_fields)]
pub enum OciAuth {
    /// Name and password.
    Docker {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
}

/// Without the credentials.
impl std::fmt::Debug for OciAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OciAuth").finish_non_exhaustive()
    }
}

/// An image that people may build upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseImage {
    /// The image's name in the registry, unique in the list.
    pub image_name: String,
    /// The tags to choose from, at least one.
    pub tags: Vec<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// HTTP settings of a repository. Credentials in plain text are refused in a manifest: name a credential in the
/// service's configuration instead.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Without the credentials.
impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("skip_server_verification", &self.skip_server_verification)
            .finish_non_exhaustive()
    }
}

/// SSH settings of a repository.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Without the credentials.
impl std::fmt::Debug for SshConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshConfig")
            .field("skip_server_verification", &self.skip_server_verification)
            .finish_non_exhaustive()
    }
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
    /// What is brought in; `fleet` when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub sync_type: Option<SyncType>,
    /// The name of a Repository of type `git`.
    pub repository: String,
    /// Branch, tag or commit.
    pub target_revision: String,
    /// A directory or a file in the repository.
    pub path: String,
}

/// Which kind of thing a resource sync brings in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SyncType {
    /// Manifests of every kind.
    Fleet,
    /// Catalogues and their items.
    Catalog,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_print() {
        for text in [
            r#"{"type":"git","url":"https://h/r","httpConfig":{"username":"s3cret","password":"s3cret","token":"s3cret","tls.crt":"s3cret","tls.key":"s3cret"},"sshConfig":{"sshPrivateKey":"s3cret","privateKeyPassphrase":"s3cret"}}"#,
            r#"{"type":"oci","registry":"h","ociAuth":{"authType":"docker","username":"s3cret","password":"s3cret"}}"#,
        ] {
            let spec: RepositorySpec = serde_json::from_str(text).unwrap();
            assert!(!format!("{spec:?}").contains("s3cret"), "{spec:?}");
        }
    }
}
