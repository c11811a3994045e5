//! What a list reads, as the program says it: columns, tables, filters and an order, and how it is to be
//! run. The statements are written in `plan`.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use sqlx::{Arguments, FromRow, QueryBuilder, SqlSafeStr, SqlStr};

use super::ListError;
use super::analysis::number_placeholders;
use super::order::OrderBy;
use super::plan::{Key, Param, Parts, Planned};
use crate::db::{Database, ListRow, NotByDriver, SqlDatabase};
use crate::job::owner::Wish;
use crate::list::cursor::KeyValue;
use crate::mode::Execution;

/// How a page is read from the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The library decides: ranges where the order comes off an index, rows are many, rendering them is
    /// light, workers and cores are idle, and ranges have been measured to be faster for this query; one
    /// statement otherwise.
    #[default]
    Auto,
    /// One statement on one connection, which nothing is used for that others have seen.
    Single,
    /// Ranges over the workers' own connections wherever that is right, whether it pays or not; one
    /// statement where it is not. For trying out and for tests.
    Ranges,
}

/// What the ranges of one page see of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// One snapshot for the whole page. Where connections cannot share one (MySQL and MariaDB, SQLite
    /// without a write-ahead log), a page is one statement.
    #[default]
    Snapshot,
    /// **Each range sees the database as it is when the range runs.** While others write, a page may
    /// repeat, lose or misplace rows. Only for data that does not change, or where that does not matter.
    PerRange,
}

/// What a list reads, into rows of type `R`.
///
/// ```
/// # #[cfg(feature = "sqlite-driver")] {
/// use multicore_core::{ListQuery, asc};
/// # #[derive(sqlx::FromRow)] struct UserRow { id: i64 }
/// let query: ListQuery<UserRow, sqlx::Sqlite> =
///     ListQuery::<UserRow>::select("u.id, u.username, p.bio")
///         .from("people_user u JOIN people_profile p ON p.user_id = u.id")
///         .filter(|q| { q.push("u.is_active = ").push_bind(true); })
///         .order_by([asc("u.id")]);
/// # }
/// ```
///
/// The database is inferred from where the query is used. SQL text must be literal, as everywhere in
/// sqlx ([`AssertSqlSafe`](sqlx::AssertSqlSafe) wraps text that was checked otherwise); values go
/// through [`push_bind`](QueryBuilder::push_bind) in a filter.
pub struct ListQuery<R, DB: Database = ()> {
    decode: Decode<R, DB>,
    /// Whether its rows may be read where they are used.
    direct: bool,
    columns: SqlStr,
    tables: Option<SqlStr>,
    filters: DB::Filters,
    filtered: bool,
    order: Vec<OrderBy>,
    counted: bool,
    strategy: Strategy,
    consistency: Consistency,
    execution: Execution,
    chunk_length: Option<NonZeroUsize>,
    timeout: Option<Duration>,
}

/// How a row becomes an `R`.
pub(super) type Decode<R, DB> = fn(&<DB as Database>::Item) -> Result<R, sqlx::Error>;

impl<R, DB: Database> fmt::Debug for ListQuery<R, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListQuery")
            .field("columns", &self.columns)
            .field("tables", &self.tables)
            .field("filtered", &self.filtered)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

impl<R> ListQuery<R> {
    /// The columns, as after `SELECT`.
    ///
    /// Rows may have more of them behind these, with names that begin in `multicore_`: the keys of pages by cursor and
    /// of pages deep in a list, and the snapshot of pages in ranges. A [`FromRow`] that is derived does not see them; one
    /// that goes through all columns of a row is to leave them out.
    pub fn select<DB: SqlDatabase>(columns: impl SqlSafeStr) -> ListQuery<R, DB>
    where
        R: ListRow<DB>,
    {
        ListQuery::new(columns.into_sql_str(), R::from_item, true)
    }

