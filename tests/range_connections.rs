//! The connections that `parallel_ranges` lends: whatever a range does with one, the next user notices nothing.

use std::ops::Range;

use multicore_core::RangesError;
use sqlx::{ConnectOptions, Executor, MySql, Postgres, Sqlite};
use tokio::sync::mpsc;

use crate::databases::{people, sqlite, with_mysql, with_postgres};
use crate::ranges::{over, pid, pids};
use crate::support::{soon, until_idle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_workers_keep_their_connections() {
    with_postgres(async |app| {
        let mc = over::<Postgres>(app, 2).await;
        let first = pids(&mc).await;
        assert_eq!(first.len(), 2);
        for call in 0..100 {
            assert_eq!(pids(&mc).await, first, "call {call}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_rebuilt_after_a_panic_and_after_a_cancelled_range() {
    with_postgres(async |app| {
        let mc = over::<Postgres>(app, 1).await;
        let first = pids(&mc).await;
        let panicking = mc.parallel_ranges(1, async |connection, _| -> Result<Vec<()>, sqlx::Error> {
            connection.execute("BEGIN; SET application_name = 'dirty'").await?;
            panic!("on purpose")
        });
        assert!(matches!(soon(panicking).await, Err(RangesError::Panicked { .. })));
        let second = pids(&mc).await;
        assert_ne!(first, second);

        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let cancelled = mc.parallel_ranges(1, async move |connection, _| {
            connection.execute("BEGIN; SET application_name = 'dirty'").await?;
            arrived.send(()).unwrap();
            connection.execute("SELECT pg_sleep(600)").await?;
            Ok::<Vec<()>, sqlx::Error>(vec![])
        });
        tokio::select! {
            _ = cancelled => panic!("the statement never ends"),
            _ = arrivals.recv() => {}
        }
        let third = pids(&mc).await;
        assert!(second.is_disjoint(&third));

        let name = mc.parallel_ranges(1, async |connection, _| {
            Ok::<_, sqlx::Error>(vec![
                sqlx::query_scalar::<_, String>("SHOW application_name").fetch_one(connection).await?,
            ])
        });
        assert_ne!(soon(name).await.unwrap(), ["dirty"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_workers_keep_their_connections_until_a_range_panics() {
    let (_folder, app) = sqlite().await;
    people(&app, 10).await;
    let mc = over::<Sqlite>(app, 1).await;
    let run = async |sql: &'static str, panics: bool| {
        until_idle(&mc).await;
        let ran = mc.parallel_ranges(1, async move |connection, _| {
            let rows = connection.fetch_all(sql).await?.len();
            assert!(!panics, "on purpose");
            Ok::<_, sqlx::Error>(vec![rows])
        });
        soon(ran).await
    };
    run("CREATE TEMP TABLE mark AS SELECT 1 AS x", false).await.unwrap();
    for _ in 0..100 {
        assert_eq!(run("SELECT * FROM mark", false).await.unwrap(), [1]);
    }
    assert!(matches!(run("SELECT * FROM mark", true).await, Err(RangesError::Panicked { .. })));
    assert!(matches!(run("SELECT * FROM mark", false).await, Err(RangesError::Failed { .. })));
    assert_eq!(run("SELECT * FROM person", false).await.unwrap(), [10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_workers_keep_their_connections_until_a_range_panics() {
    with_mysql(async |app| {
        let mc = over::<MySql>(app, 1).await;
        let id = async |panics: bool| {
            until_idle(&mc).await;
            let id = mc.parallel_ranges(1, async move |connection, _| {
                let id = sqlx::query_scalar::<_, u64>("SELECT CONNECTION_ID()").fetch_one(connection).await?;
                assert!(!panics, "on purpose");
                Ok::<_, sqlx::Error>(vec![id])
            });
            soon(id).await
        };
        let first = id(false).await.unwrap();
        for _ in 0..100 {
            assert_eq!(id(false).await.unwrap(), first);
        }
        assert!(matches!(id(true).await, Err(RangesError::Panicked { .. })));
        assert_ne!(id(false).await.unwrap(), first);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_leaves_every_worker_with_a_connection() {
    with_postgres(async |app| {
        let mc = over::<Postgres>(app, 2).await;
        let first = pids(&mc).await;
        for _ in 0..10 {
            until_idle(&mc).await;
            let failing = mc.parallel_ranges(2, async |connection, _| {
                connection.execute("SELECT * FROM no_such_table").await?;
                Ok::<Vec<()>, sqlx::Error>(vec![])
            });
            let failed = soon(failing).await;
            assert!(matches!(failed, Err(RangesError::Failed { .. })), "{failed:?}");
        }
        // The range beside the one that failed may have been cancelled, which costs its connection.
        assert_eq!(pids(&mc).await.len(), first.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_within_a_transaction_costs_the_next_call_nothing() {
    with_postgres(async |app| {
        let mc = over::<Postgres>(app, 1).await;
        let failing = mc.parallel_ranges(1, async |connection, _| {
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
            connection.execute("SELECT 1 / 0").await?;
            connection.execute("COMMIT").await?;
            Ok::<Vec<()>, sqlx::Error>(vec![])
        });
        assert!(matches!(soon(failing).await, Err(RangesError::Failed { .. })));
        for call in 0..3 {
            until_idle(&mc).await;
            let next = mc
                .parallel_ranges(1, async |connection, _| Ok::<_, sqlx::Error>(vec![pid(connection).await?]));
            let next = soon(next).await;
            assert!(next.is_ok(), "call {call}: {:?}", next.unwrap_err());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_cannot_be_rebuilt_is_an_error_of_its_range_until_it_can() {
    with_postgres(async |app| {
        let mc = over::<Postgres>(app.clone(), 1).await;
        let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&app).await.unwrap();
        let mut elsewhere = (*app.connect_options()).clone().database("template1").connect().await.unwrap();
        let mut allow = async |allowed: bool| {
            let sql = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
            elsewhere.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        };
        allow(false).await;
        let panicking =
            mc.parallel_ranges(3, async |_, _| -> Result<Vec<()>, sqlx::Error> { panic!("on purpose") });
        assert!(matches!(soon(panicking).await, Err(RangesError::Panicked { .. })));
        until_idle(&mc).await;
        let next =
            mc.parallel_ranges(3, async |connection, _| Ok::<_, sqlx::Error>(vec![pid(connection).await?]));
        let error = soon(next).await.unwrap_err();
        assert_eq!(error.to_string(), "no connection for range 0..3");
        assert!(matches!(error, RangesError::Connection { range: Range { start: 0, end: 3 }, .. }));
        allow(true).await;
        // Until the pause before the next try is over, the answer is the last error.
        let again = async || {
            let range = async |connection: &mut _, _| Ok::<_, sqlx::Error>(vec![pid(connection).await?]);
            match mc.parallel_ranges(3, range).await {
                Ok(pids) => Some(pids.len()),
                Err(RangesError::Connection { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        };
        let recovered = soon(async {
            loop {
                if let Some(pids) = again().await {
                    break pids;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(recovered.await, 1);
    })
    .await;
}
