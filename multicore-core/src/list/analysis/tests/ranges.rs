//! What may be read in ranges over several connections, and what comes promptly.

use super::*;

#[test]
fn what_connections_answer_alike_may_be_split() {
    for (columns, filters) in [
        ("*", ""),
        ("u.*", ""),
        ("id, lower(name) AS n, coalesce(email, 'none'), length(name) + 1", ""),
        ("CASE WHEN id > 1 THEN 'a' ELSE NULL END, id IN (1, 2), name LIKE 'x%'", ""),
        ("CAST(name AS CHAR(3)), substr(name, 1, 2), trim(name), replace(name, 'a', 'b')", ""),
        ("round(id), abs(id), floor(id), ceil(id), nullif(id, 1)", ""),
        ("id, (SELECT count(*) FROM posts WHERE posts.user_id = u.id) AS n", ""),
        ("id, (SELECT max(posts.id) FROM posts WHERE posts.user_id = u.id) AS n", ""),
        ("id", "EXISTS (SELECT 1 FROM posts x WHERE x.user_id = u.id)"),
        ("id", "id IN (SELECT user_id FROM posts WHERE title = 'x') AND name BETWEEN 'a' AND 'b'"),
        ("id", "name = 'nowhere'"),
    ] {
        for dialect in ALL {
            let facts = facts(dialect, columns, "u", filters, "id");
            assert_eq!(facts.splits, Ok(()), "{dialect:?}: {columns} | {filters}");
            assert_eq!(facts.unique, Some(true), "{dialect:?}: {columns} | {filters}");
        }
    }
    for (dialect, filters) in [
        (Sqlite, "id > ? AND name = ?2"),
        (Postgres, "id > $1 AND name ILIKE $2 AND name ~ 'x' AND id = ANY($3)"),
        (MySql, "id > ? AND name REGEXP 'x' AND id DIV 2 = 1"),
    ] {
        assert_eq!(facts(dialect, "id", "u", filters, "id").splits, Ok(()), "{dialect:?}: {filters}");
    }
}

#[test]
fn what_connections_may_answer_differently_is_never_split() {
    for (dialect, columns, tables, filters) in [
        (Postgres, "now(), id", "u", ""),
        (Postgres, "id", "u", "name < now()"),
        (Postgres, "CURRENT_TIMESTAMP, id", "u", ""),
        (MySql, "LOCALTIME, id", "u", ""),
        (MySql, "UTC_DATE, id", "u", ""),
        (Sqlite, "current_date, id", "u", ""),
        (Sqlite, "random(), id", "u", ""),
        (Sqlite, "datetime('now'), id", "u", ""),
        (Postgres, "CURRENT_USER, id", "u", ""),
        (Postgres, "id", "u", "name < 'Today'"),
        (Postgres, "id", "u", "name < E'now'"),
        (Postgres, "date 'tomorrow', id", "u", ""),
        (Postgres, "name::date, id", "u", ""),
        (Postgres, "name::regclass, id", "u", ""),
        (Postgres, "timestamptz '2020-01-01', id", "u", ""),
        (Postgres, "date_trunc('day', name), id", "u", ""),
        (Postgres, "extract(day FROM name), id", "u", ""),
        (Postgres, "name AT TIME ZONE 'UTC', id", "u", ""),
        (Postgres, "app.lower(name), id", "u", ""),
        (Postgres, "my_own(name), id", "u", ""),
        (Postgres, "id", "u", "id OPERATOR(app.===) 3"),
        (Postgres, "id", "u TABLESAMPLE SYSTEM (10)", ""),
        (Postgres, "row_number() OVER (ORDER BY id), id", "u", ""),
        (Postgres, "lower(name) OVER w, id", "u", ""),
        (Postgres, "id, (SELECT row_number() OVER () FROM p)", "u", ""),
        (Postgres, "id, (SELECT sum(p.rank) FROM p)", "u", ""),
        (Postgres, "id, (SELECT bio FROM p LIMIT 1)", "u", ""),
        (Postgres, "id, (SELECT bio FROM p FETCH FIRST 1 ROW ONLY)", "u", ""),
        (Postgres, "id, (SELECT now())", "u", ""),
        (Postgres, "id", "u", "id IN (SELECT id FROM view)"),
        (Postgres, "id", "u", "id IN (SELECT 1 UNION SELECT 2)"),
        (Postgres, "id", "u", "id IN (SELECT * FROM generate_series(1, 3))"),
        (Postgres, "id", "u", "id IN (WITH x AS (SELECT 1) SELECT * FROM x)"),
        (MySql, "@x, id", "u", ""),
        (MySql, "@x := id, id", "u", ""),
        (MySql, "@@session.time_zone, id", "u", ""),
        (MySql, "@@time_zone, id", "u", ""),
        (MySql, "SQL_CALC_FOUND_ROWS id", "u", ""),
        (MySql, "rand(), id", "u", ""),
        (MySql, "id", "u JOIN p ON p.user_id = u.id + sleep(1)", ""),
        (Sqlite, "id", "u, json_each('[1]')", ""),
    ] {
        // Not to understand it is just as well.
        let splits = parsed(dialect, columns, tables, filters, "u.id").map(|p| p.facts(&catalogue()).splits);
        assert!(splits.is_none_or(|splits| splits.is_err()), "{dialect:?}: {columns} | {tables} | {filters}");
    }
    for dialect in ALL {
        for key in ["lower(name)", "id + 1", "-id", "1", "'x'", "CASE WHEN id > 1 THEN id END"] {
            assert!(facts(dialect, "*", "u", "", key).splits.is_err(), "{dialect:?}: {key}");
        }
    }
}

