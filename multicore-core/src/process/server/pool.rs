//! What the workers' threads and the callers share: the calls that wait, and the channels that are idle. A
//! channel is in one hand at a time: idle here, with a caller that waits itself, or with its worker's thread.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::call::Request;
use super::channel::Channel;
use super::link::{Link, Mail};
use crate::process::error::ProcessError;
use crate::process::registry::Program;
use crate::process::settings::ProcessSettings;
use crate::process::stats::ProcessStats;
use crate::sync::{Mutex, MutexGuard, lock};

/// An argument above this takes so long to copy that an async thread is not to do it.
const LONG_ARGUMENT: usize = 256 * 1024;
/// How often a call is sent to a worker that dies before it begins it. More than once is no accident.
const MOST_TRIES: u8 = 3;
/// So many starts in a row fail, by the workers, before it is said that none can be started. One that fails may be
/// an accident, such as a process killed from outside, and the next is only milliseconds away.
const FAILURES: usize = 3;

pub(super) struct Pool {
    pub(super) program: Program,
    pub(super) settings: ProcessSettings,
    pub(super) links: Vec<Arc<Link>>,
    pub(super) counts: Counts,
    desk: Mutex<Desk>,
}

struct Desk {
    queue: VecDeque<Request>,
    idle: Vec<Channel>,
    /// How many workers can take calls, now or when they are done.
    ready: usize,
    /// Why none can be started, once that is clear.
    down: Option<String>,
    /// How many starts have failed since one did not.
    failures: usize,
    state: State,
}

