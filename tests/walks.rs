//! Walking through a list by the links of its pages, there and back: every row once and in order, in each
//! kind of page, each order that lists may have, and on each database.

use std::collections::BTreeSet;

use axum::Router;
use axum::routing::get;
use multicore_axum::{
    Config, Consistency, CursorPage, LimitOffset, ListQuery, ListRow, Multicore, MulticoreLayer, OrderBy,
    PageNumber, SqlDatabase, Strategy, asc, desc,
};
use sqlx::{AssertSqlSafe, Encode, Executor, IntoArguments, Pool, Type};

use crate::client::{Answer, ask};
use crate::databases::{sqlite, with_mysql, with_postgres};
use crate::support::{PLENTY, unique};

/// More than a page is deep before it is located by its keys.
const ROWS: i64 = 150;

/// The types of columns that databases call differently: a moment, an exact and a binary fraction, bytes.
type Types = [&'static str; 4];

const SQLITE: Types = ["TEXT", "NUMERIC", "REAL", "BLOB"];
const POSTGRES: Types = ["timestamp", "numeric(10, 3)", "double precision", "bytea"];
const MYSQL: Types = ["datetime(6)", "decimal(10, 3)", "double", "varbinary(8)"];

/// The table `thing`: columns with equal values, NULLs and values that are hard to compare.
fn creation([moment, exact, binary, bytes]: Types) -> [String; 2] {
    let table = format!(
        "CREATE TABLE thing (id bigint NOT NULL PRIMARY KEY, kind int NOT NULL, part int NOT NULL,
         mark int, label varchar(50), name varchar(50) NOT NULL, moment {moment} NOT NULL,
         exact {exact} NOT NULL, fraction {binary} NOT NULL, code {bytes} NOT NULL, UNIQUE (part))"
    );
    let names = ["ada", "Ada", "\u{e9}mile", "", "o''neil", "zo\u{eb}", "\u{1F980}"];
    let rows: Vec<_> = (1..=ROWS)
        // Not in the order of the keys.
        .map(|n| n * 67 % 151)
        .map(|n| {
            let mark = if n % 4 == 0 { "NULL".to_owned() } else { (n % 5 - 2).to_string() };
            let label = if n % 7 < 3 { "NULL".to_owned() } else { format!("'{}'", names[n as usize % 7]) };
            let name = names[(n / 3) as usize % 7];
            let moment = format!("'2024-02-{:02} 10:00:00.{:06}'", n % 9 + 1, n % 3 * 500);
            let code = format!("{:02x}{:02x}", n % 3 * 127, n % 6 + 250);
            let code = if bytes == "bytea" { format!("'\\x{code}'") } else { format!("x'{code}'") };
            let (kind, part, exact) = (n % 6, 151 - n, format!("{}.{:03}", n % 4 - 2, n % 5));
            format!(
                "({n}, {kind}, {part}, {mark}, {label}, '{name}', {moment}, {exact}, {}.0 / 7, {code})",
                n % 10
            )
        })
        .collect();
    [table, format!("INSERT INTO thing VALUES {}", rows.join(", "))]
}

/// An order, and how any database says the same without the clauses of some.
type Order = (fn() -> Vec<OrderBy>, &'static str);

const ORDERS: &[Order] = &[
    (|| vec![asc("id")], "id"),
    (|| vec![desc("id")], "id DESC"),
    // Two keys, of the same direction and of both.
    (|| vec![asc("kind"), asc("id")], "kind, id"),
    (|| vec![desc("kind"), desc("id")], "kind DESC, id DESC"),
    (|| vec![asc("kind"), desc("id")], "kind, id DESC"),
    (|| vec![desc("kind"), asc("id")], "kind DESC, id"),
    (|| vec![asc("kind"), desc("name"), asc("part")], "kind, name DESC, part"),
    // Keys that may be NULL.
    (|| vec![asc("mark").nulls_first(), asc("id")], "mark IS NOT NULL, mark, id"),
    (|| vec![asc("mark").nulls_last(), asc("id")], "mark IS NULL, mark, id"),
    (|| vec![desc("mark").nulls_first(), asc("id")], "mark IS NOT NULL, mark DESC, id"),
    (|| vec![desc("mark").nulls_last(), desc("id")], "mark IS NULL, mark DESC, id DESC"),
    (
        || vec![asc("label").nulls_last(), desc("mark").nulls_first(), desc("id")],
        "label IS NULL, label, mark IS NOT NULL, mark DESC, id DESC",
    ),
    // Values that are not whole numbers.
    (|| vec![desc("moment"), desc("id")], "moment DESC, id DESC"),
    (|| vec![asc("exact"), desc("moment"), asc("id")], "exact, moment DESC, id"),
    (|| vec![desc("code"), asc("id")], "code DESC, id"),
    (|| vec![asc("name"), asc("id")], "name, id"),
];

/// Not on MySQL, whose fractions do not survive being text.
const FRACTIONS: &[Order] = &[(|| vec![asc("fraction"), desc("id")], "fraction, id DESC")];

/// How a list is read: rows of a page, whether it is filtered, and by which strategy.
const WAYS: [(i64, bool, Strategy); 4] = [
    (13, false, Strategy::Auto),
    (50, true, Strategy::Auto),
    (50, false, Strategy::Ranges),
    (30, true, Strategy::Ranges),
];

/// How a page is read, and what its ranges see.
type By = (Strategy, Consistency);

/// A list in one order and one way, under a path for each kind of page.
fn app<DB>(layer: &MulticoreLayer<DB>, order: fn() -> Vec<OrderBy>, filtered: bool, by: By) -> Router
where
    DB: SqlDatabase,
    (i64,): ListRow<DB>,
    for<'q> i32: Encode<'q, DB> + Type<DB>,
{
    let query = move || {
        let query = ListQuery::<(i64,)>::select("id").from("thing").order_by(order());
        let query = query.strategy(by.0).consistency(by.1);
        if filtered {
            query.filter(|q| {
                q.push("kind <> ").push_bind(4_i32);
            })
        } else {
            query
        }
    };
    let view = |(id,)| id;
    Router::new()
        .route(
            "/offset",
            get(move |mc: Multicore<DB>, page: LimitOffset| async move {
                mc.parallel_list(query(), page, view).await
            }),
        )
        .route(
            "/page",
            get(move |mc: Multicore<DB>, page: PageNumber| async move {
                mc.parallel_list(query(), page, view).await
            }),
        )
        .route(
            "/cursor",
            get(move |mc: Multicore<DB>, page: CursorPage| async move {
                mc.parallel_list(query(), page, view).await
            }),
        )
        .layer(layer.clone())
}

fn ids(answer: &Answer, what: &str) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{what}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap()
}

