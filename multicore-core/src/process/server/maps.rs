//! The maps of one worker: lent with a call, handed out with its result, and lent again once nobody holds the
//! result any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::process::shared::memory::{ReadMap, empty, length, read_at, shared_file};
use crate::process::shared::wire::MOST_FORGOTTEN;
use crate::process::shared::write_map::WriteMap;

/// The shortest map. Results below the limit of a message need none, so this is for those just above.
const SHORTEST: usize = 64 * 1024;
/// How many maps are kept for later: as many results of one worker are seldom held at a time.
const KEEP: usize = 16;
/// How much memory they may take. What is above is given back to the system at once.
const KEEP_BYTES: usize = 64 * 1024 * 1024;

/// The maps of one worker, for as long as it lives.
#[derive(Debug)]
pub(super) struct Maps {
    /// Those that nobody holds any more, from whichever thread let go of them.
    returned: Arc<Mutex<Returned>>,
    free: Vec<ResultMap>,
    arguments: Vec<ArgumentMap>,
    /// To be told to the worker with the next call.
    forget: Vec<u32>,
    next: u32,
    copy: bool,
}

#[derive(Debug, Default)]
struct Returned {
    maps: Vec<ResultMap>,
    /// How long those are.
    bytes: usize,
    /// Those that were let go.
    forget: Vec<u32>,
    /// The worker is gone, nothing is lent again.
    closed: bool,
}

impl Returned {
    /// Keeps a map to be lent again. Gives out what is to be dropped without the lock.
    fn take(&mut self, map: ResultMap) -> Option<ResultMap> {
        if self.closed {
            return Some(map);
        }
        if self.maps.len() >= KEEP || self.bytes + map.size > KEEP_BYTES {
            self.forget.push(map.id);
            return Some(map);
        }
        self.bytes += map.size;
        self.maps.push(map);
        None
    }
}

/// A map for results.
#[derive(Debug)]
pub(super) struct ResultMap {
    id: u32,
    /// Its file, until there is a view of it: results may be held by the thousand, and descriptors are few. The worker
    /// sends it again where it has let it grow.
    file: Option<OwnedFd>,
    size: usize,
    /// The server's view of it.
    view: Option<ReadMap>,
    known: bool,
}

/// A map for arguments.
#[derive(Debug)]
pub(super) struct ArgumentMap {
    id: u32,
    map: WriteMap,
    known: bool,
}

/// A result in its map, which goes back when this is dropped.
struct Held {
    /// None only while it is dropped.
    map: Option<ResultMap>,
    len: usize,
    returned: Arc<Mutex<Returned>>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        let view = self.map.as_ref().and_then(|map| map.view.as_ref());
        view.map_or(&[], |view| &view.bytes()[..self.len])
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(map) = self.map.take() {
            let above = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take(map);
            if let Some(map) = above {
                map.let_go();
            }
        }
    }
}

impl ResultMap {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The file, if the worker does not have it yet.
    pub(super) fn introduce(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().filter(|_| !self.known).map(AsFd::as_fd)
    }

    /// Its memory goes now: the worker has the file too until it is told with its next call, which may be long in
    /// coming.
    fn let_go(self) {
        if let Some(file) = &self.file {
            empty(file);
        } else if let Some(view) = self.view {
            view.empty();
        }
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        returned.closed = true;
        // Results that are still held keep this, not the maps of the others.
        let maps = std::mem::take(&mut returned.maps);
        drop(returned);
        drop(maps);
    }
}

impl ArgumentMap {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The file, if the worker does not have it yet.
    pub(super) fn introduce(&self) -> Option<BorrowedFd<'_>> {
        (!self.known).then(|| self.map.file())
    }
}

impl Maps {
    /// None yet; with `copy`, results are copied and their maps free again at once.
    pub(super) fn new(copy: bool) -> Self {
        Maps {
            returned: Arc::default(),
            free: Vec::new(),
            arguments: Vec::new(),
            forget: Vec::new(),
            next: 1,
            copy,
        }
    }

