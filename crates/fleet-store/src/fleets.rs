//! Fleets, their immutable revisions, and the pinned files of those: content-addressed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fleet_model::{Digest, LabelSelector, OrgId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::{StoreError, StoreResult, Ts};

/// A fleet as ownership and rendering see it.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetRow {
    /// Its name.
    pub name: String,
    /// The source that defines it.
    pub source: String,
    /// Who belongs to it.
    pub selector: Option<LabelSelector>,
    /// The revision its devices should be at.
    pub revision: Option<String>,
    /// Why no revision could be made of the newest template; `revision` then is the last good one.
    pub problem: Option<String>,
}

/// All fleets that Git defines, by name; without those that are leaving.
///
/// # Errors
/// When the database fails.
pub async fn list_fleets(connection: &mut PgConnection, org: OrgId) -> StoreResult<Vec<FleetRow>> {
    let rows = sqlx::query!(
        r#"select name, source, selector as "selector: Json<LabelSelector>", revision, problem
           from desired.fleets where org_id = $1 and not leaving order by name"#,
        org.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| FleetRow {
            name: row.name,
            source: row.source,
            selector: row.selector.map(|json| json.0),
            revision: row.revision,
            problem: row.problem,
        })
        .collect())
}

/// All fleets that devices can belong to, by name: each with whether it is leaving.
///
/// # Errors
/// When the database fails.
pub async fn fleets_in_force(connection: &mut PgConnection, org: OrgId) -> StoreResult<Vec<(FleetRow, bool)>> {
    let rows = sqlx::query!(
        r#"select name, source, selector as "selector: Json<LabelSelector>", revision, problem, leaving
           from desired.fleets where org_id = $1 order by name"#,
        org.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    let fleet = |name, source, selector: Option<Json<LabelSelector>>, revision, problem| FleetRow {
        name,
        source,
        selector: selector.map(|json| json.0),
        revision,
        problem,
    };
    Ok(rows
        .into_iter()
        .map(|row| (fleet(row.name, row.source, row.selector, row.revision, row.problem), row.leaving))
        .collect())
}

/// Makes `fleets` the complete set of the source's fleets; only what differs from `before` is sent. Where `revision` is
/// `None` the last good one stays. Fleets with a tombstone stay, too.
///
/// # Errors
/// When the database fails.
pub async fn replace_fleets(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    before: &[FleetRow],
    fleets: &[FleetRow],
) -> StoreResult<()> {
    let known: HashMap<&str, &FleetRow> = before.iter().map(|fleet| (fleet.name.as_str(), fleet)).collect();
    let names: Vec<String> = fleets.iter().map(|f| f.name.clone()).collect();
    sqlx::query!(
        "delete from desired.fleets f where f.org_id = $1 and f.source = $2 and f.name <> all($3)
           and not exists (select from tombstones t where t.org_id = f.org_id and t.kind = 'Fleet' and t.name = f.name)",
        org.as_uuid(),
        source,
        &names,
    )
    .execute(&mut *connection)
    .await?;
    for fleet in fleets.iter().filter(|fleet| known.get(fleet.name.as_str()) != Some(fleet)) {
        sqlx::query!(
            "insert into desired.fleets as f (org_id, name, source, selector, revision, problem)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (org_id, name) do update
               set source = excluded.source, selector = excluded.selector, problem = excluded.problem,
                   revision = coalesce(excluded.revision, f.revision)
               where (f.source, f.selector, f.problem) is distinct from
                     (excluded.source, excluded.selector, excluded.problem)
                  or (excluded.revision is not null and f.revision is distinct from excluded.revision)",
            org.as_uuid(),
            fleet.name,
            source,
            fleet.selector.as_ref().map(Json) as _,
            fleet.revision,
            fleet.problem,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Where a pinned input comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InputKind {
    /// A Git repository.
    #[default]
    Git,
    /// A web server.
    Http,
    /// A keeper of secrets.
    Secret,
}

impl InputKind {
    fn is_git(&self) -> bool {
        *self == Self::Git
    }
}

/// One pinned input of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedInput {
    /// The config provider's name.
    pub provider: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "InputKind::is_git")]
    pub kind: InputKind,
    /// The value of the provider's placeholders that it is for; `None` where all devices get the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The Repository's name, or `.`; `Secret` for secrets.
    pub repository: String,
    /// The URL that it was read from, without credentials; none of the commit itself and of secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The revision, suffix or `<namespace>/<name>` that was asked for.
    pub revision: String,
    /// The commit it stood for; empty where there are no commits.
    pub commit: String,
    /// The directory or file whose content is pinned; empty where there are none.
    pub path: String,
    /// Digest of the pinned files.
    pub tree: Digest,
}

/// An immutable snapshot of a template and its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionRow {
    /// The fleet's name, or `Device/<name>`.
    pub fleet: String,
    /// The revision's name, derived from its content.
    pub name: String,
    /// The content's digest.
    pub digest: Digest,
    /// The device specification, with placeholders.
    pub template: Value,
    /// The pinned inputs.
    pub inputs: Vec<PinnedInput>,
    /// The source it came from first.
    pub source: String,
    /// The commit it came from first.
    pub commit: String,
}

