//! A pool's life: it starts whole or not at all, stops when it is told to or when nobody holds it, and
//! leaves nothing behind.

use std::convert::Infallible;
use std::error::Error;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use multicore_axum::Config;
use multicore_core::{
    Execution, ListQuery, Mode, Multicore, Page, RangesError, Reason, ShutdownReport, StartError, StartStep,
    TaskError, asc,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{MySql, Postgres, Sqlite, SqlitePool};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::databases::{people, sqlite, with_mysql, with_postgres};
use crate::support::{
    PLENTY, builder, gate, is_worker, occupy, pool, soon, threads_of, unique, until, until_gone, until_idle,
};

/// Long enough for anything; with a paused clock it is over at once.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is cut where nothing was left to do.
const CLEAN: ShutdownReport = ShutdownReport { joined: 0, cut: 0, stuck: Vec::new() };

// Starting.

#[tokio::test]
async fn threads_are_named_after_the_pool_and_numbered() {
    let name = unique();
    let mc = builder(3).name(&name).start().await.unwrap();
    let names = [format!("{name}-0"), format!("{name}-1"), format!("{name}-2"), format!("{name}-load")];
    until("all threads have their names", || threads_of(&name) == names).await;
    let mut task = mc.task().unwrap();
    task.run(|| std::thread::current().name().map(str::to_owned));
    let ran_on = soon(task.get()).await.unwrap().pop().flatten().unwrap();
    assert!(names[..3].contains(&ran_on), "{ran_on}");
}

#[tokio::test]
async fn without_numbers_a_pool_has_a_worker_for_each_core() {
    let mc = Multicore::<()>::builder().name(unique()).start().await.unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!((mc.stats().workers, mc.stats().cores), (cores, cores));
}

#[tokio::test]
async fn settings_that_mean_nothing_are_refused_with_key_value_and_what_is_accepted() {
    let name = unique();
    let new = || Multicore::<()>::builder().name(&name);
    for (builder, says) in [
        (new().workers(0), "workers is `0`; accepted: a whole number from 1 to 4096"),
        (new().cores(0), "cores is `0`; accepted: a whole number from 1 to 4096"),
        (new().workers(4_097), "workers is `4097`; accepted: a whole number from 1 to 4096"),
        (new().timeout(Duration::ZERO), "timeout is `0s`; accepted: a duration above zero, such as 30s"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(matches!(error, StartError::Setting { .. }));
        assert_eq!(error.to_string(), says);
    }
    for (config, says) in [
        (Config::default().workers(0), "workers is `0`; accepted: a whole number from 1 to 4096"),
        (Config::default().max_limit(0), "max-limit is `0`; accepted: a whole number from 1"),
        (
            Config::default().default_limit(5_000),
            "default-limit is `5000`; accepted: a whole number from 1 to max-limit",
        ),
        (
            Config::default().timeout(Duration::ZERO),
            "timeout is `0s`; accepted: a duration above zero, such as 30s",
        ),
    ] {
        let start = multicore_axum::Multicore::<()>::builder().name(&name).config(config).start();
        assert_eq!(start.await.unwrap_err().to_string(), says);
    }
    assert_eq!(threads_of(&name), [] as [String; 0]);
}

#[tokio::test]
async fn without_the_applications_pool_a_database_pool_does_not_start() {
    let error = Multicore::<Postgres>::builder().start().await.unwrap_err();
    assert_eq!(error.to_string(), "no connection pool for PostgreSQL: call `.pool(…)` on the builder");
    let error = Multicore::<MySql>::builder().start().await.unwrap_err();
    assert_eq!(error.to_string(), "no connection pool for MySQL: call `.pool(…)` on the builder");
}

/// That the start failed at a worker's connection, named a worker, and left no thread.
async fn assert_cannot_connect(error: StartError, name: &str, cause: &str) {
    let StartError::Worker { worker, step, source } = &error else { panic!("{error:?}") };
    assert_eq!(*step, StartStep::Connect);
    assert!([format!("{name}-0"), format!("{name}-1")].contains(worker), "{worker}");
    assert_eq!(error.to_string(), format!("worker {worker} failed to open its database connection"));
    assert!(source.to_string().contains(cause), "{source}");
    assert!(error.source().is_some());
    until_gone(name).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_the_start_at_once() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("nobody");
    let name = unique();
    let start = Multicore::<Postgres>::builder()
        .name(&name)
        .workers(2)
        .pool(PgPoolOptions::new().connect_lazy_with(options));
    assert_cannot_connect(soon(start.start()).await.unwrap_err(), &name, "refused").await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails_the_start_within_the_pools_acquire_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(silent.local_addr().unwrap().port())
        .username("nobody");
    let lazy = PgPoolOptions::new().acquire_timeout(Duration::from_millis(20)).connect_lazy_with(options);
    let name = unique();
    let start = Multicore::<Postgres>::builder().name(&name).workers(2).pool(lazy).start();
    assert_cannot_connect(soon(start).await.unwrap_err(), &name, "no answer within 20ms").await;
}

#[tokio::test]
async fn a_start_that_is_dropped_stops_what_it_started() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(silent.local_addr().unwrap().port())
        .username("nobody");
    let name = unique();
    let lazy = PgPoolOptions::new().connect_lazy_with(options);
    let mut start = Box::pin(Multicore::<Postgres>::builder().name(&name).workers(2).pool(lazy).start());
    let polled = poll_fn(|context| Poll::Ready(start.as_mut().poll(context))).await;
    assert!(polled.is_pending());
    until("its workers connect", || threads_of(&name).len() == 3).await;
    drop(start);
    until_gone(&name).await;
}

#[tokio::test]
async fn a_sqlite_file_that_is_not_there_fails_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("missing.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(false);
    let name = unique();
    let lazy = SqlitePoolOptions::new().connect_lazy_with(options);
    let start = Multicore::<Sqlite>::builder().name(&name).workers(2).pool(lazy).start();
    assert_cannot_connect(soon(start).await.unwrap_err(), &name, "unable to open database file").await;
    assert!(!file.exists());
}

#[tokio::test]
async fn a_database_that_does_not_exist_fails_the_start() {
    with_postgres(async |pool| {
        let options = (*pool.connect_options()).clone().database("no_such_database");
        let name = unique();
        let lazy = PgPoolOptions::new().connect_lazy_with(options);
        let start = Multicore::<Postgres>::builder().name(&name).workers(2).pool(lazy).start();
        let error = soon(start).await.unwrap_err();
        assert_cannot_connect(error, &name, "\"no_such_database\" does not exist").await;
    })
    .await;
}

#[tokio::test]
async fn a_private_memory_database_is_refused_with_what_to_do_instead() {
    let name = unique();
    let private =
        SqlitePoolOptions::new().connect_lazy_with(SqliteConnectOptions::new().filename(":memory:"));
    let start = Multicore::<Sqlite>::builder().name(&name).pool(private).start();
    let error = start.await.unwrap_err();
    assert!(matches!(error, StartError::NotShareable { database: "SQLite", .. }));
    assert!(error.to_string().contains("use a file, or the URL `sqlite::memory:`"), "{error}");
    assert_eq!(threads_of(&name), [] as [String; 0]);
}

#[tokio::test]
async fn a_shared_memory_database_is_one_and_the_same_to_all() {
    let app = SqlitePool::connect("sqlite::memory:").await.unwrap();
    people(&app, 6).await;
    let mc = Multicore::<Sqlite>::builder().name(unique()).workers(2).cores(PLENTY).pool(app);
    let mc = mc.start().await.unwrap();
    until_idle(&mc).await;
    let count = mc.parallel_ranges(2, async |connection, _| {
        Ok::<_, sqlx::Error>(vec![
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM person").fetch_one(connection).await?,
        ])
    });
    assert_eq!(soon(count).await.unwrap(), [6, 6]);
}

#[tokio::test]
async fn workers_and_their_connections_are_up_when_the_start_returns_and_gone_after_the_shutdown() {
    with_postgres(async |pool| {
        let name = unique();
        let options = (*pool.connect_options()).clone().application_name(&name);
        let lazy = PgPoolOptions::new().connect_lazy_with(options);
        let mc = Multicore::<Postgres>::builder().name(&name).workers(3).pool(lazy).start().await.unwrap();
        let backends = async || {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1")
                .bind(&name)
                .fetch_one(&pool)
                .await
                .unwrap()
        };
        assert_eq!(backends().await, 3 + 1, "the workers' and the one to cancel over");
        let report = soon(mc.shutdown(DEADLINE)).await;
        assert_eq!(report, ShutdownReport { joined: 3, ..CLEAN });
        // The server notices a moment later.
        soon(async { while backends().await > 0 {} }).await;
    })
    .await;
}

#[tokio::test]
async fn two_pools_in_one_process_have_nothing_in_common() {
    let (one, other) = (pool(1).await, pool(2).await);
    let (_held, _key) = occupy(&one).await;
    let mut task = other.task().unwrap();
    task.run(|| 1);
    task.run(|| 2);
    assert_eq!(soon(task.get()).await, Ok(vec![1, 2]), "though the other pool is busy");
    soon(other.shutdown(DEADLINE)).await;
    assert!(other.task::<()>().is_none());
    assert!(one.task::<()>().is_some(), "though the other pool has stopped");
}

// Stopping.

#[tokio::test]
async fn dropping_the_last_handle_stops_the_threads() {
    let name = unique();
    let mc = builder(2).name(&name).start().await.unwrap();
    let clone = mc.clone();
    drop(mc);
    let mut task = clone.task().unwrap();
    task.run(|| 1);
    assert_eq!(soon(task.get()).await, Ok(vec![1]), "a clone keeps them");
    drop(clone);
    until_gone(&name).await;
}

#[tokio::test]
async fn what_was_queued_when_the_last_handle_was_dropped_is_finished() {
    let name = unique();
    let mc = builder(1).name(&name).start().await.unwrap();
    let (held, key) = occupy(&mc).await;
    let mut task = mc.task().unwrap();
    (0..10).for_each(|run| task.run(move || run));
    drop(mc);
    key.open();
    assert_eq!(soon(task.get()).await, Ok((0..10).collect()));
    soon(held.get()).await.unwrap();
    until_gone(&name).await;
}

#[tokio::test]
async fn the_last_handle_may_be_dropped_by_a_worker() {
    let name = unique();
    let mc = builder(1).name(&name).start().await.unwrap();
    let mut task = mc.task().unwrap();
    let (key, closed) = gate();
    task.run(move || {
        closed.pass();
        drop(mc);
    });
    key.open();
    soon(task.get()).await.unwrap();
    until_gone(&name).await;
}

#[tokio::test]
async fn a_shutdown_with_nothing_to_do_joins_the_threads() {
    let name = unique();
    let mc = builder(3).name(&name).start().await.unwrap();
    let report = soon(mc.shutdown(DEADLINE)).await;
    assert_eq!(report, ShutdownReport { joined: 3, ..CLEAN });
    assert!(report.is_clean());
    assert_eq!(report.to_string(), "3 workers joined, 0 runs cut");
    let sampler = format!("{name}-load");
    // A joined thread is listed for a moment longer.
    until("only the sampler is left", || threads_of(&name).iter().all(|thread| *thread == sampler)).await;
    drop(mc);
    until_gone(&name).await;
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_queued() {
    let mc = pool(1).await;
    let (held, key) = occupy(&mc).await;
    let mut task = mc.task().unwrap();
    (0..100).for_each(|run| task.run(move || run));
    let stopping = tokio::spawn({
        let mc = mc.clone();
        async move { mc.shutdown(DEADLINE).await }
    });
    until("nothing new is taken", || mc.task::<()>().is_none()).await;
    key.open();
    assert_eq!(soon(stopping).await.unwrap(), ShutdownReport { joined: 1, ..CLEAN });
    assert_eq!(soon(task.get()).await, Ok((0..100).collect()));
    soon(held.get()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_past_its_deadline_says_what_was_cut_and_who_is_stuck() {
    let name = unique();
    let mc = builder(2).name(&name).start().await.unwrap();
    until_idle(&mc).await;
    let ((_one, key), (_other, other_key)) = (occupy(&mc).await, occupy(&mc).await);
    let ran = Arc::new(AtomicUsize::new(0));
    let mut queued = mc.task().unwrap();
    for _ in 0..3 {
        let ran = Arc::clone(&ran);
        queued.run(move || ran.fetch_add(1, Ordering::Relaxed));
    }
    let mut report = mc.shutdown(DEADLINE).await;
    report.stuck.sort();
    let stuck = vec![format!("{name}-0"), format!("{name}-1")];
    assert_eq!(report, ShutdownReport { joined: 0, cut: 3, stuck });
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        format!("0 workers joined, 3 runs cut, still computing: {name}-0, {name}-1")
    );
    assert_eq!(queued.get().await, Err(TaskError::Stopped { finished: 0, of: 3 }));
    assert_eq!(Arc::strong_count(&ran), 1);
    drop(mc);
    key.open();
    other_key.open();
    until_gone(&name).await;
    assert_eq!(ran.load(Ordering::Relaxed), 0, "what was cut never runs");
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_ends_after_the_deadline_is_not_stuck() {
    let mc = pool(1).await;
    let (held, key) = occupy(&mc).await;
    let mut queued = mc.task().unwrap();
    queued.run(|| ());
    let stopping = tokio::spawn({
        let mc = mc.clone();
        async move { mc.shutdown(DEADLINE).await }
    });
    // The queued run is refused at the deadline, before the time to unwind begins.
    assert!(matches!(queued.get().await, Err(TaskError::Stopped { .. })));
    tokio::time::resume();
    key.open();
    assert_eq!(stopping.await.unwrap(), ShutdownReport { joined: 1, cut: 1, stuck: vec![] });
    held.get().await.unwrap();
}

#[tokio::test]
async fn a_second_shutdown_has_nothing_left_to_do() {
    let mc = pool(2).await;
    let (first, second) = tokio::join!(mc.shutdown(DEADLINE), mc.shutdown(DEADLINE));
    assert_eq!(first.joined + second.joined, 2);
    assert!(first.is_clean() && second.is_clean());
    assert_eq!(soon(mc.clone().shutdown(DEADLINE)).await, CLEAN);
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_does_not_report_again_what_the_first_has_cut() {
    let mc = pool(1).await;
    let (_held, key) = occupy(&mc).await;
    let mut queued = mc.task().unwrap();
    queued.run(|| ());
    assert_eq!(mc.shutdown(DEADLINE).await.cut, 1);
    drop(key);
    assert_eq!(mc.shutdown(DEADLINE).await.cut, 0);
}

#[tokio::test]
async fn a_shutdown_that_is_dropped_still_stops_the_pool() {
    let name = unique();
    let mc = builder(1).name(&name).start().await.unwrap();
    let (held, key) = occupy(&mc).await;
    let mut stopping = Box::pin(mc.shutdown(DEADLINE));
    assert!(poll_fn(|context| Poll::Ready(stopping.as_mut().poll(context))).await.is_pending());
    drop(stopping);
    assert!(mc.task::<()>().is_none());
    key.open();
    soon(held.get()).await.unwrap();
    let worker = format!("{name}-0");
    until("the worker ends", || !threads_of(&name).contains(&worker)).await;
}

#[tokio::test]
async fn a_range_that_waits_past_the_deadline_is_cut_and_its_caller_is_told() {
    let mc = pool(2).await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let ranges = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.parallel_ranges(2, async move |(): &mut (), _| {
                arrived.send(()).unwrap();
                pending::<Result<Vec<()>, Infallible>>().await
            })
            .await
        }
    });
    for _ in 0..2 {
        until("a range waits", || arrivals.try_recv().is_ok()).await;
    }
    let report = soon(mc.shutdown(Duration::ZERO)).await;
    assert!(matches!(soon(ranges).await.unwrap(), Err(RangesError::Stopped)));
    assert_eq!((report.joined, report.stuck.len()), (2, 0));
}

#[tokio::test]
async fn a_shutdown_that_cut_ranges_short_does_not_call_itself_clean() {
    let mc = pool(1).await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let ranges = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.parallel_ranges(2, async move |(): &mut (), _| {
                arrived.send(()).unwrap();
                pending::<Result<Vec<()>, Infallible>>().await
            })
            .await
        }
    });
    until("a range waits", || arrivals.try_recv().is_ok()).await;
    let report = soon(mc.shutdown(Duration::ZERO)).await;
    assert!(soon(ranges).await.unwrap().is_err());
    assert!(!report.is_clean(), "{report}: but its caller was told that the pool stopped");
}

