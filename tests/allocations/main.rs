//! What the inline path allocates, counted on the thread of the request alone: no clock, so a regression shows
//! on any machine. The plain code beside it sets the scale: what a row costs must be the same, and what a
//! page costs more is a fixed number.

#[expect(dead_code, reason = "most tests of the folder are in another binary")]
#[path = "../databases.rs"]
mod databases;

use allocation_counter::{AllocationInfo, measure};
use multicore_axum::{Config, LimitOffset, MulticoreLayer};
use multicore_core::{ListQuery, ListRow, Multicore, SqlDatabase, SqlxDatabase, asc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Executor, FromRow, Pool, Postgres, Sqlite};
use tokio::runtime::{Builder, Runtime};

/// Calls of which the smallest count is taken: what is found out at the first ones is kept, and a driver
/// that waits for rows, which depends on other threads, allocates a little more.
const CALLS: usize = 30;

/// What a map allocates, items and results included.
const MAP: u64 = 5;
/// In bytes, beside items and results.
const MAP_BYTES: u64 = 4_096;
/// What a page may allocate more than the plain code: the query's text in its parts and as a whole, the work,
/// the chunks. Measured: up to 8, and a few more where a driver had to wait.
const PAGE: u64 = 16;
/// The same where SQLite's statements are stepped on this thread: also the statement and the names of its
/// columns. Measured: up to 23.
const STEPPED_PAGE: u64 = 28;
/// What a row that is stepped here allocates on this thread, where the driver makes rows on its own thread, which
/// is not counted.
const STEPPED_ROW: u64 = 2;
/// What becoming a response allocates: headers, links, the body's box.
const RESPONSE: u64 = 15;

/// One async thread, this one.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The fewest allocations of a call, and the bytes of that one.
fn fewest(mut call: impl FnMut()) -> (u64, u64) {
    let counts = (0..CALLS).map(|_| measure(&mut call));
    counts.map(|AllocationInfo { count_total, bytes_total, .. }| (count_total, bytes_total)).min().unwrap()
}

#[test]
fn a_map_allocates_the_same_whatever_its_length() {
    let runtime = runtime();
    // One core: nobody can help.
    let mc = runtime.block_on(Multicore::<()>::builder().workers(1).cores(1).start()).unwrap();
    let of = |items: usize| {
        fewest(|| {
            let items: Vec<usize> = (0..items).collect();
            let results = runtime.block_on(mc.parallel_map(items, |item| item + 1)).unwrap();
            drop(results);
        })
    };
    for items in [1, 10, 1_000, 10_000] {
        let (allocations, bytes) = of(items);
        println!("map of {items}: {allocations} allocations, {bytes} bytes");
        // The items and the results, as in plain code; the work, the list of chunks; and Tokio's box of the
        // future in a debug build.
        assert!(allocations <= MAP, "{items}: {allocations}");
        // Nothing as long as the items but the items and the results.
        let plain = 2 * items * size_of::<usize>();
        assert!(bytes <= plain as u64 + MAP_BYTES, "{items}: {bytes}");
    }
}

#[derive(FromRow)]
struct Person {
    id: i64,
    name: String,
    bio: String,
}

#[derive(Serialize)]
struct View {
    id: i64,
    name: String,
    bio: String,
}

impl From<Person> for View {
    fn from(Person { id, name, bio }: Person) -> Self {
        View { id, name, bio }
    }
}

const COLUMNS: &str = "id, name, bio";

fn query<DB: SqlDatabase>() -> ListQuery<Person, DB>
where
    Person: ListRow<DB>,
{
    ListQuery::<Person>::select(COLUMNS).from("person").order_by([asc("id")])
}

/// What a page of so many rows allocates, in number and bytes.
struct Counts {
    rows: i64,
    plain: (u64, u64),
    list: (u64, u64),
    response: (u64, u64),
}

