//! The operating system's scheduler, twice: fair sharing and round robin. Both give threads (numbers)
//! cores for the work they bring, and say when whose work is done.

mod fair;
mod round_robin;

use crate::admission::policy::Nanos;
pub(crate) use fair::{Capacity, Fair};
pub(crate) use round_robin::RoundRobin;

/// One of the two schedulers.
#[derive(Debug)]
pub(crate) enum Os {
    Fair(Fair),
    RoundRobin(RoundRobin),
}

macro_rules! either {
    ($os:expr, $it:ident => $do:expr) => {
        match $os {
            Os::Fair($it) => $do,
            Os::RoundRobin($it) => $do,
        }
    };
}

impl Os {
    /// When something happens next, if nothing else does before.
    pub(crate) fn next_at(&mut self) -> Option<Nanos> {
        either!(self, os => os.next_at())
    }

    /// Lets time pass until `to`, which is not after `next_at`.
    pub(crate) fn advance(&mut self, to: Nanos) {
        either!(self, os => os.advance(to));
    }

    /// A thread whose work is done now. It keeps its core until `resume` or `block`.
    pub(crate) fn done(&mut self) -> Option<usize> {
        either!(self, os => os.done())
    }

    /// A thread becomes runnable with so much work.
    pub(crate) fn start(&mut self, thread: usize, work: Nanos) {
        either!(self, os => os.start(thread, work.max(1)));
    }

    /// A thread that is done goes on with more work; `gives_way` lets another one go first.
    pub(crate) fn resume(&mut self, thread: usize, work: Nanos, gives_way: bool) {
        either!(self, os => os.resume(thread, work.max(1), gives_way));
    }

    /// A thread that is done leaves its core.
    pub(crate) fn block(&mut self, thread: usize) {
        either!(self, os => os.block(thread));
    }

    /// A thread that spins finds other work, this much.
    pub(crate) fn replace(&mut self, thread: usize, work: Nanos) {
        either!(self, os => os.replace(thread, work.max(1)));
    }

    /// Whether a thread that gives way would have to wait.
    pub(crate) fn has_waiting(&self) -> bool {
        match self {
            Os::Fair(_) => false,
            Os::RoundRobin(os) => os.has_waiting(),
        }
    }

    /// Threads that run or wait for a core.
    pub(crate) fn runnable(&self) -> usize {
        either!(self, os => os.runnable())
    }

    /// How many threads outside this program compute without end from now on.
    pub(crate) fn set_external(&mut self, threads: usize) {
        either!(self, os => os.set_external(threads));
    }

    /// In how many periods of the quota the program was stopped so far.
    pub(crate) fn throttled(&self) -> u64 {
        match self {
            Os::Fair(os) => os.throttled(),
            Os::RoundRobin(_) => 0,
        }
    }
}
