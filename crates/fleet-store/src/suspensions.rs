//! Sources that people suspended: looked at, and not applied. Durable: they outlive desired state.

use std::time::Duration;

use fleet_model::OrgId;
use sqlx::PgConnection;

use crate::{StoreError, StoreResult, Ts};

/// Why and by whom a source is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// In the words of whoever suspended it.
    pub reason: String,
    /// Who that is: `user:<name>`.
    pub by: String,
    /// Until when; `None`: until somebody resumes it.
    pub until: Option<Ts>,
}

/// The suspension of a source, also one that is over and was not ended yet.
///
/// # Errors
/// When the database fails.
pub async fn source_suspension(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
) -> StoreResult<Option<Suspension>> {
    Ok(sqlx::query_as!(
        Suspension,
        r#"select reason, suspended_by as by, expires_at as "until: Ts"
           from source_suspensions where org_id = $1 and source = $2"#,
        org.as_uuid(),
        source,
    )
    .fetch_optional(connection)
    .await?)
}

/// Suspends a source, or changes its suspension. Returns whether that is news. First waits, at most `wait` for each lock,
/// until nobody applies a commit of it: once the transaction is over, nothing of the source is applied any more.
///
/// # Errors
/// [`StoreError::Busy`] when it has to wait for longer; when the database fails. The transaction is of no use then.
pub async fn suspend_source(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    suspension: &Suspension,
    at: Ts,
    wait: Duration,
) -> StoreResult<bool> {
    let result = lock_and_suspend(connection, org, source, suspension, at, wait).await;
    result.map_err(|error| match error.is_locked() {
        true => StoreError::Busy { what: format!("source {source}"), seconds: wait.as_secs() },
        false => error,
    })
}

async fn lock_and_suspend(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    suspension: &Suspension,
    at: Ts,
    wait: Duration,
) -> StoreResult<bool> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", wait.as_millis().max(1)))
        .execute(&mut *connection)
        .await?;
    // An apply has the row for itself until it is written or given up, see `lock_source`.
    sqlx::query("select from desired.sources where org_id = $1 and name = $2 for share")
        .bind(org.as_uuid())
        .bind(source)
        .execute(&mut *connection)
        .await?;
    let done = sqlx::query!(
        "insert into source_suspensions as s (org_id, source, reason, suspended_by, suspended_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (org_id, source) do update
           set reason = excluded.reason, suspended_by = excluded.suspended_by, suspended_at = excluded.suspended_at,
               expires_at = excluded.expires_at
           where (s.reason, s.suspended_by, s.expires_at)
                 is distinct from (excluded.reason, excluded.suspended_by, excluded.expires_at)",
        org.as_uuid(),
        source,
        suspension.reason,
        suspension.by,
        at as _,
        suspension.until as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends the suspension of a source; with `over_at`, only one that is over then. Returns whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn end_suspension(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    over_at: Option<Ts>,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "delete from source_suspensions
         where org_id = $1 and source = $2 and ($3::timestamptz is null or expires_at <= $3)",
        org.as_uuid(),
        source,
        over_at as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use fleet_test::{TestDatabase, wait_for};

    use super::*;
    use crate::{ConnectOptions, ORIGIN_CONFIG, SourceDefinition, Store, lock_source, put_source};

    const ORG: OrgId = OrgId::DEFAULT;

    fn suspension() -> Suspension {
        Suspension { reason: "stop".to_owned(), by: "user:ann".to_owned(), until: None }
    }

    #[tokio::test]
    async fn a_suspension_waits_for_the_apply_that_is_going_through() {
        let database = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 4 }).await.unwrap();
        store.migrate().await.unwrap();
        let source = SourceDefinition {
            name: "main".to_owned(),
            origin: ORIGIN_CONFIG.to_owned(),
            url: "https://git.example/x".to_owned(),
            credential: None,
            revision: "main".to_owned(),
            path: "/".to_owned(),
        };
        let mut writes = store.begin().await.unwrap();
        put_source(&mut writes, ORG, &source).await.unwrap();
        writes.commit().await.unwrap();
        let at = Ts::from(jiff::Timestamp::UNIX_EPOCH);
        let mut applies = store.begin().await.unwrap();
        lock_source(&mut applies, ORG, &source, false).await.unwrap().unwrap();
        assert_eq!(source_suspension(&mut applies, ORG, "main").await.unwrap(), None);

        // Somebody who does not want to wait hears it, and nothing is written.
        let mut hasty = store.begin().await.unwrap();
        let short = Duration::from_millis(50);
        let busy = suspend_source(&mut hasty, ORG, "main", &suspension(), at, short).await.unwrap_err();
        assert!(matches!(busy, StoreError::Busy { .. }) && !busy.is_unavailable(), "{busy}");
        assert!(busy.to_string().contains("source main"), "{busy}");
        drop(hasty);
        // Other sources have nothing to do with it.
        let mut other = store.begin().await.unwrap();
        assert!(suspend_source(&mut other, ORG, "other", &suspension(), at, short).await.unwrap());
        other.commit().await.unwrap();

        let waits = store.clone();
        let mut suspends = tokio::task::JoinSet::new();
        suspends.spawn(async move {
            let mut transaction = waits.begin().await.unwrap();
            let long = Duration::from_secs(60);
            let news = suspend_source(&mut transaction, ORG, "main", &suspension(), at, long).await.unwrap();
            transaction.commit().await.unwrap();
            news
        });
        wait_for("the suspension to wait for the apply", Duration::from_secs(20), async || {
            let sql = "select count(*) from pg_locks where not granted";
            let waiting: i64 = sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap();
            (waiting > 0).then_some(())
        })
        .await;
        assert!(suspends.try_join_next().is_none());
        assert_eq!(source_suspension(&mut applies, ORG, "main").await.unwrap(), None);
        applies.commit().await.unwrap();
        assert!(suspends.join_next().await.unwrap().unwrap());
        // The next apply sees it as soon as it has the row.
        let mut next = store.begin().await.unwrap();
        lock_source(&mut next, ORG, &source, false).await.unwrap().unwrap();
        assert_eq!(source_suspension(&mut next, ORG, "main").await.unwrap(), Some(suspension()));
    }
}
