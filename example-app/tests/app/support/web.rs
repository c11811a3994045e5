//! The routes over a database, without a network.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use example_app::articles::ArticleRow;
use example_app::database::AppDatabase;
use example_app::drain::Readiness;
use example_app::progress::Quiet;
use example_app::routes::{AppState, router};
use example_app::seed::{SeedPlan, seed};
use example_app::users::UserRow;
use http_body_util::BodyExt;
use multicore_axum::{Config, ListRow, MulticoreLayer, SqlDatabase};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Pool, Sqlite};
use tempfile::TempDir;
use tower::ServiceExt;

/// The service over a database of so many rows.
pub(crate) struct Service<DB: AppDatabase> {
    pub(crate) router: Router,
    pub(crate) pool: Pool<DB>,
    pub(crate) readiness: Readiness,
    /// Holds the database's file.
    _folder: Option<TempDir>,
}

/// The service over a new SQLite file.
pub(crate) async fn on_sqlite(users: u32, articles: u32) -> Service<Sqlite> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("people.db").display());
    let pool = SqlitePoolOptions::new().connect(&url).await.unwrap();
    Service { _folder: Some(folder), ..on(pool, users, articles).await }
}

/// The service over this empty database.
pub(crate) async fn on<DB>(pool: Pool<DB>, users: u32, articles: u32) -> Service<DB>
where
    DB: AppDatabase + SqlDatabase,
    UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    DB::migrate(&pool).await.unwrap();
    seed(&pool, SeedPlan { users, articles }, &mut Quiet).await.unwrap();
    let config = Config::default().max_limit(10_000).workers(2);
    let layer = MulticoreLayer::<DB>::builder().config(config).pool(pool.clone()).start().await.unwrap();
    let readiness = Readiness::default();
    let state = Arc::new(AppState { pool: pool.clone(), readiness: readiness.clone() });
    Service { router: router(state, layer), pool, readiness, _folder: None }
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl<DB: AppDatabase> Service<DB> {
    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.request(Method::GET, uri).await
    }

    pub(crate) async fn request(&self, method: Method, uri: &str) -> Answer {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Requires a problem response, and gives its code and detail.
    pub(crate) fn problem(&self, status: StatusCode) -> (String, String) {
        let json = self.json();
        assert_eq!(self.status, status, "{json}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(json["status"], status.as_u16());
        (json["code"].as_str().unwrap().to_owned(), json["detail"].as_str().unwrap().to_owned())
    }
}

/// The digests of the common data set's answers, by their number of rows.
pub(crate) const ANSWERS: [(usize, usize, &str); 2] = [
    (100, 64_471, "31d9baa504ef6e053d6a78e4e105c01faf38cee57ff8f115793dbfdfe40c5834"),
    (1_000, 642_624, "709f37f45af67f1053def612924542fe4b33a73a641db74f285cebff0d94b13d"),
];

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
