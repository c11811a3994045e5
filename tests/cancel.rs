//! Lists that are left early: the statement is cancelled in the database, the connection comes back clean,
//! and no cancel ever meets a later statement.

use std::future::Future;
use std::time::Duration;

use multicore_core::{Format, ListError, ListQuery, ListRow, Multicore, Page, SqlDatabase, Strategy, asc};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Executor, MySql, MySqlPool, PgPool, Postgres, Sqlite, SqlitePool};

use crate::databases::{people, sqlite, with_mysql, with_postgres};
use crate::support::{PATIENCE, PLENTY, soon, unique, until_idle};

const PAGE: Page = Page { limit: 10, offset: 0 };

/// Ways of reading from tables that take far longer than any test waits.
const ENDLESS: [Strategy; 2] = [Strategy::Single, Strategy::Ranges];

/// A list that works on a hundred million pairs, none of which is in it.
fn pairs<DB: SqlDatabase>(strategy: Strategy) -> ListQuery<(i64,), DB>
where
    (i64,): ListRow<DB>,
{
    ListQuery::<(i64,)>::select("a.id")
        .from("number a CROSS JOIN number b")
        .filter(|q| {
            q.push("a.id + b.id < 0");
        })
        .order_by([asc("a.id"), asc("b.id")])
        .strategy(strategy)
}

/// The list of all numbers.
fn numbers<DB: SqlDatabase>() -> ListQuery<(i64,), DB>
where
    (i64,): ListRow<DB>,
{
    ListQuery::<(i64,)>::select("id").from("number").order_by([asc("id")])
}

/// Starts what `left` does, and drops it once `running` says that it is under way.
async fn leave<T>(left: impl Future<Output = T>, running: impl Future<Output = ()>) {
    tokio::select! {
        _ = left => panic!("it ended"),
        () = running => {}
    }
}

/// A pool's own application, by whose name its backends are known.
async fn named(app: &PgPool, connections: u32) -> (PgPool, String) {
    let name = unique();
    let options = (*app.connect_options()).clone().application_name(&name);
    (PoolOptions::new().max_connections(connections).connect_lazy_with(options), name)
}

/// Which backends of the application there are, and how many of them are at work.
async fn backends(app: &PgPool, name: &str) -> (Vec<i32>, usize) {
    let sql = "SELECT pid, COALESCE(state = 'active' OR state LIKE 'idle in%', false) FROM pg_stat_activity \
               WHERE application_name = $1 ORDER BY pid";
    let rows: Vec<(i32, bool)> = sqlx::query_as(sql).bind(name).fetch_all(app).await.unwrap();
    let active = rows.iter().filter(|(_, active)| *active).count();
    (rows.into_iter().map(|(pid, _)| pid).collect(), active)
}

/// Waits until one of them has a statement of a list under way. A cancel is a statement too, and the last round's may come
/// when this round's list has no connection yet; a list that is dropped while the pool tries one for it costs that one.
async fn at_work(app: &PgPool, name: &str) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active' \
               AND query NOT LIKE '%pg_cancel_backend%'";
    while sqlx::query_scalar::<_, i64>(sql).bind(name).fetch_one(app).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}

