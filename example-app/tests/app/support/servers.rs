//! Database servers: where they are, what happens without one, and a database of one's own that is
//! dropped at the end, also after a panic.

use std::fmt::Display;
use std::io::Write;
use std::panic::resume_unwind;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlPool, PgPool};

/// Runs `test` with a new database on the PostgreSQL server at `MULTICORE_TEST_POSTGRES_URL`, and its
/// URL, or skips it where there is no server.
pub(crate) async fn with_postgres<F>(test: impl FnOnce(PgPool, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let url = url("MULTICORE_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres");
    let options = PgConnectOptions::from_str(&url).unwrap();
    let mut admin = match options.connect().await {
        Ok(admin) => admin,
        Err(error) => {
            let place = format!("{}:{}", options.get_host(), options.get_port());
            return skip("PostgreSQL", place, &error);
        }
    };
    let name = unique_name();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let options = options.database(&name);
    let url = options.to_url_lossy().to_string();
    let pool = PgPool::connect_with(options).await.unwrap();
    with_cleanup(test(pool.clone(), url), async {
        pool.close().await;
        admin.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
    })
    .await;
}

/// Runs `test` with a new database on the MySQL or MariaDB server at `MULTICORE_TEST_MYSQL_URL`, and
/// its URL, or skips it where there is no server.
pub(crate) async fn with_mysql<F>(test: impl FnOnce(MySqlPool, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let url = url("MULTICORE_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test");
    let options = MySqlConnectOptions::from_str(&url).unwrap();
    let mut admin = match options.connect().await {
        Ok(admin) => admin,
        Err(error) => {
            let place = format!("{}:{}", options.get_host(), options.get_port());
            return skip("MySQL", place, &error);
        }
    };
    let name = unique_name();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let options = options.database(&name);
    let url = options.to_url_lossy().to_string();
    let pool = MySqlPool::connect_with(options).await.unwrap();
    with_cleanup(test(pool.clone(), url), async {
        pool.close().await;
        admin.execute(AssertSqlSafe(format!("DROP DATABASE {name}"))).await.unwrap();
    })
    .await;
}

/// The URL in this environment variable, or the default.
fn url(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// A name for a database that no other test, of this process or another, uses.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("example_app_{}_{next}_{now}", std::process::id())
}

/// Says aloud that a test is skipped.
///
/// # Panics
/// In CI, where a missing database is a failure.
fn skip(server: &str, place: impl Display, error: &sqlx::Error) {
    let message = format!("no {server} at {place} ({error})");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not `eprintln`, which the harness captures.
    std::io::stderr().write_all(format!("SKIPPED: {message}\n").as_bytes()).unwrap();
}

/// Runs the test to its end or panic, then `cleanup`, then passes a panic on.
async fn with_cleanup<T, C>(test: T, cleanup: C)
where
    T: Future<Output = ()> + Send + 'static,
    C: Future<Output = ()>,
{
    let outcome = tokio::spawn(test).await;
    cleanup.await;
    if let Err(error) = outcome {
        resume_unwind(error.into_panic());
    }
}
