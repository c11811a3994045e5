//! Page parameters of a request: parsed, checked, and put into links to the pages around. What a page
//! is to the database is the core's.

use axum_core::extract::FromRequestParts;
use form_urlencoded::Serializer;
use http::request::Parts;
use multicore_core::Page;

use crate::config::PageLimits;
use crate::extract::installed_limits;
use crate::problem::ListError;

/// Something that says which page of a list is asked for.
pub trait PageRequest {
    /// The page, if it is within the limits.
    ///
    /// # Errors
    /// With the parameter, its value and what is accepted.
    fn resolve(&self, limits: PageLimits) -> Result<Page, ListError>;

    /// The request's other query parameters, in order, for links to the pages around.
    fn other_parameters(&self) -> &[(String, String)] {
        &[]
    }
}

impl PageRequest for Page {
    /// A page the program made itself is within any limit.
    fn resolve(&self, _limits: PageLimits) -> Result<Page, ListError> {
        Ok(*self)
    }
}

/// `?limit=&offset=`: how many rows, and how many to leave out before them.
///
/// As an extractor it answers 400 with the parameter, its value and what is accepted, for anything but
/// whole numbers, a `limit` of 0 or beyond the configured `max-limit`, and a parameter given twice. An
/// `offset` beyond the end is an empty page.
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
    /// What is not a whole number, or is given twice.
    pub fn from_query(query: &str) -> Result<Self, ListError> {
        LimitOffset::parse(query, None)
    }

    fn parse(query: &str, limits: Option<PageLimits>) -> Result<Self, ListError> {
        let mut page = LimitOffset::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let (parameter, slot) = match &*name {
                "limit" => ("limit", &mut page.limit),
                "offset" => ("offset", &mut page.offset),
                _ => {
                    page.others.push((name.into_owned(), value.into_owned()));
                    continue;
                }
            };
            // `u64::from_str` takes a plus sign, which in a query string is a space.
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            // Databases count with signed numbers.
            let number = if digits { value.parse::<i64>().ok().map(i64::unsigned_abs) } else { None };
            let Some(number) = number else {
                let accepted = match (parameter, limits) {
                    ("limit", Some(limits)) => accepted_limit(limits),
                    ("limit", None) => "a whole number from 1".to_owned(),
                    _ => format!("a whole number from 0 to {}", i64::MAX),
                };
                return Err(refused(parameter, &value, accepted));
            };
            if slot.replace(number).is_some() {
                return Err(refused(parameter, &value, "one value; it is given twice"));
            }
        }
        Ok(page)
    }
}

fn accepted_limit(limits: PageLimits) -> String {
    format!("a whole number from 1 to {}", limits.max_limit)
}

fn refused(parameter: &'static str, value: &str, accepted: impl Into<String>) -> ListError {
    // Enough to recognise a value; the rest of a very long one helps nobody.
    let value = value.chars().take(64).collect();
    multicore_core::ListError::Page { parameter, value, accepted: accepted.into() }.into()
}

impl PageRequest for LimitOffset {
    fn resolve(&self, limits: PageLimits) -> Result<Page, ListError> {
        let limit = self.limit.unwrap_or(limits.default_limit);
        if limit == 0 || limit > limits.max_limit {
            return Err(refused("limit", &limit.to_string(), accepted_limit(limits)));
        }
        Ok(Page { limit, offset: self.offset.unwrap_or(0) })
    }

    fn other_parameters(&self) -> &[(String, String)] {
        &self.others
    }
}

impl<S: Sync> FromRequestParts<S> for LimitOffset {
    type Rejection = ListError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ListError> {
        // Without a layer the limits are not known before the list itself.
        let limits = installed_limits(&parts.extensions);
        let page = LimitOffset::parse(parts.uri.query().unwrap_or_default(), limits)?;
        if let Some(limits) = limits {
            page.resolve(limits)?;
        }
        Ok(page)
    }
}

/// Links to the pages around one, relative to the request's own URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) next: Option<String>,
    pub(crate) previous: Option<String>,
}

/// The links around `page` of a list of `count` rows.
pub(crate) fn links(page: Page, others: &[(String, String)], count: u64) -> Links {
    let to = |offset: u64| {
        let mut query = Serializer::for_suffix(String::from("?"), 1);
        query.extend_pairs(others);
        query.append_pair("limit", &page.limit.to_string());
        if offset > 0 {
            query.append_pair("offset", &offset.to_string());
        }
        query.finish()
    };
    let end = page.offset.saturating_add(page.limit);
    Links {
        next: (end < count).then(|| to(end)),
        previous: (page.offset > 0).then(|| to(page.offset.saturating_sub(page.limit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits { default_limit: 100, max_limit: 1_000 };

    fn page(query: &str) -> Result<Page, String> {
        LimitOffset::parse(query, Some(LIMITS))
            .and_then(|page| page.resolve(LIMITS))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pages_have_defaults_and_leave_other_parameters_alone() {
        assert_eq!(page(""), Ok(Page { limit: 100, offset: 0 }));
        assert_eq!(page("limit=1000&offset=5&q=a&q=b"), Ok(Page { limit: 1_000, offset: 5 }));
        assert_eq!(page("offset=9223372036854775807"), Ok(Page { limit: 100, offset: i64::MAX as u64 }));
    }

    #[test]
    fn what_is_not_accepted_is_named_with_its_value_and_what_is() {
        for (query, says) in [
            ("limit=-1", "limit is `-1`; accepted: a whole number from 1 to 1000"),
            ("limit=abc", "limit is `abc`; accepted: a whole number from 1 to 1000"),
            ("limit=", "limit is ``; accepted: a whole number from 1 to 1000"),
            ("limit=%2B5", "limit is `+5`; accepted: a whole number from 1 to 1000"),
            ("limit=1.5", "limit is `1.5`; accepted: a whole number from 1 to 1000"),
            ("limit=0", "limit is `0`; accepted: a whole number from 1 to 1000"),
            ("limit=1001", "limit is `1001`; accepted: a whole number from 1 to 1000"),
            ("offset=-5", "offset is `-5`; accepted: a whole number from 0 to 9223372036854775807"),
            (
                "offset=99999999999999999999",
                "offset is `99999999999999999999`; accepted: a whole number from 0 to 9223372036854775807",
            ),
            ("limit=5&limit=6", "limit is `6`; accepted: one value; it is given twice"),
        ] {
            assert_eq!(page(query), Err(says.to_owned()), "{query}");
        }
    }

    #[test]
    fn links_lead_to_the_pages_around_and_keep_the_other_parameters() {
        let others = [("q".to_owned(), "a b".to_owned())];
        let around = |offset, count| links(Page { limit: 10, offset }, &others, count);
        assert_eq!(around(0, 25), Links { next: Some("?q=a+b&limit=10&offset=10".into()), previous: None });
        assert_eq!(around(20, 25), Links { next: None, previous: Some("?q=a+b&limit=10&offset=10".into()) });
        assert_eq!(
            around(5, 25),
            Links {
                next: Some("?q=a+b&limit=10&offset=15".into()),
                previous: Some("?q=a+b&limit=10".into())
            }
        );
        assert_eq!(around(0, 10), Links::default());
    }
}
