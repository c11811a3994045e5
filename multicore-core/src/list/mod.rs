//! Lists over SQL: what to read (`query`), reading it page by page on the cores that are idle
//! (`run`), and where a page begins or ends as a text for clients (`cursor`). What a list is called over HTTP does not belong here.

#[cfg_attr(not(test), expect(dead_code, reason = "pages by cursor are not read yet"))]
mod cursor;
mod error;
mod query;
mod run;

pub use cursor::CursorError;
pub use error::ListError;
pub use query::{ListQuery, OrderBy, Page, Paging, Start, asc, desc};
pub use run::{Around, List};
