//! Where a worker's thread is reached: a slot for the call it is to look after, a mailbox, and the one place it
//! waits at. It lasts as long as the pool, through all processes that take the worker's place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::call::Request;
use super::channel::{Channel, Flight};
use super::place::Place;

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
        epoll::add(&waiting, &place.wakeup, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Link { place, waiting, mail: Mutex::default(), watched: Mutex::default() })
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
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes what is watched if nobody wants it any more.
    pub(super) fn take_unwanted(&self) -> Option<(Channel, Flight)> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.as_ref().is_some_and(|(_, flight)| !flight.request.ticket.is_wanted()) {
            watched.take()
        } else {
            None
        }
    }

    pub(super) fn post(&self, mail: Mail) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        self.wake();
    }

    pub(super) fn take_mail(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn wake(&self) {
        self.place.wake();
    }

    /// Waits until something happens, `within` at the longest.
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
