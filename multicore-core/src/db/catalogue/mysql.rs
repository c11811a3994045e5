//! MySQL's and MariaDB's catalogue, by what both have of `information_schema`.

use sqlx::{FromRow, MySqlConnection};

use super::{Column, Equality, Table, TableName, column_sets};
use crate::db::Dialect;

/// `max_sort_length`, which is in bytes and 1,024 by default: text beyond it has no part in an order.
const SORTED_OCTETS: i64 = 1_024;

/// A row of `information_schema.COLUMNS`.
#[derive(FromRow)]
struct ColumnRow {
    name: String,
    nullable: bool,
    kind: String,
    text_collation: Option<String>,
    octets: Option<i64>,
}

/// The base table of this name, if there is one.
pub(crate) async fn table(
    connection: &mut MySqlConnection,
    name: &TableName,
) -> Result<Option<Table>, sqlx::Error> {
    // By `=` alone names that differ by case would be taken for each other, and without it each table
    // of the server would be opened. CAST: what these columns are differs between servers. Tables in
    // other engines have no snapshot that connections could read alike.
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT CAST(t.TABLE_SCHEMA AS CHAR), CAST(t.TABLE_NAME AS CHAR) FROM information_schema.TABLES t
         WHERE t.TABLE_SCHEMA = COALESCE(?, DATABASE()) AND t.TABLE_NAME = ?
           AND (@@lower_case_table_names <> 0 OR CAST(t.TABLE_NAME AS BINARY) = CAST(? AS BINARY))
           AND t.TABLE_TYPE = 'BASE TABLE' AND t.ENGINE IN ('InnoDB', 'ROCKSDB')",
    )
    .bind(&name.schema)
    .bind(&name.name)
    .bind(&name.name)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((schema, table)) = found else { return Ok(None) };

    let columns: Vec<ColumnRow> = sqlx::query_as(
        "SELECT CAST(COLUMN_NAME AS CHAR) AS name, IS_NULLABLE = 'YES' AS nullable,
                CAST(DATA_TYPE AS CHAR) AS kind, CAST(COLLATION_NAME AS CHAR) AS text_collation,
                CAST(CHARACTER_OCTET_LENGTH AS SIGNED) AS octets
         FROM information_schema.COLUMNS
         WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND CAST(TABLE_NAME AS BINARY) = CAST(? AS BINARY)
         ORDER BY ORDINAL_POSITION",
    )
    .bind(&schema)
    .bind(&table)
    .bind(&table)
    .fetch_all(&mut *connection)
    .await?;
    // A column is NULL where the index is on an expression; it is on a prefix where SUB_PART is not.
    let keys: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT CAST(INDEX_NAME AS CHAR), CAST(IF(SUB_PART IS NULL, COLUMN_NAME, NULL) AS CHAR)
         FROM information_schema.STATISTICS
         WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND CAST(TABLE_NAME AS BINARY) = CAST(? AS BINARY)
           AND NON_UNIQUE = 0
         ORDER BY INDEX_NAME, SEQ_IN_INDEX",
    )
    .bind(&schema)
    .bind(&table)
    .bind(&table)
    .fetch_all(connection)
    .await?;

    let too_long: Vec<String> = columns
        .iter()
        .filter(|column| column.octets.is_some_and(|octets| octets > SORTED_OCTETS))
        .map(|column| Dialect::MySql.column_name(&column.name, true))
        .collect();
    let unique = column_sets(keys.into_iter().map(|(index, column)| {
        let column = column.map(|column| Dialect::MySql.column_name(&column, true));
        (index, column.filter(|column| !too_long.contains(column)))
    }));
    let columns = columns.into_iter().map(|column| Column {
        name: Dialect::MySql.column_name(&column.name, true),
        nullable: column.nullable,
        equality: equality(column.kind.to_ascii_lowercase(), column.text_collation),
    });
    Ok(Some(Table { columns: columns.collect(), unique, beyond_snapshot: false }))
}

