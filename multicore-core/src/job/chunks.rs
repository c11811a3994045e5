//! The shared part of one job: items handed out in chunks, each exactly once, and the results put
//! back in order. Who takes part and how long a chunk is, is decided elsewhere; this file is the part
//! that must be right by proof, and loom runs it (`loom_models`). See `README.md` beside it.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll, Waker};

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// An error that can stand for a chunk whose holder vanished.
pub(crate) trait Lost {
    fn lost() -> Self;
}

/// The items of a job that wait, and the results of those that were claimed.
pub(crate) struct Chunks<I, O, E> {
    state: Mutex<State<I, O, E>>,
    /// How many items wait: a hint, exact only under the lock.
    waiting: AtomicUsize,
    /// Whether chunks are still handed out: a hint, exact only under the lock.
    open: AtomicBool,
}

struct State<I, O, E> {
    items: VecDeque<I>,
    /// One slot a chunk, in the order in which the chunks were claimed, which is the items' order.
    results: Vec<Option<Result<O, E>>>,
    /// Chunks that are claimed and not finished.
    running: usize,
    /// Whether chunks are still handed out.
    open: bool,
    /// The owner, once it waits for `running` to fall to zero, or for a failure.
    owner: Option<Waker>,
}

impl<I, O, E: Lost> Chunks<I, O, E> {
    pub(crate) fn new() -> Self {
        let state =
            State { items: VecDeque::new(), results: Vec::new(), running: 0, open: true, owner: None };
        Chunks { state: Mutex::new(state), waiting: AtomicUsize::new(0), open: AtomicBool::new(true) }
    }

    /// Adds items behind those that wait. Items of a closed job are dropped.
    pub(crate) fn push(&self, items: &mut VecDeque<I>) {
        let mut state = lock(&self.state);
        if state.open {
            if state.items.is_empty() {
                // Nothing is moved, and the caller goes on with the empty one's room.
                mem::swap(&mut state.items, items);
            } else {
                state.items.append(items);
            }
            self.waiting.store(state.items.len(), Ordering::Relaxed);
        } else {
            drop(state);
            items.clear();
        }
    }

    /// How many items wait to be claimed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes the next `length` items, or what is left; none if nothing waits or the job is closed.
    pub(crate) fn claim(&self, length: usize) -> Option<Claim<'_, I, O, E>> {
        // Others wait for the lock: room for the items is made before it is taken.
        let mut items = Vec::with_capacity(length.min(self.waiting()));
        let mut state = lock(&self.state);
        if !state.open || state.items.is_empty() || length == 0 {
            return None;
        }
        let length = length.min(state.items.len());
        items.extend(state.items.drain(..length));
        self.waiting.store(state.items.len(), Ordering::Relaxed);
        state.running += 1;
        state.results.push(None);
        Some(Claim { chunks: self, index: state.results.len() - 1, items, finished: false })
    }

    fn finish(&self, index: usize, result: Result<O, E>) {
        let failed = result.is_err();
        let (wake, dropped) = {
            let mut state = lock(&self.state);
            state.running -= 1;
            // The owner may have taken the results of a job it gave up.
            let late = match state.results.get_mut(index) {
                Some(slot) => slot.replace(result),
                None => Some(result),
            };
            let dropped = if failed { self.shut(&mut state) } else { VecDeque::new() };
            let wake = if state.running == 0 || failed { state.owner.take() } else { None };
            (wake, (dropped, late))
        };
        // The owner's waker and the user's drop code run outside the lock; the waker first, since drop
        // code may unwind.
        if let Some(wake) = wake {
            wake.wake();
        }
        drop(dropped);
    }

    /// Hands out nothing more, and drops what waits. Chunks that run are finished by who runs them.
    pub(crate) fn close(&self) {
        let dropped = self.shut(&mut lock(&self.state));
        drop(dropped);
    }

    fn shut(&self, state: &mut State<I, O, E>) -> VecDeque<I> {
        state.open = false;
        self.open.store(false, Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
        mem::take(&mut state.items)
    }

    /// Whether chunks are still handed out: no chunk failed, and the job was not closed.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Ready once a chunk failed or the job was closed. Only the owner polls, while it waits for items.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        allow(dead_code, reason = "only lists wait for items")
    )]
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.open {
            return Poll::Ready(());
        }
        state.owner = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready with the results in order once no chunk runs. Only the owner polls, and only when it
    /// adds no more items and none waits (or the job is closed).
    pub(crate) fn poll_results(&self, context: &mut Context<'_>) -> Poll<Vec<Result<O, E>>> {
        let mut state = lock(&self.state);
        if state.running > 0 {
            state.owner = Some(context.waker().clone());
            return Poll::Pending;
        }
        let results = mem::take(&mut state.results);
        drop(state);
        // With none running, every slot is filled; an empty one would be a chunk lost.
        Poll::Ready(results.into_iter().map(|slot| slot.unwrap_or_else(|| Err(E::lost()))).collect())
    }
}

/// A claimed chunk. Dropped unfinished (its holder unwound), it is reported as lost, so that the owner
/// never waits for it.
pub(crate) struct Claim<'a, I, O, E: Lost> {
    chunks: &'a Chunks<I, O, E>,
    index: usize,
    items: Vec<I>,
    finished: bool,
}

impl<I, O, E: Lost> Claim<'_, I, O, E> {
    /// The items of the chunk, once.
    pub(crate) fn take(&mut self) -> Vec<I> {
        mem::take(&mut self.items)
    }

    /// Puts the chunk's result in its place. An error closes the job.
    pub(crate) fn finish(mut self, result: Result<O, E>) {
        self.finished = true;
        self.chunks.finish(self.index, result);
    }
}

impl<I, O, E: Lost> Drop for Claim<'_, I, O, E> {
    fn drop(&mut self) {
        if !self.finished {
            self.chunks.finish(self.index, Err(E::lost()));
        }
    }
}
