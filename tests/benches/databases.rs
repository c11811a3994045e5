//! Databases of the benchmarks: a new SQLite file, or a new database on the PostgreSQL server. What is in
//! them is for the benchmark.

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, SqlitePool};
use tempfile::TempDir;

/// Connections of the application's pool.
pub(crate) const CONNECTIONS: u32 = 10;

/// A new SQLite file with a write-ahead log, which is gone with the folder.
pub(crate) async fn sqlite() -> (TempDir, SqlitePool) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("bench.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await;
    (folder, pool.expect("a database"))
}

/// Says that there is no such server.
pub(crate) fn skip(server: &str, place: impl std::fmt::Display, reason: impl std::fmt::Display) {
    println!("SKIPPED: no {server} at {place} ({reason})");
}

/// A new database on the server at `MULTICORE_TEST_POSTGRES_URL`.
pub(crate) struct PostgresDatabase {
    options: PgConnectOptions,
    name: String,
    pub(crate) pool: PgPool,
}

impl PostgresDatabase {
    /// A new one, or none, said aloud, where there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let url = std::env::var("MULTICORE_TEST_POSTGRES_URL");
        let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let options: PgConnectOptions = url.parse().expect("a PostgreSQL URL");
        let Ok(mut admin) = PgConnection::connect_with(&options).await else {
            skip("PostgreSQL", "MULTICORE_TEST_POSTGRES_URL", "no connection");
            return None;
        };
        let name = format!("multicore_bench_{}", std::process::id());
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        let pool = pool.connect_with(options.clone().database(&name)).await.expect("a pool");
        Some(PostgresDatabase { options, name, pool })
    }

    /// Drops it.
    pub(crate) async fn clean_up(self) {
        self.pool.close().await;
        let mut admin = PgConnection::connect_with(&self.options).await.expect("a connection");
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.execute(AssertSqlSafe(sql)).await.expect("dropped");
    }
}
