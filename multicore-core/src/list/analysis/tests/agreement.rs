//! Asks SQLite itself: whatever is said to be unique must have no ties, and whatever is said not to be
//! NULL must not be, over combinations of some joins, filters and keys on rows that are awkward.

use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqliteConnection};

use super::*;
use crate::db::catalogue;

const ROWS: &str = "
    CREATE TABLE a (id INTEGER PRIMARY KEY, b_id INTEGER, code TEXT UNIQUE COLLATE NOCASE, x INTEGER NOT NULL);
    CREATE TABLE b (id INTEGER PRIMARY KEY, a_id INTEGER UNIQUE, code TEXT NOT NULL UNIQUE, x INTEGER NOT NULL);
    CREATE TABLE c (a_id INTEGER NOT NULL, x INTEGER NOT NULL, code TEXT, UNIQUE (a_id, x));
    INSERT INTO a VALUES (1, 1, 'k', 1), (2, 1, NULL, 1), (3, 2, 'l', 2), (4, NULL, NULL, 2), (5, 9, 'M', 3);
    INSERT INTO b VALUES (1, 1, 'K', 1), (2, 2, 'k', 1), (3, NULL, 'm', 2), (4, NULL, 'M', 2), (5, 7, 'z', 1);
    INSERT INTO c VALUES (1, 1, 'k'), (1, 2, 'k'), (2, 1, NULL), (3, 1, NULL), (3, 3, 'K'), (8, 2, 'm');";

const JOINS: &[&str] = &[
    "ON b.id = a.b_id",
    "ON b.a_id = a.id",
    "ON b.code = a.code",
    "ON a.id = b.id AND a.x = 1",
    "ON b.x = a.x",
    "ON b.id = 1",
    "ON b.a_id = a.id OR b.id = 1",
    "USING (id)",
    "USING (x)",
    "USING (code)",
    "",
];

const THIRD: &[&str] = &[
    "",
    "JOIN c ON c.a_id = a.id",
    "LEFT JOIN c ON c.a_id = a.id AND c.x = 1",
    "LEFT JOIN c ON c.a_id = b.id AND c.x = b.x",
    "JOIN c ON c.a_id = b.a_id AND c.x = a.x",
    ", c",
];

const FILTERS: &[&str] =
    &["", "a.x = 1", "b.a_id IS NOT NULL", "a.id = b.a_id AND b.x = 1", "c.a_id = a.id AND c.x = 1"];

const KEYS: &[&str] = &["a.id", "a.b_id", "a.code", "b.id", "b.a_id", "b.code", "c.a_id", "c.x", "id", "x"];

#[tokio::test]
async fn sqlite_agrees() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    connection.execute(ROWS).await.unwrap();
    let mut tables = HashMap::new();
    for name in ["a", "b", "c"] {
        let name = TableName { schema: None, name: name.into() };
        let table = catalogue::sqlite::table(&mut connection, &name).await.unwrap().unwrap();
        tables.insert(name, table);
    }
    let joins = JOINS.iter().flat_map(|on| [format!("a JOIN b {on}"), format!("a LEFT JOIN b {on}")]);
    let (mut proven, mut turn) = (0, 0);
    for two in joins.chain(["a, b".to_owned()]) {
        for third in THIRD {
            for filters in FILTERS {
                turn += 1;
                proven += agree(&mut connection, &tables, &format!("{two} {third}"), filters, turn).await;
            }
        }
    }
    assert!(proven > 300, "only {proven} were proven, so this tests little");
}

/// All of them take a while, so it is every so many, others for each list. (No divisor of how many keys
/// there are, so that every key has its turn.)
const EVERY: usize = 7;

/// Checks keys and pairs of keys, and returns how many were unique.
async fn agree(
    connection: &mut SqliteConnection,
    tables: &HashMap<TableName, Table>,
    from: &str,
    filters: &str,
    turn: usize,
) -> usize {
    let mut proven = 0;
    let condition = if filters.is_empty() { String::new() } else { format!("WHERE {filters}") };
    for (index, first) in KEYS.iter().enumerate() {
        for (other, second) in KEYS.iter().enumerate().skip(index) {
            if !(index * KEYS.len() + other + turn).is_multiple_of(EVERY) {
                continue;
            }
            let keys = format!("{first}; {second}");
            let Some(parsed) = parsed(Sqlite, "*", from, filters, &keys) else { continue };
            let facts = parsed.facts(tables);
            if facts.unique != Some(true) && !facts.nullable.contains(&Some(false)) {
                continue;
            }
            let sql = format!(
                "SELECT count(*), count({first}), count({second}) FROM {from} {condition} \
                 GROUP BY {first}, {second}"
            );
            // What SQLite does not take, such as a name that could be two columns, may be called anything.
            let Ok(groups) = connection.fetch_all(AssertSqlSafe(sql.clone())).await else { continue };
            for group in groups {
                let counts: Vec<i64> = (0..3).map(|column| group.get(column)).collect();
                assert!(facts.unique != Some(true) || counts[0] == 1, "not unique: {sql}");
                for (nullable, count) in facts.nullable.iter().zip(&counts[1..]) {
                    assert!(*nullable != Some(false) || *count == counts[0], "NULL: {sql}");
                }
            }
            proven += usize::from(facts.unique == Some(true));
        }
    }
    proven
}
