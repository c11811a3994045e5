//! Pages by number.

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use multicore_core::{Paging, Start};

use super::parameters::{Parameters, accepted_rows, extract, refused, rows};
use super::{LinkStyle, PageRequest};
use crate::config::PageLimits;
use crate::list_problem::ListError;

/// `?page=&page_size=`: the how-manieth page, counted from 1, of so many rows each.
///
/// Default: the first page, of as many rows as the configured `default-limit`. One row more is read to
/// know whether there is a next page.
///
/// As an extractor it answers 400 with the parameter, its value and what is accepted, for anything but
/// whole numbers from 1, a `page_size` beyond the configured `max-limit`, a `page` so high that its rows
/// cannot be counted with 64 bits, a parameter given twice, and those of another kind of page: a number as `limit` or
/// `offset`, a cursor as `after` or `before`. A `page` beyond the last is empty.
///
/// As with [`LimitOffset`](super::LimitOffset), a page deep in a list is slow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageNumber {
    page: Option<u64>,
    page_size: Option<u64>,
    others: Vec<(String, String)>,
}

impl PageNumber {
    /// Asks for a page without a request; `None` for the configured default limit.
    pub fn new(page: u64, page_size: Option<u64>) -> Self {
        PageNumber { page: Some(page), page_size, others: Vec::new() }
    }

    /// Reads the parameters out of a query string. Others are kept for links.
    ///
    /// # Errors
    /// What is not a whole number, is given twice, or belongs to another kind of page.
    pub fn from_query(query: &str) -> Result<Self, ListError> {
        PageNumber::parse(query, None)
    }

    fn parse(query: &str, limits: Option<PageLimits>) -> Result<Self, ListError> {
        let parameters = Parameters::parse(query, &["page", "page_size"])?;
        let page = parameters.number("page", || "a whole number from 1".to_owned())?;
        let page_size = parameters.number("page_size", || accepted_rows(limits))?;
        Ok(PageNumber { page, page_size, others: parameters.others })
    }
}

impl PageRequest for PageNumber {
    fn resolve(&self, limits: PageLimits) -> Result<Paging, ListError> {
        let limit = rows("page_size", self.page_size, limits)?;
        let page = self.page.unwrap_or(1);
        // Databases count with signed numbers, and the last row of the page is to have one too.
        let most = i64::MAX.unsigned_abs() / limit;
        if page == 0 || page > most {
            return Err(refused("page", &page.to_string(), format!("a whole number from 1 to {most}")));
        }
        Ok(Paging { limit, start: Start::Offset((page - 1) * limit), look_ahead: true })
    }

    fn other_parameters(&self) -> &[(String, String)] {
        &self.others
    }

    fn link_style(&self) -> LinkStyle {
        LinkStyle::PageNumber
    }
}

impl<S: Sync> FromRequestParts<S> for PageNumber {
    type Rejection = ListError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ListError> {
        extract(parts, PageNumber::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 1_000 };

    fn page(query: &str) -> Result<Paging, String> {
        PageNumber::parse(query, Some(LIMITS))
            .and_then(|page| page.resolve(LIMITS))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pages_are_counted_from_one_and_have_a_default_size() {
        let paging = |limit, offset| Ok(Paging { limit, start: Start::Offset(offset), look_ahead: true });
        assert_eq!(page(""), paging(100, 0));
        assert_eq!(page("page=1&limit=x"), paging(100, 0));
        assert_eq!(page("page=3&page_size=20"), paging(20, 40));
        assert_eq!(page("page_size=1000&page=9223372036854775"), paging(1_000, 9_223_372_036_854_774_000));
        assert_eq!(page("page_size=1&page=9223372036854775807"), paging(1, i64::MAX.unsigned_abs() - 1),);
    }

    #[test]
    fn what_is_not_accepted_is_named_with_its_value_and_what_is() {
        for (query, says) in [
            ("page=0", "page is `0`; accepted: a whole number from 1 to 92233720368547758"),
            ("page=-1", "page is `-1`; accepted: a whole number from 1"),
            ("page=", "page is ``; accepted: a whole number from 1"),
            ("page=%2B1", "page is `+1`; accepted: a whole number from 1"),
            ("page=first", "page is `first`; accepted: a whole number from 1"),
            ("page=99999999999999999999", "page is `99999999999999999999`; accepted: a whole number from 1"),
            (
                "page=9223372036854776&page_size=1000",
                "page is `9223372036854776`; accepted: a whole number from 1 to 9223372036854775",
            ),
            ("page=1&page=2", "page is `2`; accepted: one value; it is given twice"),
            ("page_size=0", "page_size is `0`; accepted: a whole number from 1 to 1000"),
            ("page_size=1001", "page_size is `1001`; accepted: a whole number from 1 to 1000"),
            ("page_size=x", "page_size is `x`; accepted: a whole number from 1 to 1000"),
            ("page=2&limit=10", "limit is `10`; accepted: this list has `page`, `page_size`"),
            ("offset=10", "offset is `10`; accepted: this list has `page`, `page_size`"),
            ("page_size=1&page_size=1", "page_size is `1`; accepted: one value; it is given twice"),
        ] {
            assert_eq!(page(query), Err(says.to_owned()), "{query}");
        }
    }
}
