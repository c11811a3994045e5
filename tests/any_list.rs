//! The property of lists: with any rows, page, chunks, workers, path and failures, the bytes, or the error, are
//! those of the sequential path.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use multicore_core::{
    Execution, FromRow, List, ListError, ListQuery, ListRow, Multicore, Page, SqlDatabase, asc, desc,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};
use sqlx::{AssertSqlSafe, Executor, MySql, Pool, Postgres, Sqlite};

use crate::databases::{MySqlServer, PostgresServer, sqlite};
use crate::lists::ALL;
use crate::support::{burn, over, soon};

/// A row of the table; `None` for a value that cannot be decoded into it.
type NewRow = (Option<String>, f64, Option<i64>);

#[derive(Clone, Debug, FromRow)]
struct Row {
    id: i64,
    name: Option<String>,
    number: f64,
    value: i64,
}

/// What goes wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The database fails at it.
    Database,
    /// Its value is not what the row type wants.
    Decode,
    /// `render` panics.
    Render,
    /// Its serialisation says no, half-way.
    Encode,
    /// Its serialisation panics, half-way.
    EncodePanic,
}

/// What a row becomes.
struct View(Row, Option<Fault>);

impl Serialize for View {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let View(row, fault) = self;
        let mut fields = serializer.serialize_struct("View", 4)?;
        fields.serialize_field("id", &row.id)?;
        fields.serialize_field("name", &row.name)?;
        match fault {
            Some(Fault::Encode) => return Err(S::Error::custom(format!("row {}", row.id))),
            // As a panic, without the hook's words about each.
            Some(Fault::EncodePanic) => std::panic::resume_unwind(Box::new(format!("row {}", row.id))),
            _ => {}
        }
        fields.serialize_field("number", &row.number)?;
        fields.serialize_field("value", &row.value)?;
        fields.end()
    }
}

/// A list's outcome without what tells one run from another.
#[derive(Debug, PartialEq)]
enum Outcome {
    Bytes(String),
    Database,
    Decode,
    Encode(String),
    Panicked(String),
}

