//! Devices as the read API shows them: the row, its status document, its heartbeat and the specification it follows.

use std::collections::BTreeMap;

use fleet_model::{Labels, OrgId};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::read_filter::{Field, ListQuery, Page};
use crate::{StoreResult, Ts};

/// A device that was not heard of for longer counts as disconnected; its health is then not known.
pub const DISCONNECTED_AFTER_MINUTES: u16 = 5;

/// SQL: whether the device is disconnected. A device that was never heard of is not: its words are `Unknown` anyway.
macro_rules! disconnected {
    () => {
        "coalesce(greatest(l.last_seen, s.received_at) < now() - make_interval(mins => 5), false)"
    };
}
const SUMMARY: &str = concat!("(case when ", disconnected!(), " then 'Unknown' else d.summary_status end)");
const APPLICATIONS: &str = concat!("(case when ", disconnected!(), " then 'Unknown' else d.applications_status end)");
const UPDATED: &str = concat!(
    "(case when d.updated_status = 'UpToDate' and (d.reported_version < d.rendered_version
                or d.render_error is not null or d.conflicting_fleets <> '{}') then 'OutOfDate'
      when d.updated_status = 'Updating' and ",
    disconnected!(),
    " then 'Unknown' else d.updated_status end)"
);

const NAME: Field = Field::text("metadata.name", "d.name");
/// The fields that devices can be filtered by.
pub const FIELDS: &[Field] = &[
    NAME,
    Field::text("metadata.owner", "('Fleet/' || d.owner_fleet)"),
    Field::time("metadata.creationTimestamp", "d.created_at"),
    Field::text("metadata.alias", "(d.labels ->> 'alias')"),
    Field::text("status.summary.status", SUMMARY),
    Field::text("status.updated.status", UPDATED),
    Field::text("status.applicationsSummary.status", APPLICATIONS),
    Field::text("status.lifecycle.status", "d.lifecycle_status"),
    Field::text("status.capabilities.osMode", "(s.document #>> '{capabilities,osMode}')"),
    Field::time("lastSeen", "greatest(l.last_seen, s.received_at)"),
];

/// A device with what hangs on it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct DeviceRecord {
    /// Name: the key fingerprint.
    pub name: String,
    /// When it was enrolled.
    pub created_at: Ts,
    /// The labels in force.
    #[sqlx(json)]
    pub labels: Labels,
    /// The fleet it belongs to.
    pub owner_fleet: Option<String>,
    /// Fleets that select it too, when several do.
    pub conflicting_fleets: Vec<String>,
    /// The fleet revision its rendered document was made from.
    pub fleet_revision: Option<String>,
    /// The fleet's newest revision.
    pub target_revision: Option<String>,
    /// The source of the rendered document.
    pub source: Option<String>,
    /// The commit of the rendered document.
    pub commit_id: Option<String>,
    /// The counter of rendered documents.
    pub rendered_version: i64,
    /// SHA-256 of the rendered document, raw.
    pub rendered_digest: Option<Vec<u8>>,
    /// Why the newest revision could not be rendered.
    pub render_error: Option<String>,
    /// The version the device reported.
    pub reported_version: i64,
    /// The summary in force: `Unknown` while the device is disconnected.
    pub summary_status: String,
    /// Whether it is up to date, seen from the service.
    pub updated_status: String,
    /// The applications' summary in force.
    pub applications_status: String,
    /// `Enrolled` and others.
    pub lifecycle_status: String,
    /// Whether it was not heard of for [`DISCONNECTED_AFTER_MINUTES`].
    pub disconnected: bool,
    /// Counts changes of the specification.
    pub generation: i64,
    /// Grows with every change that agents must see.
    pub change_seq: i64,
    /// The last heartbeat.
    pub last_seen: Option<Ts>,
    /// The status document as the device sent it.
    pub status: Option<Json<serde_json::Value>>,
    /// The specification it follows: its fleet revision's template, else its own manifest's.
    pub spec: Option<Json<serde_json::Value>>,
}

const FROM: &str = "
    from devices d
    left join device_status s on s.org_id = d.org_id and s.name = d.name
    left join device_liveness l on l.org_id = d.org_id and l.name = d.name";

fn select() -> String {
    format!(
        "select d.name, d.created_at, d.labels, d.owner_fleet, d.conflicting_fleets, d.fleet_revision,
            f.revision as target_revision, d.source, d.commit_id, d.rendered_version, d.rendered_digest, d.render_error,
            d.reported_version, {SUMMARY} as summary_status, {UPDATED} as updated_status,
            {APPLICATIONS} as applications_status, d.lifecycle_status, {} as disconnected, d.generation, d.change_seq,
            greatest(l.last_seen, s.received_at) as last_seen, s.document as status,
            case when d.owner_fleet is null then m.document -> 'spec' else coalesce(r.template -> 'spec', r.template) end as spec
         {FROM}
         left join desired.fleets f on f.org_id = d.org_id and f.name = d.owner_fleet
         left join desired.fleet_revisions r
            on r.org_id = d.org_id and r.fleet = d.owner_fleet and r.name = coalesce(d.fleet_revision, f.revision)
         left join desired.manifests m on m.org_id = d.org_id and m.kind = 'Device' and m.name = d.name
         where d.org_id = ",
        disconnected!()
    )
}

