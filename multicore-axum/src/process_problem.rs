//! Errors of worker processes as problems. What a worker said or how it died is for the log.

use std::error::Error;
use std::fmt;
use std::ops::Deref;

use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use multicore_core::process::ProcessError;

use crate::problem::Problem;

/// When to try again: a worker is replaced within milliseconds, and a queue moves on.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Why a call to a worker process has no result, as a response: the core's error, to which it dereferences.
///
/// Whether a task that fails is the program's fault or that of what the client sent, only the handler knows. By
/// `?` the error becomes one of the program's; [`of_input`](ProcessProblem::of_input) makes it one of the client's.
///
/// | what happened | of the program | of the input | code |
/// |---|---|---|---|
/// | the task returned an error | 500 | 422 | `failed` |
/// | the task panicked | 500 | 422 | `panic` |
/// | the worker died over it, or broke the protocol | 500 | 422 | `crash` |
/// | the worker used up `max-memory` | 500 | 422 | `memory` |
/// | the result is longer than `max-result` | 500 | 422 | `result-too-large` |
/// | the time was up, waiting included | 504 | 504 | `timeout` |
/// | too many calls wait already | 503, `Retry-After` | 503 | `overloaded` |
/// | no worker can be started, or the pool is shut down | 503, `Retry-After` | 503 | `unavailable` |
/// | the pool has no worker processes | 501 | 501 | `no-processes` |
/// | anything else: an unknown task, another type, a value that does not cross | 500 | 500 | `process` |
///
/// Those of status 500 and above are logged as errors. Of the input's, a panic is logged as a warning and what a task
/// returned at the debug level; so is a worker's death, which the pool has logged already.
///
/// ```
/// # use bytes::Bytes;
/// use multicore_axum::{Multicore, ProcessProblem};
///
/// async fn thumbnail(mc: Multicore<()>, picture: Bytes) -> Result<Bytes, ProcessProblem> {
///     mc.processes().run("thumbnail", picture).await.map_err(ProcessProblem::of_input)
/// }
/// ```
#[derive(Debug)]
pub struct ProcessProblem {
    error: ProcessError,
    of_input: bool,
}

impl From<ProcessError> for ProcessProblem {
    fn from(error: ProcessError) -> Self {
        ProcessProblem { error, of_input: false }
    }
}

impl Deref for ProcessProblem {
    type Target = ProcessError;

    fn deref(&self) -> &Self::Target {
        &self.error
    }
}

impl fmt::Display for ProcessProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for ProcessProblem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl ProcessProblem {
    /// For a task whose failure means that what the client sent cannot be processed.
    pub fn of_input(error: ProcessError) -> Self {
        ProcessProblem { error, of_input: true }
    }

    /// What the client is told.
    pub fn problem(&self) -> Problem {
        problem(&self.error, self.of_input)
    }

    /// Logs what the client is not told.
    fn log(&self) {
        let problem = self.problem();
        let (code, cause) = (problem.code(), self.source().map(ToString::to_string));
        if problem.status().is_server_error() {
            tracing::error!(code, cause, "{self}");
        } else if matches!(self.error, ProcessError::Panicked { .. }) {
            tracing::warn!(code, cause, "{self}");
        } else {
            tracing::debug!(code, cause, "{self}");
        }
    }
}

/// What a client is told of an error that the program or the client's input is to blame for.
pub(crate) fn problem(error: &ProcessError, blames_input: bool) -> Problem {
    use ProcessError as E;
    let (code, of_program, of_input) = match error {
        E::Failed { .. } => ("failed", "the task failed", "what was sent cannot be processed"),
        E::Panicked { .. } => ("panic", "the task failed", "processing what was sent failed"),
        E::Died { .. } | E::Protocol { .. } => (
            "crash",
            "the worker process that did the task crashed",
            "what was sent crashed the worker process that was given it",
        ),
        E::Memory { .. } => (
            "memory",
            "the task needs more memory than it may have",
            "what was sent needs more memory to process than it may have",
        ),
        E::TooLarge { .. } => {
            ("result-too-large", "the task's result is too large", "the result of what was sent is too large")
        }
        E::Timeout { .. } => {
            return Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the task took too long");
        }
        E::Overloaded { .. } => {
            return unavailable("overloaded", "too many requests wait for a worker process");
        }
        E::Unavailable { .. } | E::Stopped => {
            return unavailable("unavailable", "there is no worker process at the moment");
        }
        E::NotConfigured => {
            let detail = "the server has no worker processes";
            return Problem::new(StatusCode::NOT_IMPLEMENTED, "no-processes", detail);
        }
        _ => {
            let detail = "the worker processes were not used as they can be";
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "process", detail);
        }
    };
    if blames_input {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, of_input)
    } else {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, of_program)
    }
}

fn unavailable(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(RETRY_AFTER_SECONDS)
}

impl IntoResponse for ProcessProblem {
    fn into_response(self) -> Response {
        self.log();
        self.problem().into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::RETRY_AFTER;
    use multicore_core::process::{End, LastWords};

    use super::*;

    /// What a client must not be told.
    const SECRET: &str = "secret";

    fn errors() -> [(ProcessError, &'static str, u16, u16); 12] {
        use ProcessError as E;
        let (task, worker) = (|| SECRET.to_owned(), || SECRET.to_owned());
        let (message, breach, known) = (SECRET.to_owned(), SECRET.to_owned(), SECRET.to_owned());
        let (after, end, last_words) = (Duration::from_secs(1), End::Signal(11), LastWords::default);
        let panicked = E::Panicked { task: task(), worker: worker(), message: message.clone() };
        let died = E::Died { task: task(), worker: worker(), end, last_words: last_words() };
        let late = E::Timeout { task: task(), after, worker: Some(worker()), last_words: last_words() };
        let memory = E::Memory { task: task(), worker: worker(), limit: 9, last_words: last_words() };
        [
            (E::Failed { task: task(), message }, "failed", 500, 422),
            (panicked, "panic", 500, 422),
            (died, "crash", 500, 422),
            (E::Protocol { task: task(), worker: worker(), breach }, "crash", 500, 422),
            (memory, "memory", 500, 422),
            (E::TooLarge { task: task(), limit: 9 }, "result-too-large", 500, 422),
            (late, "timeout", 504, 504),
            (E::Overloaded { queue: 9 }, "overloaded", 503, 503),
            (E::Unavailable { why: SECRET.to_owned() }, "unavailable", 503, 503),
            (E::Stopped, "unavailable", 503, 503),
            (E::NotConfigured, "no-processes", 501, 501),
            (E::UnknownTask { task: task(), known }, "process", 500, 500),
        ]
    }

    #[test]
    fn every_error_has_a_code_and_a_status_and_tells_nothing_of_the_inside() {
        for of_input in [false, true] {
            for (error, code, of_program, of_inputs) in errors() {
                let said = error.to_string();
                let status = if of_input { of_inputs } else { of_program };
                let error = ProcessProblem { error, of_input };
                assert_eq!(error.to_string(), said, "for the log it is the core's error");
                let problem = error.problem();
                assert_eq!((problem.status().as_u16(), problem.code()), (status, code), "{said}");
                assert!(!format!("{problem:?}").contains(SECRET), "{problem:?}");
                let response = error.into_response();
                assert_eq!(response.status().as_u16(), status);
                assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503, "{said}");
            }
        }
    }

    #[test]
    fn by_a_question_mark_it_is_the_programs() {
        fn call() -> Result<(), ProcessProblem> {
            Err(ProcessError::TooLarge { task: SECRET.to_owned(), limit: 9 })?
        }
        assert_eq!(call().unwrap_err().problem().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
