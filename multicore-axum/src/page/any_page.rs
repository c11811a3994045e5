//! Pages by cursor or by offset, as the client likes.

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use multicore_core::Paging;

use super::parameters::{extract, not_elsewhere, refused};
use super::{CursorPage, LimitOffset, LinkStyle, PageRequest};
use crate::config::PageLimits;
use crate::list_problem::ListError;

/// `?limit=` with `after=` or `before=` (by cursor) or with `offset=` (by offset): a list that clients
/// walk through by cursor and may still enter anywhere.
///
/// Default: the first page by cursor. Links go on in the way the request asked; only a link back to the
/// very first row has no `offset`, which is the first page by cursor.
///
/// As an extractor it answers 400 for what [`CursorPage`] or [`LimitOffset`] does not accept of these, for an
/// `offset` together with a cursor, and for a number as `page` or `page_size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyPage {
    /// By cursor, or the first page.
    Cursor(CursorPage),
    /// By offset.
    Offset(LimitOffset),
}

impl Default for AnyPage {
    fn default() -> Self {
        AnyPage::Cursor(CursorPage::default())
    }
}

impl AnyPage {
    /// Reads the parameters out of a query string. Others are kept for links.
    ///
    /// # Errors
    /// What is not accepted by the kind of page that is asked for, and both kinds together.
    pub fn from_query(query: &str) -> Result<Self, ListError> {
        AnyPage::parse(query, None)
    }

    fn parse(query: &str, limits: Option<PageLimits>) -> Result<Self, ListError> {
        let (mut cursor, mut offset) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "after" | "before" => cursor = Some(name.into_owned()),
                "offset" => offset = Some(value),
                "limit" => {}
                name => not_elsewhere(name, &value, &["limit", "after", "before", "offset"])?,
            }
        }
        match (cursor, offset) {
            (_, None) => CursorPage::parse(query, limits).map(AnyPage::Cursor),
            (None, Some(_)) => LimitOffset::parse(query, limits).map(AnyPage::Offset),
            (Some(cursor), Some(offset)) => {
                Err(refused("offset", &offset, format!("no offset beside a cursor; `{cursor}` is given too")))
            }
        }
    }
}

impl PageRequest for AnyPage {
    fn resolve(&self, limits: PageLimits) -> Result<Paging, ListError> {
        match self {
            AnyPage::Cursor(page) => page.resolve(limits),
            AnyPage::Offset(page) => page.resolve(limits),
        }
    }

    fn other_parameters(&self) -> &[(String, String)] {
        match self {
            AnyPage::Cursor(page) => page.other_parameters(),
            AnyPage::Offset(page) => page.other_parameters(),
        }
    }

    fn link_style(&self) -> LinkStyle {
        match self {
            AnyPage::Cursor(page) => page.link_style(),
            AnyPage::Offset(page) => page.link_style(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for AnyPage {
    type Rejection = ListError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ListError> {
        extract(parts, AnyPage::parse)
    }
}

#[cfg(test)]
mod tests {
    use multicore_core::Start;

    use super::*;

    fn start(query: &str) -> Result<(Start, LinkStyle), String> {
        AnyPage::from_query(query)
            .and_then(|page| Ok((page.resolve(PageLimits::default())?.start, page.link_style())))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_parameters_say_which_kind_it_is() {
        let cursor = |start| Ok((start, LinkStyle::Cursor));
        let offset = |offset| Ok((Start::Offset(offset), LinkStyle::LimitOffset));
        assert_eq!(start(""), cursor(Start::First));
        assert_eq!(start("limit=5&q=a"), cursor(Start::First));
        assert_eq!(start("after=a"), cursor(Start::After("a".to_owned())));
        assert_eq!(start("before=b&limit=5"), cursor(Start::Before("b".to_owned())));
        assert_eq!(start("offset=0"), offset(0));
        assert_eq!(start("limit=5&offset=10"), offset(10));
    }

    #[test]
    fn others_are_kept_whichever_kind_it_is() {
        for query in ["q=a", "q=a&after=x", "q=a&offset=1&limit=2"] {
            let page = AnyPage::from_query(query).unwrap();
            assert_eq!(page.other_parameters(), [("q".to_owned(), "a".to_owned())], "{query}");
        }
    }

    #[test]
    fn what_is_not_accepted_is_named_with_its_value_and_what_is() {
        for (query, says) in [
            ("offset=5&after=a", "offset is `5`; accepted: no offset beside a cursor; `after` is given too"),
            ("before=&offset=", "offset is ``; accepted: no offset beside a cursor; `before` is given too"),
            ("after=", "after is ``; accepted: a cursor as a link to a page has it"),
            ("after=a&before=b", "before is `b`; accepted: one cursor; `after` is given too"),
            ("offset=", "offset is ``; accepted: a whole number from 0 to 9223372036854775807"),
            ("offset=1&offset=2", "offset is `2`; accepted: one value; it is given twice"),
            ("limit=0", "limit is `0`; accepted: a whole number from 1 to 1000"),
            ("page=2", "page is `2`; accepted: this list has `limit`, `after`, `before`, `offset`"),
            (
                "offset=3&page_size=2",
                "page_size is `2`; accepted: this list has `limit`, `after`, `before`, `offset`",
            ),
            ("limit=x&offset=0", "limit is `x`; accepted: a whole number from 1"),
        ] {
            assert_eq!(start(query), Err(says.to_owned()), "{query}");
        }
    }
}
