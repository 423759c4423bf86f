//! Sources as the read API shows them.

use fleet_model::{Condition, Diagnostic, OrgId};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::{StoreResult, Ts};

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
    /// When the host was last asked with success.
    pub last_polled_at: Option<Ts>,
    /// When a webhook last announced a change of it.
    pub last_hint_at: Option<Ts>,
    /// `Ready`, `SourceReachable`, `Parsed`.
    pub conditions: Json<Vec<Condition>>,
    /// Findings in the observed commit.
    pub diagnostics: Json<Vec<Diagnostic>>,
    /// Digest of the applied commit's plan, 32 bytes.
    pub plan_digest: Option<Vec<u8>>,
    /// Its summary.
    pub plan_summary: Option<serde_json::Value>,
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
    Ok(sqlx::query_as!(
        SourceRecord,
        r#"select s.name, s.origin, s.url, s.revision, s.path, s.observed_commit, s.applied_commit,
             s.applied_at as "applied_at: Ts", s.last_polled_at as "last_polled_at: Ts",
             h.hinted_at as "last_hint_at?: Ts",
             s.conditions as "conditions: Json<Vec<Condition>>", s.diagnostics as "diagnostics: Json<Vec<Diagnostic>>",
             p.digest as "plan_digest?", p.summary as "plan_summary?"
           from desired.sources s
             left join desired.plans p on p.org_id = s.org_id and p.source = s.name and p.commit_id = s.applied_commit
             left join source_hints h on h.org_id = s.org_id and h.source = s.name
           where s.org_id = $1 and ($2::text is null or s.name = $2) order by s.name"#,
        org.as_uuid(),
        name,
    )
    .fetch_all(pool)
    .await?)
}
