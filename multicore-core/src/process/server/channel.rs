//! The server's end of one worker: a call goes out, its answer comes back. Whoever holds it may use it; who
//! that is at a time is `pool.rs`'s to say.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Pid;

use super::call::Request;
use super::maps::{ArgumentMap, Maps, ResultMap};
use super::place::Place;
use super::spawn::Process;
use crate::process::error::ProcessError;
use crate::process::registry::Registry;
use crate::process::settings::ProcessSettings;
use crate::process::shared::memory::ControlPage;
use crate::process::shared::socket::{self, Got, Inbox};
use crate::process::shared::wire::{Call, INLINE, Outcome, Payload, Reply};

/// How often a worker's memory is looked at between tasks, which costs some microseconds.
const WEIGH_EVERY: Duration = Duration::from_millis(10);

pub(super) struct Channel {
    pub(super) place: Arc<Place>,
    pub(super) pid: Pid,
    pub(super) process: Arc<Process>,
    socket: OwnedFd,
    page: ControlPage,
    maps: Maps,
    inbox: Inbox,
    message: Vec<u8>,
    next: u64,
    served: u64,
    weighed: Instant,
    /// How long each task's last result was.
    lengths: Vec<usize>,
    /// It panicked or has grown too big, and is to be replaced.
    pub(super) is_soiled: bool,
}

/// A call under way.
pub(super) struct Flight {
    pub(super) request: Request,
    id: u64,
    result: ResultMap,
    argument: Option<ArgumentMap>,
}

/// What came of looking for an answer.
pub(super) enum Received {
    /// The call is over.
    Answer(Request, Result<Bytes, ProcessError>),
    /// Nothing yet.
    Nothing(Flight),
    /// The worker is gone.
    Gone(Flight),
    /// The worker sent what is no answer.
    Breach(Request, String),
}

