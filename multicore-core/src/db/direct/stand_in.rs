//! What sqlx's traits want of a database besides rows. Nothing connects to [`Direct`], so none of it is
//! ever there to be used.

use std::str::FromStr;

use log::LevelFilter;
use sqlx::error::BoxDynError;
use sqlx::{ConnectOptions, Either, Encode, Error, SqlStr, Type};
use url::Url;

use super::{Direct, DirectColumn, DirectTypeInfo};

fn nothing_connects() -> Error {
    Error::Configuration("nothing connects to this database: use `Sqlite`".into())
}

/// The options of no connection.
#[derive(Clone, Debug)]
pub enum Options {}

impl FromStr for Options {
    type Err = Error;

    fn from_str(_url: &str) -> Result<Self, Error> {
        Err(nothing_connects())
    }
}

impl ConnectOptions for Options {
    type Connection = Connection;

    fn from_url(_url: &Url) -> Result<Self, Error> {
        Err(nothing_connects())
    }

    async fn connect(&self) -> Result<Connection, Error> {
        match *self {}
    }

    fn log_statements(self, _level: LevelFilter) -> Self {
        match self {}
    }

    fn log_slow_statements(self, _level: LevelFilter, _duration: std::time::Duration) -> Self {
        match self {}
    }
}

/// No connection.
#[derive(Debug)]
pub enum Connection {}

impl sqlx::Connection for Connection {
    type Database = Direct;
    type Options = Options;

    async fn close(self) -> Result<(), Error> {
        match self {}
    }

    async fn close_hard(self) -> Result<(), Error> {
        match self {}
    }

    async fn ping(&mut self) -> Result<(), Error> {
        match *self {}
    }

    async fn begin(&mut self) -> Result<sqlx::Transaction<'_, Direct>, Error> {
        match *self {}
    }

    fn shrink_buffers(&mut self) {
        match *self {}
    }

    async fn flush(&mut self) -> Result<(), Error> {
        match *self {}
    }

    fn should_flush(&self) -> bool {
        match *self {}
    }
}

/// No transactions.
#[derive(Debug)]
pub enum Transactions {}

impl sqlx_core::transaction::TransactionManager for Transactions {
    type Database = Direct;

    async fn begin(connection: &mut Connection, _statement: Option<SqlStr>) -> Result<(), Error> {
        match *connection {}
    }

    async fn commit(connection: &mut Connection) -> Result<(), Error> {
        match *connection {}
    }

    async fn rollback(connection: &mut Connection) -> Result<(), Error> {
        match *connection {}
    }

    fn start_rollback(connection: &mut Connection) {
        match *connection {}
    }

    fn get_transaction_depth(connection: &Connection) -> usize {
        match *connection {}
    }
}

/// The values of no statement.
#[derive(Debug, Default)]
pub struct Arguments;

impl sqlx::Arguments for Arguments {
    type Database = Direct;

    fn reserve(&mut self, _additional: usize, _size: usize) {}

    fn add<'t, T>(&mut self, _value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'t, Direct> + Type<Direct>,
    {
        Err(nothing_connects().into())
    }

    fn len(&self) -> usize {
        0
    }
}

sqlx_core::impl_into_arguments_for_arguments!(Arguments);

/// No statement.
#[derive(Clone, Debug)]
pub enum Statement {}

impl sqlx::Statement for Statement {
    type Database = Direct;

    fn into_sql(self) -> SqlStr {
        match self {}
    }

    fn sql(&self) -> &SqlStr {
        match *self {}
    }

    fn parameters(&self) -> Option<Either<&[DirectTypeInfo], usize>> {
        match *self {}
    }

    fn columns(&self) -> &[DirectColumn] {
        match *self {}
    }

    sqlx_core::impl_statement_query!(Arguments);
}
