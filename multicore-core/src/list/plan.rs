//! From a query, an order and a part of the list to one statement: text and what is bound to it. Pure;
//! what the schema says of the keys comes in, nothing is asked here.
//!
//! A page deep in a list is **located**: a common table expression finds the order keys of its first
//! row, which an index can do without reading the rows before it, and the rows are read from there on.
//! One statement, so one snapshot, and no further round trip (the "deferred join" or "seek" method;
//! Markus Winand, use-the-index-luke.com).

use std::borrow::Cow;
use std::fmt::Write;

use super::order::Nulls;
use crate::db::{Dialect, SESSION};

/// The name under which a located page's first row is known.
const START: &str = "multicore_start";

/// A key of the order with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) sql: String,
    pub(crate) descending: bool,
    /// Where NULLs stand; none for a key that is never NULL.
    pub(crate) nulls: Option<Nulls>,
    /// The type a bound value is cast to, where the database would compare it as text otherwise.
    pub(crate) cast: Option<String>,
}

impl Key {
    /// The key beside an operator.
    fn operand(&self) -> Cow<'_, str> {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"' | '`' | '$');
        if self.sql.chars().all(plain) {
            Cow::Borrowed(&self.sql)
        } else {
            Cow::Owned(format!("({})", self.sql))
        }
    }

    fn reversed(&self) -> Self {
        Key { descending: !self.descending, nulls: self.nulls.map(Nulls::reversed), ..self.clone() }
    }
}

/// The parts of a query as text. Filters have placeholders, numbered from 1 where the dialect numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) dialect: Dialect,
    pub(crate) columns: String,
    pub(crate) tables: String,
    pub(crate) filters: Option<String>,
    /// How many values the filters have bound.
    pub(crate) bound: usize,
    pub(crate) keys: Vec<Key>,
}

/// What to read of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// Only rows after the one with certain keys; for each key, whether its value there is NULL.
    pub(crate) after: Option<Vec<bool>>,
    /// That row as well.
    pub(crate) inclusive: bool,
    /// In the reversed order.
    pub(crate) backward: bool,
    /// Rows to leave out first; none for a statement that has no such clause.
    pub(crate) skip: Option<u64>,
    /// The most rows; all if none.
    pub(crate) rows: Option<u64>,
    /// Numbers of rows stand in the text. They decide how PostgreSQL runs a statement, so with bound ones it
    /// plans anew each time, which takes longer than reading a short page.
    pub(crate) literal: bool,
    /// Find the first row by its keys instead of reading what comes before it.
    pub(crate) locate: bool,
    /// Also select the keys, behind the query's own columns.
    pub(crate) keys: bool,
    /// Also select the snapshot, as the last column (PostgreSQL).
    pub(crate) snapshot: bool,
    /// But none where the keys as text are not exactly what they are cast back to: their types may have changed since
    /// they were asked for, and dates in other styles than ISO's name time zones by letters.
    pub(crate) exact: bool,
    /// No rows at all unless this is the snapshot (PostgreSQL; no standby ever saw one to expect).
    pub(crate) expects: Option<i64>,
    /// No rows at all unless the session has this number (PostgreSQL).
    pub(crate) session: Option<i64>,
    /// No rows at all unless another session holds the lock of this number (PostgreSQL).
    pub(crate) held: Option<i64>,
    /// Let the running statement be found by a lock of this number that it holds (PostgreSQL).
    pub(crate) tag: Option<i64>,
}

/// A value to bind behind those of the filters, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Param {
    /// The cursor's value of this key.
    Key(usize),
    /// How many rows.
    Rows(u64),
    /// How many rows to leave out.
    Skip(u64),
    /// A number of our own: the lock's, or the snapshot's.
    Number(i64),
}

/// A statement's text and what is bound to it behind the filters' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
}

/// What identifies the snapshot a statement saw and the session that saw it, as one number: equal numbers
/// mean equal rows. Not on a standby, where equal snapshots do not.
const SNAPSHOT: &str = "hashtextextended(concat_ws('|', pg_current_snapshot(), pg_postmaster_start_time(), \
     current_database(), current_user, current_setting('search_path'), current_setting('TimeZone'), \
     current_setting('DateStyle')), 0)";

