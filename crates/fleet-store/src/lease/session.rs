//! Coming by a lease and keeping it, on a connection of its own that has an advisory lock. PostgreSQL frees the lock in the
//! moment the connection ends, so a killed holder is replaced at once; that its lease runs out counts only where the
//! connection outlives its process's work: it stands still, or was cut off without a word.
//!
//! Safety does not rest on the lock. Whoever takes the lease gets a higher token, and that refuses late writers
//! ([`Lease::fence`]).

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tracing::warn;

use super::{Lease, LeaseName};
use crate::{Store, StoreResult};

/// How long the lock is waited for at least: a holder that is just ending, or just beginning, must not be taken for one that
/// stands still.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// Which rows of `pg_locks` are the lock `{key}`, held.
const HELD: &str = "locktype = 'advisory' and granted and objsubid = 1
     and database = (select oid from pg_database where datname = current_database())
     and classid::bigint = ({key}::bigint >> 32) & 4294967295 and objid::bigint = {key}::bigint & 4294967295";

/// A connection that waits for a lease, and then holds it. The lease can be taken over as soon as it ends.
#[derive(Debug)]
pub struct LeaseSession {
    connection: PgConnection,
    name: LeaseName,
    holder: String,
    /// The server process that took the lease.
    backend: i32,
    /// Whether the server process serves others, too, as behind a pooler in transaction mode.
    shared: bool,
}

