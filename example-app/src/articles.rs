//! Articles: the row as the databases give it, and the view whose rendering is expensive. Which
//! articles exist is in `rule`, and the making of HTML in [`markdown`]; paging
//! and HTTP do not belong here.

mod phrases;
mod rule;
mod snippets;
mod stream;
mod text;

pub use rule::article;

use serde::Serialize;

use crate::calendar::Timestamp;
use crate::markdown::{self, Rendered};

/// How many articles are seeded unless asked otherwise.
pub const DEFAULT_ARTICLES: u32 = 2_000;

/// The columns of an [`ArticleRow`], in its order, to follow `SELECT`.
pub const ARTICLE_COLUMNS: &str = "a.id, a.slug, a.title, a.author_id, a.published_at, a.body";

/// The table of an [`ArticleRow`], to follow `FROM`.
pub const ARTICLE_TABLES: &str = "articles_article a";

/// Words read in a minute, for [`ArticleView::reading_minutes`].
const WORDS_PER_MINUTE: usize = 200;

/// An article, decoded from a row of SQLite, PostgreSQL or MySQL.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ArticleRow {
    /// Primary key.
    pub id: i32,
    /// Unique name in URLs.
    pub slug: String,
    /// Title, plain text.
    pub title: String,
    /// The user who wrote it.
    pub author_id: i32,
    /// When it was published.
    pub published_at: Timestamp,
    /// Markdown, with whatever raw HTML the author put in.
    pub body: String,
}

/// The JSON form of an [`ArticleRow`]. Making one renders the body, which takes some
/// milliseconds; serialising it is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArticleView {
    /// Primary key.
    pub id: i32,
    /// Unique name in URLs.
    pub slug: String,
    /// Title, plain text.
    pub title: String,
    /// The user who wrote it.
    pub author_id: i32,
    /// When it was published.
    pub published_at: Timestamp,
    /// The body as sanitised HTML with highlighted code.
    pub html: String,
    /// The start of the body, plain text.
    pub excerpt: String,
    /// Words of the body outside of code blocks.
    pub words: usize,
    /// Minutes that reading takes, at 200 words a minute, rounded up; at least 1.
    pub reading_minutes: usize,
}

impl From<ArticleRow> for ArticleView {
    fn from(row: ArticleRow) -> Self {
        let Rendered { html, excerpt, words } = markdown::render(&row.body);
        Self {
            id: row.id,
            slug: row.slug,
            title: row.title,
            author_id: row.author_id,
            published_at: row.published_at,
            html,
            excerpt,
            words,
            reading_minutes: words.div_ceil(WORDS_PER_MINUTE).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_has_what_a_page_needs_and_nothing_unsafe() {
        for id in 1..=60 {
            let row = article(id);
            let view = ArticleView::from(row.clone());
            assert_eq!((view.id, &view.slug, &view.title), (id, &row.slug, &row.title));
            assert!(view.html.len() > 2_048, "article {id}");
            assert!((20..=201).contains(&view.excerpt.chars().count()), "{}", view.excerpt);
            assert_eq!(view.reading_minutes, view.words.div_ceil(200));
            for bad in ["<script", "onerror", "onclick", "javascript:", "<iframe", "<style"] {
                assert!(!view.html.contains(bad), "{bad} in article {id}");
            }
        }
    }

    #[test]
    fn the_json_has_the_keys_in_order() {
        let json = serde_json::to_string(&ArticleView::from(article(1))).unwrap();
        let mut last = 0;
        for key in [
            "id",
            "slug",
            "title",
            "author_id",
            "published_at",
            "html",
            "excerpt",
            "words",
            "reading_minutes",
        ] {
            let at = json.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in {json}"));
            assert!(at >= last, "{key} in {json}");
            last = at;
        }
    }
}
