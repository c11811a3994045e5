//! The run itself: events in their order, threads that block and go on, requests that come and end. Who
//! helps whom is in `pool` for the pool's policy, and in `rivals` for the others.

mod pool;
mod rivals;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::admission::cost::{CostModel, Samples};
use crate::admission::policy::{Cost, GRAIN_LOW, Machine, Nanos, WAKE_START};
use crate::os::{Capacity, Fair, Os, RoundRobin};
use crate::outcome::{Outcome, Watched};
use crate::traffic::Request;
use crate::world::{Policy, Scheduler, World};

/// What waking a sleeping thread costs whoever does it.
const WAKE_CALL: Nanos = 4_000;
/// How long it takes until the woken thread may run.
const WAKE_LATENCY: Nanos = 16_000;
/// What a woken thread does before it asks for work.
const ENTER: Nanos = 1_000;
/// How long a thread that spins takes to see that it was called.
const NOTICE: Nanos = 500;
/// Claiming and finishing a chunk.
const CLAIM: Nanos = 700;
/// Looking at the machine and deciding, once a chunk.
const DECIDE: Nanos = 150;
/// The kernel renews the load average so often.
const LOAD_EVERY: Nanos = 5_000_000_000;
/// The pool samples what the kernel says of the machine so often.
const SAMPLE_EVERY: Nanos = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Rows of this request have come.
    Rows(usize),
    /// The owner of this one was woken, since its last chunk is done.
    Return(usize),
    /// This worker's wake-up has arrived.
    Woken(usize),
    LoadAverage,
    Sample,
    External(usize),
}

/// What the owner of a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Has not come, or is gone.
    Away,
    /// Waits for rows.
    Database,
    Working,
    /// Waits for chunks of others.
    Joining,
    /// Goes on after them.
    Returning,
}

/// A request and its work.
#[derive(Debug)]
struct Job {
    owner: Owner,
    /// Batches of rows that have come.
    batches: usize,
    /// Items that nobody has claimed.
    waiting: usize,
    /// Items that have not come yet.
    unread: usize,
    /// Chunks that others have claimed and not finished.
    running: usize,
    /// Who works on it, the owner included.
    participants: usize,
    shared: bool,
    known: Option<Cost>,
    measured: Samples,
    cost: Option<Cost>,
    grain: Nanos,
    /// The owner's chunk: since when, and how many items.
    since: Nanos,
    length: usize,
    /// What the owner has to do besides.
    extra: Nanos,
    latency: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Asleep,
    /// Parked, and still on its core.
    Lingering,
    /// Called while asleep, at this time.
    Waking(Nanos),
    /// Called while it lingered.
    Called,
    Helping,
    /// Lets others run before it looks for more.
    Yielding,
}

#[derive(Clone, Debug)]
struct Worker {
    task: Task,
    /// Which request it is for.
    job: usize,
    /// What the machine was doing when it claimed its chunk.
    machine: Machine,
    extra: Nanos,
}

pub(crate) struct Sim<'a> {
    world: &'a World,
    policy: Policy,
    requests: &'a [Request],
    permille: u64,
    os: Os,
    now: Nanos,
    timers: BinaryHeap<Reverse<(Nanos, u64, Timer)>>,
    sequence: u64,
    jobs: Vec<Job>,
    workers: Vec<Worker>,
    /// Workers that can be woken; the last to park is the first to be.
    parked: Vec<usize>,
    /// Jobs that workers may choose from.
    open: Vec<usize>,
    models: Vec<CostModel>,
    /// Parts of requests that queue for a worker: of which, and how many items.
    parts: VecDeque<(usize, usize)>,
    /// Requests that are not done, and of those the ones whose owner has something to do.
    owners: usize,
    computing: usize,
    wake: Nanos,
    veto: bool,
    throttled: u64,
    /// As the kernel counts it, in 2048ths.
    load_average: u64,
    done: usize,
    watched: Watched,
}

