//! SQLite's rows without sqlx's driver between: the statement is stepped on the thread that uses its rows, on
//! sqlx's own connection. For that a row type of its own is needed, since nobody but sqlx can make a
//! [`SqliteRow`](sqlx::sqlite::SqliteRow); and for that an [`sqlx::Database`] that has such rows.
//! `#[derive(sqlx::FromRow)]` and sqlx's tuples are written for any database, so one struct decodes from
//! both.
//!
//! - `statement`: the lock on the connection, and the statement under it; the only unsafe code of the databases
//! - `row`: rows and values
//! - `sentinel`: whether anybody wrote in between
//! - `types`: which Rust types decode from them, and how: as from sqlx's
//! - `stand_in`: what sqlx's traits want of a database besides rows

mod row;
mod sentinel;
mod stand_in;
mod statement;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;

pub use row::{DirectColumn, DirectRow, DirectTypeInfo, DirectValue, DirectValueRef};
pub(crate) use sentinel::Sentinel;
pub(crate) use statement::Hand;
pub(crate) use statement::Stepped;

/// SQLite, with rows that are read where they are used. It is the database of [`DirectRow`], for what is
/// written for any database of sqlx's; nothing connects to it.
///
/// A type of one's own that decodes from `Sqlite` also decodes from here if its implementations say so:
///
/// ```
/// use multicore_core::sqlite::Direct;
/// use sqlx::{Database, Decode, Type, error::BoxDynError};
///
/// struct Upper(String);
///
/// // The same for `Sqlite`, of which a macro of two lines makes both.
/// impl Type<Direct> for Upper {
///     fn type_info() -> <Direct as Database>::TypeInfo {
///         <str as Type<Direct>>::type_info()
///     }
/// }
///
/// impl<'r> Decode<'r, Direct> for Upper {
///     fn decode(value: <Direct as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
///         Ok(Upper(<&str as Decode<Direct>>::decode(value)?.to_uppercase()))
///     }
/// }
/// ```
#[derive(Debug)]
pub enum Direct {}

impl sqlx::Database for Direct {
    type Connection = stand_in::Connection;
    type TransactionManager = stand_in::Transactions;
    type Row = DirectRow;
    type QueryResult = ();
    type Column = DirectColumn;
    type TypeInfo = DirectTypeInfo;
    type Value = DirectValue;
    type ValueRef<'r> = DirectValueRef<'r>;
    type Arguments = stand_in::Arguments;
    type ArgumentBuffer = ();
    type Statement = stand_in::Statement;

    const NAME: &'static str = "SQLite";
    const URL_SCHEMES: &'static [&'static str] = &[];
}

/// A decoding between storage classes that sqlx leaves to SQLite.
#[derive(Debug)]
struct Unconverted {
    from: &'static str,
    to: &'static str,
}

impl fmt::Display for Unconverted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unconverted { from, to } = self;
        write!(f, "a value of type {from} is not made {to} here: CAST it in the query")
    }
}

impl std::error::Error for Unconverted {}
