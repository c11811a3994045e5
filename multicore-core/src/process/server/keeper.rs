//! A worker's thread in the server: starts the process, looks after its calls, kills it where it must, says how
//! it died, and starts the next. The process is bound to this thread, which lives as long as the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::call::Request;
use super::channel::{Channel, Flight, Received, is_alive, own_memory};
use super::link::{Happened, Link, Mail};
use super::pool::{Pool, State, count};
use super::spawn::{Child, spawn};
use crate::process::error::{End, ProcessError, ProcessStartError};

/// How often a worker's memory is looked at while it has a limit. One that grows faster meets the system's.
const WEIGH_EVERY: Duration = Duration::from_millis(50);
/// Pauses between starts that fail.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The first start, once.
pub(super) type Report = mpsc::Sender<Result<(), ProcessStartError>>;

pub(super) struct Keeper {
    pool: Arc<Pool>,
    link: Arc<Link>,
}

/// One process, from its start to its end.
struct Shift<'k> {
    pool: &'k Arc<Pool>,
    link: &'k Arc<Link>,
    child: Child,
    /// The channel, once the process is to end: nobody else has it then.
    home: Option<(Channel, Option<Flight>)>,
    /// When it is killed, if it was asked to end.
    kill_at: Option<Instant>,
    has_ended: bool,
    /// Whether it was this side that ended it.
    by_us: bool,
    /// Whether it was killed for its memory.
    too_big: bool,
}

impl Keeper {
    pub(super) fn new(pool: &Arc<Pool>, link: &Arc<Link>) -> Self {
        Keeper { pool: Arc::clone(pool), link: Arc::clone(link) }
    }

    /// Until the pool is closed.
    pub(super) fn work(self, report: Report) {
        let mut report = Some(report);
        let mut pause = FIRST_PAUSE;
        while report.is_some() || self.pool.wants_workers() {
            match spawn(&self.pool, &self.link) {
                Ok((child, channel)) => {
                    pause = FIRST_PAUSE;
                    self.pool.is_up();
                    if let Some(report) = report.take() {
                        // A start that was given up has nobody to report to, and is halted.
                        let _reported = report.blocking_send(Ok(()));
                    }
                    self.attend(child, channel);
                }
                Err(error) => {
                    if let Some(report) = report.take() {
                        let _reported = report.blocking_send(Err(error));
                        return;
                    }
                    if self.pool.state() == State::Halted {
                        return;
                    }
                    tracing::error!(
                        worker = self.link.name(),
                        error = full(&error),
                        "a worker process did not start"
                    );
                    self.pool.is_down(&error.to_string());
                    self.rest(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Waits, unless the pool is closed meanwhile.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while self.pool.wants_workers() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.link.wait(Some(left)).is_err() {
                return;
            }
        }
    }

    fn attend(&self, child: Child, channel: Channel) {
        let (pool, link) = (&self.pool, &self.link);
        let mut shift = Shift {
            pool,
            link,
            child,
            home: None,
            kill_at: None,
            has_ended: false,
            by_us: false,
            too_big: false,
        };
        pool.next(channel);
        loop {
            let happened = match link.wait(shift.within()) {
                Ok(happened) => happened,
                Err(error) => {
                    tracing::error!(worker = link.name(), %error, "a worker process cannot be watched");
                    shift.kill();
                    Happened { ended: true, ..Happened::default() }
                }
            };
            shift.see(happened);
            if shift.is_over() {
                return shift.bury();
            }
        }
    }
}

impl Shift<'_> {
    /// How long nothing need be done.
    fn within(&self) -> Option<Duration> {
        let kill = self.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
        let weigh = self.pool.settings.max_memory.map(|_| WEIGH_EVERY);
        [kill, weigh].into_iter().flatten().min()
    }

    fn see(&mut self, happened: Happened) {
        // First: an answer that came with the end is passed on, and the channel gets no other call.
        if happened.ended && !self.has_ended {
            self.has_ended = true;
            self.child.process.note_end();
            self.link.forget(&self.child.process.file);
            // What it started is not to go on without it.
            self.child.kill();
        }
        if happened.words && !self.child.words.read() {
            self.link.forget(self.child.words.pipe());
        }
        if happened.answered
            && let Some((channel, flight)) = self.link.take_watched()
        {
            self.receive(channel, flight);
        }
        if happened.woken {
            for mail in self.link.take_mail() {
                self.open(mail);
            }
            if let Some((channel, flight)) = self.link.take_unwanted() {
                self.leave(channel, flight.request);
            }
            if self.pool.state() == State::Halted {
                self.halt();
            }
        }
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill();
        }
        self.weigh();
        if self.has_ended && self.home.is_none() {
            self.home = look_for_channel(self.pool, self.link);
        }
    }

    fn receive(&mut self, mut channel: Channel, flight: Flight) {
        match channel.receive(flight, &self.pool.program.tasks, &self.pool.settings) {
            Received::Answer(request, result) => {
                request.finish(result);
                self.go_on(channel);
            }
            Received::Nothing(flight) => self.link.watch(channel, flight),
            Received::Gone(flight) => self.gone(channel, flight),
            Received::Breach(request, breach) => self.breach(channel, request, breach),
        }
    }

    /// With the next call, or the worker's end.
    fn go_on(&mut self, mut channel: Channel) {
        if self.has_ended {
            self.home = Some((channel, None));
        } else if channel.is_due(&self.pool.settings) || !self.pool.wants_workers() {
            self.retire(channel);
        } else {
            self.pool.next(channel);
        }
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Back(channel) => self.go_on(channel),
            Mail::Broken(channel, flight) => self.gone(channel, flight),
            Mail::Breach(channel, request, breach) => self.breach(channel, request, breach),
            Mail::Late(channel, request) => {
                self.late(request);
                self.kill();
                self.home = Some((channel, None));
            }
            Mail::Send(channel, request) => self.pool.begin(channel, request),
        }
    }

