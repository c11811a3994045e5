//! What a list needs of an sqlx driver, and what the drivers have in common. What differs between them
//! is in a file each; what differs in SQL text is in `list`.

use std::collections::HashMap;
use std::future::{Future, ready};

use futures_core::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::{Either, QueryBuilder, SqlStr};

use super::{Database, Dialect, NotByDriver, Stepping, Table, TableName};
use crate::error::BoxError;
use crate::list::cursor::KeyValue;

/// A row or the end of a statement, as sqlx streams them.
pub(crate) type Step<DB> =
    Result<Either<<DB as sqlx::Database>::QueryResult, <DB as sqlx::Database>::Row>, sqlx::Error>;

/// What an error of the driver means for a list.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The connection is gone; another one may do.
    Lost,
    /// The database gave it up for something else's sake; it may do at once.
    Conflict,
    /// A value that was bound, or that a row has, is not one the query can be computed with.
    Value,
    /// The statement itself is wrong.
    Statement,
    /// Something else.
    Other,
}

/// How the database would run a statement.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanKind {
    /// Rows come off an index in the order asked for.
    Ordered,
    /// Rows lie in the table in the order asked for, so that finding one by its keys walks the same pages as
    /// leaving out those before it.
    Clustered,
    /// They are sorted first.
    Sorted,
    /// Several processes of the server work on it.
    Parallel,
}

impl PlanKind {
    /// Whether the first rows come without the others having been looked at.
    pub(crate) fn is_ordered(self) -> bool {
        matches!(self, PlanKind::Ordered | PlanKind::Clustered)
    }
}