    /// The columns, as after `SELECT`, for a row type that decodes from the rows of sqlx's driver alone: a
    /// [`FromRow`] that was written for one database, or fields whose types were. [`select`](Self::select)
    /// takes those that decode from any; on SQLite their rows are read where they are used, at a quarter of
    /// the cost. On the other databases both are the same.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite-driver")] {
    /// use multicore_core::{FromRow, ListQuery, SqlxError, asc};
    /// use sqlx::{Row, Sqlite, sqlite::SqliteRow};
    ///
    /// struct Id(i64);
    ///
    /// impl FromRow<'_, SqliteRow> for Id {
    ///     fn from_row(row: &SqliteRow) -> Result<Self, SqlxError> {
    ///         Ok(Id(row.try_get("id")?))
    ///     }
    /// }
    ///
    /// let query: ListQuery<Id, Sqlite> =
    ///     ListQuery::<Id>::select_by_driver("id").from("person").order_by([asc("id")]);
    /// # }
    /// ```
    ///
    /// In `select` it does not compile with the feature `sqlite`, and the compiler says what to do:
    ///
    #[cfg_attr(feature = "sqlite", doc = "```compile_fail,E0277")]
    #[cfg_attr(not(feature = "sqlite"), doc = "```text")]
    /// # use multicore_core::{FromRow, ListQuery, SqlxError};
    /// # use sqlx::{Sqlite, sqlite::SqliteRow};
    /// # struct Id(i64);
    /// # impl FromRow<'_, SqliteRow> for Id {
    /// #     fn from_row(row: &SqliteRow) -> Result<Self, SqlxError> { Ok(Id(0)) }
    /// # }
    /// let query: ListQuery<Id, Sqlite> = ListQuery::<Id>::select("id");
    /// ```
    pub fn select_by_driver<DB: SqlDatabase>(columns: impl SqlSafeStr) -> ListQuery<R, DB>
    where
        R: for<'r> FromRow<'r, <DB as sqlx::Database>::Row>,
    {
        let decode: Decode<R, DB> = |item| match DB::driver_row(item) {
            Some(row) => R::from_row(row),
            None => Err(sqlx::Error::Decode(NotByDriver.into())),
        };
        ListQuery::new(columns.into_sql_str(), decode, false)
    }
}

impl<R, DB: SqlDatabase> ListQuery<R, DB> {
    fn new(columns: SqlStr, decode: Decode<R, DB>, direct: bool) -> Self {
        ListQuery {
            decode,
            direct,
            columns,
            tables: None,
            filters: DB::Filters::default(),
            filtered: false,
            order: Vec::new(),
            counted: false,
            strategy: Strategy::Auto,
            consistency: Consistency::Snapshot,
            execution: Execution::Auto,
            chunk_length: None,
            timeout: None,
        }
    }

    /// The tables and joins, as after `FROM`.
    #[must_use]
    pub fn from(mut self, tables: impl SqlSafeStr) -> Self {
        self.tables = Some(tables.into_sql_str());
        self
    }

    /// Adds a condition with sqlx's [`QueryBuilder`]. Several are joined by `AND`; one that pushes
    /// nothing does not count.
    #[must_use]
    pub fn filter(mut self, condition: impl FnOnce(&mut QueryBuilder<DB>)) -> Self {
        let mut before = self.filters.sql().as_str().len();
        if self.filtered {
            self.filters.push(" AND (");
        } else {
            self.filters.push("(");
        }
        before += if self.filtered { " AND (".len() } else { "(".len() };
        condition(&mut self.filters);
        if self.filters.sql().as_str().len() == before {
            // Nothing was pushed; a condition that holds keeps the statement well-formed.
            self.filters.push("1 = 1");
        }
        self.filters.push(")");
        self.filtered = true;
        self
    }

    /// The order. It must be total, or rows that are equal in it may appear on two pages or on none: the
    /// keys together must be unique, by the schema or because the last one is declared
    /// [`unique`](OrderBy::unique). Anything else is an error at the first use.
    #[must_use]
    pub fn order_by(mut self, keys: impl IntoIterator<Item = OrderBy>) -> Self {
        self.order.extend(keys);
        self
    }

    /// Also counts the rows of the whole list, with a statement of its own, whose snapshot may be a later
    /// one. Default: no, since counting reads them all.
    #[must_use]
    pub fn with_count(mut self) -> Self {
        self.counted = true;
        self
    }

    /// How pages are read. Default: the library decides.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// What the ranges of a page see. Default: one snapshot.
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Forces how the list runs, for trying out and for tests. Default: the library decides.
    #[must_use]
    pub fn execution(mut self, execution: Execution) -> Self {
        self.execution = execution;
        self
    }

    /// Fixes how many rows a chunk has, for tests and measurements. Default: the library decides from
    /// what a row costs. It has no meaning for ranges and exports.
    #[must_use]
    pub fn chunk_length(mut self, rows: NonZeroUsize) -> Self {
        self.chunk_length = Some(rows);
        self
    }

