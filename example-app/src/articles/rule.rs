//! The rule of the articles: each is a pure function of its id, by the hash of the common data
//! set with field numbers from 32. How the body's Markdown is put together is in
//! [`text`](super::text).

use super::stream::Stream;
use super::{ArticleRow, phrases, text};
use crate::dataset::{instant, pick, r};

const TITLE_FORM: u64 = 32;
const TITLE_TOPIC: u64 = 33;
const TITLE_PLACE: u64 = 34;
const AUTHOR: u64 = 35;
const PUBLISHED: u64 = 36;
const BODY: u64 = 37;

/// Authors are the users 1 to this.
const AUTHORS: u64 = 100;

/// The article with this id. Its body has 2 to 8 KiB of Markdown: headings, paragraphs with
/// links, lists, tables, quotes and code; one in five also has raw HTML that must not reach a
/// page.
#[must_use]
pub fn article(id: i32) -> ArticleRow {
    let topic = pick(&phrases::TOPICS, r(id, TITLE_TOPIC));
    let place = pick(&phrases::PLACES, r(id, TITLE_PLACE));
    let title = pick(&phrases::TITLES, r(id, TITLE_FORM)).replace("{topic}", topic).replace("{place}", place);
    ArticleRow {
        id,
        slug: slug(&title, id),
        body: text::body(topic, Stream::from_state(r(id, BODY))),
        title,
        author_id: 1 + (r(id, AUTHOR) % AUTHORS) as i32,
        published_at: instant(r(id, PUBLISHED)),
    }
}

/// Lower-case words joined by hyphens, and the id, which makes it unique.
fn slug(title: &str, id: i32) -> String {
    let mut slug = String::with_capacity(title.len() + 8);
    for word in title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        slug.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        slug.push('-');
    }
    slug.push_str(&id.to_string());
    slug
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn articles_are_a_pure_function_of_the_id() {
        assert_eq!(article(7), article(7));
        assert_ne!(article(7).body, article(8).body);
    }

    #[test]
    fn the_default_articles_have_2_to_8_kib_and_unique_slugs() {
        let mut slugs = HashSet::new();
        let (mut code, mut tables, mut raw) = (0, 0, 0);
        for id in 1..=super::super::DEFAULT_ARTICLES.cast_signed() {
            let article = article(id);
            let length = article.body.len();
            assert!((2_048..=8_192).contains(&length), "article {id} has {length} bytes");
            assert!(article.slug.len() <= 200 && article.title.len() <= 200);
            assert!((1..=100).contains(&article.author_id));
            assert!(slugs.insert(article.slug));
            code += usize::from(article.body.contains("```"));
            tables += usize::from(article.body.contains("|---"));
            raw += usize::from(phrases::RAW_HTML.iter().any(|raw| article.body.contains(raw)));
        }
        assert_eq!(code, 2_000, "every article shows code");
        assert!(tables > 400, "{tables} with tables");
        assert!((300..=500).contains(&raw), "{raw} with raw HTML");
    }
}