/// A database that lists can be read from. What Rust cannot say of a driver in generic code (its
/// connections run statements, it can bind a 64-bit number) is said here, once a driver.
pub trait SqlDatabase:
    sqlx::Database<Row: Send, Arguments: Clone + Sync>
    + Database<
        Connection = <Self as sqlx::Database>::Connection,
        Pool = sqlx::Pool<Self>,
        Lease = PoolConnection<Self>,
        Filters = QueryBuilder<Self>,
    >
{
    /// The SQL it speaks.
    #[doc(hidden)]
    const DIALECT: Dialect;

    /// What was bound so far.
    #[doc(hidden)]
    fn arguments(query: &mut QueryBuilder<Self>) -> Result<<Self as sqlx::Database>::Arguments, BoxError>;

    /// Binds a number.
    #[doc(hidden)]
    fn bind_number(arguments: &mut <Self as sqlx::Database>::Arguments, number: i64) -> Result<(), BoxError>;

    /// Binds an order key's value.
    #[doc(hidden)]
    fn bind_key(
        arguments: &mut <Self as sqlx::Database>::Arguments,
        value: &KeyValue,
    ) -> Result<(), BoxError>;

    /// An order key's value, selected as `plan` selects it.
    #[doc(hidden)]
    fn key(row: &<Self as sqlx::Database>::Row, index: usize) -> Result<KeyValue, BoxError>;

    /// The snapshot's number in a row's last column (PostgreSQL).
    #[doc(hidden)]
    fn snapshot(row: &<Self as sqlx::Database>::Row) -> Result<Option<i64>, BoxError>;

    /// Whether statements can be stepped where their rows are used.
    #[doc(hidden)]
    const STEPS: bool = false;

    /// The hand on a connection whose statements are stepped here.
    #[doc(hidden)]
    type Hand<'c>: Stepping<Self::Item> + 'c;

    /// Takes the connection in hand; none where only the driver steps.
    #[doc(hidden)]
    fn hand(
        connection: &mut <Self as sqlx::Database>::Connection,
    ) -> impl Future<Output = Result<Option<Self::Hand<'_>>, sqlx::Error>> + Send;

    /// The values that were bound, for a statement that is stepped here.
    #[doc(hidden)]
    fn values(
        connection: &mut <Self as sqlx::Database>::Connection,
        arguments: &<Self as sqlx::Database>::Arguments,
    ) -> impl Future<Output = Result<Vec<KeyValue>, sqlx::Error>> + Send;

    /// The database's version: the same twice means that nobody committed in between. None where it cannot
    /// be told like that.
    #[doc(hidden)]
    fn version(_sentinel: &Self::Sentinel) -> Option<i64> {
        None
    }

    /// Sees to it that `version` can tell.
    #[doc(hidden)]
    fn watch(
        _sentinel: &Self::Sentinel,
        _pool: &Self::Pool,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// A row of the driver's as a list takes it.
    #[doc(hidden)]
    fn item(row: <Self as sqlx::Database>::Row) -> Self::Item;

    /// The driver's row, if it is one.
    #[doc(hidden)]
    fn driver_row(item: &Self::Item) -> Option<&<Self as sqlx::Database>::Row>;

    /// How many columns it has.
    #[doc(hidden)]
    fn width(item: &Self::Item) -> usize {
        Self::driver_row(item).map_or(0, sqlx::Row::len)
    }

    /// An order key's value in it, selected as `plan` selects it.
    #[doc(hidden)]
    fn item_key(item: &Self::Item, index: usize) -> Result<KeyValue, BoxError> {
        Self::key(Self::driver_row(item).ok_or(NotByDriver)?, index)
    }

    /// The snapshot's number in its last column (PostgreSQL).
    #[doc(hidden)]
    fn item_snapshot(item: &Self::Item) -> Result<Option<i64>, BoxError> {
        Self::driver_row(item).map_or(Ok(None), Self::snapshot)
    }

    /// Streams a statement's rows. `kept` says whether the driver keeps it prepared.
    #[doc(hidden)]
    fn rows<'c>(
        connection: &'c mut <Self as sqlx::Database>::Connection,
        sql: SqlStr,
        arguments: <Self as sqlx::Database>::Arguments,
        kept: bool,
    ) -> BoxStream<'c, Step<Self>>;

    /// Runs statements without values and without rows.
    #[doc(hidden)]
    fn run(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: String,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The one number a statement gives.
    #[doc(hidden)]
    fn number(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: String,
        arguments: <Self as sqlx::Database>::Arguments,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    /// How the database would run a statement.
    #[doc(hidden)]
    fn explain(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: String,
        arguments: <Self as sqlx::Database>::Arguments,
    ) -> impl Future<Output = Result<PlanKind, sqlx::Error>> + Send;

    /// What the schema says of a table; none if it is not one or not there.
    #[doc(hidden)]
    fn table(
        connection: &mut <Self as sqlx::Database>::Connection,
        name: &TableName,
    ) -> impl Future<Output = Result<Option<Table>, sqlx::Error>> + Send;

    /// The types that values of these order keys must be cast to when bound; an error for one that a
    /// cursor cannot carry.
    #[doc(hidden)]
    fn key_casts(
        connection: &mut <Self as sqlx::Database>::Connection,
        keys: &[&str],
        tables: &str,
    ) -> impl Future<Output = Result<Vec<Option<String>>, BoxError>> + Send;

    /// What an error means.
    #[doc(hidden)]
    fn meaning(error: &sqlx::Error) -> Meaning;

    /// Begins a transaction that keeps its snapshot and can be joined, and gives what others join it by, with the
    /// number of the session if that is to be told; none where there is no such thing.
    #[doc(hidden)]
    fn export_snapshot(
        connection: &mut <Self as sqlx::Database>::Connection,
        told: bool,
    ) -> impl Future<Output = Result<Option<Exported>, sqlx::Error>> + Send;

    /// Begins a transaction that can join a snapshot; nothing where none is shared by a name.
    #[doc(hidden)]
    fn begin_join(
        _connection: &mut <Self as sqlx::Database>::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        async { Ok(()) }
    }

    /// Joins a snapshot, in the transaction that `begin_join` began; false if a session was told and this is another
    /// in what decides which rows it sees, or where none is shared by a name.
    #[doc(hidden)]
    fn join_snapshot(
        _connection: &mut <Self as sqlx::Database>::Connection,
        _exported: &Exported,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send {
        async { Ok(false) }
    }

    /// Whether several connections can read this database side by side on one snapshot.
    #[doc(hidden)]
    fn snapshots(
        connection: &mut <Self as sqlx::Database>::Connection,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;
}

/// What tells sessions apart that may see other rows in one shared snapshot, as one number (PostgreSQL). Nothing
/// volatile, or it would be asked for each row.
pub(crate) const SESSION: &str = "hashtextextended(concat_ws('|', pg_postmaster_start_time(), current_database(), \
     current_user, current_setting('search_path'), current_setting('TimeZone'), current_setting('DateStyle')), 0)";

/// What a snapshot is joined by.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub(crate) name: String,
    /// What tells sessions apart that may see other rows in it, if that was asked for.
    pub(crate) session: Option<i64>,
    /// Whether the server is a standby.
    pub(crate) standby: bool,
}

/// How many errors a statement may end with: its own, and one of a cancel that came after it.
pub(super) const DRAIN_TRIES: usize = 3;

/// What is known of tables, by their names.
pub(crate) type Catalogue = HashMap<TableName, Table>;

/// What every driver does alike.
macro_rules! common {
    ($database:ty) => {
        type Connection = <$database as sqlx::Database>::Connection;
        type Pool = sqlx::Pool<$database>;
        type Lease = sqlx::pool::PoolConnection<$database>;
        type Filters = sqlx::QueryBuilder<$database>;

        fn no_pool() -> Option<Self::Pool> {
            None
        }

        fn connect_timeout(pool: &Self::Pool) -> std::time::Duration {
            pool.options().get_acquire_timeout()
        }

        fn connect(
            pool: &Self::Pool,
        ) -> impl Future<Output = Result<Self::Connection, BoxError>> + Send {
            let options = pool.connect_options();
            async move { Ok(sqlx::ConnectOptions::connect(&*options).await?) }
        }

        fn acquire(pool: &Self::Pool) -> impl Future<Output = Result<Self::Lease, BoxError>> + Send {
            let lease = pool.acquire();
            async move { Ok(lease.await?) }
        }

        fn discard(mut lease: Self::Lease) {
            lease.close_on_drop();
        }

        async fn close(connection: Self::Connection) {
            // Its user is going; a connection that does not close well closes all the same.
            if let Err(error) = sqlx::Connection::close(connection).await {
                tracing::debug!(%error, "a connection did not close in good order");
            }
        }

        async fn drain(connection: &mut Self::Connection) -> Result<(), BoxError> {
            let mut tries = 0;
            loop {
                match sqlx::Connection::ping(connection).await {
                    Ok(()) => return Ok(()),
                    // The statement's own end; what comes behind it is still to be read.
                    Err(error @ sqlx::Error::Database(_))
                        if tries < crate::db::sqlx_drivers::DRAIN_TRIES
                            && <Self as SqlDatabase>::meaning(&error) != Meaning::Lost =>
                    {
                        tries += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }

        fn pool_size(pool: &Self::Pool) -> u32 {
            pool.options().get_max_connections()
        }

        fn is_used_up(pool: &Self::Pool) -> bool {
            pool.num_idle() == 0 && pool.size() >= Self::pool_size(pool)
        }
    };
}

/// What every driver does alike for lists.
macro_rules! common_list {
    ($database:ty) => {
        fn arguments(
            query: &mut sqlx::QueryBuilder<Self>,
        ) -> Result<<Self as sqlx::Database>::Arguments, BoxError> {
            Ok(sqlx::Execute::take_arguments(&mut query.build())?.unwrap_or_default())
        }

        fn bind_number(
            arguments: &mut <Self as sqlx::Database>::Arguments,
            number: i64,
        ) -> Result<(), BoxError> {
            sqlx::Arguments::add(arguments, number)
        }

        fn rows<'c>(
            connection: &'c mut <Self as sqlx::Database>::Connection,
            sql: sqlx::SqlStr,
            arguments: <Self as sqlx::Database>::Arguments,
            kept: bool,
        ) -> futures_core::stream::BoxStream<'c, crate::db::Step<Self>> {
            sqlx::Executor::fetch_many(connection, sqlx::query_with(sql, arguments).persistent(kept))
        }

        async fn run(
            connection: &mut <Self as sqlx::Database>::Connection,
            sql: String,
        ) -> Result<(), sqlx::Error> {
            sqlx::Executor::execute(connection, sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.map(drop)
        }

        async fn number(
            connection: &mut <Self as sqlx::Database>::Connection,
            sql: String,
            arguments: <Self as sqlx::Database>::Arguments,
        ) -> Result<i64, sqlx::Error> {
            let query = sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), arguments);
            query.persistent(false).fetch_one(connection).await
        }
    };
}

/// What a database says whose statements only its driver steps.
#[cfg(any(feature = "postgres", feature = "mysql", not(feature = "sqlite")))]
macro_rules! driver_only {
    ($database:ty) => {
        type Hand<'c> = crate::db::stepping::NoHand;

        async fn hand(
            _connection: &mut <Self as sqlx::Database>::Connection,
        ) -> Result<Option<Self::Hand<'_>>, sqlx::Error> {
            Ok(None)
        }

        async fn values(
            _connection: &mut <Self as sqlx::Database>::Connection,
            _arguments: &<Self as sqlx::Database>::Arguments,
        ) -> Result<Vec<KeyValue>, sqlx::Error> {
            Ok(Vec::new())
        }

        fn item(row: <Self as sqlx::Database>::Row) -> Self::Item {
            row
        }

        fn driver_row(item: &Self::Item) -> Option<&<Self as sqlx::Database>::Row> {
            Some(item)
        }
    };
}

/// The rows of such a database decode from the driver's.
#[cfg(any(feature = "postgres", feature = "mysql", not(feature = "sqlite")))]
macro_rules! driver_rows {
    ($database:ty) => {
        #[diagnostic::do_not_recommend]
        impl<R> crate::db::ListRow<$database> for R
        where
            R: for<'r> sqlx::FromRow<'r, <$database as sqlx::Database>::Row> + 'static,
        {
            fn from_item(row: &<$database as sqlx::Database>::Row) -> Result<Self, sqlx::Error> {
                R::from_row(row)
            }
        }
    };
}

pub(super) use {common, common_list};
#[cfg(any(feature = "postgres", feature = "mysql", not(feature = "sqlite")))]
pub(super) use {driver_only, driver_rows};
