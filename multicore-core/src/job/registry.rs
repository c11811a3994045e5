//! Where work and workers meet: open jobs, queued runs and parked workers under one lock. A worker
//! checks for work and parks under the lock that also guards publishing, so no wake-up can be lost;
//! loom runs this file (`loom_models`). What to help with, and whom to wake, is decided by the caller.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, spin_until};

/// A job that workers may help with.
pub(crate) trait Join {
    /// Counts one more participant. Called under the registry's lock, before the worker runs, so that
    /// nobody wakes more workers than wanted. The worker itself leaves.
    fn join(&self);
}

/// What a worker is given.
pub(crate) enum Next<J: ?Sized, R> {
    /// Help with this job; it counts the worker as a participant already. With the instant at which it
    /// was woken for it, if it slept.
    Help(Arc<J>, Option<Instant>),
    /// Do this.
    Run(R),
    /// The pool is done.
    Exit,
}

enum Hand<J: ?Sized> {
    Help(Arc<J>, Option<Instant>),
    /// Something changed: look again.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Open,
    /// Takes nothing new and ends when the queue is empty.
    Draining,
    /// Ends after what runs now.
    Halted,
}

/// The jobs, runs and workers of one pool.
pub(crate) struct Registry<J: ?Sized, R> {
    inner: Mutex<Inner<J, R>>,
    /// One a worker, so that a wake-up reaches the worker it was meant for.
    bells: Vec<Bell>,
    /// How many workers are parked: a hint, exact only under the lock.
    parked: AtomicUsize,
    /// How many runs are queued: a hint, exact only under the lock.
    queued: AtomicUsize,
    /// How many jobs are open: a hint, exact only under the lock.
    open: AtomicUsize,
    /// Whether the phase is open: a hint, exact only under the lock.
    accepting: AtomicBool,
    /// How many workers were told to exit.
    ended: AtomicUsize,
}

/// What a parked worker listens to: first the flag, then the condition.
struct Bell {
    rung: AtomicBool,
    condition: Condvar,
}

