//! The worker processes of a pool: their threads, their start and their end, and calls to them from async code
//! and from threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::{mpsc, oneshot, watch};

use super::call::{Request, Ticket, Wanted};
use super::channel::{Channel, Received};
use super::keeper::Keeper;
use super::link::{Link, Mail};
use super::pool::{Pool, State, refuse};
use crate::process::error::{LastWords, ProcessError, ProcessStartError};
use crate::process::registry::{Program, Registry};
use crate::process::settings::ProcessSettings;
use crate::process::stats::ProcessStats;
use crate::process::worker::is_inside;
use crate::task::within;
use crate::worker::Exit;

/// How long a caller whose time is up waits to be told which worker had its call; that thread has nothing else to
/// do first.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Dropped, they finish what waits and end.
pub(in crate::process) struct Workers {
    pool: Arc<Pool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ended: watch::Receiver<usize>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Not joined: this may run on an async thread.
        self.pool.close(State::Draining);
    }
}

/// Halts a start that does not come to its end.
struct Unfinished(Option<Arc<Pool>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            pool.close(State::Halted);
        }
    }
}

impl Workers {
    /// Starts them; all are ready when this returns, or none is left.
    pub(in crate::process) async fn start(
        name: &str,
        count: usize,
        program: Program,
        settings: ProcessSettings,
    ) -> Result<Self, ProcessStartError> {
        if is_inside() {
            return Err(ProcessStartError::InsideWorker);
        }
        let refused = |worker: &str, step, source: std::io::Error| ProcessStartError::System {
            worker: worker.to_owned(),
            step,
            source: source.into(),
        };
        let links = (0..count)
            .map(|index| {
                let worker = format!("{name}-process-{index}");
                Link::new(index, worker.clone())
                    .map(Arc::new)
                    .map_err(|source| refused(&worker, "get its place", source))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let pool = Arc::new(Pool::new(program, settings, links));
        let (exit, mut ended) = watch::channel(0);
        let (report, mut reports) = mpsc::channel(count);
        let mut unfinished = Unfinished(Some(Arc::clone(&pool)));
        let mut threads = Vec::with_capacity(count);
        let mut failure = None;
        for link in &pool.links {
            let (keeper, exit, report) = (Keeper::new(&pool, link), Exit(exit.clone()), report.clone());
            let spawned = std::thread::Builder::new().name(link.name().to_owned()).spawn(move || {
                let _exit = exit;
                keeper.work(report);
            });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    failure = Some(refused(link.name(), "start its thread", source));
                    break;
                }
            }
        }
        drop(report);
        let mut ready = 0;
        while failure.is_none() && ready < count {
            match reports.recv().await {
                Some(Ok(())) => ready += 1,
                Some(Err(error)) => failure = Some(error),
                None => failure = Some(ProcessStartError::Stopped),
            }
        }
        let Some(failure) = failure else {
            unfinished.0 = None;
            return Ok(Workers { pool, threads: Mutex::new(threads), ended });
        };
        drop(unfinished);
        let started = threads.len();
        let _all = ended.wait_for(|ended| *ended == started).await;
        Err(failure)
    }

    pub(in crate::process) fn tasks(&self) -> &Registry {
        &self.pool.program.tasks
    }

    pub(in crate::process) fn settings(&self) -> &ProcessSettings {
        &self.pool.settings
    }

    pub(in crate::process) fn stats(&self) -> ProcessStats {
        self.pool.stats()
    }

