//! What a list reads: columns, tables, filters and an order, put together into one statement a page.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;

use sqlx::{QueryBuilder, SqlSafeStr, SqlStr};

use super::ListError;
use crate::db::{Database, SqlDatabase};
use crate::mode::Execution;

/// A part of a list: `limit` rows from the `offset`th on, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most rows the page has.
    pub limit: u64,
    /// How many rows come before it. Beyond the end, the page is empty.
    pub offset: u64,
}

impl From<Page> for Paging {
    /// Exactly these rows: what comes after them is not looked at.
    fn from(page: Page) -> Self {
        Paging { limit: page.limit, start: Start::Offset(page.offset), look_ahead: false }
    }
}

/// Which part of a list is asked for, and whether to find out what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    /// The most rows the page has.
    pub limit: u64,
    /// Where it starts.
    pub start: Start,
    /// Whether to read one more row, which is not part of the page, to know if there is a next one.
    /// Pages by cursor always do.
    pub look_ahead: bool,
}

/// Where a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After so many rows.
    Offset(u64),
    /// At the first row, with cursors to the pages around.
    First,
    /// Right after the row this cursor was made at.
    After(String),
    /// The page ends right before the row this cursor was made at.
    Before(String),
}

/// One key of an order, with its direction.
#[derive(Debug)]
pub struct OrderBy {
    key: SqlStr,
    descending: bool,
}

/// Ascending by `key`, a column or an SQL expression.
pub fn asc(key: impl SqlSafeStr) -> OrderBy {
    OrderBy { key: key.into_sql_str(), descending: false }
}

/// Descending by `key`, a column or an SQL expression.
pub fn desc(key: impl SqlSafeStr) -> OrderBy {
    OrderBy { key: key.into_sql_str(), descending: true }
}

/// What a list reads, into rows of type `R`.
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// use multicore_core::{ListQuery, asc};
/// # struct UserRow;
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
    columns: SqlStr,
    tables: Option<SqlStr>,
    filters: DB::Filters,
    filtered: bool,
    order: Vec<OrderBy>,
    pub(super) counted: bool,
    pub(super) execution: Execution,
    pub(super) chunk_length: Option<NonZeroUsize>,
    rows: PhantomData<fn() -> R>,
}

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
    pub fn select<DB: Database>(columns: impl SqlSafeStr) -> ListQuery<R, DB> {
        ListQuery {
            columns: columns.into_sql_str(),
            tables: None,
            filters: DB::Filters::default(),
            filtered: false,
            order: Vec::new(),
            counted: false,
            execution: Execution::Auto,
            chunk_length: None,
            rows: PhantomData,
        }
    }
}

impl<R, DB: SqlDatabase> ListQuery<R, DB> {
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

    /// The order. It must be total, so end in a unique key: otherwise rows that are equal in it may
    /// appear on two pages or on none.
    #[must_use]
    pub fn order_by(mut self, keys: impl IntoIterator<Item = OrderBy>) -> Self {
        self.order.extend(keys);
        self
    }

    /// Also counts the rows of the whole list, with a statement of its own. Default: no, since counting
    /// reads them all.
    #[must_use]
    pub fn with_count(mut self) -> Self {
        self.counted = true;
        self
    }

    /// Forces how the list runs, for trying out and for tests. Default: the library decides.
    #[must_use]
    pub fn execution(mut self, execution: Execution) -> Self {
        self.execution = execution;
        self
    }

    /// Fixes how many rows a chunk has, for tests and measurements. Default: the library decides from
    /// what a row costs.
    #[must_use]
    pub fn chunk_length(mut self, rows: NonZeroUsize) -> Self {
        self.chunk_length = Some(rows);
        self
    }

