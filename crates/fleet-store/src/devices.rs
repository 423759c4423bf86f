//! Devices as the reconciler sees them: labels, owner, and the rendered document each should have.

use fleet_model::{Digest, Labels, OrgId, RenderedVersion};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use crate::fleets::parse_digest;
use crate::{StoreResult, Ts};

/// Which devices to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceScope {
    /// All.
    All,
    /// Those that these fleets own.
    OwnedBy(Vec<String>),
    /// Those that are marked dirty, at most this many.
    Dirty(i64),
}

/// What the reconciler decides from and about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// The device's name.
    pub name: String,
    /// Labels from enrolment.
    pub enrolled_labels: Labels,
    /// Labels in force.
    pub labels: Labels,
    /// The fleet that owns it.
    pub owner_fleet: Option<String>,
    /// Further fleets that select it.
    pub conflicting_fleets: Vec<String>,
    /// The revision its document was made from.
    pub fleet_revision: Option<String>,
    /// The document's version.
    pub rendered_version: i64,
    /// The document's digest.
    pub rendered_digest: Option<Digest>,
    /// Why the newest revision could not be rendered.
    pub render_error: Option<String>,
    /// The version the device reported.
    pub reported_version: i64,
    /// Whether it waits to be looked at.
    pub dirty: bool,
}

/// Makes this transaction the only one that changes devices in ways agents must see, so that `change_seq` becomes
/// visible in order. Held until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn lock_device_changes(connection: &mut PgConnection) -> StoreResult<()> {
    // Any constant will do, as long as nothing else uses it.
    const KEY: i64 = 0x5348_4f52_4544_4556;
    sqlx::query!("select pg_advisory_xact_lock($1)", KEY).execute(connection).await?;
    Ok(())
}

/// Reads the devices of a scope, by name.
///
/// # Errors
/// When the database fails.
pub async fn devices_in_scope(
    connection: &mut PgConnection,
    org: OrgId,
    scope: &DeviceScope,
) -> StoreResult<Vec<DeviceRow>> {
    let (owners, dirty_only, limit) = match scope {
        DeviceScope::All => (None, false, i64::MAX),
        DeviceScope::OwnedBy(fleets) => (Some(fleets.as_slice()), false, i64::MAX),
        DeviceScope::Dirty(limit) => (None, true, *limit),
    };
    let rows = sqlx::query!(
        r#"select name, enrolled_labels as "enrolled_labels: Json<Labels>", labels as "labels: Json<Labels>",
                  owner_fleet, conflicting_fleets, fleet_revision, rendered_version, rendered_digest, render_error,
                  reported_version, dirty
           from devices
           where org_id = $1 and ($2::text[] is null or owner_fleet = any($2)) and (not $3 or dirty)
           order by name limit $4"#,
        org.as_uuid(),
        owners as _,
        dirty_only,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DeviceRow {
                name: row.name,
                enrolled_labels: row.enrolled_labels.0,
                labels: row.labels.0,
                owner_fleet: row.owner_fleet,
                conflicting_fleets: row.conflicting_fleets,
                fleet_revision: row.fleet_revision,
                rendered_version: row.rendered_version,
                rendered_digest: row
                    .rendered_digest
                    .map(|raw| parse_digest(&raw, "devices.rendered_digest"))
                    .transpose()?,
                render_error: row.render_error,
                reported_version: row.reported_version,
                dirty: row.dirty,
            })
        })
        .collect()
}

/// What a device becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceUpdate {
    /// The device's name.
    pub name: String,
    /// Labels in force.
    pub labels: Labels,
    /// The fleet that owns it.
    pub owner_fleet: Option<String>,
    /// Further fleets that select it.
    pub conflicting_fleets: Vec<String>,
    /// The revision its document is made from.
    pub fleet_revision: Option<String>,
    /// Why the newest revision could not be rendered.
    pub render_error: Option<String>,
    /// The document; `None` while it never had one.
    pub rendered_digest: Option<Digest>,
    /// The document's version.
    pub rendered_version: RenderedVersion,
    /// Where a new document came from: (source, commit). `None` leaves what is there.
    pub provenance: Option<(String, String)>,
    /// Whether agents and API replicas must see the change.
    pub visible: bool,
}

