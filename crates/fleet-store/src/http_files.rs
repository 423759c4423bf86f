//! Files of web servers that manifests take: what was seen last. Their contents lie with all other pinned contents.

use fleet_model::{Digest, OrgId};
use sqlx::PgConnection;

use crate::fleets::parse_digest;
use crate::{StoreResult, Ts};

/// What was seen of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpFile {
    /// The `ETag` that came with the contents.
    pub etag: Option<String>,
    /// The `Last-Modified` that came with the contents.
    pub last_modified: Option<String>,
    /// The digest of the contents; `None` while there never were any.
    pub digest: Option<Digest>,
    /// Why the last look brought nothing.
    pub error: Option<String>,
}

/// What is known of the file with this URL, and its contents where they were pinned.
///
/// # Errors
/// When the database fails or holds what no file can be.
pub async fn http_file(
    connection: &mut PgConnection,
    org: OrgId,
    url: &str,
) -> StoreResult<Option<(HttpFile, Option<Vec<u8>>)>> {
    let row = sqlx::query!(
        r#"select f.etag, f.last_modified, f.digest, f.error, b.content as "content?"
           from desired.http_files f left join desired.blobs b on b.digest = f.digest
           where f.org_id = $1 and f.url = $2"#,
        org.as_uuid(),
        url,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let digest = row.digest.map(|raw| parse_digest(&raw, "http_files.digest")).transpose()?;
        let file = HttpFile { etag: row.etag, last_modified: row.last_modified, digest, error: row.error };
        Ok((file, row.content))
    })
    .transpose()
}

/// Notes what a look brought.
///
/// # Errors
/// When the database fails.
pub async fn record_http_file(
    connection: &mut PgConnection,
    org: OrgId,
    url: &str,
    file: &HttpFile,
    at: Ts,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into desired.http_files (org_id, url, etag, last_modified, digest, error, last_polled_at)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (org_id, url) do update
           set etag = excluded.etag, last_modified = excluded.last_modified, digest = excluded.digest,
               error = excluded.error, last_polled_at = excluded.last_polled_at",
        org.as_uuid(),
        url,
        file.etag,
        file.last_modified,
        file.digest.as_ref().map(|digest| digest.as_bytes().as_slice()),
        file.error,
        at as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes what is known of files that are not among `named` and were not asked for since `asked_before`. Returns how many
/// went.
///
/// # Errors
/// When the database fails.
pub async fn forget_http_files(
    connection: &mut PgConnection,
    org: OrgId,
    named: &[String],
    asked_before: Ts,
) -> StoreResult<u64> {
    let done = sqlx::query!(
        "delete from desired.http_files where org_id = $1 and last_polled_at < $3 and url <> all($2)",
        org.as_uuid(),
        named,
        asked_before as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
