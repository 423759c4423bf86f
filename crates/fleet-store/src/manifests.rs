//! Manifests as they were applied: who defines what, where, and with which document.

use std::collections::BTreeMap;

use fleet_model::{CommitId, Digest, Kind, OrgId};
use serde_json::Value;
use sqlx::PgConnection;

use crate::fleets::parse_digest;
use crate::object_owners::{own, own_only};
use crate::tombstones::{Grace, bury, revive};
use crate::{StoreError, StoreResult};

/// A manifest to store.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestRow {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Path from the repository's root.
    pub file: String,
    /// First line, from 1.
    pub line: u32,
    /// Last line, from 1.
    pub end_line: u32,
    /// The whole document.
    pub document: Value,
    /// Digest of the document's canonical form.
    pub digest: Digest,
    /// For a device with a specification of its own: its revision.
    pub revision: Option<String>,
    /// For a device with a specification of its own: why it has no revision.
    pub problem: Option<String>,
}

/// Where a manifest is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPlace {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The source that defines it.
    pub source: String,
    /// Path from the repository's root.
    pub file: String,
    /// First line, from 1.
    pub line: u32,
}

pub(crate) fn parse_kind(text: &str) -> StoreResult<Kind> {
    text.parse().map_err(|reason| StoreError::Corrupt { what: "manifests.kind", reason })
}

fn to_line(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(1)
}

fn from_line(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Which of these (kind, name) another source defines already. What is leaving there is free for others.
///
/// # Errors
/// When the database fails.
pub async fn manifests_elsewhere(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    objects: &[(Kind, String)],
) -> StoreResult<Vec<ManifestPlace>> {
    let kinds: Vec<String> = objects.iter().map(|(kind, _)| kind.as_str().to_owned()).collect();
    let names: Vec<String> = objects.iter().map(|(_, name)| name.clone()).collect();
    let rows = sqlx::query!(
        "select m.kind, m.name, m.source, m.file, m.line from desired.manifests m
         join unnest($3::text[], $4::text[]) as wanted (kind, name) on m.kind = wanted.kind and m.name = wanted.name
         where m.org_id = $1 and m.source <> $2 and not m.leaving order by m.kind, m.name",
        org.as_uuid(),
        source,
        &kinds,
        &names,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ManifestPlace {
                kind: parse_kind(&row.kind)?,
                name: row.name,
                source: row.source,
                file: row.file,
                line: to_line(row.line),
            })
        })
        .collect()
}

/// What an apply changed among a source's manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestChanges {
    /// New ones and ones with another document, place or revision.
    pub written: Vec<(Kind, String)>,
    /// Gone ones.
    pub removed: Vec<(Kind, String)>,
    /// Of the written ones: those that were leaving, in whichever source.
    pub revived: Vec<(Kind, String)>,
}

/// What is stored of a manifest, without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestState {
    /// Path from the repository's root.
    pub file: String,
    /// First line, from 1.
    pub line: u32,
    /// Last line, from 1.
    pub end_line: u32,
    /// Digest of the document's canonical form.
    pub digest: Digest,
    /// For a device with a specification of its own: its revision.
    pub revision: Option<String>,
    /// Why it could not be carried out.
    pub problem: Option<String>,
}

impl ManifestState {
    /// Whether `row` says the same.
    pub fn is(&self, row: &ManifestRow) -> bool {
        self.file == row.file
            && self.line == row.line
            && self.end_line == row.end_line
            && self.digest == row.digest
            && self.revision == row.revision
            && self.problem == row.problem
    }
}

/// The manifests of a source, by kind and name.
pub type ManifestStates = BTreeMap<(Kind, String), ManifestState>;

/// Makes `rows` the complete set of the source's manifests; only what differs from `stored`, which
/// [`stored_manifests`] gives, is sent. A generation grows when its document changes. What the source has no more is gone
/// at once, or leaves with a tombstone when there is a `grace`.
///
/// # Errors
/// When the database fails.
pub async fn replace_manifests(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    commit: &CommitId,
    mut stored: ManifestStates,
    rows: &[ManifestRow],
    grace: Option<Grace>,
) -> StoreResult<ManifestChanges> {
    let (mut changed, mut new) = (Vec::new(), Vec::new());
    let first = stored.is_empty();
    for row in rows {
        let key = (row.kind, row.name.clone());
        match stored.remove(&key) {
            Some(known) if known.is(row) => {}
            Some(_) => changed.push(row),
            None => {
                changed.push(row);
                new.push(key);
            }
        }
    }
    let removed: Vec<(Kind, String)> = stored.into_keys().collect();
    if first {
        // What it defined before desired state was dropped is in no row that could tell.
        own_only(connection, org, source, &new).await?;
    }
    own(connection, org, source, &new, &removed).await?;
    match grace {
        Some(grace) if !removed.is_empty() => bury(connection, org, source, commit, &removed, grace).await?,
        Some(_) => {}
        None => remove_manifests(connection, org, source, &removed).await?,
    }
    for batch in changed.chunks(2_000) {
        write_manifests(connection, org, source, commit, batch).await?;
    }
    let written: Vec<(Kind, String)> = changed.into_iter().map(|row| (row.kind, row.name.clone())).collect();
    let revived = revive(connection, org, &written).await?;
    Ok(ManifestChanges { written, removed, revived })
}

