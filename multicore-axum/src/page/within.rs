//! A route's own page limits.

use multicore_core::Paging;

use super::{LinkStyle, PageRequest};
use crate::config::PageLimits;
use crate::list_problem::ListError;

/// A page within limits of the route's own, from [`PageRequest::within`]: for a list whose rows cost more
/// than those of the others.
///
/// ```
/// # #[cfg(feature = "sqlite-driver")] {
/// use multicore_axum::{LimitOffset, PageLimits, PageRequest};
///
/// const ARTICLES: PageLimits = PageLimits { default_limit: 20, max_limit: 100 };
/// let page = LimitOffset::default().within(ARTICLES);
/// assert_eq!(page.resolve(PageLimits::default()).unwrap().limit, 20);
/// # }
/// ```
///
/// The configured `max-limit` still holds: where it is less, it is the route's maximum too, and the
/// default where that is above it. The configured `default-limit` is not looked at. Limits that mean
/// nothing (a zero, a default above the maximum) make the list fail with the code `query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within<P> {
    page: P,
    limits: PageLimits,
}

impl<P> Within<P> {
    pub(super) fn new(page: P, limits: PageLimits) -> Self {
        Within { page, limits }
    }
}

impl<P: PageRequest> PageRequest for Within<P> {
    fn resolve(&self, configured: PageLimits) -> Result<Paging, ListError> {
        let PageLimits { default_limit, max_limit } = self.limits;
        if default_limit == 0 || default_limit > max_limit {
            let why = "the limits of `.within(…)` must be 1 ≤ default_limit ≤ max_limit";
            return Err(multicore_core::ListError::Query { why }.into());
        }
        let max_limit = max_limit.min(configured.max_limit);
        self.page.resolve(PageLimits { default_limit: default_limit.min(max_limit), max_limit })
    }

    fn other_parameters(&self) -> &[(String, String)] {
        self.page.other_parameters()
    }

    fn link_style(&self) -> LinkStyle {
        self.page.link_style()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::LimitOffset;

    const ROUTE: PageLimits = PageLimits { default_limit: 20, max_limit: 100 };

    fn limit(query: &str, route: PageLimits, max_limit: u64) -> Result<u64, String> {
        let page = LimitOffset::from_query(query).unwrap().within(route);
        let configured = PageLimits { default_limit: max_limit.min(50), max_limit };
        page.resolve(configured).map(|paging| paging.limit).map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_has_limits_of_its_own_up_to_the_configured_one() {
        let says = |limit, max| Err(format!("limit is `{limit}`; accepted: a whole number from 1 to {max}"));
        for (query, configured, expected) in [
            ("", 1_000, Ok(20)),
            ("limit=100", 1_000, Ok(100)),
            ("limit=101", 1_000, says(101, 100)),
            ("limit=50", 50, Ok(50)),
            ("limit=51", 50, says(51, 50)),
            ("", 10, Ok(10)),
        ] {
            assert_eq!(limit(query, ROUTE, configured), expected, "{query} of {configured}");
        }
    }

    #[test]
    fn limits_that_mean_nothing_are_the_programs_mistake() {
        for (default_limit, max_limit) in [(0, 5), (6, 5), (0, 0)] {
            let error = limit("", PageLimits { default_limit, max_limit }, 1_000).unwrap_err();
            assert!(error.contains("`.within(…)` must be 1 ≤ default_limit ≤ max_limit"), "{error}");
        }
    }

    #[test]
    fn links_and_other_parameters_are_those_of_the_page() {
        let page = LimitOffset::from_query("q=a").unwrap().within(ROUTE);
        assert_eq!(page.other_parameters(), [("q".to_owned(), "a".to_owned())]);
        assert_eq!(page.link_style(), LinkStyle::LimitOffset);
    }
}
