//! A call from its caller's side: what is asked, whether it is still wanted, and where its answer goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::place::Place;
use crate::process::error::ProcessError;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Mutex, lock};

/// A call that waits or runs.
pub(super) struct Request {
    pub(super) task: u32,
    pub(super) argument: Bytes,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Result<Bytes, ProcessError>>,
    /// How often it was sent to a worker that died before it had begun it.
    pub(super) tries: u8,
    /// How long it may take.
    pub(super) limit: Option<Duration>,
    /// Whether it may be run once more after it has begun.
    pub(super) may_repeat: bool,
}

impl Request {
    pub(super) fn finish(self, result: Result<Bytes, ProcessError>) {
        // A caller that left has said so by its ticket.
        let _left = self.answer.send(result);
    }
}

/// Whether a call is still wanted. Its caller and its worker's thread share it.
pub(super) struct Ticket {
    state: AtomicU8,
    /// The worker it was sent to.
    place: Mutex<Option<Arc<Place>>>,
}

impl Default for Ticket {
    fn default() -> Self {
        Ticket { state: AtomicU8::new(WANTED), place: Mutex::new(None) }
    }
}

const WANTED: u8 = 0;
const LEFT: u8 = 1;
const TIMED_OUT: u8 = 2;

impl Ticket {
    pub(super) fn is_wanted(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WANTED
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.state.load(Ordering::SeqCst) == TIMED_OUT
    }

    /// Notes the worker it is about to be sent to. False if it is not wanted any more.
    pub(super) fn assign(&self, place: &Arc<Place>) -> bool {
        *lock(&self.place) = Some(Arc::clone(place));
        // Only now: whoever leaves after this finds the place.
        self.is_wanted()
    }

    /// Whether it was sent to a worker.
    fn cancel(&self, why: u8) -> bool {
        self.state.store(why, Ordering::SeqCst);
        let place = lock(&self.place).take();
        if let Some(place) = &place {
            place.wake();
        }
        place.is_some()
    }
}

/// Held by a caller: if it is dropped before the answer came, the call is cancelled.
pub(super) struct Wanted(Option<Arc<Ticket>>);

impl Wanted {
    pub(super) fn new(ticket: &Arc<Ticket>) -> Self {
        Wanted(Some(Arc::clone(ticket)))
    }

    /// The answer has come.
    pub(super) fn answered(mut self) {
        self.0 = None;
    }

    /// The time is up. True if a worker had it, whose thread will say so.
    pub(super) fn timed_out(mut self) -> bool {
        self.0.take().is_some_and(|ticket| ticket.cancel(TIMED_OUT))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(ticket) = &self.0 {
            ticket.cancel(LEFT);
        }
    }
}
