//! What the service derived from fleets: their newest revision, and the revisions themselves.

use std::collections::BTreeMap;

use fleet_model::OrgId;
use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::read_filter::{Field, ListQuery, Page};
use crate::{StoreResult, Ts};

/// A fleet's state.
#[derive(Debug, Clone)]
pub struct FleetState {
    /// The fleet.
    pub name: String,
    /// Its newest revision.
    pub revision: Option<String>,
    /// Why no revision could be made of the newest template.
    pub problem: Option<String>,
}

/// The states of these fleets, by name.
///
/// # Errors
/// When the database fails.
pub async fn states(pool: &PgPool, org: OrgId, fleets: &[String]) -> StoreResult<BTreeMap<String, FleetState>> {
    let rows = sqlx::query_as!(
        FleetState,
        "select name, revision, problem from desired.fleets where org_id = $1 and name = any($2)",
        org.as_uuid(),
        fleets,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name.clone(), row)).collect())
}

const NAME: Field = Field::text("metadata.name", "r.name");
/// The fields that revisions can be filtered by.
pub const REVISION_FIELDS: &[Field] = &[
    NAME,
    Field::text("metadata.owner", "('Fleet/' || r.fleet)"),
    Field::time("metadata.creationTimestamp", "r.created_at"),
];

/// An immutable snapshot of a fleet's template and its pinned inputs.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct RevisionRecord {
    /// The fleet.
    pub fleet: String,
    /// Derived from the content.
    pub name: String,
    /// The template's specification.
    #[sqlx(json)]
    pub template: serde_json::Value,
    /// One entry per pinned provider.
    #[sqlx(json)]
    pub inputs: serde_json::Value,
    /// The source.
    pub source: String,
    /// The commit.
    pub commit_id: String,
    /// When it was made.
    pub created_at: Ts,
}

/// A page of a fleet's revisions, by name.
///
/// # Errors
/// When the database fails.
pub async fn revisions(pool: &PgPool, org: OrgId, fleet: &str, query: &ListQuery) -> StoreResult<Page<RevisionRecord>> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "select r.fleet, r.name, coalesce(r.template -> 'spec', r.template) as template, r.inputs, r.source,
            r.commit_id, r.created_at
         from desired.fleet_revisions r where r.org_id = ",
    );
    sql.push_bind(org.as_uuid()).push(" and r.fleet = ").push_bind(fleet.to_owned());
    query.push_filter(&mut sql, "'{}'::jsonb");
    query.push_page(&mut sql, "r.name");
    Ok(Page::cut(sql.build_query_as().fetch_all(pool).await?, query.limit))
}

/// One revision of a fleet.
///
/// # Errors
/// When the database fails.
pub async fn revision(pool: &PgPool, org: OrgId, fleet: &str, name: &str) -> StoreResult<Option<RevisionRecord>> {
    Ok(revisions(pool, org, fleet, &ListQuery::named(NAME, name)).await?.items.pop())
}
