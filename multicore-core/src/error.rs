//! What can go wrong, by who has to act: starting a pool, running tasks, running ranges. Errors of
//! lists live with the lists. Display says what happened; causes are in `source()` and not repeated.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// An error of some kind, as a cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a pool did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting means nothing.
    #[error("{key} is `{value}`; accepted: {accepted}")]
    Setting {
        /// The key as the configuration spells it.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        accepted: &'static str,
    },
    /// The builder was given no connection pool.
    #[error("no connection pool for {database}: call `.pool(…)` on the builder")]
    NoPool {
        /// Which database.
        database: &'static str,
    },
    /// Workers cannot share the application's database.
    #[error("workers cannot open the application's {database} database: {why}")]
    NotShareable {
        /// Which database.
        database: &'static str,
        /// What stands in the way, and what to do.
        why: &'static str,
    },
    /// A worker failed at a step.
    #[error("worker {worker} failed to {step}")]
    Worker {
        /// The worker's name.
        worker: String,
        /// The step that failed.
        step: StartStep,
        /// What the step said.
        #[source]
        source: BoxError,
    },
    /// The worker processes did not start.
    #[cfg(feature = "process")]
    #[error("the worker processes did not start")]
    Processes(
        /// Why.
        #[from]
        crate::process::ProcessStartError,
    ),
}

/// The steps of a worker's start, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartStep {
    /// Start its thread.
    Thread,
    /// Build its runtime.
    Runtime,
    /// Open its database connection.
    Connect,
}

impl fmt::Display for StartStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StartStep::Thread => "start its thread",
            StartStep::Runtime => "build its runtime",
            StartStep::Connect => "open its database connection",
        })
    }
}

/// Why a task or a map has no results.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A closure panicked. The others of the task were cancelled.
    #[error("run {run} panicked: {message}")]
    Panicked {
        /// Which run, counted from 0 in the order of the `run` calls; for a map always 0.
        run: usize,
        /// What the panic said.
        message: String,
    },
    /// The time was up. Runs that had not begun never will; results of those that had are dropped.
    #[error("{finished} of {of} runs finished within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
        /// How many runs had finished.
        finished: usize,
        /// How many there were.
        of: usize,
    },
    /// The pool stopped before all had run.
    #[error("the pool stopped after {finished} of {of} runs")]
    Stopped {
        /// How many runs had finished.
        finished: usize,
        /// How many there were.
        of: usize,
    },
}

/// Why ranges have no results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RangesError<E: std::error::Error + 'static> {
    /// The caller's function returned an error. The ranges that had not begun were cancelled.
    #[error("range {range:?} failed")]
    Failed {
        /// Which range.
        range: Range<u64>,
        /// What the function returned.
        #[source]
        source: E,
    },
    /// The caller's function panicked.
    #[error("range {range:?} panicked: {message}")]
    Panicked {
        /// Which range.
        range: Range<u64>,
        /// What the panic said.
        message: String,
    },
    /// No connection could be had.
    #[error("no connection for range {range:?}")]
    Connection {
        /// Which range.
        range: Range<u64>,
        /// What the database said.
        #[source]
        source: BoxError,
    },
    /// The time was up.
    #[error("{finished} of {of} ranges finished within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
        /// How many ranges had finished.
        finished: usize,
        /// How many there were.
        of: usize,
    },
    /// The pool stopped before all had run.
    #[error("the pool stopped before all ranges had run")]
    Stopped,
}

/// What a panic said, as far as it said it in words.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(message) => (*message).to_owned(),
            Err(payload) => {
                // Dropping it may panic in turn; that payload is leaked rather than tried again.
                if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                    std::mem::forget(again);
                }
                "a panic without a message".to_owned()
            }
        },
    }
}
