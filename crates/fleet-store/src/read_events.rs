//! Events, newest first or oldest first; and organisations.

use fleet_model::OrgId;
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::read_filter::{Field, ListQuery, Page};
use crate::{StoreResult, Ts};

/// The fields that events can be filtered by.
pub const FIELDS: &[Field] = &[
    Field::text("metadata.name", "e.id::text"),
    Field::text("metadata.owner", "(null::text)"),
    Field::time("metadata.creationTimestamp", "e.at"),
    Field::text("reason", "e.reason"),
    Field::text("type", "e.type"),
    Field::text("actor", "e.actor"),
    Field::text("involvedObject.kind", "e.kind"),
    Field::text("involvedObject.name", "e.name"),
];

/// What was done, by whom.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EventRecord {
    /// Grows with time.
    pub id: i64,
    /// When.
    pub at: Ts,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// One CamelCase word for programs.
    pub reason: String,
    /// `Normal` or `Warning`.
    #[sqlx(rename = "type")]
    pub event_type: String,
    /// One sentence for people.
    pub message: String,
    /// `user:<name>` or `service:<part>`.
    pub actor: String,
    /// More for programs.
    pub details: Option<Json<serde_json::Value>>,
}

/// The order of a list of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOrder {
    /// Oldest first.
    OldestFirst,
    /// Newest first.
    NewestFirst,
}

/// A page of events that begins after the event `after`; `query.after` is not looked at.
///
/// # Errors
/// When the database fails.
pub async fn list(
    pool: &PgPool,
    org: OrgId,
    query: &ListQuery,
    order: EventOrder,
    after: Option<i64>,
) -> StoreResult<Page<EventRecord>> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "select e.id, e.at, e.kind, e.name, e.reason, e.type, e.message, e.actor, e.details from events e where e.org_id = ",
    );
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "'{}'::jsonb");
    let (beyond, direction) = match order {
        EventOrder::OldestFirst => (" and e.id > ", "asc"),
        EventOrder::NewestFirst => (" and e.id < ", "desc"),
    };
    if let Some(after) = after {
        sql.push(beyond).push_bind(after);
    }
    sql.push(format_args!(" order by e.id {direction} limit {}", i64::from(query.limit) + 1));
    Ok(Page::cut(sql.build_query_as().fetch_all(pool).await?, query.limit))
}

/// An organisation.
#[derive(Debug, Clone)]
pub struct OrgRecord {
    /// Id.
    pub id: uuid::Uuid,
    /// Name.
    pub name: String,
    /// When it was made.
    pub created_at: Ts,
}

/// All organisations.
///
/// # Errors
/// When the database fails.
pub async fn organizations(pool: &PgPool) -> StoreResult<Vec<OrgRecord>> {
    Ok(sqlx::query_as!(OrgRecord, r#"select id, name, created_at as "created_at: Ts" from orgs order by name"#)
        .fetch_all(pool)
        .await?)
}