impl Channel {
    pub(super) fn new(
        place: Arc<Place>,
        pid: Pid,
        process: Arc<Process>,
        socket: OwnedFd,
        page: ControlPage,
        inbox: Inbox,
        copy: bool,
    ) -> Self {
        Channel {
            place,
            pid,
            process,
            socket,
            page,
            maps: Maps::new(copy),
            inbox,
            message: Vec::new(),
            next: 1,
            served: 0,
            weighed: Instant::now(),
            lengths: Vec::new(),
            is_soiled: false,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends a call.
    ///
    /// # Errors
    /// The request back, and what the system said.
    pub(super) fn send(&mut self, request: Request) -> Result<Flight, (Request, io::Error)> {
        let task = request.task as usize;
        let expected = self.lengths.get(task).copied().unwrap_or(0);
        let result = match self.maps.lend(expected) {
            Ok(map) => map,
            Err(error) => return Err((request, error)),
        };
        let argument = if request.argument.len() <= INLINE {
            None
        } else {
            match self.maps.lend_argument(&request.argument) {
                Ok(map) => Some(map),
                Err(error) => {
                    self.maps.take_back(result, None);
                    return Err((request, error));
                }
            }
        };
        let id = self.next;
        self.next += 1;
        let payload = match &argument {
            None => Payload::Inline(&request.argument),
            Some(map) => Payload::Map { map: map.id(), len: request.argument.len() as u64 },
        };
        let new_argument = argument.as_ref().and_then(ArgumentMap::introduce);
        let call = Call {
            id,
            task: request.task,
            argument: payload,
            result: (result.id(), result.introduce().is_some()),
            new_argument: new_argument.is_some(),
            forget: self.maps.take_forgotten(),
        };
        call.encode(&mut self.message);
        let files: Vec<_> = result.introduce().into_iter().chain(new_argument).collect();
        let sent = socket::put(&self.socket, &self.message, &files, false);
        drop(files);
        let forget = call.forget;
        match sent {
            // The worker is dead or dying, or has closed its end, and is judged by what it has begun.
            Err(error) if !is_end(&error) => {
                self.maps.forget_later(forget);
                self.maps.take_back(result, argument);
                Err((request, error))
            }
            _ => Ok(Flight { request, id, result, argument }),
        }
    }

    /// Whether the worker has begun the call.
    pub(super) fn has_begun(&self, flight: &Flight) -> bool {
        self.page.begun() == flight.id
    }

    /// Looks for the answer to a call; never waits.
    pub(super) fn receive(
        &mut self,
        flight: Flight,
        tasks: &Registry,
        settings: &ProcessSettings,
    ) -> Received {
        let len = match self.inbox.get(&self.socket, false) {
            Ok(Got::Packet(len)) => len,
            Ok(Got::Nothing) => return Received::Nothing(flight),
            Ok(Got::End) => return Received::Gone(flight),
            Err(error) => return Received::Breach(flight.request, error.to_string()),
        };
        let file = self.inbox.files.pop();
        let reply = match Reply::decode(self.inbox.packet(len)) {
            Ok(reply) if reply.id == flight.id => reply,
            Ok(reply) => {
                let breach = format!("an answer to call {} while call {} was open", reply.id, flight.id);
                return Received::Breach(flight.request, breach);
            }
            Err(garbled) => return Received::Breach(flight.request, garbled.to_string()),
        };
        let Flight { request, result, argument, .. } = flight;
        let kept = reply.kept_argument;
        let task = tasks.get(request.task).map(|task| task.name().to_owned()).unwrap_or_default();
        let format = |what, message: &str| ProcessError::Format {
            task: task.clone(),
            what,
            message: message.to_owned(),
        };
        let answer = match reply.outcome {
            Outcome::Done(Payload::Map { map, len }) => {
                let lent = result.id();
                if map != lent {
                    return Received::Breach(request, format!("a result in map {map}, lent was map {lent}"));
                }
                match self.maps.accept(result, len, file) {
                    Ok(bytes) => {
                        self.note_length(request.task, bytes.len());
                        Ok(bytes)
                    }
                    Err(error) => return Received::Breach(request, error.to_string()),
                }
            }
            inline => {
                self.maps.put_back(result);
                match inline {
                    Outcome::Done(Payload::Inline(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
                    Outcome::Panicked(message) => {
                        self.is_soiled = true;
                        let worker = self.place.name.clone();
                        Err(ProcessError::Panicked { task, worker, message: message.to_owned() })
                    }
                    Outcome::Failed(message) => {
                        Err(ProcessError::Failed { task, message: message.to_owned() })
                    }
                    Outcome::BadArgument(message) => Err(format("argument", message)),
                    Outcome::BadResult(message) => Err(format("result", message)),
                    Outcome::TooLarge | Outcome::Done(_) => {
                        let limit = settings.max_result.unwrap_or(u64::MAX);
                        Err(ProcessError::TooLarge { task, limit })
                    }
                }
            }
        };
        if let Some(argument) = argument {
            self.maps.put_back_argument(argument, kept);
        }
        self.served += 1;
        Received::Answer(request, answer)
    }

    fn note_length(&mut self, task: u32, len: usize) {
        let task = task as usize;
        if self.lengths.len() <= task {
            self.lengths.resize(task + 1, 0);
        }
        self.lengths[task] = len;
    }

    /// Whether the worker is to be replaced before its next task.
    pub(super) fn is_due(&mut self, settings: &ProcessSettings) -> bool {
        if self.is_soiled || settings.max_tasks.is_some_and(|most| self.served >= most) {
            return true;
        }
        let Some(most) = settings.max_rss else { return false };
        if self.weighed.elapsed() < WEIGH_EVERY {
            return false;
        }
        self.weighed = Instant::now();
        // Kept in mind: whoever finds it posts the channel to its thread, which asks again too soon to weigh.
        self.is_soiled = own_memory(self.pid).is_some_and(|memory| memory > most);
        self.is_soiled
    }

    /// Asks the worker to end.
    pub(super) fn close(&self) {
        // It may be dead.
        let _gone = rustix::net::shutdown(self.socket.as_fd(), rustix::net::Shutdown::Write);
    }
}

/// Whether a packet was not sent because nobody is there to receive it.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// Whether a process is alive and not about to end.
pub(super) fn is_alive(pid: Pid) -> bool {
    /// `PF_EXITING` of the kernel's: set before it closes a process's files.
    const EXITING: u64 = 4;
    let Ok(text) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else {
        return false;
    };
    // The program's name may hold anything, so from its end.
    let flags = text.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING == 0)
}

/// What a process has in memory of its own, in bytes: not files, and not the maps of results.
pub(super) fn own_memory(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let mut pages = text.split(' ').skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}
