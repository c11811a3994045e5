//! A worker's loop: take a call, run its task, answer, until the server is gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::Arc;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::EXIT;
use super::sink::Sink;
use crate::error::panic_message;
use crate::process::portable::Output;
use crate::process::registry::{Failure, Registry};
use crate::process::shared::memory::{ControlPage, ReadMap};
use crate::process::shared::socket::{self, Got, Inbox};
use crate::process::shared::wire::{Call, Outcome, Payload, Reply, Welcome};
use crate::process::shared::write_map::WriteMap;

/// The worker's end of the socket, and the maps it was lent.
pub(super) struct Server {
    control: OwnedFd,
    inbox: Inbox,
    page: ControlPage,
    max_result: u64,
    results: HashMap<u32, WriteMap>,
    /// Files of arguments; they are mapped for a call, as long as it is.
    arguments: HashMap<u32, OwnedFd>,
}

/// A mapped argument; what a task keeps of it keeps the map.
struct Argument {
    map: Arc<ReadMap>,
    len: usize,
}

impl AsRef<[u8]> for Argument {
    fn as_ref(&self) -> &[u8] {
        &self.map.bytes()[..self.len]
    }
}

impl Server {
    pub(super) fn new(
        control: OwnedFd,
        inbox: Inbox,
        page: ControlPage,
        welcome: &Welcome,
    ) -> io::Result<Self> {
        if welcome.max_memory != u64::MAX {
            let limit = Some(welcome.max_memory);
            setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit })?;
        }
        Ok(Server {
            control,
            inbox,
            page,
            max_result: welcome.max_result,
            results: HashMap::new(),
            arguments: HashMap::new(),
        })
    }

    /// Works until the server closes its end or breaks the protocol.
    pub(super) fn serve(mut self, tasks: &Registry) -> ! {
        let (mut inline, mut message) = (Vec::new(), Vec::new());
        loop {
            let len = match self.inbox.get(&self.control, true) {
                Ok(Got::Packet(len)) => len,
                Ok(Got::End | Got::Nothing) => exit(0),
                Err(error) => stop(&error),
            };
            if let Err(error) = self.answer(len, tasks, &mut inline, &mut message) {
                stop(&error);
            }
        }
    }

    fn answer(
        &mut self,
        len: usize,
        tasks: &Registry,
        inline: &mut Vec<u8>,
        message: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut files = std::mem::take(&mut self.inbox.files).into_iter();
        let mut file = || files.next().ok_or_else(|| io::Error::other("a map's file did not come"));
        let call =
            Call::decode(self.inbox.packet(len)).map_err(|garbled| io::Error::other(garbled.to_string()))?;
        self.page.begin(call.id);
        for map in &call.forget {
            self.results.remove(map);
            self.arguments.remove(map);
        }
        let (result, is_new) = call.result;
        if is_new {
            self.results.insert(result, WriteMap::new(file()?)?);
        }
        let map = self.results.get_mut(&result).ok_or_else(|| unknown(result))?;
        let mut argument_map = None;
        let argument = match call.argument {
            Payload::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Payload::Map { map, len } => {
                if call.new_argument {
                    self.arguments.insert(map, file()?);
                }
                let file = self.arguments.get(&map).ok_or_else(|| unknown(map))?;
                let len = usize::try_from(len).map_err(io::Error::other)?;
                let map = Arc::new(ReadMap::new(file.as_fd(), len)?);
                argument_map = Some(Arc::clone(&map));
                Bytes::from_owner(Argument { map, len })
            }
        };
        let task = tasks.get(call.task).ok_or_else(|| io::Error::other("a call of no task"))?;
        let mut sink = Sink::new(inline, map, self.max_result);
        let ran = catch_unwind(AssertUnwindSafe(|| task.run(argument, &mut Output(&mut sink))));
        let (mapped, too_large, failed) = (sink.mapped(), sink.is_too_large(), sink.take_failure());
        let text;
        let outcome = match ran {
            Err(panic) => {
                text = panic_message(panic);
                Outcome::Panicked(&text)
            }
            Ok(_) if too_large => Outcome::TooLarge,
            Ok(Err(Failure::Failed(words))) => {
                text = words;
                Outcome::Failed(&text)
            }
            Ok(Err(Failure::Argument(error))) => {
                text = error.to_string();
                Outcome::BadArgument(&text)
            }
            Ok(Err(Failure::Result(error))) => {
                text = error.to_string();
                Outcome::BadResult(&text)
            }
            Ok(Ok(())) => match (failed, mapped) {
                (Some(error), _) => {
                    text = error.to_string();
                    Outcome::BadResult(&text)
                }
                (None, None) => Outcome::Done(Payload::Inline(inline)),
                (None, Some(len)) => Outcome::Done(Payload::Map { map: result, len: len as u64 }),
            },
        };
        if mapped.is_some() {
            map.protect()?;
        }
        // The server keeps no descriptor of a map that it has handed out. It takes the file with a result alone.
        let is_in_map = matches!(outcome, Outcome::Done(Payload::Map { .. }));
        if !is_in_map {
            map.forget_growth();
        }
        let grown = if is_in_map { map.grown() } else { None };
        let kept_argument = argument_map.is_some_and(|map| Arc::strong_count(&map) > 1);
        Reply { id: call.id, outcome, kept_argument }.encode(message);
        socket::put(&self.control, message, grown.as_slice(), true)
    }
}

fn unknown(map: u32) -> io::Error {
    io::Error::other(format!("map {map} was never lent"))
}

fn stop(error: &io::Error) -> ! {
    eprintln!("a worker process stopped: {error}");
    exit(EXIT)
}
