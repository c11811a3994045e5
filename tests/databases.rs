//! Databases of the tests: a SQLite file in a folder of its own, or a new database on a server, which
//! is dropped at the end, also after a panic. Without a server a test says aloud that it is skipped.

use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::panic::resume_unwind;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, MySqlPool, PgConnection, PgPool, SqlitePool,
};
use tempfile::TempDir;

/// Connections of an application's pool.
const CONNECTIONS: u32 = 4;

/// The acquire timeout of a pool that has no connection left: over soon, and yet long enough to open
/// one on a machine that is busy.
pub(crate) const SCARCE: Duration = Duration::from_secs(1);

/// An empty SQLite file, which is gone with the folder.
pub(crate) async fn sqlite() -> (TempDir, SqlitePool) {
    sqlite_of(CONNECTIONS).await
}

/// As [`sqlite`], with a pool of so many connections.
pub(crate) async fn sqlite_of(connections: u32) -> (TempDir, SqlitePool) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("test.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new().max_connections(connections).connect_with(options).await.unwrap();
    (folder, pool)
}

/// A table of so many rows, `id` from 1, `name` such as `user 1`.
pub(crate) async fn people(pool: &SqlitePool, rows: u32) {
    pool.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT ?)
         INSERT INTO person SELECT id, 'user ' || id FROM n WHERE ? > 0",
    )
    .bind(rows.max(1))
    .bind(rows)
    .execute(pool)
    .await
    .unwrap();
}

/// A new database on the PostgreSQL server at `MULTICORE_TEST_POSTGRES_URL`.
pub(crate) struct PostgresServer {
    admin: PgConnection,
    name: String,
    pub(crate) pool: PgPool,
}

impl PostgresServer {
    /// A new database, or none where there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let url = url("MULTICORE_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres");
        let options = PgConnectOptions::from_str(&url).unwrap();
        let mut admin = match options.connect().await {
            Ok(admin) => admin,
            Err(error) => {
                skip("PostgreSQL", format!("{}:{}", options.get_host(), options.get_port()), &error);
                return None;
            }
        };
        let name = unique_name();
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        let pool = pool.connect_with(options.database(&name)).await.unwrap();
        Some(PostgresServer { admin, name, pool })
    }

    /// Drops the database, whoever is still connected.
    pub(crate) async fn finish(mut self) {
        self.pool.close().await;
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

/// A new database on the MySQL or MariaDB server at `MULTICORE_TEST_MYSQL_URL`.
pub(crate) struct MySqlServer {
    admin: MySqlConnection,
    name: String,
    pub(crate) pool: MySqlPool,
}

impl MySqlServer {
    /// A new database, or none where there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let url = url("MULTICORE_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test");
        let options = MySqlConnectOptions::from_str(&url).unwrap();
        let mut admin = match options.connect().await {
            Ok(admin) => admin,
            Err(error) => {
                skip("MySQL", format!("{}:{}", options.get_host(), options.get_port()), &error);
                return None;
            }
        };
        let name = unique_name();
        let sql = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
        let pool = MySqlPoolOptions::new().max_connections(CONNECTIONS);
        let pool = pool.connect_with(options.database(&name)).await.unwrap();
        Some(MySqlServer { admin, name, pool })
    }

    /// Drops the database.
    pub(crate) async fn finish(mut self) {
        self.pool.close().await;
        self.admin.execute(AssertSqlSafe(format!("DROP DATABASE {}", self.name))).await.unwrap();
    }
}

/// Runs `test` with a new PostgreSQL database, or skips it where there is no server.
pub(crate) async fn with_postgres<F>(test: impl FnOnce(PgPool) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(server) = PostgresServer::new().await else { return };
    let outcome = tokio::spawn(test(server.pool.clone())).await;
    server.finish().await;
    pass_on(outcome);
}

/// Runs `test` with a new MySQL or MariaDB database, or skips it where there is no server.
pub(crate) async fn with_mysql<F>(test: impl FnOnce(MySqlPool) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(server) = MySqlServer::new().await else { return };
    let outcome = tokio::spawn(test(server.pool.clone())).await;
    server.finish().await;
    pass_on(outcome);
}

fn pass_on(outcome: Result<(), tokio::task::JoinError>) {
    if let Err(error) = outcome {
        resume_unwind(error.into_panic());
    }
}

fn url(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// A name for a database that no other test, of this process or another, uses.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("multicore_tests_{}_{next}_{now}", std::process::id())
}

/// Says aloud that a test is skipped.
///
/// # Panics
/// In CI, where a missing server is a failure.
pub(crate) fn skip(server: &str, place: impl Display, reason: impl Display) {
    let message = format!("no {server} at {place} ({reason})");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not `eprintln`, which the harness captures.
    std::io::stderr().write_all(format!("SKIPPED: {message}\n").as_bytes()).unwrap();
}
