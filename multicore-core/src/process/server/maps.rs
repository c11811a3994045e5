//! The maps of one worker: lent with a call, handed out with its result, and lent again once nobody holds the
//! result any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::process::shared::memory::{ReadMap, WriteMap, length, shared_file};

/// The shortest map. Results below the limit of a message need none, so this is for those just above.
const SHORTEST: usize = 64 * 1024;
/// How many maps are kept for later: as many results of one worker are seldom held at a time.
const KEEP: usize = 16;
/// How much memory they may take. A longer one than half of it is given back to the system after use.
const KEEP_BYTES: usize = 64 * 1024 * 1024;

/// The maps of one worker, for as long as it lives.
#[derive(Debug)]
pub(super) struct Maps {
    /// Those that nobody holds any more, from whichever thread let go of them.
    returned: Arc<Returned>,
    free: Vec<ResultMap>,
    arguments: Vec<ArgumentMap>,
    /// To be told to the worker with the next call.
    forget: Vec<u32>,
    next: u32,
    copy: bool,
}

#[derive(Debug, Default)]
struct Returned(Mutex<Vec<ResultMap>>);

/// A map for results.
#[derive(Debug)]
pub(super) struct ResultMap {
    id: u32,
    file: OwnedFd,
    size: usize,
    /// The server's view of it, as far as it was needed yet.
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
    returned: Arc<Returned>,
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
            self.returned.0.lock().unwrap_or_else(PoisonError::into_inner).push(map);
        }
    }
}

impl ResultMap {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The file, if the worker does not have it yet.
    pub(super) fn introduce(&self) -> Option<BorrowedFd<'_>> {
        (!self.known).then(|| self.file.as_fd())
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
        let returned = std::mem::take(&mut *self.returned.0.lock().unwrap_or_else(PoisonError::into_inner));
        for map in returned {
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
        Ok(ResultMap { id: self.number(), file, size, view: None, known: false })
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
        lent.map.bytes()?[..bytes.len()].copy_from_slice(bytes);
        Ok(lent)
    }

    fn number(&mut self) -> u32 {
        let id = self.next;
        self.next += 1;
        id
    }

    /// What the worker is to forget, once.
    pub(super) fn take_forgotten(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.forget)
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
        }
    }

    /// An argument's map comes back. What the worker still refers to is never written again.
    pub(super) fn put_back_argument(&mut self, mut map: ArgumentMap, kept: bool) {
        map.known = true;
        if kept || map.map.len() > KEEP_BYTES / 2 || self.arguments.len() == KEEP {
            self.forget.push(map.id);
        } else {
            self.arguments.push(map);
        }
    }

    /// The result that the worker says it has written to the map.
    ///
    /// # Errors
    /// That it cannot be there, or what the system said.
    pub(super) fn accept(&mut self, mut map: ResultMap, len: u64) -> io::Result<Bytes> {
        let long = length(&map.file)?;
        if len > long {
            return Err(io::Error::other(format!("a result of {len} bytes in a map of {long}")));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        map.size = usize::try_from(long).map_err(io::Error::other)?;
        if self.copy {
            let mut bytes = vec![0; len];
            let mut read = 0;
            while read < len {
                match rustix::io::pread(&map.file, &mut bytes[read..], read as u64)? {
                    0 => return Err(io::Error::other("a result ends early")),
                    some => read += some,
                }
            }
            self.put_back(map);
            return Ok(bytes.into());
        }
        // All of it, for the results to come.
        if map.view.as_ref().is_none_or(|view| view.bytes().len() < len) {
            map.view = Some(ReadMap::new(&map.file, map.size)?);
        }
        map.known = true;
        Ok(Bytes::from_owner(Held { map: Some(map), len, returned: Arc::clone(&self.returned) }))
    }
}

fn size_for(expected: usize) -> usize {
    expected.max(SHORTEST).checked_next_power_of_two().unwrap_or(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the worker would.
    fn write(map: &ResultMap, bytes: &[u8]) {
        let mut write = WriteMap::new(map.file.try_clone().unwrap()).unwrap();
        write.grow(bytes.len()).unwrap();
        write.bytes().unwrap()[..bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn a_map_is_lent_again_only_when_its_result_is_gone() {
        let mut maps = Maps::new(false);
        let first = maps.lend(0).unwrap();
        assert!(first.introduce().is_some());
        write(&first, b"first");
        let id = first.id();
        let result = maps.accept(first, 5).unwrap();
        let part = result.slice(1..3);
        drop(result);
        let second = maps.lend(0).unwrap();
        assert_ne!(second.id(), id, "a part of the first is still held");
        assert_eq!(part, "ir");
        drop(part);
        maps.put_back(second);
        let again = [maps.lend(0).unwrap(), maps.lend(0).unwrap()];
        assert!(again.iter().any(|map| map.id() == id) && again.iter().all(|map| map.introduce().is_none()));
    }

    #[test]
    fn a_copied_result_frees_its_map_at_once() {
        let mut maps = Maps::new(true);
        let map = maps.lend(0).unwrap();
        let (id, long) = (map.id(), vec![3; 200_000]);
        write(&map, &long);
        let result = maps.accept(map, 200_000).unwrap();
        assert_eq!(maps.lend(0).unwrap().id(), id);
        assert_eq!(result, long);
    }

    #[test]
    fn a_result_longer_than_its_map_is_refused() {
        for copy in [false, true] {
            let mut maps = Maps::new(copy);
            let map = maps.lend(0).unwrap();
            let error = maps.accept(map, SHORTEST as u64 + 1).unwrap_err().to_string();
            assert_eq!(error, "a result of 65537 bytes in a map of 65536");
        }
    }

    #[test]
    fn the_map_that_fits_best_is_lent_and_the_longest_are_let_go() {
        let mut maps = Maps::new(false);
        let sizes = [SHORTEST, 8 * SHORTEST, 2 * SHORTEST];
        let lent: Vec<_> = sizes.iter().map(|size| maps.lend(*size).unwrap()).collect();
        let ids: Vec<_> = lent.iter().map(ResultMap::id).collect();
        for map in lent {
            maps.put_back(map);
        }
        assert_eq!(maps.lend(SHORTEST + 1).unwrap().id(), ids[2]);
        assert_eq!(maps.lend(100 * SHORTEST).unwrap().id(), ids[1], "the longest is grown");
        assert!(maps.take_forgotten().is_empty());
        let huge = maps.lend(0).unwrap();
        write(&huge, &vec![1; KEEP_BYTES + 1]);
        let id = huge.id();
        drop(maps.accept(huge, 1).unwrap());
        maps.lend(0).unwrap();
        assert_eq!(maps.take_forgotten(), [id]);
    }

    #[test]
    fn an_argument_that_is_kept_is_never_overwritten() {
        let mut maps = Maps::new(false);
        let map = maps.lend_argument(&[1; 100_000]).unwrap();
        let id = map.id();
        maps.put_back_argument(map, false);
        let map = maps.lend_argument(&[2; 90_000]).unwrap();
        assert_eq!(map.id(), id);
        maps.put_back_argument(map, true);
        assert_eq!(maps.take_forgotten(), [id]);
        assert_ne!(maps.lend_argument(&[3; 90_000]).unwrap().id(), id);
    }
}
