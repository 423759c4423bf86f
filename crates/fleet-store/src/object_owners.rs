//! Which source defines an object, also after desired state was dropped: until a source is back, nobody else takes what it
//! defines.

use fleet_model::{Kind, OrgId};
use sqlx::PgConnection;

use crate::StoreResult;
use crate::manifests::parse_kind;
use crate::tombstones::columns;

/// An object and the source that defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectOwner {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The source.
    pub source: String,
}

/// Which of these (kind, name) another source defines that has not come back since desired state was dropped. What is
/// leaving with its source is free, and a source that is leaving may have back what it had.
///
/// # Errors
/// When the database fails.
pub async fn owned_by_absent(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    objects: &[(Kind, String)],
) -> StoreResult<Vec<ObjectOwner>> {
    let (kinds, names) = columns(objects);
    let rows = sqlx::query!(
        "select o.kind, o.name, o.source from object_owners o
         join unnest($3::text[], $4::text[]) as wanted (kind, name) on o.kind = wanted.kind and o.name = wanted.name
         where o.org_id = $1 and o.source <> $2
           and not exists (select from desired.sources s
                           where s.org_id = o.org_id and s.name = o.source and (s.applied_commit is not null or s.leaving))
           and not exists (select from desired.sources s where s.org_id = o.org_id and s.name = $2 and s.leaving)
         order by o.kind, o.name",
        org.as_uuid(),
        source,
        &kinds,
        &names,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Ok(ObjectOwner { kind: parse_kind(&row.kind)?, name: row.name, source: row.source }))
        .collect()
}

/// Notes that the source defines `new`, and `gone` no more.
///
/// # Errors
/// When the database fails.
pub(crate) async fn own(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    new: &[(Kind, String)],
    gone: &[(Kind, String)],
) -> StoreResult<()> {
    if !gone.is_empty() {
        let (kinds, names) = columns(gone);
        sqlx::query!(
            "delete from object_owners o using unnest($3::text[], $4::text[]) as gone (kind, name)
             where o.org_id = $1 and o.source = $2 and o.kind = gone.kind and o.name = gone.name",
            org.as_uuid(),
            source,
            &kinds,
            &names,
        )
        .execute(&mut *connection)
        .await?;
    }
    for batch in new.chunks(5_000) {
        let (kinds, names) = columns(batch);
        sqlx::query!(
            "insert into object_owners (org_id, kind, name, source)
             select $1, t.kind, t.name, $2 from unnest($3::text[], $4::text[]) as t (kind, name)
             where not exists (select from object_owners o
                               where o.org_id = $1 and o.kind = t.kind and o.name = t.name and o.source = $2)
             on conflict (org_id, kind, name) do update set source = excluded.source",
            org.as_uuid(),
            source,
            &kinds,
            &names,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Forgets what the source defined, but for `objects`: nothing else is stored of it.
///
/// # Errors
/// When the database fails.
pub(crate) async fn own_only(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    objects: &[(Kind, String)],
) -> StoreResult<()> {
    let (kinds, names) = columns(objects);
    sqlx::query!(
        "delete from object_owners o
         where o.org_id = $1 and o.source = $2
           and (o.kind, o.name) not in (select kind, name from unnest($3::text[], $4::text[]) as t (kind, name))",
        org.as_uuid(),
        source,
        &kinds,
        &names,
    )
    .execute(connection)
    .await?;
    Ok(())
}
