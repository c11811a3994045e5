//! Health without a network; what it says while a running program drains is in `program`.

use axum::http::StatusCode;
use serde_json::json;

use crate::support::web::on_sqlite;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_service_is_live_and_ready() {
    let service = on_sqlite(1, 1).await;
    assert!(service.readiness.is_ready());
    let live = service.get("/health/live").await;
    assert_eq!((live.status, live.json()), (StatusCode::OK, json!({ "status": "live" })));
    let ready = service.get("/health/ready").await;
    assert_eq!((ready.status, ready.json()), (StatusCode::OK, json!({ "status": "ready" })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_it_is_live_but_not_ready() {
    let service = on_sqlite(1, 1).await;
    service.pool.close().await;
    assert_eq!(service.get("/health/live").await.status, StatusCode::OK);
    let answer = service.get("/health/ready").await;
    let (code, detail) = answer.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((code.as_str(), detail.as_str()), ("database", "the database failed"));
}
