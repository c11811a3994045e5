//! Page parameters as a client and an application see them.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use multicore_axum::{
    AnyPage, Config, CursorPage, LimitOffset, ListError, Listing, Multicore, Page, PageLimits, PageNumber,
    PageRequest, Paging, Start,
};
use serde_json::{Value, json};
use sqlx::Sqlite;

use crate::client::ask;
use crate::http::{layer, plain, query, routes, thousand};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_parameters_that_are_not_accepted_are_400_with_parameter_value_and_what_is() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool, Config::default().max_limit(50)).await);
    for (query, says, accepted) in [
        ("limit=-1", "limit is `-1`; accepted: ", "a whole number"),
        ("limit=abc", "limit is `abc`; accepted: ", "a whole number"),
        ("limit=1e3", "limit is `1e3`; accepted: ", "a whole number"),
        ("limit=", "limit is ``; accepted: ", "a whole number"),
        ("limit=%F0%9F%A6%80", "limit is `\u{1F980}`; accepted: ", "a whole number"),
        ("limit=0", "limit is `0`; accepted: ", "a whole number from 1 to 50"),
        ("limit=51", "limit is `51`; accepted: ", "a whole number from 1 to 50"),
        ("limit=5&limit=6", "limit is `6`; accepted: ", "one value"),
        ("page=2", "page is `2`; accepted: ", "this list has `limit`, `offset`"),
        ("offset=-5", "offset is `-5`; accepted: ", "a whole number"),
        ("offset=x", "offset is `x`; accepted: ", "a whole number"),
        ("offset=1&offset=1", "offset is `1`; accepted: ", "one value"),
        ("offset=9223372036854775808", "offset is `9223372036854775808`; accepted: ", "9223372036854775807"),
        ("offset=99999999999999999999", "offset is `99999999999999999999`; accepted: ", "a whole number"),
    ] {
        let (code, detail) = ask(&app, &format!("/persons/?{query}")).await.problem(400);
        assert_eq!(code, "invalid-page", "{query}");
        assert!(detail.starts_with(says) && detail.contains(accepted), "{query}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_the_configured_limits_and_end_where_the_rows_do() {
    let (_folder, pool) = thousand().await;
    let app = routes().layer(layer(pool.clone(), Config::default().default_limit(7).max_limit(2_000)).await);
    for (query, limit, offset) in [
        ("", 7, 0),
        ("?offset=10", 7, 10),
        ("?limit=2000", 2_000, 0),
        ("?limit=20&offset=990", 20, 990),
        ("?limit=5&offset=1000", 5, 1_000),
        ("?limit=5&offset=9223372036854775807", 5, i64::MAX),
        ("?limit=3&other=x", 3, 0),
    ] {
        for path in ["persons", "forced", "alone"] {
            let answer = ask(&app, &format!("/{path}/{query}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{query}");
            assert_eq!(answer.body, plain(&pool, limit, offset).await, "{path} {query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_can_be_asked_for_by_number() {
    async fn handler(mc: Multicore<Sqlite>, page: PageNumber) -> Result<Listing, ListError> {
        Ok(mc.parallel_list(query(), page, |row| row).await?.count(1_000).envelope())
    }
    let (_folder, pool) = thousand().await;
    let app = Router::new().route("/", get(handler));
    let app = app.layer(layer(pool.clone(), Config::default().default_limit(300).max_limit(400)).await);
    for (query, limit, offset, next, previous) in [
        ("", 300, 0, Some("?page=2&page_size=300"), None),
        ("?page=2", 300, 300, Some("?page=3&page_size=300"), Some("?page=1&page_size=300")),
        ("?q=a&page=3&page_size=400", 400, 800, None, Some("?q=a&page=2&page_size=400")),
        ("?page=1000", 300, 299_700, None, Some("?page=999&page_size=300")),
    ] {
        let body = ask(&app, &format!("/{query}")).await.json();
        assert_eq!((&body["next"], &body["previous"]), (&json!(next), &json!(previous)), "{query}");
        let rows: Value = serde_json::from_slice(&plain(&pool, limit, offset).await).unwrap();
        assert_eq!(body["results"], rows, "{query}");
    }
    for (query, says) in [
        ("page=0", "page is `0`; accepted: a whole number from 1 to 30744573456182586"),
        ("page=9223372036854775807", "page is `9223372036854775807`; accepted: a whole number from 1 to"),
        ("page_size=401", "page_size is `401`; accepted: a whole number from 1 to 400"),
    ] {
        let (code, detail) = ask(&app, &format!("/?{query}")).await.problem(400);
        assert!(code == "invalid-page" && detail.starts_with(says), "{query}: {code}, {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_that_contradict_or_are_missing_are_400_before_the_database_is_asked() {
    async fn by_cursor(mc: Multicore<Sqlite>, page: CursorPage) -> Result<Listing, ListError> {
        mc.parallel_list(query(), page, |row| row).await
    }
    async fn any(mc: Multicore<Sqlite>, page: AnyPage) -> Result<Listing, ListError> {
        mc.parallel_list(query(), page, |row| row).await
    }
    let (_folder, pool) = thousand().await;
    let app = Router::new().route("/cursor/", get(by_cursor)).route("/any/", get(any));
    let app = app.layer(layer(pool.clone(), Config::default()).await);
    for path in ["cursor", "any"] {
        for (query, says) in [
            ("after=", "after is ``; accepted: a cursor"),
            ("before=&limit=5", "before is ``; accepted: a cursor"),
            ("after=a&before=b", "before is `b`; accepted: one cursor"),
            ("after=a&after=b", "after is `b`; accepted: one value"),
            ("after=a&limit=0", "limit is `0`; accepted: a whole number from 1 to 1000"),
        ] {
            let (code, detail) = ask(&app, &format!("/{path}/?{query}")).await.problem(400);
            assert!(code == "invalid-page" && detail.starts_with(says), "{path} {query}: {code}, {detail}");
        }
    }
    let (_, detail) = ask(&app, "/any/?after=a&offset=3").await.problem(400);
    assert_eq!(detail, "offset is `3`; accepted: no offset beside a cursor; `after` is given too");
    assert_eq!(ask(&app, "/any/?limit=9&offset=3").await.body, plain(&pool, 9, 3).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_can_have_limits_of_its_own() {
    async fn short(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        let page = page.within(PageLimits { default_limit: 2, max_limit: 20 });
        mc.parallel_list(query(), page, |row| row).await
    }
    async fn none(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
        let page = page.within(PageLimits { default_limit: 2, max_limit: 1 });
        mc.parallel_list(query(), page, |row| row).await
    }
    let (_folder, pool) = thousand().await;
    let routes = Router::new().route("/short/", get(short)).route("/none/", get(none));
    let app = routes.clone().layer(layer(pool.clone(), Config::default()).await);
    assert_eq!(ask(&app, "/short/").await.body, plain(&pool, 2, 0).await);
    assert_eq!(ask(&app, "/short/?limit=20").await.body, plain(&pool, 20, 0).await);
    let (_, detail) = ask(&app, "/short/?limit=21").await.problem(400);
    assert_eq!(detail, "limit is `21`; accepted: a whole number from 1 to 20");
    assert_eq!(ask(&app, "/none/").await.problem(500).0, "query");

    let app = routes.layer(layer(pool.clone(), Config::default().max_limit(10)).await);
    assert_eq!(ask(&app, "/short/").await.body, plain(&pool, 2, 0).await);
    let (_, detail) = ask(&app, "/short/?limit=11").await.problem(400);
    assert_eq!(detail, "limit is `11`; accepted: a whole number from 1 to 10", "the configured limit holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_the_program_made_is_within_any_limit() {
    async fn handler(mc: Multicore<Sqlite>) -> Result<Listing, ListError> {
        mc.parallel_list(query(), Page { limit: 500, offset: 1 }, |row| row).await
    }
    async fn paging(mc: Multicore<Sqlite>) -> Result<Listing, ListError> {
        let page = Paging { limit: 500, start: Start::Offset(1), look_ahead: false };
        mc.parallel_list(query(), page, |row| row).await
    }
    let (_folder, pool) = thousand().await;
    let app = Router::new()
        .route("/", get(handler))
        .route("/paging", get(paging))
        .layer(layer(pool.clone(), Config::default().max_limit(10).default_limit(10)).await);
    for path in ["/", "/paging"] {
        let answer = ask(&app, path).await;
        assert_eq!(answer.body, plain(&pool, 500, 1).await);
        assert_eq!(answer.header("link"), None, "it is not known which parameters the request would have");
    }
}
