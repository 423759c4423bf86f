//! Leases with fencing tokens: at most one process writes desired state, and a late one is refused by the database. How one
//! comes by a lease is in [`session`].

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::{Store, StoreError, StoreResult};

pub(crate) mod session;

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

    /// The key of the lock that a holder's session has. Nothing else may use it.
    fn key(self) -> i64 {
        match self {
            Self::Syncer => 0x5348_4f52_4553_594e,
        }
    }
}

/// A lease that was acquired, for those who write under it. It holds only as long as its session renews it.
#[derive(Debug, Clone)]
pub struct Lease {
    name: LeaseName,
    holder: String,
    token: i64,
}

impl Lease {
    /// Opens a transaction that writes for this holder. It carries the token, so that a later holder can end it: a process
    /// that stands still, or was cut off from the database, cannot roll back by itself, and its locks would stay.
    ///
    /// Its statements are planned for the tables as they are now: plans that a connection kept from when there were few rows
    /// made a service that filled an empty database slower with each commit.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self, store: &Store) -> StoreResult<Transaction<'static, Postgres>> {
        let mut transaction = store.begin().await?;
        sqlx::query(
            "select set_config('application_name', $1, true), set_config('plan_cache_mode', 'force_custom_plan', true)",
        )
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
mod tests;
