//! SQLite's catalogue, by its table-valued pragmas.

use std::collections::HashMap;

use sqlparser::ast::{ColumnOption, Statement};
use sqlparser::dialect::SQLiteDialect;
use sqlparser::parser::Parser;
use sqlx::{AssertSqlSafe, FromRow, SqliteConnection};

use super::{Column, Equality, Table, TableName, column_sets};
use crate::db::Dialect;

/// The collation of columns that name none.
const BINARY: &str = "binary";

/// A column of a unique index.
#[derive(FromRow)]
struct KeyColumn {
    index: String,
    /// `pk`: made by PRIMARY KEY.
    origin: String,
    cid: i64,
    column: Option<String>,
    collation: Option<String>,
}

/// The base table of this name, if there is one.
pub(crate) async fn table(
    connection: &mut SqliteConnection,
    name: &TableName,
) -> Result<Option<Table>, sqlx::Error> {
    // As SQLite looks names up: `temp` first, then `main`, then what is attached, in that order.
    let found: Option<(String, String, bool)> = sqlx::query_as(
        "SELECT l.schema, l.type, l.wr
         FROM pragma_table_list(?1) l JOIN pragma_database_list d ON d.name = l.schema
         WHERE ?2 IS NULL OR l.schema = ?2 COLLATE NOCASE
         ORDER BY l.schema = 'temp' DESC, d.seq LIMIT 1",
    )
    .bind(&name.name)
    .bind(&name.schema)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((schema, kind, without_rowid)) = found else { return Ok(None) };
    // No other connection sees what is in `temp`.
    if kind != "table" || schema == "temp" {
        return Ok(None);
    }

    let sql = format!(
        "SELECT sql FROM \"{}\".sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
        schema.replace('"', "\"\"")
    );
    let created: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(&name.name).fetch_optional(&mut *connection).await?;
    let collations = Collations::of(created.as_deref().unwrap_or_default());

    let columns: Vec<(String, bool, i64, String)> =
        sqlx::query_as("SELECT name, \"notnull\", pk, type FROM pragma_table_xinfo(?1, ?2) ORDER BY cid")
            .bind(&name.name)
            .bind(&schema)
            .fetch_all(&mut *connection)
            .await?;
    let keys: Vec<KeyColumn> = sqlx::query_as(
        "SELECT l.name AS \"index\", l.origin, x.cid, x.name AS \"column\", x.coll AS collation
         FROM pragma_index_list(?1, ?2) l JOIN pragma_index_xinfo(l.name, ?2) x
         WHERE l.\"unique\" = 1 AND l.partial = 0 AND x.key = 1
         ORDER BY l.seq, x.seqno",
    )
    .bind(&name.name)
    .bind(&schema)
    .fetch_all(&mut *connection)
    .await?;

    // A primary key without an index is the rowid. (`INTEGER PRIMARY KEY DESC` is not, and has one.)
    let indexed = keys.iter().any(|key| key.origin == "pk");
    let rowid = |pk: i64| pk > 0 && !without_rowid && !indexed;
    let mut unique: Vec<Vec<String>> = columns
        .iter()
        .filter(|(_, _, pk, _)| rowid(*pk))
        .map(|(name, ..)| vec![Dialect::Sqlite.column_name(name, true)])
        .collect();
    unique.extend(column_sets(keys.into_iter().map(|key| {
        // Below 0 it is an expression.
        let column = key.column.filter(|_| key.cid >= 0);
        let column = column.map(|column| Dialect::Sqlite.column_name(&column, true));
        let collation = key.collation.as_deref().unwrap_or(BINARY);
        (key.index, column.filter(|column| collations.settled(column, collation)))
    })));
    let columns = columns.into_iter().map(|(name, not_null, pk, declared)| {
        let name = Dialect::Sqlite.column_name(&name, true);
        // Of the other primary keys, only those of tables without a rowid are NOT NULL by themselves.
        let nullable = !(not_null || rowid(pk) || without_rowid && pk > 0);
        let equality = equality(&declared, collations.get(&name));
        Column { name, nullable, equality }
    });
    // What tells whether somebody wrote knows of the main database only.
    let beyond_snapshot = schema != "main";
    Ok(Some(Table { columns: columns.collect(), unique, beyond_snapshot }))
}

