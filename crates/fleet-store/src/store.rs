//! The connection pool and the schema's migrations.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};
use tracing::{info, warn};

use crate::{Listener, StoreError, StoreResult};

static DURABLE: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/durable");
static DESIRED: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/desired");

/// The tables of the disposable schema. When one is missing, all are made again.
const DESIRED_TABLES: [&str; 9] = [
    "blobs",
    "commits",
    "dependencies",
    "file_trees",
    "fleet_revisions",
    "fleets",
    "manifests",
    "rendered_specs",
    "sources",
];

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

    /// Brings both schemas up to date. A damaged `desired` schema is dropped and made again, empty: it is a
    /// projection of Git and fills itself at the next sync.
    ///
    /// # Errors
    /// When a migration fails, or the database was migrated by a newer version.
    pub async fn migrate(&self) -> StoreResult<()> {
        DURABLE.run(&self.pool).await?;
        let existing = sqlx::query_scalar::<_, String>(
            "select table_name::text from information_schema.tables where table_schema = 'desired'",
        )
        .fetch_all(&self.pool)
        .await?;
        let missing: Vec<&str> =
            DESIRED_TABLES.into_iter().filter(|table| !existing.iter().any(|t| t == table)).collect();
        if !missing.is_empty() {
            if !existing.is_empty() {
                warn!(tables = missing.join(", "), "Desired state is incomplete; making it again from Git");
            }
            sqlx::query("drop schema if exists desired cascade").execute(&self.pool).await?;
        }
        let mut desired =
            sqlx::migrate::Migrator { migrations: DESIRED.migrations.clone(), ..sqlx::migrate::Migrator::DEFAULT };
        desired.dangerous_set_table_name("desired._migrations");
        desired.create_schema("desired");
        desired.run(&self.pool).await?;
        info!("Database schema is up to date");
        Ok(())
    }
}
