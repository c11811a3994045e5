//! The one trait behind which drivers sit: what a pool of workers needs of a database. No SQL text
//! and no scheduling here; the sqlx drivers are in `sqlx_drivers`, and `()` is the database of a pool
//! that has none.

#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) mod catalogue;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod dialect;
#[cfg(feature = "sqlite")]
pub(crate) mod direct;
mod guard;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite-driver")]
mod sqlite;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod sqlx_drivers;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod stepping;

use std::future::{Future, ready};
use std::ops::DerefMut;
use std::time::Duration;

use crate::error::BoxError;

#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) use catalogue::{Column, Equality, Table, TableName};
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) use dialect::Dialect;
pub(crate) use guard::{Ask, Guard};
pub(crate) use guard::{Control, random};
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub use sqlx_drivers::SqlDatabase;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) use sqlx_drivers::{Catalogue, Exported, Meaning, PlanKind, SESSION, Step};
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub use stepping::ListRow;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) use stepping::{Next, NotByDriver, Stepping};

/// How a driver's row stream wants to be read by somebody who works on the rows as well.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Rows to read at a time before working on them.
    pub batch: usize,
    /// How long to work between two looks at the stream, while it has not ended.
    pub look_every: Duration,
}

impl Reading {
    /// For drivers that read from a socket: what is read next waits in the socket's buffers.
    pub(crate) const BUFFERED: Reading = Reading { batch: 32, look_every: Duration::from_millis(1) };

    /// For statements stepped where their rows are used: a row is there as soon as it is asked for. As many
    /// as keep code and data of either side warm.
    #[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
    pub(crate) const READY: Reading = Reading { batch: 32, look_every: Duration::from_millis(1) };

    /// For drivers that step the statement on a thread of its own, behind a short channel (sqlx's for
    /// SQLite: 50 rows). Once that is full the thread sleeps, and every row taken wakes it to make just
    /// one more, at two context switches a row. So everything there is is read, and the channel is
    /// looked at before it can fill up.
    #[cfg(feature = "sqlite-driver")]
    pub(crate) const CHANNEL: Reading = Reading { batch: 1_024, look_every: Duration::from_micros(50) };
}

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
    /// A row as a list takes it: the driver's, or one that was read where it is used.
    #[doc(hidden)]
    type Item: Send + Sync + 'static;
    /// What tells whether anybody wrote to the database, where connections come to one snapshot that way.
    #[doc(hidden)]
    type Sentinel: Default + Send + Sync + 'static;
    /// The database's name as error messages say it.
    const NAME: &'static str;
    /// How its driver wants to be read.
    #[doc(hidden)]
    const READING: Reading;
    /// Whether its driver knows where it is when a stream of rows was dropped between two of them. sqlx's
    /// for MySQL does not: it forgets a packet's header that it has read.
    #[doc(hidden)]
    const RESUMES: bool = true;
    /// Whether it computes on a core of this process while a reader waits for rows. Elsewhere the reader's
    /// core is free meanwhile, also where the server is on the same machine: it counts as another program.
    #[doc(hidden)]
    const COMPUTES_HERE: bool = false;

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

    /// Gives a connection back that may be in the middle of something: it is closed, not reused.
    fn discard(lease: Self::Lease);

    /// Closes a connection in good order.
    fn close(connection: Self::Connection) -> impl Future<Output = ()> + Send;

    /// How statements on this connection can be stopped from now on.
    #[doc(hidden)]
    fn guard(connection: &mut Self::Connection) -> impl Future<Output = Result<Guard, BoxError>> + Send;

    /// Asks on the control connection.
    #[doc(hidden)]
    fn ask(control: &mut Self::Connection, ask: &Ask) -> impl Future<Output = Result<i64, BoxError>> + Send;

    /// Reads and drops what the last statement still sends. Fails only when the connection is lost.
    #[doc(hidden)]
    fn drain(connection: &mut Self::Connection) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Ends a transaction, if there is one.
    #[doc(hidden)]
    fn rollback(connection: &mut Self::Connection) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Closes the sentinel's connection, if it has one.
    #[doc(hidden)]
    fn unwatch(_sentinel: &Self::Sentinel) {}

    /// How many connections the application's pool may have.
    #[doc(hidden)]
    fn pool_size(pool: &Self::Pool) -> u32;

    /// Whether the application's pool has no connection to give and may not open another.
    #[doc(hidden)]
    fn is_used_up(pool: &Self::Pool) -> bool;
}

impl sealed::Sealed for () {}

impl Database for () {
    type Connection = ();
    type Pool = ();
    type Lease = Box<()>;
    type Filters = ();
    type Item = ();
    type Sentinel = ();
    const NAME: &'static str = "no";
    const READING: Reading = Reading::BUFFERED;

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

    fn discard(_lease: Box<()>) {}

    fn close((): ()) -> impl Future<Output = ()> + Send {
        ready(())
    }

    fn guard((): &mut ()) -> impl Future<Output = Result<Guard, BoxError>> + Send {
        ready(Ok(Guard::None))
    }

    fn ask((): &mut (), _ask: &Ask) -> impl Future<Output = Result<i64, BoxError>> + Send {
        ready(Ok(-1))
    }

    fn drain((): &mut ()) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    fn rollback((): &mut ()) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    fn pool_size((): &()) -> u32 {
        0
    }

    fn is_used_up((): &()) -> bool {
        false
    }
}
