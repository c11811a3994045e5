//! `parallel_ranges`: a length split over the workers' own connections, or over the application's pool
//! when no worker is free. The order holds, and a failure costs nobody else anything. What becomes of the
//! connections is in `range_connections`.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multicore_core::{Database, Execution, LoadLimit, Multicore, RangesError, Reason};
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgConnection, PgPool, Postgres, Sqlite};
use tokio::sync::mpsc;

use crate::databases::{SCARCE, people, sqlite, with_postgres};
use crate::support::{PLENTY, builder, gate, is_worker, occupy, pool, soon, unique, until, until_idle};

/// A pool over the application's, all workers parked.
pub(crate) async fn over<DB: Database>(app: DB::Pool, workers: usize) -> Multicore<DB> {
    let mc = Multicore::<DB>::builder().name(unique()).workers(workers).cores(PLENTY);
    let mc = mc.load_source(|| None).pool(app).start().await.unwrap();
    until_idle(&mc).await;
    mc
}

/// A range that gives its own numbers.
async fn numbers((): &mut (), range: Range<u64>) -> Result<Vec<u64>, Infallible> {
    Ok(range.collect())
}

/// The backend that serves this connection.
pub(crate) async fn pid(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await
}

/// The backends of all workers.
pub(crate) async fn pids(mc: &Multicore<Postgres>) -> HashSet<i32> {
    until_idle(mc).await;
    let workers = mc.stats().workers;
    // All at once, so that no worker serves two.
    let barrier = Arc::new(tokio::sync::Barrier::new(workers));
    let pids = mc.parallel_ranges(workers as u64, async move |connection, _| {
        barrier.wait().await;
        Ok::<_, sqlx::Error>(vec![pid(connection).await?])
    });
    let pids = soon(pids).await.unwrap().into_iter().collect();
    // So that the next call finds them free as well.
    until_idle(mc).await;
    pids
}

// Order and splitting.

#[tokio::test]
async fn results_come_in_the_order_of_the_ranges_for_any_length() {
    for workers in 1..=4 {
        let mc = pool(workers).await;
        for len in [0, 1, 2, 3, 4, 5, 7, 1_000] {
            until_idle(&mc).await;
            let all = soon(mc.parallel_ranges(len, numbers)).await.unwrap();
            assert_eq!(all, (0..len).collect::<Vec<_>>(), "{workers} workers");
        }
    }
}

#[tokio::test]
async fn results_come_in_the_order_of_the_ranges_when_the_first_is_the_last_to_finish() {
    let mc = pool(2).await;
    let second = tokio::sync::Semaphore::new(0);
    let second = Arc::new(second);
    let all = mc.parallel_ranges(10, async move |(): &mut (), range: Range<u64>| {
        if range.start == 0 {
            second.acquire().await.unwrap().forget();
        } else {
            second.add_permits(1);
        }
        Ok::<_, Infallible>(range.collect())
    });
    assert_eq!(soon(all).await.unwrap(), (0..10).collect::<Vec<u64>>());
}

#[tokio::test]
async fn an_empty_length_gives_an_empty_list_without_a_call() {
    let mc = pool(2).await;
    let called = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&called);
    let none = mc.parallel_ranges(0, async move |(): &mut (), _| {
        calls.fetch_add(1, Ordering::Relaxed);
        Ok::<Vec<()>, Infallible>(vec![])
    });
    assert_eq!(soon(none).await.unwrap(), []);
    assert_eq!(called.load(Ordering::Relaxed), 0);
}

/// The ranges that `mc` makes of ten.
async fn split(mc: &Multicore<()>) -> Vec<Range<u64>> {
    let split = mc.parallel_ranges(10, async |(): &mut (), range| Ok::<_, Infallible>(vec![range]));
    soon(split).await.unwrap()
}

