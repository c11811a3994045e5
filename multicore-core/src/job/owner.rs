//! The owner's side of a job: it reads items, works on them itself, and publishes the job when help
//! would pay. What to do next is asked of `policy` before each chunk; this file carries it out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::stretch::{Stretch, held};
use super::{Failure, Help, Job, Work, guarded};
use crate::admission::cost::{CostModel, Samples, blend};
use crate::admission::load::Owning;
use crate::admission::policy::{self, Alone, Cost, GRAIN_LOW, GRAIN_MAX, Machine, Nanos};
use crate::admission::turns::Turn;
use crate::core::Core;
use crate::db::{Database, Reading};
use crate::mode::{Execution, Mode, Reason};

#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod feed;

/// What the machine is taken to do before it was asked, which every chunk does first.
const NOT_ASKED: Machine =
    Machine { cores: 1, busy: 1, helpers: 0, wake: 0, veto: false, spare_thread: false };

/// What a finished job gives.
pub(crate) struct Finished<O> {
    /// The chunks in the order of the items.
    pub(crate) outs: Vec<O>,
    pub(crate) mode: Mode,
}

/// How a caller wants a job run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) execution: Execution,
    /// Items a chunk, in place of what the policy says.
    pub(crate) chunk_length: Option<NonZeroUsize>,
    /// Part of something that is counted elsewhere.
    pub(crate) quiet: bool,
}

/// The owner of one job. Dropped early it takes the job back: nothing more is handed out, and chunks
/// that run end by themselves with their results dropped.
pub(crate) struct Owner<'c, DB: Database, W: Work> {
    core: &'c Core<DB>,
    work: Arc<W>,
    model: &'c CostModel,
    wish: Wish,
    /// How what it reads wants to be read.
    pace: Reading,
    /// Whether what it reads comes over a connection that others may wait for.
    lends: bool,
    known: Option<Cost>,
    measured: Samples,
    /// What the items still to come are expected to cost; none until the first were measured.
    cost: Option<Cost>,
    /// Whether the stream may have more.
    reading: bool,
    /// How many more items may come.
    unread: usize,
    /// Items read and not offered to anyone.
    private: VecDeque<W::Item>,
    /// The chunk the owner is adding to while it is alone.
    current: Option<W::Out>,
    /// Its finished ones. All come before those of the shared job.
    outs: Vec<W::Out>,
    shared: Option<Shared<'c, DB, W>>,
    /// What a private chunk may take.
    grain: Nanos,
    /// Held while it works, where owners take turns.
    turn: Option<Turn<'c>>,
    /// Since when the async thread has been held.
    held_since: Instant,
    /// Whether the owner gave way since it last waited.
    gave_way: bool,
    /// What the machine was doing when last asked.
    machine: Machine,
    chunks: usize,
    reason: Option<Reason>,
    /// How the private part failed. A shared job keeps its failures itself.
    failure: Option<Failure<W::Error>>,
    owning: Owning<'c>,
}

/// A published job; dropped, it is taken back.
struct Shared<'c, DB: Database, W: Work> {
    core: &'c Core<DB>,
    job: Arc<Job<W>>,
    open: Arc<dyn Help<DB>>,
}

impl<DB: Database, W: Work> Drop for Shared<'_, DB, W> {
    fn drop(&mut self) {
        self.core.registry.withdraw(&self.open);
        self.job.abandon();
    }
}

impl<'c, DB: Database, W: Work> Owner<'c, DB, W> {
    /// An owner of about `expected` items, an upper bound.
    pub(crate) fn new(
        core: &'c Core<DB>,
        work: Arc<W>,
        model: &'c CostModel,
        wish: Wish,
        expected: usize,
    ) -> Self {
        let known = model.estimate();
        Owner {
            core,
            work,
            model,
            wish,
            pace: DB::READING,
            lends: false,
            known,
            measured: Samples::default(),
            cost: known,
            reading: true,
            unread: expected,
            private: VecDeque::new(),
            current: None,
            outs: Vec::new(),
            shared: None,
            grain: GRAIN_LOW,
            turn: None,
            held_since: Instant::now(),
            gave_way: false,
            machine: NOT_ASKED,
            chunks: 0,
            reason: None,
            failure: None,
            owning: core.load.own(),
        }
    }