/// Stores a revision unless it is there already. Returns whether it is new.
///
/// # Errors
/// When the database fails.
pub async fn insert_revision(connection: &mut PgConnection, org: OrgId, row: &RevisionRow) -> StoreResult<bool> {
    let done = sqlx::query!(
        "insert into desired.fleet_revisions (org_id, fleet, name, digest, template, inputs, source, commit_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        org.as_uuid(),
        row.fleet,
        row.name,
        row.digest.as_bytes(),
        row.template,
        Json(&row.inputs) as _,
        row.source,
        row.commit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Which of these (fleet, name) are stored already.
///
/// # Errors
/// When the database fails, or a name stands for other content.
pub async fn known_revisions(
    connection: &mut PgConnection,
    org: OrgId,
    revisions: &[RevisionRow],
) -> StoreResult<HashSet<(String, String)>> {
    let fleets: Vec<String> = revisions.iter().map(|row| row.fleet.clone()).collect();
    let names: Vec<String> = revisions.iter().map(|row| row.name.clone()).collect();
    let rows = sqlx::query!(
        "select r.fleet, r.name, r.digest from desired.fleet_revisions r
         join unnest($2::text[], $3::text[]) as wanted (fleet, name) on r.fleet = wanted.fleet and r.name = wanted.name
         where r.org_id = $1",
        org.as_uuid(),
        &fleets,
        &names,
    )
    .fetch_all(connection)
    .await?;
    let digests: HashMap<(&str, &str), Digest> =
        revisions.iter().map(|row| ((row.fleet.as_str(), row.name.as_str()), row.digest)).collect();
    let mut known = HashSet::new();
    for row in rows {
        if digests.get(&(row.fleet.as_str(), row.name.as_str())).map(Digest::as_bytes).map(<[u8; 32]>::as_slice)
            != Some(row.digest.as_slice())
        {
            let reason = format!("revision {} of {} has other content", row.name, row.fleet);
            return Err(StoreError::Corrupt { what: "fleet_revisions.digest", reason });
        }
        known.insert((row.fleet, row.name));
    }
    Ok(known)
}

/// Reads revisions, given as (fleet, name). Those that are not stored are not in the answer.
///
/// # Errors
/// When the database fails or holds what no revision can be.
pub async fn find_revisions(
    connection: &mut PgConnection,
    org: OrgId,
    wanted: &[(String, String)],
) -> StoreResult<Vec<RevisionRow>> {
    let fleets: Vec<String> = wanted.iter().map(|(fleet, _)| fleet.clone()).collect();
    let names: Vec<String> = wanted.iter().map(|(_, name)| name.clone()).collect();
    let rows = sqlx::query!(
        r#"select r.fleet, r.name, r.digest, r.template, r.inputs as "inputs: Json<Vec<PinnedInput>>", r.source,
                  r.commit_id
           from desired.fleet_revisions r
           join unnest($2::text[], $3::text[]) as wanted (fleet, name)
             on r.fleet = wanted.fleet and r.name = wanted.name
           where r.org_id = $1"#,
        org.as_uuid(),
        &fleets,
        &names,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(RevisionRow {
                digest: parse_digest(&row.digest, "fleet_revisions.digest")?,
                fleet: row.fleet,
                name: row.name,
                template: row.template,
                inputs: row.inputs.0,
                source: row.source,
                commit: row.commit_id,
            })
        })
        .collect()
}

pub(crate) fn parse_digest(raw: &[u8], what: &'static str) -> StoreResult<Digest> {
    raw.try_into().map_err(|e: fleet_model::IdError| StoreError::Corrupt { what, reason: e.to_string() })
}

/// A file of a pinned tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Path from the repository's root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Digest of the contents.
    pub digest: Digest,
    /// For a secret content: a keyed digest, which stands for it in all that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Digest>,
}

/// What a source's revisions took from elsewhere, each once.
///
/// # Errors
/// When the database fails.
pub async fn source_dependencies(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
) -> StoreResult<Vec<PinnedInput>> {
    let rows = sqlx::query_scalar!(
        r#"select distinct input as "input!: Json<PinnedInput>"
           from (select r.inputs from desired.fleets f
                   join desired.fleet_revisions r on r.org_id = f.org_id and r.fleet = f.name and r.name = f.revision
                   where f.org_id = $1 and f.source = $2 and not f.leaving
                 union all
                 select r.inputs from desired.manifests m
                   join desired.fleet_revisions r
                     on r.org_id = m.org_id and r.fleet = 'Device/' || m.name and r.name = m.revision
                   where m.org_id = $1 and m.source = $2 and m.kind = 'Device' and not m.leaving) as used,
                jsonb_array_elements(used.inputs) as input
           where input->>'repository' <> '.'"#,
        org.as_uuid(),
        source,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|input| input.0).collect())
}

