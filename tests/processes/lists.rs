//! Lists whose rows are rendered in worker processes give the bytes of the sequential path, and tasks that have a
//! connection of their own.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use http_body_util::BodyExt;
use multicore_axum::{Config, LimitOffset, Listing, MulticoreLayer};
use multicore_core::process::{Json, ProcessError, ProcessSettings};
use multicore_core::{Execution, ListError, ListQuery, Mode, Multicore, Page, asc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Sqlite, SqlitePool};
use tower::ServiceExt;

use crate::tasks::{Person, card, registered, settings};

struct People {
    mc: Multicore<Sqlite>,
    pool: SqlitePool,
    _folder: tempfile::TempDir,
}

async fn people(rows: i64, settings: ProcessSettings) -> People {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.db");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(
        "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, score REAL NOT NULL, photo BLOB, age INTEGER)",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO person SELECT i, 'größe \"' || i || '\"', i / 7.0, iif(i % 3, randomblob(i % 50), NULL), nullif(i % 5, 0)
         FROM n WHERE i <= ?",
    )
    .bind(rows)
    .bind(rows)
    .execute(&pool)
    .await
    .unwrap();
    let mc = Multicore::<Sqlite>::builder()
        .name("test")
        .workers(1)
        .pool(pool.clone())
        .processes(registered().with_url(format!("sqlite:{}", file.display())))
        .process_settings(settings)
        .start()
        .await
        .unwrap();
    People { mc, pool, _folder: folder }
}

fn query() -> ListQuery<Person, Sqlite> {
    ListQuery::select("id, name, score, photo, age").from("person").order_by([asc("id")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_rendered_in_processes_give_the_sequential_paths_bytes() {
    for (rows, workers) in [(0, 2), (1, 2), (7, 1), (500, 2), (3_000, 3)] {
        let people = people(rows, settings(workers)).await;
        for page in [Page { limit: 10, offset: 0 }, Page { limit: 100_000, offset: 3 }] {
            let sequential =
                people.mc.list(query().execution(Execution::Sequential), page, card).await.unwrap();
            let list = people.mc.list_in_processes(query(), page, "card").await.unwrap();
            assert!(list.to_bytes() == sequential.to_bytes(), "{rows} rows, {page:?}");
            assert_eq!(list.rows(), sequential.rows());
            let parallel = matches!(list.mode(), Mode::Parallel { .. });
            assert_eq!(parallel, workers > 1 && list.rows() > 1, "{} rows: {}", list.rows(), list.mode());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_kills_its_worker_is_an_error_and_the_next_page_is_answered() {
    let people = people(300, settings(2)).await;
    let page = Page { limit: 300, offset: 0 };
    let error = people.mc.list_in_processes(query(), page, "poisoned").await.unwrap_err();
    assert!(matches!(error, ListError::Process(ProcessError::Died { .. })), "{error}");
    let error = people.mc.list_in_processes(query(), page, "panics").await.unwrap_err();
    assert!(matches!(&error, ListError::Panicked { message } if message == "person 77"), "{error}");
    let error = people.mc.list_in_processes(query(), page, "echo").await.unwrap_err();
    assert!(matches!(error, ListError::Process(ProcessError::WrongType { .. })), "{error}");
    let list = people.mc.list_in_processes(query(), page, "card").await.unwrap();
    assert_eq!(list.rows(), 300);
}

#[tokio::test]
async fn a_worker_keeps_a_connection_of_its_own_and_opens_another_after_a_failure() {
    let people = people(12, settings(1)).await;
    let processes = people.mc.processes();
    for _ in 0..3 {
        let count: Json<i64> = processes.run("count", "person".to_owned()).await.unwrap();
        assert_eq!(count.0, 12);
    }
    let opened: Json<u32> = processes.run("opened", ()).await.unwrap();
    assert_eq!(opened.0, 1);
    let error = processes.run::<_, Json<i64>>("count", "nobody".to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("no such table: nobody"), "{error}");
    let count: Json<i64> = processes.run("count", "person".to_owned()).await.unwrap();
    assert_eq!(count.0, 12);
    let opened: Json<u32> = processes.run("opened", ()).await.unwrap();
    assert_eq!(opened.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_says_that_its_rows_were_rendered_in_processes() {
    async fn apart(
        mc: multicore_axum::Multicore<Sqlite>,
        page: LimitOffset,
    ) -> Result<Listing, multicore_axum::ListError> {
        mc.parallel_list_in_processes(query(), page, "card").await
    }
    async fn here(
        mc: multicore_axum::Multicore<Sqlite>,
        page: LimitOffset,
    ) -> Result<Listing, multicore_axum::ListError> {
        mc.parallel_list(query(), page, card).await
    }
    let people = people(50, settings(2)).await;
    let config: Config = toml::from_str("max-limit = 100\n[processes]\nworkers = 2").unwrap();
    let layer = MulticoreLayer::<Sqlite>::builder()
        .config(config)
        .pool(people.pool.clone())
        .processes(registered())
        .start()
        .await
        .unwrap();
    let app = Router::new().route("/apart", get(apart)).route("/here", get(here)).layer(layer);
    let ask = async |uri: &str| {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
        let made = parts.headers["multicore"].to_str().unwrap().to_owned();
        (made, body.collect().await.unwrap().to_bytes())
    };
    let (made, body) = ask("/apart?limit=50").await;
    assert_eq!(made, "mode=parallel, participants=2, chunks=8, isolation=processes");
    assert_eq!(body, ask("/here?limit=50").await.1);
}