/// What pages allocate: the plain code's, ours, and ours to a response.
fn pages<DB>(runtime: &Runtime, pool: &Pool<DB>, sql: &'static str) -> Vec<Counts>
where
    DB: SqlDatabase<Pool = Pool<DB>> + SqlxDatabase,
    Person: ListRow<DB>,
    for<'q> i64: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    for<'c> &'c mut <DB as SqlxDatabase>::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
{
    let layer =
        MulticoreLayer::<DB>::builder().cores(1).config(Config::default().workers(1).max_limit(1_000));
    let mc = runtime.block_on(layer.pool(pool.clone()).start()).unwrap().handle();
    [10, 100, 400]
        .map(|rows| {
            let plain = fewest(|| {
                let read = sqlx::query_as(AssertSqlSafe(sql)).bind(rows).bind(0_i64).fetch_all(pool);
                let read: Vec<Person> = runtime.block_on(read).unwrap();
                let views: Vec<View> = read.into_iter().map(View::from).collect();
                drop(serde_json::to_vec(&views).unwrap());
            });
            let page = || LimitOffset::new(Some(rows.unsigned_abs()), 0);
            let list = || runtime.block_on(mc.parallel_list(query(), page(), View::from)).unwrap();
            let ours = fewest(|| drop(list()));
            // By itself: how often its driver waits is the page's matter.
            let response = (0..CALLS).map(|_| {
                let listing = list();
                let made = measure(|| drop(axum::response::IntoResponse::into_response(listing)));
                (made.count_total, made.bytes_total)
            });
            let response = response.min().unwrap();
            Counts { rows, plain, list: ours, response }
        })
        .into()
}

fn check(database: &str, pages: &[Counts], page: u64, row: u64) {
    for Counts { rows, plain, list, response } in pages {
        println!("{database}, {rows} rows: plain {plain:?}, list {list:?}, response {response:?}");
    }
    for Counts { rows, plain, list, response } in pages {
        let most = plain.0 + page + row * rows.unsigned_abs();
        assert!(list.0 <= most, "{database}, {rows} rows: {list:?} beside {plain:?}");
        assert!(response.0 <= RESPONSE, "{database}, {rows} rows: {response:?}");
    }
    // Long enough for what a page costs not to count: rows are never copied, and chunks of bytes do not grow.
    let longest = &pages[pages.len() - 1];
    assert!(longest.list.1 <= longest.plain.1 * 3 / 4, "{database}: bytes {:?}", longest.list);
}

const PEOPLE: &str =
    "INSERT INTO person WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 400)
    SELECT id, 'user ' || id, 'somebody who lives somewhere, and likes a thing or two' FROM n";

#[test]
fn a_page_over_sqlite_allocates_a_fixed_number_more_than_the_plain_code() {
    let runtime = runtime();
    let (_folder, pool) = runtime.block_on(async {
        let (folder, pool) = databases::sqlite().await;
        pool.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL)")
            .await
            .unwrap();
        pool.execute(PEOPLE).await.unwrap();
        (folder, pool)
    });
    let pages =
        pages::<Sqlite>(&runtime, &pool, "SELECT id, name, bio FROM person ORDER BY id LIMIT ? OFFSET ?");
    check("SQLite", &pages, STEPPED_PAGE, STEPPED_ROW);
}

#[test]
fn a_page_over_postgres_allocates_a_fixed_number_more_than_the_plain_code() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(databases::PostgresServer::new()) else { return };
    runtime.block_on(async {
        server
            .pool
            .execute("CREATE TABLE person (id BIGINT PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL)")
            .await
            .unwrap();
        server.pool.execute(PEOPLE).await.unwrap();
    });
    let pages = pages::<Postgres>(
        &runtime,
        &server.pool,
        "SELECT id, name, bio FROM person ORDER BY id LIMIT $1 OFFSET $2",
    );
    check("PostgreSQL", &pages, PAGE, 0);
    runtime.block_on(server.finish());
}
