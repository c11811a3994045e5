//! What can go wrong with a list, by what the client should be told.

use std::time::Duration;

use super::CursorError;
use crate::error::BoxError;

/// Why there is no list. Display never says what the database or its driver said; that is in
/// `source()`, for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The query is not one a page can be cut from; a mistake of the program.
    #[error("the list's query cannot be paged: {why}")]
    Query {
        /// What is missing.
        why: &'static str,
    },
    /// A page parameter is outside what is accepted.
    #[error("{parameter} is `{value}`; accepted: {accepted}")]
    Page {
        /// The parameter.
        parameter: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        accepted: String,
    },
    /// The page's cursor is none that this list can continue from.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// All connections of the application's pool were taken for as long as its acquire timeout.
    #[error("no database connection became free in time")]
    Overloaded,
    /// The pool's `timeout` passed.
    #[error("the list took longer than {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// The database failed, or refused the query.
    #[error("the database failed")]
    Database(#[source] BoxError),
    /// A row could not be decoded into the row type.
    #[error("a row could not be decoded")]
    Decode(#[source] BoxError),
    /// A rendered row could not be serialised.
    #[error("a row could not be serialised")]
    Encode(#[source] BoxError),
    /// Rendering a row panicked.
    #[error("rendering a row panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

impl From<sqlx::Error> for ListError {
    /// What a query of the application's own, beside the list, would be called.
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => ListError::Overloaded,
            error => ListError::Database(error.into()),
        }
    }
}