impl<'a> Sim<'a> {
    pub(crate) fn new(world: &'a World, policy: Policy, requests: &'a [Request], permille: u64) -> Self {
        let threads = world.cores + requests.len();
        let (cores, quota) = match world.quota {
            Some((cores, limit, period)) => (cores, Some((limit, period))),
            None => (world.cores, None),
        };
        let external = world.external.iter().map(|(_, threads)| *threads).max().unwrap_or(0);
        let os = match (policy, world.scheduler) {
            (Policy::EqualSharing, _) => Os::Fair(Fair::new(Capacity::All(world.cores), threads, None)),
            (_, Scheduler::Fair) => Os::Fair(Fair::new(Capacity::Cores(cores), threads, quota)),
            (_, Scheduler::Siblings) => Os::Fair(Fair::new(Capacity::Siblings(cores / 2), threads, quota)),
            (_, Scheduler::RoundRobin) => Os::RoundRobin(RoundRobin::new(cores, threads, external)),
        };
        let machine = Machine {
            cores: world.cores,
            busy: 0,
            helpers: 0,
            wake: WAKE_START,
            veto: false,
            spare_thread: false,
        };
        let models = requests.iter().map(|request| request.route + 1).max().unwrap_or(0);
        let job = |request: &Request| Job {
            owner: Owner::Away,
            batches: 0,
            waiting: 0,
            unread: request.items,
            running: 0,
            participants: 1,
            shared: false,
            known: None,
            measured: Samples::default(),
            cost: None,
            grain: GRAIN_LOW,
            since: 0,
            length: 0,
            extra: 0,
            latency: 0,
        };
        // As if it had gone on like that for minutes.
        let work: Nanos = requests.iter().map(Request::work).sum();
        let offered = requests.last().map_or(0, |last| (work << 11) / last.at.max(1));
        let mut sim = Sim {
            world,
            policy,
            requests,
            permille,
            os,
            now: 0,
            timers: BinaryHeap::new(),
            sequence: 0,
            jobs: requests.iter().map(job).collect(),
            workers: vec![Worker { task: Task::Asleep, job: 0, machine, extra: 0 }; world.cores],
            parked: (0..world.cores).collect(),
            open: Vec::new(),
            models: (0..models).map(|_| CostModel::default()).collect(),
            parts: VecDeque::new(),
            owners: 0,
            computing: 0,
            wake: WAKE_START,
            veto: false,
            throttled: 0,
            load_average: offered,
            done: 0,
            watched: Watched::default(),
        };
        sim.after(LOAD_EVERY, Timer::LoadAverage);
        sim.after(SAMPLE_EVERY, Timer::Sample);
        for (index, &(at, _)) in world.external.iter().enumerate() {
            sim.after(at, Timer::External(index));
        }
        sim
    }

    pub(crate) fn run(mut self) -> Outcome {
        let mut next = 0;
        while self.done < self.requests.len() {
            let arrival = self.requests.get(next).map(|request| request.at);
            let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
            let os = self.os.next_at();
            let Some(at) = [os, timer, arrival].into_iter().flatten().min() else {
                unreachable!("somebody is left who never ends");
            };
            self.os.advance(at);
            self.now = at;
            // Ends before beginnings at the same moment.
            if os == Some(at) {
                while let Some(thread) = self.os.done() {
                    self.done(thread);
                }
            } else if timer == Some(at) {
                if let Some(Reverse((_, _, timer))) = self.timers.pop() {
                    self.ring(timer);
                }
            } else {
                self.arrive(next);
                next += 1;
            }
        }
        Outcome::new(self.jobs.iter().map(|job| job.latency).collect(), self.watched)
    }

    fn after(&mut self, delay: Nanos, timer: Timer) {
        self.sequence += 1;
        self.timers.push(Reverse((self.now + delay, self.sequence, timer)));
    }

    fn ring(&mut self, timer: Timer) {
        match timer {
            Timer::Rows(request) => {
                self.deliver(request);
                self.jobs[request].owner = Owner::Working;
                self.begin(request);
            }
            Timer::Return(request) => {
                self.jobs[request].owner = Owner::Returning;
                self.os.start(self.owner_thread(request), ENTER);
            }
            Timer::Woken(worker) => self.os.start(worker, ENTER),
            Timer::LoadAverage => {
                // The kernel's own fixed-point arithmetic, for one minute.
                let active = (self.os.runnable() as u64) << 11;
                self.load_average = (self.load_average * 1_884 + active * (2_048 - 1_884)) >> 11;
                self.after(LOAD_EVERY, Timer::LoadAverage);
            }
            Timer::Sample => {
                self.sample();
                self.after(SAMPLE_EVERY, Timer::Sample);
            }
            Timer::External(index) => self.os.set_external(self.world.external[index].1),
        }
    }

    fn owner_thread(&self, request: usize) -> usize {
        self.world.cores + request
    }

    /// A thread has done what it had.
    fn done(&mut self, thread: usize) {
        let Some(request) = thread.checked_sub(self.world.cores) else {
            return self.worker_done(thread);
        };
        let next = match self.jobs[request].owner {
            Owner::Returning => {
                self.jobs[request].owner = Owner::Working;
                self.owner_next(request)
            }
            _ => {
                self.owner_did(request);
                self.owner_next(request)
            }
        };
        match next {
            Some(work) => self.os.resume(thread, work, false),
            None => {
                self.computing -= 1;
                self.os.block(thread);
            }
        }
    }

    fn arrive(&mut self, request: usize) {
        self.owners += 1;
        self.jobs[request].owner = Owner::Working;
        self.welcome(request);
        self.begin(request);
    }

