//! Leases with fencing tokens: at most one process writes desired state, and a late one is refused by the database.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use crate::{StoreError, StoreResult};

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
