//! Events: what was done, when, and by whom.

use fleet_model::OrgId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::{StoreResult, Ts};

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

/// Forgets events from before `before`, whatever they are about: looks at the `limit` oldest. Returns how many went.
///
/// # Errors
/// When the database fails.
pub async fn forget_events(connection: &mut PgConnection, before: Ts, limit: i64) -> StoreResult<u64> {
    let done = sqlx::query!(
        "delete from events
         where id in (select id from (select id, at from events order by id limit $2) oldest where at < $1)",
        before as _,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use fleet_test::TestDatabase;

    use super::*;
    use crate::{ConnectOptions, Store};

    #[tokio::test]
    async fn old_events_are_forgotten_the_oldest_first_and_no_younger_one() {
        let database = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 2 }).await.unwrap();
        store.migrate().await.unwrap();
        let mut connection = store.begin().await.unwrap();
        let event = |name| NewEvent {
            kind: "Source",
            name,
            reason: "Applied",
            warning: false,
            message: "m",
            actor: "service:syncer",
            details: None,
        };
        for name in ["a", "b", "c", "d"] {
            record_event(&mut connection, OrgId::DEFAULT, &event(name)).await.unwrap();
        }
        let old = "update events set at = now() - interval '2 days' where name < 'd'";
        sqlx::query(old).execute(&mut *connection).await.unwrap();
        let before: Ts =
            sqlx::query_scalar("select now() - interval '1 day'").fetch_one(&mut *connection).await.unwrap();
        let mut left = Vec::new();
        for _ in 0..3 {
            let gone = forget_events(&mut connection, before, 2).await.unwrap();
            let names: Vec<String> =
                sqlx::query_scalar("select name from events order by id").fetch_all(&mut *connection).await.unwrap();
            left.push((gone, names.concat()));
        }
        assert_eq!(left, [(2, "cd".to_owned()), (1, "d".to_owned()), (0, "d".to_owned())]);
    }
}