/// The statement that reads `read` of a query.
pub(crate) fn statement(parts: &Parts, read: &Read) -> Planned {
    let reversed: Vec<Key>;
    let keys = if read.backward {
        reversed = parts.keys.iter().map(Key::reversed).collect();
        &reversed
    } else {
        &parts.keys
    };
    let mut sql = Sql::new(parts);
    let locate = read.locate && read.skip.is_some_and(|skip| skip > 0);
    if locate {
        sql.text.push_str("WITH ");
        sql.text.push_str(START);
        sql.text.push_str(" AS (SELECT ");
        for (index, key) in keys.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _infallible = write!(sql.text, "{comma}{} AS k{index}", key.sql);
        }
        sql.from();
        let mut conditions = Conditions::begin(&mut sql);
        conditions.filters();
        conditions.after(keys, read);
        sql.order(keys);
        sql.text.push_str(" LIMIT 1 OFFSET ");
        let skip = read.skip.unwrap_or(0);
        sql.number(Param::Skip(skip), skip, read.literal);
        sql.text.push_str(") ");
    }
    sql.text.push_str("SELECT ");
    sql.text.push_str(&parts.columns);
    if read.keys {
        for (index, key) in parts.keys.iter().enumerate() {
            sql.text.push_str(", ");
            sql.text.push_str(&selected(parts.dialect, key));
            let _infallible = write!(sql.text, " AS multicore_key_{index}");
        }
    }
    if read.snapshot {
        sql.text.push_str(", ");
        if read.exact {
            sql.exact_keys();
        }
        let _infallible =
            write!(sql.text, "(SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE {SNAPSHOT} END)");
        sql.text.push_str(if read.exact { " END AS multicore_snapshot" } else { " AS multicore_snapshot" });
    }
    sql.from();
    let mut conditions = Conditions::begin(&mut sql);
    conditions.filters();
    // Conditions that name no row are asked once, before any row is looked for. Not as subqueries, each of which takes
    // the server longer than what it asks; what changes something has to be one, or it would be asked for each row.
    if let Some(snapshot) = read.expects {
        conditions.next();
        let _infallible = write!(conditions.sql.text, "{SNAPSHOT} = ");
        conditions.sql.param(Param::Number(snapshot));
    }
    if let Some(session) = read.session {
        conditions.next();
        let _infallible = write!(conditions.sql.text, "{SESSION} = ");
        conditions.sql.param(Param::Number(session));
    }
    if let Some(held) = read.held {
        conditions.next();
        conditions.sql.text.push_str("(SELECT NOT pg_try_advisory_xact_lock_shared(");
        conditions.sql.param(Param::Number(held));
        conditions.sql.text.push_str("))");
    }
    if let Some(tag) = read.tag {
        conditions.next();
        conditions.sql.text.push_str("(SELECT pg_try_advisory_xact_lock_shared(");
        conditions.sql.param(Param::Number(tag));
        conditions.sql.text.push_str("))");
    }
    if locate {
        conditions.located(keys);
    } else {
        conditions.after(keys, read);
    }
    sql.order(keys);
    if let Some(rows) = read.rows {
        sql.text.push_str(" LIMIT ");
        sql.number(Param::Rows(rows), rows, read.literal);
    }
    if let (false, Some(skip)) = (locate, read.skip) {
        sql.text.push_str(" OFFSET ");
        sql.number(Param::Skip(skip), skip, read.literal);
    }
    Planned { sql: sql.text, params: sql.params }
}

/// The statement that counts the rows of a query. `plain` says that its columns do not change their
/// number, as `DISTINCT` would.
pub(crate) fn count(parts: &Parts, plain: bool) -> Planned {
    let mut sql = Sql::new(parts);
    sql.text.push_str("SELECT COUNT(*)");
    if !plain {
        sql.text.push_str(" FROM (SELECT ");
        sql.text.push_str(&parts.columns);
    }
    sql.from();
    Conditions::begin(&mut sql).filters();
    if !plain {
        sql.text.push_str(") AS multicore_counted");
    }
    Planned { sql: sql.text, params: sql.params }
}

/// A key as it is selected for a cursor: as text where the driver has no type for every value.
fn selected(dialect: Dialect, key: &Key) -> String {
    match (dialect, &key.cast) {
        (Dialect::Postgres, _) => format!("({})::text", key.sql),
        (Dialect::MySql, Some(_)) => format!("CAST({} AS CHAR)", key.sql),
        (Dialect::MySql | Dialect::Sqlite, _) => key.sql.clone(),
    }
}

/// SQL text under way.
struct Sql<'p> {
    parts: &'p Parts,
    text: String,
    params: Vec<Param>,
}

impl<'p> Sql<'p> {
    fn new(parts: &'p Parts) -> Self {
        Sql { parts, text: String::with_capacity(512), params: Vec::new() }
    }

    fn param(&mut self, param: Param) {
        self.params.push(param);
        let number = self.parts.bound + self.params.len();
        let _infallible = match self.parts.dialect {
            Dialect::Postgres => write!(self.text, "${number}"),
            Dialect::Sqlite => write!(self.text, "?{number}"),
            Dialect::MySql => write!(self.text, "?"),
        };
    }

