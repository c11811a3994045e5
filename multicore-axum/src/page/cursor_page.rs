//! Pages by cursor.

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use multicore_core::{Paging, Start};

use super::parameters::{Parameters, accepted_rows, extract, refused, rows};
use super::{LinkStyle, PageRequest};
use crate::config::PageLimits;
use crate::list_problem::ListError;

const ACCEPTED: &str = "a cursor as a link to a page has it";

/// `?limit=&after=` or `?limit=&before=`: how many rows, and the cursor they follow or precede.
///
/// Default: as many rows as the configured `default-limit`, from the first. Clients get cursors from the
/// links of a page and hand them back as they are. However deep in the list, a page is found through the
/// order's index; rows that come or go meanwhile neither repeat others nor make them be left out.
///
/// As an extractor it answers 400 with the parameter, its value and what is accepted, for a `limit` that
/// is no whole number, 0, or beyond the configured `max-limit`, an empty cursor, both cursors together,
/// a parameter given twice, and a number as `offset`, `page` or `page_size`, which other kinds of pages have.
/// Whether a cursor is one of this list's is found out by the list; see [`ListError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorPage {
    limit: Option<u64>,
    start: Start,
    others: Vec<(String, String)>,
}

impl Default for CursorPage {
    fn default() -> Self {
        CursorPage::new(None)
    }
}

impl CursorPage {
    /// Asks for the first page without a request; `None` for the configured default limit.
    pub fn new(limit: Option<u64>) -> Self {
        CursorPage { limit, start: Start::First, others: Vec::new() }
    }

    /// Asks for the rows that follow this cursor.
    #[must_use]
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.start = Start::After(cursor.into());
        self
    }

    /// Asks for the rows that end right before this cursor.
    #[must_use]
    pub fn before(mut self, cursor: impl Into<String>) -> Self {
        self.start = Start::Before(cursor.into());
        self
    }

    /// Reads the parameters out of a query string. Others are kept for links.
    ///
    /// # Errors
    /// What is not a whole number, is empty, is given twice, contradicts the other, or belongs to another kind of page.
    pub fn from_query(query: &str) -> Result<Self, ListError> {
        CursorPage::parse(query, None)
    }

    pub(super) fn parse(query: &str, limits: Option<PageLimits>) -> Result<Self, ListError> {
        let parameters = Parameters::parse(query, &["limit", "after", "before"])?;
        let limit = parameters.number("limit", || accepted_rows(limits))?;
        for name in ["after", "before"] {
            if parameters.get(name) == Some("") {
                return Err(refused(name, "", ACCEPTED));
            }
        }
        let start = match (parameters.get("after"), parameters.get("before")) {
            (None, None) => Start::First,
            (Some(cursor), None) => Start::After(cursor.to_owned()),
            (None, Some(cursor)) => Start::Before(cursor.to_owned()),
            (Some(_), Some(cursor)) => {
                return Err(refused("before", cursor, "one cursor; `after` is given too"));
            }
        };
        Ok(CursorPage { limit, start, others: parameters.others })
    }
}

impl PageRequest for CursorPage {
    fn resolve(&self, limits: PageLimits) -> Result<Paging, ListError> {
        let limit = rows("limit", self.limit, limits)?;
        Ok(Paging { limit, start: self.start.clone(), look_ahead: true })
    }

    fn other_parameters(&self) -> &[(String, String)] {
        &self.others
    }

    fn link_style(&self) -> LinkStyle {
        LinkStyle::Cursor
    }
}

impl<S: Sync> FromRequestParts<S> for CursorPage {
    type Rejection = ListError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ListError> {
        extract(parts, CursorPage::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 1_000 };

    fn page(query: &str) -> Result<Paging, String> {
        CursorPage::parse(query, Some(LIMITS))
            .and_then(|page| page.resolve(LIMITS))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pages_start_at_the_first_row_or_at_a_cursor() {
        let paging = |limit, start| Ok(Paging { limit, start, look_ahead: true });
        assert_eq!(page(""), paging(100, Start::First));
        assert_eq!(page("limit=5&q=a&offset=x"), paging(5, Start::First));
        assert_eq!(page("after=AbUb-_&limit=1000"), paging(1_000, Start::After("AbUb-_".to_owned())));
        assert_eq!(page("before=%20x"), paging(100, Start::Before(" x".to_owned())));
    }

    #[test]
    fn a_page_can_be_asked_for_without_a_request() {
        let start = |page: CursorPage| page.resolve(LIMITS).unwrap().start;
        assert_eq!(start(CursorPage::new(Some(5))), Start::First);
        assert_eq!(start(CursorPage::new(None).after("a")), Start::After("a".to_owned()));
        assert_eq!(start(CursorPage::new(None).before("b")), Start::Before("b".to_owned()));
    }

    #[test]
    fn what_is_not_accepted_is_named_with_its_value_and_what_is() {
        for (query, says) in [
            ("after=", "after is ``; accepted: a cursor as a link to a page has it"),
            ("after", "after is ``; accepted: a cursor as a link to a page has it"),
            ("before=&after=x", "before is ``; accepted: a cursor as a link to a page has it"),
            ("after=a&after=b", "after is `b`; accepted: one value; it is given twice"),
            ("before=a&before=a", "before is `a`; accepted: one value; it is given twice"),
            ("after=a&before=b", "before is `b`; accepted: one cursor; `after` is given too"),
            ("limit=0", "limit is `0`; accepted: a whole number from 1 to 1000"),
            ("limit=-1&after=a", "limit is `-1`; accepted: a whole number from 1 to 1000"),
            ("offset=10", "offset is `10`; accepted: this list has `limit`, `after`, `before`"),
            ("after=a&page=2", "page is `2`; accepted: this list has `limit`, `after`, `before`"),
            ("limit=1001", "limit is `1001`; accepted: a whole number from 1 to 1000"),
        ] {
            assert_eq!(page(query), Err(says.to_owned()), "{query}");
        }
    }

    #[test]
    fn a_long_cursor_is_not_repeated_as_a_whole() {
        let error = page(&format!("after=a&before={}", "b".repeat(20_000))).unwrap_err();
        assert!(error.starts_with(&format!("before is `{}`; ", "b".repeat(64))), "{error}");
    }
}
