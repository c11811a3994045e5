//! What is served under which path, and the layer that lends cores. One noun a file: each holds its
//! handlers and nothing about starting or stopping.

pub mod articles;
pub mod export;
pub mod health;
pub mod thumbnails;
pub mod trial;
pub mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use multicore_axum::{ListRow, MulticoreLayer, Problem, SqlDatabase};
use sqlx::Pool;

use crate::articles::ArticleRow;
use crate::database::AppDatabase;
use crate::drain::Readiness;
use crate::users::UserRow;

/// What handlers share besides the layer.
#[derive(Debug)]
pub struct AppState<DB: AppDatabase> {
    /// The application's connections.
    pub pool: Pool<DB>,
    /// Whether the server wants new requests.
    pub readiness: Readiness,
}

/// All routes. The layer goes around those before it.
pub fn router<DB>(state: Arc<AppState<DB>>, multicore: MulticoreLayer<DB>) -> Router
where
    DB: AppDatabase + SqlDatabase,
    UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    Router::new()
        .route("/users/", get(users::users::<DB>))
        .route("/users", get(users::users::<DB>))
        .route("/users/export", get(export::export::<DB>))
        .route("/articles/", get(articles::articles::<DB>))
        .route("/articles", get(articles::articles::<DB>))
        .route("/articles/{id}/thumbnail", get(thumbnails::of_article::<DB>))
        .route(
            "/thumbnails",
            post(thumbnails::of_picture::<DB>).layer(DefaultBodyLimit::max(thumbnails::MAX_PICTURE)),
        )
        .layer(multicore)
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready::<DB>))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(state)
}

async fn not_found(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}; see /users/, /users/export, /articles/, /articles/1/thumbnail and /thumbnails",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let accepted = if uri.path() == "/thumbnails" { "POST" } else { "GET and HEAD" };
    let detail = format!("{} does not take {method}; accepted: {accepted}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}
