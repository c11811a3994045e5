//! What can go wrong with a list, by what the client should be told.

use std::error::Error;
use std::time::Duration;

use crate::db::{Meaning, SqlDatabase};
use crate::error::BoxError;
use crate::job::Failure;
use crate::list::cursor::CursorError;

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
    /// The order is not one that pages can be cut from; a mistake of the program.
    #[error("the list cannot be ordered by `{key}`: {why}")]
    Order {
        /// The order key.
        key: String,
        /// What is wrong with it, and what to do.
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
    /// The database failed: the connection was lost, or the statement given up for something else's sake, twice in a row;
    /// or it said so.
    #[error("the database failed")]
    Database(#[source] BoxError),
    /// The database could not compute the query with the values of its filters.
    #[error("a filter has a value that the query cannot be computed with")]
    Filter(#[source] BoxError),
    /// The database did not understand the query, or could not compute it whatever the filters; a mistake
    /// of the program.
    #[error("the list's query cannot be run")]
    Statement(#[source] BoxError),
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
    /// The worker processes did not render the rows.
    #[cfg(feature = "process")]
    #[error("the rows were not rendered in worker processes")]
    Process(#[from] crate::process::ProcessError),
}

impl ListError {
    /// Whether another connection may do.
    pub(super) fn is_lost<DB: SqlDatabase>(&self) -> bool {
        self.meaning::<DB>() == Some(Meaning::Lost)
    }

    /// Whether the same may do at once, on another connection if this one is lost.
    pub(super) fn may_pass<DB: SqlDatabase>(&self) -> bool {
        matches!(self.meaning::<DB>(), Some(Meaning::Lost | Meaning::Conflict))
    }

    /// Tells the log that what failed with it is done again. Conflicts may be many where a standby waits for no reader.
    pub(super) fn log_retry<DB: SqlDatabase>(&self) {
        let cause = self.source().map(ToString::to_string);
        if self.is_lost::<DB>() {
            tracing::warn!(cause, "a database connection was lost; the list is read again on another");
        } else {
            tracing::debug!(cause, "the database gave a statement up; the list is read again");
        }
    }

    fn meaning<DB: SqlDatabase>(&self) -> Option<Meaning> {
        let ListError::Database(source) = self else { return None };
        source.downcast_ref::<sqlx::Error>().map(DB::meaning)
    }
}

/// What an error of a list's statement means. `filtered` says whether the statement has values of
/// filters.
pub(super) fn statement_error<DB: SqlDatabase>(error: sqlx::Error, filtered: bool) -> ListError {
    match DB::meaning(&error) {
        Meaning::Value if filtered => ListError::Filter(error.into()),
        Meaning::Value | Meaning::Statement => ListError::Statement(error.into()),
        Meaning::Lost | Meaning::Conflict | Meaning::Other => ListError::from(error),
    }
}

/// The failure of a chunk as a list's error.
pub(super) fn unwrap_failure(failure: Failure<ListError>) -> ListError {
    match failure {
        Failure::Error(error) => error,
        Failure::Panicked(message) => ListError::Panicked { message },
    }
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