    /// A number of rows, bound or written out.
    fn number(&mut self, param: Param, rows: u64, literal: bool) {
        if literal {
            let _infallible = write!(self.text, "{rows}");
        } else {
            self.param(param);
        }
    }

    /// The beginning of what is only told where the keys are of the types they are cast to, and dates are ISO's.
    fn exact_keys(&mut self) {
        self.text.push_str("CASE WHEN (SELECT current_setting('DateStyle') LIKE 'ISO%')");
        for key in &self.parts.keys {
            let cast = key.cast.as_deref().unwrap_or_default();
            let _infallible = write!(self.text, " AND pg_typeof({}) = '{cast}'::regtype", key.sql);
        }
        self.text.push_str(" THEN ");
    }

    fn from(&mut self) {
        self.text.push_str(" FROM ");
        self.text.push_str(&self.parts.tables);
    }

    fn order(&mut self, keys: &[Key]) {
        for (index, key) in keys.iter().enumerate() {
            self.text.push_str(if index == 0 { " ORDER BY " } else { ", " });
            let direction = if key.descending { "DESC" } else { "ASC" };
            let nulls = key.nulls.filter(|&nulls| nulls != natural(self.parts.dialect, key.descending));
            let _infallible = match (nulls, self.parts.dialect) {
                (None, _) => write!(self.text, "{} {direction}", key.sql),
                // It has no other way to say so.
                (Some(nulls), Dialect::MySql) => {
                    let last = if nulls == Nulls::Last { "ASC" } else { "DESC" };
                    write!(self.text, "{} IS NULL {last}, {} {direction}", key.operand(), key.sql)
                }
                (Some(Nulls::First), _) => write!(self.text, "{} {direction} NULLS FIRST", key.sql),
                (Some(Nulls::Last), _) => write!(self.text, "{} {direction} NULLS LAST", key.sql),
            };
        }
    }
}

/// Where a dialect puts NULLs unless told otherwise.
fn natural(dialect: Dialect, descending: bool) -> Nulls {
    let smallest = match dialect {
        Dialect::Postgres => false,
        Dialect::Sqlite | Dialect::MySql => true,
    };
    if smallest == descending { Nulls::Last } else { Nulls::First }
}

/// Conditions joined by `AND`.
struct Conditions<'s, 'p> {
    sql: &'s mut Sql<'p>,
    any: bool,
}

impl<'s, 'p> Conditions<'s, 'p> {
    fn begin(sql: &'s mut Sql<'p>) -> Self {
        Conditions { sql, any: false }
    }

    fn next(&mut self) {
        self.sql.text.push_str(if self.any { " AND " } else { " WHERE " });
        self.any = true;
    }

    fn filters(&mut self) {
        if let Some(filters) = &self.sql.parts.filters {
            self.next();
            self.sql.text.push_str(filters);
        }
    }

    /// Only rows behind the one whose keys are bound, or from it on.
    fn after(&mut self, keys: &[Key], read: &Read) {
        let Some(nulls) = &read.after else { return };
        self.next();
        let value = |index: usize| if nulls[index] { Value::Null } else { Value::Param(index) };
        bound(self.sql, keys, &value, read.inclusive);
    }

    /// Only rows from the located one on. None if there is no such row.
    fn located(&mut self, keys: &[Key]) {
        self.next();
        if keys.iter().any(|key| key.nulls.is_some()) {
            // Without a row all its keys read as NULL, which must not be taken for a row's.
            let _infallible = write!(self.sql.text, "EXISTS (SELECT 1 FROM {START}) AND ");
        }
        bound(self.sql, keys, &Value::Located, true);
    }
}

/// The value of a key at a page's edge.
enum Value {
    Null,
    /// Bound; not NULL.
    Param(usize),
    /// The located row's; NULL or not.
    Located(usize),
}