    /// How long this list may take, if that is less than the pool's `timeout`. When the time is up, its
    /// chunks stop and its statements are cancelled in the database. Default: the pool's.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How its rows are decoded.
    pub(super) fn decode(&self) -> Decode<R, DB> {
        self.decode
    }

    /// The query as what it is made of.
    pub(super) fn request(mut self) -> Result<Request<DB>, ListError> {
        let tables = self.tables.ok_or(ListError::Query { why: "`.from(…)` is missing" })?;
        if self.order.is_empty() {
            let why = "`.order_by(…)` is missing: without an order, pages repeat and lose rows";
            return Err(ListError::Query { why });
        }
        let filters = self.filtered.then(|| number_placeholders(self.filters.sql().as_str(), DB::DIALECT));
        let arguments = DB::arguments(&mut self.filters).map_err(ListError::Statement)?;
        let keys = self.order.iter().map(|by| Key {
            sql: by.key.as_str().to_owned(),
            descending: by.descending,
            nulls: by.nulls,
            cast: None,
        });
        Ok(Request {
            parts: Parts {
                dialect: DB::DIALECT,
                columns: self.columns.as_str().to_owned(),
                tables: tables.as_str().to_owned(),
                filters,
                bound: arguments.len(),
                keys: keys.collect(),
            },
            arguments,
            direct: self.direct,
            unique: self.order.last().is_some_and(|last| last.unique),
            counted: self.counted,
            strategy: self.strategy,
            consistency: self.consistency,
            wish: Wish { execution: self.execution, chunk_length: self.chunk_length, quiet: false },
            timeout: self.timeout,
        })
    }
}

/// A query taken apart: what the statements of a page are made from.
pub(super) struct Request<DB: SqlDatabase> {
    pub(super) parts: Parts,
    pub(super) arguments: <DB as sqlx::Database>::Arguments,
    /// Whether its rows may be read where they are used.
    pub(super) direct: bool,
    /// Whether the last key was declared unique.
    pub(super) unique: bool,
    pub(super) counted: bool,
    pub(super) strategy: Strategy,
    pub(super) consistency: Consistency,
    pub(super) wish: Wish,
    pub(super) timeout: Option<Duration>,
}

/// A statement with what is bound to it.
pub(super) struct Statement<DB: SqlDatabase> {
    pub(super) sql: SqlStr,
    pub(super) arguments: <DB as sqlx::Database>::Arguments,
}

impl<DB: SqlDatabase> Request<DB> {
    /// Binds the values of a planned statement behind the filters'.
    pub(super) fn bind(&self, planned: Planned, cursor: &[KeyValue]) -> Result<Statement<DB>, ListError> {
        bind(&self.arguments, planned, cursor)
    }
}

/// A planned statement with the values of the filters and its own.
pub(super) fn bind<DB: SqlDatabase>(
    filters: &<DB as sqlx::Database>::Arguments,
    planned: Planned,
    cursor: &[KeyValue],
) -> Result<Statement<DB>, ListError> {
    let mut arguments = filters.clone();
    for param in planned.params {
        let bound = match param {
            Param::Key(index) => DB::bind_key(&mut arguments, &cursor[index]),
            Param::Rows(rows) => DB::bind_number(&mut arguments, number("limit", rows)?),
            Param::Skip(rows) => DB::bind_number(&mut arguments, number("offset", rows)?),
            Param::Number(number) => DB::bind_number(&mut arguments, number),
        };
        bound.map_err(ListError::Statement)?;
    }
    Ok(Statement { sql: sqlx::AssertSqlSafe(planned.sql).into_sql_str(), arguments })
}

/// The values of a planned statement that is stepped here, those of the filters first.
pub(super) fn values(
    filters: &[KeyValue],
    planned: &Planned,
    cursor: &[KeyValue],
) -> Result<Vec<KeyValue>, ListError> {
    let mut values = filters.to_vec();
    for param in &planned.params {
        values.push(match *param {
            Param::Key(index) => cursor[index].clone(),
            Param::Rows(rows) => KeyValue::Int(number("limit", rows)?),
            Param::Skip(rows) => KeyValue::Int(number("offset", rows)?),
            Param::Number(number) => KeyValue::Int(number),
        });
    }
    Ok(values)
}

/// A page parameter as the databases take it, a signed 64-bit number.
pub(super) fn number(parameter: &'static str, value: u64) -> Result<i64, ListError> {
    i64::try_from(value).map_err(|_| ListError::Page {
        parameter,
        value: value.to_string(),
        accepted: format!("a whole number up to {}", i64::MAX),
    })
}
