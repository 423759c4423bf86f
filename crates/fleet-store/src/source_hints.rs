//! Hints of webhooks: that a repository may have changed. Nothing is decided from them; they wake sources.

use std::collections::BTreeSet;

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

/// The repositories that sources take content from, each with the source and the revision; `HEAD` stands for any.
///
/// # Errors
/// When the database fails.
pub async fn taken_places(pool: &PgPool, org: OrgId) -> StoreResult<Vec<SourcePlace>> {
    Ok(sqlx::query_as!(
        SourcePlace,
        r#"select t.source as name, m.document #>> '{spec,url}' as "url!", t.revision
           from desired.takes_from t
           join desired.manifests m on m.org_id = t.org_id and m.kind = 'Repository' and m.name = t.repository
           where t.org_id = $1 and m.document #>> '{spec,url}' is not null order by t.source"#,
        org.as_uuid(),
    )
    .fetch_all(pool)
    .await?)
}

/// Writes down what a source takes content from: names of Repositories and revisions, `HEAD` for any.
///
/// # Errors
/// When the database fails.
pub async fn replace_taken(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    taken: &BTreeSet<(String, String)>,
) -> StoreResult<()> {
    let repositories: Vec<String> = taken.iter().map(|(repository, _)| repository.clone()).collect();
    let revisions: Vec<String> = taken.iter().map(|(_, revision)| revision.clone()).collect();
    sqlx::query!(
        "delete from desired.takes_from t
         where t.org_id = $1 and t.source = $2
           and not exists (select from unnest($3::text[], $4::text[]) as new (repository, revision)
                           where new.repository = t.repository and new.revision = t.revision)",
        org.as_uuid(),
        source,
        &repositories,
        &revisions,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into desired.takes_from (org_id, source, repository, revision)
         select $1, $2, new.repository, new.revision from unnest($3::text[], $4::text[]) as new (repository, revision)
         on conflict do nothing",
        org.as_uuid(),
        source,
        &repositories,
        &revisions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that these sources were announced to have changed, and wakes them and those in `woken`, of which other repositories
/// were announced; one statement for all. It waits for no transaction that applies a commit.
///
/// # Errors
/// When the database fails.
pub async fn announce_hints(pool: &PgPool, org: OrgId, sources: &[String], woken: &[String]) -> StoreResult<()> {
    sqlx::query(
        "with noted as (
           insert into source_hints (org_id, source, hinted_at) select $1, name, now() from unnest($2::text[]) name
           on conflict (org_id, source) do update set hinted_at = excluded.hinted_at returning source)
         select pg_notify($4, source) from (select source from noted union select unnest($3::text[])) as all_of_them (source)",
    )
    .bind(org.as_uuid())
    .bind(sources)
    .bind(woken)
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
