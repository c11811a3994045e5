//! Whether an order is total, which of its keys may be NULL, and what its names mean.

use super::*;

/// Lists whose text means the same to all databases: tables, filters, keys.
#[track_caller]
fn check_unique(cases: &[(&str, &str, &str, Option<bool>)]) {
    for &(tables, filters, keys, expected) in cases {
        for dialect in ALL {
            let facts = facts(dialect, "*", tables, filters, keys);
            assert_eq!(facts.unique, expected, "{dialect:?}: {tables} | {filters} | {keys}");
        }
    }
}

#[test]
fn an_order_is_total_when_its_keys_have_a_unique_key_of_the_table() {
    check_unique(&[
        ("u", "", "id", Some(true)),
        ("u", "", "u.id", Some(true)),
        ("u AS x", "", "x.id", Some(true)),
        ("u x", "", "name; x.id", Some(true)),
        ("app.u", "", "app.u.id", Some(true)),
        ("u", "", "name", Some(false)),
        // Any number of rows may have NULL in a unique column.
        ("u", "", "email", Some(false)),
        ("u", "email IS NOT NULL", "email", Some(true)),
        ("u", "email IS NOT NULL OR id = 1", "email", Some(false)),
        // A composite key takes all its columns.
        ("posts", "", "user_id; slug", Some(true)),
        ("posts", "", "slug; title; user_id", Some(true)),
        ("posts", "", "slug", Some(false)),
        ("posts", "user_id = 5", "slug", Some(true)),
        ("posts", "(title > 'x') AND (5 = user_id)", "slug", Some(true)),
        ("posts", "user_id = 5 OR user_id = 6", "slug", Some(false)),
        ("posts", "NOT (user_id = 5)", "slug", Some(false)),
        ("posts", "user_id = -5", "slug", Some(true)),
        ("posts", "user_id = id", "slug", Some(false)),
        // Without a key of its own nothing makes it total.
        ("log", "", "at; text", Some(false)),
        // Not a column, or not one of it.
        ("u", "", "lower(name)", Some(false)),
        ("u", "", "1", Some(false)),
        ("u", "", "u.missing", Some(false)),
        ("u", "", "lower(name); id", Some(true)),
        ("u", "", "x.id", Some(false)),
    ]);
}

#[test]
fn joins_that_add_to_a_row_keep_an_order_total_and_those_that_multiply_it_do_not() {
    check_unique(&[
        ("u JOIN p ON p.user_id = u.id", "", "u.id", Some(true)),
        ("u INNER JOIN p ON (u.id = p.user_id AND p.rank > 3)", "", "u.id", Some(true)),
        // Both ways, since each is the other's.
        ("u JOIN p ON p.user_id = u.id", "", "user_id", Some(true)),
        ("u JOIN posts ON posts.user_id = u.id", "", "u.id", Some(false)),
        ("u JOIN posts ON posts.user_id = u.id", "", "posts.id", Some(true)),
        ("u JOIN posts ON posts.user_id = u.id", "", "u.id; posts.id", Some(true)),
        ("u JOIN posts ON posts.user_id = u.id", "", "u.id; slug", Some(true)),
        ("u JOIN org ON u.org_id = org.id JOIN plan ON plan.id = org.plan_id", "", "u.id", Some(true)),
        ("u JOIN org ON u.org_id > org.id", "", "u.id", Some(false)),
        ("u JOIN org ON u.org_id = org.id OR org.id = 1", "", "u.id", Some(false)),
        // A unique column that may be NULL is not NULL where it is equal to something.
        ("u JOIN tag ON tag.label = u.email", "", "label", Some(true)),
        // Commas, and conditions in the filters.
        ("u, p", "", "u.id", Some(false)),
        ("u CROSS JOIN p", "", "u.id; p.user_id", Some(true)),
        ("u, p", "p.user_id = u.id", "u.id", Some(true)),
        ("u, p", "p.user_id = u.id OR u.id = 1", "u.id", Some(false)),
        ("u, org", "org.id = 1", "u.id", Some(true)),
        ("u a JOIN u b ON b.id = a.org_id", "", "a.id", Some(true)),
        ("u a JOIN u b ON b.id = a.org_id", "", "id", Some(false)),
    ]);
}

