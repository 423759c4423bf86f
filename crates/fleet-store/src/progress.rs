//! How far devices are with the commit of a source: counted on a period, so that reading it costs nothing.

use fleet_model::{CommitId, OrgId};
use sqlx::PgConnection;

use crate::sources::parse_commit;
use crate::{StoreResult, Ts};

/// The devices that a source decides about: those of its fleets, and those it gives a specification of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolloutProgress {
    /// All of them.
    pub devices: i64,
    /// Those that report the document they should have, and are healthy.
    pub updated: i64,
    /// Those that cannot get there, or are in error.
    pub failed: i64,
}

/// How far the devices of one source are.
///
/// # Errors
/// When the database fails.
pub async fn rollout_progress(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<RolloutProgress> {
    let all = source_progress(connection, org, Some(source), true).await?;
    Ok(all.into_iter().next().map(|found| found.now).unwrap_or_default())
}

/// A source that has a commit in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProgress {
    /// Its name.
    pub source: String,
    /// The commit in force.
    pub applied: CommitId,
    /// Whether that commit is settled already.
    pub settled: bool,
    /// Some object of it waits for something else, so that it cannot settle.
    pub waits: bool,
    /// What was noted last.
    pub noted: RolloutProgress,
    /// What is so now.
    pub now: RolloutProgress,
}

/// How far the devices of sources are: of one source or of all, of all commits in force or only of those not settled yet.
///
/// # Errors
/// When the database fails.
pub async fn source_progress(
    connection: &mut PgConnection,
    org: OrgId,
    source: Option<&str>,
    with_settled: bool,
) -> StoreResult<Vec<SourceProgress>> {
    let rows = sqlx::query!(
        r#"with wanted as (
             select s.name, s.applied_commit, s.settled_commit is not distinct from s.applied_commit as settled,
                    s.devices, s.devices_updated, s.devices_failed
             from desired.sources s
             where s.org_id = $1 and s.applied_commit is not null and ($2::text is null or s.name = $2)
               and ($3 or s.settled_commit is distinct from s.applied_commit)),
           concerned as (
             select f.source, d.name from desired.fleets f
               join wanted w on w.name = f.source
               join devices d on d.org_id = f.org_id and d.owner_fleet = f.name
             where f.org_id = $1
             union
             select m.source, d.name from desired.manifests m
               join wanted w on w.name = m.source
               join devices d on d.org_id = m.org_id and d.name = m.name
             where m.org_id = $1 and m.kind = 'Device' and m.revision is not null),
           counted as (
             select c.source, count(*) as devices,
               count(*) filter (where not d.dirty and d.render_error is null and d.conflicting_fleets = '{}'
                 and d.reported_version = d.rendered_version and d.updated_status = 'UpToDate'
                 and d.summary_status <> 'Error' and d.applications_status <> 'Error') as updated,
               count(*) filter (where d.render_error is not null or d.conflicting_fleets <> '{}'
                 or d.summary_status = 'Error' or d.applications_status = 'Error'
                 or d.reported_version <> d.rendered_version and d.update_reason in ('Error', 'RollingBack')) as failed
             from concerned c join devices d on d.org_id = $1 and d.name = c.name group by c.source)
           select w.name as "name!", w.applied_commit as "applied_commit!", w.settled as "settled!",
             w.devices as "noted_devices!", w.devices_updated as "noted_updated!", w.devices_failed as "noted_failed!",
             coalesce(c.devices, 0) as "devices!", coalesce(c.updated, 0) as "updated!", coalesce(c.failed, 0) as "failed!",
             (exists (select from desired.fleets f where f.org_id = $1 and f.source = w.name and f.problem is not null)
               or exists (select from desired.manifests m where m.org_id = $1 and m.source = w.name
                            and m.problem is not null)) as "waits!"
           from wanted w left join counted c on c.source = w.name order by w.name"#,
        org.as_uuid(),
        source,
        with_settled,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(SourceProgress {
                source: row.name,
                applied: parse_commit(&row.applied_commit)?,
                settled: row.settled,
                waits: row.waits,
                noted: RolloutProgress {
                    devices: row.noted_devices,
                    updated: row.noted_updated,
                    failed: row.noted_failed,
                },
                now: RolloutProgress { devices: row.devices, updated: row.updated, failed: row.failed },
            })
        })
        .collect()
}

/// Notes how far the devices are, and since when the commit is settled if it is. Nothing happens when another commit is in
/// force by now; returns whether it was noted.
///
/// # Errors
/// When the database fails.
pub async fn record_progress(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    applied: &CommitId,
    progress: RolloutProgress,
    settled: Option<Ts>,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "update desired.sources
         set devices = $4, devices_updated = $5, devices_failed = $6,
             settled_commit = case when $7::timestamptz is null then settled_commit else applied_commit end,
             settled_at = coalesce($7, settled_at)
         where org_id = $1 and name = $2 and applied_commit = $3",
        org.as_uuid(),
        source,
        applied.as_str(),
        progress.devices,
        progress.updated,
        progress.failed,
        settled as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes by how many commits a source is behind its host; `None`: not known.
///
/// # Errors
/// When the database fails.
pub async fn record_behind(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    behind: Option<u32>,
) -> StoreResult<()> {
    sqlx::query!(
        "update desired.sources set behind_by = $3 where org_id = $1 and name = $2 and behind_by is distinct from $3",
        org.as_uuid(),
        source,
        behind.map(|behind| i32::try_from(behind).unwrap_or(i32::MAX)),
    )
    .execute(connection)
    .await?;
    Ok(())
}