/// What is stored of a source's manifests, without those that are leaving.
///
/// # Errors
/// When the database fails or holds what no manifest can be.
pub async fn stored_manifests(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<ManifestStates> {
    let rows = sqlx::query!(
        "select kind, name, file, line, end_line, digest, revision, problem from desired.manifests
         where org_id = $1 and source = $2 and not leaving",
        org.as_uuid(),
        source,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let stored = ManifestState {
                file: row.file,
                line: to_line(row.line),
                end_line: to_line(row.end_line),
                digest: parse_digest(&row.digest, "manifests.digest")?,
                revision: row.revision,
                problem: row.problem,
            };
            Ok(((parse_kind(&row.kind)?, row.name), stored))
        })
        .collect()
}

async fn remove_manifests(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    removed: &[(Kind, String)],
) -> StoreResult<()> {
    if removed.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = removed.iter().map(|(kind, _)| kind.as_str().to_owned()).collect();
    let names: Vec<String> = removed.iter().map(|(_, name)| name.clone()).collect();
    sqlx::query!(
        "delete from desired.manifests m using unnest($3::text[], $4::text[]) as gone (kind, name)
         where m.org_id = $1 and m.source = $2 and m.kind = gone.kind and m.name = gone.name",
        org.as_uuid(),
        source,
        &kinds,
        &names,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_manifests(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    commit: &CommitId,
    rows: &[&ManifestRow],
) -> StoreResult<()> {
    let kinds: Vec<String> = rows.iter().map(|r| r.kind.as_str().to_owned()).collect();
    let names: Vec<String> = rows.iter().map(|r| r.name.clone()).collect();
    let files: Vec<String> = rows.iter().map(|r| r.file.clone()).collect();
    let lines: Vec<i32> = rows.iter().map(|r| from_line(r.line)).collect();
    let end_lines: Vec<i32> = rows.iter().map(|r| from_line(r.end_line)).collect();
    let documents: Vec<Value> = rows.iter().map(|r| r.document.clone()).collect();
    let digests: Vec<Vec<u8>> = rows.iter().map(|r| r.digest.as_bytes().to_vec()).collect();
    let revisions: Vec<Option<String>> = rows.iter().map(|r| r.revision.clone()).collect();
    let problems: Vec<Option<String>> = rows.iter().map(|r| r.problem.clone()).collect();
    sqlx::query!(
        "insert into desired.manifests as m
           (org_id, source, commit_id, kind, name, file, line, end_line, document, digest, revision, problem)
         select $1, $2, $3, t.* from unnest($4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::jsonb[],
                                             $10::bytea[], $11::text[], $12::text[]) as t
         on conflict (org_id, kind, name) do update
           set source = excluded.source, file = excluded.file, line = excluded.line, end_line = excluded.end_line,
               document = excluded.document, digest = excluded.digest, revision = excluded.revision,
               problem = excluded.problem,
               commit_id = case when m.digest = excluded.digest then m.commit_id else excluded.commit_id end,
               generation = m.generation + (m.digest <> excluded.digest)::int",
        org.as_uuid(),
        source,
        commit.as_str(),
        &kinds,
        &names,
        &files,
        &lines,
        &end_lines,
        &documents,
        &digests,
        &revisions as _,
        &problems as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many manifests a source defines now.
///
/// # Errors
/// When the database fails.
pub async fn count_manifests(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<i64> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from desired.manifests where org_id = $1 and source = $2"#,
        org.as_uuid(),
        source,
    )
    .fetch_one(connection)
    .await?)
}

/// Documents of one kind, by name, with the source that defines each; also those that are leaving. With `names`, only
/// those.
///
/// # Errors
/// When the database fails.
pub async fn manifest_documents(
    connection: &mut PgConnection,
    org: OrgId,
    kind: Kind,
    names: Option<&[String]>,
) -> StoreResult<Vec<StoredManifest>> {
    Ok(sqlx::query_as!(
        StoredManifest,
        "select name, source, document, revision, problem, commit_id, leaving from desired.manifests
         where org_id = $1 and kind = $2 and ($3::text[] is null or name = any($3)) order by name",
        org.as_uuid(),
        kind.as_str(),
        names as _,
    )
    .fetch_all(connection)
    .await?)
}

/// A manifest as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredManifest {
    /// Its name.
    pub name: String,
    /// The source that defines it.
    pub source: String,
    /// The whole document.
    pub document: Value,
    /// For a device with a specification of its own: its revision.
    pub revision: Option<String>,
    /// For a device with a specification of its own: why it has no revision.
    pub problem: Option<String>,
    /// The commit that last changed the document.
    pub commit_id: String,
    /// Whether it left Git and is in force until its grace is over.
    pub leaving: bool,
}
