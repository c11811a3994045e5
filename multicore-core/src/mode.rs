//! How a piece of work was carried out, and why: what the header, the statistics and the log say.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::ser::SerializeMap;

/// How a job was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// More than one core worked on it.
    Parallel {
        /// The most that worked at the same time, the owner included; at least 2.
        participants: usize,
        /// Into how many chunks the work fell.
        chunks: usize,
    },
    /// One core did all of it, for this reason.
    Sequential(Reason),
}

/// Why a job ran on one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The work was too little to pay for a wake-up.
    TooSmall,
    /// No core was idle.
    Busy,
    /// The load average was above `max-load-average`.
    LoadAverage,
    /// The machine, or the pool, has one core only.
    OneCore,
    /// The caller asked for it.
    Forced,
    /// Help was asked for, and the work was done before any came.
    Unclaimed,
    /// The pool is shutting down or has stopped.
    Stopped,
    /// The kernel stopped the process lately because its CPU quota was used up.
    Throttled,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Reason; 8] = [
        Reason::TooSmall,
        Reason::Busy,
        Reason::LoadAverage,
        Reason::OneCore,
        Reason::Forced,
        Reason::Unclaimed,
        Reason::Stopped,
        Reason::Throttled,
    ];

    /// The reason as the header and the metrics spell it, such as `too-small`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TooSmall => "too-small",
            Reason::Busy => "busy",
            Reason::LoadAverage => "load-average",
            Reason::OneCore => "one-core",
            Reason::Forced => "forced",
            Reason::Unclaimed => "unclaimed",
            Reason::Stopped => "stopped",
            Reason::Throttled => "throttled",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Mode {
    /// As the `Multicore` response header says it, a dictionary of RFC 9651.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Parallel { participants, chunks } => {
                write!(f, "mode=parallel, participants={participants}, chunks={chunks}")
            }
            Mode::Sequential(reason) => write!(f, "mode=sequential, reason={reason}"),
        }
    }
}

/// Whether the library decides how a job runs, or the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Execution {
    /// The library decides from what is idle and what the work costs.
    #[default]
    Auto,
    /// Workers are called whatever the load and however small the work; for trying out and for tests.
    /// It can still end up sequential if no worker came in time.
    Parallel,
    /// One core, the caller's own.
    Sequential,
}

/// How often each decision was taken.
/// On cache lines of their own: every job writes here, and reads what lies beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    parallel: AtomicU64,
    sequential: [AtomicU64; Reason::ALL.len()],
}

impl Counters {
    pub(crate) fn count(&self, mode: Mode) {
        let counter = match mode {
            Mode::Parallel { .. } => &self.parallel,
            Mode::Sequential(reason) => &self.sequential[reason as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Decisions {
        Decisions {
            parallel: self.parallel.load(Ordering::Relaxed),
            sequential: Reason::ALL
                .map(|reason| (reason, self.sequential[reason as usize].load(Ordering::Relaxed))),
        }
    }
}

/// How often jobs ran in parallel, and how often they did not and why, since the pool started.
/// Serialises as one flat map: `{"parallel": 7, "too-small": 2, …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decisions {
    parallel: u64,
    sequential: [(Reason, u64); Reason::ALL.len()],
}

impl Decisions {
    /// Jobs that more than one core worked on.
    pub fn parallel(&self) -> u64 {
        self.parallel
    }

    /// Jobs that one core did, for this reason.
    pub fn sequential(&self, reason: Reason) -> u64 {
        self.sequential[reason as usize].1
    }

    /// All jobs.
    pub fn total(&self) -> u64 {
        self.parallel + self.sequential.iter().map(|(_, count)| count).sum::<u64>()
    }
}

impl Serialize for Decisions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.sequential.len()))?;
        map.serialize_entry("parallel", &self.parallel)?;
        for (reason, count) in &self.sequential {
            map.serialize_entry(reason.as_str(), count)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_counter_of_its_place() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let counters = Counters::default();
        counters.count(Mode::Sequential(Reason::Busy));
        counters.count(Mode::Parallel { participants: 2, chunks: 3 });
        counters.count(Mode::Parallel { participants: 4, chunks: 3 });
        let read = counters.read();
        assert_eq!((read.parallel(), read.sequential(Reason::Busy), read.total()), (2, 1, 3));
    }

    #[test]
    fn modes_read_as_the_header_says_them() {
        let parallel = Mode::Parallel { participants: 2, chunks: 9 };
        assert_eq!(parallel.to_string(), "mode=parallel, participants=2, chunks=9");
        let sequential = Mode::Sequential(Reason::TooSmall);
        assert_eq!(sequential.to_string(), "mode=sequential, reason=too-small");
    }
}
