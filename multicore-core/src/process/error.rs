//! Why a call has no result, and how a worker process ended.

use std::fmt;
use std::time::Duration;

use crate::error::BoxError;

/// Why a call to a worker process has no result. Workers that died are replaced by themselves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No task of that name was registered.
    #[error("no task is named `{task}`; there are: {known}")]
    UnknownTask {
        /// What was asked for.
        task: String,
        /// The registered names.
        known: String,
    },
    /// The task takes or gives another type.
    #[error("task `{task}` has {expected} as its {what}, not {given}")]
    WrongType {
        /// Which task.
        task: String,
        /// `argument` or `result`.
        what: &'static str,
        /// The type it was registered with.
        expected: &'static str,
        /// The type of the call.
        given: &'static str,
    },
    /// The argument or the result has no form in its format, or was not readable on the other side.
    #[error("the {what} of task `{task}` did not cross: {message}")]
    Format {
        /// Which task.
        task: String,
        /// `argument` or `result`.
        what: &'static str,
        /// What the format said.
        message: String,
    },
    /// The task returned an error; here are its words.
    #[error("task `{task}` failed: {message}")]
    Failed {
        /// Which task.
        task: String,
        /// What the error said.
        message: String,
    },
    /// The task panicked. Its worker is replaced, since nobody knows what it left behind.
    #[error("task `{task}` panicked in {worker}: {message}")]
    Panicked {
        /// Which task.
        task: String,
        /// Which worker.
        worker: String,
        /// What the panic said.
        message: String,
    },
    /// The result is longer than `max-result`.
    #[error("the result of task `{task}` is longer than max-result, {limit} bytes")]
    TooLarge {
        /// Which task.
        task: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The worker died over it.
    #[error("{worker} {end} over task `{task}`{last_words}")]
    Died {
        /// Which task.
        task: String,
        /// Which worker.
        worker: String,
        /// How it ended.
        end: End,
        /// What it wrote last.
        last_words: LastWords,
    },
    /// The worker used more memory than `max-memory`, and was killed or could not get more.
    #[error("{worker} used up max-memory, {limit} bytes, over task `{task}`{last_words}")]
    Memory {
        /// Which task.
        task: String,
        /// Which worker.
        worker: String,
        /// The limit, in bytes.
        limit: u64,
        /// What it wrote last.
        last_words: LastWords,
    },
    /// The worker sent what is no answer to the call, and was killed.
    #[error("{worker} broke the protocol over task `{task}`: {breach}")]
    Protocol {
        /// Which task.
        task: String,
        /// Which worker.
        worker: String,
        /// What was wrong.
        breach: String,
    },
    /// The time was up. If the task had begun, its worker was killed; a late result cannot come.
    #[error("task `{task}` was not done within {after:?}{}{last_words}", of_worker(.worker))]
    Timeout {
        /// Which task.
        task: String,
        /// The limit.
        after: Duration,
        /// Which worker had begun it; none while it waited for one.
        worker: Option<String>,
        /// What the worker wrote last.
        last_words: LastWords,
    },
    /// As many calls as allowed are waiting already.
    #[error("{queue} calls are waiting for a worker process already")]
    Overloaded {
        /// How many wait.
        queue: usize,
    },
    /// No worker is left, and several starts in a row have failed; it is tried again and again.
    #[error("no worker process can be started at the moment: {why}")]
    Unavailable {
        /// What the last try said.
        why: String,
    },
    /// The system refused something in the server itself.
    #[error("{step} failed")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The pool was told to shut down.
    #[error("the worker processes are shut down")]
    Stopped,
    /// The pool has no worker processes.
    #[error("the pool has no worker processes: call `.processes(tasks.init())` on its builder")]
    NotConfigured,
}

fn of_worker(worker: &Option<String>) -> String {
    worker.as_ref().map_or_else(|| ", for want of a free worker".to_owned(), |worker| format!(" by {worker}"))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Killed by a signal, such as 9 for `SIGKILL`.
    Signal(i32),
    /// It ended by itself, with this status.
    Exit(i32),
    /// The system does not tell, because the application ignores `SIGCHLD` or waited for all its children.
    Unknown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            End::Signal(number) => match signal_name(number) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {number}"),
            },
            End::Exit(status) => write!(f, "exited with status {status}"),
            End::Unknown => {
                f.write_str("ended, with a status that the application's handling of SIGCHLD hid,")
            }
        }
    }
}

/// The names of signals that end processes; they have these numbers on every Linux that Rust has.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// The last 4 kB or less that a worker wrote to its standard output and error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords(pub(super) String);

impl LastWords {
    /// The text; empty if it said nothing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it wrote last: {}", self.0.trim_end()) }
    }
}

/// Why worker processes did not start. None is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessStartError {
    /// Process workers are for Linux.
    #[error("process workers need Linux (memfd, pidfd): they do not run on {system}")]
    Unsupported {
        /// Which system this is.
        system: &'static str,
    },
    /// Two tasks have one name.
    #[error("two tasks are named `{task}`")]
    Duplicate {
        /// The name.
        task: String,
    },
    /// This process is a worker itself, or was started by one.
    #[error(
        "this process is a worker process, or was started by one, and may have none of its own: in `main`, call \
         `Tasks::init` before anything else"
    )]
    InsideWorker,
    /// A setting means nothing.
    #[error("processes.{key} is `{value}`; accepted: {accepted}")]
    Setting {
        /// The key as the configuration spells it.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        accepted: &'static str,
    },
    /// The system refused something.
    #[error("worker process {worker} failed to {step}")]
    System {
        /// Which worker.
        worker: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: BoxError,
    },
    /// The worker ended before it said hello.
    #[error(
        "worker process {worker} {end} before it was ready; is `Tasks::init` the first thing in `main`?{last_words}"
    )]
    Died {
        /// Which worker.
        worker: String,
        /// How it ended.
        end: End,
        /// What it wrote last.
        last_words: LastWords,
    },
    /// The worker did not say hello in time.
    #[error(
        "worker process {worker} was not ready within {after:?}; is `Tasks::init` the first thing in `main`?{last_words}"
    )]
    Silent {
        /// Which worker.
        worker: String,
        /// The limit.
        after: Duration,
        /// What it wrote last.
        last_words: LastWords,
    },
    /// The worker has other tasks than the server.
    #[error("worker process {worker} is not of this program: {difference}")]
    Stranger {
        /// Which worker.
        worker: String,
        /// What differs.
        difference: String,
    },
    /// The pool was shut down meanwhile.
    #[error("the worker processes were shut down while they started")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_reads_as_a_sentence() {
        let died = |end, words: &str| {
            let last_words = LastWords(words.to_owned());
            let (task, worker) = ("thumbnail".to_owned(), "app-process-1".to_owned());
            ProcessError::Died { task, worker, end, last_words }.to_string()
        };
        assert_eq!(died(End::Signal(11), ""), "app-process-1 was killed by SIGSEGV over task `thumbnail`");
        assert_eq!(
            died(End::Exit(3), "bad header\n"),
            "app-process-1 exited with status 3 over task `thumbnail`; it wrote last: bad header"
        );
        assert_eq!(died(End::Signal(34), ""), "app-process-1 was killed by signal 34 over task `thumbnail`");
    }
}
