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
    /// When a webhook last announced a change (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hint_at: Option<String>,
    /// `Ready`, `SourceReachable`, `Parsed`.
    pub conditions: Vec<Condition>,
    /// Findings in the observed commit.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
    /// What the applied commit changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<SourcePlan>,
}

/// The plan of a source's applied commit, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePlan {
    /// Digest of the plan: `fleetctl plan` gives the same for the same change and devices.
    pub digest: String,
    /// The commit.
    pub commit: String,
    /// Counts, and one sentence for people.
    pub summary: serde_json::Value,
}

/// What an applied commit changed, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPlan {
    /// `shorebase/v1alpha1`.
    pub api_version: String,
    /// `Plan`.
    pub kind: String,
    /// The commit as the name, the source as the owner, when it was made.
    pub metadata: ObjectMeta,
    /// Which change.
    pub spec: AppliedPlanSpec,
    /// What it means.
    pub status: AppliedPlanStatus,
}

/// The change that a plan is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPlanSpec {
    /// The source.
    pub source: String,
    /// The commit that was applied.
    pub commit: String,
    /// The commit the source was at before; absent for its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
}

/// What a change means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPlanStatus {
    /// Digest of the plan.
    pub digest: String,
    /// Counts, and one sentence for people.
    pub summary: serde_json::Value,
    /// Objects, and groups of devices with what each gets; not in lists. Names are cut short where there are very many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<serde_json::Value>,
}
