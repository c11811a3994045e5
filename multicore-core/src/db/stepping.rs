//! Statements that are stepped where their rows are used, for the database where that can be done, and what
//! a list's rows decode from then: the driver's rows, or rows read that way.

use std::fmt;

use sqlx::FromRow;

use super::SqlDatabase;
use crate::list::cursor::KeyValue;

/// What comes next of a statement.
#[doc(hidden)]
#[derive(Debug)]
pub enum Next<I> {
    Row(I),
    End,
    /// It would take longer than is allowed here, or has to wait: the driver must do it.
    Stalled,
}

/// The hand on a connection whose statements are stepped here, one at a time.
#[doc(hidden)]
pub trait Stepping<I>: Send {
    /// From now on a step stalls that needs more than so many thousand of the database's instructions.
    fn limit_steps(&mut self, thousands: u32);

    /// Takes a snapshot that all its statements see from now on, without a transaction; it is gone with the hand.
    fn keep_snapshot(&mut self) -> Result<(), sqlx::Error>;

    /// Begins a transaction that the driver can go on with, and takes its snapshot.
    fn begin(&mut self) -> Result<(), sqlx::Error>;

    /// Ends it.
    fn commit(&mut self) -> Result<(), sqlx::Error>;

    /// Prepares a statement in place of the last. False if it is not one that can be stepped here.
    fn prepare(&mut self, sql: &str, values: &[KeyValue]) -> Result<bool, sqlx::Error>;

    /// Takes the next step now, so that `next` finds it done.
    fn step_ahead(&mut self);

    /// The next row.
    fn next(&mut self) -> Result<Next<I>, sqlx::Error>;

    /// As `next`, the row put into `row`, whose memory is used again; so it need be one of the same statement.
    fn next_into(&mut self, row: &mut Option<I>) -> Result<Next<()>, sqlx::Error>;

    /// Ends the statement.
    fn close(&mut self);
}

/// Where only the driver steps.
#[cfg(any(feature = "postgres", feature = "mysql", not(feature = "sqlite")))]
#[doc(hidden)]
#[derive(Debug)]
pub enum NoHand {}

#[cfg(any(feature = "postgres", feature = "mysql", not(feature = "sqlite")))]
impl<I> Stepping<I> for NoHand {
    fn limit_steps(&mut self, _thousands: u32) {
        match *self {}
    }

    fn keep_snapshot(&mut self) -> Result<(), sqlx::Error> {
        match *self {}
    }

    fn begin(&mut self) -> Result<(), sqlx::Error> {
        match *self {}
    }

    fn commit(&mut self) -> Result<(), sqlx::Error> {
        match *self {}
    }

    fn prepare(&mut self, _sql: &str, _values: &[KeyValue]) -> Result<bool, sqlx::Error> {
        match *self {}
    }

    fn step_ahead(&mut self) {
        match *self {}
    }

    fn next(&mut self) -> Result<Next<I>, sqlx::Error> {
        match *self {}
    }

    fn next_into(&mut self, _row: &mut Option<I>) -> Result<Next<()>, sqlx::Error> {
        match *self {}
    }

    fn close(&mut self) {
        match *self {}
    }
}

/// A type that a list's rows decode into: with `#[derive(sqlx::FromRow)]`, or a tuple.
///
/// On SQLite, with the feature `sqlite`, rows are read where they are used and not by sqlx's driver, so the
/// type must decode from [`DirectRow`](crate::sqlite::DirectRow) as well as from sqlx's `SqliteRow`. What is
/// derived does, as far as its fields do. A type that does not (a `FromRow` written for `SqliteRow`, a field
/// that decodes from `Sqlite` alone) is read with
/// [`ListQuery::select_by_driver`](crate::ListQuery::select_by_driver), or without the feature: depend on
/// `sqlite-driver` in its place.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not decode from the rows of a list over `{DB}`",
    label = "not a row of a list over `{DB}`",
    note = "on SQLite it must decode from `multicore_core::sqlite::DirectRow` too: derive `sqlx::FromRow`, and \
            see that the fields' types decode from any database (features `json` and `uuid` of this crate; \
            `impl Decode<'_, Direct>` for a type of your own)",
    note = "or write `ListQuery::<{Self}>::select_by_driver(…)` in place of `select(…)`, which asks for \
            `FromRow<'_, SqliteRow>` alone"
)]
pub trait ListRow<DB: SqlDatabase>: for<'r> FromRow<'r, <DB as sqlx::Database>::Row> + 'static {
    /// Decodes it.
    #[doc(hidden)]
    fn from_item(item: &DB::Item) -> Result<Self, sqlx::Error>;
}

/// A row that was read where it is used came to a query that has none.
#[derive(Debug)]
pub(crate) struct NotByDriver;

impl fmt::Display for NotByDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the row was not read by the driver")
    }
}

impl std::error::Error for NotByDriver {}