#[tokio::test]
async fn after_the_shutdown_lists_maps_and_ranges_go_on_without_workers() {
    let (_folder, app) = sqlite().await;
    people(&app, 100).await;
    let name = unique();
    let mc = Multicore::<Sqlite>::builder().name(&name).workers(2).cores(PLENTY).pool(app);
    let mc = mc.start().await.unwrap();
    let list = async || {
        let query = ListQuery::<(i64, String)>::select("id, name").from("person").order_by([asc("id")]);
        let query = query.execution(Execution::Parallel);
        soon(mc.list(query, Page { limit: 50, offset: 10 }, |row| row)).await.unwrap()
    };
    let before = list().await.to_bytes();
    assert!(soon(mc.shutdown(DEADLINE)).await.is_clean());

    let after = list().await;
    assert_eq!(after.mode(), Mode::Sequential(Reason::Stopped));
    assert_eq!(after.to_bytes(), before);
    assert_eq!(mc.stats().decisions.sequential(Reason::Stopped), 1);

    let (doubled, mode) = mc.map_as(Execution::Parallel, (0..100).collect(), |n| 2 * n).await.unwrap();
    assert_eq!(mode, Mode::Sequential(Reason::Stopped));
    assert_eq!(doubled, (0..100).map(|n| 2 * n).collect::<Vec<i32>>());

    let ranges = mc.parallel_ranges(10, async move |connection, range| {
        assert!(!is_worker(&name));
        sqlx::query_scalar::<_, i64>("SELECT id FROM person ORDER BY id LIMIT ? OFFSET ?")
            .bind((range.end - range.start) as i64)
            .bind(range.start as i64)
            .fetch_all(connection)
            .await
    });
    assert_eq!(soon(ranges).await.unwrap(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_database_the_worker_cannot_reach_any_more_does_not_keep_the_shutdown_waiting() {
    with_mysql(async |pool| {
        let mc = Multicore::<MySql>::builder().name(unique()).workers(2).cores(PLENTY).pool(pool.clone());
        let mc = mc.start().await.unwrap();
        until_idle(&mc).await;
        // Both at once, so that each worker tells its own.
        let both = tokio::sync::Barrier::new(2);
        let ids = mc.parallel_ranges(2, async move |connection, _| {
            both.wait().await;
            Ok::<_, sqlx::Error>(vec![
                sqlx::query_scalar::<_, u64>("SELECT CONNECTION_ID()").fetch_one(connection).await?,
            ])
        });
        for id in soon(ids).await.unwrap() {
            sqlx::query("KILL ?").bind(id).execute(&pool).await.unwrap();
        }
        let report = soon(mc.shutdown(DEADLINE)).await;
        assert_eq!(report, ShutdownReport { joined: 2, ..CLEAN });
    })
    .await;
}