    /// Finishes what waits and runs, until `deadline`; what is not done then is killed. How many calls that were.
    pub(in crate::process) async fn shut_down(&self, deadline: Duration) -> usize {
        self.pool.close(State::Draining);
        let mut ended = self.ended.clone();
        let all = self.pool.links.len();
        let in_time = tokio::time::timeout(deadline, ended.wait_for(|ended| *ended == all)).await.is_ok();
        if !in_time {
            self.pool.close(State::Halted);
            // A killed process ends at once, unless the kernel itself holds it.
            let _all =
                tokio::time::timeout(self.settings().grace, ended.wait_for(|ended| *ended == all)).await;
        }
        if *ended.borrow() == all {
            let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
            for thread in threads {
                // Past its last line; what it runs does not panic.
                let _ended = thread.join();
            }
        }
        usize::try_from(self.pool.counts.cut.swap(0, Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn request(
        &self,
        task: u32,
        argument: Bytes,
        limit: Option<Duration>,
    ) -> (Request, oneshot::Receiver<Result<Bytes, ProcessError>>) {
        let (answer, receiver) = oneshot::channel();
        let may_repeat = self.pool.program.tasks.get(task).is_some_and(|task| task.is_idempotent());
        let ticket = Arc::<Ticket>::default();
        (Request { task, argument, ticket, answer, limit, tries: 0, may_repeat }, receiver)
    }

    fn timeout_error(&self, task: u32, after: Duration) -> ProcessError {
        let task = self.pool.program.tasks.get(task).map(|task| task.name().to_owned()).unwrap_or_default();
        ProcessError::Timeout { task, after, worker: None, last_words: LastWords::default() }
    }

    /// Dropping the future cancels the call: its worker is killed if it has begun.
    pub(in crate::process) async fn call(
        &self,
        task: u32,
        argument: Bytes,
        timeout: Option<Duration>,
    ) -> Result<Bytes, ProcessError> {
        let (request, mut answer) = self.request(task, argument, timeout);
        let wanted = Wanted::new(&request.ticket);
        if let Err(error) = self.pool.submit(request) {
            wanted.answered();
            return Err(error);
        }
        let answer = match timeout {
            None => answer.await,
            Some(after) => match within(after, &mut answer).await {
                Some(answer) => answer,
                None => {
                    let told = if wanted.timed_out() { within(TELL_WITHIN, answer).await } else { None };
                    return told.and_then(Result::ok).unwrap_or_else(|| Err(self.timeout_error(task, after)));
                }
            },
        };
        wanted.answered();
        // Its sender is dropped only with the whole pool.
        answer.unwrap_or(Err(ProcessError::Stopped))
    }

    /// The same for a thread that may wait. If a worker is idle, this thread talks to it itself, which saves
    /// waking another.
    pub(in crate::process) fn call_blocking(
        &self,
        task: u32,
        argument: Bytes,
        timeout: Option<Duration>,
    ) -> Result<Bytes, ProcessError> {
        let until = timeout.and_then(|after| Instant::now().checked_add(after));
        let (request, mut answer) = self.request(task, argument, timeout);
        let ticket = Arc::clone(&request.ticket);
        if let Some((channel, request)) = self.pool.take_or_queue(request)? {
            match self.exchange(channel, request, until) {
                Exchanged::Answer(result) => return result,
                Exchanged::Late => {
                    let told = wait_for(&mut answer, Some(Instant::now() + TELL_WITHIN));
                    let after = timeout.unwrap_or_default();
                    return told.and_then(Result::ok).unwrap_or_else(|| Err(self.timeout_error(task, after)));
                }
                Exchanged::Broken => {}
            }
        }
        // Nobody drops a thread that waits, so only the time can be up.
        let wanted = Wanted::new(&ticket);
        match wait_for(&mut answer, until) {
            Some(answer) => {
                wanted.answered();
                answer.unwrap_or(Err(ProcessError::Stopped))
            }
            None => {
                let until = Instant::now() + TELL_WITHIN;
                let told = if wanted.timed_out() { wait_for(&mut answer, Some(until)) } else { None };
                let after = timeout.unwrap_or_default();
                told.and_then(Result::ok).unwrap_or_else(|| Err(self.timeout_error(task, after)))
            }
        }
    }

    fn exchange(&self, mut channel: Channel, request: Request, until: Option<Instant>) -> Exchanged {
        let link = self.pool.link(&channel);
        let mut flight = match channel.send(request) {
            Ok(flight) => flight,
            Err((request, source)) => {
                refuse(request, source);
                self.pool.give_back(channel);
                return Exchanged::Broken;
            }
        };
        loop {
            let has_ended = wait_on(&channel, until);
            flight = match channel.receive(flight, &self.pool.program.tasks, &self.pool.settings) {
                Received::Answer(_, result) => {
                    self.pool.give_back(channel);
                    return Exchanged::Answer(result);
                }
                Received::Nothing(flight) if !has_ended => flight,
                Received::Nothing(flight) | Received::Gone(flight) => {
                    // Its thread says how it died, and may send the call to another.
                    link.post(Mail::Broken(channel, flight));
                    return Exchanged::Broken;
                }
                Received::Breach(request, breach) => {
                    link.post(Mail::Breach(channel, request, breach));
                    return Exchanged::Broken;
                }
            };
            if until.is_some_and(|until| until <= Instant::now()) {
                link.post(Mail::Late(channel, flight.request));
                return Exchanged::Late;
            }
        }
    }
}

/// How a caller's own exchange ended.
enum Exchanged {
    Answer(Result<Bytes, ProcessError>),
    Late,
    /// The answer comes from elsewhere.
    Broken,
}

/// Waits for an answer or the process's end. Whether it ended.
fn wait_on(channel: &Channel, until: Option<Instant>) -> bool {
    let mut fds =
        [PollFd::new(channel.socket(), PollFlags::IN), PollFd::new(&channel.process.file, PollFlags::IN)];
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    // An interruption and an error are both looked at again.
    let _ready = poll(&mut fds, left.as_ref());
    fds[1].revents().contains(PollFlags::IN)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread; none if the time is up before.
fn wait_for<F: Future + Unpin>(future: &mut F, until: Option<Instant>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = std::pin::Pin::new(&mut *future).poll(&mut context) {
            return Some(output);
        }
        match until {
            None => std::thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}
