//! A task: closures run on the workers, results in the order of the `run` calls. One task's slots are
//! its own, so a late result has nowhere to go but away.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::core::Core;
use crate::db::Database;
use crate::error::TaskError;
use crate::job::{Failure, guarded};
use crate::pool::Multicore;
use crate::worker::{Run, Worker};

type Closure<T> = Box<dyn FnOnce() -> T + Send>;

impl<DB: Database> Multicore<DB> {
    /// A task to run closures on the workers, or none when the pool has stopped or the load average is
    /// above `max-load-average`: run your sequential code then.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mc = multicore_core::Multicore::<()>::builder().start().await?;
    /// let squares: Vec<u64> = match mc.task() {
    ///     Some(mut task) => {
    ///         for n in 0..4 {
    ///             task.run(move || n * n);
    ///         }
    ///         task.get().await?
    ///     }
    ///     None => (0..4).map(|n| n * n).collect(),
    /// };
    /// assert_eq!(squares, [0, 1, 4, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// A task's results are taken once, so nothing can be added afterwards:
    ///
    /// ```compile_fail,E0382
    /// # async fn late(mc: multicore_core::Multicore<()>) {
    /// let mut task = mc.task::<u32>().unwrap();
    /// let results = task.get().await;
    /// task.run(|| 1);
    /// # }
    /// ```
    pub fn task<T: Send + 'static>(&self) -> Option<Task<T>> {
        if self.core.load.veto() || !self.core.registry.is_open() {
            return None;
        }
        let state = State {
            waiting: VecDeque::new(),
            results: Vec::new(),
            finished: 0,
            failed: None,
            stop: None,
            stopped: None,
            closed: false,
            caller: None,
        };
        Some(Task {
            slots: Arc::new(Slots(Mutex::new(state))),
            submit: submitter(Arc::clone(&self.core)),
            timeout: self.core.timeout,
        })
    }
}

/// How a task reaches its pool, without naming the pool's database.
type Submit<T> = Box<dyn Fn(Arc<Slots<T>>) -> bool + Send + Sync>;

fn submitter<DB: Database, T: Send + 'static>(core: Arc<Core<DB>>) -> Submit<T> {
    Box::new(move |slots| core.registry.submit(slots).is_ok())
}

/// Closures that run on the workers, in any number, with results in the order of the calls.
///
/// Dropping it, or the future of `get`, cancels what has not begun; what runs is finished and its
/// result dropped.
#[must_use = "the results come from `get`"]
pub struct Task<T> {
    slots: Arc<Slots<T>>,
    submit: Submit<T>,
    timeout: Option<Duration>,
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.slots.lock();
        f.debug_struct("Task")
            .field("runs", &state.results.len())
            .field("finished", &state.finished)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Task<T> {
    /// Queues a closure; it starts as soon as a worker is free. Closures may compute and block as long
    /// as they like: they run on a worker's thread, not on an async one.
    ///
    /// Should the pool have stopped meanwhile, `get` says so.
    pub fn run(&mut self, closure: impl FnOnce() -> T + Send + 'static) {
        {
            let mut state = self.slots.lock();
            let index = state.results.len();
            state.results.push(None);
            if state.failed.is_some() {
                // Cancelled like the others of the task; `get` says why.
                return;
            }
            state.waiting.push_back((index, Box::new(closure)));
        }
        if !(self.submit)(Arc::clone(&self.slots)) {
            self.slots.fail(Failed::Stopped);
        }
    }

    /// The results in the order of the `run` calls, once all are there. An empty task gives an empty
    /// list. Limited by the pool's `timeout`, if it has one.
    ///
    /// # Errors
    /// As soon as a closure panics, the time is up or the pool stops; the others are cancelled then.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what has not begun.
    pub async fn get(self) -> Result<Vec<T>, TaskError> {
        match self.timeout {
            Some(limit) => self.get_timeout(limit).await,
            None => poll_fn(|context| self.slots.poll(context)).await,
        }
    }

    /// As [`get`](Task::get), within `limit` in place of the pool's `timeout`. Needs a Tokio runtime
    /// with its timer enabled.
    ///
    /// # Errors
    /// As [`get`](Task::get). A timeout says how many runs had finished.
    pub async fn get_timeout(self, limit: Duration) -> Result<Vec<T>, TaskError> {
        within(limit, poll_fn(|context| self.slots.poll(context))).await.unwrap_or_else(|| {
            let state = self.slots.lock();
            Err(TaskError::Timeout { after: limit, finished: state.finished, of: state.results.len() })
        })
    }
}

impl<T, E> Task<Result<T, E>>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// For closures that can fail: the values in the order of the calls, or the first error to arrive,
    /// as soon as it does. The inner result is the closures', the outer one the pool's.
    ///
    /// # Errors
    /// As [`get`](Task::get).
    ///
    /// # Cancel safety
    /// Dropping the future cancels what has not begun.
    pub async fn try_get(self) -> Result<Result<Vec<T>, E>, TaskError> {
        self.slots.stop_at(Result::is_err);
        let first_error = poll_fn(|context| self.slots.poll_until(context));
        let results = match self.timeout {
            None => first_error.await?,
            Some(limit) => match within(limit, first_error).await {
                Some(results) => results?,
                None => {
                    let state = self.slots.lock();
                    let (finished, of) = (state.finished, state.results.len());
                    return Err(TaskError::Timeout { after: limit, finished, of });
                }
            },
        };
        Ok(results.into_iter().flatten().collect())
    }
}