#[test]
fn text_that_is_more_or_less_than_its_part_is_not_understood() {
    let deep = "id = 1 AND ".repeat(5_000) + "id = 1";
    for (columns, tables, filters, keys) in [
        ("id", "u WHERE id > 1", "", "id"),
        ("id", "u WHERE id > 1", "id > 2", "id"),
        ("id", "u", "id > 1) OR (id < 0", "id"),
        ("id", "u", "id > 1 -- all", "id"),
        ("id", "u", "", "id -- all"),
        ("id", "u", "", "id LIMIT 3 --"),
        ("id", "u", "", "id DESC"),
        ("id", "u", "", "id, name"),
        ("id", "u", "id = 1 ORDER BY name", "id"),
        ("id", "u;", "", "id"),
        ("id,", "u", "", "id"),
        ("id FROM p UNION SELECT id", "u", "", "id"),
        ("sel ect", "fr om", "wh ere", "or der"),
        ("", "", "", ""),
        ("id", "u", "'", "id"),
        ("id", "u", &deep, "id"),
    ] {
        for dialect in ALL {
            let split = parsed(dialect, columns, tables, filters, keys).map(|p| p.facts(&catalogue()).splits);
            assert!(
                split.is_none_or(|split| split.is_err()),
                "{dialect:?}: {columns} | {tables} | {filters:.30} | {keys}"
            );
        }
    }
    // What binds less tightly than AND must not hide behind it.
    for filters in
        ["user_id = 1 AND slug = 'x' XOR id = 1", "id = 1 || id = 2 AND user_id = 1", "id = 1 /*! OR 1 */"]
    {
        assert!(parsed(MySql, "*", "posts", filters, "slug").is_none(), "{filters}");
    }
}

#[test]
fn the_deepest_text_that_is_taken_apart_fits_a_threads_stack() {
    let check = || {
        let chain = "id".to_owned() + &"-1".repeat(220) + " = 1";
        let values = format!("id IN (1{})", ", 2".repeat(5_000));
        let columns = format!("id{}", ", u.name AS n".repeat(500));
        for filters in [&chain, &values] {
            for dialect in ALL {
                let facts = facts(dialect, &columns, "u", filters, "id");
                assert_eq!(facts.unique, Some(true), "{filters:.30}");
            }
        }
        for nested in 1..60 {
            let parentheses = format!("{}id = 1{}", "(".repeat(nested), ")".repeat(nested));
            let understood = parsed(Sqlite, "*", "u", &parentheses, "id").is_some();
            assert!(understood || nested > 10, "{nested} parentheses");
            let queries =
                format!("id IN {}(1){}", "(SELECT id FROM u WHERE id IN ".repeat(nested), ")".repeat(nested));
            let understood = parsed(Sqlite, "*", "u", &queries, "id").is_some();
            assert!(understood || nested > 3, "{nested} queries");
        }
    };
    // Half of what a thread of tokio's has.
    std::thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap();
}

#[test]
fn all_tables_are_mentioned_once() {
    let parsed = parsed(
        Postgres,
        "u.*, (SELECT count(*) FROM Posts)",
        "u JOIN app.\"U\" x ON x.id = u.id JOIN u again ON again.id = u.id",
        "EXISTS (SELECT 1 FROM p)",
        "u.id",
    );
    let tables: Vec<(Option<String>, String)> =
        parsed.unwrap().tables().iter().map(|t| (t.schema.clone(), t.name.clone())).collect();
    let mut names: Vec<_> = tables.iter().map(|(s, n)| (s.as_deref(), n.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, [(None, "p"), (None, "posts"), (None, "u"), (Some("app"), "U")]);
}

#[test]
fn rows_come_promptly_when_nothing_is_filtered_or_multiplied() {
    for (columns, tables, filters, key, expected) in [
        ("*", "u", "", "id", true),
        ("*", "u", "", "name", true),
        ("*", "u", "id > 3", "id", false),
        ("*", "u JOIN p ON p.user_id = u.id", "", "u.id", true),
        ("*", "u LEFT JOIN p ON p.user_id = u.id", "", "u.id", true),
        ("*", "u JOIN posts ON posts.user_id = u.id", "", "u.id", false),
        ("*", "u JOIN posts ON posts.user_id = u.id", "", "posts.id", true),
        ("*", "u, p", "", "u.id", false),
        ("*", "view", "", "id", false),
        ("*, lower(name)", "u", "", "id", true),
        ("*, random()", "u", "", "id", false),
        ("*, (SELECT count(*) FROM posts)", "u", "", "id", false),
        ("*", "u", "", "lower(name)", false),
    ] {
        for dialect in ALL {
            let facts = facts(dialect, columns, tables, filters, key);
            assert_eq!(facts.prompt, expected, "{dialect:?}: {columns} | {tables} | {filters} | {key}");
        }
    }
}
