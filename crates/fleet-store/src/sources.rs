//! Sources: where manifests come from, how far each is, and what was found in its newest commit.

use fleet_model::{CommitId, Condition, Diagnostic, Digest, OrgId};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::fleets::parse_digest;
use crate::{StoreError, StoreResult, Ts};

/// Origin of a source that the service's configuration names.
pub const ORIGIN_CONFIG: &str = "config";

/// A source's identity and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDefinition {
    /// Unique name.
    pub name: String,
    /// [`ORIGIN_CONFIG`] or `ResourceSync/<name>`.
    pub origin: String,
    /// The repository's URL, without credentials.
    pub url: String,
    /// The name of the credential it is read with; `None`: that of the longest URL prefix.
    pub credential: Option<String>,
    /// Branch, tag or commit.
    pub revision: String,
    /// Directory or file from the repository's root.
    pub path: String,
}

/// A source with how far it is.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// Identity and place.
    pub definition: SourceDefinition,
    /// Newest commit seen at the host.
    pub observed_commit: Option<String>,
    /// The commit the database holds.
    pub applied_commit: Option<CommitId>,
    /// When it was applied.
    pub applied_at: Option<Ts>,
    /// When the host last answered.
    pub last_polled_at: Option<Ts>,
    /// `Ready`, `SourceReachable`, `Parsed`, `Held`, `Suspended`.
    pub conditions: Vec<Condition>,
    /// Findings in the observed commit.
    pub diagnostics: Vec<Diagnostic>,
    /// Its ResourceSync left Git: what it defines stays as it is until the grace is over.
    pub leaving: bool,
}

/// All sources of an organisation, by name.
///
/// # Errors
/// When the database fails.
pub async fn list_sources(executor: impl PgExecutor<'_>, org: OrgId) -> StoreResult<Vec<SourceRow>> {
    let rows = sqlx::query!(
        r#"select name, origin, url, credential, revision, path, observed_commit, applied_commit,
                  applied_at as "applied_at: Ts", last_polled_at as "last_polled_at: Ts",
                  conditions as "conditions: Json<Vec<Condition>>",
                  diagnostics as "diagnostics: Json<Vec<Diagnostic>>", leaving
           from desired.sources where org_id = $1 order by name"#,
        org.as_uuid(),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(SourceRow {
                definition: SourceDefinition {
                    name: row.name,
                    origin: row.origin,
                    url: row.url,
                    credential: row.credential,
                    revision: row.revision,
                    path: row.path,
                },
                observed_commit: row.observed_commit,
                applied_commit: row.applied_commit.map(|id| parse_commit(&id)).transpose()?,
                applied_at: row.applied_at,
                last_polled_at: row.last_polled_at,
                conditions: row.conditions.0,
                diagnostics: row.diagnostics.0,
                leaving: row.leaving,
            })
        })
        .collect()
}

