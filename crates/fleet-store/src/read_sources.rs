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
    /// `Ready`, `SourceReachable`, `Parsed`.
    pub conditions: Json<Vec<Condition>>,
    /// Findings in the observed commit.
    pub diagnostics: Json<Vec<Diagnostic>>,
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
        r#"select name, origin, url, revision, path, observed_commit, applied_commit, applied_at as "applied_at: Ts",
             last_polled_at as "last_polled_at: Ts", conditions as "conditions: Json<Vec<Condition>>",
             diagnostics as "diagnostics: Json<Vec<Diagnostic>>"
           from desired.sources where org_id = $1 and ($2::text is null or name = $2) order by name"#,
        org.as_uuid(),
        name,
    )
    .fetch_all(pool)
    .await?)
}
