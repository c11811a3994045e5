//! The crate for axum as a client and an application see it: layer, extractors, responses and problems. Page
//! parameters are in `parameters`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::get;
use http_body_util::BodyExt;
use multicore_axum::{
    Config, Execution, LimitOffset, ListError, ListQuery, Listing, Multicore, MulticoreLayer, asc,
};
use serde_json::json;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, Postgres, Sqlite, SqlitePool};
use tower::{Layer, ServiceExt};

use crate::client::ask;
use crate::databases::{SCARCE, people, sqlite, with_postgres};
use crate::support::{PLENTY, occupy, soon, threads_of, unique, until_gone, until_idle};

type Person = (i64, String);

pub(crate) fn query() -> ListQuery<Person, Sqlite> {
    ListQuery::<Person>::select("id, name").from("person").order_by([asc("id")])
}

async fn persons(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
    mc.parallel_list(query(), page, |row| row).await
}

async fn forced(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
    mc.parallel_list(query().execution(Execution::Parallel), page, |row| {
        // Enough for a worker to come before the work is done.
        crate::support::burn(20);
        row
    })
    .await
}

async fn alone(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
    mc.parallel_list(query().execution(Execution::Sequential), page, |row| row).await
}

async fn enveloped(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
    Ok(mc.parallel_list(query(), page, |row| row).await?.count(1_000).envelope())
}

/// 1,000 people.
pub(crate) async fn thousand() -> (tempfile::TempDir, SqlitePool) {
    let (folder, pool) = sqlite().await;
    people(&pool, 1_000).await;
    (folder, pool)
}

pub(crate) async fn layer(pool: SqlitePool, config: Config) -> MulticoreLayer<Sqlite> {
    let builder = MulticoreLayer::<Sqlite>::builder().config(config.workers(2)).pool(pool).cores(PLENTY);
    builder.name(unique()).load_source(|| None).start().await.unwrap()
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/persons/", get(persons))
        .route("/forced/", get(forced))
        .route("/alone/", get(alone))
        .route("/enveloped/", get(enveloped))
}

/// What one would write without this library.
pub(crate) async fn plain(pool: &SqlitePool, limit: i64, offset: i64) -> Vec<u8> {
    let rows: Vec<Person> = sqlx::query_as("SELECT id, name FROM person ORDER BY id LIMIT ? OFFSET ?")
        .bind(limit)
        .bind(offset)
        .fetch_all(pool)
        .await
        .unwrap();
    serde_json::to_vec(&rows).unwrap()
}

// The layer and the extractors.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrapping_services_boots_nothing() {
    let (_folder, pool) = thousand().await;
    let name = unique();
    let builder = MulticoreLayer::<Sqlite>::builder().name(&name).config(Config::default().workers(2));
    let layer = builder.pool(pool).start().await.unwrap();
    let mut expected = vec![format!("{name}-0"), format!("{name}-1")];
    expected.push(format!("{name}-load"));
    crate::support::until("all threads have their names", || threads_of(&name) == expected).await;
    for _ in 0..1_000 {
        let _service =
            layer.layer(tower::service_fn(async |_: Request<Body>| Ok::<_, ()>(Response::new(()))));
    }
    let mut app = Router::new();
    for route in 0..50 {
        app = app.route(&format!("/{route}"), get(persons));
    }
    let app = app.layer(layer.clone()).layer(layer.clone());
    for route in 0..50 {
        assert_eq!(ask(&app, &format!("/{route}?limit=1")).await.status, StatusCode::OK);
    }
    assert_eq!(threads_of(&name), expected);
    drop((app, layer));
    until_gone(&name).await;
}

#[tokio::test]
async fn without_the_layer_the_handler_answers_with_what_to_add() {
    let (code, detail) = ask(&routes(), "/persons/").await.problem(500);
    assert_eq!(code, "multicore-missing");
    assert!(detail.contains("no MulticoreLayer is around it: add `.layer(multicore)`"), "{detail}");
    assert!(detail.contains("SQLite"), "{detail}");
}

#[tokio::test]
async fn a_layer_for_another_database_is_named() {
    let none = MulticoreLayer::<()>::builder().name(unique()).start().await.unwrap();
    let (code, detail) = ask(&routes().layer(none), "/persons/").await.problem(500);
    assert_eq!(code, "multicore-missing");
    assert!(detail.contains("takes Multicore for SQLite database"), "{detail}");
    assert!(detail.contains("around it is for no database"), "{detail}");
}

