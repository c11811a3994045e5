//! The statements as text, for each dialect; that they give the right rows is tested against the
//! databases themselves.

use super::*;

fn key(sql: &str, descending: bool, nulls: Option<Nulls>) -> Key {
    Key { sql: sql.to_owned(), descending, nulls, cast: None }
}

fn parts(dialect: Dialect, filters: Option<&str>, bound: usize, keys: Vec<Key>) -> Parts {
    let filters = filters.map(str::to_owned);
    Parts { dialect, columns: "a, b".into(), tables: "t".into(), filters, bound, keys }
}

fn page(limit: u64, offset: u64) -> Read {
    Read { rows: Some(limit), skip: Some(offset), ..Read::default() }
}

#[test]
fn a_plain_page_has_its_parts_in_order() {
    let keys = vec![key("b", true, None), key("a", false, None)];
    for (dialect, sql) in [
        (Dialect::Sqlite, "SELECT a, b FROM t WHERE (x = ?1) ORDER BY b DESC, a ASC LIMIT ?2 OFFSET ?3"),
        (Dialect::Postgres, "SELECT a, b FROM t WHERE (x = ?1) ORDER BY b DESC, a ASC LIMIT $2 OFFSET $3"),
        (Dialect::MySql, "SELECT a, b FROM t WHERE (x = ?1) ORDER BY b DESC, a ASC LIMIT ? OFFSET ?"),
    ] {
        let planned = statement(&parts(dialect, Some("(x = ?1)"), 1, keys.clone()), &page(10, 20));
        assert_eq!(planned.sql, sql);
        assert_eq!(planned.params, [Param::Rows(10), Param::Skip(20)]);
    }
}

#[test]
fn a_located_page_repeats_the_filters_and_starts_at_the_row_it_found() {
    let keys = vec![key("k", false, None), key("id", false, None)];
    let read = Read { locate: true, ..page(10, 20) };
    let planned = statement(&parts(Dialect::Postgres, Some("(x = $1)"), 1, keys), &read);
    assert_eq!(
        planned.sql,
        "WITH multicore_start AS (SELECT k AS k0, id AS k1 FROM t WHERE (x = $1) ORDER BY k ASC, id ASC \
         LIMIT 1 OFFSET $2) SELECT a, b FROM t WHERE (x = $1) AND (k, id) >= ((SELECT k0 FROM \
         multicore_start), (SELECT k1 FROM multicore_start)) ORDER BY k ASC, id ASC LIMIT $3"
    );
    assert_eq!(planned.params, [Param::Skip(20), Param::Rows(10)]);
}

#[test]
fn nothing_is_located_at_the_start_of_a_list() {
    let read = Read { locate: true, ..page(10, 0) };
    let planned = statement(&parts(Dialect::Sqlite, None, 0, vec![key("id", false, None)]), &read);
    assert_eq!(planned.sql, "SELECT a, b FROM t ORDER BY id ASC LIMIT ?1 OFFSET ?2");
}

#[test]
fn a_cursor_is_a_row_comparison_where_directions_agree_and_nothing_is_null() {
    let after = Read { after: Some(vec![false, false]), rows: Some(10), ..Read::default() };
    let keys = vec![key("k", true, None), key("id", true, None)];
    for (dialect, condition) in [
        (Dialect::Sqlite, "(k, id) < (?1, ?2)"),
        (Dialect::Postgres, "(k, id) < ($1, $2)"),
        (Dialect::MySql, "k <= ? AND (k < ? OR (k = ? AND (id < ?)))"),
    ] {
        let planned = statement(&parts(dialect, None, 0, keys.clone()), &after);
        assert!(planned.sql.contains(&format!("WHERE {condition} ORDER BY")), "{}", planned.sql);
    }
    let backward = Read { backward: true, ..after };
    let planned = statement(&parts(Dialect::Sqlite, None, 0, keys), &backward);
    assert!(planned.sql.contains("(k, id) > (?1, ?2) ORDER BY k ASC, id ASC"), "{}", planned.sql);
}

