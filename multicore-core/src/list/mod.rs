//! Lists over SQL: what to read (`query`), finding out once what is to be known of it (`survey`), and
//! reading it page by page on the cores that are idle (`run`). What a list is called over HTTP does not
//! belong here.

pub(crate) mod analysis;
pub(crate) mod cursor;
mod error;
mod format;
mod hold;
#[cfg(feature = "process")]
mod in_processes;
mod lease;
mod order;
mod page;
mod paging;
mod places;
mod plan;
mod query;
mod ranges;
mod read;
mod render;
mod rows;
mod run;
mod shape;
pub(crate) mod shapes;
mod steady;
mod stepped;
mod stops;
mod strategy;
mod stream;
mod survey;

pub use cursor::{CursorError, is_cursor};
pub use error::ListError;
pub use format::Format;
pub use order::{OrderBy, asc, desc};
pub use page::List;
pub use paging::{Around, Page, Paging, Start};
pub use query::{Consistency, ListQuery, Strategy};
pub use stream::Export;