    /// What is read from now on wants to be read like this; until then, as the driver's rows do.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn pace(&mut self, pace: Reading) {
        self.pace = pace;
    }

    /// What is read comes over a connection of the application's pool, and there is room for all of it.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn lends_connection(&mut self) {
        self.lends = true;
    }

    /// Takes all items at once, in place of `feed`: they are all there, so there is nothing to wait for and
    /// none of them is moved.
    pub(crate) fn fill(&mut self, items: Vec<W::Item>) {
        self.reading = false;
        self.unread = 0;
        self.private = items.into();
    }

    /// Works on what was read, waits for the helpers' last chunks, and returns the results in order,
    /// or the failure that comes first in the order of the items.
    pub(crate) async fn finish(mut self) -> Result<Finished<W::Out>, Failure<W::Error>> {
        self.reading = false;
        self.unread = 0;
        while self.waiting() > 0 && !self.failed() {
            self.step().await;
        }
        self.turn = None;
        self.outs.extend(self.current.take());
        let mut peak = 1;
        if let Some(shared) = self.shared.take() {
            let results = {
                let _waiting = self.owning.wait();
                poll_fn(|context| shared.job.chunks.poll_results(context)).await
            };
            peak = shared.job.peak();
            for result in results {
                self.chunks += 1;
                match result {
                    Ok(out) => self.outs.push(out),
                    Err(failure) => {
                        self.failure = Some(failure);
                        break;
                    }
                }
            }
        }
        let mode = if peak > 1 {
            Mode::Parallel { participants: peak, chunks: self.chunks }
        } else {
            Mode::Sequential(self.reason.unwrap_or(Reason::TooSmall))
        };
        if !self.wish.quiet {
            self.core.decisions.count(mode);
        }
        self.model.learn(&self.measured);
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(Finished { outs: self.outs, mode }),
        }
    }

    /// Items read and not claimed by anyone.
    fn waiting(&self) -> usize {
        self.private.len() + self.shared.as_ref().map_or(0, |shared| shared.job.chunks.waiting())
    }

    fn failed(&self) -> bool {
        self.failure.is_some() || self.shared.as_ref().is_some_and(|shared| !shared.job.chunks.is_open())
    }

    /// How long the owner may work before it looks at the stream again.
    fn look_within(&self) -> Nanos {
        if !self.reading {
            return Nanos::MAX;
        }
        u64::try_from(self.pace.look_every.as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Moves what was read to where helpers can claim it, and wakes some if that pays.
    fn offer(&mut self, machine: Option<Machine>) {
        let Some(shared) = &self.shared else { return };
        shared.job.unread.store(self.unread, Ordering::Relaxed);
        if self.cost.is_none() && self.private.len() > 1 {
            // One by one until their cost is known, or whoever comes first takes them all.
            let mut first = self.private.drain(..1).collect();
            shared.job.chunks.push(&mut first);
        } else if !self.private.is_empty() {
            shared.job.chunks.push(&mut self.private);
        }
        let parked = self.core.registry.parked();
        if parked == 0 {
            return;
        }
        let machine = machine.unwrap_or_else(|| self.core.machine());
        let wakes = shared.job.wakes(machine, parked);
        if wakes > 0 && self.core.registry.wake_for(&shared.open, wakes) > 0 {
            self.reason = Some(Reason::Unclaimed);
        } else if machine.idle() == 0 && shared.job.participants() == 1 {
            self.stays(Reason::Busy);
        }
    }

    /// One chunk, by whatever way the policy says now.
    async fn step(&mut self) {
        if self.wants_turn() {
            self.take_turn().await;
        }
        let machine = self.decide();
        let now = match self.shared {
            Some(_) => self.shared_chunk(machine).await,
            None => self.private_chunk(machine),
        };
        if let Some(now) = now {
            self.give_way(now).await;
        }
    }

    /// Publishes the job unless there is a reason not to. Returns what the machine is doing now.
    fn decide(&mut self) -> Machine {
        self.machine = self.core.machine();
        if self.shared.is_none() {
            match self.reason_to_stay_alone(self.machine) {
                None => self.publish(),
                Some(reason) => self.stays(reason),
            }
        }
        self.machine
    }

    /// Why not to ask for help now, if there is a reason.
    fn reason_to_stay_alone(&self, machine: Machine) -> Option<Reason> {
        if self.wish.execution == Execution::Sequential {
            return Some(Reason::Forced);
        }
        if !self.core.registry.is_open() {
            return Some(Reason::Stopped);
        }
        if self.wish.execution == Execution::Parallel {
            return None;
        }
        policy::alone(self.items_left(), self.cost, machine).map(|alone| match alone {
            Alone::OneCore => Reason::OneCore,
            Alone::Veto => self.core.veto_reason(),
            Alone::TooSmall => Reason::TooSmall,
            Alone::Busy => Reason::Busy,
        })
    }

    /// Remembers why there was no help. Towards its end every job is too small, so the first other
    /// reason is the one that counts.
    fn stays(&mut self, reason: Reason) {
        if matches!(self.reason, None | Some(Reason::TooSmall)) {
            self.reason = Some(reason);
        }
    }

    /// Items nobody has claimed, what is still to be read included.
    fn items_left(&self) -> usize {
        self.waiting().saturating_add(self.unread)
    }

    fn publish(&mut self) {
        let cost = self.cost.unwrap_or(Cost { per_item: 1, fixed: 0 });
        let forced = self.wish.execution == Execution::Parallel;
        let job = Arc::new(Job::new(Arc::clone(&self.work), cost, forced, self.wish.chunk_length));
        let open: Arc<dyn Help<DB>> = Arc::clone(&job) as Arc<dyn Help<DB>>;
        if !self.core.registry.publish(Arc::clone(&open)) {
            self.stays(Reason::Stopped);
            return;
        }
        if forced {
            self.reason = Some(Reason::Unclaimed);
        }
        // Until somebody comes: from another job, as no core is idle.
        if self.machine.idle() == 0 {
            self.stays(Reason::Busy);
        }
        self.outs.extend(self.current.take());
        self.shared = Some(Shared { core: self.core, job, open });
    }

    /// Works alone for as long as the policy allows. The items' results go on in one growing chunk.
    fn private_chunk(&mut self, machine: Machine) -> Option<Instant> {
        if self.private.is_empty() {
            return None;
        }
        let (limit, grain) = policy::private_limit(self.items_left(), self.cost, self.grain, machine);
        self.grain = grain;
        let limit = limit.min(self.look_within());
        let most = self.wish.chunk_length.map_or(self.private.len(), NonZeroUsize::get);
        let mut out = match self.current.take() {
            Some(out) if !self.work.is_full(&out) => out,
            full => {
                self.outs.extend(full);
                self.work.begin(self.private.len().saturating_add(self.unread))
            }
        };
        let in_place = self.leaves_its_thread();
        let mut source = std::iter::from_fn(|| self.private.pop_front()).take(most);
        let mut stretch = Stretch::begin(limit);
        let result = held(in_place, || stretch.run(&*self.work, &mut source, &mut out));
        self.chunks += 1;
        match result {
            Ok(()) => self.current = Some(out),
            Err(failure) => {
                self.failure = Some(failure);
                self.private.clear();
            }
        }
        self.measure(&stretch);
        Some(stretch.now)
    }

    /// Claims a chunk of the shared job like everyone else and works on it, giving way within it
    /// should it take longer than expected.
    async fn shared_chunk(&mut self, machine: Machine) -> Option<Instant> {
        self.offer(Some(machine));
        let shared = self.shared.as_ref()?;
        let job = Arc::clone(&shared.job);
        let alone = policy::is_deserted(job.participants(), machine) && !job.forced;
        let length = match self.cost {
            // Nobody there and nobody to come: chunks as long as a private owner's.
            Some(cost) if alone && self.wish.chunk_length.is_none() => {
                let grain = policy::private_grain(cost.of(self.items_left()), cost, self.grain);
                self.grain = policy::next_private_grain(self.grain);
                cost.items_in(grain)
            }
            _ => job.next_length(machine),
        };
        let length = match (self.cost, self.wish.chunk_length) {
            (Some(cost), None) => length.min(cost.items_in(self.look_within())),
            _ => length,
        };
        let mut claim = job.chunks.claim(length)?;
        let items = claim.take();
        let mut out = match guarded::<_, W::Error>(|| Ok(self.work.begin(items.len()))) {
            Ok(out) => out,
            Err(failure) => {
                claim.finish(Err(failure));
                return None;
            }
        };
        let mut source = items.into_iter();
        let result = loop {
            let mut stretch = Stretch::begin(GRAIN_MAX);
            let in_place = self.leaves_its_thread();
            let result = held(in_place, || stretch.run(&*self.work, &mut source, &mut out));
            self.measure(&stretch);
            if let (Some(cost), Some(shared)) = (self.cost, &self.shared) {
                shared.job.set_cost(cost);
            }
            if result.is_err() || source.len() == 0 {
                break result.map(|()| stretch.now);
            }
            self.give_way(stretch.now).await;
        };
        match result {
            Ok(now) => {
                claim.finish(Ok(out));
                Some(now)
            }
            Err(failure) => {
                claim.finish(Err(failure));
                None
            }
        }
    }

    /// Whether the next item is expected to hold the async thread so long that its other tasks should
    /// move elsewhere meanwhile, which costs a few microseconds.
    fn runs_in_place(&self) -> bool {
        if self.cost.is_none_or(|cost| cost.per_item <= GRAIN_MAX) {
            return false;
        }
        self.core.can_move()
    }

    /// As `runs_in_place`. Then others may have its turn, as they have its thread.
    fn leaves_its_thread(&mut self) -> bool {
        let leaves = self.runs_in_place();
        if leaves {
            self.turn = None;
        }
        leaves
    }

    fn measure(&mut self, stretch: &Stretch) {
        let elapsed = u64::try_from(stretch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.measured.add(stretch.done, elapsed, self.cost);
        self.cost = blend(self.known, &self.measured, GRAIN_LOW);
    }

    /// Gives the async thread to others if it has been held long enough.
    async fn give_way(&mut self, now: Instant) {
        let hold = Duration::from_nanos(policy::hold(self.machine, self.gave_way, self.turn.is_some()));
        if now.saturating_duration_since(self.held_since) >= hold {
            // The turn goes on after the thread has looked for new requests, not before.
            tokio::task::yield_now().await;
            self.turn = None;
            self.held_since = Instant::now();
            self.gave_way = true;
            if self.wants_turn() {
                self.take_turn().await;
            }
        }
    }

    /// Whether owners take turns and it has none. One that leaves its thread needs none.
    fn wants_turn(&self) -> bool {
        self.turn.is_none() && self.core.load.takes_turns() && !self.runs_in_place()
    }

    async fn take_turn(&mut self) {
        self.turn = self.core.load.turns().next().await;
        self.held_since = Instant::now();
    }
}
