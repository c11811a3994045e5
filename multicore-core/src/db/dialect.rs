//! Which SQL a database speaks, and how it reads names. Nothing here asks a database.

/// A database's SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
    /// That of MySQL, and of MariaDB.
    MySql,
}

impl Dialect {
    /// The one spelling of a table's, schema's or table alias's name.
    pub(crate) fn table_name(self, name: &str, quoted: bool) -> String {
        match self {
            Dialect::Sqlite => name.to_ascii_lowercase(),
            Dialect::Postgres if !quoted => name.to_lowercase(),
            // MySQL's tables are files: on most systems their names differ by case, and where they do
            // not, the catalogue finds them all the same.
            Dialect::Postgres | Dialect::MySql => name.to_owned(),
        }
    }

    /// The one spelling of a column's name or alias.
    pub(crate) fn column_name(self, name: &str, quoted: bool) -> String {
        match self {
            Dialect::Sqlite => name.to_ascii_lowercase(),
            Dialect::Postgres if quoted => name.to_owned(),
            Dialect::Postgres | Dialect::MySql => name.to_lowercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect::{MySql, Postgres, Sqlite};

    #[test]
    fn names_have_one_spelling() {
        for (dialect, quoted, table, column) in [
            (Sqlite, false, "people", "people"),
            (Sqlite, true, "people", "people"),
            (Postgres, false, "people", "people"),
            (Postgres, true, "People", "People"),
            (MySql, false, "People", "people"),
            (MySql, true, "People", "people"),
        ] {
            assert_eq!(dialect.table_name("People", quoted), table, "{dialect:?}, quoted {quoted}");
            assert_eq!(dialect.column_name("People", quoted), column, "{dialect:?}, quoted {quoted}");
        }
    }
}