/// What `=` means in a column of this type.
fn equality(kind: String, collation: Option<String>) -> Equality {
    match (kind.as_str(), collation) {
        ("tinyint" | "smallint" | "mediumint" | "int" | "bigint", _) => Equality::Integer,
        ("char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext", Some(collation)) => {
            Equality::Text(collation)
        }
        (_, None) => Equality::Other(kind),
        (_, Some(collation)) => Equality::Other(format!("{kind} {collation}")),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Executor};

    use super::super::test_server;
    use super::*;

    const TABLES: &str = "
        CREATE TABLE plain (Id BIGINT PRIMARY KEY, name VARCHAR(50) NOT NULL, email VARCHAR(100) UNIQUE,
            code CHAR(3) COLLATE utf8mb4_bin, small INT UNSIGNED);
        CREATE TABLE pair (a INT NOT NULL, b VARCHAR(255) NOT NULL, c INT, UNIQUE z (b, a), KEY (c));
        CREATE TABLE odd (a VARCHAR(255) NOT NULL, b VARCHAR(500) NOT NULL, UNIQUE p (a(10)), UNIQUE l (b));
        CREATE TABLE unsafe_engine (id INT PRIMARY KEY) ENGINE = MyISAM;
        CREATE VIEW seen AS SELECT * FROM plain";

    #[tokio::test]
    async fn tables_are_known_by_their_columns_and_unique_keys() {
        let url = test_server::url("MULTICORE_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test");
        let mut connection = match MySqlConnection::connect(&url).await {
            Ok(connection) => connection,
            Err(error) => return test_server::skip("MySQL", &error),
        };
        let database = format!("multicore_catalogue_{}", std::process::id());
        let sql = format!("CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        // In a task of its own, so that the database is dropped also after a panic.
        let schema = database.clone();
        let outcome = tokio::spawn(async move { check(&url, schema).await }).await;
        connection.execute(AssertSqlSafe(format!("DROP DATABASE {database}"))).await.unwrap();
        outcome.unwrap();
    }

    async fn check(url: &str, database: String) {
        let mut connection = MySqlConnection::connect(url).await.unwrap();
        let elsewhere = TableName { schema: Some(database.clone()), name: "pair".into() };
        connection.execute(AssertSqlSafe(format!("USE {database}; {TABLES}"))).await.unwrap();
        for (name, columns, unique) in [
            (
                "plain",
                vec![("id", false), ("name", false), ("email", true), ("code", true), ("small", true)],
                vec![vec!["email"], vec!["id"]],
            ),
            ("pair", vec![("a", false), ("b", false), ("c", true)], vec![vec!["b", "a"]]),
            // A prefix of text, or text of which only a prefix is sorted, is not the text.
            ("odd", vec![("a", false), ("b", false)], vec![]),
        ] {
            let name = TableName { schema: None, name: name.into() };
            let table = table(&mut connection, &name).await.unwrap().unwrap();
            let nullable: Vec<_> = table.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect();
            assert_eq!(nullable, columns, "{name:?}");
            assert_eq!(table.unique, unique, "{name:?}");
        }
        for name in ["unsafe_engine", "seen", "missing"] {
            let name = TableName { schema: None, name: name.into() };
            assert_eq!(table(&mut connection, &name).await.unwrap(), None, "{name:?}");
        }
        let name = TableName { schema: None, name: "plain".into() };
        let columns = table(&mut connection, &name).await.unwrap().unwrap().columns;
        assert!(columns[0].equality.same(&columns[4].equality), "whole numbers compare as one");
        assert!(columns[1].equality.same(&columns[2].equality));
        assert!(!columns[2].equality.same(&columns[3].equality), "the collations differ");

        connection.execute("USE information_schema").await.unwrap();
        assert!(table(&mut connection, &elsewhere).await.unwrap().is_some());
    }
}
