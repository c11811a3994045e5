//! Which part of a list is asked for, and what is around it. How a client asks does not belong here.

/// A part of a list: `limit` rows from the `offset`th on, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most rows the page has.
    pub limit: u64,
    /// How many rows come before it. Beyond the end, the page is empty.
    pub offset: u64,
}

/// Which part of a list is asked for, and whether to find out what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    /// The most rows the page has.
    pub limit: u64,
    /// Where it starts.
    pub start: Start,
    /// Whether to read one more row, which is not part of the page, to know if there is a next one.
    /// Pages by cursor always do.
    pub look_ahead: bool,
}

/// Where a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After so many rows.
    Offset(u64),
    /// At the first row, with cursors to the pages around.
    First,
    /// Right after the row this cursor was made at.
    After(String),
    /// The page ends right before the row this cursor was made at.
    Before(String),
}

impl From<Page> for Paging {
    /// Exactly these rows: what comes after them is not looked at.
    fn from(page: Page) -> Self {
        Paging { limit: page.limit, start: Start::Offset(page.offset), look_ahead: false }
    }
}

/// What is around a page, as far as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Whether rows follow; none where that was not looked at.
    pub has_next: Option<bool>,
    /// Whether rows come before; none where that was not looked at.
    pub has_previous: Option<bool>,
    /// A cursor to the rows that follow, on pages by cursor that have a next one.
    pub next_cursor: Option<String>,
    /// A cursor to the rows before, on pages by cursor that have a previous one.
    pub previous_cursor: Option<String>,
    /// How many rows the whole list has, where [`with_count`](super::ListQuery::with_count) asked.
    pub count: Option<u64>,
}