/// The commit of a source that the database holds; `None` also when there is no such source.
///
/// # Errors
/// When the database fails.
pub async fn applied_commit(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<CommitId>> {
    let sql = "select applied_commit from desired.sources where org_id = $1 and name = $2";
    let found: Option<Option<String>> =
        sqlx::query_scalar(sql).bind(org.as_uuid()).bind(name).fetch_optional(pool).await?;
    found.flatten().map(|id| parse_commit(&id)).transpose()
}

pub(crate) fn parse_commit(text: &str) -> StoreResult<CommitId> {
    text.parse().map_err(|e: fleet_model::IdError| StoreError::Corrupt { what: "commit id", reason: e.to_string() })
}

/// Adds a source, or moves it to another place. A move forgets which commit is applied, so that the next one is
/// applied in full; what the source defined stays until then. Another credential for the same place is no move. Returns
/// whether anything changed.
///
/// # Errors
/// When the database fails.
pub async fn put_source(connection: &mut PgConnection, org: OrgId, source: &SourceDefinition) -> StoreResult<bool> {
    let done = sqlx::query(
        "update desired.sources set credential = $7
         where org_id = $1 and name = $2 and (origin, url, revision, path) = ($3, $4, $5, $6)
           and credential is distinct from $7",
    )
    .bind(org.as_uuid())
    .bind(&source.name)
    .bind(&source.origin)
    .bind(&source.url)
    .bind(&source.revision)
    .bind(&source.path)
    .bind(source.credential.as_deref())
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() > 0 {
        return Ok(true);
    }
    let done = sqlx::query!(
        "insert into desired.sources (org_id, name, origin, url, revision, path, credential)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (org_id, name) do update
           set origin = excluded.origin, url = excluded.url, revision = excluded.revision, path = excluded.path,
               credential = excluded.credential, applied_commit = null, observed_commit = null, settled_commit = null, settled_at = null,
               behind_by = null, devices = 0, devices_updated = 0, devices_failed = 0
           where (sources.origin, sources.url, sources.revision, sources.path, sources.credential)
                 is distinct from (excluded.origin, excluded.url, excluded.revision, excluded.path, excluded.credential)",
        org.as_uuid(),
        source.name,
        source.origin,
        source.url,
        source.revision,
        source.path,
        source.credential.as_deref(),
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a source with all it defined. Devices keep their last document.
///
/// # Errors
/// When the database fails.
pub async fn remove_source(connection: &mut PgConnection, org: OrgId, name: &str) -> StoreResult<()> {
    for statement in [
        "delete from desired.manifests where org_id = $1 and source = $2",
        "delete from desired.fleets where org_id = $1 and source = $2",
        "delete from tombstones where org_id = $1 and source = $2",
        "delete from desired.commits where org_id = $1 and source = $2",
        "delete from desired.plans where org_id = $1 and source = $2",
        "delete from desired.takes_from where org_id = $1 and source = $2",
        "delete from source_positions where org_id = $1 and source = $2",
        "delete from source_pins where org_id = $1 and source = $2",
        "delete from object_owners where org_id = $1 and source = $2",
        "delete from source_hints where org_id = $1 and source = $2",
        "delete from source_holds where org_id = $1 and source = $2",
        "delete from source_suspensions where org_id = $1 and source = $2",
        "delete from desired.sources where org_id = $1 and name = $2",
    ] {
        sqlx::query(statement).bind(org.as_uuid()).bind(name).execute(&mut *connection).await?;
    }
    Ok(())
}

/// What a look at the host, or at a commit, brought.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The newest commit at the host; `None` leaves what was known.
    pub commit: Option<&'a CommitId>,
    /// When the host answered; `None` when it did not.
    pub polled_at: Option<Ts>,
    /// Conditions of the source now.
    pub conditions: &'a [Condition],
    /// Findings; `None` leaves those there are.
    pub diagnostics: Option<&'a [Diagnostic]>,
}

/// Writes down what was seen. Touches nothing that devices depend on.
///
/// # Errors
/// When the database fails.
pub async fn record_observation(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    seen: &Observation<'_>,
) -> StoreResult<()> {
    sqlx::query!(
        "update desired.sources
         set observed_commit = coalesce($3, observed_commit), last_polled_at = coalesce($4, last_polled_at),
             conditions = $5, diagnostics = coalesce($6, diagnostics)
         where org_id = $1 and name = $2",
        org.as_uuid(),
        name,
        seen.commit.map(CommitId::as_str),
        seen.polled_at as _,
        Json(seen.conditions) as _,
        seen.diagnostics.map(Json) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that the hosts of these sources answered at `at`, and nothing else is new. Sources that somebody works on are left
/// out: whoever that is notes more.
///
/// # Errors
/// When the database fails.
pub async fn record_polls(connection: &mut PgConnection, org: OrgId, names: &[String], at: Ts) -> StoreResult<()> {
    sqlx::query(
        "with due as (select name from desired.sources where org_id = $1 and name = any($2) for update skip locked)
         update desired.sources s set last_polled_at = greatest(s.last_polled_at, $3)
         from due where s.org_id = $1 and s.name = due.name",
    )
    .bind(org.as_uuid())
    .bind(names)
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down the newest commit at the host that has the signatures it needs.
///
/// # Errors
/// When the database fails.
pub async fn record_verified(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    commit: &CommitId,
) -> StoreResult<()> {
    sqlx::query!(
        "update desired.sources set verified_commit = $3
         where org_id = $1 and name = $2 and verified_commit is distinct from $3",
        org.as_uuid(),
        name,
        commit.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The digest of the rules that what is said about a source's signatures was judged by; `None` when that is not known.
///
/// # Errors
/// When the database fails.
pub async fn judged_trust(connection: &mut PgConnection, org: OrgId, name: &str) -> StoreResult<Option<Digest>> {
    let found = sqlx::query_scalar!(
        "select trust_digest from desired.sources where org_id = $1 and name = $2",
        org.as_uuid(),
        name,
    )
    .fetch_optional(connection)
    .await?;
    found.flatten().map(|raw| parse_digest(&raw, "sources.trust_digest")).transpose()
}

/// Writes that digest down.
///
/// # Errors
/// When the database fails.
pub async fn record_judged_trust(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    rules: Digest,
) -> StoreResult<()> {
    sqlx::query!(
        "update desired.sources set trust_digest = $3
         where org_id = $1 and name = $2 and trust_digest is distinct from $3",
        org.as_uuid(),
        name,
        rules.as_bytes().as_slice(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks a source for the transaction and tells which commit it is at. `None` when the source is gone or lies elsewhere
/// by now, or, unless `also_leaving`, is on its way out.
///
/// # Errors
/// When the database fails.
pub async fn lock_source(
    connection: &mut PgConnection,
    org: OrgId,
    source: &SourceDefinition,
    also_leaving: bool,
) -> StoreResult<Option<Option<CommitId>>> {
    let row = sqlx::query_scalar!(
        "select applied_commit from desired.sources
         where org_id = $1 and name = $2 and url = $3 and revision = $4 and path = $5 and (not leaving or $6) for update",
        org.as_uuid(),
        source.name,
        source.url,
        source.revision,
        source.path,
        also_leaving,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|commit| commit.map(|id| parse_commit(&id)).transpose()).transpose()
}

/// Whether anything is stored that a source defines. What has a tombstone does not count: it is there also after desired
/// state was dropped.
///
/// # Errors
/// When the database fails.
pub async fn source_defines_anything(connection: &mut PgConnection, org: OrgId, name: &str) -> StoreResult<bool> {
    let sql = "select exists (select from desired.manifests m where m.org_id = $1 and m.source = $2
                                and not exists (select from tombstones t
                                                where t.org_id = m.org_id and t.kind = m.kind and t.name = m.name))";
    Ok(sqlx::query_scalar(sql).bind(org.as_uuid()).bind(name).fetch_one(connection).await?)
}

/// Moves a source to a commit that the lint configuration of `lint_commit` judged; the last statement of an apply.
///
/// # Errors
/// When the database fails.
#[expect(clippy::too_many_arguments, reason = "each is one column")]
pub async fn record_applied(
    connection: &mut PgConnection,
    org: OrgId,
    source: &SourceDefinition,
    commit: &CommitId,
    lint_commit: Option<&CommitId>,
    at: Ts,
    manifests: usize,
    conditions: &[Condition],
    diagnostics: &[Diagnostic],
) -> StoreResult<()> {
    sqlx::query!(
        "update desired.sources
         set observed_commit = $3, applied_commit = $3,
             -- Looked at again because of something else it is the same commit since then.
             applied_at = case when applied_commit = $3 then coalesce(applied_at, $4) else $4 end, last_polled_at = $4, conditions = $5,
             diagnostics = $6, behind_by = 0
         where org_id = $1 and name = $2",
        org.as_uuid(),
        source.name,
        commit.as_str(),
        at as _,
        Json(conditions) as _,
        Json(diagnostics) as _,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into source_positions (org_id, source, origin, commit_id, manifests, lint_commit, url, revision, path)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (org_id, source) do update
           set origin = excluded.origin, commit_id = excluded.commit_id, manifests = excluded.manifests,
               lint_commit = excluded.lint_commit, url = excluded.url, revision = excluded.revision, path = excluded.path",
        org.as_uuid(),
        source.name,
        source.origin,
        commit.as_str(),
        i64::try_from(manifests).unwrap_or(i64::MAX),
        lint_commit.map(CommitId::as_str),
        source.url,
        source.revision,
        source.path,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What was decided about a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is, or was, the desired state.
    Applied,
    /// It was refused; nothing changed.
    Refused,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::Refused => "Refused",
        }
    }
}

/// Notes the verdict on a commit. Returns whether it is news.
///
/// # Errors
/// When the database fails.
pub async fn record_commit(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    commit: &CommitId,
    verdict: Verdict,
    diagnostics: &[Diagnostic],
    changed: usize,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "insert into desired.commits (org_id, source, commit_id, verdict, diagnostics, changed)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (org_id, source, commit_id) do update
           set verdict = excluded.verdict, diagnostics = excluded.diagnostics, changed = excluded.changed,
               seen_at = now()
           where commits.verdict <> excluded.verdict or commits.diagnostics <> excluded.diagnostics",
        org.as_uuid(),
        source,
        commit.as_str(),
        verdict.as_str(),
        Json(diagnostics) as _,
        i32::try_from(changed).unwrap_or(i32::MAX),
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Where a source comes from; `None` when there is no such source.
///
/// # Errors
/// When the database fails.
pub async fn source_origin(connection: &mut PgConnection, org: OrgId, name: &str) -> StoreResult<Option<String>> {
    Ok(sqlx::query_scalar!("select origin from desired.sources where org_id = $1 and name = $2", org.as_uuid(), name,)
        .fetch_optional(connection)
        .await?)
}

/// The sources that brought this one in: the one with its ResourceSync, and those that brought in that one.
///
/// # Errors
/// When the database fails.
pub async fn sources_above(connection: &mut PgConnection, org: OrgId, name: &str) -> StoreResult<Vec<String>> {
    let sql = "with recursive above (name) as (
                 select m.source from desired.sources s
                   join desired.manifests m on m.org_id = s.org_id and m.kind = 'ResourceSync'
                                               and s.origin = 'ResourceSync/' || m.name
                   where s.org_id = $1 and s.name = $2
                 union
                 select m.source from above a
                   join desired.sources s on s.org_id = $1 and s.name = a.name
                   join desired.manifests m on m.org_id = s.org_id and m.kind = 'ResourceSync'
                                               and s.origin = 'ResourceSync/' || m.name)
               select name from above order by name";
    Ok(sqlx::query_scalar(sql).bind(org.as_uuid()).bind(name).fetch_all(connection).await?)
}

/// Sources that a ResourceSync brought in which is gone.
///
/// # Errors
/// When the database fails.
pub async fn orphaned_sources(connection: &mut PgConnection, org: OrgId) -> StoreResult<Vec<String>> {
    Ok(sqlx::query_scalar!(
        "select s.name from desired.sources s
         where s.org_id = $1 and s.origin <> 'config'
           and not exists (select from desired.manifests m
                           where m.org_id = s.org_id and m.kind = 'ResourceSync'
                             and s.origin = 'ResourceSync/' || m.name)",
        org.as_uuid(),
    )
    .fetch_all(connection)
    .await?)
}
