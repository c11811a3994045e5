//! `parallel_ranges`: a length split into ranges, each worked on over a worker's own connection.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::ops::{AsyncFn, Range};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::db::Database;
use crate::error::{BoxError, RangesError};
use crate::job::{Failure, guarded};
use crate::mode::{Mode, Reason};
use crate::pool::Multicore;
use crate::ranges::ranges;
use crate::task::within;
use crate::worker::{Condition, Run, Worker};

impl<DB: Database> Multicore<DB> {
    /// Splits `0..len` into ranges, runs `fetch` for each on a worker with the worker's own
    /// connection, and returns all results in the ranges' order. How many ranges run side by side
    /// depends on the idle cores; under load it is one call with `0..len`. An empty length gives an
    /// empty list without a call.
    ///
    /// Each range sees the database as it is when it runs: ranges are **not** on one snapshot. Use it
    /// for data that does not move, or let `fetch` guard against that.
    ///
    /// `fetch` runs on the worker's runtime and may use anything that is not bound to another runtime.
    /// A connection whose `fetch` panicked or was cancelled is rebuilt.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mc = multicore_core::Multicore::<()>::builder().start().await?;
    /// let numbers = mc
    ///     .parallel_ranges(1_000, async |_: &mut (), range| {
    ///         Ok::<_, std::io::Error>(range.collect())
    ///     })
    ///     .await?;
    /// assert_eq!(numbers, (0..1_000).collect::<Vec<u64>>());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As soon as a range fails or panics (the others are cancelled), when no connection can be had,
    /// when the pool's `timeout` passes, or when the pool stops.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the ranges: those that wait never begin, and those that run are
    /// dropped where they next wait.
    pub async fn parallel_ranges<T, E, F>(&self, len: u64, fetch: F) -> Result<Vec<T>, RangesError<E>>
    where
        T: Send + 'static,
        E: std::error::Error + Send + 'static,
        F: AsyncFn(&mut DB::Connection, Range<u64>) -> Result<Vec<T>, E> + Send + Sync + 'static,
    {
        let (parts, mode) = self.split(len);
        let of = parts.len();
        let cancel = self.core.halted.child_token();
        let job = Arc::new(RangeJob { fetch, cancel: cancel.clone(), state: Mutex::new(State::new(parts)) });
        // Dropped with this future, it stops what still runs.
        let _cancel: DropGuard = cancel.drop_guard();
        if self.submit(&job, of) {
            self.core.decisions.count(mode);
        } else {
            let reason = if self.core.registry.is_open() { Reason::Busy } else { Reason::Stopped };
            self.core.decisions.count(Mode::Sequential(reason));
            self.stand_in(&job);
        }
        let results = poll_fn(|context| job.poll(context));
        match self.core.timeout {
            None => results.await,
            Some(after) => within(after, results)
                .await
                .unwrap_or_else(|| Err(RangesError::Timeout { after, finished: job.lock().finished, of })),
        }
    }

    /// How many ranges, and how that is called.
    fn split(&self, len: u64) -> (Vec<Range<u64>>, Mode) {
        let machine = self.core.machine();
        let workers = self.core.registry.workers();
        // The caller's own core is free while it waits for the workers.
        let hands = workers.min(machine.idle() + 1).min(machine.cores.max(1));
        let reason = if !self.core.registry.is_open() {
            Some(Reason::Stopped)
        } else if machine.veto {
            Some(self.core.veto_reason())
        } else if len <= 1 {
            Some(Reason::TooSmall)
        } else if workers == 1 || machine.cores == 1 {
            Some(Reason::OneCore)
        } else if hands == 1 {
            Some(Reason::Busy)
        } else {
            None
        };
        match reason {
            Some(reason) => (ranges(len, 1, 0), Mode::Sequential(reason)),
            None => {
                let parts = ranges(len, hands, 0);
                let mode = Mode::Parallel { participants: parts.len(), chunks: parts.len() };
                (parts, mode)
            }
        }
    }

    /// Gives the ranges to the workers. False when there is none to be had soon: the pool has
    /// stopped, or every worker is in a run that may take any time.
    fn submit<T, E, F>(&self, job: &Arc<RangeJob<T, E, F>>, count: usize) -> bool
    where
        T: Send + 'static,
        E: std::error::Error + Send + 'static,
        F: AsyncFn(&mut DB::Connection, Range<u64>) -> Result<Vec<T>, E> + Send + Sync + 'static,
    {
        let registry = &self.core.registry;
        if self.core.running.load(Ordering::Relaxed) + registry.queued() >= registry.workers() {
            return false;
        }
        (0..count).all(|_| registry.submit(Arc::clone(job) as Arc<dyn Run<DB>>).is_ok())
    }

    /// Runs the ranges on a thread of the caller's runtime, over a connection of the application's
    /// pool: what the application would have done without workers.
    fn stand_in<T, E, F>(&self, job: &Arc<RangeJob<T, E, F>>)
    where
        T: Send + 'static,
        E: std::error::Error + Send + 'static,
        F: AsyncFn(&mut DB::Connection, Range<u64>) -> Result<Vec<T>, E> + Send + Sync + 'static,
    {
        let (job, core) = (Arc::clone(job), Arc::clone(&self.core));
        let runtime = tokio::runtime::Handle::current();
        // Detached: the job itself tells the caller how it went, and stops with its future.
        drop(tokio::task::spawn_blocking(move || {
            match runtime.block_on(job.cancel.run_until_cancelled(DB::acquire(&core.source))) {
                Some(Ok(mut lease)) => loop {
                    match job.run_next(&mut *lease, |future| runtime.block_on(future)) {
                        Some(Condition::Clean) => {}
                        Some(_) => break DB::discard(lease),
                        None => break,
                    }
                },
                Some(Err(source)) => job.fail_first(source),
                None => job.stop(),
            }
        }));
    }
}

