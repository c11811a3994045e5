//! Whatever is stored, both rows give the same: values, errors, and what is known of columns.

use std::borrow::Cow;
use std::fmt::Debug;
use std::num::{NonZeroI64, NonZeroU8};
use std::sync::Arc;

use proptest::prelude::*;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow};
use sqlx::types::Text;
use sqlx::{
    AssertSqlSafe, Column, ColumnIndex, ConnectOptions, Connection, Decode, Executor, FromRow, Row, Sqlite,
    SqliteConnection, Type, TypeInfo, ValueRef,
};
use tokio::runtime::Runtime;

use super::{Direct, DirectRow, Hand, Stepped};
use crate::list::cursor::KeyValue;

/// What the rows of a statement are, as sqlx's driver gives them and as they are read here.
async fn both(
    connection: &mut SqliteConnection,
    sql: &str,
    values: &[KeyValue],
) -> (Vec<SqliteRow>, Vec<DirectRow>) {
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for value in values {
        query = match value {
            KeyValue::Null => query.bind(None::<i64>),
            KeyValue::Int(number) => query.bind(*number),
            KeyValue::Uint(_) => unreachable!("SQLite has none"),
            KeyValue::Real(number) => query.bind(*number),
            KeyValue::Text(text) => query.bind(text.clone()),
            KeyValue::Blob(bytes) => query.bind(bytes.clone()),
        };
    }
    let driver = query.fetch_all(&mut *connection).await.expect("the driver reads");
    let mut hand = Hand::on(connection).await.expect("a connection").expect("several threads");
    assert!(hand.prepare(sql, values).expect("a statement"));
    let mut direct: Vec<DirectRow> = Vec::new();
    while hand.step().expect("a step") == Stepped::Row {
        direct.push(hand.row().expect("a row"));
        // What reads into a row that is there reads the same.
        let mut again = direct[0].clone();
        hand.read(&mut again).expect("a row");
        assert_eq!(format!("{again:?}"), format!("{:?}", direct.last().expect("a row")));
    }
    (driver, direct)
}

fn told<T: Debug>(result: Result<T, sqlx::Error>) -> Result<String, String> {
    // Bit for bit would tell NaNs apart, which SQLite does not store.
    result.map(|value| format!("{value:?}")).map_err(|error| error.to_string())
}

/// The column as a `T`, from both rows.
fn compare<'r, T>(driver: &'r SqliteRow, direct: &'r DirectRow, index: usize)
where
    T: Debug + Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Direct> + Type<Direct>,
{
    let name = std::any::type_name::<T>();
    let [one, other] = [told(driver.try_get::<T, _>(index)), told(direct.try_get::<T, _>(index))];
    assert_eq!(one, other, "{name}");
    // Unchecked, what is the same or is refused aloud.
    let [one, other] =
        [told(driver.try_get_unchecked::<T, _>(index)), told(direct.try_get_unchecked::<T, _>(index))];
    let refused = other.as_ref().is_err_and(|error| error.contains("CAST it in the query"));
    assert!(one == other || refused, "{name} unchecked: {one:?} {other:?}");
    let [one, other] = [
        <T as Type<Sqlite>>::type_info().name().to_owned(),
        <T as Type<Direct>>::type_info().name().to_owned(),
    ];
    assert_eq!(one, other, "{name}");
}

fn compare_all(driver: &SqliteRow, direct: &DirectRow, index: usize) {
    macro_rules! types {
        ($($type:ty),* $(,)?) => {$(
            compare::<$type>(driver, direct, index);
            compare::<Option<$type>>(driver, direct, index);
        )*};
    }
    types!(bool, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, String, Vec<u8>, NonZeroI64, NonZeroU8);
    types!(Box<str>, Arc<str>, Cow<'_, str>, Cow<'_, [u8]>, Box<[u8]>, Text<i64>, Text<std::net::IpAddr>);
    #[cfg(feature = "json")]
    types!(sqlx::types::Json<Vec<i64>>, sqlx::types::JsonValue);
    #[cfg(feature = "uuid")]
    types!(sqlx::types::Uuid, sqlx::types::uuid::fmt::Hyphenated, sqlx::types::uuid::fmt::Simple);
    let [one, other] = [driver.try_column(index).unwrap().type_info().name().to_owned(), {
        direct.try_column(index).unwrap().type_info().name().to_owned()
    }];
    assert_eq!(one, other, "declared");
    let (one, other) = (driver.try_get_raw(index).unwrap(), direct.try_get_raw(index).unwrap());
    assert_eq!(one.is_null(), other.is_null());
    assert_eq!(one.type_info().name(), other.type_info().name());
    assert_eq!(one.type_info().is_null(), other.type_info().is_null());
}

