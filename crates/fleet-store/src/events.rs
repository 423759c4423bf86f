//! Events: what was done, when, and by whom.

use fleet_model::OrgId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::StoreResult;

/// An event to record.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent<'a> {
    /// Kind of the object it is about.
    pub kind: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// One CamelCase word.
    pub reason: &'a str,
    /// Whether somebody should look.
    pub warning: bool,
    /// One sentence.
    pub message: &'a str,
    /// `user:<name>` or `service:<part>`.
    pub actor: &'a str,
    /// Further facts.
    pub details: Option<Value>,
}

/// Records an event in the caller's transaction.
///
/// # Errors
/// When the database fails.
pub async fn record_event(connection: &mut PgConnection, org: OrgId, event: &NewEvent<'_>) -> StoreResult<()> {
    sqlx::query!(
        "insert into events (org_id, kind, name, reason, type, message, actor, details)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        org.as_uuid(),
        event.kind,
        event.name,
        event.reason,
        if event.warning { "Warning" } else { "Normal" },
        event.message,
        event.actor,
        event.details,
    )
    .execute(connection)
    .await?;
    Ok(())
}
