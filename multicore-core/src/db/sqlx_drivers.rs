//! sqlx's drivers behind the `Database` trait, one macro line each. What differs between databases in
//! SQL text is in `list`.

use futures_core::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Connection, Either, Execute, Executor, QueryBuilder, SqlStr};
use std::future::Future;
use std::time::Duration;

use super::{Database, Reading, sealed};
use crate::error::BoxError;

/// A row or the end of a statement, as sqlx streams them.
pub(crate) type Step<DB> =
    Result<Either<<DB as sqlx::Database>::QueryResult, <DB as sqlx::Database>::Row>, sqlx::Error>;

/// A database that lists can be read from. What Rust cannot say of a driver in generic code (its
/// connections run statements, it can bind a 64-bit number) is said here, once a driver.
pub trait SqlDatabase:
    sqlx::Database
    + Database<
        Connection = <Self as sqlx::Database>::Connection,
        Pool = sqlx::Pool<Self>,
        Lease = PoolConnection<Self>,
        Filters = QueryBuilder<Self>,
    >
{
    /// Binds a number.
    #[doc(hidden)]
    fn bind(query: &mut QueryBuilder<Self>, number: i64);

    /// What was bound so far.
    #[doc(hidden)]
    fn arguments(query: &mut QueryBuilder<Self>) -> Result<<Self as sqlx::Database>::Arguments, BoxError>;

    /// A statement that begins with `sql`, which has the placeholders of what `bound` has bound.
    #[doc(hidden)]
    fn continued(sql: String, bound: &mut QueryBuilder<Self>) -> Result<QueryBuilder<Self>, BoxError>;

    /// Streams a statement's rows.
    #[doc(hidden)]
    fn rows<'c>(
        connection: &'c mut <Self as sqlx::Database>::Connection,
        sql: SqlStr,
        arguments: <Self as sqlx::Database>::Arguments,
    ) -> BoxStream<'c, Step<Self>>;
}

macro_rules! driver {
    ($feature:literal, $name:literal, $database:ty, $reading:expr, $not_shareable:expr) => {
        #[cfg(feature = $feature)]
        impl sealed::Sealed for $database {}

        #[cfg(feature = $feature)]
        impl Database for $database {
            type Connection = <$database as sqlx::Database>::Connection;
            type Pool = sqlx::Pool<$database>;
            type Lease = PoolConnection<$database>;
            type Filters = QueryBuilder<$database>;
            const NAME: &'static str = $name;
            const READING: Reading = $reading;

            fn no_pool() -> Option<Self::Pool> {
                None
            }

            fn not_shareable(pool: &Self::Pool) -> Option<&'static str> {
                $not_shareable(pool)
            }

            fn connect_timeout(pool: &Self::Pool) -> Duration {
                pool.options().get_acquire_timeout()
            }

            fn connect(
                pool: &Self::Pool,
            ) -> impl Future<Output = Result<Self::Connection, BoxError>> + Send {
                let options = pool.connect_options();
                async move { Ok(options.connect().await?) }
            }

            fn acquire(pool: &Self::Pool) -> impl Future<Output = Result<Self::Lease, BoxError>> + Send {
                let lease = pool.acquire();
                async move { Ok(lease.await?) }
            }

            fn discard(mut lease: Self::Lease) {
                lease.close_on_drop();
            }

            async fn close(connection: Self::Connection) {
                // The worker is going; a connection that does not close well closes all the same.
                if let Err(error) = Connection::close(connection).await {
                    tracing::debug!(%error, "a worker's connection did not close in good order");
                }
            }
        }

        #[cfg(feature = $feature)]
        impl SqlDatabase for $database {
            fn bind(query: &mut QueryBuilder<Self>, number: i64) {
                query.push_bind(number);
            }

            fn arguments(
                query: &mut QueryBuilder<Self>,
            ) -> Result<<Self as sqlx::Database>::Arguments, BoxError> {
                Ok(query.build().take_arguments()?.unwrap_or_default())
            }

            fn continued(
                sql: String,
                bound: &mut QueryBuilder<Self>,
            ) -> Result<QueryBuilder<Self>, BoxError> {
                Ok(QueryBuilder::with_arguments(sql, Self::arguments(bound)?))
            }

            fn rows<'c>(
                connection: &'c mut <Self as sqlx::Database>::Connection,
                sql: SqlStr,
                arguments: <Self as sqlx::Database>::Arguments,
            ) -> BoxStream<'c, Step<Self>> {
                connection.fetch_many(sqlx::query_with(sql, arguments))
            }
        }
    };
}

driver!("sqlite", "SQLite", sqlx::Sqlite, Reading::CHANNEL, |pool: &sqlx::SqlitePool| {
    // Each connection to it would be an empty database of its own. (`sqlite::memory:` as a URL is
    // fine: sqlx gives it a name and a shared cache.)
    let options = pool.connect_options();
    (options.get_filename() == std::path::Path::new(":memory:")).then_some(
        "`:memory:` is private to one connection; use a file, or the URL `sqlite::memory:`, which \
         connections share",
    )
});
driver!("postgres", "PostgreSQL", sqlx::Postgres, Reading::BUFFERED, |_: &sqlx::PgPool| None);
driver!("mysql", "MySQL", sqlx::MySql, Reading::BUFFERED, |_: &sqlx::MySqlPool| None);
