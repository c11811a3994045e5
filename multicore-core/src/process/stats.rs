//! What worker processes are doing and have done.

use serde::Serialize;

/// What the worker processes are doing and have done; numbers read one after the other, not at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub struct ProcessStats {
    /// Worker processes that there are to be.
    pub workers: usize,
    /// Those that can take calls.
    pub ready: usize,
    /// Those that have a call now.
    pub busy: usize,
    /// Calls that wait for a worker.
    pub queue: usize,
    /// Calls that were taken, since the start.
    pub calls: u64,
    /// Calls that were refused: too many waited, or there was no worker.
    pub refused: u64,
    /// Processes that were started, the first ones included.
    pub started: u64,
    /// Processes that were replaced between two tasks: after a panic, `max-tasks` or `max-rss`.
    pub recycled: u64,
    /// Processes that died by themselves.
    pub died: u64,
    /// Processes that were killed: for time, memory, a caller that left, a breach of the protocol.
    pub killed: u64,
    /// Calls that were sent once more after their worker died.
    pub repeated: u64,
}