async fn postgres_numbers(app: &PgPool) {
    app.execute("CREATE TABLE number (id bigint PRIMARY KEY)").await.unwrap();
    app.execute("INSERT INTO number SELECT generate_series(1, 10000)").await.unwrap();
    app.execute("ANALYZE number").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_left_list_of_postgres_leaves_no_statement_and_loses_no_connection() {
    with_postgres(async |app| {
        postgres_numbers(&app).await;
        let (pool, name) = named(&app, 2).await;
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).pool(pool);
        let mc = mc.load_source(|| None).start().await.unwrap();
        // Both kinds of guard: a lock, and the backend's number where a function forbids it.
        let sleeping = || {
            ListQuery::<(i64,)>::select("id")
                .from("number")
                .filter(|q| {
                    q.push("pg_sleep(600) IS NOT NULL");
                })
                .order_by([asc("id")])
        };
        let all = soon(mc.list(numbers(), Page { limit: 100, offset: 0 }, |row| row)).await.unwrap();
        let mut before = Vec::new();
        for round in 0..10 {
            let active = at_work(&app, &name);
            match round % 3 {
                0 => leave(mc.list(sleeping(), PAGE, |row| row), active).await,
                1 => leave(mc.list(pairs(Strategy::Single), PAGE, |row| row), active).await,
                _ => leave(mc.list(pairs(Strategy::Ranges), PAGE, |row| row), active).await,
            }
            soon(async {
                while backends(&app, &name).await.1 > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            // On all connections of the pool: none is in the middle of something, none is cancelled.
            let (one, other) = tokio::join!(
                mc.list(numbers(), Page { limit: 100, offset: 0 }, |row| row),
                mc.list(numbers(), Page { limit: 100, offset: 0 }, |row| row)
            );
            assert_eq!(one.unwrap().to_bytes(), all.to_bytes(), "round {round}");
            assert_eq!(other.unwrap().to_bytes(), all.to_bytes(), "round {round}");
            let now = backends(&app, &name).await.0;
            if round >= 3 {
                assert_eq!(now, before, "the same backends as before, in round {round}");
            }
            before = now;
        }
        assert!(before.len() <= 2 + 2 + 1, "the pool's, the workers', the control connection: {before:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_clients_that_leave_costs_no_connection_and_no_other_list() {
    with_postgres(async |app| {
        postgres_numbers(&app).await;
        let (pool, name) = named(&app, 4).await;
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).pool(pool);
        let mc = mc.load_source(|| None).start().await.unwrap();
        let page = Page { limit: 1_000, offset: 0 };
        let all = soon(mc.list(numbers(), page, |row| row)).await.unwrap().to_bytes();
        let mut leaving = tokio::task::JoinSet::new();
        for client in 0..200_u32 {
            let (mc, all) = (mc.clone(), all.clone());
            leaving.spawn(async move {
                if client % 4 == 0 {
                    // One that stays: no cancel that was meant for another may meet it.
                    let list = mc.list(numbers(), page, |row| row).await.unwrap();
                    assert_eq!(list.to_bytes(), all);
                    return;
                }
                let strategy = ENDLESS[client as usize % 2];
                let list = mc.list(pairs(strategy), PAGE, |row| row);
                // Somewhere in the middle: in the queue for a connection, in the statement, before it.
                let left = tokio::time::timeout(Duration::from_micros(u64::from(client % 50) * 300), list);
                assert!(left.await.is_err());
            });
        }
        while let Some(client) = soon(leaving.join_next()).await {
            client.unwrap();
        }
        soon(async {
            while backends(&app, &name).await.1 > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let count = backends(&app, &name).await.0.len();
        assert!(count <= 4 + 2 + 1, "{count} backends");
        let four = (0..4).map(|_| mc.list(numbers(), page, |row| row));
        for list in soon(futures_util::future::join_all(four)).await {
            assert_eq!(list.unwrap().to_bytes(), all);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_runs_out_of_time_is_cancelled_in_the_database() {
    with_postgres(async |app| {
        postgres_numbers(&app).await;
        let (pool, name) = named(&app, 1).await;
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(1).cores(PLENTY).pool(pool);
        let mc = mc.start().await.unwrap();
        for strategy in ENDLESS {
            let after = Duration::from_millis(200);
            let list = mc.list(pairs(strategy).timeout(after), PAGE, |row| row);
            let error = soon(list).await.unwrap_err();
            assert!(matches!(error, ListError::Timeout { after: limit } if limit == after), "{error:?}");
            // The pool has one connection: this waits for it to be clean.
            assert!(soon(mc.list(numbers(), PAGE, |row| row)).await.is_ok());
            // The workers' own connections are cleaned meanwhile.
            soon(async {
                while backends(&app, &name).await.1 > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_left_gives_its_connection_back() {
    with_postgres(async |app| {
        postgres_numbers(&app).await;
        let (pool, name) = named(&app, 1).await;
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(1).cores(PLENTY).pool(pool);
        let mc = mc.start().await.unwrap();
        // Rows without end for a client that takes the first piece and leaves.
        let endless = ListQuery::<(i64,)>::select("a.id").from("number a CROSS JOIN number b");
        let endless = endless.order_by([asc("a.id"), asc("b.id")]);
        let export = soon(mc.stream(endless, |row| row, Format::Ndjson)).await.unwrap();
        assert_eq!(backends(&app, &name).await.1, 1);
        drop(export);
        assert!(soon(mc.list(numbers(), PAGE, |row| row)).await.is_ok());
        assert_eq!(backends(&app, &name).await.1, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_are_left_stop_in_the_database() {
    with_postgres(async |app| {
        let (pool, name) = named(&app, 1).await;
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).pool(pool);
        let mc = mc.start().await.unwrap();
        until_idle(&mc).await;
        let ranges = mc.parallel_ranges(100, async |connection: &mut sqlx::PgConnection, _| {
            sqlx::query_scalar::<_, i64>("SELECT 1::bigint FROM pg_sleep(600)").fetch_all(connection).await
        });
        let active = async {
            while backends(&app, &name).await.1 == 0 {
                tokio::task::yield_now().await;
            }
        };
        leave(ranges, active).await;
        soon(async {
            while backends(&app, &name).await.1 > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
}

/// How many endless lists run on the server. (One that is left while the driver still prepares it costs
/// its connection, which sqlx then cannot read any more.)
async fn mysql_active(app: &MySqlPool) -> i64 {
    let sql = "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.PROCESSLIST \
               WHERE DB = DATABASE() AND COMMAND = 'Execute' AND INFO LIKE 'SELECT a.id%'";
    sqlx::query_scalar(sql).fetch_one(app).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_left_list_of_mysql_leaves_no_statement_and_loses_no_connection() {
    with_mysql(async |app| {
        app.execute("CREATE TABLE number (id bigint PRIMARY KEY)").await.unwrap();
        let thousand =
            "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1000) SELECT id";
        app.execute(AssertSqlSafe(format!("INSERT INTO number {thousand} FROM n"))).await.unwrap();
        let more = "INSERT INTO number SELECT a.id * 1000 + b.id FROM number a JOIN number b ON a.id <= 9";
        app.execute(more).await.unwrap();
        let pool: MySqlPool =
            PoolOptions::new().max_connections(1).connect_lazy_with((*app.connect_options()).clone());
        let mc = Multicore::<MySql>::builder().name(unique()).workers(1).cores(PLENTY).pool(pool);
        let mc = mc.start().await.unwrap();
        let id = async || {
            let query = ListQuery::<(u64,)>::select("CONNECTION_ID()").from("number").order_by([asc("id")]);
            soon(mc.list(query, Page { limit: 1, offset: 0 }, |row| row)).await.unwrap().to_bytes()
        };
        let before = id().await;
        for _ in 0..5 {
            let active = async {
                while mysql_active(&app).await == 0 {
                    tokio::task::yield_now().await;
                }
            };
            leave(mc.list(pairs(Strategy::Auto), PAGE, |row| row), active).await;
            // The pool has one connection, and it is the same one.
            assert_eq!(id().await, before);
            // The server's own view of a statement that has ended lags behind.
            soon(async { while mysql_active(&app).await > 0 {} }).await;
        }
    })
    .await;
}

/// A pool of one connection over a file with so many numbers.
async fn sqlite_numbers(app: &SqlitePool) -> SqlitePool {
    people(app, 10_000).await;
    app.execute("CREATE VIEW unused AS SELECT 1; ALTER TABLE person RENAME TO number").await.unwrap();
    let options = (*app.connect_options()).clone();
    PoolOptions::new().max_connections(1).acquire_timeout(PATIENCE).connect_lazy_with(options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_left_list_of_sqlite_is_interrupted() {
    let (_folder, app) = sqlite().await;
    let pool = sqlite_numbers(&app).await;
    let mc = Multicore::<Sqlite>::builder().name(unique()).workers(2).cores(PLENTY).pool(pool.clone());
    let mc = mc.load_source(|| None).start().await.unwrap();
    let all = soon(mc.list(numbers(), PAGE, |row| row)).await.unwrap().to_bytes();
    for round in 0..6 {
        let strategy = ENDLESS[round % 2];
        // Nobody sees from outside that it runs: it has the pool's connection, and has had it for a while.
        let running = async {
            while pool.num_idle() > 0 || pool.size() == 0 {
                tokio::task::yield_now().await;
            }
            for _ in 0..200 * round {
                tokio::task::yield_now().await;
            }
        };
        leave(mc.list(pairs(strategy), PAGE, |row| row), running).await;
        let list = soon(mc.list(numbers(), PAGE, |row| row)).await.unwrap();
        assert_eq!(list.to_bytes(), all, "round {round}");
        until_idle(&mc).await;
    }
}
