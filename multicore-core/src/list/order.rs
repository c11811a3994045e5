//! The order of a list as the program declares it. What the schema says of its keys is found out in
//! `survey`; the SQL is written in `plan`.

use sqlx::{SqlSafeStr, SqlStr};

/// One key of an order, with its direction.
#[derive(Debug)]
pub struct OrderBy {
    pub(super) key: SqlStr,
    pub(super) descending: bool,
    pub(super) nulls: Option<Nulls>,
    pub(super) unique: bool,
}

/// Where NULLs stand in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Nulls {
    First,
    Last,
}

impl Nulls {
    pub(crate) fn reversed(self) -> Self {
        match self {
            Nulls::First => Nulls::Last,
            Nulls::Last => Nulls::First,
        }
    }
}

/// Ascending by `key`, a column or an SQL expression.
pub fn asc(key: impl SqlSafeStr) -> OrderBy {
    OrderBy { key: key.into_sql_str(), descending: false, nulls: None, unique: false }
}

/// Descending by `key`, a column or an SQL expression.
pub fn desc(key: impl SqlSafeStr) -> OrderBy {
    OrderBy { key: key.into_sql_str(), descending: true, nulls: None, unique: false }
}

impl OrderBy {
    /// Declares that the key may be NULL and that such rows come first. A key whose column may be NULL
    /// must say where NULLs go, because databases differ.
    #[must_use]
    pub fn nulls_first(mut self) -> Self {
        self.nulls = Some(Nulls::First);
        self
    }

    /// Declares that the key may be NULL and that such rows come last.
    #[must_use]
    pub fn nulls_last(mut self) -> Self {
        self.nulls = Some(Nulls::Last);
        self
    }

    /// Declares that no two rows of the list have the same value of this key, and that it is never NULL.
    /// Needed only where the schema does not say so: for views, subqueries and expressions. It is taken
    /// at its word; if it is not true, pages repeat and lose rows.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }
}