#[test]
fn a_page_from_a_place_begins_with_that_row_in_the_snapshot_it_is_of() {
    let read = Read { after: Some(vec![false, false]), inclusive: true, rows: Some(10), ..Read::default() };
    let keys = vec![key("k", true, None), key("id", true, None)];
    let planned = statement(&parts(Dialect::Sqlite, None, 0, keys.clone()), &read);
    assert!(planned.sql.contains("WHERE (k, id) <= (?1, ?2) ORDER BY"), "{}", planned.sql);
    let mixed = vec![key("k", true, None), key("id", false, None)];
    let planned = statement(&parts(Dialect::Sqlite, None, 0, mixed), &read);
    let condition = "WHERE k <= ?1 AND (k < ?2 OR (k = ?3 AND (id > ?4 OR id = ?5))) ORDER BY";
    assert!(planned.sql.contains(condition), "{}", planned.sql);

    let read = Read { skip: Some(70), locate: true, expects: Some(-9), held: Some(5), tag: Some(4), ..read };
    let planned = statement(&parts(Dialect::Postgres, None, 0, keys), &read);
    assert!(
        planned.sql.starts_with(
            "WITH multicore_start AS (SELECT k AS k0, id AS k1 FROM t WHERE (k, id) <= ($1, $2) ORDER BY k DESC, id \
             DESC LIMIT 1 OFFSET $3) SELECT a, b FROM t WHERE hashtextextended("
        ),
        "{}",
        planned.sql
    );
    assert!(
        planned.sql.ends_with(
            " = $4 AND (SELECT NOT pg_try_advisory_xact_lock_shared($5)) AND (SELECT \
             pg_try_advisory_xact_lock_shared($6)) AND (k, id) <= ((SELECT k0 FROM multicore_start), (SELECT k1 \
             FROM multicore_start)) ORDER BY k DESC, id DESC LIMIT $7"
        ),
        "{}",
        planned.sql
    );
    let own = [Param::Skip(70), Param::Number(-9), Param::Number(5), Param::Number(4), Param::Rows(10)];
    assert_eq!(planned.params, [&[Param::Key(0), Param::Key(1)], &own[..]].concat());
}

#[test]
fn no_snapshot_is_told_where_the_keys_are_not_of_the_types_they_are_cast_to() {
    let mut keys = vec![key("t.day", false, None), key("id", false, None)];
    keys[0].cast = Some("date".into());
    keys[1].cast = Some("bigint".into());
    let read = Read { keys: true, snapshot: true, exact: true, ..page(10, 2_000) };
    let planned = statement(&parts(Dialect::Postgres, None, 0, keys), &read);
    let told = ", CASE WHEN (SELECT current_setting('DateStyle') LIKE 'ISO%') AND pg_typeof(t.day) = \
                'date'::regtype AND pg_typeof(id) = 'bigint'::regtype THEN (SELECT CASE WHEN \
                pg_is_in_recovery() THEN NULL ELSE hashtextextended(";
    assert!(planned.sql.contains(told), "{}", planned.sql);
    assert!(planned.sql.contains(", 0) END) END AS multicore_snapshot FROM t ORDER BY"), "{}", planned.sql);
}

#[test]
fn mixed_directions_and_nulls_are_written_out() {
    let mixed = vec![key("k", true, None), key("id", false, None)];
    let after = Read { after: Some(vec![false, false]), rows: Some(10), ..Read::default() };
    let planned = statement(&parts(Dialect::Postgres, None, 0, mixed), &after);
    let condition = "k <= $1 AND (k < $2 OR (k = $3 AND (id > $4)))";
    assert!(planned.sql.contains(condition), "{}", planned.sql);
    assert_eq!(planned.params[..4], [Param::Key(0), Param::Key(0), Param::Key(0), Param::Key(1)]);

    for (nulls, null, condition) in [
        (Nulls::Last, false, "(k > ?1 OR k IS NULL) OR (k = ?2 AND (id > ?3))"),
        (Nulls::First, false, "k > ?1 OR (k = ?2 AND (id > ?3))"),
        (Nulls::Last, true, "1 = 0 OR (k IS NULL AND (id > ?1))"),
        (Nulls::First, true, "k IS NOT NULL OR (k IS NULL AND (id > ?1))"),
    ] {
        let keys = vec![key("k", false, Some(nulls)), key("id", false, None)];
        let after = Read { after: Some(vec![null, false]), rows: Some(10), ..Read::default() };
        let planned = statement(&parts(Dialect::Sqlite, None, 0, keys), &after);
        assert!(planned.sql.contains(&format!("WHERE ({condition})")), "{}", planned.sql);
    }
}

