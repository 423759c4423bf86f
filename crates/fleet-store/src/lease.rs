//! Leases with fencing tokens: at most one process writes desired state, and a late one is refused by the database.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::{Store, StoreError, StoreResult};

/// How connections are called while a holder writes; the token follows.
const WRITER: &str = "fleetd writer ";

/// What is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseName {
    /// Writing desired state: sources, ownership, rendering.
    Syncer,
}

impl LeaseName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Syncer => "syncer",
        }
    }
}

/// A lease that was acquired. It holds only as long as it is renewed.
#[derive(Debug, Clone)]
pub struct Lease {
    name: LeaseName,
    holder: String,
    token: i64,
}

impl Lease {
    /// Takes the lease when nobody holds it, it ran out, or `holder` itself held it before (a restart). Each time the
    /// token grows. `None` when somebody else holds it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acquire(pool: &PgPool, name: LeaseName, holder: &str, ttl: Duration) -> StoreResult<Option<Self>> {
        let token = sqlx::query_scalar!(
            r#"insert into leases (name, holder, token, expires_at)
               values ($1, $2, 1, now() + make_interval(secs => $3))
               on conflict (name) do update
                 set holder = excluded.holder, token = leases.token + 1, expires_at = excluded.expires_at
                 where leases.expires_at < now() or leases.holder = excluded.holder
               returning token"#,
            name.as_str(),
            holder,
            ttl.as_secs_f64(),
        )
        .fetch_optional(pool)
        .await?;
        Ok(token.map(|token| Self { name, holder: holder.to_owned(), token }))
    }

    /// Holds the lease for another `ttl`. `false` when it was lost.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew(&self, pool: &PgPool, ttl: Duration) -> StoreResult<bool> {
        let done = sqlx::query!(
            "update leases set expires_at = now() + make_interval(secs => $4)
             where name = $1 and holder = $2 and token = $3",
            self.name.as_str(),
            self.holder,
            self.token,
            ttl.as_secs_f64(),
        )
        .execute(pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives the lease back, so that the next one need not wait.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release(&self, pool: &PgPool) -> StoreResult<()> {
        sqlx::query!(
            "update leases set expires_at = now() where name = $1 and holder = $2 and token = $3",
            self.name.as_str(),
            self.holder,
            self.token,
        )
        .execute(pool)
        .await?;
        Ok(())
    }

    /// Opens a transaction that writes for this holder. It carries the token, so that a later holder can end it: a process
    /// that stands still, or was cut off from the database, cannot roll back by itself, and its locks would stay.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self, store: &Store) -> StoreResult<Transaction<'static, Postgres>> {
        let mut transaction = store.begin().await?;
        sqlx::query("select set_config('application_name', $1, true)")
            .bind(format!("{WRITER}{}", self.token))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }

    /// Ends what holders before this one left open, with its locks; nothing of it is written. Returns how many
    /// transactions there were.
    ///
    /// # Errors
    /// When the database fails, or the earlier holder used a role whose connections this one may not end.
    pub async fn end_predecessors(&self, pool: &PgPool) -> StoreResult<usize> {
        let ended: Vec<bool> = sqlx::query_scalar(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()
               and application_name ~ ('^' || $1 || '[0-9]+$') and substr(application_name, length($1) + 1)::numeric < $2",
        )
        .bind(WRITER)
        .bind(self.token)
        .fetch_all(pool)
        .await?;
        Ok(ended.len())
    }

    /// Refuses a writer whose lease was taken over. Every transaction that writes desired state asks this after it has
    /// taken the lock of device changes ([`crate::lock_device_changes`]): a new holder's writes wait for that lock, so
    /// they come after whatever this transaction still does. Renewing goes on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease was lost.
    pub async fn fence(&self, connection: &mut PgConnection) -> StoreResult<()> {
        let held = sqlx::query_scalar!(
            r#"select 1 as "one!" from leases where name = $1 and holder = $2 and token = $3 for key share"#,
            self.name.as_str(),
            self.holder,
            self.token,
        )
        .fetch_optional(connection)
        .await?;
        match held {
            Some(_) => Ok(()),
            None => Err(StoreError::Fenced { name: self.name.as_str().to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_test::TestDatabase;

    use super::*;
    use crate::{ConnectOptions, lock_device_changes};

    const TTL: Duration = Duration::from_secs(60);

    async fn store(database: &TestDatabase) -> Store {
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 4 }).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    async fn lease(store: &Store, holder: &str) -> Lease {
        Lease::acquire(store.pool(), LeaseName::Syncer, holder, TTL).await.unwrap().expect("nobody holds it")
    }

    async fn write(transaction: &mut PgConnection) {
        let insert = "insert into orgs (id, name) values (gen_random_uuid(), 'written')";
        sqlx::query(insert).execute(transaction).await.unwrap();
    }

    async fn written(store: &Store) -> i64 {
        sqlx::query_scalar("select count(*) from orgs where name = 'written'").fetch_one(store.pool()).await.unwrap()
    }

    #[tokio::test]
    async fn a_writer_with_an_old_token_is_refused_inside_its_transaction() {
        let database = TestDatabase::create();
        let store = store(&database).await;
        let old = lease(&store, "a").await;
        let mut late = old.begin(&store).await.unwrap();
        write(&mut late).await;
        old.fence(&mut late).await.unwrap();
        assert!(Lease::acquire(store.pool(), LeaseName::Syncer, "b", TTL).await.unwrap().is_none(), "a holds it");
        late.rollback().await.unwrap();

        old.release(store.pool()).await.unwrap();
        let new = lease(&store, "b").await;
        let mut late = old.begin(&store).await.unwrap();
        lock_device_changes(&mut late).await.unwrap();
        write(&mut late).await;
        let refused = old.fence(&mut late).await.unwrap_err();
        assert!(matches!(refused, StoreError::Fenced { .. }), "{refused}");
        drop(late);
        assert_eq!(written(&store).await, 0);
        assert!(!old.renew(store.pool(), TTL).await.unwrap(), "what was taken over cannot be renewed");
        old.release(store.pool()).await.unwrap();
        let mut good = new.begin(&store).await.unwrap();
        lock_device_changes(&mut good).await.unwrap();
        new.fence(&mut good).await.unwrap();
        write(&mut good).await;
        good.commit().await.unwrap();
        assert_eq!(written(&store).await, 1);

        // The same holder after a restart is another holder.
        let again = lease(&store, "b").await;
        let mut late = new.begin(&store).await.unwrap();
        assert!(new.fence(&mut late).await.is_err());
        drop(late);
        let mut good = again.begin(&store).await.unwrap();
        again.fence(&mut good).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_holder_does_not_wait_for_locks_of_one_that_stands_still() {
        let database = TestDatabase::create();
        let store = store(&database).await;
        let old = lease(&store, "a").await;
        let mut stuck = old.begin(&store).await.unwrap();
        lock_device_changes(&mut stuck).await.unwrap();
        old.fence(&mut stuck).await.unwrap();
        write(&mut stuck).await;
        old.release(store.pool()).await.unwrap();
        let new = lease(&store, "b").await;
        let mut own = new.begin(&store).await.unwrap();
        assert_eq!(new.end_predecessors(store.pool()).await.unwrap(), 1);
        let locked = tokio::time::timeout(Duration::from_secs(20), lock_device_changes(&mut own)).await;
        locked.expect("the lock is free").unwrap();
        new.fence(&mut own).await.unwrap();
        own.commit().await.unwrap();
        let error: StoreError = stuck.commit().await.unwrap_err().into();
        assert!(error.is_unavailable(), "its work is tried again or given up: {error}");
        assert_eq!(written(&store).await, 0);
        assert_eq!(new.end_predecessors(store.pool()).await.unwrap(), 0, "its own name is gone with its transaction");
    }
}
