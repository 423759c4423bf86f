//! Reads for the in-memory index that answers polls without the database.

use fleet_model::{DeviceName, Digest, Labels, OrgId};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::{StoreError, StoreResult};

/// What a replica keeps in memory of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedDevice {
    /// Organisation.
    pub org: OrgId,
    /// Name.
    pub name: DeviceName,
    /// The labels in force.
    pub labels: Labels,
    /// The fleet that owns it.
    pub owner_fleet: Option<String>,
    /// The revision its document was made from.
    pub fleet_revision: Option<String>,
    /// The source of its document.
    pub source: Option<String>,
    /// The commit of its document.
    pub commit: Option<String>,
    /// The document's version; 0 before the first.
    pub rendered_version: i64,
    /// The document's digest.
    pub rendered_digest: Option<Digest>,
    /// Why the newest revision could not be rendered.
    pub render_error: Option<String>,
    /// Counts changes of the specification.
    pub generation: i64,
    /// Serial numbers of its revoked certificates.
    pub revoked: Vec<String>,
    /// The position of the row's last visible change.
    pub change_seq: i64,
}

struct Row {
    org_id: uuid::Uuid,
    name: String,
    labels: Json<Labels>,
    owner_fleet: Option<String>,
    fleet_revision: Option<String>,
    source: Option<String>,
    commit_id: Option<String>,
    rendered_version: i64,
    rendered_digest: Option<Vec<u8>>,
    render_error: Option<String>,
    generation: i64,
    revoked: Vec<String>,
    change_seq: i64,
}

impl TryFrom<Row> for IndexedDevice {
    type Error = StoreError;

    fn try_from(row: Row) -> StoreResult<Self> {
        let corrupt = |what| move |error: fleet_model::IdError| StoreError::Corrupt { what, reason: error.to_string() };
        Ok(Self {
            org: OrgId::from(row.org_id),
            name: row.name.parse().map_err(corrupt("devices.name"))?,
            labels: row.labels.0,
            owner_fleet: row.owner_fleet,
            fleet_revision: row.fleet_revision,
            source: row.source,
            commit: row.commit_id,
            rendered_version: row.rendered_version,
            rendered_digest: row
                .rendered_digest
                .map(|raw| Digest::try_from(raw.as_slice()))
                .transpose()
                .map_err(corrupt("devices.rendered_digest"))?,
            render_error: row.render_error,
            generation: row.generation,
            revoked: row.revoked,
            change_seq: row.change_seq,
        })
    }
}

/// Devices whose last visible change lies after `position`, in the order of their changes, at most `limit`. From
/// position -1 it is all of them.
///
/// # Errors
/// When the database fails or holds a row that does not fit.
pub async fn devices_changed_since(pool: &PgPool, position: i64, limit: i64) -> StoreResult<Vec<IndexedDevice>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select d.org_id, d.name, d.labels as "labels: Json<Labels>", d.owner_fleet, d.fleet_revision, d.source,
                  d.commit_id, d.rendered_version, d.rendered_digest, d.render_error, d.generation, d.change_seq,
                  array(select c.serial from certificates c
                        where c.org_id = d.org_id and c.device = d.name and c.revoked_at is not null) as "revoked!"
           from devices d where d.change_seq > $1 order by d.change_seq limit $2"#,
        position,
        limit,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(IndexedDevice::try_from).collect()
}

/// One device.
///
/// # Errors
/// When the database fails or holds a row that does not fit.
pub async fn indexed_device(pool: &PgPool, org: OrgId, name: &DeviceName) -> StoreResult<Option<IndexedDevice>> {
    let row = sqlx::query_as!(
        Row,
        r#"select d.org_id, d.name, d.labels as "labels: Json<Labels>", d.owner_fleet, d.fleet_revision, d.source,
                  d.commit_id, d.rendered_version, d.rendered_digest, d.render_error, d.generation, d.change_seq,
                  array(select c.serial from certificates c
                        where c.org_id = d.org_id and c.device = d.name and c.revoked_at is not null) as "revoked!"
           from devices d where d.org_id = $1 and d.name = $2"#,
        org.as_uuid(),
        name.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    row.map(IndexedDevice::try_from).transpose()
}

/// The position of the newest visible change; -1 without any. It goes back only when the database was restored from a
/// backup: whoever followed it must then read everything again.
///
/// # Errors
/// When the database fails.
pub async fn newest_device_change(pool: &PgPool) -> StoreResult<i64> {
    Ok(sqlx::query_scalar!(r#"select coalesce(max(change_seq), -1) as "position!" from devices"#)
        .fetch_one(pool)
        .await?)
}