    /// Its socket has ended. So has the process, unless it closed the socket by itself.
    fn gone(&mut self, channel: Channel, flight: Flight) {
        if self.has_ended || !is_alive(self.child.pid) {
            // How it ended is settled by now.
            self.child.kill();
        } else if channel.has_begun(&flight) {
            return self.breach(channel, flight.request, "it closed its socket".to_owned());
        } else {
            self.kill();
        }
        self.home = Some((channel, Some(flight)));
    }

    /// Asks the worker to end, and gives it time to.
    fn retire(&mut self, channel: Channel) {
        if self.pool.state() == State::Open {
            count(&self.pool.counts.recycled);
        }
        channel.close();
        self.by_us = true;
        self.kill_at = Some(Instant::now() + self.pool.settings.grace);
        self.home = Some((channel, None));
    }

    fn breach(&mut self, channel: Channel, request: Request, breach: String) {
        let (task, worker) = (self.task(&request), self.link.name().to_owned());
        tracing::error!(worker, task, breach, "a worker process broke the protocol and is killed");
        request.finish(Err(ProcessError::Protocol { task, worker, breach }));
        self.kill();
        self.home = Some((channel, None));
    }

    /// Nobody waits for the answer any more, so it must not come.
    fn leave(&mut self, channel: Channel, request: Request) {
        let why = if request.ticket.has_timed_out() { "its time is up" } else { "its caller left" };
        tracing::info!(worker = self.link.name(), task = self.task(&request), "a task is killed: {why}");
        if request.ticket.has_timed_out() {
            self.late(request);
        }
        self.kill();
        self.home = Some((channel, None));
    }

    /// Tells a caller whose time is up which worker had its call.
    fn late(&mut self, request: Request) {
        self.child.words.read();
        let (task, after) = (self.task(&request), request.limit.unwrap_or_default());
        let (worker, last_words) = (Some(self.link.name().to_owned()), self.child.words.last());
        request.finish(Err(ProcessError::Timeout { task, after, worker, last_words }));
    }

    fn halt(&mut self) {
        if let Some((channel, flight)) = self.link.take_watched() {
            self.pool.cut(flight.request);
            self.home = Some((channel, None));
        }
        self.kill();
    }

