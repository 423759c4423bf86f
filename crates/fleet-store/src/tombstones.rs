//! Tombstones: objects that left Git and stay in force until their grace is over.
//!
//! The tombstone is durable and says what the object was; the object's rows in desired state stay where they are and are
//! marked as leaving, as is all that came from a source whose ResourceSync leaves.

use fleet_model::{CommitId, Kind, OrgId};
use sqlx::PgConnection;

use crate::manifests::parse_kind;
use crate::{StoreResult, Ts};

/// When objects leave, and until when they stay in force.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// Now.
    pub from: Ts,
    /// The end.
    pub until: Ts,
}

/// An object that left Git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The source that defined it.
    pub source: String,
    /// The commit without it.
    pub removed_by: String,
    /// When that was applied.
    pub removed_at: Ts,
    /// When its grace is over.
    pub expires_at: Ts,
}

/// Writes tombstones for objects that a commit of `source` has no more. Their rows stay.
///
/// # Errors
/// When the database fails.
pub async fn bury(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    commit: &CommitId,
    objects: &[(Kind, String)],
    grace: Grace,
) -> StoreResult<()> {
    let (kinds, names) = columns(objects);
    sqlx::query!(
        "insert into tombstones (org_id, kind, name, source, file, line, end_line, document, digest, document_commit,
                                 generation, selector, url, revision, path, credential, removed_by, removed_at,
                                 expires_at)
         select m.org_id, m.kind, m.name, m.source, m.file, m.line, m.end_line, m.document, m.digest, m.commit_id,
                m.generation, f.selector, s.url, s.revision, s.path, s.credential, $5, $6, $7
         from desired.manifests m
         join unnest($3::text[], $4::text[]) as gone (kind, name) on m.kind = gone.kind and m.name = gone.name
         left join desired.fleets f on m.kind = 'Fleet' and f.org_id = m.org_id and f.name = m.name
         left join desired.sources s
           on m.kind = 'ResourceSync' and s.org_id = m.org_id and s.origin = 'ResourceSync/' || m.name
         where m.org_id = $1 and m.source = $2
         on conflict (org_id, kind, name) do update
           set removed_by = excluded.removed_by, removed_at = excluded.removed_at, expires_at = excluded.expires_at",
        org.as_uuid(),
        source,
        &kinds,
        &names,
        commit.as_str(),
        grace.from as _,
        grace.until as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the tombstones of objects that a commit has, in whichever source. Returns which objects came back.
///
/// # Errors
/// When the database fails.
pub async fn revive(
    connection: &mut PgConnection,
    org: OrgId,
    objects: &[(Kind, String)],
) -> StoreResult<Vec<(Kind, String)>> {
    let (kinds, names) = columns(objects);
    let rows = sqlx::query!(
        "delete from tombstones t using unnest($2::text[], $3::text[]) as back (kind, name)
         where t.org_id = $1 and t.kind = back.kind and t.name = back.name returning t.kind, t.name",
        org.as_uuid(),
        &kinds,
        &names,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok((parse_kind(&row.kind)?, row.name))).collect()
}

/// Works out again what is leaving: what has a tombstone, and all of the sources whose ResourceSync is leaving.
///
/// # Errors
/// When the database fails.
pub async fn mark_leaving(connection: &mut PgConnection, org: OrgId) -> StoreResult<()> {
    sqlx::query!(
        "with recursive gone (name) as (
           select s.name from desired.sources s
             join tombstones t
               on t.org_id = s.org_id and t.kind = 'ResourceSync' and s.origin = 'ResourceSync/' || t.name
             where s.org_id = $1
           union
           select s.name from gone g
             join desired.manifests m on m.org_id = $1 and m.kind = 'ResourceSync' and m.source = g.name
             join desired.sources s on s.org_id = $1 and s.origin = 'ResourceSync/' || m.name)
         update desired.sources s set leaving = not s.leaving
         where s.org_id = $1 and s.leaving <> (s.name in (select name from gone))",
        org.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update desired.manifests m set leaving = not m.leaving
         where m.org_id = $1
           and m.leaving <> (exists (select from tombstones t
                                     where t.org_id = m.org_id and t.kind = m.kind and t.name = m.name)
                             or m.source in (select s.name from desired.sources s where s.org_id = $1 and s.leaving))",
        org.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update desired.fleets f set leaving = m.leaving from desired.manifests m
         where f.org_id = $1 and m.org_id = f.org_id and m.kind = 'Fleet' and m.name = f.name and f.leaving <> m.leaving",
        org.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many tombstones there are.
///
/// # Errors
/// When the database fails.
pub async fn count_tombstones(connection: &mut PgConnection, org: OrgId) -> StoreResult<i64> {
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from tombstones where org_id = $1"#, org.as_uuid())
        .fetch_one(connection)
        .await?)
}

/// After desired state was dropped: what left Git is in force again until its grace is over. A fleet comes back without
/// its revision, which only its commit can tell: its devices keep their documents.
///
/// # Errors
/// When the database fails.
pub async fn restore_leaving(connection: &mut PgConnection, org: OrgId) -> StoreResult<u64> {
    let restored = sqlx::query!(
        "insert into desired.manifests (org_id, kind, name, source, file, line, end_line, document, digest, commit_id,
                                        generation, leaving)
         select org_id, kind, name, source, file, line, end_line, document, digest, document_commit, generation, true
         from tombstones where org_id = $1 on conflict do nothing",
        org.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    if restored.rows_affected() == 0 {
        return Ok(0);
    }
    sqlx::query!(
        "insert into desired.fleets (org_id, name, source, selector, leaving)
         select org_id, name, source, selector, true from tombstones where org_id = $1 and kind = 'Fleet'
         on conflict do nothing",
        org.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        r#"insert into desired.sources (org_id, name, origin, url, revision, path, credential, leaving)
           select org_id, name, 'ResourceSync/' || name, url, revision, path, credential, true from tombstones
           where org_id = $1 and kind = 'ResourceSync' and url is not null and revision is not null and path is not null
           on conflict do nothing"#,
        org.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    mark_leaving(connection, org).await?;
    Ok(restored.rows_affected())
}

/// Removes objects whose grace is over, the oldest first and at most `limit`, and marks the devices that this can concern.
/// Objects of suspended sources stay, and so does the ResourceSync of one, with which it would go.
/// Sources that a removed ResourceSync brought in are left to [`orphaned_sources`](crate::orphaned_sources).
///
/// # Errors
/// When the database fails.
pub async fn remove_expired(
    connection: &mut PgConnection,
    org: OrgId,
    now: Ts,
    limit: i64,
) -> StoreResult<Vec<Tombstone>> {
    // Whoever suspends one of these sources now waits until this is written, see `suspend_source`.
    sqlx::query(
        "select from desired.sources s
         where s.org_id = $1
           and exists (select from tombstones o where o.org_id = s.org_id and o.expires_at <= $2
                         and (o.source = s.name or o.kind = 'ResourceSync' and o.name = s.name))
           and not exists (select from source_suspensions u where u.org_id = s.org_id and u.source = s.name
                             and (u.expires_at is null or u.expires_at > $2))
         order by s.name for update",
    )
    .bind(org.as_uuid())
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query!(
        r#"delete from tombstones t
           using (select o.kind, o.name from tombstones o
                  where o.org_id = $1 and o.expires_at <= $2
                    and not exists (select from source_suspensions u
                                    where u.org_id = o.org_id and (u.expires_at is null or u.expires_at > $2)
                                      and (u.source = o.source or o.kind = 'ResourceSync' and u.source = o.name))
                  order by o.expires_at, o.kind, o.name limit $3) as over
           where t.org_id = $1 and t.kind = over.kind and t.name = over.name
           returning t.kind, t.name, t.source, t.removed_by, t.removed_at as "removed_at: Ts",
                     t.expires_at as "expires_at: Ts""#,
        org.as_uuid(),
        now as _,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let over: StoreResult<Vec<Tombstone>> = rows
        .into_iter()
        .map(|row| {
            Ok(Tombstone {
                kind: parse_kind(&row.kind)?,
                name: row.name,
                source: row.source,
                removed_by: row.removed_by,
                removed_at: row.removed_at,
                expires_at: row.expires_at,
            })
        })
        .collect();
    let mut over = over?;
    over.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    if over.is_empty() {
        return Ok(over);
    }
    let objects: Vec<(Kind, String)> = over.iter().map(|one| (one.kind, one.name.clone())).collect();
    let (kinds, names) = columns(&objects);
    sqlx::query!(
        "delete from desired.manifests m using unnest($2::text[], $3::text[]) as gone (kind, name)
         where m.org_id = $1 and m.kind = gone.kind and m.name = gone.name and m.leaving",
        org.as_uuid(),
        &kinds,
        &names,
    )
    .execute(&mut *connection)
    .await?;
    let of = |kind: Kind| -> Vec<String> {
        over.iter().filter(|one| one.kind == kind).map(|one| one.name.clone()).collect()
    };
    let (fleets, devices) = (of(Kind::Fleet), of(Kind::Device));
    sqlx::query!("delete from desired.fleets where org_id = $1 and name = any($2) and leaving", org.as_uuid(), &fleets)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "update devices set dirty = true
         where org_id = $1 and not dirty
           and (owner_fleet = any($2) or conflicting_fleets && $2 or name in (select unnest($3::text[])))",
        org.as_uuid(),
        &fleets,
        &devices,
    )
    .execute(connection)
    .await?;
    Ok(over)
}

pub(crate) fn columns(objects: &[(Kind, String)]) -> (Vec<String>, Vec<String>) {
    objects.iter().map(|(kind, name)| (kind.as_str().to_owned(), name.clone())).unzip()
}
