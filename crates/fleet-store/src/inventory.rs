//! The devices that a plan is made for: those that are enrolled, and those that only a manifest names.

use std::collections::BTreeMap;

use fleet_model::{Digest, Labels, OrgId};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::StoreResult;
use crate::fleets::parse_digest;

/// An enrolled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledDevice {
    /// The device's name.
    pub name: String,
    /// Labels from enrolment.
    pub labels: Labels,
    /// The fleet that owns it.
    pub owner_fleet: Option<String>,
    /// Digest of the document it should have now.
    pub rendered_digest: Option<Digest>,
}

/// Enrolled devices. With `fleets`: those that these fleets own or contend for, and those that wait to be looked at.
///
/// # Errors
/// When the database fails or holds what no device can be.
pub async fn enrolled_devices(
    connection: &mut PgConnection,
    org: OrgId,
    fleets: Option<&[String]>,
) -> StoreResult<Vec<EnrolledDevice>> {
    let rows = sqlx::query!(
        r#"select name, enrolled_labels as "labels: Json<Labels>", owner_fleet, rendered_digest from devices
           where org_id = $1
             and ($2::text[] is null or owner_fleet = any($2) or conflicting_fleets && $2 or dirty)
           order by name"#,
        org.as_uuid(),
        fleets as _,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = row.rendered_digest.map(|raw| parse_digest(&raw, "devices.rendered_digest")).transpose()?;
            Ok(EnrolledDevice {
                name: row.name,
                labels: row.labels.0,
                owner_fleet: row.owner_fleet,
                rendered_digest: digest,
            })
        })
        .collect()
}

/// How many devices are enrolled or have a manifest in Git.
///
/// # Errors
/// When the database fails.
pub async fn count_known_devices(connection: &mut PgConnection, org: OrgId) -> StoreResult<usize> {
    let count = sqlx::query_scalar!(
        r#"select (select count(*) from devices where org_id = $1)
                + (select count(*) from desired.manifests m
                   where m.org_id = $1 and m.kind = 'Device' and not m.leaving
                     and not exists (select from devices d where d.org_id = m.org_id and d.name = m.name))
             as "count!""#,
        org.as_uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// What a Device manifest says, without its specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceManifest {
    /// The device's name.
    pub name: String,
    /// The source that defines it.
    pub source: String,
    /// Its labels.
    pub labels: Labels,
    /// The revision of its own specification.
    pub revision: Option<String>,
    /// Why its own specification has no revision.
    pub problem: Option<String>,
}

/// Which manifests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Those that Git has.
    InGit,
    /// Also those that left Git and whose grace is not over.
    InForce,
}

/// Device manifests by name. With `names`: of these devices, and of all that are not enrolled.
///
/// # Errors
/// When the database fails.
pub async fn device_manifests(
    connection: &mut PgConnection,
    org: OrgId,
    names: Option<&[String]>,
    presence: Presence,
) -> StoreResult<Vec<DeviceManifest>> {
    // Not `any($2)`: in a plan that serves all values, that compares each row with each name.
    let rows = sqlx::query!(
        r#"select m.name, m.source, m.document #> '{metadata,labels}' as labels, m.revision, m.problem
           from desired.manifests m left join devices d on d.org_id = m.org_id and d.name = m.name
           where m.org_id = $1 and m.kind = 'Device' and ($2::text[] is null or d.name is null or m.name in (select unnest($2)))
             and ($3 or not m.leaving)
           order by m.name"#,
        org.as_uuid(),
        names as _,
        presence == Presence::InForce,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DeviceManifest {
            name: row.name,
            source: row.source,
            labels: row.labels.map(labels).unwrap_or_default(),
            revision: row.revision,
            problem: row.problem,
        })
        .collect())
}

/// What is a label; a manifest of an older version may hold other things.
fn labels(value: Value) -> Labels {
    let pairs: BTreeMap<String, Value> = serde_json::from_value(value).unwrap_or_default();
    let text = |(key, value): (String, Value)| match value {
        Value::String(text) => Some((key, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    };
    pairs.into_iter().filter_map(text).collect()
}
