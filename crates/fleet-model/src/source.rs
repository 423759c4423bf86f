//! Sources: a repository, a revision and a path that are kept in step with the database. Read-only on the API.

use serde::{Deserialize, Serialize};

use crate::{Condition, Diagnostic, ObjectMeta};

/// A source as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `shorebase/v1alpha1`.
    pub api_version: String,
    /// `Source`.
    pub kind: String,
    /// Name.
    pub metadata: ObjectMeta,
    /// Where it is.
    pub spec: SourceSpec,
    /// How far it is.
    pub status: SourceStatus,
}

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// The repository's URL, without credentials.
    pub url: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Directory or file from the repository's root.
    pub path: String,
    /// `config` for a source of the service's configuration, else `ResourceSync/<name>`.
    pub origin: String,
}

/// How far a source is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The newest commit seen at the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_commit: Option<String>,
    /// The commit that the database holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_commit: Option<String>,
    /// When it was applied (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<String>,
    /// When the host was last asked with success (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_polled_at: Option<String>,
    /// `Ready`, `SourceReachable`, `Parsed`.
    pub conditions: Vec<Condition>,
    /// Findings in the observed commit.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}