impl Bell {
    fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.condition.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

struct Inner<J: ?Sized, R> {
    jobs: Vec<Arc<J>>,
    runs: VecDeque<R>,
    /// Last in, first out: the worker that ran last has the warmest cache.
    parked: Vec<usize>,
    /// What a parked worker is woken for; it sleeps while its hand is empty.
    hands: Vec<Option<Hand<J>>>,
    /// Which parked workers have left their core, and need the condition to come back.
    asleep: Vec<bool>,
    phase: Phase,
}

impl<J: Join + ?Sized, R> Registry<J, R> {
    pub(crate) fn new(workers: usize) -> Self {
        let inner = Inner {
            jobs: Vec::new(),
            runs: VecDeque::new(),
            parked: Vec::with_capacity(workers),
            hands: (0..workers).map(|_| None).collect(),
            asleep: vec![false; workers],
            phase: Phase::Open,
        };
        Registry {
            inner: Mutex::new(inner),
            bells: (0..workers)
                .map(|_| Bell { rung: AtomicBool::new(false), condition: Condvar::new() })
                .collect(),
            parked: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            accepting: AtomicBool::new(true),
            ended: AtomicUsize::new(0),
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.bells.len()
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Workers that are neither parked nor ended.
    pub(crate) fn awake(&self) -> usize {
        self.workers().saturating_sub(self.parked() + self.ended.load(Ordering::Relaxed))
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn open_jobs(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether new work is taken, as a hint: publishing and submitting say for sure.
    pub(crate) fn is_open(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }

    /// Makes a job visible to workers. Refused (false) when the pool takes nothing new.
    pub(crate) fn publish(&self, job: Arc<J>) -> bool {
        let mut inner = lock(&self.inner);
        if inner.phase != Phase::Open {
            return false;
        }
        inner.jobs.push(job);
        self.open.store(inner.jobs.len(), Ordering::Relaxed);
        true
    }

    /// Takes a job back; workers that are in it already end by themselves.
    pub(crate) fn withdraw(&self, job: &Arc<J>) {
        let taken = {
            let mut inner = lock(&self.inner);
            let index = inner.jobs.iter().position(|open| Arc::ptr_eq(open, job));
            let taken = index.map(|index| inner.jobs.swap_remove(index));
            self.open.store(inner.jobs.len(), Ordering::Relaxed);
            taken
        };
        // Dropping a job may run user code: never under the lock.
        drop(taken);
    }

    /// Wakes up to `count` parked workers for `job`, each counted as a participant from now on.
    pub(crate) fn wake_for(&self, job: &Arc<J>, count: usize) -> usize {
        let mut woken = 0;
        let mut sleepers = Vec::new();
        {
            let mut inner = lock(&self.inner);
            for _ in 0..count {
                if inner.parked.is_empty() {
                    break;
                }
                job.join();
                sleepers.extend(self.unpark(&mut inner, Hand::Help(Arc::clone(job), None)));
                woken += 1;
            }
        }
        self.ring(&sleepers);
        woken
    }

    /// Queues a run and wakes a worker for it. It is not put into that worker's hand: one that is just
    /// about to park is there sooner. Given back when the pool takes nothing new.
    pub(crate) fn submit(&self, run: R) -> Result<(), R> {
        let sleeper = {
            let mut inner = lock(&self.inner);
            if inner.phase != Phase::Open {
                return Err(run);
            }
            inner.runs.push_back(run);
            self.queued.store(inner.runs.len(), Ordering::Relaxed);
            self.unpark(&mut inner, Hand::Look)
        };
        self.ring(sleeper.as_slice());
        Ok(())
    }

    /// Waits for something to do. `choose` picks among the open jobs, or none, for a worker that was
    /// not woken for a particular one; it runs under the lock and must be quick. A parked worker stays
    /// on its core for `linger` first, so that work that follows on work costs no wake-up.
    pub(crate) fn next(
        &self,
        worker: usize,
        linger: Duration,
        mut choose: impl FnMut(&[Arc<J>]) -> Option<usize>,
    ) -> Next<J, R> {
        let mut inner = lock(&self.inner);
        loop {
            match inner.hands[worker].take() {
                Some(Hand::Help(job, woken)) => return Next::Help(job, woken),
                Some(Hand::Look) | None => {}
            }
            if inner.phase == Phase::Halted {
                self.ended.fetch_add(1, Ordering::Relaxed);
                return Next::Exit;
            }
            if let Some(run) = inner.runs.pop_front() {
                self.queued.store(inner.runs.len(), Ordering::Relaxed);
                return Next::Run(run);
            }
            if inner.phase == Phase::Draining {
                self.ended.fetch_add(1, Ordering::Relaxed);
                return Next::Exit;
            }
            if let Some(index) = choose(&inner.jobs) {
                let job = Arc::clone(&inner.jobs[index]);
                job.join();
                return Next::Help(job, None);
            }
            let bell = &self.bells[worker];
            bell.rung.store(false, Ordering::Relaxed);
            inner.parked.push(worker);
            self.parked.store(inner.parked.len(), Ordering::Relaxed);
            if !linger.is_zero() {
                drop(inner);
                // Only a hint to look: what counts is the hand, under the lock.
                spin_until(linger, || bell.rung.load(Ordering::Relaxed));
                inner = lock(&self.inner);
            }
            while inner.hands[worker].is_none() {
                inner.asleep[worker] = true;
                inner = bell.wait(inner);
                inner.asleep[worker] = false;
            }
        }
    }

    /// Looks at the open jobs without taking one.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&[Arc<J>]) -> T) -> T {
        look(&lock(&self.inner).jobs)
    }

    /// Takes nothing new; workers end once the queue is empty.
    pub(crate) fn drain(&self) {
        self.enter(Phase::Draining);
    }

    /// Takes nothing new; workers end after what they do now. Returns the runs that never began.
    pub(crate) fn halt(&self) -> Vec<R> {
        self.enter(Phase::Halted)
    }

    fn enter(&self, phase: Phase) -> Vec<R> {
        let mut sleepers = Vec::new();
        let (runs, jobs) = {
            let mut inner = lock(&self.inner);
            if inner.phase < phase {
                inner.phase = phase;
                self.accepting.store(false, Ordering::Relaxed);
            }
            let runs =
                if inner.phase == Phase::Halted { mem::take(&mut inner.runs) } else { VecDeque::new() };
            self.queued.store(inner.runs.len(), Ordering::Relaxed);
            let jobs = mem::take(&mut inner.jobs);
            self.open.store(0, Ordering::Relaxed);
            while !inner.parked.is_empty() {
                sleepers.extend(self.unpark(&mut inner, Hand::Look));
            }
            (runs, jobs)
        };
        self.ring(&sleepers);
        drop(jobs);
        runs.into()
    }

    /// Takes the worker that parked last off the list and puts something into its hand. Returns it if
    /// it is asleep and has to be rung for.
    fn unpark(&self, inner: &mut Inner<J, R>, hand: Hand<J>) -> Option<usize> {
        let worker = inner.parked.pop()?;
        let hand = match hand {
            // What a wake-up costs is learnt from those that sleep.
            Hand::Help(job, _) => Hand::Help(job, inner.asleep[worker].then(Instant::now)),
            Hand::Look => Hand::Look,
        };
        self.parked.store(inner.parked.len(), Ordering::Relaxed);
        inner.hands[worker] = Some(hand);
        self.bells[worker].rung.store(true, Ordering::Relaxed);
        inner.asleep[worker].then_some(worker)
    }

    /// Outside the lock, so that the woken do not run into it at once.
    fn ring(&self, workers: &[usize]) {
        for &worker in workers {
            self.bells[worker].condition.notify_one();
        }
    }
}