/// What `=` means in a column declared so.
fn equality(declared: &str, collation: Option<&str>) -> Equality {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    // SQLite's rules of affinity, in their order.
    let integer = has(&["INT"]);
    let text = !integer && has(&["CHAR", "CLOB", "TEXT"]);
    match collation {
        Some(collation) if text => Equality::Text(collation.to_owned()),
        // Numbers have no collation, but text may be in any column.
        Some(BINARY) if integer => Equality::Integer,
        // What it means depends on the table being STRICT.
        Some(BINARY) if declared != "ANY" => Equality::Other(declared),
        _ => Equality::Unknown,
    }
}

/// The collations of a table's columns, which no pragma tells.
struct Collations {
    /// `None`: the table's definition was not understood.
    named: Option<HashMap<String, String>>,
}

impl Collations {
    /// Of the table created by this statement.
    fn of(created: &str) -> Self {
        if !created.to_ascii_lowercase().contains("collate") && !created.is_empty() {
            return Collations { named: Some(HashMap::new()) };
        }
        let Ok(mut statements) = Parser::parse_sql(&SQLiteDialect {}, created) else {
            return Collations { named: None };
        };
        let Some(Statement::CreateTable(table)) = statements.pop() else {
            return Collations { named: None };
        };
        let mut named = HashMap::new();
        for column in table.columns {
            for option in column.options {
                if let ColumnOption::Collation(collation) = option.option {
                    let name = Dialect::Sqlite.column_name(&column.name.value, true);
                    named.insert(name, unquoted(&collation.to_string()));
                }
            }
        }
        Collations { named: Some(named) }
    }

    fn get(&self, column: &str) -> Option<&str> {
        Some(self.named.as_ref()?.get(column).map_or(BINARY, String::as_str))
    }

    /// Whether values that differ by an index's collation differ by the column's too.
    fn settled(&self, column: &str, index: &str) -> bool {
        // Nothing but the same bytes is equal to BINARY, so any other collation tells less apart.
        self.get(column).is_some_and(|own| own == BINARY || own == index.to_ascii_lowercase())
    }
}

