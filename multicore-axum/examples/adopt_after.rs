//! A plain axum list view, and the same with Multicore: the README shows how they differ.

use axum::{Router, routing::get};
use multicore_axum::{LimitOffset, ListError, ListQuery, Listing, Multicore, MulticoreLayer, asc};
use sqlx::{Sqlite, SqlitePool};

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

async fn users(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
    let query = ListQuery::<UserRow>::select("id, bio").from("users").order_by([asc("id")]);
    mc.parallel_list(query, page, view).await
}

fn view(row: UserRow) -> UserView {
    UserView { id: row.id, html: format!("<p>{}</p>", row.bio.replace('<', "&lt;")) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = SqlitePool::connect("sqlite:app.db").await?;
    let multicore = MulticoreLayer::<Sqlite>::builder().pool(pool).start().await?;
    let app = Router::new().route("/users/", get(users)).layer(multicore);
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}
