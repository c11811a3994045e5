//! The list of articles, newest first: each row's Markdown is rendered, which takes milliseconds, and
//! the page stands in an envelope with count and links.

use multicore_axum::{
    AnyPage, ListError, ListQuery, ListRow, Listing, Multicore, PageLimits, PageRequest, SqlDatabase, desc,
};

use super::trial::Trial;
use crate::articles::{ARTICLE_COLUMNS, ARTICLE_TABLES, ArticleRow, ArticleView};
use crate::render_cost::render_us;

/// An article takes some milliseconds and ten kilobytes, a hundred times what a user does: so its
/// pages are shorter.
const LIMITS: PageLimits = PageLimits { default_limit: 20, max_limit: 100 };

/// `GET /articles/?limit=` with `&after=`, `&before=` or `&offset=`, and the [trial](Trial) parameters.
///
/// # Errors
/// A page outside the limits, a cursor of another list, or the first failure in the order of the rows.
pub async fn articles<DB>(mc: Multicore<DB>, page: AnyPage, trial: Trial) -> Result<Listing, ListError>
where
    DB: SqlDatabase,
    ArticleRow: ListRow<DB>,
{
    let query = ListQuery::<ArticleRow>::select(ARTICLE_COLUMNS)
        .from(ARTICLE_TABLES)
        // The id makes the order total: several articles may have the same second.
        .order_by([desc("a.published_at"), desc("a.id")])
        .with_count()
        .execution(trial.execution)
        .strategy(trial.strategy);
    let listing = mc
        .parallel_list(query, page.within(LIMITS), move |row: ArticleRow| {
            render_us(trial.render_us);
            ArticleView::from(row)
        })
        .await?;
    Ok(listing.envelope())
}
