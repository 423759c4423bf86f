//! Values of placeholders for which a fleet's revision has nothing pinned: those that a device asks for, and those that
//! could not be had, with the reason.

use fleet_model::OrgId;
use sqlx::PgConnection;

use crate::StoreResult;

/// A value that a provider of a fleet has nothing pinned for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputValueRow {
    /// The fleet.
    pub fleet: String,
    /// Its configuration provider.
    pub provider: String,
    /// The value of the provider's placeholders.
    pub value: String,
    /// Why nothing could be pinned; `None` while nobody has tried.
    pub reason: Option<String>,
}

/// The values without pinned files of all fleets, or of those of one source.
///
/// # Errors
/// When the database fails.
pub async fn input_values(
    connection: &mut PgConnection,
    org: OrgId,
    source: Option<&str>,
) -> StoreResult<Vec<InputValueRow>> {
    let rows = sqlx::query_as!(
        InputValueRow,
        "select v.fleet, v.provider, v.value, v.reason from desired.input_values v
         where v.org_id = $1
           and ($2::text is null
                or exists (select from desired.fleets f where f.org_id = v.org_id and f.name = v.fleet and f.source = $2))
         order by v.fleet, v.provider, v.value",
        org.as_uuid(),
        source,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Notes values that devices need. Returns whether any was not known to be missing.
///
/// # Errors
/// When the database fails.
pub async fn want_input_values(
    connection: &mut PgConnection,
    org: OrgId,
    wanted: &[(String, String, String)],
) -> StoreResult<bool> {
    let fleets: Vec<String> = wanted.iter().map(|(fleet, ..)| fleet.clone()).collect();
    let providers: Vec<String> = wanted.iter().map(|(_, provider, _)| provider.clone()).collect();
    let values: Vec<String> = wanted.iter().map(|(.., value)| value.clone()).collect();
    let done = sqlx::query!(
        "insert into desired.input_values (org_id, fleet, provider, value)
         select $1, w.fleet, w.provider, w.value
         from unnest($2::text[], $3::text[], $4::text[]) as w (fleet, provider, value)
         where exists (select from desired.fleets f where f.org_id = $1 and f.name = w.fleet)
         on conflict do nothing",
        org.as_uuid(),
        &fleets,
        &providers,
        &values,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes the outcome of a look: `before` are the rows that were known when it began, `missing` those that could not be
/// had. What devices asked for since stays. Devices that wait for a value about which something else is known now are
/// looked at again. Returns whether there are any.
///
/// # Errors
/// When the database fails.
pub async fn settle_input_values(
    connection: &mut PgConnection,
    org: OrgId,
    before: &[InputValueRow],
    missing: &[InputValueRow],
) -> StoreResult<bool> {
    sqlx::query!(
        "delete from desired.input_values v
         where v.org_id = $1
           and not exists (select from desired.fleets f where f.org_id = v.org_id and f.name = v.fleet)",
        org.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    let same = |one: &InputValueRow, other: &InputValueRow| {
        (&one.fleet, &one.provider, &one.value) == (&other.fleet, &other.provider, &other.value)
    };
    let gone: Vec<&InputValueRow> = before.iter().filter(|row| !missing.iter().any(|still| same(row, still))).collect();
    let mut changed: Vec<String> = gone.iter().map(|row| row.fleet.clone()).collect();
    for row in gone {
        sqlx::query!(
            "delete from desired.input_values where org_id = $1 and fleet = $2 and provider = $3 and value = $4",
            org.as_uuid(),
            row.fleet,
            row.provider,
            row.value,
        )
        .execute(&mut *connection)
        .await?;
    }
    for row in missing.iter().filter(|row| !before.contains(row)) {
        sqlx::query!(
            "insert into desired.input_values (org_id, fleet, provider, value, reason) values ($1, $2, $3, $4, $5)
             on conflict (org_id, fleet, provider, value) do update set reason = excluded.reason",
            org.as_uuid(),
            row.fleet,
            row.provider,
            row.value,
            row.reason,
        )
        .execute(&mut *connection)
        .await?;
        changed.push(row.fleet.clone());
    }
    if changed.is_empty() {
        return Ok(false);
    }
    let done = sqlx::query!(
        "update devices set dirty = true where org_id = $1 and owner_fleet = any($2) and render_error is not null",
        org.as_uuid(),
        &changed,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
