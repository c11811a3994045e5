//! The core's list errors as problems. What the client is not told is logged.

use std::error::Error;
use std::fmt;
use std::ops::Deref;

use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use multicore_core::CursorError;

use crate::problem::Problem;

/// When to try again after an overload: about as long as a page takes at worst.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Why there is no list, as a response: the core's error, to which it dereferences.
///
/// | what happened | status | code |
/// |---|---|---|
/// | a page parameter is not accepted | 400 | `invalid-page` |
/// | a cursor was not made by these servers, or was changed | 400 | `invalid-cursor` |
/// | a cursor is of an older or newer version | 400 | `cursor-version` |
/// | a cursor belongs to another list, order or filter | 400 | `cursor-mismatch` |
/// | no database connection became free | 503, `Retry-After` | `overloaded` |
/// | the time was up | 504 | `timeout` |
/// | the database failed | 503, `Retry-After` | `database` |
/// | a row could not be decoded or serialised | 500 | `row` |
/// | rendering panicked | 500 | `panic` |
/// | the query cannot be paged, or the database does not understand it | 500 | `query` |
/// | the order is not total, or has a key that the database does not know | 500 | `order` |
/// | the database cannot compute the query with a filter's value | 400 | `filter` |
/// | worker processes did not render the rows | as `ProcessProblem` says, as of the program | |
///
/// Those of status 500 and above are logged with their cause as errors. Of a client's mistakes, what
/// the database said of a filter's value is logged at the debug level.
#[derive(Debug)]
pub struct ListError(multicore_core::ListError);

impl From<multicore_core::ListError> for ListError {
    fn from(error: multicore_core::ListError) -> Self {
        ListError(error)
    }
}

impl From<multicore_core::SqlxError> for ListError {
    fn from(error: multicore_core::SqlxError) -> Self {
        ListError(error.into())
    }
}

impl Deref for ListError {
    type Target = multicore_core::ListError;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for ListError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl ListError {
    /// What the client is told.
    pub fn problem(&self) -> Problem {
        use multicore_core::ListError as E;
        match &self.0 {
            E::Page { .. } => Problem::new(StatusCode::BAD_REQUEST, "invalid-page", self.to_string()),
            E::Cursor(error) => {
                let code = match error {
                    CursorError::Version { .. } => "cursor-version",
                    CursorError::OtherList => "cursor-mismatch",
                    _ => "invalid-cursor",
                };
                Problem::new(StatusCode::BAD_REQUEST, code, self.to_string())
            }
            E::Overloaded => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", self.to_string())
                .retry_after(RETRY_AFTER_SECONDS),
            E::Timeout { .. } => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the list took too long")
            }
            E::Database(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database", self.to_string())
                .retry_after(RETRY_AFTER_SECONDS),
            E::Decode(_) | E::Encode(_) => Problem::new(internal(), "row", self.to_string()),
            // What a panic says is for the log.
            E::Panicked { .. } => Problem::new(internal(), "panic", "rendering a row failed"),
            E::Query { .. } => Problem::new(internal(), "query", self.to_string()),
            // The rest names columns, which is for the log.
            E::Order { .. } => {
                Problem::new(internal(), "order", "the list's order is not one that pages can be cut from")
            }
            E::Filter(_) => Problem::new(StatusCode::BAD_REQUEST, "filter", self.to_string()),
            E::Statement(_) => Problem::new(internal(), "query", self.to_string()),
            #[cfg(feature = "process")]
            E::Process(error) => crate::process_problem::problem(error, false),
            _ => Problem::new(internal(), "list", "the list failed"),
        }
    }
}

fn internal() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

impl ListError {
    /// Logs what the client is not told.
    pub(crate) fn log(&self) {
        let problem = self.problem();
        let cause = self.source().map(ToString::to_string);
        if problem.status().is_server_error() {
            tracing::error!(code = problem.code(), cause, "{self}");
        } else {
            tracing::debug!(code = problem.code(), cause, "{self}");
        }
    }
}

impl IntoResponse for ListError {
    fn into_response(self) -> Response {
        self.log();
        self.problem().into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_that_cannot_be_continued_from_are_the_clients_to_solve() {
        for (error, code) in [
            (CursorError::Malformed, "invalid-cursor"),
            (CursorError::Version { found: 2 }, "cursor-version"),
            (CursorError::OtherList, "cursor-mismatch"),
        ] {
            let error = ListError::from(multicore_core::ListError::from(error));
            let problem = error.problem();
            assert_eq!((problem.status(), problem.code()), (StatusCode::BAD_REQUEST, code));
            assert!(error.source().is_none());
        }
    }

    #[cfg(feature = "process")]
    #[test]
    fn rows_that_crash_their_worker_process_are_the_programs_fault() {
        let error = multicore_core::process::ProcessError::TooLarge { task: "view".to_owned(), limit: 9 };
        let error = ListError::from(multicore_core::ListError::from(error));
        assert_eq!((error.problem().status(), error.problem().code()), (internal(), "result-too-large"));
    }
}
