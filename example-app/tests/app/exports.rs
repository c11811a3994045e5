//! The export of all people: the same rows as the pages, in each format, on whichever database.

use axum::http::StatusCode;
use example_app::articles::ArticleRow;
use example_app::database::AppDatabase;
use example_app::dataset::user_row;
use example_app::users::{FlatUserView, UserRow, UserView};
use multicore_axum::{ListRow, SqlDatabase};
use serde_json::Value;

use crate::support::servers::{with_mysql, with_postgres};
use crate::support::web::{Service, on, on_sqlite};

const PEOPLE: u32 = 2_500;
const COLUMNS: &str = "id,username,first_name,last_name,email,is_active,is_staff,date_joined,full_name,avatar_url,\
                       days_member,profile_location,profile_birth_date,profile_karma,profile_website,profile_bio,\
                       profile_age,profile_bio_words";

/// One field of a CSV line of the data set, which needs quotes for its commas and quotes only.
fn field(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What the data set says of each format, made without the library.
fn expected() -> [(&'static str, &'static str, Vec<u8>); 3] {
    let views: Vec<_> = (1..=PEOPLE as i32).map(|id| UserView::from(user_row(id))).collect();
    let mut lines = String::new();
    let mut records = format!("{COLUMNS}\n");
    for view in &views {
        lines += &(serde_json::to_string(view).unwrap() + "\n");
        let flat = serde_json::to_value(FlatUserView(view.clone())).unwrap();
        let fields: Vec<_> = COLUMNS.split(',').map(|column| field(&flat[column])).collect();
        records += &(fields.join(",") + "\n");
    }
    [
        ("json", "application/json", serde_json::to_vec(&views).unwrap()),
        ("ndjson", "application/x-ndjson", lines.into_bytes()),
        ("csv", "text/csv; charset=utf-8; header=present", records.into_bytes()),
    ]
}

async fn exports_are_whole<DB>(pool: sqlx::Pool<DB>)
where
    DB: AppDatabase + SqlDatabase,
    UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    let service = on(pool, PEOPLE, 0).await;
    whole(&service).await;
}

async fn whole<DB: AppDatabase>(service: &Service<DB>) {
    for (format, content_type, body) in expected() {
        for more in
            ["", "&mode=sequential", "&mode=parallel", "&mode=parallel&render_us=20", "&strategy=single"]
        {
            let uri = format!("/users/export?format={format}{more}");
            let answer = service.get(&uri).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (StatusCode::OK, content_type),
                "{uri}"
            );
            assert!(answer.header("multicore").starts_with("mode="), "{:?}", answer.headers);
            assert_eq!(answer.header("content-length"), "", "its length is not known before its end");
            assert!(answer.body == body, "{uri}: {} bytes, not {}", answer.body.len(), body.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_whole_on_sqlite() {
    let service = on_sqlite(PEOPLE, 0).await;
    whole(&service).await;
    let mut pages = Vec::new();
    for offset in (0..PEOPLE).step_by(1_000) {
        let page = service.get(&format!("/users/?limit=1000&offset={offset}")).await.body;
        pages.push(if offset == 0 { b'[' } else { b',' });
        pages.extend_from_slice(&page[1..page.len() - 1]);
    }
    pages.push(b']');
    assert!(service.get("/users/export").await.body == pages, "not the pages put together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_whole_on_postgres() {
    with_postgres(|pool, _| exports_are_whole(pool)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_whole_on_mysql() {
    with_mysql(|pool, _| exports_are_whole(pool)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_without_people_is_empty() {
    let service = on_sqlite(0, 0).await;
    for (format, body) in [("json", "[]"), ("ndjson", ""), ("csv", "")] {
        let answer = service.get(&format!("/users/export?format={format}")).await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, body.as_bytes()), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_export_does_not_take_is_named_with_what_it_does() {
    let service = on_sqlite(1, 0).await;
    for (query, says) in [
        ("format=xml", "format is `xml`; accepted: json, ndjson or csv"),
        ("format=JSON", "format is `JSON`; accepted: json, ndjson or csv"),
        ("format=", "format is ``; accepted: json, ndjson or csv"),
        ("format=csv&format=csv", "format is `csv`; accepted: one value; it is given twice"),
        ("strategy=ranges", "strategy is `ranges`; accepted: auto or single: an export is one statement"),
        ("mode=fast", "mode is `fast`; accepted: auto, parallel or sequential"),
        ("render_us=x", "render_us is `x`; accepted: a whole number from 0 to 100000"),
    ] {
        let answer = service.get(&format!("/users/export?{query}")).await;
        let (code, detail) = answer.problem(StatusCode::BAD_REQUEST);
        assert_eq!((code.as_str(), detail.as_str()), ("invalid-parameter", says));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_cannot_begin_is_a_problem() {
    let service = on_sqlite(1, 0).await;
    sqlx::query("DROP TABLE people_profile").execute(&service.pool).await.unwrap();
    let answer = service.get("/users/export?format=csv").await;
    assert_eq!(answer.problem(StatusCode::INTERNAL_SERVER_ERROR).0, "query");
}
