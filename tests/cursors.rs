//! Cursors as clients hand them back: changed, of another list, of another server, and after rows came
//! and went.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use multicore_axum::{
    AnyPage, Config, CursorPage, ListError, ListQuery, Listing, Multicore, MulticoreLayer, asc, desc,
};
use sqlx::{Executor, Sqlite, SqlitePool};

use crate::client::{Answer, ask};
use crate::databases::{people, sqlite};
use crate::logs::Errors;
use crate::support::{PLENTY, unique};

type Person = (i64, String);

const SECRET: &str = "the same on all servers";

fn query() -> ListQuery<Person, Sqlite> {
    ListQuery::<Person>::select("id, name").from("person")
}

async fn by_id(mc: Multicore<Sqlite>, page: CursorPage) -> Result<Listing, ListError> {
    mc.parallel_list(query().order_by([asc("id")]), page, |(id, _)| id).await
}

async fn newest(mc: Multicore<Sqlite>, page: CursorPage) -> Result<Listing, ListError> {
    mc.parallel_list(query().order_by([desc("id")]), page, |(id, _)| id).await
}

async fn by_name(mc: Multicore<Sqlite>, page: AnyPage) -> Result<Listing, ListError> {
    mc.parallel_list(query().order_by([desc("name"), asc("id")]), page, |(id, _)| id).await
}

/// Those beyond a number, which is a value and not part of the query's text.
async fn beyond(
    mc: Multicore<Sqlite>,
    Query(parameters): Query<Vec<(String, String)>>,
    page: CursorPage,
) -> Result<Listing, ListError> {
    let beyond = parameters.iter().find(|(name, _)| name == "beyond").map_or(0, |(_, n)| n.parse().unwrap());
    let query = query().order_by([asc("id")]).filter(|q| {
        q.push("id > ").push_bind::<i64>(beyond);
    });
    mc.parallel_list(query, page, |(id, _)| id).await
}

async fn others(mc: Multicore<Sqlite>, page: CursorPage) -> Result<Listing, ListError> {
    let query = ListQuery::<Person>::select("id, name || ''").from("person").order_by([asc("id")]);
    mc.parallel_list(query, page, |(id, _)| id).await
}

/// A server over this database, as others may be.
async fn server(pool: &SqlitePool, secret: Option<&str>) -> Router {
    let config = Config::default().workers(1);
    let config = match secret {
        Some(secret) => config.cursor_secret(multicore_axum::CursorSecret::new(secret).unwrap()),
        None => config,
    };
    let builder = MulticoreLayer::<Sqlite>::builder().config(config).pool(pool.clone()).cores(PLENTY);
    let layer = builder.name(unique()).load_source(|| None).start().await.unwrap();
    Router::new()
        .route("/id", get(by_id))
        .route("/newest", get(newest))
        .route("/name", get(by_name))
        .route("/beyond", get(beyond))
        .route("/others", get(others))
        .layer(layer)
}

async fn people_of(rows: u32) -> (tempfile::TempDir, SqlitePool) {
    let (folder, pool) = sqlite().await;
    people(&pool, rows).await;
    (folder, pool)
}

fn ids(answer: &Answer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap()
}

