//! What was in force of content from elsewhere, kept with a source's position: desired state that was dropped is made again
//! with exactly that.

use fleet_model::OrgId;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::{PinnedInput, StoreResult};

/// A revision in force, with what it has from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePins {
    /// The fleet's name, or `Device/<name>`.
    pub owner: String,
    /// The revision's name, which follows from its content.
    pub revision: String,
    /// What is pinned, without what is of the source's own commit.
    pub inputs: Vec<PinnedInput>,
}

/// What was in force with the source's position.
///
/// # Errors
/// When the database fails or holds what no pinned input can be.
pub async fn source_pins(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<Vec<SourcePins>> {
    let rows = sqlx::query!(
        r#"select owner, revision, inputs as "inputs: Json<Vec<PinnedInput>>" from source_pins
           where org_id = $1 and source = $2 order by owner"#,
        org.as_uuid(),
        source,
    )
    .fetch_all(connection)
    .await?;
    let pins = |owner, revision, inputs: Json<Vec<PinnedInput>>| SourcePins { owner, revision, inputs: inputs.0 };
    Ok(rows.into_iter().map(|row| pins(row.owner, row.revision, row.inputs)).collect())
}

/// Makes `pins` those of the source; belongs into the transaction that moves its position. Of owners in `waiting`, which
/// have no new revision, what was known stays.
///
/// # Errors
/// When the database fails.
pub async fn record_pins(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    pins: &[SourcePins],
    waiting: &[String],
) -> StoreResult<()> {
    let kept: Vec<String> = pins.iter().map(|one| one.owner.clone()).chain(waiting.iter().cloned()).collect();
    sqlx::query!(
        "delete from source_pins where org_id = $1 and source = $2 and not owner = any($3)",
        org.as_uuid(),
        source,
        &kept,
    )
    .execute(&mut *connection)
    .await?;
    for batch in pins.chunks(2_000) {
        let owners: Vec<String> = batch.iter().map(|one| one.owner.clone()).collect();
        let revisions: Vec<String> = batch.iter().map(|one| one.revision.clone()).collect();
        let inputs: Vec<Json<&[PinnedInput]>> = batch.iter().map(|one| Json(&one.inputs[..])).collect();
        sqlx::query!(
            "insert into source_pins (org_id, source, owner, revision, inputs)
             select $1, $2, t.owner, t.revision, t.inputs
             from unnest($3::text[], $4::text[], $5::jsonb[]) as t (owner, revision, inputs)
             where not exists (select from source_pins p
                               where p.org_id = $1 and p.source = $2 and p.owner = t.owner
                                 and p.revision = t.revision and p.inputs = t.inputs)
             on conflict (org_id, source, owner) do update set revision = excluded.revision, inputs = excluded.inputs",
            org.as_uuid(),
            source,
            &owners,
            &revisions,
            &inputs as _,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