    fn kill(&mut self) {
        if !self.by_us {
            count(&self.pool.counts.killed);
        }
        self.by_us = true;
        self.kill_at = None;
        self.child.kill();
    }

    /// Kills a worker that has more memory than it may.
    fn weigh(&mut self) {
        let Some(limit) = self.pool.settings.max_memory.filter(|_| !self.by_us && !self.has_ended) else {
            return;
        };
        if own_memory(self.child.pid).is_some_and(|memory| memory > limit) {
            self.too_big = true;
            self.kill();
        }
    }

    /// Whether the process has ended and its channel is back.
    fn is_over(&self) -> bool {
        self.has_ended && self.home.is_some()
    }

    /// Says how it ended, to whom it concerns.
    fn bury(mut self) {
        let Some((mut channel, flight)) = self.home.take() else { return };
        self.pool.is_gone();
        // Closing them is not enough where the application has forked meanwhile: its child has them too.
        self.link.forget(self.child.words.pipe());
        self.link.forget(channel.socket());
        // An answer that was given before the end counts.
        let flight = flight.and_then(|flight| {
            match channel.receive(flight, &self.pool.program.tasks, &self.pool.settings) {
                Received::Answer(request, result) => {
                    request.finish(result);
                    None
                }
                Received::Nothing(flight) | Received::Gone(flight) => Some(flight),
                Received::Breach(request, breach) => {
                    self.protocol(request, breach);
                    None
                }
            }
        });
        let end = self.child.end();
        self.child.words.read();
        if !self.by_us {
            count(&self.pool.counts.died);
        }
        match flight {
            Some(mut flight) => {
                // Once: what has killed two workers will kill a third. Memory it would use up again.
                let may_repeat = if channel.has_begun(&flight) {
                    std::mem::take(&mut flight.request.may_repeat) && !self.too_big
                } else {
                    flight.request.tries += 1;
                    true
                };
                if may_repeat && self.pool.state() != State::Halted {
                    tracing::warn!(
                        worker = self.link.name(),
                        "a worker process {end}; its call is sent to another"
                    );
                    self.pool.repeat(flight.request);
                } else {
                    self.died(flight.request, end);
                }
            }
            None if !self.by_us => {
                let last_words = self.child.words.last();
                tracing::error!(
                    worker = self.link.name(),
                    "a worker process {end}, without a call{last_words}"
                );
            }
            None => {}
        }
    }

    fn protocol(&self, request: Request, breach: String) {
        let (task, worker) = (self.task(&request), self.link.name().to_owned());
        request.finish(Err(ProcessError::Protocol { task, worker, breach }));
    }

    fn died(&self, request: Request, end: End) {
        if self.pool.state() == State::Halted {
            return self.pool.cut(request);
        }
        let (task, worker) = (self.task(&request), self.link.name().to_owned());
        let last_words = self.child.words.last();
        let error = match self.pool.settings.max_memory {
            Some(limit) if self.too_big || is_out_of_memory(end, last_words.as_str()) => {
                ProcessError::Memory { task, worker, limit, last_words }
            }
            _ => ProcessError::Died { task, worker, end, last_words },
        };
        tracing::error!("{error}");
        request.finish(Err(error));
    }

    fn task(&self, request: &Request) -> String {
        self.pool.program.tasks.get(request.task).map(|task| task.name().to_owned()).unwrap_or_default()
    }
}

/// Takes the channel of a process whose end is noted, from where it waits for others. Else somebody is about to hand it
/// over, having seen that the end is noted, or waits for an answer on it and sees the end as well.
pub(super) fn look_for_channel(pool: &Pool, link: &Link) -> Option<(Channel, Option<Flight>)> {
    let idle = pool.take_idle(link.place.index).map(|channel| (channel, None));
    let watched = || link.take_watched().map(|(channel, flight)| (channel, Some(flight)));
    idle.or_else(watched)
}

/// Whether this is how a program of Rust's, or of C++'s, ends when it is refused memory.
fn is_out_of_memory(end: End, words: &str) -> bool {
    end == End::Signal(6) && (words.contains("memory allocation of") || words.contains("bad_alloc"))
}

/// An error with its causes.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
