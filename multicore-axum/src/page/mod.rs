//! Which page of a list a request asks for: parameters read, checked against limits, and put into links
//! to the pages around. What a page is to the database is the core's.

mod any_page;
mod cursor_page;
mod limit_offset;
mod links;
mod page_number;
mod parameters;
mod request;
mod within;

pub use any_page::AnyPage;
pub use cursor_page::CursorPage;
pub use limit_offset::LimitOffset;
pub(crate) use links::links;
pub use page_number::PageNumber;
pub use request::{LinkStyle, PageRequest};
pub use within::Within;