fn unquoted(name: &str) -> String {
    name.trim_matches(['"', '`', '[', ']', '\'']).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Executor};

    use super::*;

    async fn memory(sql: &'static str) -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        connection.execute(sql).await.unwrap();
        connection
    }

    fn name(name: &str) -> TableName {
        TableName { schema: None, name: name.into() }
    }

    fn nullable(table: &Table) -> Vec<(&str, bool)> {
        table.columns.iter().map(|column| (column.name.as_str(), column.nullable)).collect()
    }

    #[tokio::test]
    async fn tables_are_known_by_their_columns_and_unique_keys() {
        for (sql, columns, unique) in [
            (
                "CREATE TABLE T (Id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE)",
                vec![("id", false), ("name", false), ("email", true)],
                vec![vec!["id"], vec!["email"]],
            ),
            // The primary key of an ordinary table may be NULL unless it is the rowid.
            ("CREATE TABLE t (id INT PRIMARY KEY)", vec![("id", true)], vec![vec!["id"]]),
            ("CREATE TABLE t (id INTEGER PRIMARY KEY DESC)", vec![("id", true)], vec![vec!["id"]]),
            (
                "CREATE TABLE t (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID",
                vec![("a", false), ("b", false)],
                vec![vec!["a", "b"]],
            ),
            ("CREATE TABLE t (a TEXT, b AS (a || 'x'))", vec![("a", true), ("b", true)], vec![]),
            // Indexes that are partial, on an expression, or not unique tell nothing.
            (
                "CREATE TABLE t (a TEXT NOT NULL, b TEXT NOT NULL);
                 CREATE UNIQUE INDEX i1 ON t (a) WHERE b > 'x';
                 CREATE UNIQUE INDEX i2 ON t (b, lower(a));
                 CREATE INDEX i3 ON t (b);
                 CREATE UNIQUE INDEX i4 ON t (b DESC, a)",
                vec![("a", false), ("b", false)],
                vec![vec!["b", "a"]],
            ),
            // By BINARY 'a' and 'A' are two keys, and yet equal in the order of a NOCASE column.
            (
                "CREATE TABLE t (a TEXT NOT NULL COLLATE NOCASE, b TEXT NOT NULL);
                 CREATE UNIQUE INDEX i1 ON t (a COLLATE BINARY);
                 CREATE UNIQUE INDEX i2 ON t (b, a);
                 CREATE UNIQUE INDEX i3 ON t (b COLLATE NOCASE)",
                vec![("a", false), ("b", false)],
                vec![vec!["b"], vec!["b", "a"]],
            ),
        ] {
            let table = table(&mut memory(sql).await, &name("t")).await.unwrap().unwrap();
            assert_eq!(nullable(&table), columns, "{sql}");
            assert_eq!(table.unique, unique, "{sql}");
        }
    }

    #[tokio::test]
    async fn views_and_temporary_and_missing_tables_are_unknown() {
        for sql in [
            "CREATE VIEW t AS SELECT 1 AS id",
            "CREATE TABLE u (id INTEGER PRIMARY KEY)",
            "CREATE TABLE main.t (id INTEGER PRIMARY KEY); CREATE TEMP TABLE t (id TEXT)",
            "CREATE VIRTUAL TABLE t USING fts5(a)",
        ] {
            assert_eq!(table(&mut memory(sql).await, &name("t")).await.unwrap(), None, "{sql}");
        }
    }

    #[tokio::test]
    async fn schemas_are_looked_up_in_turn() {
        let mut connection = memory(
            "CREATE TABLE t (a); ATTACH ':memory:' AS \"Other \"\"one\"; CREATE TABLE \"Other \"\"one\".t (b); \
             CREATE TABLE \"Other \"\"one\".u (c UNIQUE)",
        )
        .await;
        for (schema, name, column) in [
            (None, "t", Some(("a", false))),
            (Some("main"), "t", Some(("a", false))),
            // Whether somebody wrote there cannot be told.
            (Some("other \"one"), "t", Some(("b", true))),
            (None, "u", Some(("c", true))),
            (Some("main"), "u", None),
        ] {
            let name = TableName { schema: schema.map(str::to_owned), name: name.into() };
            let table = table(&mut connection, &name).await.unwrap();
            let found = table.as_ref().map(|table| (table.columns[0].name.as_str(), table.beyond_snapshot));
            assert_eq!(found, column, "{name:?}");
        }
    }

    #[test]
    fn columns_are_equal_by_affinity_and_collation() {
        let text = |collation: &str| Equality::Text(collation.into());
        for (declared, collation, expected) in [
            ("INTEGER", Some("binary"), Equality::Integer),
            ("bigint", Some("binary"), Equality::Integer),
            ("INTEGER", Some("nocase"), Equality::Unknown),
            ("VARCHAR(20)", Some("nocase"), text("nocase")),
            ("TEXT", None, Equality::Unknown),
            ("", Some("binary"), Equality::Other(String::new())),
            ("ANY", Some("binary"), Equality::Unknown),
        ] {
            assert_eq!(equality(declared, collation), expected, "{declared} {collation:?}");
        }
    }

    #[test]
    fn collations_are_read_from_the_definition() {
        let collations = Collations::of("CREATE TABLE t (a TEXT COLLATE \"NoCase\", b TEXT)");
        assert_eq!((collations.get("a"), collations.get("b")), (Some("nocase"), Some("binary")));
        let collations = Collations::of("CREATE TABLE t (a TEXT COLLATE NOCASE) NOT UNDERSTOOD");
        assert_eq!(collations.get("b"), None);
    }
}
