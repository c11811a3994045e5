//! The lists, byte for byte, whoever makes them and on whichever database.

use axum::http::{Method, StatusCode};
use example_app::articles::{ArticleRow, ArticleView, article};
use example_app::database::AppDatabase;
use multicore_axum::{ListRow, SqlDatabase};
use serde_json::Value;

use crate::support::servers::{with_mysql, with_postgres};
use crate::support::web::{ANSWERS, Service, on, on_sqlite, sha256};

/// All answers that the data set gives a digest of, in every way they can be made.
async fn people_are_byte_exact<DB: AppDatabase>(service: &Service<DB>) {
    for (limit, bytes, digest) in ANSWERS {
        for more in [
            "",
            "&mode=auto",
            "&mode=sequential",
            "&mode=parallel",
            "&mode=parallel&render_us=20",
            "&mode=sequential&render_us=20",
            "&render_us=50&strategy=auto",
            "&strategy=single",
            "&strategy=ranges",
            "&strategy=ranges&mode=parallel&render_us=20",
        ] {
            let uri = format!("/users/?limit={limit}{more}");
            let answer = service.get(&uri).await;
            assert_eq!(answer.status, StatusCode::OK, "{uri}");
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!((answer.body.len(), sha256(&answer.body).as_str()), (bytes, digest), "{uri}");
            let mode = answer.header("multicore");
            if more.contains("sequential") {
                assert_eq!(mode, "mode=sequential, reason=forced");
            } else {
                assert!(mode.starts_with("mode="), "{mode:?}");
            }
        }
    }
}

