//! How far the devices of a source are with what its commit in force says.

use fleet_model::OrgId;
use sqlx::PgConnection;

use crate::StoreResult;

/// Devices of a source and how far they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RolloutProgress {
    /// All of them: devices of the source's fleets, and those it gives a specification of their own.
    pub devices: i64,
    /// Those that report the document they should have, and are healthy.
    pub updated: i64,
    /// Those that cannot get there, or are in error.
    pub failed: i64,
}

/// Counts the devices of a source. One pass over its devices, by index.
///
/// # Errors
/// When the database fails.
pub async fn rollout_progress(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<RolloutProgress> {
    let row = sqlx::query!(
        r#"with concerned as (
             select d.name from desired.fleets f join devices d on d.org_id = f.org_id and d.owner_fleet = f.name
             where f.org_id = $1 and f.source = $2
             union
             select d.name from desired.manifests m join devices d on d.org_id = m.org_id and d.name = m.name
             where m.org_id = $1 and m.source = $2 and m.kind = 'Device' and m.revision is not null)
           select count(*) as "devices!",
             count(*) filter (where not d.dirty and d.render_error is null and d.conflicting_fleets = '{}'
               and d.reported_version = d.rendered_version and d.updated_status = 'UpToDate'
               and d.summary_status <> 'Error' and d.applications_status <> 'Error') as "updated!",
             count(*) filter (where d.render_error is not null or d.conflicting_fleets <> '{}'
               or d.summary_status = 'Error' or d.applications_status = 'Error'
               or d.reported_version <> d.rendered_version and d.update_reason in ('Error', 'RollingBack')) as "failed!"
           from concerned c join devices d on d.org_id = $1 and d.name = c.name"#,
        org.as_uuid(),
        source,
    )
    .fetch_one(connection)
    .await?;
    Ok(RolloutProgress { devices: row.devices, updated: row.updated, failed: row.failed })
}
