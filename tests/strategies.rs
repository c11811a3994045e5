//! Ways of reading a page: each gives the bytes of the plain statement, and what must not be split is not,
//! whatever is asked for.

use futures_util::StreamExt;
use multicore_core::{
    Consistency, Execution, Format, ListError, ListQuery, ListRow, Mode, Multicore, OrderBy, Page, Paging,
    Reason, SqlDatabase, Start, Strategy, asc, desc,
};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool, Pool, Postgres, Sqlite, SqlitePool};

use crate::clusters::Cluster;
use crate::databases::{sqlite, with_mysql, with_postgres};
use crate::support::{over, soon, until_idle};

type Row = (i64, Option<i64>, i64);

/// Three thousand rows with ties and NULLs in `k`, ties in `m`.
const TABLE: &str = "CREATE TABLE sample (id bigint NOT NULL PRIMARY KEY, k bigint, m bigint NOT NULL)";

async fn fill<DB>(app: &Pool<DB>)
where
    DB: SqlDatabase,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    let mut connection = app.acquire().await.unwrap();
    (&mut *connection).execute(TABLE).await.unwrap();
    let row = |n: i64| match n % 5 {
        0 => format!("({n}, NULL, {})", n % 7),
        _ => format!("({n}, {}, {})", n * 7_919 % 101, n % 7),
    };
    let rows: Vec<_> = (1..=3_000).map(row).collect();
    let sql = format!("INSERT INTO sample VALUES {}", rows.join(", "));
    (&mut *connection).execute(AssertSqlSafe(sql)).await.unwrap();
    for index in ["k, id", "m, id"] {
        let name = &index[..1];
        let sql = format!("CREATE INDEX sample_{name} ON sample ({index})");
        (&mut *connection).execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

/// Orders of all kinds: one key, one direction, mixed, NULLs first and last.
fn orders() -> Vec<Vec<OrderBy>> {
    vec![
        vec![asc("id")],
        vec![desc("id")],
        vec![asc("m"), asc("id")],
        vec![desc("m"), desc("id")],
        vec![desc("m"), asc("id")],
        vec![asc("k").nulls_first(), asc("id")],
        vec![asc("k").nulls_last(), asc("id")],
        vec![desc("k").nulls_first(), asc("id")],
        vec![desc("k").nulls_last(), desc("id")],
        vec![desc("m"), asc("k").nulls_last(), desc("id")],
    ]
}

async fn every_strategy_gives_the_same_bytes<DB>(app: Pool<DB>, splits: bool)
where
    DB: SqlDatabase,
    Row: ListRow<DB>,
    i64: sqlx::Type<DB> + for<'e> sqlx::Encode<'e, DB>,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    fill(&app).await;
    let mc = over(&app, 2).await;
    let query = |order: usize, above: Option<i64>| {
        let query = ListQuery::<Row>::select("id, k, m").from("sample");
        let query = query.order_by(orders().swap_remove(order));
        match above {
            None => query,
            Some(above) => query.filter(|q| {
                q.push("id > ").push_bind(above);
            }),
        }
    };
    let mut ranges = 0;
    for order in 0..orders().len() {
        for (limit, offset) in
            [(10, 0), (1_000, 0), (1_500, 70), (700, 2_500), (100, 2_995), (10, 3_000), (10, 9_000)]
        {
            for above in [None, Some(1_000)] {
                let page = Page { limit, offset };
                let oracle = query(order, above).execution(Execution::Sequential);
                let oracle = soon(mc.list(oracle, page, |row| row)).await.unwrap();
                for strategy in [Strategy::Auto, Strategy::Single, Strategy::Ranges] {
                    for consistency in [Consistency::Snapshot, Consistency::PerRange] {
                        let ours = query(order, above).strategy(strategy).consistency(consistency);
                        let list = soon(mc.list(ours, page, |row| row)).await.unwrap();
                        let case =
                            format!("order {order}, {page:?}, {above:?}, {strategy:?}, {consistency:?}");
                        assert_eq!(list.rows(), oracle.rows(), "{case}");
                        assert!(list.to_bytes() == oracle.to_bytes(), "{case}");
                        let ranged = list.strategy() == Strategy::Ranges;
                        ranges += usize::from(ranged);
                        if consistency == Consistency::Snapshot && !splits {
                            assert!(!ranged, "{case}");
                        }
                    }
                }
            }
        }
    }
    assert!(ranges > 0, "nothing was read in ranges");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_strategy_gives_the_same_bytes_on_sqlite() {
    let (_folder, app) = sqlite().await;
    every_strategy_gives_the_same_bytes(app, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_strategy_gives_the_same_bytes_on_postgres() {
    with_postgres(async |app| every_strategy_gives_the_same_bytes(app, true).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_strategy_gives_the_same_bytes_on_mysql() {
    with_mysql(async |app| every_strategy_gives_the_same_bytes(app, false).await).await;
}

/// Asks for ranges, and tells what came of it.
async fn asked_for_ranges(mc: &Multicore<Sqlite>, query: ListQuery<(i64,), Sqlite>) -> (Strategy, usize) {
    let list = soon(mc.list(query.strategy(Strategy::Ranges), Page { limit: 10, offset: 3 }, |row| row));
    let list = list.await.unwrap();
    (list.strategy(), list.rows())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_split_is_not() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    app.execute("CREATE VIEW seen AS SELECT id FROM sample").await.unwrap();
    let mc = over(&app, 2).await;
    let select = |columns: &'static str, tables: &'static str| {
        ListQuery::<(i64,)>::select::<Sqlite>(columns).from(tables)
    };
    assert_eq!(
        asked_for_ranges(&mc, select("id", "sample").order_by([asc("id")])).await,
        (Strategy::Ranges, 10),
        "a plain list"
    );
    for (why, query) in [
        ("groups", select("m", "sample GROUP BY m").order_by([asc("m").unique()])),
        ("distinct rows", select("DISTINCT m", "sample").order_by([asc("m").unique()])),
        ("a view", select("id", "seen").order_by([asc("id").unique()])),
        ("a subquery", select("id", "(SELECT id FROM sample) AS s").order_by([asc("id").unique()])),
        ("the time", select("id + 0 * strftime('%s')", "sample").order_by([asc("id")])),
        ("a window", select("row_number() OVER (ORDER BY id)", "sample").order_by([asc("id")])),
        (
            "a join that multiplies rows",
            select("a.id", "sample a JOIN sample b ON b.m = a.m AND b.id < 20")
                .order_by([asc("a.id").unique()]),
        ),
        ("the program's wish", select("id", "sample").order_by([asc("id")]).execution(Execution::Sequential)),
    ] {
        let (strategy, rows) = asked_for_ranges(&mc, query).await;
        assert_eq!(strategy, Strategy::Single, "{why}");
        assert!(rows > 0, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_memory_is_read_by_one_statement() {
    let app = SqlitePool::connect("sqlite::memory:").await.unwrap();
    fill(&app).await;
    let mc = over(&app, 2).await;
    let query = ListQuery::<(i64,)>::select("id").from("sample").order_by([asc("id")]);
    assert_eq!(asked_for_ranges(&mc, query).await, (Strategy::Single, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_on_another_server_take_no_part() {
    let (Some(one), Some(other)) = (Cluster::primary().await, Cluster::primary().await) else { return };
    let app = one.pool(2);
    fill(&app).await;
    // The same rows; what differs is only seen by who looks for it.
    fill(&other.pool(1)).await;
    sqlx::raw_sql("DELETE FROM sample WHERE id > 1500").execute(&other.pool(1)).await.unwrap();
    app.set_connect_options(other.options());
    let mc = over(&app, 2).await;
    app.set_connect_options(one.options());
    for _ in 0..20 {
        let query = ListQuery::<(i64,)>::select("id").from("sample").order_by([asc("id")]);
        let query = query.strategy(Strategy::Ranges);
        let list = soon(mc.list(query, Page { limit: 3_000, offset: 0 }, |row| row)).await.unwrap();
        assert_eq!(list.rows(), 3_000);
        assert_eq!(list.mode(), Mode::Sequential(Reason::Unclaimed));
        assert_eq!(list.strategy(), Strategy::Ranges);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_clean_after_exported_snapshots_and_after_exports_that_are_refused() {
    let Some(primary) = Cluster::primary().await else { return };
    let admin = primary.pool(1);
    fill(&admin).await;
    sqlx::raw_sql("CREATE ROLE app LOGIN; GRANT SELECT ON sample TO app").execute(&admin).await.unwrap();
    // A standby's snapshots are always shared by name.
    let standby = primary.standby().await;
    standby.catch_up(&primary).await;
    let options = standby.options().username("app");
    let app = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mc = over(&app, 2).await;
    for (export, want) in [("GRANT", Strategy::Ranges), ("REVOKE", Strategy::Single)] {
        let to = if export == "GRANT" { "TO" } else { "FROM" };
        let sql = format!("{export} EXECUTE ON FUNCTION pg_export_snapshot() {to} PUBLIC");
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
        standby.catch_up(&primary).await;
        for _ in 0..10 {
            let query = ListQuery::<(i64,)>::select("id").from("sample").order_by([asc("id")]);
            let query = query.strategy(Strategy::Ranges).with_count();
            let list = soon(mc.list(query, Page { limit: 2_000, offset: 0 }, |row| row)).await.unwrap();
            assert_eq!((list.rows(), list.around().count), (2_000, Some(3_000)));
            assert_eq!(list.strategy(), want);
            // The pool's one connection, which the page was read on.
            let isolation = "SELECT current_setting('transaction_isolation')";
            let isolation: String = sqlx::query_scalar(isolation).fetch_one(&app).await.unwrap();
            assert_eq!(isolation, "read committed", "still in the page's transaction: {export}");
            // A statement that fails in the owner's range, and so in one statement.
            let failing = |strategy| {
                let query = ListQuery::<(i64,)>::select("100 / (id - 100)").from("sample");
                query.order_by([asc("id")]).strategy(strategy)
            };
            let page = Page { limit: 2_000, offset: 0 };
            let single = soon(mc.list(failing(Strategy::Single), page, |row| row)).await.unwrap_err();
            let ranges = soon(mc.list(failing(Strategy::Ranges), page, |row| row)).await.unwrap_err();
            assert_eq!(format!("{ranges:?}"), format!("{single:?}"), "{export}");
            assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&app).await.unwrap(), 1);
        }
        until_idle(&mc).await;
        let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in%'";
        assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&app).await.unwrap(), 0, "{export}");
    }
}

/// On a standby, where snapshots are always shared by name, sessions that would see other rows in the same one never
/// read the same page, whichever of them is another than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_shared_snapshot_are_in_sessions_that_see_the_same() {
    let Some(primary) = Cluster::primary().await else { return };
    let admin = primary.pool(1);
    fill(&admin).await;
    sqlx::raw_sql("CREATE SCHEMA other; CREATE TABLE other.sample AS SELECT -id AS id FROM sample")
        .execute(&admin)
        .await
        .unwrap();
    sqlx::raw_sql("ALTER TABLE other.sample ADD PRIMARY KEY (id)").execute(&admin).await.unwrap();
    let standby = primary.standby().await;
    standby.catch_up(&primary).await;
    let pages = async |app: &PgPool, mc: &Multicore<Postgres>, schema: &str, why: &str| {
        let (mut ranges, mut helped) = (0, 0);
        for _ in 0..80 {
            let query = ListQuery::<(i64,)>::select("id").from("sample").order_by([asc("id")]);
            let query = query.strategy(Strategy::Ranges);
            let list = soon(mc.list(query, Page { limit: 2_000, offset: 0 }, |row| row)).await.unwrap();
            let first: Vec<(i64,)> = serde_json::from_slice(&list.to_bytes()).unwrap();
            let want = if schema == "other" { -3_000..-1_000 } else { 1..2_001 };
            assert!(first.into_iter().map(|(id,)| id).eq(want), "{why}");
            ranges += u32::from(list.strategy() == Strategy::Ranges);
            helped += u32::from(matches!(list.mode(), Mode::Parallel { .. }));
            let isolation = "SELECT current_setting('transaction_isolation')";
            let isolation: String = sqlx::query_scalar(isolation).fetch_one(app).await.unwrap();
            assert_eq!(isolation, "read committed", "still in the page's transaction: {why}");
        }
        assert_eq!(ranges, 80, "{why}");
        until_idle(mc).await;
        helped
    };
    let in_schema = |schema: &str| standby.options().options([("search_path", schema)]);
    let app = PgPoolOptions::new().max_connections(1).connect_lazy_with(in_schema("public"));
    let mc = over(&app, 2).await;
    assert!(pages(&app, &mc, "public", "all the same").await > 0);
    app.execute("SET search_path = other").await.unwrap();
    assert_eq!(pages(&app, &mc, "other", "the owner's session is another now").await, 0);
    app.execute("SET search_path = public").await.unwrap();
    assert!(pages(&app, &mc, "public", "and the same again").await > 0);
    app.set_connect_options(in_schema("other"));
    let elsewhere = over(&app, 2).await;
    assert_eq!(pages(&app, &elsewhere, "public", "the workers' sessions are others").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_a_range_is_the_one_statements_failure() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    let mc = over(&app, 2).await;
    for bad in [&[100_i64, 2_900][..], &[2_900], &[1]] {
        let query = ListQuery::<Row>::select("id, k, m").from("sample").order_by([asc("id")]);
        let list = mc.list(
            query.strategy(Strategy::Ranges),
            Page { limit: 3_000, offset: 0 },
            move |row: Row| -> Row {
                if bad.contains(&row.0) {
                    std::panic::resume_unwind(Box::new(format!("row {}", row.0)));
                }
                row
            },
        );
        let error = soon(list).await.unwrap_err();
        let first = format!("row {}", bad[0]);
        assert!(matches!(&error, ListError::Panicked { message } if *message == first), "{error:?}");
        until_idle(&mc).await;
    }
}

/// What an order key is called may also be what a column of the result is called, which an order means and
/// a condition does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_also_names_of_the_result_are_never_taken_for_another_column() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    let mc = over(&app, 2).await;
    let first = Paging { limit: 10, start: Start::First, look_ahead: true };
    for columns in ["id, -m AS m", "id, m AS k, k AS m"] {
        let query = || {
            let query = ListQuery::<(i64, Option<i64>)>::select(columns).from("sample");
            query.order_by([asc("m").nulls_last(), asc("id")])
        };
        // By offset it is what the database makes of it.
        let page = Page { limit: 100, offset: 500 };
        let plain = query().execution(Execution::Sequential);
        let plain = soon(mc.list(plain, page, |row| row)).await.unwrap().to_bytes();
        let ours = soon(mc.list(query().strategy(Strategy::Ranges), page, |row| row)).await.unwrap();
        assert_eq!((ours.strategy(), ours.to_bytes()), (Strategy::Single, plain), "{columns}");
        // By cursor it would be another column's.
        let error = soon(mc.list(query(), first.clone(), |row| row)).await.unwrap_err();
        assert!(matches!(&error, ListError::Order { key, .. } if key == "m"), "{columns}: {error:?}");
    }
    // With its table's name it is clear.
    let query = ListQuery::<(i64, i64)>::select("id, -m AS m").from("sample");
    let query = query.order_by([asc("sample.m"), asc("sample.id")]);
    let page = soon(mc.list(query, first, |row| row)).await.unwrap();
    assert!(page.around().next_cursor.is_some());
}

/// An order by an expression, walked to the end by cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expressions_are_walked_as_they_are_ordered() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    let mc = over(&app, 2).await;
    let mut walked = Vec::new();
    let mut start = Start::First;
    loop {
        let query = ListQuery::<(i64,)>::select("id").from("sample");
        let query = query.order_by([desc("m = 3"), desc("m < 2 OR m > 5"), asc("id")]);
        let paging = Paging { limit: 700, start, look_ahead: true };
        let page = soon(mc.list(query, paging, |row| row)).await.unwrap();
        walked.extend(serde_json::from_slice::<Vec<(i64,)>>(&page.to_bytes()).unwrap());
        match page.around().next_cursor.clone() {
            Some(token) => start = Start::After(token),
            None => break,
        }
    }
    let sql = "SELECT id FROM sample ORDER BY m = 3 DESC, (m < 2 OR m > 5) DESC, id";
    let plain: Vec<(i64,)> = sqlx::query_as(sql).fetch_all(&app).await.unwrap();
    assert_eq!(walked, plain);
}

/// Tokio lets a task that has had its share find every channel empty for once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_loses_nothing_when_its_reader_has_had_its_share() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    let mc = over(&app, 2).await;
    let query = || ListQuery::<(i64,)>::select("id").from("sample").order_by([asc("id")]);
    let whole: String = (1..=3_000).map(|id| format!("[{id}]\n")).collect();
    for used in 90..128 {
        let export = soon(mc.stream(query(), |row| row, Format::Ndjson)).await.unwrap();
        let read = tokio::spawn(async move {
            let mut export = std::pin::pin!(export);
            let mut bytes = Vec::new();
            loop {
                for _ in 0..used {
                    tokio::task::consume_budget().await;
                }
                match export.next().await {
                    Some(chunk) => bytes.extend(chunk.unwrap()),
                    None => return bytes,
                }
            }
        });
        assert!(soon(read).await.unwrap() == whole.as_bytes(), "after {used}");
    }
}