    /// A map for a result of about `expected` bytes. It may become longer.
    pub(super) fn lend(&mut self, expected: usize) -> io::Result<ResultMap> {
        let returned = std::mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner));
        self.forget.extend(returned.forget);
        for map in returned.maps {
            self.put_back(map);
        }
        let fits = |map: &&ResultMap| map.size >= expected;
        let chosen = self.free.iter().filter(fits).min_by_key(|map| map.size);
        let chosen = chosen.or_else(|| self.free.iter().max_by_key(|map| map.size)).map(|map| map.id);
        if let Some(at) = self.free.iter().position(|map| Some(map.id) == chosen) {
            return Ok(self.free.swap_remove(at));
        }
        let size = size_for(expected);
        let file = shared_file("multicore-result", size)?;
        Ok(ResultMap { id: self.number(), file: Some(file), size, view: None, known: false })
    }

    /// A map with these bytes, for an argument.
    pub(super) fn lend_argument(&mut self, bytes: &[u8]) -> io::Result<ArgumentMap> {
        let fits = |map: &&ArgumentMap| map.map.len() >= bytes.len();
        let chosen = self.arguments.iter().filter(fits).min_by_key(|map| map.map.len()).map(|map| map.id);
        let mut lent = match self.arguments.iter().position(|map| Some(map.id) == chosen) {
            Some(at) => self.arguments.swap_remove(at),
            None => {
                let file = shared_file("multicore-argument", size_for(bytes.len()))?;
                ArgumentMap { id: self.number(), map: WriteMap::new(file)?, known: false }
            }
        };
        lent.map.write(bytes, 0)?;
        Ok(lent)
    }

    fn number(&mut self) -> u32 {
        let id = self.next;
        self.next += 1;
        id
    }

    /// What the worker is to forget, once: as much as a message takes.
    pub(super) fn take_forgotten(&mut self) -> Vec<u32> {
        self.forget.split_off(self.forget.len().saturating_sub(MOST_FORGOTTEN))
    }

    /// The worker was not told.
    pub(super) fn forget_later(&mut self, maps: Vec<u32>) {
        self.forget.extend(maps);
    }

    /// The maps of a call that was not sent come back. What the worker does not know it never will.
    pub(super) fn take_back(&mut self, result: ResultMap, argument: Option<ArgumentMap>) {
        if result.known {
            self.put_back(result);
        }
        if let Some(argument) = argument.filter(|argument| argument.known) {
            self.put_back_argument(argument, false);
        }
    }

    /// A map comes back without a result. The worker knows it by now.
    pub(super) fn put_back(&mut self, mut map: ResultMap) {
        map.known = true;
        self.free.push(map);
        let held = |free: &[ResultMap]| free.iter().map(|map| map.size).sum::<usize>();
        while self.free.len() > KEEP || held(&self.free) > KEEP_BYTES {
            let Some(longest) = (0..self.free.len()).max_by_key(|at| self.free[*at].size) else { return };
            let dropped = self.free.swap_remove(longest);
            self.forget.push(dropped.id);
            dropped.let_go();
        }
    }

    /// An argument's map comes back. What the worker still refers to is never written again.
    pub(super) fn put_back_argument(&mut self, mut map: ArgumentMap, kept: bool) {
        map.known = true;
        if kept {
            self.forget.push(map.id);
        } else if map.map.len() > KEEP_BYTES / 2 || self.arguments.len() == KEEP {
            self.forget.push(map.id);
            empty(map.map.file());
        } else {
            self.arguments.push(map);
        }
    }

    /// The result that the worker says it has written to the map, whose file comes along if it has grown.
    ///
    /// # Errors
    /// That it cannot be there, or what the system said.
    pub(super) fn accept(
        &mut self,
        mut map: ResultMap,
        len: u64,
        grown: Option<OwnedFd>,
    ) -> io::Result<Bytes> {
        if let Some(file) = grown {
            map.size = usize::try_from(length(&file)?).map_err(io::Error::other)?;
            map.file = Some(file);
            // Of all of it, for the results to come, as the file does not come again.
            map.view = None;
        }
        if len > map.size as u64 {
            return Err(io::Error::other(format!("a result of {len} bytes in a map of {}", map.size)));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let no_file = || io::Error::other("the file of a map is not known");
        if self.copy {
            let file = map.file.as_ref().ok_or_else(no_file)?;
            let mut bytes = vec![0; len];
            let mut read = 0;
            while read < len {
                match read_at(file, &mut bytes[read..], read)? {
                    0 => return Err(io::Error::other("a result ends early")),
                    some => read += some,
                }
            }
            self.put_back(map);
            return Ok(bytes.into());
        }
        if map.view.as_ref().is_none_or(|view| view.bytes().len() < len) {
            map.view = Some(ReadMap::new(map.file.as_ref().ok_or_else(no_file)?, map.size)?);
        }
        map.file = None;
        map.known = true;
        Ok(Bytes::from_owner(Held { map: Some(map), len, returned: Arc::clone(&self.returned) }))
    }
}

fn size_for(expected: usize) -> usize {
    expected.max(SHORTEST).checked_next_power_of_two().unwrap_or(expected)
}

#[cfg(test)]
mod tests;
