//! Whose turn it is on the async threads, when there are more owners than they need.
//!
//! An owner gives its thread back after each slice of work, but behind it may wait a dozen other owners: Tokio
//! runs tasks in the order in which they became ready, and looks for new requests when no task is ready, or
//! after many. So that a neighbour waits for a few slices, and not for one of each owner, only some owners
//! are ready at a time. The others wait here, first come, first served, and lose nothing by it: they could
//! not have run.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::policy;

/// The turns on one runtime's threads.
pub(crate) struct Turns {
    /// How many there are.
    turns: usize,
    /// The runtime; none if there was none, and then nobody takes turns.
    home: Option<Id>,
    free: Semaphore,
    /// How many turns were begun.
    begun: AtomicUsize,
    /// How many had been when last looked at.
    seen: AtomicUsize,
    /// How many turns there are beyond those.
    more: AtomicUsize,
}

/// Held while an owner works, and never while it waits for anything else.
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

impl Turns {
    /// The turns on the threads of `home`.
    pub(crate) fn new(home: Option<&Handle>) -> Self {
        let turns = home.map_or(0, |home| policy::turns(home.metrics().num_workers()));
        Turns {
            turns,
            home: home.map(Handle::id),
            free: Semaphore::new(turns),
            begun: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            more: AtomicUsize::new(0),
        }
    }

    /// Whether somebody who works on the current thread should take turns, being one of so many.
    pub(crate) fn are_taken(&self, owners: usize) -> bool {
        owners > self.turns
            && self.home.is_some()
            && Handle::try_current().ok().map(|handle| handle.id()) == self.home
    }

    /// Waits for a turn.
    pub(crate) async fn next(&self) -> Option<Turn<'_>> {
        let permit = self.free.acquire().await;
        self.begun.fetch_add(1, Ordering::Relaxed);
        // It is never closed.
        permit.ok().map(|permit| Turn { _permit: permit })
    }

    /// Makes more turns if none was begun since this was last called and none is free: whoever has them is held up
    /// in the user's code, perhaps by what an owner that waits for its turn would do. Takes them back
    /// once turns are begun again.
    pub(crate) fn sample(&self) {
        let begun = self.begun.load(Ordering::Relaxed);
        if self.seen.swap(begun, Ordering::Relaxed) != begun {
            let taken = self.free.forget_permits(self.more.load(Ordering::Relaxed));
            self.more.fetch_sub(taken, Ordering::Relaxed);
        } else if self.home.is_some() && self.free.available_permits() == 0 {
            self.free.add_permits(self.turns);
            self.more.fetch_add(self.turns, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn there_are_two_turns_a_thread_and_only_where_there_are_more_owners() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let turns = Turns::new(Some(runtime.handle()));
        let here = runtime.enter();
        assert!(!turns.are_taken(2));
        assert!(turns.are_taken(3));
        let held = [now(turns.next()).unwrap(), now(turns.next()).unwrap()];
        assert!(now(turns.next()).is_none());
        drop(held);
        assert!(now(turns.next()).is_some());
        drop(here);
        assert!(!turns.are_taken(3), "on no thread of theirs");
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _there = other.enter();
        assert!(!turns.are_taken(3), "on another runtime's thread");
        assert!(!Turns::new(None).are_taken(3));
    }

    #[test]
    fn turns_that_do_not_end_hold_up_nobody_for_good() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let turns = Turns::new(Some(runtime.handle()));
        let stuck = [now(turns.next()).unwrap(), now(turns.next()).unwrap()];
        turns.sample();
        assert!(now(turns.next()).is_none(), "it was begun lately");
        turns.sample();
        let more = [now(turns.next()).unwrap(), now(turns.next()).unwrap()];
        assert!(now(turns.next()).is_none());
        drop((stuck, more));
        turns.sample();
        let held = [now(turns.next()).unwrap(), now(turns.next()).unwrap()];
        assert!(now(turns.next()).is_none(), "as many as before");
        drop(held);
        // Nobody wants one: there is no reason for more.
        turns.sample();
        turns.sample();
        let _held = [now(turns.next()).unwrap(), now(turns.next()).unwrap()];
        assert!(now(turns.next()).is_none());
    }
}
