//! Exports: the bytes of all pages, in each format and on each database; and one that ends early is seen
//! to be cut, by a client at the other end of a socket, and leaves nothing behind.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http_body_util::BodyExt;
use multicore_axum::{
    Config, Execution, Format, LimitOffset, ListError, ListQuery, ListRow, Listing, Multicore,
    MulticoreLayer, SqlDatabase, StreamedListing, asc,
};
use serde::Serialize;
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Executor, FromRow, IntoArguments, MySql, Pool, Postgres, Sqlite};

use crate::client::{Socket, ask, begin};
use crate::databases::{SCARCE, sqlite, with_mysql, with_postgres};
use crate::support::{PLENTY, burn, soon, unique, until};

/// Beyond what a batch can have, which is some thousand rows.
const ROWS: i64 = 30_000;
/// A row that is in none of the first batches, whatever was learnt of the rows' cost.
const LATE: i64 = 20_000;

const FORMATS: [(&str, Format, &str); 3] = [
    ("json", Format::JsonArray, "application/json"),
    ("ndjson", Format::Ndjson, "application/x-ndjson"),
    ("csv", Format::Csv, "text/csv; charset=utf-8; header=present"),
];

fn format_of(name: &str) -> Format {
    FORMATS.iter().find(|(known, ..)| *known == name).unwrap().1
}

#[derive(Clone, Debug, FromRow, Serialize)]
struct Person {
    id: i64,
    name: String,
    nick: Option<String>,
}

/// Names that a format may stumble over.
const NAMES: [&str; 8] =
    ["ada", "comma, inc.", "say \"hi\"", "two\nlines", "car\rriage", "", "zo\u{eb} \u{1F980}", " spaced "];

/// So many people.
async fn people<DB>(pool: &Pool<DB>, rows: i64)
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
{
    let table = "CREATE TABLE person (id bigint NOT NULL PRIMARY KEY, name varchar(50) NOT NULL,
                 nick varchar(50))";
    sqlx::raw_sql(table).execute(pool).await.unwrap();
    let ids: Vec<_> = (1..=rows).collect();
    for ids in ids.chunks(5_000) {
        let row = |id: &i64| {
            let nick = if id % 3 == 0 { "NULL".to_owned() } else { format!("'n{}'", id % 10) };
            format!("({id}, '{}', {nick})", NAMES[*id as usize % NAMES.len()])
        };
        let rows: Vec<_> = ids.iter().map(row).collect();
        let rows = format!("INSERT INTO person VALUES {}", rows.join(", "));
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(pool).await.unwrap();
    }
}

fn persons<DB: SqlDatabase>() -> ListQuery<Person, DB>
where
    Person: ListRow<DB>,
{
    ListQuery::<Person>::select("id, name, nick").from("person").order_by([asc("id")])
}

async fn layer<DB: SqlDatabase>(pool: &Pool<DB>) -> MulticoreLayer<DB> {
    let config = Config::default().workers(2).max_limit(7_000);
    let builder = MulticoreLayer::<DB>::builder().config(config).pool(pool.clone()).cores(PLENTY);
    builder.name(unique()).load_source(|| None).start().await.unwrap()
}

/// The pages of a list, and its export.
async fn app<DB>(pool: &Pool<DB>) -> Router
where
    DB: SqlDatabase,
    Person: ListRow<DB>,
{
    let pages = async |mc: Multicore<DB>, page: LimitOffset| -> Result<Listing, ListError> {
        mc.parallel_list(persons(), page, |row: Person| row).await
    };
    let export = async |mc: Multicore<DB>, Path((format, mode)): Path<(String, String)>| {
        let execution = match &*mode {
            "parallel" => Execution::Parallel,
            "sequential" => Execution::Sequential,
            _ => Execution::Auto,
        };
        mc.parallel_stream(persons().execution(execution), |row: Person| row, format_of(&format)).await
    };
    let routes = Router::new().route("/pages", get(pages)).route("/{format}/{mode}", get(export));
    routes.layer(layer(pool).await)
}

// What is in them.

/// The pages put together.
async fn pages(app: &Router) -> Vec<Person> {
    #[derive(serde::Deserialize)]
    struct Row {
        id: i64,
        name: String,
        nick: Option<String>,
    }
    let (mut rows, mut query) = (Vec::new(), "?limit=7000".to_owned());
    loop {
        let answer = ask(app, &format!("/pages{query}")).await;
        let page: Vec<Row> = serde_json::from_slice(&answer.body).unwrap();
        rows.extend(page.into_iter().map(|Row { id, name, nick }| Person { id, name, nick }));
        let Some(next) = answer.link("next") else { return rows };
        query = next;
    }
}