/// Writes updates; a visible one takes a new position in the sequence of changes. A version never goes back, whatever
/// the caller says.
///
/// # Errors
/// When the database fails.
pub async fn update_devices(
    connection: &mut PgConnection,
    org: OrgId,
    at: Ts,
    updates: &[DeviceUpdate],
) -> StoreResult<u64> {
    let mut written = 0;
    for batch in updates.chunks(2_000) {
        let names: Vec<String> = batch.iter().map(|u| u.name.clone()).collect();
        let labels: Vec<serde_json::Value> = batch.iter().map(|u| labels_json(&u.labels)).collect();
        let owners: Vec<Option<String>> = batch.iter().map(|u| u.owner_fleet.clone()).collect();
        let conflicts: Vec<serde_json::Value> =
            batch.iter().map(|u| u.conflicting_fleets.iter().cloned().collect()).collect();
        let revisions: Vec<Option<String>> = batch.iter().map(|u| u.fleet_revision.clone()).collect();
        let errors: Vec<Option<String>> = batch.iter().map(|u| u.render_error.clone()).collect();
        let digests: Vec<Option<Vec<u8>>> =
            batch.iter().map(|u| u.rendered_digest.map(|d| d.as_bytes().to_vec())).collect();
        let versions: Vec<i64> = batch.iter().map(|u| u.rendered_version.get()).collect();
        let sources: Vec<Option<String>> =
            batch.iter().map(|u| u.provenance.as_ref().map(|(source, _)| source.clone())).collect();
        let commits: Vec<Option<String>> =
            batch.iter().map(|u| u.provenance.as_ref().map(|(_, commit)| commit.clone())).collect();
        let visible: Vec<bool> = batch.iter().map(|u| u.visible).collect();
        let done = sqlx::query!(
            "update devices d
             set labels = u.labels, owner_fleet = u.owner,
                 conflicting_fleets = array(select jsonb_array_elements_text(u.conflicts)),
                 fleet_revision = u.revision, render_error = u.error, rendered_digest = u.digest,
                 rendered_at = case when d.rendered_version <> u.version then $2 else d.rendered_at end,
                 rendered_version = u.version, source = coalesce(u.source, d.source),
                 commit_id = coalesce(u.commit, d.commit_id), dirty = false,
                 change_seq = case when u.visible then nextval('device_change_seq') else d.change_seq end,
                 generation = d.generation + (d.rendered_version <> u.version)::int
             from unnest($3::text[], $4::jsonb[], $5::text[], $6::jsonb[], $7::text[], $8::text[], $9::bytea[],
                         $10::bigint[], $11::text[], $12::text[], $13::bool[])
               as u (name, labels, owner, conflicts, revision, error, digest, version, source, commit, visible)
             where d.org_id = $1 and d.name = u.name and u.version >= d.rendered_version",
            org.as_uuid(),
            at as _,
            &names,
            &labels,
            &owners as _,
            &conflicts,
            &revisions as _,
            &errors as _,
            &digests as _,
            &versions,
            &sources as _,
            &commits as _,
            &visible,
        )
        .execute(&mut *connection)
        .await?;
        written += done.rows_affected();
    }
    Ok(written)
}

fn labels_json(labels: &Labels) -> serde_json::Value {
    labels.iter().map(|(key, value)| (key.clone(), serde_json::Value::from(value.as_str()))).collect()
}

/// Marks every device as waiting to be looked at.
///
/// # Errors
/// When the database fails.
pub async fn mark_all_devices_dirty(connection: &mut PgConnection, org: OrgId) -> StoreResult<u64> {
    let done = sqlx::query!("update devices set dirty = true where org_id = $1 and not dirty", org.as_uuid())
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Adds a device, or gives one that enrols again its new labels; either way it waits to be looked at.
/// `known_version` is the version a new device says it has; one that is known tells it in its polls.
///
/// # Errors
/// When the database fails.
pub async fn put_enrolled_device(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    enrolled_labels: &Labels,
    known_version: RenderedVersion,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into devices (org_id, name, enrolled_labels, labels, reported_version, change_seq)
         values ($1, $2, $3, $3, $4, nextval('device_change_seq'))
         on conflict (org_id, name) do update
           set enrolled_labels = excluded.enrolled_labels, dirty = true, lifecycle_status = 'Enrolled',
               change_seq = excluded.change_seq",
        org.as_uuid(),
        name,
        labels_json(enrolled_labels),
        known_version.get(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores rendered documents unless they are there already.
///
/// # Errors
/// When the database fails.
pub async fn insert_rendered(connection: &mut PgConnection, documents: &[(Digest, Vec<u8>)]) -> StoreResult<()> {
    for batch in documents.chunks(200) {
        let digests: Vec<Vec<u8>> = batch.iter().map(|(digest, _)| digest.as_bytes().to_vec()).collect();
        let bodies: Vec<Vec<u8>> = batch.iter().map(|(_, body)| body.clone()).collect();
        sqlx::query!(
            "insert into rendered.specs (digest, body)
             select * from unnest($1::bytea[], $2::bytea[]) on conflict do nothing",
            &digests,
            &bodies,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Reads a rendered document: the canonical JSON of a device specification.
///
/// # Errors
/// When the database fails.
pub async fn rendered_body(pool: &PgPool, digest: Digest) -> StoreResult<Option<Vec<u8>>> {
    Ok(sqlx::query_scalar!("select body from rendered.specs where digest = $1", digest.as_bytes())
        .fetch_optional(pool)
        .await?)
}

/// Whether any device waits to be looked at.
///
/// # Errors
/// When the database fails.
pub async fn any_dirty_device(pool: &PgPool, org: OrgId) -> StoreResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select from devices where org_id = $1 and dirty) as "any!""#,
        org.as_uuid(),
    )
    .fetch_one(pool)
    .await?)
}
