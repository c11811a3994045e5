//! Databases that fail in the middle: backends killed, servers restarted, servers that are away. Each page
//! is right or a clear error, never a part; the server goes on, and recovers by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use multicore_core::{Format, ListError, ListQuery, Multicore, Page, Strategy, asc};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Postgres, Row};

use crate::clusters::{Cluster, PgBouncer, Stop, one};
use crate::databases::with_postgres;
use crate::support::{PLENTY, soon, unique, until};

const PAGE: Page = Page { limit: 1_000, offset: 500 };

fn numbers(strategy: Strategy) -> ListQuery<(i64, String), Postgres> {
    let query = ListQuery::<(i64, String)>::select("id, name").from("number").order_by([asc("id")]);
    query.strategy(strategy)
}

async fn fill(app: &PgPool) {
    app.execute("CREATE TABLE number (id bigint PRIMARY KEY, name text NOT NULL)").await.unwrap();
    app.execute("INSERT INTO number SELECT n, 'number ' || n FROM generate_series(1, 3000) n").await.unwrap();
}

fn expected() -> Vec<u8> {
    let rows: Vec<_> = (501..=1_500).map(|n| (n, format!("number {n}"))).collect();
    serde_json::to_vec(&rows).unwrap()
}

/// What became of pages that were read while something was done to their database.
#[derive(Debug, Default)]
struct Tally {
    right: AtomicUsize,
    refused: AtomicUsize,
}

