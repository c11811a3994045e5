//! Where a worker's thread is reached: a slot for the call it is to look after, a mailbox, and the one place it
//! waits at. It lasts as long as the pool, through all processes that take the worker's place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
#[cfg(not(multicore_loom))]
use rustix::event::{Timespec, epoll::Event};

use super::call::Request;
use super::channel::{Channel, Flight};
use super::place::Place;
use crate::sync::{Mutex, lock};

/// What a worker's thread is sent by others.
pub(super) enum Mail {
    /// A caller used the channel itself; the worker is to be replaced, or calls wait for it.
    Back(Channel),
    /// The same, and the call is not over: the worker died.
    Broken(Channel, Flight),
    /// The same, and the worker sent what is no answer.
    Breach(Channel, Request, String),
    /// The same, and the caller's time was up.
    Late(Channel, Request),
    /// A call whose argument takes long to copy.
    Send(Channel, Request),
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Happened {
    pub(super) woken: bool,
    pub(super) answered: bool,
    pub(super) ended: bool,
    pub(super) words: bool,
}

#[cfg(not(multicore_loom))]
const WAKE: u64 = 0;
const SOCKET: u64 = 1;
const CHILD: u64 = 2;
const WORDS: u64 = 3;

pub(super) struct Link {
    pub(super) place: Arc<Place>,
    waiting: OwnedFd,
    mail: Mutex<Vec<Mail>>,
    /// The channel with its call, while the thread is to look after it.
    watched: Mutex<Option<(Channel, Flight)>>,
}

impl Link {
    pub(super) fn new(index: usize, name: String) -> io::Result<Self> {
        let waiting = epoll::create(CreateFlags::CLOEXEC)?;
        let place = Arc::new(Place::new(index, name)?);
        #[cfg(not(multicore_loom))]
        epoll::add(&waiting, &place.wakeup, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Link { place, waiting, mail: Mutex::new(Vec::new()), watched: Mutex::new(None) })
    }

    pub(super) fn name(&self) -> &str {
        &self.place.name
    }

    /// Begins to wait for a process's end and for its words. Its socket is waited for while a call is watched.
    pub(super) fn register(&self, socket: impl AsFd, child: impl AsFd, words: impl AsFd) -> io::Result<()> {
        epoll::add(&self.waiting, child, EventData::new_u64(CHILD), EventFlags::IN)?;
        epoll::add(&self.waiting, words, EventData::new_u64(WORDS), EventFlags::IN)?;
        Ok(epoll::add(&self.waiting, socket, EventData::new_u64(SOCKET), EventFlags::ONESHOT)?)
    }

    /// Stops to wait for what has ended, which would be told again and again.
    pub(super) fn forget(&self, ended: impl AsFd) {
        let _not_there = epoll::delete(&self.waiting, ended);
    }

    /// Gives a call to the thread to look after, without waking it before there is an answer.
    pub(super) fn watch(&self, channel: Channel, flight: Flight) {
        let ticket = Arc::clone(&flight.request.ticket);
        let has_ended = {
            // Armed under the lock: the channel is there whenever the event is.
            let mut watched = lock(&self.watched);
            let (channel, _) = watched.insert((channel, flight));
            let events = EventFlags::IN | EventFlags::ONESHOT;
            let armed = epoll::modify(&self.waiting, channel.socket(), EventData::new_u64(SOCKET), events);
            debug_assert!(armed.is_ok(), "registered with the channel: {armed:?}");
            channel.process.has_ended()
        };
        // The socket does not tell of an end where something that the worker had forked holds it open.
        if has_ended || !ticket.is_wanted() {
            self.wake();
        }
    }

    pub(super) fn take_watched(&self) -> Option<(Channel, Flight)> {
        lock(&self.watched).take()
    }

    /// Takes what is watched if nobody wants it any more.
    pub(super) fn take_unwanted(&self) -> Option<(Channel, Flight)> {
        let mut watched = lock(&self.watched);
        if watched.as_ref().is_some_and(|(_, flight)| !flight.request.ticket.is_wanted()) {
            watched.take()
        } else {
            None
        }
    }

    pub(super) fn post(&self, mail: Mail) {
        lock(&self.mail).push(mail);
        self.wake();
    }

    pub(super) fn take_mail(&self) -> Vec<Mail> {
        std::mem::take(&mut *lock(&self.mail))
    }

    pub(super) fn wake(&self) {
        self.place.wake();
    }

    /// For the model checker, which has neither clock nor sockets.
    #[cfg(multicore_loom)]
    pub(super) fn wait(&self, _within: Option<Duration>) -> io::Result<Happened> {
        let (woken, ended) = self.place.wakeup.wait();
        Ok(Happened { woken, ended, ..Happened::default() })
    }

    /// Waits until something happens, `within` at the longest.
    #[cfg(not(multicore_loom))]
    pub(super) fn wait(&self, within: Option<Duration>) -> io::Result<Happened> {
        // Rounded up: it is not to turn in circles for the last millisecond.
        let timeout = within.map(|within| {
            Timespec::try_from(within.max(Duration::from_millis(1)))
                .unwrap_or(Timespec { tv_sec: 3_600, tv_nsec: 0 })
        });
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
        let count = match epoll::wait(&self.waiting, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut happened = Happened::default();
        for event in &events[..count] {
            match event.data.u64() {
                WAKE => {
                    happened.woken = true;
                    self.place.sleep();
                }
                SOCKET => happened.answered = true,
                CHILD => happened.ended = true,
                _ => happened.words = true,
            }
        }
        Ok(happened)
    }
}