#[tokio::test]
async fn an_optional_handle_is_none_without_the_layer_and_there_with_it() {
    async fn says(mc: Option<Multicore<Sqlite>>) -> &'static str {
        if mc.is_some() { "some" } else { "none" }
    }
    let app = Router::new().route("/", get(says));
    assert_eq!(ask(&app, "/").await.body, b"none");
    let none = MulticoreLayer::<()>::builder().name(unique()).start().await.unwrap();
    assert_eq!(ask(&app.clone().layer(none), "/").await.body, b"none", "with another database's");
    let (_folder, pool) = thousand().await;
    let app = app.layer(layer(pool, Config::default()).await);
    assert_eq!(ask(&app, "/").await.body, b"some");
}

#[derive(Clone)]
struct AppState {
    multicore: Multicore<Sqlite>,
}

impl FromRef<AppState> for Multicore<Sqlite> {
    fn from_ref(state: &AppState) -> Self {
        state.multicore.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handle_comes_through_state_without_a_layer_and_keeps_the_limits() {
    async fn handler(State(mc): State<Multicore<Sqlite>>, page: LimitOffset) -> Result<Listing, ListError> {
        mc.parallel_list(query(), page, |row| row).await
    }
    let (_folder, pool) = thousand().await;
    let config = Config::default().default_limit(3).max_limit(5).workers(1);
    let builder = Multicore::<Sqlite>::builder().name(unique()).config(config);
    let multicore = builder.pool(pool.clone()).start().await.unwrap();
    let app = Router::new().route("/", get(handler)).with_state(AppState { multicore });
    assert_eq!(ask(&app, "/").await.body, plain(&pool, 3, 0).await);
    let (code, detail) = ask(&app, "/?limit=6").await.problem(400);
    assert_eq!(
        (code.as_str(), detail.as_str()),
        ("invalid-page", "limit is `6`; accepted: a whole number from 1 to 5")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_can_wrap_a_pool_that_runs_already() {
    let (_folder, pool) = thousand().await;
    let name = unique();
    let mc = Multicore::<Sqlite>::builder().name(&name).pool(pool.clone()).start().await.unwrap();
    let layer = MulticoreLayer::new(mc.clone());
    let app = routes().layer(layer.clone());
    assert_eq!(ask(&app, "/alone/?limit=9").await.body, plain(&pool, 9, 0).await);
    assert_eq!(mc.stats().decisions.total(), 1);
    assert_eq!(layer.handle().stats().decisions.total(), 1, "one and the same pool");
    assert!(soon(layer.handle().shutdown(Duration::from_secs(60))).await.is_clean());
    assert!(mc.task::<()>().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_maps_and_ranges_are_there_in_a_handler() {
    async fn handler(mc: Multicore<()>) -> String {
        let mut task = mc.task().unwrap();
        task.run(|| 1);
        let ranges = mc.parallel_ranges(3, async |(): &mut (), range| {
            Ok::<_, std::io::Error>(range.collect::<Vec<_>>())
        });
        let parts = (
            task.get().await.unwrap(),
            mc.parallel_map([2], |n| n * n).await.unwrap(),
            ranges.await.unwrap(),
        );
        format!("{parts:?}")
    }
    let none = MulticoreLayer::<()>::builder().name(unique()).start().await.unwrap();
    let app = Router::new().route("/", get(handler)).layer(none);
    assert_eq!(ask(&app, "/").await.body, b"([1], [4], [0, 1, 2])");
}

// Responses.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_says_its_type_its_length_and_how_it_was_made() {
    let (_folder, pool) = thousand().await;
    let layer = layer(pool.clone(), Config::default()).await;
    let app = routes().layer(layer.clone());
    let expected = plain(&pool, 1_000, 0).await;
    let answer = ask(&app, "/alone/?limit=1000").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some(expected.len().to_string().as_str()));
    assert_eq!(answer.header("multicore"), Some("mode=sequential, reason=forced"));
    assert_eq!(answer.header("server-timing"), None);
    assert_eq!(answer.body, expected);

    let parallel = async {
        loop {
            until_idle(&layer.handle()).await;
            let answer = ask(&app, "/forced/?limit=1000").await;
            assert_eq!(answer.body, expected);
            assert_eq!(answer.header("content-length"), Some(expected.len().to_string().as_str()));
            let says = answer.header("multicore").unwrap().to_owned();
            if says.starts_with("mode=parallel") {
                break says;
            }
            assert!(says.starts_with("mode=sequential, reason="), "{says}");
        }
    };
    let says = soon(parallel).await;
    let numbers: Vec<_> =
        says.strip_prefix("mode=parallel, participants=").unwrap().split(", chunks=").collect();
    let numbers: Vec<usize> = numbers.into_iter().map(|number| number.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers[0] >= 2 && numbers[1] >= 2, "{says}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_page_is_an_empty_array() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool, Config::default()).await);
    let answer = ask(&app, "/persons/?offset=5000").await;
    assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, &b"[]"[..]));
    assert_eq!(answer.header("content-length"), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_tells_the_length_without_the_body() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool.clone(), Config::default()).await);
    let request = Request::head("/persons/?limit=20").body(Body::empty()).unwrap();
    let response = soon(app.oneshot(request)).await.unwrap();
    let length = plain(&pool, 20, 0).await.len().to_string();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], length.as_str());
    assert!(soon(response.into_body().collect()).await.unwrap().to_bytes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_timing_is_there_where_it_is_switched_on() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool, Config::default().server_timing(true)).await);
    let answer = ask(&app, "/persons/?limit=5").await;
    let timing = answer.header("server-timing").unwrap();
    let took = timing.strip_prefix("multicore;dur=").unwrap_or_else(|| panic!("{timing}"));
    assert!(took.parse::<f64>().unwrap() >= 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_has_the_count_and_links_to_the_pages_around() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool, Config::default()).await);
    for (query, next, previous) in [
        ("?limit=400", Some("?limit=400&offset=400"), None),
        ("?limit=400&offset=400&q=a%26b", Some("?q=a%26b&limit=400&offset=800"), Some("?q=a%26b&limit=400")),
        ("?limit=400&offset=800", None, Some("?limit=400&offset=400")),
        ("?limit=1000", None, None),
    ] {
        let answer = ask(&app, &format!("/enveloped/{query}")).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        let body = answer.json();
        assert_eq!(
            (&body["count"], &body["next"], &body["previous"]),
            (&json!(1_000), &json!(next), &json!(previous))
        );
        let array = ask(&app, &format!("/persons/{query}")).await;
        assert_eq!(body["results"], array.json(), "{query}");
        assert_eq!(body.as_object().unwrap().len(), 4);
        let links = [(next, "next"), (previous, "prev")];
        let links: Vec<_> =
            links.iter().filter_map(|(url, rel)| Some(format!("<{}>; rel=\"{rel}\"", (*url)?))).collect();
        assert_eq!(answer.header("link").unwrap_or_default(), links.join(", "), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_without_a_count_says_null() {
    async fn handler(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        Ok(mc.parallel_list(query(), page, |row| row).await?.envelope())
    }
    let (_folder, pool) = thousand().await;
    let app = Router::new().route("/", get(handler)).layer(layer(pool, Config::default()).await);
    let answer = ask(&app, "/?limit=1&offset=999").await;
    let text = String::from_utf8(answer.body).unwrap();
    let start = r#"{"count":null,"next":null,"previous":"?limit=1&offset=998","results":[["#;
    assert!(text.starts_with(start), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_array_has_links_too() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool.clone(), Config::default()).await);
    let answer = ask(&app, "/persons/?limit=10&offset=995&q=a").await;
    assert_eq!(answer.header("link"), Some("<?q=a&limit=10&offset=985>; rel=\"prev\""));
    assert_eq!(answer.body, plain(&pool, 10, 995).await);
}

// Problems.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_says_never_reaches_the_client() {
    let (_folder, pool) = sqlite().await;
    let app = routes().layer(layer(pool, Config::default()).await);
    for path in ["persons", "forced", "alone"] {
        let answer = ask(&app, &format!("/{path}/")).await;
        let (code, detail) = answer.problem(500);
        assert_eq!((code.as_str(), detail.as_str()), ("query", "the list's query cannot be run"));
        let body = String::from_utf8(answer.body).unwrap();
        assert!(!body.contains("person") && !body.contains("table"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_free_connection_the_answer_is_503_with_when_to_try_again() {
    let (_folder, pool) = thousand().await;
    let one = PoolOptions::<Sqlite>::new().max_connections(1).acquire_timeout(SCARCE);
    let one = one.connect_with((*pool.connect_options()).clone()).await.unwrap();
    let app = routes().layer(layer(one.clone(), Config::default()).await);
    let _taken = one.acquire().await.unwrap();
    let answer = ask(&app, "/persons/").await;
    assert_eq!(answer.problem(503).0, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_takes_too_long_is_504() {
    with_postgres(async |pool| {
        pool.execute("CREATE TABLE person (id bigint PRIMARY KEY, name text NOT NULL)").await.unwrap();
        pool.execute("INSERT INTO person VALUES (1, 'slow')").await.unwrap();
        async fn handler(mc: Multicore<Postgres>, page: LimitOffset) -> Result<Listing, ListError> {
            let query = ListQuery::<(i64, String)>::select("id, name")
                .from("person, pg_sleep(600)")
                .order_by([asc("id").unique()]);
            mc.parallel_list(query, page, |row| row).await
        }
        let config = Config::default().workers(1).timeout(Duration::from_millis(20));
        let builder = MulticoreLayer::<Postgres>::builder().name(unique()).config(config);
        let lazy = PgPoolOptions::new().connect_lazy_with((*pool.connect_options()).clone());
        let multicore = builder.pool(lazy).start().await.unwrap();
        let app = Router::new().route("/", get(handler)).layer(multicore);
        let answer = ask(&app, "/").await;
        assert_eq!(answer.problem(504), ("timeout".to_owned(), "the list took too long".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_500_without_its_words_and_the_server_goes_on() {
    async fn bad(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        mc.parallel_list(query(), page, |(id, _): Person| -> i64 {
            if id == 3 { panic!("the secret of row {id}") } else { id }
        })
        .await
    }
    let (_folder, pool) = thousand().await;
    let app = routes().route("/bad/", get(bad)).layer(layer(pool.clone(), Config::default()).await);
    for _ in 0..10 {
        let answer = ask(&app, "/bad/").await;
        assert_eq!(answer.problem(500).0, "panic");
        assert!(!String::from_utf8(answer.body).unwrap().contains("secret"));
        assert_eq!(ask(&app, "/persons/?limit=4").await.body, plain(&pool, 4, 0).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_do_not_fit_and_queries_that_cannot_be_paged_are_500() {
    #[derive(serde::Serialize)]
    struct Bad(std::collections::BTreeMap<Vec<u8>, u8>);
    async fn decode(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        let query = ListQuery::<(i64, i64)>::select("id, name").from("person").order_by([asc("id")]);
        mc.parallel_list(query, page, |row| row).await
    }
    async fn encode(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        mc.parallel_list(query(), page, |_| Bad([(vec![1], 1)].into())).await
    }
    async fn unordered(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        let query = ListQuery::<Person>::select("id, name").from("person");
        mc.parallel_list(query, page, |row| row).await
    }
    let (_folder, pool) = thousand().await;
    let routes = Router::new()
        .route("/decode", get(decode))
        .route("/encode", get(encode))
        .route("/unordered", get(unordered));
    let app = routes.layer(layer(pool, Config::default()).await);
    let (code, detail) = ask(&app, "/decode").await.problem(500);
    assert_eq!((code.as_str(), detail.as_str()), ("row", "a row could not be decoded"));
    let (code, detail) = ask(&app, "/encode").await.problem(500);
    assert_eq!((code.as_str(), detail.as_str()), ("row", "a row could not be serialised"));
    let (code, detail) = ask(&app, "/unordered").await.problem(500);
    assert_eq!(code, "query");
    assert!(detail.contains("`.order_by(…)` is missing"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_while_all_workers_are_in_long_runs() {
    let (_folder, pool) = thousand().await;
    let layer = layer(pool.clone(), Config::default()).await;
    let handle = layer.handle();
    let app = routes().layer(layer);
    let (_one, _key) = occupy(&handle).await;
    let (_other, _other_key) = occupy(&handle).await;
    for path in ["persons", "forced", "alone"] {
        assert_eq!(ask(&app, &format!("/{path}/?limit=300")).await.body, plain(&pool, 300, 0).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_client_is_gone_leaves_nothing_behind() {
    let token = Arc::new(());
    let (_folder, pool) = thousand().await;
    let layer = layer(pool.clone(), Config::default()).await;
    let handle = layer.handle();
    let held = Arc::clone(&token);
    let handler = move |mc: Multicore<Sqlite>, page: LimitOffset| {
        let held = Arc::clone(&held);
        async move {
            mc.parallel_list(query(), page, move |row| {
                let _held = &held;
                crate::support::burn(20);
                row
            })
            .await
        }
    };
    let app = Router::new().route("/", get(handler)).layer(layer);
    for polls in 1..50 {
        let request = Request::get("/?limit=1000").body(Body::empty()).unwrap();
        let mut response = Box::pin(app.clone().oneshot(request));
        let mut done = false;
        for _ in 0..polls {
            done = std::future::poll_fn(|context| {
                std::task::Poll::Ready(response.as_mut().poll(context).is_ready())
            })
            .await;
            if done {
                break;
            }
        }
        drop(response);
        if done {
            break;
        }
    }
    assert_eq!((handle.stats().owners, handle.stats().jobs), (0, 0));
    drop(app);
    crate::support::until("what the requests held is dropped", || Arc::strong_count(&token) == 1).await;
    assert!(!plain(&pool, 1, 0).await.is_empty());
}