#[test]
fn left_joins_carry_what_is_known_from_left_to_right_only() {
    check_unique(&[
        ("u LEFT JOIN p ON p.user_id = u.id", "", "u.id", Some(true)),
        ("u LEFT OUTER JOIN p ON u.id = p.user_id AND p.rank = 2", "", "u.id", Some(true)),
        // Of rows without a match any number have NULL there.
        ("u LEFT JOIN p ON p.user_id = u.id", "", "p.user_id", Some(false)),
        ("u LEFT JOIN p ON p.user_id = u.id", "", "p.user_id; u.id", Some(true)),
        ("u LEFT JOIN posts ON posts.user_id = u.id", "", "u.id", Some(false)),
        ("u LEFT JOIN posts ON posts.user_id = u.id", "", "u.id; posts.id", Some(true)),
        ("u LEFT JOIN posts ON posts.user_id = u.id", "", "u.id; posts.slug", Some(true)),
        ("u LEFT JOIN posts ON posts.user_id = u.id AND posts.slug = 'x'", "", "u.id", Some(true)),
        ("u LEFT JOIN org ON org.id = 1", "", "u.id", Some(true)),
        // A condition on the left table only settles nothing of it.
        ("u LEFT JOIN org ON org.id = u.org_id AND u.id = 1", "", "u.name", Some(false)),
        (
            "u LEFT JOIN org ON org.id = u.org_id LEFT JOIN plan ON plan.id = org.plan_id",
            "",
            "u.id",
            Some(true),
        ),
        ("u LEFT JOIN org ON org.id = u.org_id JOIN plan ON plan.id = org.plan_id", "", "u.id", Some(true)),
        ("u LEFT JOIN tag ON tag.label = u.email", "", "u.id", Some(true)),
        ("u LEFT JOIN p ON p.user_id = u.id", "p.user_id = u.id", "p.user_id", Some(true)),
    ]);
}

#[test]
fn columns_joined_by_using_are_one() {
    check_unique(&[
        ("posts JOIN p USING (user_id)", "", "posts.id", Some(true)),
        ("p JOIN posts USING (user_id)", "", "user_id", Some(false)),
        ("p JOIN posts USING (user_id)", "", "user_id; slug", Some(true)),
        ("posts LEFT JOIN p USING (user_id)", "", "posts.id", Some(true)),
        ("u JOIN org USING (id) JOIN plan USING (id)", "", "id", Some(true)),
        ("u LEFT JOIN org USING (id) LEFT JOIN plan USING (id)", "", "id", Some(true)),
        ("u LEFT JOIN org USING (id)", "", "org.id", Some(false)),
    ]);
}

#[test]
fn equality_settles_nothing_across_types_and_collations() {
    check_unique(&[
        ("u JOIN tag ON tag.label = u.code", "", "u.id", Some(false)),
        ("u JOIN tag ON tag.label = u.id", "", "u.id", Some(false)),
        ("u LEFT JOIN tag ON tag.label = u.code", "", "u.id", Some(false)),
        ("u JOIN tag ON tag.label = u.name", "", "u.id", Some(true)),
    ]);
    for (dialect, filters, expected) in [
        // In MySQL text is equal to a number if it begins with it.
        (MySql, "user_id = 1 AND slug = 0", Some(false)),
        (MySql, "user_id = 1 AND slug = ?", Some(false)),
        (MySql, "user_id = ? AND slug = 'x'", Some(true)),
        (MySql, "user_id = '1' AND slug = 'x'", Some(false)),
        (MySql, "user_id = 1 AND slug = \"x\"", Some(false)),
        (Sqlite, "user_id = ?1 AND slug = ?", Some(true)),
        (Postgres, "user_id = $1 AND slug = $2", Some(true)),
        (Postgres, "user_id = $1::int8 AND slug = CAST($2 AS text)", Some(true)),
        (Postgres, "user_id = $1::float8 AND slug = $2", Some(false)),
        (Postgres, "user_id::text = $1 AND slug = $2", Some(false)),
    ] {
        assert_eq!(facts(dialect, "*", "posts", filters, "title").unique, expected, "{dialect:?} {filters}");
    }
    for (dialect, key, expected) in [
        (Sqlite, "code COLLATE BINARY", Some(true)),
        (Sqlite, "code COLLATE NOCASE", Some(false)),
        (Postgres, "code COLLATE \"C\"", Some(true)),
        (Postgres, "code COLLATE \"custom\"", Some(false)),
        (MySql, "code COLLATE utf8mb4_bin", Some(false)),
    ] {
        let facts = facts(dialect, "*", "tag", "", key);
        assert_eq!((facts.unique, facts.splits), (expected, Ok(())), "{dialect:?} {key}");
    }
}

#[test]
fn nothing_is_known_of_views_and_of_joins_that_are_not_understood() {
    check_unique(&[
        ("view", "", "id", None),
        ("u JOIN view ON view.id = u.id", "", "u.id", None),
        ("(SELECT * FROM u) x", "", "id", None),
        ("u JOIN (SELECT id FROM p) x ON x.id = u.id", "", "u.id", None),
        ("u RIGHT JOIN p ON p.user_id = u.id", "", "u.id", None),
        ("u NATURAL JOIN p", "", "u.id", None),
        ("u JOIN (p JOIN org ON org.id = p.rank) ON p.user_id = u.id", "", "u.id", None),
    ]);
    for tables in ["u FULL JOIN p ON p.user_id = u.id", "u, LATERAL (SELECT 1) x", "u, generate_series(1, 3)"]
    {
        let facts = facts(Postgres, "*", tables, "", "u.id");
        assert_eq!((facts.unique, &facts.nullable[..]), (None, &[None][..]), "{tables}");
        assert!(facts.splits.is_err() && !facts.prompt, "{tables}");
    }
    // Renamed columns are not the table's.
    assert_eq!(facts(Postgres, "*", "u AS x (name, id)", "", "x.id").unique, None);
}