/// The cursor to the page behind the first.
async fn cursor(app: &Router, list: &str) -> String {
    let next = ask(app, list).await.link("next").unwrap();
    next.split("after=").nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_cursor_that_was_changed_is_the_clients_mistake_and_is_not_logged() {
    let (errors, _guard) = Errors::of_this_thread();
    let (_folder, pool) = people_of(30).await;
    let app = server(&pool, None).await;
    let cursor = cursor(&app, "/name?limit=5").await;
    let mut bad: Vec<String> =
        ["x", "AAAA", "%00", "%F0%9F%A6%80", "%FF", "..%2F..%2F", "'%20OR%201=1--", "null", "0"]
            .map(str::to_owned)
            .into();
    bad.push("A".repeat(60_000));
    bad.push(format!("{cursor}A"));
    bad.push(format!("{cursor}%3D"));
    bad.push(format!("%20{cursor}"));
    bad.push(cursor.to_ascii_lowercase());
    for at in 0..cursor.len() {
        if at > 0 {
            bad.push(cursor[..at].to_owned());
            bad.push(cursor[at..].to_owned());
        }
        let mut flipped = cursor.clone().into_bytes();
        flipped[at] = if flipped[at] == b'Q' { b'R' } else { b'Q' };
        bad.push(String::from_utf8(flipped).unwrap());
    }
    for bad in &bad {
        for name in ["after", "before"] {
            let answer = ask(&app, &format!("/name?{name}={bad}")).await;
            let (code, detail) = answer.problem(400);
            assert_eq!(code, "invalid-cursor", "{bad}");
            assert!(detail.starts_with("the cursor was not made by this server, or was changed"), "{detail}");
        }
    }
    assert_eq!(ids(&ask(&app, &format!("/name?limit=2&after={cursor}")).await).len(), 2);
    assert_eq!(errors.take(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cursor_of_another_list_order_or_filter_is_the_clients_mistake_and_is_not_logged() {
    let (errors, _guard) = Errors::of_this_thread();
    let (_folder, pool) = people_of(30).await;
    let app = server(&pool, None).await;
    let lists = ["/id", "/newest", "/name", "/beyond", "/others"];
    for list in lists {
        let cursor = cursor(&app, &format!("{list}?limit=5")).await;
        for other in lists.iter().filter(|other| **other != list) {
            for name in ["after", "before"] {
                let (code, detail) = ask(&app, &format!("{other}?{name}={cursor}")).await.problem(400);
                assert_eq!(code, "cursor-mismatch", "{list} {other}");
                assert!(
                    detail.starts_with("the cursor belongs to another list, order or filter"),
                    "{detail}"
                );
            }
        }
    }
    // It says where to go on, whichever rows the filter then lets through.
    let cursor = cursor(&app, "/beyond?limit=5&beyond=3").await;
    let answer = ask(&app, &format!("/beyond?limit=2&beyond=10&after={cursor}")).await;
    assert_eq!(ids(&answer), [11, 12]);
    assert!(answer.link("next").unwrap().starts_with("?beyond=10&limit=2&after="));
    assert_eq!(errors.take(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_one_secret_understand_each_others_cursors_and_others_do_not() {
    let (_folder, pool) = people_of(30).await;
    let (one, other) = (server(&pool, Some(SECRET)).await, server(&pool, Some(SECRET)).await);
    let strangers = [
        server(&pool, None).await,
        server(&pool, None).await,
        server(&pool, Some("another secret of one")).await,
    ];
    let made = cursor(&one, "/id?limit=5").await;
    assert_eq!(made, cursor(&other, "/id?limit=5").await);
    assert_eq!(ids(&ask(&other, &format!("/id?limit=3&after={made}")).await), [6, 7, 8]);
    for (at, stranger) in strangers.iter().enumerate() {
        assert_eq!(ask(stranger, &format!("/id?after={made}")).await.problem(400).0, "invalid-cursor");
        let theirs = cursor(stranger, "/id?limit=5").await;
        assert_eq!(ask(&one, &format!("/id?after={theirs}")).await.problem(400).0, "invalid-cursor");
        let next = &strangers[(at + 1) % strangers.len()];
        assert_eq!(ask(next, &format!("/id?after={theirs}")).await.problem(400).0, "invalid-cursor");
        assert_eq!(ids(&ask(stranger, &format!("/id?limit=1&after={theirs}")).await), [6]);
    }
}

/// Walks in one direction while rows go and come: after each page, its edge rows are deleted, and rows
/// are put in before everything, behind everything and beside the edge.
async fn walk_while_rows_change(pool: &SqlitePool, app: &Router, list: &str, from: &str, relation: &str) {
    let all = async || -> BTreeSet<i64> {
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM person").fetch_all(pool).await.unwrap();
        ids.into_iter().collect()
    };
    let before = all().await;
    let (mut seen, mut query) = (Vec::new(), from.to_owned());
    loop {
        let answer = ask(app, &format!("{list}{query}")).await;
        let page = ids(&answer);
        seen.extend(page.iter().copied());
        for edge in [page.first(), page.last()].into_iter().flatten() {
            sqlx::query("DELETE FROM person WHERE id = ?").bind(edge).execute(pool).await.unwrap();
            // Names are numbered as rows are, so this is beside it in every order.
            sqlx::query(
                "INSERT OR IGNORE INTO person SELECT ?1 + d, printf('user %05d', ?1 + d)
                         FROM (SELECT -1 AS d UNION SELECT 1)",
            )
            .bind(edge)
            .execute(pool)
            .await
            .unwrap();
        }
        pool.execute("DELETE FROM person WHERE id = (SELECT min(id) FROM person)").await.unwrap();
        pool.execute(
            "INSERT INTO person SELECT max(id) + 3, printf('user %05d', max(id) + 3) FROM person
                      WHERE id < 2200",
        )
        .await
        .unwrap();
        let Some(next) = answer.link(relation) else { break };
        query = next;
    }
    let once: BTreeSet<i64> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "{list}: a row was on two pages: {seen:?}");
    let after = all().await;
    let lost: Vec<_> = before.intersection(&after).filter(|id| !once.contains(id)).collect();
    assert!(lost.is_empty(), "{list}: rows that were there all the time were on no page: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_neither_repeat_others_nor_make_them_be_left_out() {
    for list in ["/id", "/newest", "/name"] {
        let (_folder, pool) = sqlite().await;
        people(&pool, 0).await;
        // With room between them.
        let rows = "WITH RECURSIVE n(id) AS (SELECT 1000 UNION ALL SELECT id + 10 FROM n LIMIT 100)
                    INSERT INTO person SELECT id, printf('user %05d', id) FROM n";
        pool.execute(rows).await.unwrap();
        let app = server(&pool, None).await;
        walk_while_rows_change(&pool, &app, list, "?limit=7", "next").await;
        // From behind the last row, which a cursor made there is.
        let last = {
            let mut query = "?limit=7".to_owned();
            while let Some(next) = ask(&app, &format!("{list}{query}")).await.link("next") {
                query = next;
            }
            ask(&app, &format!("{list}{query}")).await.link("prev").unwrap()
        };
        walk_back_while_rows_change(&pool, &app, list, &last).await;
    }
}

/// The way back begins at a cursor: what stands behind it is not walked.
async fn walk_back_while_rows_change(pool: &SqlitePool, app: &Router, list: &str, from: &str) {
    let page = ids(&ask(app, &format!("{list}{from}")).await);
    let (first, last) = (page[0], page[page.len() - 1]);
    // The rows behind go, so that all that is left is to be walked.
    let behind =
        if first < last { "DELETE FROM person WHERE id > ?" } else { "DELETE FROM person WHERE id < ?" };
    sqlx::query(behind).bind(last).execute(pool).await.unwrap();
    walk_while_rows_change(pool, app, list, from, "prev").await;
}
