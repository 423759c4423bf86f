//! Hints of webhooks: that a repository may have changed. Nothing is decided from them; they wake sources.

use fleet_model::OrgId;
use sqlx::{PgConnection, PgPool};

use crate::{Channel, StoreResult, Ts};

/// Where a source comes from: what a hint is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlace {
    /// Name.
    pub name: String,
    /// The repository's URL.
    pub url: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// The places of all sources, by name.
///
/// # Errors
/// When the database fails.
pub async fn source_places(pool: &PgPool, org: OrgId) -> StoreResult<Vec<SourcePlace>> {
    Ok(sqlx::query_as!(
        SourcePlace,
        "select name, url, revision from desired.sources where org_id = $1 order by name",
        org.as_uuid(),
    )
    .fetch_all(pool)
    .await?)
}

/// Notes that these sources were announced to have changed, and wakes them; one statement for all. It waits for no
/// transaction that applies a commit.
///
/// # Errors
/// When the database fails.
pub async fn announce_hints(pool: &PgPool, org: OrgId, sources: &[String]) -> StoreResult<()> {
    sqlx::query(
        "with noted as (
           insert into source_hints (org_id, source, hinted_at) select $1, name, now() from unnest($2::text[]) name
           on conflict (org_id, source) do update set hinted_at = excluded.hinted_at returning source)
         select pg_notify($3, source) from noted",
    )
    .bind(org.as_uuid())
    .bind(sources)
    .bind(Channel::Sources.as_str())
    .execute(pool)
    .await?;
    Ok(())
}

/// When a source was last announced to have changed; `None` when no webhook ever did.
///
/// # Errors
/// When the database fails.
pub async fn last_hint(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<Option<Ts>> {
    Ok(sqlx::query_scalar!(
        r#"select hinted_at as "hinted_at: Ts" from source_hints where org_id = $1 and source = $2"#,
        org.as_uuid(),
        source,
    )
    .fetch_optional(connection)
    .await?)
}
