//! Sources that people suspended: looked at, and not applied. Durable: they outlive desired state.

use fleet_model::OrgId;
use sqlx::PgConnection;

use crate::{StoreResult, Ts};

/// Why and by whom a source is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// In the words of whoever suspended it.
    pub reason: String,
    /// Who that is: `user:<name>`.
    pub by: String,
    /// Until when; `None`: until somebody resumes it.
    pub until: Option<Ts>,
}

/// The suspension of a source, also one that is over and was not ended yet.
///
/// # Errors
/// When the database fails.
pub async fn source_suspension(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
) -> StoreResult<Option<Suspension>> {
    Ok(sqlx::query_as!(
        Suspension,
        r#"select reason, suspended_by as by, expires_at as "until: Ts"
           from source_suspensions where org_id = $1 and source = $2"#,
        org.as_uuid(),
        source,
    )
    .fetch_optional(connection)
    .await?)
}

/// Suspends a source, or changes its suspension. Returns whether that is news. Waits for a transaction that applies a commit
/// of the source: when this one is committed, nothing more is applied.
///
/// # Errors
/// When the database fails.
pub async fn suspend_source(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    suspension: &Suspension,
    at: Ts,
) -> StoreResult<bool> {
    let busy = "select from desired.sources where org_id = $1 and name = $2 for share";
    sqlx::query(busy).bind(org.as_uuid()).bind(source).execute(&mut *connection).await?;
    let done = sqlx::query!(
        "insert into source_suspensions as s (org_id, source, reason, suspended_by, suspended_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (org_id, source) do update
           set reason = excluded.reason, suspended_by = excluded.suspended_by, suspended_at = excluded.suspended_at,
               expires_at = excluded.expires_at
           where (s.reason, s.suspended_by, s.expires_at)
                 is distinct from (excluded.reason, excluded.suspended_by, excluded.expires_at)",
        org.as_uuid(),
        source,
        suspension.reason,
        suspension.by,
        at as _,
        suspension.until as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends the suspension of a source; with `over_at`, only one that is over then. Returns whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn end_suspension(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    over_at: Option<Ts>,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "delete from source_suspensions
         where org_id = $1 and source = $2 and ($3::timestamptz is null or expires_at <= $3)",
        org.as_uuid(),
        source,
        over_at as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
