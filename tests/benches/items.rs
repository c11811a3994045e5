//! The table `item` of the benchmark of pages, and what its databases are asked for.

use std::future::Future;

use multicore_core::{List, ListQuery, Multicore, Page, Paging, SqlDatabase};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Executor, FromRow, PgPool, Pool, Postgres, Sqlite, SqlitePool};

#[derive(FromRow, Serialize)]
pub(crate) struct Item {
    id: i64,
    k: i32,
    text: String,
}

/// A row with next to nothing in it.
#[derive(FromRow, Serialize)]
pub(crate) struct Small {
    id: i64,
    k: i32,
}

/// What cannot be said of a database in generic code.
pub(crate) trait Peer: SqlDatabase {
    /// The end of a page's statement.
    const PAGE: &'static str;

    /// Writes to another table.
    fn write(pool: &Pool<Self>) -> impl Future<Output = ()> + Send;

    fn items() -> ListQuery<Item, Self>;

    fn smalls() -> ListQuery<Small, Self>;

    fn plain(pool: &Pool<Self>, sql: String, page: Page) -> impl Future<Output = Vec<Item>> + Send;

    fn ours(
        mc: &Multicore<Self>,
        query: ListQuery<Item, Self>,
        page: Paging,
    ) -> impl Future<Output = List> + Send;

    fn small(
        mc: &Multicore<Self>,
        query: ListQuery<Small, Self>,
        page: Paging,
    ) -> impl Future<Output = List> + Send;
}

macro_rules! peer {
    ($database:ty, $page:literal) => {
        impl Peer for $database {
            const PAGE: &'static str = $page;

            async fn write(pool: &Pool<Self>) {
                pool.execute("UPDATE ticks SET n = n + 1").await.expect("written");
            }

            fn items() -> ListQuery<Item, Self> {
                ListQuery::<Item>::select("id, k, text")
            }

            fn smalls() -> ListQuery<Small, Self> {
                ListQuery::<Small>::select("id, k")
            }

            async fn plain(pool: &Pool<Self>, sql: String, page: Page) -> Vec<Item> {
                let query =
                    sqlx::query_as(AssertSqlSafe(sql)).bind(page.limit as i64).bind(page.offset as i64);
                query.fetch_all(pool).await.expect("rows")
            }

            async fn ours(mc: &Multicore<Self>, query: ListQuery<Item, Self>, page: Paging) -> List {
                mc.list(query, page, |item| item).await.expect("a page")
            }

            async fn small(mc: &Multicore<Self>, query: ListQuery<Small, Self>, page: Paging) -> List {
                mc.list(query, page, |item| item).await.expect("a page")
            }
        }
    };
}

peer!(Sqlite, "LIMIT ? OFFSET ?");
peer!(Postgres, "LIMIT $1 OFFSET $2");

/// `k` has 30 rows a value, which are spread over the table; `r` is spread too, and nearly unique.
pub(crate) async fn fill_sqlite(pool: &SqlitePool) {
    for sql in [
        "CREATE TABLE item (id INTEGER PRIMARY KEY, k INTEGER NOT NULL, r INTEGER NOT NULL, text TEXT NOT NULL)",
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 300000)
         INSERT INTO item SELECT id, id * 7919 % 10000, id * 104729 % 300007,
             replace(printf('%30s', ''), ' ', printf('%032d', id * 7919)) FROM n",
        "CREATE INDEX item_k ON item (k, id)",
        "CREATE TABLE ticks AS SELECT 1 AS n",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        pool.execute(sql).await.expect("a table");
    }
}

pub(crate) async fn fill_postgres(pool: &PgPool, rows: u32) {
    for sql in [
        "CREATE TABLE item (id BIGINT PRIMARY KEY, k INTEGER NOT NULL, r INTEGER NOT NULL, text TEXT NOT NULL)",
        &format!(
            "INSERT INTO item SELECT n, n * 7919 % 10000, n * 104729 % 300007, repeat(md5(n::text), 30)
             FROM generate_series(1::bigint, {rows}) AS n"
        ),
        "CREATE INDEX item_k ON item (k, id)",
        "CREATE TABLE ticks AS SELECT 1 AS n",
        // As autovacuum leaves it.
        "VACUUM ANALYZE item",
        "CHECKPOINT",
    ] {
        pool.execute(AssertSqlSafe(sql.to_owned())).await.expect("a table");
    }
}
