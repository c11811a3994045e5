//! The one trait behind which drivers sit: what a pool of workers needs of a database. No SQL text
//! and no scheduling here; the sqlx drivers are in `sqlx_drivers`, and `()` is the database of a pool
//! that has none.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sqlx_drivers;

use std::future::{Future, ready};
use std::ops::DerefMut;
use std::time::Duration;

use crate::error::BoxError;

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use sqlx_drivers::SqlDatabase;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) use sqlx_drivers::Step;

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A database workers can hold connections to: sqlx's `Sqlite`, `Postgres` and `MySql` behind the
/// features of those names, and `()` for a pool without one. Sealed: drivers are added in this crate.
pub trait Database: sealed::Sealed + Sized + Send + 'static {
    /// A connection; `()` where there is no database.
    type Connection: Send + 'static;
    /// The application's own connection pool, whose options the workers connect with.
    type Pool: Clone + Send + Sync + 'static;
    /// A connection out of the application's pool.
    type Lease: DerefMut<Target = Self::Connection> + Send + 'static;
    /// Where a list collects its filters.
    type Filters: Default + Send;
    /// The database's name as error messages say it.
    const NAME: &'static str;

    /// The pool to use where the builder was given none, if that can be done without.
    fn no_pool() -> Option<Self::Pool>;

    /// What keeps workers from opening the same database, if anything does.
    fn not_shareable(pool: &Self::Pool) -> Option<&'static str>;

    /// How long opening a connection may take: the application's own acquire timeout.
    fn connect_timeout(pool: &Self::Pool) -> Duration;

    /// Opens a connection of a worker's own, with the options of the application's pool.
    fn connect(pool: &Self::Pool) -> impl Future<Output = Result<Self::Connection, BoxError>> + Send;

    /// Takes a connection out of the application's pool.
    fn acquire(pool: &Self::Pool) -> impl Future<Output = Result<Self::Lease, BoxError>> + Send;

    /// Closes a connection in good order.
    fn close(connection: Self::Connection) -> impl Future<Output = ()> + Send;
}

impl sealed::Sealed for () {}

impl Database for () {
    type Connection = ();
    type Pool = ();
    type Lease = Box<()>;
    type Filters = ();
    const NAME: &'static str = "no";

    fn no_pool() -> Option<()> {
        Some(())
    }

    fn not_shareable((): &()) -> Option<&'static str> {
        None
    }

    fn connect_timeout((): &()) -> Duration {
        Duration::MAX
    }

    fn connect((): &()) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    fn acquire((): &()) -> impl Future<Output = Result<Box<()>, BoxError>> + Send {
        ready(Ok(Box::new(())))
    }

    fn close((): ()) -> impl Future<Output = ()> + Send {
        ready(())
    }
}
