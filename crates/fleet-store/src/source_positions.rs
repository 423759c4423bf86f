//! Which commit each source was at, also after desired state was dropped, and which sources are still to come back then.

use fleet_model::{CommitId, OrgId};
use sqlx::PgConnection;

use crate::StoreResult;
use crate::sources::{parse_commit, remove_source};

/// Which commit of a source was applied last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePosition {
    /// The commit.
    pub commit: CommitId,
    /// The commit whose lint configuration judged it; `None` when that was its own.
    pub lint_commit: Option<CommitId>,
    /// The repository and the branch, tag or commit that it was taken from; `None` when an earlier version noted it.
    pub place: Option<(String, String)>,
    /// The path in the repository; `None` as above.
    pub path: Option<String>,
    /// How many manifests it has there.
    pub manifests: i64,
}

/// The commit of a source that was applied last, also after desired state was dropped.
///
/// # Errors
/// When the database fails.
pub async fn last_position(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
) -> StoreResult<Option<SourcePosition>> {
    let row = sqlx::query!(
        "select commit_id, lint_commit, url, revision, path, manifests from source_positions where org_id = $1 and source = $2",
        org.as_uuid(),
        source,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let lint_commit = row.lint_commit.map(|id| parse_commit(&id)).transpose()?;
        Ok(SourcePosition {
            commit: parse_commit(&row.commit_id)?,
            lint_commit,
            place: row.url.zip(row.revision),
            path: row.path,
            manifests: row.manifests,
        })
    })
    .transpose()
}

/// Sources that had manifests and, since desired state was dropped, have none again yet: what they say of devices is not
/// known. Forgets positions of sources that nothing brings in any more; one whose ResourceSync is there and only cannot say yet
/// where the source lies is still to come.
///
/// # Errors
/// When the database fails.
pub async fn unsettled_sources(connection: &mut PgConnection, org: OrgId) -> StoreResult<Vec<String>> {
    let rows = sqlx::query!(
        r#"select p.source,
                  p.origin = 'config' or s.name is not null
                    or exists (select from desired.manifests m
                               where m.org_id = p.org_id and m.kind = 'ResourceSync'
                                 and p.origin = 'ResourceSync/' || m.name) as "awaited!"
           from source_positions p left join desired.sources s on s.org_id = p.org_id and s.name = p.source
           where p.org_id = $1 and p.manifests > 0
             -- Others may take what a leaving source defines, down to the last object.
             and not coalesce(s.leaving and s.applied_commit is not null, false)
             and not exists (select from desired.manifests m
                             where m.org_id = p.org_id and m.source = p.source
                               and not exists (select from tombstones t
                                               where t.org_id = m.org_id and t.kind = m.kind and t.name = m.name))
           order by p.source"#,
        org.as_uuid(),
    )
    .fetch_all(&mut *connection)
    .await?;
    let waiting: Vec<String> = rows.iter().filter(|row| row.awaited).map(|row| row.source.clone()).collect();
    if waiting.is_empty() {
        for row in rows {
            remove_source(connection, org, &row.source).await?;
        }
    }
    Ok(waiting)
}

/// Forgets the positions of sources that the configuration names no more, and what was decided about sources that nothing
/// brings in any more. Returns how many positions there were.
///
/// # Errors
/// When the database fails.
pub async fn forget_positions_except(
    connection: &mut PgConnection,
    org: OrgId,
    configured: &[String],
) -> StoreResult<u64> {
    let done = sqlx::query!(
        "delete from source_positions where org_id = $1 and origin = 'config' and source <> all($2)",
        org.as_uuid(),
        configured,
    )
    .execute(&mut *connection)
    .await?;
    // Sources that a ResourceSync brings in may be away while desired state is made again; they have a position.
    for statement in [
        "delete from source_pins h where h.org_id = $1 and h.source <> all($2)
           and not exists (select from source_positions p where p.org_id = h.org_id and p.source = h.source)",
        "delete from object_owners h where h.org_id = $1 and h.source <> all($2)
           and not exists (select from source_positions p where p.org_id = h.org_id and p.source = h.source)",
        "delete from source_holds h where h.org_id = $1 and h.source <> all($2)
           and not exists (select from source_positions p where p.org_id = h.org_id and p.source = h.source)
           and not exists (select from desired.sources s where s.org_id = h.org_id and s.name = h.source)",
        "delete from source_suspensions h where h.org_id = $1 and h.source <> all($2)
           and not exists (select from source_positions p where p.org_id = h.org_id and p.source = h.source)
           and not exists (select from desired.sources s where s.org_id = h.org_id and s.name = h.source)",
    ] {
        sqlx::query(statement).bind(org.as_uuid()).bind(configured).execute(&mut *connection).await?;
    }
    Ok(done.rows_affected())
}