impl Outcome {
    fn of(list: Result<List, ListError>) -> Self {
        match list {
            Ok(list) => Outcome::Bytes(String::from_utf8(list.to_bytes()).unwrap()),
            Err(ListError::Database(_) | ListError::Filter(_) | ListError::Statement(_)) => Outcome::Database,
            Err(ListError::Decode(_)) => Outcome::Decode,
            Err(ListError::Encode(source)) => Outcome::Encode(source.to_string()),
            Err(ListError::Panicked { message }) => Outcome::Panicked(message),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    rows: Vec<NewRow>,
    faults: HashMap<i64, Fault>,
    page: Page,
    above: Option<i64>,
    order: usize,
    chunk_length: Option<NonZeroUsize>,
    /// An index into the pools of 1 to 4 workers.
    pool: usize,
    execution: Execution,
    /// What rendering a row takes.
    burn_us: u64,
}

const ORDERS: [&[(&str, bool)]; 4] =
    [&[("id", false)], &[("id", true)], &[("number", false), ("id", true)], &[("name", true), ("id", false)]];

fn cases() -> impl Strategy<Value = Case> {
    let text = prop_oneof![
        4 => any::<String>(),
        1 => "[\"'\\\\/<>&%_\\r\\n\\t]{0,9}",
        1 => Just("\u{1F468}\u{200D}\u{1F469}\u{2028}\u{FEFF}\u{1}\u{7F}".to_owned()),
        // Longer than a chunk's first guess.
        1 => "[a-z]{400,600}",
    ];
    let number = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL;
    // PostgreSQL's text has no NUL.
    let text = text.prop_map(|text| text.replace('\0', "\u{1}"));
    let row = (prop::option::of(text), number, any::<i64>());
    let row = row.prop_map(|(name, number, value)| (name, number, Some(value)));
    let fault = prop_oneof![
        Just(Fault::Database),
        Just(Fault::Decode),
        Just(Fault::Render),
        Just(Fault::Encode),
        Just(Fault::EncodePanic)
    ];
    let faults = prop_oneof![
        1 => Just(HashMap::new()),
        1 => prop::collection::hash_map(1_i64..200, fault, 1..5),
    ];
    let how = (
        prop::option::of(1_usize..40),
        0_usize..4,
        prop::sample::select(ALL.to_vec()),
        prop::sample::select(vec![0_u64, 0, 20]),
        0..ORDERS.len(),
    );
    let page = (1_u64..250, prop_oneof![3 => Just(0_u64), 2 => 0_u64..250], prop::option::of(0_i64..150));
    (vec(row, 0..200), faults, page, how).prop_map(|(mut rows, faults, page, how)| {
        for (&id, _) in faults.iter().filter(|(_, fault)| **fault == Fault::Decode) {
            if let Some(row) = rows.get_mut(id as usize - 1) {
                row.2 = None;
            }
        }
        let (limit, offset, above) = page;
        let (chunk_length, pool, execution, burn_us, order) = how;
        let chunk_length = chunk_length.and_then(NonZeroUsize::new);
        let page = Page { limit, offset };
        Case { rows, faults, page, above, order, chunk_length, pool, execution, burn_us }
    })
}

/// What the property needs of a database.
trait Tested: SqlDatabase {
    /// The table's definition.
    const TABLE: &'static str;

    /// Whether NULLs come first in a descending order.
    const NULLS_ARE_LARGE: bool;

    /// An expression that fails at the row of this id.
    fn failing_at(id: i64) -> String;

    /// Replaces the table's rows.
    fn fill(app: &Pool<Self>, rows: &[NewRow]) -> impl Future<Output = ()>;

    /// The rows of a statement one after the other, up to the first that fails.
    fn read(app: &Pool<Self>, sql: String) -> impl Future<Output = Vec<Result<Row, Outcome>>>;
}

macro_rules! tested {
    ($database:ty, $nulls_are_large:literal, $table:literal, $bad:expr, $failing_at:expr) => {
        impl Tested for $database {
            const TABLE: &'static str = $table;
            const NULLS_ARE_LARGE: bool = $nulls_are_large;

            fn failing_at(id: i64) -> String {
                $failing_at(id)
            }

            async fn fill(app: &Pool<Self>, rows: &[NewRow]) {
                let mut transaction = app.begin().await.unwrap();
                transaction.execute("DELETE FROM sample").await.unwrap();
                for (chunk, rows) in rows.chunks(100).enumerate() {
                    let mut insert = sqlx::QueryBuilder::<$database>::new("INSERT INTO sample ");
                    insert.push_values(
                        rows.iter().enumerate(),
                        |mut values, (index, (name, number, value))| {
                            values
                                .push_bind((chunk * 100 + index + 1) as i64)
                                .push_bind(name)
                                .push_bind(number);
                            match value {
                                Some(value) => values.push_bind(*value),
                                None => values.push($bad),
                            };
                        },
                    );
                    insert.build().execute(&mut *transaction).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }

            async fn read(app: &Pool<Self>, sql: String) -> Vec<Result<Row, Outcome>> {
                let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(app);
                let mut read = Vec::new();
                while let Some(row) = rows.next().await {
                    let row = match row {
                        Ok(row) => Row::from_row(&row).map_err(|_| Outcome::Decode),
                        Err(_) => Err(Outcome::Database),
                    };
                    let failed = row.is_err();
                    read.push(row);
                    if failed {
                        break;
                    }
                }
                read
            }
        }
    };
}

tested!(
    Sqlite,
    false,
    "CREATE TABLE sample (id INTEGER PRIMARY KEY, name TEXT, number REAL NOT NULL, value INTEGER)",
    "'not a number'",
    |id| format!("abs(CASE WHEN id = {id} THEN -9223372036854775807 - 1 ELSE 0 END)")
);
tested!(
    Postgres,
    true,
    "CREATE TABLE sample (id bigint PRIMARY KEY, name text, number float8 NOT NULL, value bigint)",
    "NULL",
    |id| format!("1 / (CASE WHEN id = {id} THEN 0 ELSE 1 END)")
);
tested!(
    MySql,
    false,
    "CREATE TABLE sample (id bigint PRIMARY KEY, name longtext, number double NOT NULL, value bigint)",
    "NULL",
    |id| format!("(SELECT 1 UNION ALL SELECT 1 FROM DUAL WHERE id = {id})")
);

/// The list of a case, and what the sequential path without this library makes of it.
async fn both<DB>(app: &Pool<DB>, pools: &[Multicore<DB>], case: &Case) -> (Outcome, Outcome)
where
    DB: Tested,
    Row: ListRow<DB>,
{
    DB::fill(app, &case.rows).await;
    let mut columns = String::from("id, name, number, value");
    for (&id, _) in case.faults.iter().filter(|(_, fault)| **fault == Fault::Database) {
        columns += &format!(", {} AS fault_{id}", DB::failing_at(id));
    }
    let faults = case.faults.clone();
    let burn_us = case.burn_us;
    let render = move |row: Row| {
        burn(burn_us);
        let fault = faults.get(&row.id).copied();
        if fault == Some(Fault::Render) {
            std::panic::resume_unwind(Box::new(format!("row {}", row.id)));
        }
        View(row, fault)
    };

    let keys = ORDERS[case.order];
    let mut query = ListQuery::<Row>::select(AssertSqlSafe(columns.clone())).from("sample");
    query = query.order_by(keys.iter().map(|&(key, descending)| match (key, descending) {
        ("name", true) if DB::NULLS_ARE_LARGE => desc(key).nulls_first(),
        ("name", true) => desc(key).nulls_last(),
        (key, true) => desc(key),
        (key, false) => asc(key),
    }));
    if let Some(id) = case.above {
        query = query.filter(|filter| {
            // Literal: binding is tested elsewhere, and differs in type from driver to driver here.
            filter.push(format_args!("id > {id}"));
        });
    }
    if let Some(length) = case.chunk_length {
        query = query.chunk_length(length);
    }
    let list = soon(pools[case.pool].list(query.execution(case.execution), case.page, render)).await;
    let ours = Outcome::of(list);

    let above = case.above.map(|id| format!("WHERE id > {id}")).unwrap_or_default();
    let keys: Vec<_> = keys
        .iter()
        .map(|(key, descending)| format!("{key} {}", if *descending { "DESC" } else { "ASC" }))
        .collect();
    let Page { limit, offset } = case.page;
    let order = format!("ORDER BY {}", keys.join(", "));
    let page = format!("FROM sample {above} {order} LIMIT {limit} OFFSET {offset}");
    let plain = becomes(app, format!("SELECT {columns} {page}"), case).await;
    if plain == Outcome::Database && offset > 0 && case.execution != Execution::Sequential {
        // A database may compute the rows that the plain statement skips, and fail at one of them. A page
        // that starts at a row found by its keys does not.
        let sql = format!("SELECT {columns} FROM (SELECT * {page}) AS sample {order}");
        let unskipped = becomes(app, sql, case).await;
        if ours == unskipped {
            return (ours, unskipped);
        }
    }
    (ours, plain)
}

/// What the rows of a statement become one after the other.
async fn becomes<DB>(app: &Pool<DB>, sql: String, case: &Case) -> Outcome
where
    DB: Tested,
    Row: ListRow<DB>,
{
    let mut views = Vec::new();
    for row in DB::read(app, sql).await {
        let row = match row {
            Ok(row) => row,
            Err(outcome) => return outcome,
        };
        let says = format!("row {}", row.id);
        match case.faults.get(&row.id) {
            Some(Fault::Render | Fault::EncodePanic) => return Outcome::Panicked(says),
            Some(Fault::Encode) => return Outcome::Encode(says),
            _ => views.push(View(row, None)),
        }
    }
    Outcome::Bytes(serde_json::to_string(&views).unwrap())
}

/// Runs the property over one database.
fn property<DB>(runtime: &tokio::runtime::Runtime, app: &Pool<DB>, cases_to_run: u32)
where
    DB: Tested,
    Row: ListRow<DB>,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    let pools = runtime.block_on(async {
        let mut connection = app.acquire().await.unwrap();
        (&mut *connection).execute(DB::TABLE).await.unwrap();
        let mut pools = Vec::new();
        for workers in 1..=4 {
            pools.push(over(app, workers).await);
        }
        pools
    });
    let config = Config { cases: cases_to_run, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&cases(), |case| {
        let (ours, plain) = runtime.block_on(both(app, &pools, &case));
        prop_assert_eq!(ours, plain);
        Ok(())
    });
    let decisions: u64 = pools.iter().map(|mc| mc.stats().decisions.parallel()).sum();
    for mc in pools {
        assert_eq!((mc.stats().owners, mc.stats().jobs), (0, 0));
        runtime.block_on(mc.shutdown(Duration::from_secs(60)));
    }
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(decisions > 0, "no case ever ran in parallel");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn any_list_over_sqlite_is_what_the_sequential_path_gives() {
    let runtime = runtime();
    let (_folder, app) = runtime.block_on(sqlite());
    property(&runtime, &app, 200);
}

#[test]
fn any_list_over_postgres_is_what_the_sequential_path_gives() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(PostgresServer::new()) else { return };
    let app = server.pool.clone();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| property(&runtime, &app, 50)));
    runtime.block_on(server.finish());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn any_list_over_mysql_is_what_the_sequential_path_gives() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(MySqlServer::new()) else { return };
    let app = server.pool.clone();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| property(&runtime, &app, 50)));
    runtime.block_on(server.finish());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