#[tokio::test]
async fn there_is_a_range_for_each_worker_and_one_where_help_is_refused() {
    let mc = pool(4).await;
    assert_eq!(split(&mc).await, [0..3, 3..6, 6..9, 9..10]);
    assert_eq!(mc.stats().decisions.parallel(), 1);

    let mc = builder(4).cores(1).start().await.unwrap();
    assert_eq!(split(&mc).await, [Range { start: 0, end: 10 }]);
    assert_eq!(mc.stats().decisions.sequential(Reason::OneCore), 1);

    let limit = LoadLimit::from_number(0.5).unwrap();
    let mc = builder(4).max_load_average(limit).load_source(|| Some(1e6)).start().await.unwrap();
    assert_eq!(split(&mc).await, [Range { start: 0, end: 10 }]);
    assert_eq!(mc.stats().decisions.sequential(Reason::LoadAverage), 1);

    let mc = builder(2).cores(2).start().await.unwrap();
    let (_one, _key) = occupy(&mc).await;
    let (_other, _other_key) = occupy(&mc).await;
    assert_eq!(split(&mc).await, [Range { start: 0, end: 10 }]);
    assert_eq!(mc.stats().decisions.sequential(Reason::Busy), 1);
}

// Failures.

#[tokio::test]
async fn an_error_arrives_at_once_with_its_range_while_others_hang() {
    let mc = pool(2).await;
    let failing = mc.parallel_ranges(10, async |(): &mut (), range: Range<u64>| {
        if range.start == 0 { pending().await } else { Err::<Vec<()>, _>(io::Error::other("no such row")) }
    });
    let error = soon(failing).await.unwrap_err();
    assert_eq!(error.to_string(), "range 5..10 failed");
    let RangesError::Failed { range, source } = error else { panic!("{error:?}") };
    assert_eq!((range, source.to_string().as_str()), (5..10, "no such row"));
    until_idle(&mc).await;
    assert_eq!(soon(mc.parallel_ranges(10, numbers)).await.unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_panic_arrives_at_once_with_its_range_and_message_while_others_hang() {
    let mc = pool(2).await;
    let failing = mc.parallel_ranges(10, async |(): &mut (), range: Range<u64>| {
        if range.start == 0 {
            pending::<()>().await;
        }
        if range.start > 0 {
            panic!("boom {}", range.start);
        }
        Ok::<Vec<()>, Infallible>(vec![])
    });
    let error = soon(failing).await.unwrap_err();
    assert_eq!(error.to_string(), "range 5..10 panicked: boom 5");
    assert!(matches!(error, RangesError::Panicked { range: Range { start: 5, end: 10 }, .. }));
}

#[tokio::test]
async fn a_panic_costs_nobody_else_anything() {
    let mc = pool(2).await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let released = Mutex::new(Some(released));
    let other = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.parallel_ranges(1, async move |(): &mut (), range: Range<u64>| {
                arrived.send(()).unwrap();
                let released = released.lock().unwrap().take().unwrap();
                released.await.unwrap();
                Ok::<_, Infallible>(range.collect::<Vec<_>>())
            })
            .await
        }
    });
    until("the other is under way", || arrivals.try_recv().is_ok()).await;
    for _ in 0..20 {
        let failing = mc.parallel_ranges(4, async |(): &mut (), _| -> Result<Vec<()>, Infallible> {
            panic!("on purpose")
        });
        assert!(matches!(soon(failing).await, Err(RangesError::Panicked { .. })));
    }
    release.send(()).unwrap();
    assert_eq!(soon(other).await.unwrap().unwrap(), [0]);
    until_idle(&mc).await;
    assert_eq!(soon(mc.parallel_ranges(9, numbers)).await.unwrap(), (0..9).collect::<Vec<_>>());
}