#[test]
fn rows_that_are_not_the_tables_rows_have_no_known_order() {
    for (columns, tables, filters) in [
        ("DISTINCT id", "u", ""),
        ("id, count(*)", "u GROUP BY id", ""),
        ("id", "u", "id > 1 GROUP BY id"),
        ("max(id) AS id", "u", ""),
        ("unnest(tags), id", "u", ""),
        ("(SELECT count(u.id)), id", "u", ""),
        ("id", "u UNION ALL SELECT 1 AS id FROM p", ""),
    ] {
        for dialect in ALL {
            let Some(parsed) = parsed(dialect, columns, tables, filters, "id") else { continue };
            let facts = parsed.facts(&catalogue());
            assert_eq!(facts.unique, None, "{dialect:?}: {columns} | {tables} | {filters}");
            assert!(facts.splits.is_err() && !facts.prompt, "{dialect:?}: {columns} | {tables} | {filters}");
        }
    }
}

#[test]
fn keys_may_be_null_by_their_column_or_by_an_outer_join() {
    for (tables, filters, keys, expected) in [
        ("u", "", "name; email; id", vec![Some(false), Some(true), Some(false)]),
        ("u LEFT JOIN p ON p.user_id = u.id", "", "p.user_id; u.id", vec![Some(true), Some(false)]),
        ("u LEFT JOIN p ON p.user_id = u.id", "p.user_id IS NOT NULL", "p.user_id", vec![Some(false)]),
        ("u LEFT JOIN p ON p.user_id = u.id", "p.user_id = 3", "p.user_id", vec![Some(false)]),
        ("u JOIN org ON org.id = u.org_id", "", "org_id", vec![Some(false)]),
        ("u LEFT JOIN org ON org.id = u.org_id", "", "org_id; org.id", vec![Some(true), Some(true)]),
        ("u", "", "lower(name); id + 1", vec![None, None]),
        ("view", "", "id", vec![None]),
        ("u JOIN view ON view.id = u.id", "", "u.id; name; view.id", vec![Some(false), Some(false), None]),
    ] {
        for dialect in ALL {
            let facts = facts(dialect, "*", tables, filters, keys);
            assert_eq!(facts.nullable, expected, "{dialect:?}: {tables} | {filters} | {keys}");
        }
    }
}

#[test]
fn names_are_found_as_each_database_reads_them() {
    for (dialect, columns, tables, keys, expected) in [
        (Sqlite, "*", "U AS X", "x.ID", Some(true)),
        (Sqlite, "*", "[u] AS `x`", "\"X\".[Id]", Some(true)),
        (Postgres, "*", "U AS X", "x.ID", Some(true)),
        (Postgres, "*", "\"u\" x", "x.\"id\"", Some(true)),
        (Postgres, "*", "\"U\" x", "x.id", None),
        (Postgres, "*", "u x", "x.\"ID\"", Some(false)),
        (Postgres, "*", "App.U", "u.id", Some(true)),
        (Postgres, "*", "only.u.x", "id", None),
        (MySql, "*", "`u` AS x", "x.`ID`", Some(true)),
        (MySql, "*", "U", "id", None),
        // Text, not a column.
        (MySql, "*", "u", "\"id\"", Some(false)),
    ] {
        let facts = facts(dialect, columns, tables, "", keys);
        assert_eq!(facts.unique, expected, "{dialect:?}: {columns} | {tables} | {keys}");
    }
}

#[test]
fn a_key_may_be_an_alias_of_a_column_but_of_nothing_else() {
    let elsewhere = Err("a key of its order has the name of another column of the result");
    for (columns, tables, key, plain, splits) in [
        // A condition does not know the names of the result.
        ("id AS n", "u", "n", true, elsewhere),
        ("u.id AS id, name", "u", "id", true, Ok(())),
        // In a condition it could be `org.id`.
        ("u.id, bio", "u JOIN org ON org.id = u.org_id", "id", true, elsewhere),
        ("lower(name) AS n, id", "u", "n", false, Ok(())),
        // The databases differ in what is meant.
        ("lower(name) AS id", "u", "id", false, Ok(())),
        ("name AS id", "u", "id", false, Ok(())),
        ("id AS n, name AS n", "u", "n", false, Ok(())),
        ("org.id", "u LEFT JOIN org USING (id)", "id", false, Ok(())),
        ("missing AS n", "u", "n", false, Ok(())),
    ] {
        for dialect in ALL {
            let facts = facts(dialect, columns, tables, "", key);
            let expected = if plain {
                (Some(true), splits)
            } else {
                (Some(false), Err("a key of its order is not a column"))
            };
            assert_eq!((facts.unique, facts.splits), expected, "{dialect:?}: {columns} | {tables} | {key}");
        }
    }
    // PostgreSQL names what has no alias.
    for (columns, plain) in [
        ("id::text", false),
        ("(SELECT id FROM p)", false),
        ("CASE WHEN name = 'x' THEN 1 ELSE id END", false),
        ("CASE WHEN id = 1 THEN 1 ELSE 2 END, upper(name), substring(name, id), id > 1", true),
    ] {
        assert_eq!(facts(Postgres, columns, "u", "", "id").unique, Some(plain), "{columns}");
    }
}