#[test]
fn a_range_of_a_shared_snapshot_has_no_rows_in_another_session() {
    let read = Read { session: Some(-9), tag: Some(4), ..page(10, 0) };
    let planned = statement(&parts(Dialect::Postgres, None, 0, vec![key("id", false, None)]), &read);
    let condition =
        format!("FROM t WHERE {SESSION} = $1 AND (SELECT pg_try_advisory_xact_lock_shared($2)) ORDER BY");
    assert!(planned.sql.contains(&condition), "{}", planned.sql);
    assert_eq!(planned.params[..2], [Param::Number(-9), Param::Number(4)]);
}

/// Else the planner takes them to leave few rows, and sorts the table instead of following an index.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_is_asked_of_a_statement_and_not_of_its_rows_is_asked_once() {
    use crate::db::catalogue::test_server;
    use sqlx::{Connection, Executor};

    let url = test_server::url("MULTICORE_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres");
    let mut connection = match sqlx::PgConnection::connect(&url).await {
        Ok(connection) => connection,
        Err(error) => return test_server::skip("PostgreSQL", &error),
    };
    connection.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b int)").await.unwrap();
    connection.execute("INSERT INTO t SELECT n, n FROM generate_series(1, 10000) AS n").await.unwrap();
    connection.execute("ANALYZE t").await.unwrap();
    for read in [
        Read { expects: Some(1), held: Some(2), tag: Some(4), ..page(5_000, 100) },
        Read { session: Some(1), tag: Some(4), locate: true, ..page(5_000, 100) },
    ] {
        let planned = statement(&parts(Dialect::Postgres, None, 0, vec![key("a", false, None)]), &read);
        let sql = format!("EXPLAIN (COSTS OFF) {}", planned.sql);
        let mut explained = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        for param in &planned.params {
            let (Param::Rows(number) | Param::Skip(number)) = *param else {
                explained = explained.bind(1_i64);
                continue;
            };
            explained = explained.bind(number.cast_signed());
        }
        let lines: Vec<String> = explained.fetch_all(&mut connection).await.unwrap();
        let once = lines.iter().find(|line| line.contains("One-Time Filter:")).expect("asked once");
        assert_eq!(once.matches("hashtextextended").count(), 1, "{lines:#?}");
        assert!(!lines.iter().any(|line| line.trim_start().starts_with("Filter:")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("Sort")), "{lines:#?}");
    }
}

#[test]
fn a_located_null_is_not_taken_for_no_row() {
    let keys = vec![key("k", false, Some(Nulls::First)), key("id", false, None)];
    let read = Read { locate: true, ..page(10, 20) };
    let planned = statement(&parts(Dialect::Sqlite, None, 0, keys), &read);
    assert!(planned.sql.contains("WHERE EXISTS (SELECT 1 FROM multicore_start) AND ("), "{}", planned.sql);
    assert!(planned.sql.contains("k IS (SELECT k0 FROM multicore_start)"), "{}", planned.sql);
}