/// Counts the drops of what a range holds.
struct CountsDrops(Arc<AtomicUsize>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn dropping_the_future_drops_the_ranges_that_run_and_begins_no_others() {
    let mc = pool(2).await;
    let (held, key) = occupy(&mc).await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = Arc::clone(&dropped);
    let ranges = mc.parallel_ranges(10, async move |(): &mut (), range: Range<u64>| {
        let _counted = CountsDrops(Arc::clone(&drops));
        arrived.send(range).unwrap();
        pending::<Result<Vec<()>, Infallible>>().await
    });
    tokio::select! {
        biased;
        first = soon(arrivals.recv()) => assert_eq!(first, Some(0..5)),
        _ = ranges => panic!("the ranges never end"),
    }
    until("the running range is dropped", || dropped.load(Ordering::Relaxed) == 1).await;
    key.open();
    soon(held.get()).await.unwrap();
    until_idle(&mc).await;
    assert_eq!(mc.stats().queue, 0);
    assert!(arrivals.recv().await.is_none(), "the other range began");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_how_many_ranges_had_finished() {
    let after = Duration::from_secs(9);
    let mc = builder(2).timeout(after).start().await.unwrap();
    until_idle(&mc).await;
    let gone = Arc::new(AtomicUsize::new(0));
    let drops = Arc::clone(&gone);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let ranges = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.parallel_ranges(10, async move |(): &mut (), range: Range<u64>| {
                let _counted = CountsDrops(Arc::clone(&drops));
                arrived.send(()).unwrap();
                if range.start > 0 { pending().await } else { Ok::<Vec<()>, Infallible>(vec![]) }
            })
            .await
        }
    });
    for _ in 0..2 {
        until("a range is under way", || arrivals.try_recv().is_ok()).await;
    }
    until("the first range has ended", || mc.stats().busy == 1).await;
    let error = ranges.await.unwrap().unwrap_err();
    assert!(matches!(error, RangesError::Timeout { finished: 1, of: 2, .. }), "{error:?}");
    assert_eq!(error.to_string(), "1 of 2 ranges finished within 9s");
    until("the other range is dropped", || gone.load(Ordering::Relaxed) == 2).await;
}

