//! Lists over SQL: what to read (`query`), and reading it page by page on the cores that are idle
//! (`run`). What a list is called over HTTP does not belong here.

mod error;
mod query;
mod run;

pub use error::ListError;
pub use query::{ListQuery, OrderBy, Page, Paging, Start, asc, desc};
pub use run::{Around, List};