#[test]
fn nulls_are_ordered_as_declared_and_left_alone_where_that_is_the_databases_own_order() {
    for (dialect, descending, nulls, order) in [
        (Dialect::Postgres, false, Nulls::Last, "k ASC"),
        (Dialect::Postgres, false, Nulls::First, "k ASC NULLS FIRST"),
        (Dialect::Postgres, true, Nulls::First, "k DESC"),
        (Dialect::Sqlite, false, Nulls::First, "k ASC"),
        (Dialect::Sqlite, true, Nulls::First, "k DESC NULLS FIRST"),
        (Dialect::MySql, false, Nulls::First, "k ASC"),
        (Dialect::MySql, false, Nulls::Last, "k IS NULL ASC, k ASC"),
        (Dialect::MySql, true, Nulls::First, "k IS NULL DESC, k DESC"),
    ] {
        let keys = vec![key("k", descending, Some(nulls))];
        let planned = statement(&parts(dialect, None, 0, keys), &page(1, 0));
        assert!(planned.sql.contains(&format!("ORDER BY {order} LIMIT")), "{}", planned.sql);
    }
}

#[test]
fn keys_snapshot_and_tag_are_added_behind_what_the_query_has() {
    let mut cast = key("k", false, None);
    cast.cast = Some("integer".into());
    let read = Read {
        after: Some(vec![false]),
        rows: Some(10),
        keys: true,
        snapshot: true,
        expects: Some(-9),
        tag: Some(4),
        ..Read::default()
    };
    let planned = statement(&parts(Dialect::Postgres, Some("(x = $1)"), 1, vec![cast]), &read);
    assert!(
        planned.sql.starts_with("SELECT a, b, (k)::text AS multicore_key_0, (SELECT CASE"),
        "{}",
        planned.sql
    );
    assert!(
        planned
            .sql
            .contains(" END) AS multicore_snapshot FROM t WHERE (x = $1) AND hashtextextended(concat_ws("),
        "{}",
        planned.sql
    );
    assert!(
        planned.sql.ends_with(
            " = $2 AND (SELECT pg_try_advisory_xact_lock_shared($3)) AND k > CAST($4 AS integer) ORDER BY k \
             ASC LIMIT $5"
        ),
        "{}",
        planned.sql
    );
    assert_eq!(planned.params, [Param::Number(-9), Param::Number(4), Param::Key(0), Param::Rows(10)]);
}

#[test]
fn numbers_of_rows_can_stand_in_the_text() {
    let keys = vec![key("id", false, None)];
    let read = Read { literal: true, ..page(10, 0) };
    let planned = statement(&parts(Dialect::Postgres, None, 0, keys.clone()), &read);
    assert_eq!(planned.sql, "SELECT a, b FROM t ORDER BY id ASC LIMIT 10 OFFSET 0");
    assert_eq!(planned.params, []);
    let read = Read { literal: true, locate: true, tag: Some(4), ..page(10, 20) };
    let planned = statement(&parts(Dialect::Postgres, None, 0, keys), &read);
    assert!(
        planned.sql.contains("LIMIT 1 OFFSET 20)") && planned.sql.ends_with("LIMIT 10"),
        "{}",
        planned.sql
    );
    assert_eq!(planned.params, [Param::Number(4)]);
}

#[test]
fn counting_leaves_out_order_and_limit() {
    let parts = parts(Dialect::MySql, Some("(x = ?)"), 1, vec![key("id", false, None)]);
    assert_eq!(count(&parts, true).sql, "SELECT COUNT(*) FROM t WHERE (x = ?)");
    assert_eq!(
        count(&parts, false).sql,
        "SELECT COUNT(*) FROM (SELECT a, b FROM t WHERE (x = ?)) AS multicore_counted"
    );
}

#[test]
fn a_key_that_is_an_expression_stands_in_parentheses_beside_an_operator() {
    let keys = vec![key("role = 'x'", true, None), key("id", false, None)];
    let after = Read { after: Some(vec![false, false]), rows: Some(10), ..Read::default() };
    let planned = statement(&parts(Dialect::Sqlite, None, 0, keys), &after);
    let condition = "WHERE (role = 'x') <= ?1 AND ((role = 'x') < ?2 OR ((role = 'x') = ?3 AND (id > ?4)))";
    assert!(planned.sql.contains(condition), "{}", planned.sql);
}
