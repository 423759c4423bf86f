//! Sources: a repository, a revision and a path that are kept in step with the database. Read-only on the API.

use serde::{Deserialize, Serialize};

use crate::{CommitId, Condition, Diagnostic, Digest, ObjectMeta};

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
    /// Where the newest commit stands, in a word: `Pending`, `Observed`, `Refused`, `Unverified`, `Held`, `Approved`,
    /// `Suspended`, `RollingOut`, `Settled`.
    #[serde(default)]
    pub state: String,
    /// The newest commit seen at the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_commit: Option<String>,
    /// The newest commit that satisfies the rules about signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_commit: Option<String>,
    /// The commit that the database holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_commit: Option<String>,
    /// The newest applied commit that all devices concerned were healthy on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_commit: Option<String>,
    /// Commits from the applied to the observed one. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_by: Option<i64>,
    /// How far the devices are with the applied commit.
    #[serde(default)]
    pub devices: SourceDevices,
    /// When it was applied (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<String>,
    /// Since when the settled commit is settled (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<String>,
    /// When the host was last asked with success (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_polled_at: Option<String>,
    /// When a webhook last announced a change (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hint_at: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled`, `SourceReachable`, `Verified`, `Parsed`, `Held`, `Suspended`,
    /// `InsecureTransport`.
    pub conditions: Vec<Condition>,
    /// Findings in the observed commit.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
    /// What the applied commit changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<SourcePlan>,
    /// The commit that waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<SourceHold>,
    /// Why nothing is applied for now, whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<SourceSuspension>,
}

/// Devices that a source decides about: those of its fleets, and those it gives a specification of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceDevices {
    /// All of them.
    pub total: i64,
    /// Those that have what the applied commit says, and are healthy.
    pub updated: i64,
    /// Those that cannot get there, or are in error.
    pub failed: i64,
}

/// A commit that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceHold {
    /// The commit.
    pub commit: String,
    /// Digest of its plan: what an approval names.
    pub digest: String,
    /// `BlastRadius`, `NonFastForward`, `PlanStale` or `Rejected`.
    pub reason: String,
    /// Why it is held, in sentences.
    pub sentences: Vec<String>,
    /// Since when (RFC 3339).
    pub since: String,
    /// Counts of the plan, and one sentence for people.
    pub summary: serde_json::Value,
    /// What was decided about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<SourceDecision>,
}

/// A decision on a held commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceDecision {
    /// Whether it may be applied.
    pub approved: bool,
    /// Who decided.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
    /// In their words; may be empty.
    pub reason: String,
}

/// A source that is looked at and not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceSuspension {
    /// In the words of whoever suspended it.
    pub reason: String,
    /// Who that is.
    pub by: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// Until when (RFC 3339); absent when it does not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How many objects that left Git, and whose grace is over, stay in force until it ends; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue_removals: Option<i64>,
}

/// The body of an approval: exactly this plan of exactly this commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceApproval {
    /// The plan's digest, in full: `sha256:` and 64 hex digits.
    pub digest: Digest,
    /// The commit, in full.
    pub commit: CommitId,
    /// Why, for others.
    #[serde(default)]
    pub reason: String,
}

/// The body of a rejection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceRejection {
    /// The plan's digest, in full.
    pub digest: Digest,
    /// Why, for others.
    #[serde(default)]
    pub reason: String,
}

/// The body that suspends a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspendSource {
    /// Why, for others; not empty.
    pub reason: String,
    /// Until when (RFC 3339); until somebody resumes it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// The body that resumes a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResumeSource {
    /// Why, for others.
    #[serde(default)]
    pub reason: String,
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
    /// Whether the commit is not applied and waits for a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Digest of the plan.
    pub digest: String,
    /// Counts, and one sentence for people.
    pub summary: serde_json::Value,
    /// Objects, and groups of devices with what each gets; not in lists. Names are cut short where there are very many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<serde_json::Value>,
}
