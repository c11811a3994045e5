//! One job: work on a list of items that its owner does itself and that workers may help with. The
//! owner's side is `owner`; what both sides share is `chunks`; where jobs and workers meet is
//! `registry`.

pub(crate) mod chunks;
pub(crate) mod owner;
pub(crate) mod registry;
mod stretch;

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::admission::policy::{self, Cost, Machine, Nanos, Open};
use crate::core::Core;
use crate::db::Database;
use crate::error::panic_message;
use chunks::{Chunks, Claim, Lost};
use registry::Join;

/// What is done with the items of a job.
pub(crate) trait Work: Send + Sync + 'static {
    /// What goes in, one at a time.
    type Item: Send + 'static;
    /// What a chunk's items add up to.
    type Out: Send + 'static;
    type Error: Send + 'static;

    /// An empty chunk for about so many items.
    fn begin(&self, items: usize) -> Self::Out;

    /// Adds one item to a chunk. After an error the chunk is dropped.
    fn add(&self, item: Self::Item, out: &mut Self::Out) -> Result<(), Self::Error>;

    /// Whether a chunk the owner keeps adding to has grown enough.
    fn is_full(&self, _out: &Self::Out) -> bool {
        false
    }
}

/// Why a chunk, and with it the job, has no result.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The work said so.
    Error(E),
    /// The work panicked, with this message.
    Panicked(String),
}

impl<E> Lost for Failure<E> {
    fn lost() -> Self {
        Failure::Panicked("the worker of a chunk unwound outside the work itself".to_owned())
    }
}

/// Runs user code; a panic becomes a failure with its message.
pub(crate) fn guarded<T, E>(run: impl FnOnce() -> Result<T, E>) -> Result<T, Failure<E>> {
    // Unwind safety: what the closure was building is dropped by the caller on any failure, and the
    // work itself is `Sync` and only ever borrowed shared.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(Failure::Error),
        Err(payload) => Err(Failure::Panicked(panic_message(payload))),
    }
}

/// The claims of a job's chunks.
pub(crate) type ClaimOf<'a, W> = Claim<'a, <W as Work>::Item, <W as Work>::Out, Failure<<W as Work>::Error>>;

/// What owner and helpers share of a published job.
pub(crate) struct Job<W: Work> {
    pub(crate) chunks: Chunks<W::Item, W::Out, Failure<W::Error>>,
    pub(crate) work: Arc<W>,
    /// Items the owner expects and has not read yet.
    pub(crate) unread: AtomicUsize,
    per_item: AtomicU64,
    fixed: AtomicU64,
    participants: AtomicUsize,
    /// Helpers that hold a chunk.
    helping: AtomicUsize,
    /// The most helpers that held a chunk at once.
    peak: AtomicUsize,
    /// Run whatever the load (`Execution::Parallel`).
    pub(crate) forced: bool,
    pub(crate) chunk_length: Option<NonZeroUsize>,
    /// The owner is gone: nobody wants what is still being worked on.
    abandoned: AtomicBool,
}

impl<W: Work> Job<W> {
    pub(crate) fn new(work: Arc<W>, cost: Cost, forced: bool, chunk_length: Option<NonZeroUsize>) -> Self {
        Job {
            chunks: Chunks::new(),
            work,
            unread: AtomicUsize::new(0),
            per_item: AtomicU64::new(cost.per_item),
            fixed: AtomicU64::new(cost.fixed),
            // The owner.
            participants: AtomicUsize::new(1),
            helping: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            forced,
            chunk_length,
            abandoned: AtomicBool::new(false),
        }
    }