/// How far the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Open,
    /// What waits is done, nothing new is taken.
    Draining,
    /// Nothing is done any more.
    Halted,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: AtomicU64,
    pub(super) started: AtomicU64,
    pub(super) recycled: AtomicU64,
    pub(super) died: AtomicU64,
    pub(super) killed: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Calls that a shutdown did not let be answered.
    pub(super) cut: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Pool {
    pub(super) fn new(program: Program, settings: ProcessSettings, links: Vec<Arc<Link>>) -> Self {
        let desk = Desk {
            queue: VecDeque::new(),
            idle: Vec::with_capacity(links.len()),
            ready: 0,
            down: None,
            failures: 0,
            state: State::Open,
        };
        Pool { program, settings, links, counts: Counts::default(), desk: Mutex::new(desk) }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    pub(super) fn state(&self) -> State {
        self.desk().state
    }

    pub(super) fn stats(&self) -> ProcessStats {
        let (ready, idle, queue) = {
            let desk = self.desk();
            let wanted = desk.queue.iter().filter(|waiting| waiting.ticket.is_wanted());
            (desk.ready, desk.idle.len(), wanted.count())
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProcessStats {
            workers: self.links.len(),
            ready,
            busy: ready.saturating_sub(idle),
            queue,
            calls: read(&self.counts.calls),
            refused: read(&self.counts.refused),
            started: read(&self.counts.started),
            recycled: read(&self.counts.recycled),
            died: read(&self.counts.died),
            killed: read(&self.counts.killed),
            repeated: read(&self.counts.repeated),
        }
    }

    /// Takes a call, whose answer comes by its sender. Never waits.
    ///
    /// # Errors
    /// That it is not taken.
    pub(super) fn submit(&self, request: Request) -> Result<(), ProcessError> {
        match self.take_or_queue(request)? {
            None => {}
            Some((channel, request)) if request.argument.len() > LONG_ARGUMENT => {
                self.link(&channel).post(Mail::Send(channel, request));
            }
            Some((channel, request)) => self.begin(channel, request),
        }
        Ok(())
    }

    /// Takes a call, and gives it back with an idle channel if there is one; else it is queued.
    ///
    /// # Errors
    /// That it is not taken.
    pub(super) fn take_or_queue(&self, request: Request) -> Result<Option<(Channel, Request)>, ProcessError> {
        // Declared first, so that it is dropped after the lock.
        let _unwanted: VecDeque<Request>;
        let mut desk = self.desk();
        if desk.state != State::Open {
            return Err(ProcessError::Stopped);
        }
        if desk.queue.len() >= self.settings.max_queue {
            // Those whose callers left hold no place.
            let waiting = std::mem::take(&mut desk.queue);
            (desk.queue, _unwanted) = waiting.into_iter().partition(|waiting| waiting.ticket.is_wanted());
        }
        let refused = match (&desk.down, desk.queue.len()) {
            (Some(why), _) if desk.ready == 0 => Some(ProcessError::Unavailable { why: why.clone() }),
            (_, queue) if queue >= self.settings.max_queue => Some(ProcessError::Overloaded { queue }),
            _ => None,
        };
        if let Some(error) = refused {
            count(&self.counts.refused);
            return Err(error);
        }
        count(&self.counts.calls);
        match desk.idle.pop() {
            Some(channel) => Ok(Some((channel, request))),
            None => {
                desk.queue.push_back(request);
                Ok(None)
            }
        }
    }

    /// Sends a call on a channel and gives both to the worker's thread. Where that cannot be, the channel goes on
    /// with the next.
    pub(super) fn begin(&self, channel: Channel, request: Request) {
        if let Some(channel) = self.send(channel, request) {
            self.next(channel);
        }
    }

    /// A channel is free: it gets the next call that waits, or becomes idle. One that is to be replaced, or was
    /// left by its process, goes to its thread.
    pub(super) fn next(&self, mut channel: Channel) {
        // A loop and not a recursion: it would be as deep as the queue is long where none can be sent.
        loop {
            let due = channel.is_due(&self.settings);
            // Declared first, so that it is dropped after the lock.
            let mut unwanted = Vec::new();
            let mut desk = self.desk();
            // Under the lock: whoever looks for the channel after the end looks here after that.
            let leaves = due || channel.process.has_ended();
            let request = if leaves || desk.state == State::Halted { None } else { desk.pop(&mut unwanted) };
            match request {
                Some(request) => {
                    drop(desk);
                    match self.send(channel, request) {
                        Some(back) => channel = back,
                        None => return,
                    }
                }
                None if leaves || desk.state != State::Open => {
                    drop(desk);
                    return self.link(&channel).post(Mail::Back(channel));
                }
                None => return desk.idle.push(channel),
            }
        }
    }

    /// Sends a call and gives both to the worker's thread, or the channel back where the call needs it no more.
    fn send(&self, mut channel: Channel, request: Request) -> Option<Channel> {
        if !request.ticket.assign(&channel.place) {
            return Some(channel);
        }
        match channel.send(request) {
            Ok(flight) => {
                self.link(&channel).watch(channel, flight);
                None
            }
            Err((request, source)) => {
                refuse(request, source);
                Some(channel)
            }
        }
    }

    /// Where the thread of a channel's worker is reached.
    pub(super) fn link(&self, channel: &Channel) -> &Link {
        &self.links[channel.place.index]
    }

    /// A channel that a caller used itself is free. The worker's thread goes on with it if calls wait.
    pub(super) fn give_back(&self, mut channel: Channel) {
        let due = channel.is_due(&self.settings);
        let mut desk = self.desk();
        if due || channel.process.has_ended() || desk.state != State::Open || !desk.queue.is_empty() {
            drop(desk);
            return self.link(&channel).post(Mail::Back(channel));
        }
        desk.idle.push(channel);
    }

    /// A call's worker is dead, and it may be sent to another.
    pub(super) fn repeat(&self, request: Request) {
        if request.tries >= MOST_TRIES {
            let why = format!("{MOST_TRIES} workers died before they had begun the call");
            return request.finish(Err(ProcessError::Unavailable { why }));
        }
        count(&self.counts.repeated);
        let mut desk = self.desk();
        if desk.state == State::Halted {
            drop(desk);
            return self.cut(request);
        }
        match desk.idle.pop() {
            Some(channel) => {
                drop(desk);
                self.begin(channel, request);
            }
            None => desk.queue.push_front(request),
        }
    }

    /// A call that the pool's end does not let be answered.
    pub(super) fn cut(&self, request: Request) {
        if request.ticket.is_wanted() {
            count(&self.counts.cut);
        }
        request.finish(Err(ProcessError::Stopped));
    }

    /// The channel of a worker, if it is idle.
    pub(super) fn take_idle(&self, index: usize) -> Option<Channel> {
        let mut desk = self.desk();
        let at = desk.idle.iter().position(|channel| channel.place.index == index)?;
        Some(desk.idle.swap_remove(at))
    }

    /// A worker is up.
    pub(super) fn is_up(&self) {
        count(&self.counts.started);
        let mut desk = self.desk();
        desk.ready += 1;
        desk.down = None;
        desk.failures = 0;
    }

    /// A worker that was up is gone.
    pub(super) fn is_gone(&self) {
        self.desk().ready -= 1;
    }

    /// A worker could not be started. Where none is left, and not by an accident, those who wait are told.
    pub(super) fn is_down(&self, why: &str) {
        let mut desk = self.desk();
        desk.failures += 1;
        if desk.failures < FAILURES * self.links.len() {
            return;
        }
        desk.down = Some(why.to_owned());
        if desk.ready > 0 {
            return;
        }
        let waiting = std::mem::take(&mut desk.queue);
        drop(desk);
        for request in waiting {
            request.finish(Err(ProcessError::Unavailable { why: why.to_owned() }));
        }
    }

    /// Whether a worker that is gone is to be replaced.
    pub(super) fn wants_workers(&self) -> bool {
        let desk = self.desk();
        desk.state == State::Open || (desk.state == State::Draining && !desk.queue.is_empty())
    }

    /// Goes on to a state, never back, and says what will not be done.
    pub(super) fn close(&self, state: State) {
        let (halted, idle) = {
            let mut desk = self.desk();
            desk.state = desk.state.max(state);
            let halted =
                if desk.state == State::Halted { std::mem::take(&mut desk.queue) } else { VecDeque::new() };
            // Outside of the lock: their threads end them.
            (halted, std::mem::take(&mut desk.idle))
        };
        for channel in idle {
            self.link(&channel).post(Mail::Back(channel));
        }
        for request in halted {
            self.cut(request);
        }
        for link in &self.links {
            link.wake();
        }
    }
}

impl Desk {
    /// The next call that somebody still waits for. The others are given out to be dropped without the lock, since
    /// an argument's owner may do anything then.
    fn pop(&mut self, unwanted: &mut Vec<Request>) -> Option<Request> {
        loop {
            let request = self.queue.pop_front()?;
            if request.ticket.is_wanted() {
                return Some(request);
            }
            unwanted.push(request);
        }
    }
}

/// The server itself could not send it.
pub(super) fn refuse(request: Request, source: io::Error) {
    request.finish(Err(ProcessError::System { step: "giving a call to a worker process", source }));
}
