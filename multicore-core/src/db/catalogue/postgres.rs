//! PostgreSQL's catalogue, from version 12 on. Nothing is left prepared: there may be a pooler in between.

use sqlx::PgConnection;

use super::{Column, Equality, Table, TableName};

/// The base table of this name, if there is one.
pub(crate) async fn table(
    connection: &mut PgConnection,
    name: &TableName,
) -> Result<Option<Table>, sqlx::Error> {
    // Only ordinary and partitioned tables. Unique indexes do not reach into tables that inherit, and
    // no other connection sees a temporary table.
    let found: Option<(i64, bool)> = sqlx::query_as(
        "SELECT c.oid::bigint, c.relrowsecurity OR c.relkind = 'p' AND EXISTS (
                SELECT FROM pg_catalog.pg_partition_tree(c.oid) t
                JOIN pg_catalog.pg_class f ON f.oid = t.relid WHERE f.relkind = 'f')
         FROM pg_catalog.pg_class c
         WHERE c.oid = pg_catalog.to_regclass(
                 CASE WHEN $1::text IS NULL THEN pg_catalog.format('%I', $2::text)
                      ELSE pg_catalog.format('%I.%I', $1::text, $2::text) END)
           AND c.relpersistence <> 't'
           AND (c.relkind = 'p' OR c.relkind = 'r' AND NOT c.relhassubclass)",
    )
    .persistent(false)
    .bind(&name.schema)
    .bind(&name.name)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((oid, beyond_snapshot)) = found else { return Ok(None) };

    // int2, int4 and int8 compare as one, and so do text and varchar.
    let columns: Vec<(String, bool, String, String)> = sqlx::query_as(
        "SELECT a.attname::text, a.attnotnull,
                CASE WHEN a.atttypid IN (21, 23, 20) THEN 'integer'
                     WHEN a.atttypid IN (25, 1043) THEN 'text' ELSE a.atttypid::text END,
                a.attcollation::text
         FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum",
    )
    .persistent(false)
    .bind(oid)
    .fetch_all(&mut *connection)
    .await?;
    // An exclusion constraint (WITHOUT OVERLAPS) calls its index unique too. A collation or operator
    // class of the index's own may tell values apart that are equal in the column's order.
    let unique: Vec<Vec<String>> = sqlx::query_scalar(
        "SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.n)
         FROM pg_catalog.pg_index i
         CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts - 1) k(n)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n]
         JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k.n]
         WHERE i.indrelid = $1::bigint::oid
           AND i.indisunique AND i.indisvalid AND i.indislive AND i.indimmediate
           AND NOT i.indisexclusion AND i.indpred IS NULL AND i.indexprs IS NULL
         GROUP BY i.indexrelid
         HAVING pg_catalog.bool_and(o.opcdefault AND i.indcollation[k.n] = a.attcollation)
         ORDER BY i.indexrelid",
    )
    .persistent(false)
    .bind(oid)
    .fetch_all(connection)
    .await?;

    let columns = columns.into_iter().map(|(name, not_null, class, collation)| Column {
        name,
        nullable: !not_null,
        equality: match class.as_str() {
            "integer" => Equality::Integer,
            "text" => Equality::Text(collation),
            _ => Equality::Other(format!("{class} {collation}")),
        },
    });
    Ok(Some(Table { columns: columns.collect(), unique, beyond_snapshot }))
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Executor};

    use super::super::test_server;
    use super::*;

    const TABLES: &str = r#"
        CREATE TABLE plain (id bigint PRIMARY KEY, "Name" varchar NOT NULL, email text UNIQUE, note char(3));
        CREATE TABLE "Mixed" (a int NOT NULL, b int NOT NULL, c int, UNIQUE (a, b) INCLUDE (c));
        CREATE TABLE odd (a int NOT NULL, b text NOT NULL, c int UNIQUE DEFERRABLE);
        CREATE UNIQUE INDEX ON odd (a) WHERE b > 'x';
        CREATE UNIQUE INDEX ON odd (a, lower(b));
        CREATE UNIQUE INDEX ON odd (b text_pattern_ops);
        CREATE UNIQUE INDEX ON odd (b COLLATE "C");
        CREATE INDEX ON odd (a);
        CREATE TABLE parted (id int NOT NULL, day int NOT NULL, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
        CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE child () INHERITS (parent);
        CREATE VIEW seen AS SELECT * FROM plain;
        CREATE TABLE secret (id int PRIMARY KEY);
        ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
        CREATE FOREIGN DATA WRAPPER elsewhere;
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere;
        CREATE TABLE spread (id int NOT NULL) PARTITION BY RANGE (id);
        CREATE FOREIGN TABLE spread1 PARTITION OF spread FOR VALUES FROM (0) TO (10) SERVER elsewhere;
        CREATE TEMP TABLE short (id int PRIMARY KEY);
        ALTER TABLE odd ADD COLUMN gone int UNIQUE;
        ALTER TABLE odd DROP COLUMN gone;
    "#;

    #[tokio::test]
    async fn tables_are_known_by_their_columns_and_unique_keys() {
        let url =
            test_server::url("MULTICORE_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres");
        let mut connection = match PgConnection::connect(&url).await {
            Ok(connection) => connection,
            Err(error) => return test_server::skip("PostgreSQL", &error),
        };
        let schema = format!("Catalogue{}", std::process::id());
        // The schema is never committed, so it is gone with the connection, whatever happens.
        let mut tx = connection.begin().await.unwrap();
        let sql = format!("CREATE SCHEMA \"{schema}\"; SET LOCAL search_path TO \"{schema}\"; {TABLES}");
        tx.execute(AssertSqlSafe(sql)).await.unwrap();

        for (schema, name, columns, unique) in [
            (
                None,
                "plain",
                vec![("id", false), ("Name", false), ("email", true), ("note", true)],
                vec![vec!["id"], vec!["email"]],
            ),
            (Some(&schema), "Mixed", vec![("a", false), ("b", false), ("c", true)], vec![vec!["a", "b"]]),
            (None, "odd", vec![("a", false), ("b", false), ("c", true)], vec![]),
            (None, "parted", vec![("id", false), ("day", false)], vec![vec!["day", "id"]]),
            (None, "parted1", vec![("id", false), ("day", false)], vec![vec!["day", "id"]]),
            (None, "child", vec![("id", false)], vec![]),
            (None, "secret", vec![("id", false)], vec![vec!["id"]]),
            (None, "spread", vec![("id", false)], vec![]),
        ] {
            let name = TableName { schema: schema.cloned(), name: name.into() };
            let table = table(&mut tx, &name).await.unwrap().unwrap();
            let nullable: Vec<_> = table.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect();
            assert_eq!(nullable, columns, "{name:?}");
            assert_eq!(table.unique, unique, "{name:?}");
            let beyond = ["secret", "spread"].contains(&&*name.name);
            assert_eq!(table.beyond_snapshot, beyond, "{name:?}");
        }
        for name in ["mixed", "parent", "seen", "short", "missing"] {
            let name = TableName { schema: None, name: name.into() };
            assert_eq!(table(&mut tx, &name).await.unwrap(), None, "{name:?}");
        }
        let name = TableName { schema: None, name: "plain".into() };
        let columns = table(&mut tx, &name).await.unwrap().unwrap().columns;
        assert_eq!(columns[0].equality, Equality::Integer);
        assert!(columns[1].equality.same(&columns[2].equality), "text and varchar compare as one");
        assert!(!columns[2].equality.same(&columns[3].equality), "char pads with spaces");
    }
}