/// A look at a repository that manifests refer to by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencySeen<'a> {
    /// The Repository's name.
    pub repository: &'a str,
    /// The revision that was asked for.
    pub revision: &'a str,
    /// The repository's URL, without credentials.
    pub url: &'a str,
    /// The commit it stands for, or why that is not known.
    pub outcome: Result<&'a str, &'a str>,
}

/// Notes what a look brought; a failure leaves the commit that was known.
///
/// # Errors
/// When the database fails.
pub async fn record_dependency(
    connection: &mut PgConnection,
    org: OrgId,
    seen: &DependencySeen<'_>,
    at: Ts,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into desired.dependencies as d (org_id, repository, revision, url, commit_id, last_polled_at, error)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (org_id, repository, revision) do update
           set url = excluded.url, commit_id = coalesce(excluded.commit_id, d.commit_id), error = excluded.error,
               last_polled_at = excluded.last_polled_at",
        org.as_uuid(),
        seen.repository,
        seen.revision,
        seen.url,
        seen.outcome.ok(),
        at as _,
        seen.outcome.err(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether any fleet or device of the source has no revision of its newest template.
///
/// # Errors
/// When the database fails.
pub async fn source_has_problems(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"select (exists (select from desired.fleets where org_id = $1 and source = $2 and problem is not null and not leaving)
                   or exists (select from desired.manifests
                              where org_id = $1 and source = $2 and problem is not null and not leaving)) as "any!""#,
        org.as_uuid(),
        source,
    )
    .fetch_one(connection)
    .await?)
}

/// Stores contents unless they are there already.
///
/// # Errors
/// When the database fails.
pub async fn insert_blobs(connection: &mut PgConnection, blobs: &[(Digest, &[u8])]) -> StoreResult<()> {
    for batch in blobs.chunks(500) {
        let digests: Vec<Vec<u8>> = batch.iter().map(|(digest, _)| digest.as_bytes().to_vec()).collect();
        let contents: Vec<Vec<u8>> = batch.iter().map(|(_, content)| content.to_vec()).collect();
        sqlx::query!(
            "insert into desired.blobs (digest, content)
             select * from unnest($1::bytea[], $2::bytea[]) on conflict do nothing",
            &digests,
            &contents,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Which of these contents are stored already.
///
/// # Errors
/// When the database fails.
pub async fn known_blobs(connection: &mut PgConnection, digests: &[Digest]) -> StoreResult<Vec<Digest>> {
    let wanted: Vec<Vec<u8>> = digests.iter().map(|d| d.as_bytes().to_vec()).collect();
    let rows = sqlx::query_scalar!("select digest from desired.blobs where digest = any($1)", &wanted)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|raw| parse_digest(raw, "blobs.digest")).collect()
}

/// Stores a tree unless it is there already.
///
/// # Errors
/// When the database fails.
pub async fn insert_tree(connection: &mut PgConnection, digest: Digest, files: &[TreeFile]) -> StoreResult<()> {
    sqlx::query!(
        "insert into desired.file_trees (digest, entries) values ($1, $2) on conflict do nothing",
        digest.as_bytes(),
        Json(files) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A file of a pinned tree with its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeContent {
    /// Path from the repository's root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The contents; files with the same ones share them.
    pub content: Arc<[u8]>,
    /// As [`TreeFile::seal`].
    pub seal: Option<Digest>,
}

/// Reads trees with all their contents. Trees that are missing, or lack a content, are not in the answer.
///
/// # Errors
/// When the database fails.
pub async fn load_trees(
    connection: &mut PgConnection,
    digests: &[Digest],
) -> StoreResult<HashMap<Digest, Vec<TreeContent>>> {
    let wanted: Vec<Vec<u8>> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let trees = sqlx::query!(
        r#"select digest, entries as "entries: Json<Vec<TreeFile>>" from desired.file_trees where digest = any($1)"#,
        &wanted,
    )
    .fetch_all(&mut *connection)
    .await?;
    let named: BTreeSet<Digest> = trees.iter().flat_map(|tree| &tree.entries.0).map(|entry| entry.digest).collect();
    let named: Vec<Vec<u8>> = named.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let mut contents: HashMap<Digest, Arc<[u8]>> = HashMap::new();
    for row in sqlx::query!("select digest, content from desired.blobs where digest = any($1)", &named)
        .fetch_all(connection)
        .await?
    {
        contents.insert(parse_digest(&row.digest, "blobs.digest")?, row.content.into());
    }
    let mut loaded = HashMap::new();
    for tree in trees {
        let files: Option<Vec<TreeContent>> = tree
            .entries
            .0
            .into_iter()
            .map(|entry| {
                let content = Arc::clone(contents.get(&entry.digest)?);
                Some(TreeContent { path: entry.path, mode: entry.mode, content, seal: entry.seal })
            })
            .collect();
        if let Some(files) = files {
            loaded.insert(parse_digest(&tree.digest, "file_trees.digest")?, files);
        }
    }
    Ok(loaded)
}
