//! Connections that break under the pool's hands: at most the call that meets one fails, clearly, and
//! never the ones after it.

use std::ops::Range;

use multicore_core::{ListError, ListQuery, Multicore, Page, RangesError, asc};
use sqlx::{Executor, MySql, PgPool, Postgres};

use crate::databases::{with_mysql, with_postgres};
use crate::support::{PLENTY, soon, unique, until_idle};

/// A table of the numbers from 1 to so many.
async fn numbers(app: &PgPool, rows: i32) {
    app.execute("CREATE TABLE number (id int PRIMARY KEY)").await.unwrap();
    sqlx::query("INSERT INTO number SELECT generate_series(1, $1)").bind(rows).execute(app).await.unwrap();
}

/// Ends all other connections to this database but the application's own.
async fn kill_workers(app: &PgPool, workers: i64) {
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
         WHERE application_name = 'worker' AND datname = current_database()) AS killed",
    )
    .fetch_one(app)
    .await
    .unwrap();
    assert_eq!(killed, workers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_postgres_backends_of_workers_cost_at_most_one_call() {
    with_postgres(async |app| {
        numbers(&app, 100).await;
        let options = (*app.connect_options()).clone().application_name("worker");
        let workers = sqlx::postgres::PgPoolOptions::new().connect_lazy_with(options);
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).pool(workers);
        let mc = mc.start().await.unwrap();
        let read = async || {
            until_idle(&mc).await;
            // Both workers at once, so that each call meets both connections.
            let both = tokio::sync::Barrier::new(2);
            soon(mc.parallel_ranges(100, async move |connection, range: Range<u64>| {
                both.wait().await;
                sqlx::query_scalar::<_, i32>("SELECT id FROM number WHERE id > $1 AND id <= $2 ORDER BY id")
                    .bind(range.start as i32)
                    .bind(range.end as i32)
                    .fetch_all(connection)
                    .await
            }))
            .await
        };
        let all = (1..=100).collect::<Vec<_>>();
        assert_eq!(read().await.unwrap(), all);
        // And the control connection, which is opened again when it is next needed.
        kill_workers(&app, 2 + 1).await;
        match read().await {
            Ok(rows) => assert_eq!(rows, all),
            Err(error) => {
                let clear = matches!(error, RangesError::Failed { .. } | RangesError::Connection { .. });
                assert!(clear, "{error:?}");
            }
        }
        for call in 0..5 {
            let rows = read().await;
            assert!(rows.is_ok(), "call {call} after the one that met them: {:?}", rows.unwrap_err());
            assert_eq!(rows.unwrap(), all);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_mysql_connection_of_a_worker_costs_at_most_one_call() {
    with_mysql(async |app| {
        let mc = Multicore::<MySql>::builder().name(unique()).workers(1).cores(PLENTY).pool(app.clone());
        let mc = mc.start().await.unwrap();
        let id = async || {
            until_idle(&mc).await;
            soon(mc.parallel_ranges(1, async |connection, _| {
                let id = sqlx::query_scalar::<_, u64>("SELECT CONNECTION_ID()").fetch_one(connection).await?;
                Ok::<_, sqlx::Error>(vec![id])
            }))
            .await
        };
        let first = id().await.unwrap();
        sqlx::query("KILL ?").bind(first[0]).execute(&app).await.unwrap();
        match id().await {
            Ok(second) => assert_ne!(first, second),
            Err(error) => assert!(matches!(error, RangesError::Failed { .. }), "{error:?}"),
        }
        for call in 0..3 {
            let next = id().await;
            assert!(next.is_ok(), "call {call} after the one that met it: {:?}", next.unwrap_err());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_backend_of_the_applications_pool_costs_the_list_at_most_one_error() {
    with_postgres(async |app| {
        numbers(&app, 5_000).await;
        let mc = Multicore::<Postgres>::builder().name(unique()).workers(2).cores(PLENTY).pool(app.clone());
        let mc = mc.start().await.unwrap();
        let list = async |tables: &'static str| {
            let query = ListQuery::<(i32,)>::select("id").from(tables).order_by([asc("id").unique()]);
            soon(mc.list(query, Page { limit: 5_000, offset: 0 }, |(id,)| id)).await
        };
        let bytes = list("number").await.unwrap().to_bytes();
        // Ends its own connection in the middle of the rows.
        let suicide = "(SELECT id FROM number WHERE CASE WHEN id = 2500
                        THEN pg_terminate_backend(pg_backend_pid()) ELSE true END) AS cut";
        for _ in 0..3 {
            let error = list(suicide).await.unwrap_err();
            assert!(matches!(error, ListError::Database(_)), "{error:?}");
            assert_eq!(error.to_string(), "the database failed");
            assert_eq!(list("number").await.unwrap().to_bytes(), bytes);
        }
    })
    .await;
}