    /// An owner that has no core goes on.
    fn begin(&mut self, request: usize) {
        self.computing += 1;
        match self.owner_next(request) {
            Some(work) => self.os.start(self.owner_thread(request), work),
            None => self.computing -= 1,
        }
    }

    /// The owner's next work; none if it waits or has ended.
    fn owner_next(&mut self, request: usize) -> Option<Nanos> {
        let of = &self.requests[request];
        if self.jobs[request].waiting == 0 {
            if self.jobs[request].unread > 0 {
                if of.wait > 0 {
                    self.jobs[request].owner = Owner::Database;
                    self.after(of.wait, Timer::Rows(request));
                    return None;
                }
                self.deliver(request);
            } else if self.jobs[request].running > 0 {
                self.jobs[request].owner = Owner::Joining;
                return None;
            } else {
                self.complete(request);
                return None;
            }
        }
        self.jobs[request].since = self.now;
        let length = self.owner_chunk(request);
        let job = &mut self.jobs[request];
        job.length = length;
        let extra = std::mem::take(&mut job.extra);
        Some(self.work(request, length) + extra)
    }

    /// What so many items of a request cost here.
    fn work(&self, request: usize, items: usize) -> Nanos {
        items as u64 * self.requests[request].per_item * self.permille / 1_000
    }

    /// The next batch of rows is there.
    fn deliver(&mut self, request: usize) {
        let (of, job) = (&self.requests[request], &mut self.jobs[request]);
        job.batches += 1;
        let last = job.batches == of.batches;
        let batch = if last { job.unread } else { (of.items / of.batches).min(job.unread) };
        job.unread -= batch;
        job.waiting += batch;
    }

    fn complete(&mut self, request: usize) {
        self.farewell(request);
        self.jobs[request].owner = Owner::Away;
        self.jobs[request].latency = self.now - self.requests[request].at;
        self.owners -= 1;
        self.done += 1;
    }

    /// A chunk that another claimed is done; the last one wakes an owner that waits for it.
    fn finish(&mut self, request: usize) {
        let job = &mut self.jobs[request];
        job.running -= 1;
        if job.running == 0 && job.owner == Owner::Joining {
            self.computing += 1;
            self.after(WAKE_LATENCY, Timer::Return(request));
        }
    }

    /// Takes up to so many of the items that wait.
    fn claim(&mut self, request: usize, length: usize) -> usize {
        let job = &mut self.jobs[request];
        let length = length.min(job.waiting);
        job.waiting -= length;
        length
    }

    /// Wakes up to so many workers for a job; what that costs the waker.
    fn wake_for(&mut self, request: usize, count: usize) -> Nanos {
        let mut cost = 0;
        for _ in 0..count {
            if self.running() >= self.world.cores {
                self.watched.wakes_when_busy += 1;
            }
            let Some(worker) = self.parked.pop() else { break };
            self.watched.wakes += 1;
            self.jobs[request].participants += 1;
            self.workers[worker].job = request;
            if self.workers[worker].task == Task::Lingering {
                self.workers[worker].task = Task::Called;
                self.os.replace(worker, NOTICE);
            } else {
                self.workers[worker].task = Task::Waking(self.now);
                self.after(WAKE_LATENCY, Timer::Woken(worker));
                cost += WAKE_CALL;
            }
        }
        cost
    }

    /// Threads of this program that have or want a core, as the machine sees it. A worker that lingers
    /// leaves as soon as somebody wants its core.
    fn running(&self) -> usize {
        self.computing + self.awake()
    }

    fn awake(&self) -> usize {
        self.workers.len() - self.parked.len()
    }

    // What the policies differ in.

    /// A request has come.
    fn welcome(&mut self, request: usize) {
        if self.policy == Policy::Multicore {
            self.pool_welcome(request);
        }
    }

    /// How many items the owner works on next; `waiting` is not zero.
    fn owner_chunk(&mut self, request: usize) -> usize {
        match self.policy {
            Policy::Multicore => self.pool_chunk(request),
            _ => self.rival_chunk(request),
        }
    }

    /// The owner has done its chunk.
    fn owner_did(&mut self, request: usize) {
        if self.policy == Policy::Multicore {
            self.pool_measure(request);
        }
    }

    /// A request is done.
    fn farewell(&mut self, request: usize) {
        if self.policy == Policy::Multicore {
            self.pool_farewell(request);
        }
    }

    /// A worker has done what it had.
    fn worker_done(&mut self, worker: usize) {
        match self.policy {
            Policy::Multicore => self.pool_worker_done(worker),
            _ => self.rival_worker_done(worker),
        }
    }

    fn sample(&mut self) {
        let throttled = self.os.throttled();
        self.veto = throttled > std::mem::replace(&mut self.throttled, throttled);
    }
}