/// Reads pages from several tasks until told to stop, and at least so many.
async fn read(mc: &Multicore<Postgres>, pages: usize, stop: Arc<AtomicBool>) -> Tally {
    let tally = Arc::new(Tally::default());
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..4 {
        let (mc, tally, stop) = (mc.clone(), Arc::clone(&tally), Arc::clone(&stop));
        readers.spawn(async move {
            let expected = expected();
            let mut n = reader;
            let read = || tally.right.load(Ordering::Relaxed) + tally.refused.load(Ordering::Relaxed);
            while !stop.load(Ordering::Relaxed) || read() < pages {
                n += 1;
                let strategy = [Strategy::Ranges, Strategy::Single, Strategy::Auto][n % 3];
                match mc.list(numbers(strategy), PAGE, |row| row).await {
                    Ok(list) => {
                        assert_eq!(list.to_bytes(), expected, "by {:?}", list.strategy());
                        tally.right.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(ListError::Database(_) | ListError::Overloaded) => {
                        tally.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    Arc::into_inner(tally).unwrap()
}

async fn over(app: PgPool) -> Multicore<Postgres> {
    let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).load_source(|| None);
    mc.pool(app).start().await.unwrap()
}

/// After whatever was done, lists work again, through every strategy.
async fn recovers(mc: &Multicore<Postgres>) {
    for strategy in [Strategy::Single, Strategy::Ranges, Strategy::Auto] {
        soon(async {
            loop {
                match mc.list(numbers(strategy), PAGE, |row| row).await {
                    Ok(list) => return assert_eq!(list.to_bytes(), expected()),
                    Err(ListError::Database(_) | ListError::Overloaded) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other:?}"),
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_right_or_refused_while_backends_are_killed() {
    with_postgres(async |app| {
        fill(&app).await;
        let name = unique();
        let options = (*app.connect_options()).clone().application_name(&name);
        let mc = over(PoolOptions::new().max_connections(4).connect_lazy_with(options)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let killer = {
            let (stop, app) = (Arc::clone(&stop), app.clone());
            async move {
                let mut killed = 0;
                for _ in 0..60 {
                    let sql = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                               WHERE application_name = $1 ORDER BY random() LIMIT 1) AS one";
                    killed += sqlx::query_scalar::<_, i64>(sql).bind(&name).fetch_one(&app).await.unwrap();
                    // Some pages in between.
                    for _ in 0..20 {
                        app.execute("SELECT 1").await.unwrap();
                    }
                }
                stop.store(true, Ordering::Relaxed);
                killed
            }
        };
        let (tally, killed) = soon(async { tokio::join!(read(&mc, 1_000, stop), killer) }).await;
        let (right, refused) = (tally.right.into_inner(), tally.refused.into_inner());
        println!("{killed} backends killed: {right} pages right, {refused} refused");
        assert!(killed >= 30, "{killed}");
        // Nearly every lost connection is made good by the retry.
        assert!(right >= 900 && refused <= killed as usize, "{right} right, {refused} refused");
        recovers(&mc).await;
    })
    .await;
}

/// A statement that the database gives up for something else's sake, such as a standby for its replay, is done again:
/// once, and on a connection that is clean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_gives_up_is_read_again_once() {
    // The name is that of a function without effects. A sequence counts on whatever becomes of its transaction.
    const CONFLICT: &str = "
        CREATE SEQUENCE tries;
        CREATE TABLE refuse (tries bigint);
        INSERT INTO refuse VALUES (0);
        CREATE FUNCTION lower(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
            IF $1 = 700 AND nextval('tries') <= (SELECT tries FROM refuse) THEN
                RAISE 'given up' USING ERRCODE = '40001';
            END IF;
            RETURN $1;
        END $$";
    with_postgres(async |app| {
        fill(&app).await;
        app.execute(sqlx::raw_sql(CONFLICT)).await.unwrap();
        let expected: Vec<(i64,)> = (501..=1_500).map(|n| (n,)).collect();
        let query = |strategy| {
            let query = ListQuery::<(i64,)>::select("lower(id)").from("number").order_by([asc("id")]);
            query.strategy(strategy)
        };
        for pooling in [false, true] {
            // One connection, which is dirty for the second try if it is not cleaned.
            let pool =
                PoolOptions::new().max_connections(1).connect_lazy_with((*app.connect_options()).clone());
            let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY);
            let mc = mc
                .load_source(|| None)
                .transaction_pooling(pooling)
                .pool(pool.clone())
                .start()
                .await
                .unwrap();
            for strategy in [Strategy::Single, Strategy::Ranges, Strategy::Auto] {
                // Ranges that fail are read by one statement, and that once more.
                for refused in 0..5 {
                    app.execute(AssertSqlSafe(format!("UPDATE refuse SET tries = {refused}"))).await.unwrap();
                    app.execute("SELECT setval('tries', 1, false)").await.unwrap();
                    let why = format!("{strategy:?}, {refused} refused, pooling: {pooling}");
                    match soon(mc.list(query(strategy), PAGE, |row| row)).await {
                        Ok(list) => {
                            assert_eq!(list.to_bytes(), serde_json::to_vec(&expected).unwrap(), "{why}");
                            assert!(refused < 2 || strategy != Strategy::Single, "{why}");
                        }
                        Err(error) => {
                            assert!(matches!(error, ListError::Database(_)), "{why}: {error:?}");
                            assert!(refused >= 2, "{why}");
                        }
                    }
                    let used: i64 = one(&app, "SELECT last_value FROM tries").await;
                    assert!((1..=5).contains(&used), "{why}: {used} tries");
                    // Whoever comes next has a connection outside of any transaction.
                    let outside = sqlx::raw_sql("SELECT now() = statement_timestamp()");
                    assert!(pool.fetch_one(outside).await.unwrap().get::<bool, _>(0), "{why}");
                }
            }
            for refused in 0..3 {
                app.execute(AssertSqlSafe(format!("UPDATE refuse SET tries = {refused}"))).await.unwrap();
                app.execute("SELECT setval('tries', 1, false)").await.unwrap();
                let query = query(Strategy::Auto).filter(|q| {
                    q.push("id BETWEEN 501 AND 1500");
                });
                let export = soon(mc.stream(query, |row| row, Format::JsonArray)).await;
                match export {
                    Ok(export) => {
                        assert!(refused < 2, "{refused}");
                        let chunks = soon(export.try_collect::<Vec<_>>()).await.unwrap();
                        assert_eq!(chunks.concat(), serde_json::to_vec(&expected).unwrap());
                    }
                    Err(error) => {
                        assert!(
                            matches!(error, ListError::Database(_)) && refused == 2,
                            "{refused}: {error:?}"
                        );
                    }
                }
            }
            mc.shutdown(Duration::from_secs(5)).await;
            pool.close().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_right_or_refused_while_the_server_restarts() {
    let Some(cluster) = Cluster::primary().await else { return };
    fill(&cluster.pool(1)).await;
    let pool = PoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(1));
    let mc = over(pool.connect_lazy_with(cluster.options())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let restarts = async {
        for how in [Stop::Immediate, Stop::Fast, Stop::Immediate] {
            cluster.restart(how).await;
            recovers(&mc).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (tally, ()) = soon(async { tokio::join!(read(&mc, 1_000, Arc::clone(&stop)), restarts) }).await;
    println!("restarted three times: {tally:?}");
    assert!(tally.right.into_inner() > 0);
    recovers(&mc).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_an_error_of_the_list_and_not_of_the_server() {
    let Some(cluster) = Cluster::primary().await else { return };
    fill(&cluster.pool(1)).await;
    let pool = PoolOptions::new().max_connections(2).acquire_timeout(Duration::from_millis(300));
    let mc = over(pool.connect_lazy_with(cluster.options())).await;
    recovers(&mc).await;
    cluster.stop(Stop::Immediate).await;
    for strategy in [Strategy::Single, Strategy::Ranges, Strategy::Auto] {
        let error = soon(mc.list(numbers(strategy), PAGE, |row| row)).await.unwrap_err();
        assert!(matches!(error, ListError::Database(_) | ListError::Overloaded), "{error:?}");
    }
    // What needs no database goes on.
    assert_eq!(soon(mc.parallel_map(vec![1, 2, 3], |n| n * 2)).await.unwrap(), [2, 4, 6]);
    cluster.start().await;
    recovers(&mc).await;
    // The workers' connections too: sooner or later one takes a range again.
    let mut helped = false;
    for _ in 0..2_000 {
        let list = soon(mc.list(numbers(Strategy::Ranges), PAGE, |row| row)).await.unwrap();
        assert_eq!(list.to_bytes(), expected());
        if matches!(list.mode(), multicore_core::Mode::Parallel { .. }) {
            helped = true;
            break;
        }
        until("the workers are parked", || mc.stats().busy == 0).await;
    }
    assert!(helped, "no worker ever came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_transaction_and_no_snapshot_outlives_its_page() {
    with_postgres(async |app| {
        fill(&app).await;
        let name = unique();
        let options = (*app.connect_options()).clone().application_name(&name);
        let mc = over(PoolOptions::new().max_connections(2).connect_lazy_with(options)).await;
        let mut other = PgConnection::connect_with(&app.connect_options()).await.unwrap();
        for n in 0..200 {
            // A commit now and then, so that snapshots move and are exported.
            other
                .execute("CREATE TABLE IF NOT EXISTS noise (n int); INSERT INTO noise VALUES (1)")
                .await
                .unwrap();
            let list = mc.list(numbers(Strategy::Ranges), PAGE, |row| row);
            if n % 3 == 0 {
                let left = tokio::time::timeout(Duration::from_micros(n * 20), list).await;
                drop(left);
            } else {
                assert_eq!(soon(list).await.unwrap().to_bytes(), expected());
            }
        }
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND \
                    (state <> 'idle' OR backend_xmin IS NOT NULL)";
        soon(async {
            while sqlx::query_scalar::<_, i64>(open).bind(&name).fetch_one(&app).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_work_behind_a_pooler_in_transaction_mode() {
    let Some(cluster) = Cluster::primary().await else { return };
    fill(&cluster.pool(1)).await;
    // Fewer server connections than clients, so that each statement may meet another one.
    let Some(bouncer) = PgBouncer::new(&cluster, 2).await else { return };
    let options = bouncer.options().statement_cache_capacity(0);
    let pool = PoolOptions::new().max_connections(4).connect_lazy_with(options);
    let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).load_source(|| None);
    let mc = mc.transaction_pooling(true).pool(pool).start().await.unwrap();
    let stop = Arc::new(AtomicBool::new(true));
    let tally = soon(read(&mc, 300, stop)).await;
    assert_eq!(tally.refused.into_inner(), 0, "{} right", tally.right.into_inner());
    let paging = multicore_core::Paging { limit: 10, start: multicore_core::Start::First, look_ahead: true };
    let first = soon(mc.list(numbers(Strategy::Auto).with_count(), paging, |row| row)).await.unwrap();
    assert_eq!(first.around().count, Some(3_000));
    let after = multicore_core::Start::After(first.around().next_cursor.clone().unwrap());
    let paging = multicore_core::Paging { limit: 10, start: after, look_ahead: true };
    let next = soon(mc.list(numbers(Strategy::Auto), paging, |row| row)).await.unwrap();
    assert!(next.to_bytes().starts_with(b"[[11,"));
    let export = soon(mc.stream(numbers(Strategy::Auto), |row| row, multicore_core::Format::Ndjson));
    let export = export.await.unwrap();
    let lines = futures_util::StreamExt::fold(export, 0, async |lines, chunk| {
        lines + chunk.unwrap().iter().filter(|byte| **byte == b'\n').count()
    });
    assert_eq!(soon(lines).await, 3_000);
}