/// Rows in a format, without the library.
fn written(format: Format, rows: &[Person]) -> Vec<u8> {
    let quoted = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let mut text = String::new();
    match format {
        Format::Ndjson => rows.iter().for_each(|row| text += &(serde_json::to_string(row).unwrap() + "\n")),
        Format::Csv => {
            text += if rows.is_empty() { "" } else { "id,name,nick\n" };
            for Person { id, name, nick } in rows {
                text += &format!("{id},{},{}\n", quoted(name), quoted(nick.as_deref().unwrap_or("")));
            }
        }
        _ => text = serde_json::to_string(rows).unwrap(),
    }
    text.into_bytes()
}

async fn exports_are_the_pages<DB>(pool: Pool<DB>)
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    Person: ListRow<DB>,
{
    people(&pool, ROWS).await;
    let app = app(&pool).await;
    let rows = pages(&app).await;
    assert_eq!(rows.len() as i64, ROWS);
    for (name, format, content_type) in FORMATS {
        let expected = written(format, &rows);
        for mode in ["auto", "parallel", "sequential"] {
            let answer = ask(&app, &format!("/{name}/{mode}")).await;
            assert_eq!(answer.header("content-type"), Some(content_type));
            assert!(answer.header("multicore").unwrap().starts_with("mode="));
            assert!(answer.body == expected, "{name} {mode} differs");
        }
        let received = Socket::get(&app, &format!("/{name}/auto")).await.answer().await;
        assert!(received.whole && received.body == expected, "{name} over a socket differs");
    }
    sqlx::raw_sql("DELETE FROM person").execute(&pool).await.unwrap();
    for (name, format, content_type) in FORMATS {
        let answer = ask(&app, &format!("/{name}/auto")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(content_type)));
        assert_eq!(answer.body, written(format, &[]), "{name} of an empty list");
        let received = Socket::get(&app, &format!("/{name}/auto")).await.answer().await;
        assert!(received.whole && received.body == answer.body, "{name} of an empty list over a socket");
    }
    given_back(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_the_pages_put_together_on_sqlite() {
    let (_folder, pool) = sqlite().await;
    exports_are_the_pages(pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_the_pages_put_together_on_postgres() {
    with_postgres(exports_are_the_pages).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_the_pages_put_together_on_mysql() {
    with_mysql(exports_are_the_pages).await;
}

// What fails in the middle.

/// Waits until the pool has all its connections again, and uses each of them.
async fn given_back<DB>(pool: &Pool<DB>)
where
    DB: SqlDatabase,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    until("all connections are given back", || pool.num_idle() == pool.size() as usize).await;
    let mut all = Vec::new();
    while let Some(mut connection) = pool.try_acquire() {
        soon(connection.execute("SELECT 1")).await.unwrap();
        all.push(connection);
    }
    assert!(!all.is_empty());
}

/// Asks for exports that fail at [`LATE`], over a socket: the answer has begun well, and breaks off.
async fn breaks_off<DB>(pool: &Pool<DB>, app: &Router, paths: &[&str])
where
    DB: SqlDatabase,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    for path in paths {
        let mut socket = Socket::get(app, path).await;
        let head = socket.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {head}");
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{path}: {head}");
        let received = socket.rest().await;
        assert!(!received.whole, "{path}: it looks whole");
        // What came is the beginning of the list, and nothing else.
        let text = String::from_utf8(received.body).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        assert!(lines.len() > 10 && (lines.len() as i64) < LATE, "{path}: {} lines", lines.len());
        for (at, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("{}\n", at + 1), "{path}");
        }
        given_back(pool).await;
    }
}

fn numbers<DB: SqlDatabase>(columns: &'static str) -> ListQuery<(i64,), DB>
where
    (i64,): ListRow<DB>,
{
    ListQuery::<(i64,)>::select(columns).from("person").order_by([asc("id")])
}

async fn panicking(mc: Multicore<Sqlite>, Path(mode): Path<String>) -> Result<StreamedListing, ListError> {
    let execution = if mode == "parallel" { Execution::Parallel } else { Execution::Sequential };
    // Without the hook's words.
    let secret = || std::panic::resume_unwind(Box::new("the secret"));
    let view = move |(id,): (i64,)| if id == LATE { secret() } else { id };
    mc.parallel_stream(numbers("id").execution(execution), view, Format::Ndjson).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_rendered_breaks_the_answer_off() {
    async fn undecodable(mc: Multicore<Sqlite>) -> Result<StreamedListing, ListError> {
        let query = numbers("CASE WHEN id = 20000 THEN 'x' ELSE id END");
        mc.parallel_stream(query, |(id,)| id, Format::Ndjson).await
    }
    async fn unserialisable(mc: Multicore<Sqlite>) -> Result<StreamedListing, ListError> {
        let view = |(id,): (i64,)| match id {
            LATE => serde_json::Map::from_iter([("a".to_owned(), serde_json::Value::Null)]).into(),
            id => serde_json::Value::from(id),
        };
        // A map is no line of plain fields.
        mc.parallel_stream(numbers("id"), move |row| (view(row),), Format::Csv).await
    }
    let (_folder, pool) = sqlite().await;
    people(&pool, ROWS).await;
    let app = Router::new()
        .route("/panic/{mode}", get(panicking))
        .route("/undecodable", get(undecodable))
        .route("/unserialisable", get(unserialisable))
        .layer(layer(&pool).await);
    let paths = ["/panic/parallel", "/panic/sequential", "/undecodable", "/panic/parallel"];
    breaks_off(&pool, &app, &paths).await;
    let received = Socket::get(&app, "/unserialisable").await.answer().await;
    assert!(!received.whole && !received.body.is_empty());
    given_back(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_in_the_middle_breaks_the_answer_off_on_sqlite() {
    async fn failing(mc: Multicore<Sqlite>) -> Result<StreamedListing, ListError> {
        let query = numbers("abs(CASE WHEN id = 20000 THEN -9223372036854775807 - 1 ELSE id END)");
        mc.parallel_stream(query, |(id,)| id, Format::Ndjson).await
    }
    let (_folder, pool) = sqlite().await;
    people(&pool, ROWS).await;
    let app = Router::new().route("/", get(failing)).layer(layer(&pool).await);
    breaks_off(&pool, &app, &["/", "/"]).await;
}

/// People whom PostgreSQL knows to be cheaper read along the index than sorted.
async fn analyzed(pool: &Pool<Postgres>) {
    people(pool, ROWS).await;
    pool.execute("ANALYZE person").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_in_the_middle_breaks_the_answer_off_on_postgres() {
    async fn failing(mc: Multicore<Postgres>) -> Result<StreamedListing, ListError> {
        let query = numbers("id + 0 / (id - 20000)");
        mc.parallel_stream(query, |(id,)| id, Format::Ndjson).await
    }
    with_postgres(async |pool| {
        analyzed(&pool).await;
        let app = Router::new().route("/", get(failing)).layer(layer(&pool).await);
        breaks_off(&pool, &app, &["/", "/"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_in_the_middle_breaks_the_answer_off_on_mysql() {
    async fn failing(mc: Multicore<MySql>) -> Result<StreamedListing, ListError> {
        let query = numbers("id + (id = 20000) * 9223372036854775807");
        mc.parallel_stream(query, |(id,)| id, Format::Ndjson).await
    }
    with_mysql(async |pool| {
        people(&pool, ROWS).await;
        let app = Router::new().route("/", get(failing)).layer(layer(&pool).await);
        breaks_off(&pool, &app, &["/", "/"]).await;
    })
    .await;
}

/// Rows that do not fit into any buffer between the database and the client: 300 MB of them.
async fn endless(mc: Multicore<Postgres>) -> Result<StreamedListing, ListError> {
    let query = ListQuery::<(i64, String)>::select("id, repeat('x', 10000)").from("person");
    let query = query.order_by([asc("id")]);
    mc.parallel_stream(query, |(id, _)| id, Format::Ndjson).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_breaks_the_answer_off() {
    with_postgres(async |pool| {
        analyzed(&pool).await;
        let app = Router::new().route("/", get(endless)).layer(layer(&pool).await);
        for _ in 0..3 {
            let mut socket = Socket::get(&app, "/").await;
            assert!(socket.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
            assert!(socket.chunk().await.unwrap().starts_with(b"1\n"));
            let killed: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active') AS killed",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            assert_eq!(killed, 1);
            assert!(!socket.rest().await.whole);
            given_back(&pool).await;
        }
    })
    .await;
}

// What fails before the first byte.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_cannot_begin_is_a_problem_with_its_status() {
    async fn export(mc: Multicore<Sqlite>, Path(name): Path<String>) -> Result<StreamedListing, ListError> {
        let view = |(id,): (i64,)| id;
        let panic = |(id,): (i64,)| -> i64 { std::panic::resume_unwind(Box::new(format!("row {id}"))) };
        let unordered = ListQuery::<(i64,)>::select("id").from("person");
        match &*name {
            "unordered" => mc.parallel_stream(unordered, view, Format::Csv).await,
            "repeated" => mc.parallel_stream(unordered.order_by([asc("name")]), view, Format::Csv).await,
            "undecodable" => mc.parallel_stream(numbers("name"), view, Format::Csv).await,
            "no-record" => {
                mc.parallel_stream(
                    numbers("id"),
                    |(id,)| [std::collections::BTreeMap::from([(id, id)])],
                    Format::Csv,
                )
                .await
            }
            "panic" => mc.parallel_stream(numbers("id"), panic, Format::Csv).await,
            "filter" => {
                let query = numbers("id").filter(|q| {
                    q.push("abs(").push_bind(i64::MIN).push(") > 0");
                });
                mc.parallel_stream(query, view, Format::Csv).await
            }
            "timeout" => {
                let query = numbers("id").timeout(Duration::from_millis(5));
                let slow = |(id,): (i64,)| {
                    burn(1_000);
                    id
                };
                mc.parallel_stream(query, slow, Format::Csv).await
            }
            _ => mc.parallel_stream(numbers("id"), view, Format::Csv).await,
        }
    }
    let (_folder, pool) = sqlite().await;
    people(&pool, 100).await;
    let one = PoolOptions::<Sqlite>::new().max_connections(1).acquire_timeout(SCARCE);
    let one = one.connect_with((*pool.connect_options()).clone()).await.unwrap();
    let app = Router::new().route("/{name}", get(export)).layer(layer(&one).await);
    for (name, status, code) in [
        ("unordered", 500, "query"),
        ("repeated", 500, "order"),
        ("undecodable", 500, "row"),
        ("no-record", 500, "row"),
        ("panic", 500, "panic"),
        ("filter", 400, "filter"),
        ("timeout", 504, "timeout"),
    ] {
        assert_eq!(ask(&app, &format!("/{name}")).await.problem(status).0, code, "{name}");
        given_back(&one).await;
    }
    let _taken = one.acquire().await.unwrap();
    assert_eq!(ask(&app, "/all").await.problem(503).0, "overloaded");
}

// Clients that leave.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_dropped_gives_its_connection_back_clean() {
    with_postgres(async |pool| {
        analyzed(&pool).await;
        let layer = layer(&pool).await;
        let handle = layer.handle();
        let app = Router::new().route("/", get(endless)).layer(layer);
        for frames in 0..5 {
            let mut body = begin(&app, "/").await.into_body();
            for _ in 0..frames {
                assert!(soon(body.frame()).await.unwrap().unwrap().is_data());
            }
            assert!(pool.num_idle() < pool.size() as usize, "an export holds its connection");
            drop(body);
            given_back(&pool).await;
            let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                           AND state = 'active' AND query LIKE '%repeat%' AND pid <> pg_backend_pid()";
            assert_eq!(sqlx::query_scalar::<_, i64>(running).fetch_one(&pool).await.unwrap(), 0);
        }
        assert_eq!((handle.stats().owners, handle.stats().jobs), (0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_holds_up_its_own_export_only_and_may_leave() {
    with_postgres(async |pool| {
        analyzed(&pool).await;
        let app = Router::new().route("/", get(endless)).layer(layer(&pool).await);
        let mut slow = Socket::get(&app, "/").await;
        slow.head().await;
        slow.chunk().await.unwrap();
        // It reads no more, and others are served meanwhile.
        for _ in 0..3 {
            let mut other = Socket::get(&app, "/").await;
            other.head().await;
            assert!(other.chunk().await.unwrap().starts_with(b"1\n"));
        }
        assert!(slow.chunk().await.is_some());
        drop(slow);
        given_back(&pool).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_of_a_broken_export_ends_with_the_error_and_nothing_after_it() {
    let (_folder, pool) = sqlite().await;
    people(&pool, ROWS).await;
    let app = Router::new().route("/{mode}", get(panicking)).layer(layer(&pool).await);
    let mut body = begin(&app, "/sequential").await.into_body();
    let error = loop {
        match soon(body.frame()).await.expect("it ended as if it were whole") {
            Ok(frame) => assert!(frame.is_data()),
            Err(error) => break error,
        }
    };
    let mut causes = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
    assert!(causes.any(|cause| cause.to_string().contains("the secret")), "{error:?}");
    assert!(soon(body.frame()).await.is_none());
}
