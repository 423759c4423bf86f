//! The connection pool and the schema's migrations.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};
use tracing::{info, warn};

use crate::{Listener, StoreError, StoreResult};

static DURABLE: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/durable");
/// A schema that may be dropped at any time: it is made again, empty, and fills itself.
struct Projection {
    schema: &'static str,
    history: &'static str,
    migrations: sqlx::migrate::Migrator,
    tables: &'static [&'static str],
}

static PROJECTIONS: [Projection; 2] = [
    Projection {
        schema: "desired",
        history: "desired._migrations",
        migrations: sqlx::migrate!("../../migrations/desired"),
        tables: &[
            "blobs",
            "commits",
            "dependencies",
            "file_trees",
            "fleet_revisions",
            "fleets",
            "http_files",
            "input_values",
            "manifests",
            "plans",
            "sources",
            "takes_from",
        ],
    },
    Projection {
        schema: "rendered",
        history: "rendered._migrations",
        migrations: sqlx::migrate!("../../migrations/rendered"),
        tables: &["specs"],
    },
];

/// Lock that is held while the schema changes: two services that start together migrate one after the other.
const MIGRATION_LOCK: i64 = 0x5348_4f52_454d_4947;

/// How to reach the database.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `postgres://…`.
    pub url: String,
    /// The most connections to hold.
    pub max_connections: u32,
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    options: PgConnectOptions,
}

impl Store {
    /// Connects; waits at most 10 s for the first connection.
    ///
    /// # Errors
    /// When the URL does not parse or the server does not answer.
    pub async fn connect(options: &ConnectOptions) -> StoreResult<Self> {
        let connect =
            PgConnectOptions::from_str(&options.url).map_err(StoreError::Url)?.application_name("fleetd").options([
                ("client_min_messages", "warning"),
                ("statement_timeout", "60s"),
                ("idle_in_transaction_session_timeout", "60s"),
                // Where tables have no statistics yet, statements of milliseconds were compiled for seconds.
                ("jit", "off"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(connect.clone())
            .await?;
        Ok(Self { pool, options: connect })
    }

    /// The pool, for read-only queries of this crate's functions.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self) -> StoreResult<Transaction<'static, Postgres>> {
        Ok(self.pool.begin().await?)
    }

    /// A connection of its own that hears notifications.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn listen(&self) -> StoreResult<Listener> {
        Listener::connect(self.options.clone()).await
    }

    /// How connections outside the pool are made.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Answers whether the database can be asked.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn ping(&self) -> StoreResult<()> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Brings the schema up to date. A damaged projection is dropped and made again, empty: it fills itself at the next
    /// sync.
    ///
    /// # Errors
    /// When a migration fails, or the database was migrated by a newer version.
    pub async fn migrate(&self) -> StoreResult<()> {
        // A connection of its own, closed at the end: the lock goes with it, whatever happens.
        let mut connection = PgConnection::connect_with(&self.options).await?;
        sqlx::query("set statement_timeout = 0").execute(&mut connection).await?;
        sqlx::query("select pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut connection).await?;
        // Not `run`: its future cannot be sent between threads.
        DURABLE.run_direct(None, &mut connection, false).await?;
        for projection in &PROJECTIONS {
            projection.migrate(&mut connection).await?;
        }
        connection.close().await?;
        info!("Database schema is up to date");
        Ok(())
    }
}

impl Projection {
    async fn migrate(&self, connection: &mut PgConnection) -> StoreResult<()> {
        let existed = self.present(connection).await?;
        let migrated = self.run(connection).await;
        let present = self.present(connection).await?;
        let missing: Vec<&str> =
            self.tables.iter().copied().filter(|table| !present.iter().any(|t| t == table)).collect();
        match migrated {
            Ok(()) if missing.is_empty() => return Ok(()),
            // A newer version has been here: hands off.
            Err(error @ StoreError::Migration(MigrateError::VersionMissing(_))) => return Err(error),
            Err(error) if existed.is_empty() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        warn!(schema = self.schema, missing = missing.join(", "), "A schema is damaged; making it again");
        let drop = format!("drop schema if exists {} cascade", self.schema);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut *connection).await?;
        self.run(connection).await
    }

    async fn run(&self, connection: &mut PgConnection) -> StoreResult<()> {
        let mut migrator = sqlx::migrate::Migrator {
            migrations: self.migrations.migrations.clone(),
            ..sqlx::migrate::Migrator::DEFAULT
        };
        migrator.dangerous_set_table_name(self.history);
        migrator.create_schema(self.schema);
        Ok(migrator.run_direct(None, connection, false).await?)
    }

    async fn present(&self, connection: &mut PgConnection) -> StoreResult<Vec<String>> {
        let tables = "select table_name::text from information_schema.tables where table_schema = $1";
        Ok(sqlx::query_scalar(tables).bind(self.schema).fetch_all(connection).await?)
    }
}
