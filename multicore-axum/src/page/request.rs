//! What `parallel_list` wants to know of a page, and pages that the program makes itself.

use multicore_core::{Page, Paging};

use super::Within;
use crate::config::PageLimits;
use crate::list_problem::ListError;

/// Something that says which page of a list is asked for.
pub trait PageRequest {
    /// The page, if it is within the limits.
    ///
    /// # Errors
    /// With the parameter, its value and what is accepted.
    fn resolve(&self, limits: PageLimits) -> Result<Paging, ListError>;

    /// The request's other query parameters, in order, for links to the pages around. Default: none.
    fn other_parameters(&self) -> &[(String, String)] {
        &[]
    }

    /// Which parameters links to the pages around have. Default: there are no links.
    fn link_style(&self) -> LinkStyle {
        LinkStyle::None
    }

    /// The same page within limits of the route's own instead of the configured ones; see [`Within`].
    fn within(self, limits: PageLimits) -> Within<Self>
    where
        Self: Sized,
    {
        Within::new(self, limits)
    }
}

/// Which query parameters the links to the pages around a page have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkStyle {
    /// No links: the request's own parameters are not known.
    None,
    /// `?limit=&offset=`, for pages by offset.
    LimitOffset,
    /// `?page=&page_size=`, for pages by offset that is a multiple of the limit.
    PageNumber,
    /// `?limit=&after=` and `?limit=&before=`, for pages by cursor.
    Cursor,
}

impl PageRequest for Page {
    /// A page the program made itself is within any limit. Whether there is a next one is not looked at.
    fn resolve(&self, _limits: PageLimits) -> Result<Paging, ListError> {
        Ok((*self).into())
    }
}

impl PageRequest for Paging {
    /// A page the program made itself is within any limit.
    fn resolve(&self, _limits: PageLimits) -> Result<Paging, ListError> {
        Ok(self.clone())
    }
}
