//! Sources as the read API shows them.

use fleet_model::{Condition, Diagnostic, OrgId};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::{RolloutProgress, StoreResult, Ts};

/// A source: where it is and how far it is.
#[derive(Debug, Clone)]
pub struct SourceRecord {
    /// Name.
    pub name: String,
    /// `config` or `ResourceSync/<name>`.
    pub origin: String,
    /// The repository's URL.
    pub url: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Directory or file.
    pub path: String,
    /// The newest commit seen at the host.
    pub observed_commit: Option<String>,
    /// The commit that the database holds.
    pub applied_commit: Option<String>,
    /// When it was applied.
    pub applied_at: Option<Ts>,
    /// The newest commit up to which no signature is missing.
    pub verified_commit: Option<String>,
    /// The newest applied commit that all devices concerned were healthy on.
    pub settled_commit: Option<String>,
    /// Since when.
    pub settled_at: Option<Ts>,
    /// Commits from the applied to the observed one, as far as known.
    pub behind_by: Option<i32>,
    /// How far the devices are.
    pub progress: RolloutProgress,
    /// When the host was last asked with success.
    pub last_polled_at: Option<Ts>,
    /// When a webhook last announced a change of it.
    pub last_hint_at: Option<Ts>,
    /// `Ready`, `SourceReachable`, `Parsed`, `Held`, `Suspended`.
    pub conditions: Json<Vec<Condition>>,
    /// Findings in the observed commit.
    pub diagnostics: Json<Vec<Diagnostic>>,
    /// Digest of the applied commit's plan, 32 bytes.
    pub plan_digest: Option<Vec<u8>>,
    /// Its summary.
    pub plan_summary: Option<serde_json::Value>,
    /// The commit that waits for a person.
    pub held: Option<HoldRecord>,
    /// Why nothing is applied for now.
    pub suspended: Option<SuspensionRecord>,
}

/// A held commit.
#[derive(Debug, Clone)]
pub struct HoldRecord {
    /// The commit.
    pub commit_id: String,
    /// Digest of its plan, 32 bytes.
    pub digest: Vec<u8>,
    /// `BlastRadius`, `NonFastForward` or `PlanStale`.
    pub reason: String,
    /// Why, in sentences.
    pub sentences: Vec<String>,
    /// The plan's summary.
    pub summary: serde_json::Value,
    /// Since when.
    pub held_at: Ts,
    /// Whether the plan may be applied, who says so, when and why.
    pub decision: Option<(bool, String, Ts, String)>,
}

/// A suspension.
#[derive(Debug, Clone)]
pub struct SuspensionRecord {
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: String,
    /// Since when.
    pub since: Ts,
    /// Until when.
    pub until: Option<Ts>,
    /// Objects that stay in force only because of it: they left Git, and their grace is over.
    pub overdue: i64,
}

/// All sources by name; there are few.
///
/// # Errors
/// When the database fails.
pub async fn list(pool: &PgPool, org: OrgId) -> StoreResult<Vec<SourceRecord>> {
    select(pool, org, None).await
}

/// One source.
///
/// # Errors
/// When the database fails.
pub async fn get(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<SourceRecord>> {
    Ok(select(pool, org, Some(name)).await?.pop())
}

async fn select(pool: &PgPool, org: OrgId, name: Option<&str>) -> StoreResult<Vec<SourceRecord>> {
    let rows = sqlx::query!(
        r#"select s.name, s.origin, s.url, s.revision, s.path, s.observed_commit, s.applied_commit,
             s.applied_at as "applied_at: Ts", s.last_polled_at as "last_polled_at: Ts",
             w.hinted_at as "last_hint_at?: Ts", s.verified_commit, s.settled_commit, s.settled_at as "settled_at: Ts", s.behind_by,
             s.devices, s.devices_updated, s.devices_failed,
             s.conditions as "conditions: Json<Vec<Condition>>", s.diagnostics as "diagnostics: Json<Vec<Diagnostic>>",
             p.digest as "plan_digest?", p.summary as "plan_summary?",
             h.commit_id as "held_commit?", h.digest as "held_digest?", h.reason as "held_reason?",
             h.sentences as "held_sentences?", h.summary as "held_summary?", h.held_at as "held_at?: Ts",
             h.approved, h.decided_by, h.decided_at as "decided_at?: Ts", h.decision_reason,
             u.reason as "suspension_reason?", u.suspended_by as "suspended_by?", u.suspended_at as "suspended_at?: Ts",
             u.expires_at as "expires_at?: Ts",
             (select count(*) from tombstones o
              where u.source is not null and o.org_id = s.org_id and o.expires_at <= now()
                and (o.source = s.name or o.kind = 'ResourceSync' and o.name = s.name)) as "overdue!"
           from desired.sources s
             left join desired.plans p on p.org_id = s.org_id and p.source = s.name and p.commit_id = s.applied_commit
             left join source_hints w on w.org_id = s.org_id and w.source = s.name
             left join source_holds h on h.org_id = s.org_id and h.source = s.name
             left join source_suspensions u on u.org_id = s.org_id and u.source = s.name
           where s.org_id = $1 and ($2::text is null or s.name = $2) order by s.name"#,
        org.as_uuid(),
        name,
    )
    .fetch_all(pool)
    .await?;
    let records = rows.into_iter().map(|row| {
        let decision = match (row.approved, row.decided_by, row.decided_at, row.decision_reason) {
            (Some(approved), Some(by), Some(at), Some(reason)) => Some((approved, by, at, reason)),
            (_, _, _, _) => None,
        };
        let plan = row.held_digest.zip(row.held_summary);
        let held = match (row.held_commit, plan, row.held_reason, row.held_sentences, row.held_at) {
            (Some(commit_id), Some((digest, summary)), Some(reason), Some(sentences), Some(held_at)) => {
                Some(HoldRecord { commit_id, digest, reason, sentences, summary, held_at, decision })
            }
            (_, _, _, _, _) => None,
        };
        let suspended = match (row.suspension_reason, row.suspended_by, row.suspended_at) {
            (Some(reason), Some(by), Some(since)) => {
                Some(SuspensionRecord { reason, by, since, until: row.expires_at, overdue: row.overdue })
            }
            (_, _, _) => None,
        };
        SourceRecord {
            name: row.name,
            origin: row.origin,
            url: row.url,
            revision: row.revision,
            path: row.path,
            observed_commit: row.observed_commit,
            applied_commit: row.applied_commit,
            applied_at: row.applied_at,
            verified_commit: row.verified_commit,
            settled_commit: row.settled_commit,
            settled_at: row.settled_at,
            behind_by: row.behind_by,
            progress: RolloutProgress {
                devices: row.devices,
                updated: row.devices_updated,
                failed: row.devices_failed,
            },
            last_polled_at: row.last_polled_at,
            last_hint_at: row.last_hint_at,
            conditions: row.conditions,
            diagnostics: row.diagnostics,
            plan_digest: row.plan_digest,
            plan_summary: row.plan_summary,
            held,
            suspended,
        }
    });
    Ok(records.collect())
}