    /// The owner goes, and takes the job back. Helpers stop at their next item.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.chunks.close();
    }

    pub(crate) fn set_cost(&self, cost: Cost) {
        self.per_item.store(cost.per_item, Ordering::Relaxed);
        self.fixed.store(cost.fixed, Ordering::Relaxed);
    }

    pub(crate) fn cost(&self) -> Cost {
        Cost { per_item: self.per_item.load(Ordering::Relaxed), fixed: self.fixed.load(Ordering::Relaxed) }
    }

    pub(crate) fn participants(&self) -> usize {
        self.participants.load(Ordering::Relaxed)
    }

    /// The most that worked on it at once, the owner included.
    pub(crate) fn peak(&self) -> usize {
        1 + self.peak.load(Ordering::Relaxed)
    }

    /// Work that nobody has claimed, what is still to be read included.
    pub(crate) fn left(&self) -> Nanos {
        let items = self.chunks.waiting().saturating_add(self.unread.load(Ordering::Relaxed));
        self.cost().of(items)
    }

    /// How many participants this job deserves on `machine`.
    pub(crate) fn desired(&self, machine: Machine) -> usize {
        if self.forced { usize::MAX } else { policy::desired(self.left(), self.cost(), machine) }
    }

    /// How many more workers to wake for it now, `parked` being there.
    pub(crate) fn wakes(&self, machine: Machine, parked: usize) -> usize {
        let waiting = self.chunks.waiting();
        if self.forced {
            let spare = waiting.saturating_sub(1).min(parked);
            return spare.min(policy::WAKES_AT_ONCE);
        }
        if !policy::worth_waking(waiting, self.cost()) {
            return 0;
        }
        policy::wakes(machine, parked, self.participants(), self.desired(machine))
    }

    /// The length of the next chunk, in items.
    pub(crate) fn next_length(&self, machine: Machine) -> usize {
        if let Some(length) = self.chunk_length {
            return length.get();
        }
        let waiting = self.chunks.waiting();
        policy::shared_length(self.left(), waiting, self.participants(), self.cost(), machine)
    }
}

/// A job as the registry and the workers see it, whatever its items are.
pub(crate) trait Help<DB: Database>: Join + Send + Sync {
    /// What a worker looking for a job needs to know of this one.
    fn open(&self, machine: Machine) -> Open;

    /// Works on chunks until none waits or the cores are wanted elsewhere.
    fn help(self: Arc<Self>, core: &Core<DB>);
}

impl<W: Work> Join for Job<W> {
    fn join(&self) {
        self.participants.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a participant out when its work ends, however it ends.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<DB: Database, W: Work> Help<DB> for Job<W> {
    fn open(&self, machine: Machine) -> Open {
        Open {
            left: self.left(),
            // A worker cannot help to read.
            claimable: self.chunks.waiting() > 0,
            participants: self.participants(),
            desired: self.desired(machine),
        }
    }

    fn help(self: Arc<Self>, core: &Core<DB>) {
        let _leave = Leave(&self.participants);
        let job: Arc<dyn Help<DB>> = Arc::clone(&self) as Arc<dyn Help<DB>>;
        loop {
            let machine = core.machine();
            if core.is_halted() || core.registry.queued() > 0 {
                return;
            }
            if policy::must_retire(machine) && !self.forced {
                return;
            }
            let Some(claim) = self.chunks.claim(self.next_length(machine)) else { return };
            // Before the work, not after it: with many idle cores the job would be half done by then, and
            // what the machine was doing would be a chunk old.
            let wakes = self.wakes(machine, core.registry.parked());
            if wakes > 0 {
                core.registry.wake_for(&job, wakes);
            }
            self.run(claim);
            // A thread that just became runnable goes first. (Lowering the priority instead made the
            // owner wait up to 100 ms for a helper's last chunk.)
            std::thread::yield_now();
            if core.registry.open_jobs() > 1 && self.must_switch(core, machine) {
                return;
            }
        }
    }
}

impl<W: Work> Job<W> {
    /// Runs a whole chunk as a helper and puts its result in place.
    fn run(&self, mut claim: ClaimOf<'_, W>) {
        let helping = self.helping.fetch_add(1, Ordering::Relaxed) + 1;
        let _helping = Leave(&self.helping);
        self.peak.fetch_max(helping, Ordering::Relaxed);
        let items = claim.take();
        let done = guarded(|| {
            let mut out = self.work.begin(items.len());
            for item in items {
                // A job that merely failed elsewhere goes on: an error before that one counts more.
                if self.abandoned.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                self.work.add(item, &mut out)?;
            }
            Ok(Some(out))
        });
        if let Some(done) = done.transpose() {
            claim.finish(done);
        }
    }

    /// Whether another job is so much smaller that its owner should have this helper.
    fn must_switch<DB: Database>(&self, core: &Core<DB>, machine: Machine) -> bool {
        let here = self.left();
        core.registry.peek(|jobs| {
            let open = jobs.iter().map(|job| job.open(machine));
            let wanting = open.filter(Open::wants_hands);
            wanting.map(|job| job.left).any(|there| policy::must_switch(here, there))
        })
    }
}
