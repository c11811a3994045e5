//! Pages by limit and offset.

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use multicore_core::{Paging, Start};

use super::parameters::{Parameters, accepted_rows, extract, rows};
use super::{LinkStyle, PageRequest};
use crate::config::PageLimits;
use crate::list_problem::ListError;

/// `?limit=&offset=`: how many rows, and how many to leave out before them.
///
/// Default: as many rows as the configured `default-limit`, from the first. One row more is read to know
/// whether there is a next page.
///
/// As an extractor it answers 400 with the parameter, its value and what is accepted, for anything but
/// whole numbers, a `limit` of 0 or beyond the configured `max-limit`, a parameter given twice, and those of
/// another kind of page: a cursor as `after` or `before`, a number as `page` or `page_size`. An `offset` beyond the end is
/// an empty page.
///
/// The database reads all rows that are left out, so a page deep in a list is slow; see
/// [`CursorPage`](super::CursorPage).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitOffset {
    limit: Option<u64>,
    offset: Option<u64>,
    others: Vec<(String, String)>,
}

impl LimitOffset {
    /// Asks for a page without a request; `None` for the configured default limit.
    pub fn new(limit: Option<u64>, offset: u64) -> Self {
        LimitOffset { limit, offset: Some(offset), others: Vec::new() }
    }

    /// Reads the parameters out of a query string. Others are kept for links.
    ///
    /// # Errors
    /// What is not a whole number, is given twice, or belongs to another kind of page.
    pub fn from_query(query: &str) -> Result<Self, ListError> {
        LimitOffset::parse(query, None)
    }

    pub(super) fn parse(query: &str, limits: Option<PageLimits>) -> Result<Self, ListError> {
        let parameters = Parameters::parse(query, &["limit", "offset"])?;
        let limit = parameters.number("limit", || accepted_rows(limits))?;
        let offset = parameters.number("offset", || format!("a whole number from 0 to {}", i64::MAX))?;
        Ok(LimitOffset { limit, offset, others: parameters.others })
    }
}

impl PageRequest for LimitOffset {
    fn resolve(&self, limits: PageLimits) -> Result<Paging, ListError> {
        let limit = rows("limit", self.limit, limits)?;
        Ok(Paging { limit, start: Start::Offset(self.offset.unwrap_or(0)), look_ahead: true })
    }

    fn other_parameters(&self) -> &[(String, String)] {
        &self.others
    }

    fn link_style(&self) -> LinkStyle {
        LinkStyle::LimitOffset
    }
}

impl<S: Sync> FromRequestParts<S> for LimitOffset {
    type Rejection = ListError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ListError> {
        extract(parts, LimitOffset::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 1_000 };

    fn page(query: &str) -> Result<Paging, String> {
        LimitOffset::parse(query, Some(LIMITS))
            .and_then(|page| page.resolve(LIMITS))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pages_have_defaults_and_leave_other_parameters_alone() {
        let paging = |limit, offset| Ok(Paging { limit, start: Start::Offset(offset), look_ahead: true });
        assert_eq!(page(""), paging(100, 0));
        assert_eq!(page("limit=1000&offset=5&q=a&q=b&after=2026-01-01&page=y&page_size="), paging(1_000, 5));
        assert_eq!(page("offset=9223372036854775807"), paging(100, i64::MAX as u64));
    }

    #[test]
    fn what_is_not_accepted_is_named_with_its_value_and_what_is() {
        for (query, says) in [
            ("limit=-1", "limit is `-1`; accepted: a whole number from 1 to 1000"),
            ("limit=abc", "limit is `abc`; accepted: a whole number from 1 to 1000"),
            ("limit=", "limit is ``; accepted: a whole number from 1 to 1000"),
            ("limit=%2B5", "limit is `+5`; accepted: a whole number from 1 to 1000"),
            ("limit=+5", "limit is ` 5`; accepted: a whole number from 1 to 1000"),
            ("limit=1.5", "limit is `1.5`; accepted: a whole number from 1 to 1000"),
            ("limit=0", "limit is `0`; accepted: a whole number from 1 to 1000"),
            ("limit=1001", "limit is `1001`; accepted: a whole number from 1 to 1000"),
            ("offset=-5", "offset is `-5`; accepted: a whole number from 0 to 9223372036854775807"),
            (
                "offset=99999999999999999999",
                "offset is `99999999999999999999`; accepted: a whole number from 0 to 9223372036854775807",
            ),
            ("limit=5&limit=6", "limit is `6`; accepted: one value; it is given twice"),
            ("limit=5&page=2", "page is `2`; accepted: this list has `limit`, `offset`"),
            ("page_size=9&offset=1", "page_size is `9`; accepted: this list has `limit`, `offset`"),
            (
                "after=AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "after is `AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`; accepted: this list has `limit`, `offset`",
            ),
            (
                "before=AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&limit=x",
                "before is `AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`; accepted: this list has `limit`, `offset`",
            ),
        ] {
            assert_eq!(page(query), Err(says.to_owned()), "{query}");
        }
    }
}
