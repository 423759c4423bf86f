//! Manifests as the read API shows them, and where an object of desired state is defined.

use fleet_model::{Kind, OrgId};
use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::read_filter::{Field, ListQuery, Page};
use crate::{StoreResult, Ts};

const NAME: Field = Field::text("metadata.name", "m.name");
const OWNER: Field = Field::text(
    "metadata.owner",
    "(case when s.origin like 'ResourceSync/%' then s.origin else 'Source/' || m.source end)",
);
const LABELS: &str = "coalesce(m.document #> '{metadata,labels}', '{}')";

/// The fields that fleets can be filtered by.
pub const FLEET_FIELDS: &[Field] =
    &[NAME, OWNER, Field::text("spec.template.spec.os.image", "(m.document #>> '{spec,template,spec,os,image}')")];
/// The fields that repositories can be filtered by.
pub const REPOSITORY_FIELDS: &[Field] = &[
    NAME,
    OWNER,
    Field::text("spec.type", "(m.document #>> '{spec,type}')"),
    Field::text("spec.url", "(m.document #>> '{spec,url}')"),
];
/// The fields that resource syncs can be filtered by.
pub const RESOURCE_SYNC_FIELDS: &[Field] = &[
    NAME,
    OWNER,
    Field::text("spec.repository", "(m.document #>> '{spec,repository}')"),
    Field::text("spec.type", "coalesce(m.document #>> '{spec,type}', 'fleet')"),
];

/// A manifest and where it comes from.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ManifestRecord {
    /// Name.
    pub name: String,
    /// The source it comes from.
    pub source: String,
    /// The source's origin: `config` or `ResourceSync/<name>`.
    pub origin: Option<String>,
    /// The file in the repository.
    pub file: String,
    /// The line its document begins at.
    pub line: i32,
    /// The whole document.
    #[sqlx(json)]
    pub document: serde_json::Value,
    /// The commit that changed it last.
    pub commit_id: String,
    /// Counts its changes.
    pub generation: i64,
    /// Of an object that left Git, or whose source leaves: the commit that did it.
    pub removed_by: Option<String>,
    /// When that was applied.
    pub removed_at: Option<Ts>,
    /// When the grace is over.
    pub expires_at: Option<Ts>,
}

impl ManifestRecord {
    /// The object that owns it: `ResourceSync/<name>`, or `Source/<name>` for a source of the configuration.
    pub fn owner(&self) -> String {
        match &self.origin {
            Some(origin) if origin.starts_with("ResourceSync/") => origin.clone(),
            _ => format!("Source/{}", self.source),
        }
    }
}

const FROM: &str = "from desired.manifests m left join desired.sources s on s.org_id = m.org_id and s.name = m.source";

/// Its own tombstone, or that of the ResourceSync that brought its source in; the one that ends first.
const TOMBSTONE: &str = "left join lateral (
    select t.removed_by, t.removed_at, t.expires_at from tombstones t
    where t.org_id = m.org_id and m.leaving
      and (t.kind = m.kind and t.name = m.name or t.kind = 'ResourceSync' and s.origin = 'ResourceSync/' || t.name)
    order by t.expires_at limit 1) t on true";

/// A page of manifests of one kind, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(pool: &PgPool, org: OrgId, kind: Kind, query: &ListQuery) -> StoreResult<Page<ManifestRecord>> {
    let mut sql = QueryBuilder::<Postgres>::new(format!(
        "select m.name, m.source, s.origin, m.file, m.line, m.document, m.commit_id, m.generation,
                t.removed_by, t.removed_at, t.expires_at {FROM} {TOMBSTONE} where m.org_id = "
    ));
    sql.push_bind(org.as_uuid()).push(" and m.kind = ").push_bind(kind.as_str());
    query.push_filter(&mut sql, LABELS);
    query.push_page(&mut sql, "m.name");
    Ok(Page::cut(sql.build_query_as().fetch_all(pool).await?, query.limit))
}

/// How many manifests the query selects after its page's begin.
///
/// # Errors
/// When the database fails.
pub async fn count(pool: &PgPool, org: OrgId, kind: Kind, query: &ListQuery) -> StoreResult<i64> {
    let mut sql = QueryBuilder::<Postgres>::new(format!("select count(*) {FROM} where m.org_id = "));
    sql.push_bind(org.as_uuid()).push(" and m.kind = ").push_bind(kind.as_str());
    query.push_filter(&mut sql, LABELS);
    if let Some(after) = &query.after {
        sql.push(" and m.name > ").push_bind(after.clone());
    }
    Ok(sql.build_query_scalar().fetch_one(pool).await?)
}

/// One manifest; `None` when there is none of this kind and name.
///
/// # Errors
/// When the database fails.
pub async fn get(pool: &PgPool, org: OrgId, kind: Kind, name: &str) -> StoreResult<Option<ManifestRecord>> {
    Ok(list(pool, org, kind, &ListQuery::named(NAME, name)).await?.items.pop())
}

/// Where an object of desired state is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLocation {
    /// The source.
    pub source: String,
    /// The repository's URL; `None` while the source is being made again.
    pub url: Option<String>,
    /// The branch or tag that is followed.
    pub revision: Option<String>,
    /// The file in the repository.
    pub file: String,
    /// The line its document begins at.
    pub line: i32,
}

/// Where an object is defined; `None` when nowhere.
///
/// # Errors
/// When the database fails.
pub async fn locate(pool: &PgPool, org: OrgId, kind: Kind, name: &str) -> StoreResult<Option<ManifestLocation>> {
    Ok(sqlx::query_as!(
        ManifestLocation,
        r#"select m.source, s.url as "url?", s.revision as "revision?", m.file, m.line
           from desired.manifests m left join desired.sources s on s.org_id = m.org_id and s.name = m.source
           where m.org_id = $1 and m.kind = $2 and m.name = $3"#,
        org.as_uuid(),
        kind.as_str(),
        name,
    )
    .fetch_optional(pool)
    .await?)
}

/// What is known of a repository's host.
#[derive(Debug, Clone)]
pub struct DependencyRecord {
    /// The repository's name.
    pub repository: String,
    /// The branch, tag or commit.
    pub revision: String,
    /// The commit it is pinned to.
    pub commit_id: Option<String>,
    /// When the host was last asked.
    pub last_polled_at: Option<Ts>,
    /// What went wrong then.
    pub error: Option<String>,
}

/// What is known of the hosts of these repositories.
///
/// # Errors
/// When the database fails.
pub async fn dependencies(pool: &PgPool, org: OrgId, repositories: &[String]) -> StoreResult<Vec<DependencyRecord>> {
    Ok(sqlx::query_as!(
        DependencyRecord,
        r#"select repository, revision, commit_id, last_polled_at as "last_polled_at: Ts", error
           from desired.dependencies where org_id = $1 and repository = any($2) order by repository, revision"#,
        org.as_uuid(),
        repositories,
    )
    .fetch_all(pool)
    .await?)
}