/// A page of devices, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<Page<DeviceRecord>> {
    let mut sql = QueryBuilder::new(select());
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "d.labels");
    query.push_page(&mut sql, "d.name");
    Ok(Page::cut(sql.build_query_as().fetch_all(pool).await?, query.limit))
}

/// How many devices the query selects after its page's begin.
///
/// # Errors
/// When the database fails.
pub async fn count(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<i64> {
    let mut sql = QueryBuilder::<Postgres>::new(format!("select count(*) {FROM} where d.org_id = "));
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "d.labels");
    if let Some(after) = &query.after {
        sql.push(" and d.name > ").push_bind(after.clone());
    }
    Ok(sql.build_query_scalar().fetch_one(pool).await?)
}

/// One device; `None` when there is none of this name.
///
/// # Errors
/// When the database fails.
pub async fn get(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<DeviceRecord>> {
    Ok(list(pool, org, &ListQuery::named(NAME, name)).await?.items.pop())
}

/// A device's rendered document.
#[derive(Debug, Clone)]
pub struct RenderedRecord {
    /// The counter of rendered documents.
    pub version: i64,
    /// SHA-256 of the document, raw.
    pub digest: Option<Vec<u8>>,
    /// The document, canonical JSON of a device specification; `None` while there is none.
    pub body: Option<Vec<u8>>,
}

/// The rendered document of a device; `None` when there is no such device.
///
/// # Errors
/// When the database fails.
pub async fn rendered(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<RenderedRecord>> {
    Ok(sqlx::query_as!(
        RenderedRecord,
        r#"select d.rendered_version as version, d.rendered_digest as digest, r.body as "body?"
           from devices d left join rendered.specs r on r.digest = d.rendered_digest
           where d.org_id = $1 and d.name = $2"#,
        org.as_uuid(),
        name,
    )
    .fetch_optional(pool)
    .await?)
}

/// When a device was last heard of: `None` when there is no such device, `Some(None)` when it never was.
///
/// # Errors
/// When the database fails.
pub async fn last_seen(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<Option<Ts>>> {
    let row = sqlx::query!(
        r#"select l.last_seen as "last_seen?: Ts"
           from devices d left join device_liveness l on l.org_id = d.org_id and l.name = d.name
           where d.org_id = $1 and d.name = $2"#,
        org.as_uuid(),
        name,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| row.last_seen))
}

/// All `key=value` labels of the devices that a query selects, sorted, at most 10,000.
///
/// # Errors
/// When the database fails.
pub async fn labels(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<Vec<String>> {
    let mut sql = QueryBuilder::<Postgres>::new(format!(
        "select distinct e.key || '=' || e.value as label {FROM} cross join lateral jsonb_each_text(d.labels) e where d.org_id = "
    ));
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "d.labels");
    sql.push(" order by label limit 10000");
    Ok(sql.build_query_scalar().fetch_all(pool).await?)
}

/// How many devices are in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevicesSummary {
    /// All.
    pub total: i64,
    /// By applications' summary.
    pub applications: BTreeMap<String, i64>,
    /// By summary.
    pub summary: BTreeMap<String, i64>,
    /// By update state.
    pub updated: BTreeMap<String, i64>,
}

#[derive(sqlx::FromRow)]
struct SummaryRow {
    owner_fleet: Option<String>,
    applications: String,
    summary: String,
    updated: String,
    count: i64,
}

impl DevicesSummary {
    fn add(&mut self, row: &SummaryRow) {
        self.total += row.count;
        *self.applications.entry(row.applications.clone()).or_default() += row.count;
        *self.summary.entry(row.summary.clone()).or_default() += row.count;
        *self.updated.entry(row.updated.clone()).or_default() += row.count;
    }
}

async fn summary_rows(sql: &mut QueryBuilder<Postgres>, pool: &PgPool) -> StoreResult<Vec<SummaryRow>> {
    sql.push(" group by 1, 2, 3, 4");
    Ok(sql.build_query_as().fetch_all(pool).await?)
}

fn summary_select() -> QueryBuilder<Postgres> {
    QueryBuilder::new(format!(
        "select d.owner_fleet, {APPLICATIONS} as applications, {SUMMARY} as summary, {UPDATED} as updated, count(*) as count
         {FROM} where d.org_id = "
    ))
}

/// Counts of the devices that a query selects.
///
/// # Errors
/// When the database fails.
pub async fn summary(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<DevicesSummary> {
    let mut sql = summary_select();
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "d.labels");
    let mut all = DevicesSummary::default();
    summary_rows(&mut sql, pool).await?.iter().for_each(|row| all.add(row));
    Ok(all)
}

/// Counts of the devices of each of these fleets; a fleet without devices is absent.
///
/// # Errors
/// When the database fails.
pub async fn summaries_of_fleets(
    pool: &PgPool,
    org: OrgId,
    fleets: &[String],
) -> StoreResult<BTreeMap<String, DevicesSummary>> {
    let mut sql = summary_select();
    sql.push_bind(org.as_uuid()).push(" and d.owner_fleet = any(").push_bind(fleets.to_vec()).push(")");
    let mut by_fleet: BTreeMap<String, DevicesSummary> = BTreeMap::new();
    for row in summary_rows(&mut sql, pool).await? {
        if let Some(fleet) = &row.owner_fleet {
            by_fleet.entry(fleet.clone()).or_default().add(&row);
        }
    }
    Ok(by_fleet)
}