    /// The statement that reads one page.
    pub(super) fn statement(mut self, page: Page) -> Result<Statement<DB>, ListError> {
        let tables = self.tables.ok_or(ListError::Query { why: "`.from(…)` is missing" })?;
        if self.order.is_empty() {
            let why = "`.order_by(…)` is missing: without an order, pages repeat and lose rows";
            return Err(ListError::Query { why });
        }
        let mut sql = format!("SELECT {} FROM {}", self.columns.as_str(), tables.as_str());
        if self.filtered {
            sql.push_str(" WHERE ");
            sql.push_str(self.filters.sql().as_str());
        }
        for (index, by) in self.order.iter().enumerate() {
            sql.push_str(if index == 0 { " ORDER BY " } else { ", " });
            sql.push_str(by.key.as_str());
            sql.push_str(if by.descending { " DESC" } else { " ASC" });
        }
        // The filters' placeholders are numbered already, and come first.
        let mut query = DB::continued(sql, &mut self.filters).map_err(ListError::Database)?;
        query.push(" LIMIT ");
        DB::bind(&mut query, number("limit", page.limit)?);
        query.push(" OFFSET ");
        DB::bind(&mut query, number("offset", page.offset)?);
        let sql = query.sql();
        let arguments = DB::arguments(&mut query).map_err(ListError::Database)?;
        Ok(Statement { sql, arguments })
    }
}

/// A statement with what is bound to it.
pub(super) struct Statement<DB: SqlDatabase> {
    pub(super) sql: SqlStr,
    pub(super) arguments: <DB as sqlx::Database>::Arguments,
}

/// A page parameter as the databases take it, a signed 64-bit number.
fn number(parameter: &'static str, value: u64) -> Result<i64, ListError> {
    i64::try_from(value).map_err(|_| ListError::Page {
        parameter,
        value: value.to_string(),
        accepted: format!("a whole number up to {}", i64::MAX),
    })
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use super::*;

    fn sql<DB: SqlDatabase>(query: ListQuery<(), DB>) -> Result<String, String> {
        let page = Page { limit: 10, offset: 20 };
        query.statement(page).map(|s| s.sql.as_str().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_statement_has_its_parts_in_order() {
        let query = ListQuery::<()>::select("a, b").from("t").order_by([desc("b"), asc("a")]);
        assert_eq!(
            sql::<sqlx::Sqlite>(query).unwrap(),
            "SELECT a, b FROM t ORDER BY b DESC, a ASC LIMIT ? OFFSET ?"
        );
    }

    #[test]
    fn filters_are_joined_and_their_values_come_first() {
        let query = ListQuery::<()>::select("a")
            .from("t")
            .filter(|q| {
                q.push("x = ").push_bind(1_i64).push(" OR y = ").push_bind("z");
            })
            .filter(|_| {})
            .filter(|q| {
                q.push("b > ").push_bind(2.5);
            })
            .order_by([asc("a")]);
        assert_eq!(
            sql::<sqlx::Postgres>(query).unwrap(),
            "SELECT a FROM t WHERE (x = $1 OR y = $2) AND (1 = 1) AND (b > $3) ORDER BY a ASC LIMIT $4 OFFSET $5"
        );
    }

    #[test]
    fn filters_may_borrow_and_come_before_the_tables() {
        let name = String::from("ada");
        let query = ListQuery::<()>::select("a")
            .filter(|q| {
                q.push("name = ").push_bind(name.as_str());
            })
            .from("t")
            .order_by([asc("a")]);
        assert!(sql::<sqlx::Sqlite>(query).unwrap().contains("WHERE (name = ?)"));
    }

    #[test]
    fn a_query_without_tables_or_order_is_refused_with_what_is_missing() {
        let error = sql::<sqlx::Sqlite>(ListQuery::<()>::select("a").order_by([asc("a")])).unwrap_err();
        assert!(error.contains("`.from(…)` is missing"), "{error}");
        let error = sql::<sqlx::Sqlite>(ListQuery::<()>::select("a").from("t")).unwrap_err();
        assert!(error.contains("`.order_by(…)` is missing"), "{error}");
    }

    #[test]
    fn numbers_no_database_can_take_are_refused() {
        let query = ListQuery::<()>::select::<sqlx::Sqlite>("a").from("t").order_by([asc("a")]);
        let error = query.statement(Page { limit: 1, offset: u64::MAX }).err().unwrap().to_string();
        assert_eq!(
            error,
            "offset is `18446744073709551615`; accepted: a whole number up to 9223372036854775807"
        );
    }
}