/// Borrows last: sqlx refuses a value anything else after it was borrowed.
fn compare_borrowed<'r>(driver: &'r SqliteRow, direct: &'r DirectRow, index: usize) {
    let [one, other] = [told(driver.try_get::<&str, _>(index)), told(direct.try_get::<&str, _>(index))];
    assert_eq!(one, other);
    let [one, other] = [told(driver.try_get::<&[u8], _>(index)), told(direct.try_get::<&[u8], _>(index))];
    assert_eq!(one, other);
}

const DECLARED: [&str; 14] = [
    "",
    "INTEGER",
    "INT4",
    "bigint",
    "REAL",
    "double precision",
    "TEXT",
    "varchar(10)",
    "BLOB",
    "BOOLEAN",
    "DATE",
    "time",
    "TIMESTAMP",
    "NUMERIC",
];

fn value() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        Just(KeyValue::Null),
        any::<i64>().prop_map(KeyValue::Int),
        (-300_i64..70_000).prop_map(KeyValue::Int),
        any::<f64>().prop_filter("SQLite has no NaN", |real| !real.is_nan()).prop_map(KeyValue::Real),
        (-9_i32..9).prop_map(|real| KeyValue::Real(f64::from(real) / 2.0)),
        any::<String>().prop_map(KeyValue::Text),
        "-?[0-9]{1,12}|127\\.0\\.0\\.1|\\[1,2\\]|null|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"
            .prop_map(KeyValue::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(KeyValue::Blob),
        proptest::collection::vec(any::<u8>(), 16).prop_map(KeyValue::Blob),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Stored in columns of any declared type, selected as they are, and as expressions.
    #[test]
    fn both_rows_decode_the_same(values in proptest::collection::vec(value(), DECLARED.len())) {
        Runtime::new().unwrap().block_on(async {
            for encoding in ["UTF-8", "UTF-16"] {
                let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
                let columns = DECLARED.iter().enumerate().map(|(index, kind)| format!("c{index} {kind}"));
                let columns = columns.collect::<Vec<_>>().join(", ");
                let create = format!("PRAGMA encoding = '{encoding}'; CREATE TABLE t ({columns})");
                sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
                let places = (1..=values.len()).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ");
                let insert = format!("INSERT INTO t VALUES ({places}) RETURNING 1");
                let mut insert = sqlx::query(AssertSqlSafe(insert));
                for value in &values {
                    insert = match value.clone() {
                        KeyValue::Int(number) => insert.bind(number),
                        KeyValue::Real(number) => insert.bind(number),
                        KeyValue::Text(text) => insert.bind(text),
                        KeyValue::Blob(bytes) => insert.bind(bytes),
                        KeyValue::Null | KeyValue::Uint(_) => insert.bind(None::<i64>),
                    };
                }
                insert.fetch_all(&mut connection).await.unwrap();
                for sql in ["SELECT * FROM t".to_owned(), format!("SELECT {places}"), "SELECT c0, CAST(c8 AS TEXT), \
                    coalesce(c1, 1), CAST(x'ff41' AS TEXT), x'', '', NULL, zeroblob(3) FROM t".to_owned()] {
                    let values = if sql.contains('?') { &values[..] } else { &[] };
                    let (driver, direct) = both(&mut connection, &sql, values).await;
                    prop_assert_eq!(driver.len(), direct.len());
                    for (driver, direct) in driver.iter().zip(&direct) {
                        prop_assert_eq!(driver.len(), direct.len());
                        for index in 0..driver.len() {
                            compare_all(driver, direct, index);
                        }
                        for index in 0..driver.len() {
                            compare_borrowed(driver, direct, index);
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn columns_are_found_by_the_same_names() {
    let few = "SELECT 1 AS a, 2 AS b, 3 AS a, 4 AS A, 5 AS \"\", 6 AS \"größe\"".to_owned();
    let many =
        format!("{few}{}", (0..30).map(|index| format!(", {index} AS n{}", index % 20)).collect::<String>());
    Runtime::new().unwrap().block_on(async {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for sql in [few, many] {
            let (driver, direct) = both(&mut connection, &sql, &[]).await;
            let (driver, direct) = (&driver[0], &direct[0]);
            for name in ["a", "A", "b", "B", "", "größe", "n0", "n5", "n19", "n20", "nowhere"] {
                let [one, other] =
                    [told(driver.try_get::<i64, _>(name)), told(direct.try_get::<i64, _>(name))];
                assert_eq!(one, other, "{name} {sql}");
                assert_eq!(told(name.index(driver)), told(name.index(direct)));
            }
            for index in [0, 5, 36, 1_000] {
                assert_eq!(told(index.index(driver)), told(index.index(direct)));
            }
            let names = |columns: Vec<(usize, String)>| columns;
            assert_eq!(
                names(driver.columns().iter().map(|c| (c.ordinal(), c.name().to_owned())).collect()),
                names(direct.columns().iter().map(|c| (c.ordinal(), c.name().to_owned())).collect()),
            );
        }
    });
}

/// Transparent, so written for any database.
#[derive(Debug, sqlx::Type)]
#[sqlx(transparent)]
struct Name(String);

#[derive(Debug, sqlx::Type)]
#[repr(i32)]
enum Level {
    Low = 1,
    High = 2,
}

#[derive(Debug, FromRow)]
#[expect(dead_code, reason = "shown only")]
struct Inner {
    #[sqlx(rename = "in")]
    value: Option<i64>,
}

#[derive(Debug, FromRow)]
#[expect(dead_code, reason = "shown only")]
struct Outer {
    id: i64,
    name: Name,
    level: Level,
    #[sqlx(flatten)]
    inner: Inner,
    #[sqlx(default)]
    missing: i64,
    #[sqlx(try_from = "i64")]
    small: i8,
    #[sqlx(skip)]
    skipped: u8,
}

#[test]
fn derived_structs_and_tuples_decode_from_both() {
    Runtime::new().unwrap().block_on(async {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for sql in [
            "SELECT 1 AS id, 'ada' AS name, 2 AS level, NULL AS \"in\", 5 AS small",
            "SELECT 1 AS id, 'ada' AS name, 3 AS level, NULL AS \"in\", 5 AS small",
            "SELECT 1 AS id, 'ada' AS name, 1 AS level, 7 AS \"in\", 500 AS small",
            "SELECT 1 AS id, 'ada' AS name, 1 AS level, 'seven' AS \"in\", 5 AS small",
            "SELECT 1 AS id, 'ada' AS name, 1 AS level, 7 AS inn, 5 AS small",
        ] {
            let (driver, direct) = both(&mut connection, sql, &[]).await;
            let (driver, direct) = (&driver[0], &direct[0]);
            assert_eq!(told(Outer::from_row(driver)), told(Outer::from_row(direct)), "{sql}");
            type Tuple = (i64, String, i32, Option<i64>, u8);
            assert_eq!(told(Tuple::from_row(driver)), told(Tuple::from_row(direct)), "{sql}");
        }
    });
}

/// How many rows of `t` the hand sees.
fn count(hand: &mut Hand<'_>) -> i64 {
    assert!(hand.prepare("SELECT count(*) FROM t", &[]).expect("a statement"));
    hand.number().expect("a number")
}

#[test]
fn a_hand_keeps_its_snapshot_for_as_long_as_it_lives_and_takes_none_beside_another() {
    Runtime::new().unwrap().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("test.db"));
        let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let mut writer = options.connect().await.unwrap();
        writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
        let mut reader = options.connect().await.unwrap();
        let insert = "INSERT INTO t DEFAULT VALUES";
        let mut hand = Hand::on(&mut reader).await.unwrap().unwrap();
        hand.keep_snapshot().unwrap();
        for _ in 0..3 {
            writer.execute(insert).await.unwrap();
            assert_eq!(count(&mut hand), 0);
        }
        // A newer one, in place of the first.
        hand.keep_snapshot().unwrap();
        writer.execute(insert).await.unwrap();
        assert_eq!(count(&mut hand), 3);
        drop(hand);
        let mut hand = Hand::on(&mut reader).await.unwrap().unwrap();
        assert_eq!(count(&mut hand), 4);
        drop(hand);
        // What reads for somebody else already has one, and it may be an old one.
        reader.execute("BEGIN").await.unwrap();
        let mut hand = Hand::on(&mut reader).await.unwrap().unwrap();
        assert!(hand.keep_snapshot().is_err());
        drop(hand);
        reader.execute("COMMIT").await.unwrap();
        let mut hand = Hand::on(&mut reader).await.unwrap().unwrap();
        hand.keep_snapshot().unwrap();
        drop(hand);
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
        reader.close().await.unwrap();
    });
}
