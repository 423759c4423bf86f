//! Plans: what applied commits changed. Written with the apply; nothing is decided from them.

use fleet_model::{CommitId, Digest, OrgId};
use serde_json::Value;
use sqlx::PgConnection;

use crate::{StoreResult, Ts};

/// So many plans are kept of each source, the newest ones.
pub const KEEP_PLANS: i64 = 50;

/// A plan to store.
#[derive(Debug, Clone)]
pub struct PlanRow<'a> {
    /// The source.
    pub source: &'a str,
    /// The commit that is applied.
    pub commit: &'a CommitId,
    /// The commit the source was at; `None` for its first.
    pub base: Option<&'a CommitId>,
    /// The plan's digest.
    pub digest: Digest,
    /// Counts, and one sentence for people.
    pub summary: Value,
    /// The whole plan.
    pub plan: Value,
}

/// Stores the plan of a commit, in place of one the commit has already, and removes those beyond [`KEEP_PLANS`].
///
/// # Errors
/// When the database fails.
pub async fn record_plan(connection: &mut PgConnection, org: OrgId, row: &PlanRow<'_>, at: Ts) -> StoreResult<()> {
    sqlx::query!(
        "insert into desired.plans (org_id, source, commit_id, base_commit, digest, summary, plan, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (org_id, source, commit_id) do update
           set base_commit = excluded.base_commit, digest = excluded.digest, summary = excluded.summary,
               plan = excluded.plan, created_at = excluded.created_at",
        org.as_uuid(),
        row.source,
        row.commit.as_str(),
        row.base.map(CommitId::as_str),
        row.digest.as_bytes(),
        row.summary,
        row.plan,
        at as _,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from desired.plans p using (
           select commit_id from desired.plans where org_id = $1 and source = $2
           order by created_at desc, commit_id offset $3) as old
         where p.org_id = $1 and p.source = $2 and p.commit_id = old.commit_id",
        org.as_uuid(),
        row.source,
        KEEP_PLANS,
    )
    .execute(connection)
    .await?;
    Ok(())
}
