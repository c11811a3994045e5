//! Health, for whoever starts and balances the server: whether the process runs, and whether it
//! should be sent requests.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use multicore_axum::Problem;
use serde_json::{Value, json};
use sqlx::Pool;

use super::AppState;
use crate::database::AppDatabase;

/// How long the database may take to answer: checks come every few seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// `GET /health/live`: 200 as long as the process runs.
pub async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// `GET /health/ready`: 200 if requests are welcome and the database answers.
///
/// # Errors
/// 503 with the code `draining` or `database`.
pub async fn ready<DB: AppDatabase>(State(app): State<Arc<AppState<DB>>>) -> Result<Json<Value>, Problem> {
    if !app.readiness.is_ready() {
        return Err(not_ready("draining", "the server is about to stop"));
    }
    match tokio::time::timeout(ANSWER_WITHIN, ask(&app.pool)).await {
        Ok(Ok(())) => Ok(Json(json!({ "status": "ready" }))),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready: the database failed");
            Err(not_ready("database", "the database failed"))
        }
        Err(_) => {
            tracing::warn!("not ready: the database did not answer within {ANSWER_WITHIN:?}");
            Err(not_ready("database", "the database did not answer in time"))
        }
    }
}

async fn ask<DB: AppDatabase>(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    DB::run(&mut connection, "SELECT 1").await
}

fn not_ready(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}