/// `future`'s output, or none when the time is up.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.slots.close();
    }
}

/// Where the runs of one task wait and their results arrive.
struct Slots<T>(Mutex<State<T>>);

struct State<T> {
    waiting: VecDeque<(usize, Closure<T>)>,
    results: Vec<Option<T>>,
    finished: usize,
    failed: Option<Failed>,
    /// Which results end the task at once, and the first of them to arrive.
    stop: Option<fn(&T) -> bool>,
    stopped: Option<usize>,
    /// Nobody waits for results any more.
    closed: bool,
    caller: Option<Waker>,
}

enum Failed {
    Panicked { run: usize, message: String },
    Stopped,
}

impl<T> Slots<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No user code runs under the lock, so a poisoned one has nothing half-done behind it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the task at the first result that `stop` picks, also of those that are there already.
    fn stop_at(&self, stop: fn(&T) -> bool) {
        let mut state = self.lock();
        state.stopped = state.results.iter().position(|result| result.as_ref().is_some_and(stop));
        state.stop = Some(stop);
    }

    fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            state.caller = None;
            mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    fn fail(&self, failed: Failed) {
        let (caller, waiting) = {
            let mut state = self.lock();
            // The first failure is the one that is reported.
            state.failed.get_or_insert(failed);
            (state.caller.take(), mem::take(&mut state.waiting))
        };
        // Waking first: the user's drop code may unwind.
        if let Some(caller) = caller {
            caller.wake();
        }
        drop(waiting);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Vec<T>, TaskError>> {
        let results = self.poll_until(context);
        results.map(|results| results.map(|results| results.into_iter().flatten().collect()))
    }

    /// Ready when all have finished, or one has that stops the task: then with that one alone.
    fn poll_until(&self, context: &mut Context<'_>) -> Poll<Result<Vec<Option<T>>, TaskError>> {
        let mut state = self.lock();
        if let Some(failed) = state.failed.take() {
            let (finished, of) = (state.finished, state.results.len());
            return Poll::Ready(Err(match failed {
                Failed::Panicked { run, message } => TaskError::Panicked { run, message },
                Failed::Stopped => TaskError::Stopped { finished, of },
            }));
        }
        if state.finished == state.results.len() {
            return Poll::Ready(Ok(mem::take(&mut state.results)));
        }
        if let Some(index) = state.stopped {
            let stopped = state.results[index].take();
            return Poll::Ready(Ok(vec![stopped]));
        }
        state.caller = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes the next closure and runs it. Nothing to do if the task was closed meanwhile.
    fn run_next(&self) {
        let Some((index, closure)) = self.lock().waiting.pop_front() else { return };
        match guarded(|| Ok::<T, std::convert::Infallible>(closure())) {
            Ok(result) => {
                let (caller, late) = {
                    let mut state = self.lock();
                    if state.closed {
                        (None, Some(result))
                    } else {
                        state.finished += 1;
                        if state.stopped.is_none() && state.stop.is_some_and(|stop| stop(&result)) {
                            state.stopped = Some(index);
                        }
                        state.results[index] = Some(result);
                        // Only what makes a difference wakes the caller: runs may be many.
                        let ready = state.stopped.is_some() || state.finished == state.results.len();
                        (if ready { state.caller.take() } else { None }, None)
                    }
                };
                drop(late);
                if let Some(caller) = caller {
                    caller.wake();
                }
            }
            Err(Failure::Panicked(message)) => self.fail(Failed::Panicked { run: index, message }),
            Err(Failure::Error(never)) => match never {},
        }
    }
}

impl<DB: Database, T: Send + 'static> Run<DB> for Slots<T> {
    fn run(&self, _worker: &mut Worker<DB>) {
        self.run_next();
    }

    fn refuse(&self) {
        self.fail(Failed::Stopped);
    }
}