struct RangeJob<T, E, F> {
    fetch: F,
    cancel: CancellationToken,
    state: Mutex<State<T, E>>,
}

struct State<T, E> {
    parts: Vec<Range<u64>>,
    waiting: VecDeque<usize>,
    results: Vec<Option<Vec<T>>>,
    finished: usize,
    failed: Option<(usize, RangeFailure<E>)>,
    caller: Option<Waker>,
}

enum RangeFailure<E> {
    Failed(E),
    Panicked(String),
    Connection(BoxError),
    Stopped,
}

impl<T, E> State<T, E> {
    fn new(parts: Vec<Range<u64>>) -> Self {
        State {
            waiting: (0..parts.len()).collect(),
            results: parts.iter().map(|_| None).collect(),
            finished: 0,
            failed: None,
            caller: None,
            parts,
        }
    }
}

impl<T, E, F> RangeJob<T, E, F>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self) -> Option<(usize, Range<u64>)> {
        let mut state = self.lock();
        let index = state.waiting.pop_front()?;
        let part = state.parts[index].clone();
        Some((index, part))
    }

    fn fail(&self, index: usize, failure: RangeFailure<E>) {
        let (caller, later) = {
            let mut state = self.lock();
            state.waiting.clear();
            let later = match state.failed {
                Some(_) => Some(failure),
                None => {
                    state.failed = Some((index, failure));
                    None
                }
            };
            (state.caller.take(), later)
        };
        // The other ranges' results are of no use to anyone.
        self.cancel.cancel();
        if let Some(caller) = caller {
            caller.wake();
        }
        // Only the first failure counts; the user's drop code runs last and outside the lock.
        drop(later);
    }

    /// Fails what has not begun, because the pool or the caller is gone.
    fn stop(&self) {
        if let Some((index, _)) = self.claim() {
            self.fail(index, RangeFailure::Stopped);
        }
    }

    /// Fails the next range for want of a connection.
    fn fail_first(&self, source: BoxError) {
        if let Some((index, _)) = self.claim() {
            self.fail(index, RangeFailure::Connection(source));
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Vec<T>, RangesError<E>>> {
        let mut state = self.lock();
        if let Some((index, failure)) = state.failed.take() {
            let range = state.parts[index].clone();
            return Poll::Ready(Err(match failure {
                RangeFailure::Failed(source) => RangesError::Failed { range, source },
                RangeFailure::Panicked(message) => RangesError::Panicked { range, message },
                RangeFailure::Connection(source) => RangesError::Connection { range, source },
                RangeFailure::Stopped => RangesError::Stopped,
            }));
        }
        if state.finished < state.parts.len() {
            state.caller = Some(context.waker().clone());
            return Poll::Pending;
        }
        let results = mem::take(&mut state.results);
        drop(state);
        Poll::Ready(Ok(results.into_iter().flatten().flatten().collect()))
    }

    /// Runs the next range over `connection`; none if none waits.
    fn run_next<C>(
        &self,
        connection: &mut C,
        block_on: impl FnOnce(
            Pin<Box<dyn Future<Output = Option<Result<Vec<T>, E>>> + '_>>,
        ) -> Option<Result<Vec<T>, E>>,
    ) -> Option<Condition>
    where
        F: AsyncFn(&mut C, Range<u64>) -> Result<Vec<T>, E>,
    {
        let (index, range) = self.claim()?;
        let fetching = guarded(|| {
            Ok::<_, std::convert::Infallible>(block_on(Box::pin(
                self.cancel.run_until_cancelled((self.fetch)(connection, range)),
            )))
        });
        Some(match fetching {
            Ok(Some(Ok(rows))) => {
                let caller = {
                    let mut state = self.lock();
                    state.finished += 1;
                    state.results[index] = Some(rows);
                    if state.finished == state.parts.len() { state.caller.take() } else { None }
                };
                if let Some(caller) = caller {
                    caller.wake();
                }
                Condition::Clean
            }
            Ok(Some(Err(error))) => {
                self.fail(index, RangeFailure::Failed(error));
                // The connection may be lost, or inside a transaction that failed.
                Condition::Dirty
            }
            Ok(None) => {
                self.fail(index, RangeFailure::Stopped);
                Condition::Abandoned
            }
            Err(Failure::Panicked(message)) => {
                self.fail(index, RangeFailure::Panicked(message));
                Condition::Dirty
            }
            Err(Failure::Error(never)) => match never {},
        })
    }
}

impl<DB, T, E, F> Run<DB> for RangeJob<T, E, F>
where
    DB: Database,
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
    F: AsyncFn(&mut DB::Connection, Range<u64>) -> Result<Vec<T>, E> + Send + Sync + 'static,
{
    fn run(&self, worker: &mut Worker<DB>) {
        if self.lock().waiting.is_empty() {
            return;
        }
        if self.cancel.is_cancelled() {
            return self.stop();
        }
        let used = worker.with_connection(|runtime, connection, _guard| {
            let condition = self.run_next(connection, |future| runtime.block_on(future));
            let condition = condition.unwrap_or(Condition::Clean);
            (condition, condition)
        });
        match used {
            Ok(Condition::Dirty | Condition::Abandoned) if worker.is_halted() => worker.cut(),
            Ok(_) => {}
            Err(source) => self.fail_first(source),
        }
    }

    fn refuse(&self) {
        self.stop();
    }
}