// Without a free worker.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_workers_in_long_runs_the_applications_pool_stands_in() {
    let (_folder, app) = sqlite().await;
    people(&app, 10).await;
    let name = unique();
    let mc = Multicore::<Sqlite>::builder().name(&name).workers(2).cores(PLENTY).pool(app);
    let mc = mc.start().await.unwrap();
    let (_one, _key) = occupy(&mc).await;
    let (_other, _other_key) = occupy(&mc).await;
    let ids = mc.parallel_ranges(10, async move |connection, range| {
        assert!(!is_worker(&name));
        sqlx::query_scalar::<_, i64>("SELECT id FROM person ORDER BY id LIMIT ? OFFSET ?")
            .bind((range.end - range.start) as i64)
            .bind(range.start as i64)
            .fetch_all(connection)
            .await
    });
    assert_eq!(soon(ids).await.unwrap(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_workers_in_long_runs_and_a_job_open_the_ranges_still_answer() {
    let mc = pool(1).await;
    let (_held, _key) = occupy(&mc).await;
    let (_key_of_job, closed) = gate();
    let job = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.map_as(Execution::Parallel, (0..100).collect(), move |item: i32| {
                // The first one comes before the job is shared.
                if item > 0 {
                    closed.pass();
                }
            })
            .await
        }
    });
    until("the job is open and its owner in it", || mc.stats().jobs == 1).await;
    let ranges = tokio::time::timeout(Duration::from_secs(5), mc.parallel_ranges(10, numbers)).await;
    assert_eq!(ranges.expect("the ranges wait behind the long run").unwrap(), (0..10).collect::<Vec<_>>());
    job.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_ran_one_after_the_other_are_not_counted_as_parallel() {
    let mc = pool(2).await;
    let (_one, _key) = occupy(&mc).await;
    let (_other, _other_key) = occupy(&mc).await;
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&threads);
    let stood_in = mc.parallel_ranges(10, async move |(): &mut (), range: Range<u64>| {
        seen.lock().unwrap().insert(std::thread::current().id());
        Ok::<_, Infallible>(range.collect())
    });
    assert_eq!(soon(stood_in).await.unwrap(), (0..10).collect::<Vec<u64>>());
    assert_eq!(threads.lock().unwrap().len(), 1);
    assert_eq!(mc.stats().decisions.parallel(), 0, "{:?}", mc.stats().decisions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_a_range_that_stands_in_are_reported_as_those_of_a_workers() {
    let mc = pool(1).await;
    let (_held, _key) = occupy(&mc).await;
    let failing = mc.parallel_ranges(3, async |(): &mut (), _| Err::<Vec<()>, _>(io::Error::other("no")));
    assert_eq!(soon(failing).await.unwrap_err().to_string(), "range 0..3 failed");
    let panicking =
        mc.parallel_ranges(3, async |(): &mut (), _| -> Result<Vec<()>, Infallible> { panic!("boom") });
    assert_eq!(soon(panicking).await.unwrap_err().to_string(), "range 0..3 panicked: boom");
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = Arc::clone(&dropped);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let hanging = mc.parallel_ranges(3, async move |(): &mut (), _| {
        let _counted = CountsDrops(Arc::clone(&drops));
        arrived.send(()).unwrap();
        pending::<Result<Vec<()>, Infallible>>().await
    });
    tokio::select! {
        _ = hanging => panic!("it never ends"),
        _ = soon(arrivals.recv()) => {}
    }
    until("it is dropped", || dropped.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_a_range_that_stands_in_does_not_give_a_dirty_connection_back() {
    with_postgres(async |app| {
        let one = PgPoolOptions::new().max_connections(1).connect_with((*app.connect_options()).clone());
        let one = one.await.unwrap();
        let mc = over::<Postgres>(one.clone(), 1).await;
        let (_held, _key) = occupy(&mc).await;
        let panicking = mc.parallel_ranges(1, async |connection, _| -> Result<Vec<()>, sqlx::Error> {
            connection.execute("BEGIN; SET LOCAL application_name = 'dirty'").await?;
            panic!("on purpose")
        });
        assert!(matches!(soon(panicking).await, Err(RangesError::Panicked { .. })));
        let name: String = soon(sqlx::query_scalar("SHOW application_name").fetch_one(&one)).await.unwrap();
        assert_ne!(name, "dirty", "the application's next query runs inside the range's transaction");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_neither_a_worker_nor_a_connection_free_the_range_is_named() {
    let (_folder, app) = sqlite().await;
    let options = (*app.connect_options()).clone();
    let one = PoolOptions::<Sqlite>::new().max_connections(1).acquire_timeout(SCARCE);
    let one = one.connect_with(options).await.unwrap();
    let mc = over::<Sqlite>(one.clone(), 1).await;
    let (_held, _key) = occupy(&mc).await;
    let _taken = one.acquire().await.unwrap();
    let ranges = mc.parallel_ranges(3, async |_, _| Ok::<Vec<()>, sqlx::Error>(vec![]));
    let error = soon(ranges).await.unwrap_err();
    assert_eq!(error.to_string(), "no connection for range 0..3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_within_a_range_do_not_wait_for_each_other() {
    let mc = pool(1).await;
    let inner = mc.clone();
    let nested = mc.parallel_ranges(3, async move |(): &mut (), range: Range<u64>| {
        inner.parallel_ranges(range.end, numbers).await
    });
    assert_eq!(soon(nested).await.unwrap(), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_two_databases_work_side_by_side() {
    with_postgres(async |app: PgPool| {
        let (_folder, file) = sqlite().await;
        people(&file, 50).await;
        let (postgres, lite) = (over::<Postgres>(app, 2).await, over::<Sqlite>(file, 2).await);
        for _ in 0..20 {
            let series = postgres.parallel_ranges(50, async |connection, range: Range<u64>| {
                sqlx::query_scalar::<_, i64>("SELECT generate_series($1, $2)")
                    .bind(range.start as i64 + 1)
                    .bind(range.end as i64)
                    .fetch_all(connection)
                    .await
            });
            let ids = lite.parallel_ranges(50, async |connection, range: Range<u64>| {
                sqlx::query_scalar::<_, i64>("SELECT id FROM person ORDER BY id LIMIT ? OFFSET ?")
                    .bind((range.end - range.start) as i64)
                    .bind(range.start as i64)
                    .fetch_all(connection)
                    .await
            });
            let (series, ids) = soon(async { tokio::join!(series, ids) }).await;
            assert_eq!(series.unwrap(), (1..=50).collect::<Vec<_>>());
            assert_eq!(ids.unwrap(), (1..=50).collect::<Vec<_>>());
        }
    })
    .await;
}
