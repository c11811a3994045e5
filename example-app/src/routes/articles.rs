//! The list of articles, newest first: each row's Markdown is rendered, which takes milliseconds, and
//! the page stands in an envelope with count and links.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Result;
use multicore_axum::{
    AnyPage, ListQuery, Listing, Multicore, PageLimits, PageRequest, Problem, SqlDatabase, desc,
};
use sqlx::FromRow;

use super::AppState;
use super::trial::Trial;
use crate::articles::{ARTICLE_COLUMNS, ARTICLE_TABLES, ArticleRow, ArticleView};
use crate::database::AppDatabase;
use crate::render_cost::render_us;

/// An article takes some milliseconds and ten kilobytes, a hundred times what a user does: so its
/// pages are shorter.
const LIMITS: PageLimits = PageLimits { default_limit: 20, max_limit: 100 };

/// `GET /articles/?limit=` with `&after=`, `&before=` or `&offset=`, and the [trial](Trial) parameters.
///
/// # Errors
/// A page outside the limits, a cursor of another list, or the first failure in the order of the rows.
pub async fn articles<DB>(
    State(app): State<Arc<AppState<DB>>>,
    mc: Multicore<DB>,
    page: AnyPage,
    trial: Trial,
) -> Result<Listing>
where
    DB: AppDatabase + SqlDatabase,
    for<'r> ArticleRow: FromRow<'r, DB::Row>,
{
    let query = ListQuery::<ArticleRow>::select(ARTICLE_COLUMNS)
        .from(ARTICLE_TABLES)
        // The id makes the order total: several articles may have the same second.
        .order_by([desc("a.published_at"), desc("a.id")])
        .execution(trial.execution);
    let listing = mc
        .parallel_list(query, page.within(LIMITS), move |row: ArticleRow| {
            render_us(trial.render_us);
            ArticleView::from(row)
        })
        .await?;
    // `query.with_count()` instead, as soon as lists count: then this statement, the application's pool in
    // this handler, `.count(…)` and `uncounted` go.
    let count = DB::count(&app.pool, "SELECT COUNT(*) FROM articles_article").await.map_err(uncounted)?;
    Ok(listing.count(count).envelope())
}

/// What the client is told; what the database said is for the log.
fn uncounted(error: sqlx::Error) -> Problem {
    tracing::error!(%error, "cannot count the articles");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database", "the database failed").retry_after(1)
}