/// People and articles on a database server.
async fn lists_are_exact<DB>(pool: sqlx::Pool<DB>)
where
    DB: AppDatabase + SqlDatabase,
    example_app::users::UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    let service = on(pool, 1_000, 5).await;
    people_are_byte_exact(&service).await;
    let articles = service.get("/articles/?limit=2&offset=1&mode=parallel").await.json();
    assert_eq!(articles["count"], 5);
    assert_eq!(articles["results"], newest_first(5, 1..3));
    assert_eq!(service.get("/health/ready").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_byte_exact_on_sqlite() {
    people_are_byte_exact(&on_sqlite(1_200, 0).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_exact_on_postgres() {
    with_postgres(|pool, _| lists_are_exact(pool)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_exact_on_mysql() {
    with_mysql(|pool, _| lists_are_exact(pool)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_people_have_a_default_and_an_end() {
    let service = on_sqlite(250, 0).await;
    let whole = service.get("/users/?limit=10000").await.json();
    let rows = |json: &Value| json.as_array().unwrap().len();
    assert_eq!(rows(&whole), 250);

    for uri in ["/users/", "/users", "/users/?limit=100", "/users/?other=1"] {
        let page = service.get(uri).await.json();
        assert_eq!(page.as_array().unwrap()[..], whole.as_array().unwrap()[..100], "{uri}");
    }
    let page = service.get("/users/?limit=20&offset=240").await.json();
    assert_eq!(page.as_array().unwrap()[..], whole.as_array().unwrap()[240..]);
    for uri in ["/users/?offset=250", "/users/?limit=1000&offset=9000000000000000000&mode=parallel"] {
        let answer = service.get(uri).await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, &b"[]"[..]), "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_parameter_is_named_with_its_value_and_what_is_accepted() {
    let service = on_sqlite(1, 1).await;
    for list in ["/users/", "/articles/"] {
        for (query, code, says) in [
            ("limit=-1", "invalid-page", "limit is `-1`; accepted: a whole number"),
            ("limit=abc", "invalid-page", "limit is `abc`; accepted: a whole number"),
            ("limit=0", "invalid-page", "limit is `0`; accepted: a whole number from 1 to"),
            ("limit=10001", "invalid-page", "limit is `10001`; accepted: a whole number from 1 to 10000"),
            ("limit=5&limit=6", "invalid-page", "limit is `6`; accepted: one value"),
            ("offset=-1", "invalid-page", "offset is `-1`; accepted: a whole number from 0"),
            ("offset=x", "invalid-page", "offset is `x`; accepted: a whole number from 0"),
            ("mode=fast", "invalid-parameter", "mode is `fast`; accepted: auto, parallel or sequential"),
            ("mode=", "invalid-parameter", "mode is ``; accepted: auto, parallel or sequential"),
            (
                "mode=auto&mode=auto",
                "invalid-parameter",
                "mode is `auto`; accepted: one value; it is given twice",
            ),
            ("strategy=two", "invalid-parameter", "strategy is `two`; accepted: auto, single or ranges"),
            (
                "render_us=-1",
                "invalid-parameter",
                "render_us is `-1`; accepted: a whole number from 0 to 100000",
            ),
            ("render_us=100001", "invalid-parameter", "render_us is `100001`; accepted: a whole number"),
            ("render_us=%2B1", "invalid-parameter", "render_us is `+1`; accepted: a whole number"),
            ("render_us=", "invalid-parameter", "render_us is ``; accepted: a whole number"),
        ] {
            let uri = format!("{list}?{query}");
            let (found, detail) = service.get(&uri).await.problem(StatusCode::BAD_REQUEST);
            assert_eq!(found, code, "{uri}");
            assert!(detail.contains(says), "{uri}: {detail}");
        }
    }
    let (_, detail) = service.get("/articles/?limit=101").await.problem(StatusCode::BAD_REQUEST);
    assert_eq!(detail, "limit is `101`; accepted: a whole number from 1 to 100");
    for (query, says) in [
        ("after=", "after is ``; accepted: a cursor"),
        ("after=a&before=b", "before is `b`; accepted: one cursor"),
        ("offset=1&before=b", "offset is `1`; accepted: no offset beside a cursor"),
    ] {
        let answer = service.get(&format!("/articles/?{query}")).await;
        let (code, detail) = answer.problem(StatusCode::BAD_REQUEST);
        assert!(code == "invalid-page" && detail.starts_with(says), "{query}: {code}, {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_and_methods_are_problems() {
    let service = on_sqlite(1, 1).await;
    for path in ["/", "/user/", "/users/1", "/health", "/metrics"] {
        let (code, detail) = service.get(path).await.problem(StatusCode::NOT_FOUND);
        assert_eq!(code, "not-found");
        assert!(detail.contains(path), "{detail}");
        assert!(detail.contains("/users/export"), "{detail}");
    }
    for path in ["/users/", "/users/export", "/articles/", "/health/live", "/health/ready"] {
        let answer = service.request(Method::POST, path).await;
        let (code, detail) = answer.problem(StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!((code.as_str(), answer.header("allow")), ("method-not-allowed", "GET,HEAD"));
        assert!(detail.contains("POST") && detail.contains(path), "{detail}");
    }
    let head = service.request(Method::HEAD, "/users/").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_is_a_problem_that_does_not_say_what_it_said() {
    let service = on_sqlite(1, 1).await;
    sqlx::query("DROP TABLE people_profile").execute(&service.pool).await.unwrap();
    let answer = service.get("/users/").await;
    let (code, detail) = answer.problem(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(code, "query");
    assert!(!detail.contains("people_profile"), "{detail}");
}

/// What a page of articles should have, by the rule.
fn newest_first(count: i32, page: std::ops::Range<usize>) -> Value {
    let mut all: Vec<_> = (1..=count).map(article).collect();
    all.sort_by_key(|row| std::cmp::Reverse((row.published_at.to_string(), row.id)));
    let views: Vec<_> = all.drain(page).map(ArticleView::from).collect();
    serde_json::to_value(views).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn articles_come_newest_first_in_an_envelope_whoever_makes_them() {
    let service = on_sqlite(0, 6).await;
    let expected = newest_first(6, 0..6);
    for mode in ["auto", "sequential", "parallel"] {
        let answer = service.get(&format!("/articles/?mode={mode}")).await;
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(answer.header("multicore").starts_with("mode="), "{:?}", answer.headers);
        let json = answer.json();
        assert_eq!(
            (&json["count"], &json["next"], &json["previous"]),
            (&6.into(), &Value::Null, &Value::Null)
        );
        assert_eq!(json["results"], expected, "{mode}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.starts_with(r#"{"count":6,"next":null,"previous":null,"results":[{"#), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn articles_of_the_same_second_are_ordered_by_id() {
    let service = on_sqlite(0, 4).await;
    sqlx::query("UPDATE articles_article SET published_at = '2020-01-01 00:00:00'")
        .execute(&service.pool)
        .await
        .unwrap();
    let json = service.get("/articles/").await.json();
    let ids: Vec<_> = json["results"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, [4, 3, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_from_the_first_article_to_the_last_and_back() {
    let service = on_sqlite(0, 7).await;
    let expected = newest_first(7, 0..7);
    let mut seen = Vec::new();
    let mut uri = "/articles/?limit=3&mode=sequential".to_owned();
    let mut last = Value::Null;
    loop {
        let answer = service.get(&uri).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["count"]), (StatusCode::OK, &7.into()), "{uri}");
        for (key, rel) in [("next", "next"), ("previous", "prev")] {
            let link = json[key].as_str().map(|url| format!("<{url}>; rel=\"{rel}\""));
            let named = answer.header("link").contains(&format!("rel=\"{rel}\""));
            assert_eq!(named, link.is_some(), "{:?}", answer.headers);
            assert!(answer.header("link").contains(&link.unwrap_or_default()), "{:?}", answer.headers);
        }
        seen.extend(json["results"].as_array().unwrap().clone());
        last = if json["previous"].is_null() { last } else { json["previous"].clone() };
        // Links keep the other parameters.
        assert_eq!(answer.header("multicore"), "mode=sequential, reason=forced");
        let Some(next) = json["next"].as_str() else { break };
        uri = format!("/articles/{next}");
    }
    assert_eq!(Value::from(seen), expected);
    let before = service.get(&format!("/articles/{}", last.as_str().unwrap())).await.json();
    assert_eq!(before["results"], newest_first(7, 3..6));

    let beyond = service.get("/articles/?offset=70").await.json();
    assert_eq!((&beyond["count"], &beyond["results"]), (&7.into(), &Value::Array(Vec::new())));
}
