//! A plain axum list view, and the same with Multicore: the README shows how they differ.

use axum::{Json, Router, extract::State, routing::get};
use sqlx::SqlitePool;

#[derive(sqlx::FromRow)]
struct UserRow {
    id: i64,
    bio: String,
}

#[derive(serde::Serialize)]
struct UserView {
    id: i64,
    html: String,
}

async fn users(State(pool): State<SqlitePool>) -> Json<Vec<UserView>> {
    let query = "SELECT id, bio FROM users ORDER BY id LIMIT 1000";
    let rows: Vec<UserRow> = sqlx::query_as(query).fetch_all(&pool).await.unwrap();
    Json(rows.into_iter().map(view).collect())
}

fn view(row: UserRow) -> UserView {
    UserView { id: row.id, html: format!("<p>{}</p>", row.bio.replace('<', "&lt;")) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = SqlitePool::connect("sqlite:app.db").await?;
    let app = Router::new().route("/users/", get(users)).with_state(pool);
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}