impl LeaseSession {
    /// Opens the connection.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(store: &Store, name: LeaseName, holder: &str) -> StoreResult<Self> {
        // Where a machine lost its power or its network, its session ends by itself, and its place in the queue with it.
        let options = store.connect_options().application_name("fleetd lease").options([
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "10s"),
        ]);
        // Waiting is slow on purpose, and no news.
        let options = options.disable_statement_logging();
        let connection = PgConnection::connect_with(&options).await?;
        Ok(Self { connection, name, holder: holder.to_owned(), backend: 0, shared: false })
    }

    /// Waits for the lease, about as long as the present holder's lasts, and takes it when the holder's session ended or the
    /// lease ran out; the session is ended then. Each time the token grows. `None` when somebody else holds it: ask again at
    /// once. Not to be called again after it gave a lease.
    ///
    /// # Errors
    /// When the database fails; the session is of no use any more then.
    pub async fn acquire(&mut self, ttl: Duration) -> StoreResult<Option<Lease>> {
        let left = self.left().await?;
        if self.lock_within(left.min(ttl).max(LEAST_WAIT)).await? {
            return self.take(true, ttl).await;
        }
        // Others see the lease run out in the same moment: who has just got the lock is spared at first.
        for idle in [2 * LEAST_WAIT, Duration::ZERO] {
            if !self.left().await?.is_zero() {
                return Ok(None);
            }
            self.end_overdue(idle).await?;
            if self.lock_within(LEAST_WAIT).await? {
                return self.take(true, ttl).await;
            }
        }
        self.take(false, ttl).await
    }

    /// Holds the lease for another `ttl`. `false` when it was lost.
    ///
    /// # Errors
    /// When the database fails. Should the connection be broken, the lease can be taken over from now on.
    pub async fn renew(&mut self, lease: &Lease, ttl: Duration) -> StoreResult<bool> {
        let backend = sqlx::query_scalar!(
            r#"update leases set expires_at = now() + make_interval(secs => $4)
               where name = $1 and holder = $2 and token = $3
               returning pg_backend_pid() as "backend!""#,
            lease.name.as_str(),
            lease.holder,
            lease.token,
            ttl.as_secs_f64(),
        )
        .fetch_optional(&mut self.connection)
        .await?;
        if backend.is_some_and(|backend| backend != self.backend) {
            self.found_shared();
        }
        Ok(backend.is_some())
    }

    /// Gives the lease back and ends the session: whoever waits has it at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release(mut self, lease: &Lease) -> StoreResult<()> {
        sqlx::query!(
            "update leases set expires_at = now() where name = $1 and holder = $2 and token = $3",
            lease.name.as_str(),
            lease.holder,
            lease.token,
        )
        .execute(&mut self.connection)
        .await?;
        self.connection.close().await?;
        Ok(())
    }

    /// How long the present holder's lease still lasts; zero when there is none.
    async fn left(&mut self) -> StoreResult<Duration> {
        let seconds = sqlx::query_scalar!(
            r#"select extract(epoch from expires_at - clock_timestamp())::float8 as "left!" from leases where name = $1"#,
            self.name.as_str(),
        )
        .fetch_optional(&mut self.connection)
        .await?;
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default())
    }

    /// Waits for the lock. Bounded: a waiting statement has a snapshot, and what is younger is not vacuumed meanwhile. The
    /// end of the wait is caught where it comes up, so that it is no error in the server's log.
    async fn lock_within(&mut self, patience: Duration) -> StoreResult<bool> {
        let (key, held) = (self.name.key(), self.held());
        let milliseconds = patience.as_millis().max(1);
        let wait = format!(
            "do $$ begin
               if exists (select from pg_locks where {held} and pid = pg_backend_pid()) then
                 raise exception 'the session had the lock before' using errcode = 'object_in_use';
               end if;
               perform set_config('lock_timeout', '{milliseconds}', true);
               perform pg_advisory_lock({key});
             exception when lock_not_available then null;
             end $$"
        );
        match sqlx::raw_sql(AssertSqlSafe(wait)).execute(&mut self.connection).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55006") => {
                self.found_shared();
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let has = format!("select exists (select from pg_locks where {held} and pid = pg_backend_pid())");
        Ok(sqlx::query_scalar(AssertSqlSafe(has)).fetch_one(&mut self.connection).await?)
    }

    /// Ends the session that has the lock though the lease ran out, unless it did something within `idle`: its process
    /// stands still, or was cut off.
    async fn end_overdue(&mut self, idle: Duration) -> StoreResult<()> {
        let end = format!(
            "select pg_terminate_backend(pid) from pg_locks join pg_stat_activity using (pid)
             where {} and pid <> pg_backend_pid()
               and coalesce(state_change <= clock_timestamp() - make_interval(secs => $2), true)
               and not exists (select from leases where name = $1 and expires_at >= clock_timestamp())",
            self.held()
        );
        let ended: Result<Vec<bool>, _> = sqlx::query_scalar(AssertSqlSafe(end))
            .bind(self.name.as_str())
            .bind(idle.as_secs_f64())
            .fetch_all(&mut self.connection)
            .await;
        match ended {
            Ok(_) => Ok(()),
            // 42501: it is another role's. The lease can be had without it.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
                warn!(%error, "Cannot end the session of a holder whose lease ran out; use one database role for all fleetd");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lease: at any time with the lock, else when it ran out.
    async fn take(&mut self, locked: bool, ttl: Duration) -> StoreResult<Option<Lease>> {
        let taken = sqlx::query!(
            r#"insert into leases (name, holder, token, expires_at)
               values ($1, $2, 1, now() + make_interval(secs => $3))
               on conflict (name) do update
                 set holder = excluded.holder, token = leases.token + 1, expires_at = excluded.expires_at
                 where $4 or leases.expires_at < now()
               returning token, pg_backend_pid() as "backend!""#,
            self.name.as_str(),
            self.holder,
            ttl.as_secs_f64(),
            locked,
        )
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(taken) = taken else { return Ok(None) };
        self.backend = taken.backend;
        Ok(Some(Lease { name: self.name, holder: self.holder.clone(), token: taken.token }))
    }

    fn held(&self) -> String {
        HELD.replace("{key}", &self.name.key().to_string())
    }

    fn found_shared(&mut self) {
        if !self.shared {
            warn!(
                "The database is reached through something that shares its sessions, such as a pooler in transaction mode: \
                 after a kill the next service waits until the lease runs out. Connect to PostgreSQL itself, or use session mode"
            );
        }
        self.shared = true;
    }

    #[cfg(test)]
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