/// Follows the links of this relation to their end, and gives the pages and where the last one is.
async fn follow(app: &Router, path: &str, from: String, relation: &str) -> (Vec<Vec<i64>>, String) {
    let (mut pages, mut query) = (Vec::new(), from);
    loop {
        let answer = ask(app, &format!("{path}{query}")).await;
        pages.push(ids(&answer, &query));
        assert!(pages.len() as i64 <= ROWS, "it goes round in circles: {query}");
        match answer.link(relation) {
            Some(next) => query = next,
            None => return (pages, query),
        }
    }
}

/// Whether all pages but the last one found have as many rows as asked for, and that one some.
fn filled(pages: &[Vec<i64>], limit: i64) -> bool {
    let (last, others) = pages.split_last().unwrap();
    !last.is_empty() && others.iter().all(|page| page.len() as i64 == limit)
}

async fn walks<DB>(pool: Pool<DB>, types: Types, sees: Consistency, more: &'static [Order])
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    (i64,): ListRow<DB>,
    for<'q> i32: Encode<'q, DB> + Type<DB>,
{
    for sql in creation(types) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    let builder = MulticoreLayer::<DB>::builder().config(Config::default().workers(2)).pool(pool.clone());
    let layer = builder.cores(PLENTY).name(unique()).load_source(|| None).start().await.unwrap();
    let mut ranges = BTreeSet::new();
    for &(order, sql) in ORDERS.iter().chain(more) {
        for (limit, filtered, by) in WAYS {
            let app = app(&layer, order, filtered, (by, sees));
            let condition = if filtered { "WHERE kind <> 4" } else { "" };
            let plain = format!("SELECT id FROM thing {condition} ORDER BY {sql}");
            let plain = sqlx::query_as::<_, (i64,)>(AssertSqlSafe(plain)).fetch_all(&pool).await.unwrap();
            let expected: Vec<_> = plain.into_iter().map(|(id,)| id).collect();
            for (path, size) in [("/offset", "limit"), ("/page", "page_size"), ("/cursor", "limit")] {
                let what = format!("{path} of {limit} by {sql}, {condition} {by:?}");
                let first = format!("?{size}={limit}");
                let says = ask(&app, &format!("{path}{first}")).await;
                ids(&says, &what);
                if says.header("multicore").unwrap().ends_with(", strategy=ranges") {
                    ranges.insert(path);
                }
                assert_eq!(says.link("prev"), None, "{what}");
                let (pages, end) = follow(&app, path, first, "next").await;
                assert!(pages.concat() == expected, "{what}: {pages:?}, not {expected:?}");
                assert!(filled(&pages, limit), "{what}: {pages:?}");
                let (mut pages, _) = follow(&app, path, end, "prev").await;
                // The last page is where the way back begins, and need not be full.
                assert!(filled(&pages[1..], limit), "{what}: {pages:?}");
                pages.reverse();
                assert!(pages.concat() == expected, "{what}, back: {pages:?}, not {expected:?}");
            }
        }
    }
    let ranges: Vec<_> = ranges.into_iter().collect();
    assert_eq!(ranges, ["/cursor", "/offset", "/page"], "the pages that were read in ranges");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_through_the_whole_list_and_back_on_sqlite() {
    let (_folder, pool) = sqlite().await;
    walks(pool, SQLITE, Consistency::Snapshot, FRACTIONS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_through_the_whole_list_and_back_on_postgres() {
    with_postgres(|pool| walks(pool, POSTGRES, Consistency::Snapshot, FRACTIONS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_through_the_whole_list_and_back_on_mysql() {
    // Its connections cannot share a snapshot; and nobody writes.
    with_mysql(|pool| walks(pool, MYSQL, Consistency::PerRange, &[])).await;
}
