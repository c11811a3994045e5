//! Thumbnails, drawn in worker processes: a picture that crashes its worker costs one request.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response, Result};
use multicore_axum::process::Packed;
use multicore_axum::{ListError, ListRow, Multicore, Problem, ProcessProblem, SqlDatabase};

use super::AppState;
use crate::articles::ArticleRow;
use crate::database::AppDatabase;
use crate::thumbnails::{ARTICLE, PICTURE, Text};

/// The longest picture, in bytes.
pub const MAX_PICTURE: usize = 1024 * 1024;

/// `GET /articles/{id}/thumbnail`: the article as a small picture.
///
/// # Errors
/// 404 if there is no such article; what becomes of the database and of the worker.
pub async fn of_article<DB>(
    mc: Multicore<DB>,
    State(app): State<Arc<AppState<DB>>>,
    Path(id): Path<String>,
) -> Result<Response>
where
    DB: AppDatabase + SqlDatabase,
    ArticleRow: ListRow<DB>,
{
    let article = match id.parse() {
        Ok(id) => DB::article(&app.pool, id).await.map_err(ListError::from)?,
        Err(_) => None,
    };
    let Some(ArticleRow { title, body, .. }) = article else {
        let shown: String = id.chars().take(32).collect();
        let detail = format!("there is no article {shown}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", detail).into());
    };
    let png = mc.processes().run(ARTICLE, Packed(Text { title, body })).await;
    Ok(response(png.map_err(ProcessProblem::from)?))
}

/// `POST /thumbnails` with an SVG of at most [`MAX_PICTURE`] bytes, whatever its `Content-Type` says: the same
/// picture as a PNG.
///
/// # Errors
/// 413 for a longer one, 422 for one that cannot be drawn, with the code `failed`, `crash` or `memory`; 504 for
/// one that takes too long.
pub async fn of_picture<DB: SqlDatabase>(
    mc: Multicore<DB>,
    picture: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let picture = picture.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the picture is longer than {MAX_PICTURE} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
        }
        status => Problem::new(status, "body", "the picture did not arrive as a whole"),
    })?;
    let png = mc.processes().run(PICTURE, picture).await;
    Ok(response(png.map_err(ProcessProblem::of_input)?))
}

/// The PNG is sent from the memory that the worker wrote it into.
fn response(png: Bytes) -> Response {
    ([(CONTENT_TYPE, "image/png"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], png).into_response()
}