/// Rows behind the edge in the order of `keys`; with the edge itself if `inclusive`.
///
/// A row comparison where all directions agree and nothing is NULL, since an index can serve it; else
/// `k1 behind OR (k1 equal AND (k2 behind OR …))`.
fn bound(sql: &mut Sql<'_>, keys: &[Key], value: &dyn Fn(usize) -> Value, inclusive: bool) {
    let same = keys.windows(2).all(|pair| pair[0].descending == pair[1].descending);
    let plain = keys.iter().all(|key| key.nulls.is_none());
    // MySQL's optimizer does not use an index for comparing rows.
    if keys.len() == 1 && plain || same && plain && sql.parts.dialect != Dialect::MySql {
        let several = keys.len() > 1;
        let names = keys.iter().map(Key::operand).collect::<Vec<_>>().join(", ");
        let operator = match (keys[0].descending, inclusive) {
            (false, false) => ">",
            (false, true) => ">=",
            (true, false) => "<",
            (true, true) => "<=",
        };
        let _infallible = if several {
            write!(sql.text, "({names}) {operator} (")
        } else {
            write!(sql.text, "{names} {operator} ")
        };
        for (index, key) in keys.iter().enumerate() {
            if index > 0 {
                sql.text.push_str(", ");
            }
            operand(sql, key, &value(index));
        }
        if several {
            sql.text.push(')');
        }
        return;
    }
    let first = &keys[0];
    if first.nulls.is_none() && keys.len() > 1 {
        // Says to an index where to start, which it cannot see in what follows.
        sql.text.push_str(&first.operand());
        sql.text.push_str(if first.descending { " <= " } else { " >= " });
        operand(sql, first, &value(0));
        sql.text.push_str(" AND ");
    }
    sql.text.push('(');
    expanded(sql, keys, 0, value, inclusive);
    sql.text.push(')');
}

fn expanded(sql: &mut Sql<'_>, keys: &[Key], index: usize, value: &dyn Fn(usize) -> Value, inclusive: bool) {
    let key = &keys[index];
    behind(sql, key, &value(index));
    let last = index + 1 == keys.len();
    if last && !inclusive {
        return;
    }
    sql.text.push_str(" OR ");
    if !last {
        sql.text.push('(');
    }
    equal(sql, key, &value(index));
    if !last {
        sql.text.push_str(" AND (");
        expanded(sql, keys, index + 1, value, inclusive);
        sql.text.push_str("))");
    }
}

/// The key of a row stands behind the edge's.
fn behind(sql: &mut Sql<'_>, key: &Key, value: &Value) {
    let operator = if key.descending { "<" } else { ">" };
    match (key.nulls, value) {
        (Some(Nulls::First), Value::Null) => {
            let _infallible = write!(sql.text, "{} IS NOT NULL", key.operand());
        }
        // Nothing stands behind a NULL that comes last; and a key that is never NULL has no such edge.
        (Some(Nulls::Last) | None, Value::Null) => sql.text.push_str("1 = 0"),
        (None, _) | (Some(Nulls::First), Value::Param(_)) => {
            let _infallible = write!(sql.text, "{} {operator} ", key.operand());
            operand(sql, key, value);
        }
        (Some(Nulls::Last), Value::Param(_)) => {
            let _infallible = write!(sql.text, "({} {operator} ", key.operand());
            operand(sql, key, value);
            let _infallible = write!(sql.text, " OR {} IS NULL)", key.operand());
        }
        (Some(Nulls::First), Value::Located(_)) => {
            let _infallible = write!(sql.text, "({} {operator} ", key.operand());
            operand(sql, key, value);
            sql.text.push_str(" OR (");
            operand(sql, key, value);
            let _infallible = write!(sql.text, " IS NULL AND {} IS NOT NULL))", key.operand());
        }
        (Some(Nulls::Last), Value::Located(_)) => {
            let _infallible = write!(sql.text, "({} {operator} ", key.operand());
            operand(sql, key, value);
            sql.text.push_str(" OR (");
            operand(sql, key, value);
            let _infallible = write!(sql.text, " IS NOT NULL AND {} IS NULL))", key.operand());
        }
    }
}

/// The key of a row is the edge's.
fn equal(sql: &mut Sql<'_>, key: &Key, value: &Value) {
    match (key.nulls, value) {
        (_, Value::Null) => {
            let _infallible = write!(sql.text, "{} IS NULL", key.operand());
        }
        (Some(_), Value::Located(_)) => {
            let same = match sql.parts.dialect {
                Dialect::Postgres => "IS NOT DISTINCT FROM",
                Dialect::Sqlite => "IS",
                Dialect::MySql => "<=>",
            };
            let _infallible = write!(sql.text, "{} {same} ", key.operand());
            operand(sql, key, value);
        }
        (_, Value::Param(_)) | (None, Value::Located(_)) => {
            let _infallible = write!(sql.text, "{} = ", key.operand());
            operand(sql, key, value);
        }
    }
}

fn operand(sql: &mut Sql<'_>, key: &Key, value: &Value) {
    match value {
        Value::Null => sql.text.push_str("NULL"),
        Value::Param(index) => match &key.cast {
            None => sql.param(Param::Key(*index)),
            Some(cast) => {
                sql.text.push_str("CAST(");
                sql.param(Param::Key(*index));
                let _infallible = write!(sql.text, " AS {cast})");
            }
        },
        Value::Located(index) => {
            let _infallible = write!(sql.text, "(SELECT k{index} FROM {START})");
        }
    }
}

#[cfg(test)]
mod tests;
