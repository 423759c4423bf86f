//! Plans as the read API shows them.

use fleet_model::OrgId;
use serde_json::Value;
use sqlx::PgPool;

use crate::{StoreResult, Ts};

/// A plan without its groups.
#[derive(Debug, Clone)]
pub struct PlanRecord {
    /// The source.
    pub source: String,
    /// The commit that was applied.
    pub commit_id: String,
    /// The commit the source was at before; `None` for its first.
    pub base_commit: Option<String>,
    /// The plan's digest, 32 bytes.
    pub digest: Vec<u8>,
    /// Counts, and one sentence for people.
    pub summary: Value,
    /// When it was made.
    pub created_at: Ts,
}

/// The plans of a source, newest first; there are at most [`KEEP_PLANS`](crate::KEEP_PLANS).
///
/// # Errors
/// When the database fails.
pub async fn list(pool: &PgPool, org: OrgId, source: &str) -> StoreResult<Vec<PlanRecord>> {
    Ok(sqlx::query_as!(
        PlanRecord,
        r#"select source, commit_id, base_commit, digest, summary, created_at as "created_at: Ts"
           from desired.plans where org_id = $1 and source = $2 order by created_at desc, commit_id"#,
        org.as_uuid(),
        source,
    )
    .fetch_all(pool)
    .await?)
}

/// A row with all that a plan says.
struct Row {
    source: String,
    commit_id: String,
    base_commit: Option<String>,
    digest: Vec<u8>,
    summary: Value,
    plan: Value,
    created_at: Ts,
}

impl Row {
    fn parts(self) -> (PlanRecord, Value) {
        let Self { source, commit_id, base_commit, digest, summary, plan, created_at } = self;
        (PlanRecord { source, commit_id, base_commit, digest, summary, created_at }, plan)
    }
}

/// The plan of a commit that waits for a person, and all it says. The base is the commit that is applied meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn get_held(
    pool: &PgPool,
    org: OrgId,
    source: &str,
    commit: &str,
) -> StoreResult<Option<(PlanRecord, Value)>> {
    let row = sqlx::query_as!(
        Row,
        r#"select source, commit_id, base_commit, digest, summary, plan, held_at as "created_at: Ts"
           from source_holds where org_id = $1 and source = $2 and commit_id = $3"#,
        org.as_uuid(),
        source,
        commit,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Row::parts))
}

/// One plan, and all it says.
///
/// # Errors
/// When the database fails.
pub async fn get(pool: &PgPool, org: OrgId, source: &str, commit: &str) -> StoreResult<Option<(PlanRecord, Value)>> {
    let row = sqlx::query_as!(
        Row,
        r#"select source, commit_id, base_commit, digest, summary, plan, created_at as "created_at: Ts"
           from desired.plans where org_id = $1 and source = $2 and commit_id = $3"#,
        org.as_uuid(),
        source,
        commit,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Row::parts))
}
