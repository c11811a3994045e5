//! Where a result is written: a short one into the reply, a longer one into the map that was lent for it,
//! which grows as it needs.

use std::io::{self, Write};

use crate::process::shared::wire::INLINE;
use crate::process::shared::write_map::WriteMap;

pub(super) struct Sink<'m> {
    inline: &'m mut Vec<u8>,
    map: &'m mut WriteMap,
    /// How much stands in the map; nothing while `inline` is enough.
    mapped: usize,
    limit: u64,
    too_large: bool,
    /// What the system said when it took no more. A task may pass over it, and its result is not whole then.
    failed: Option<io::Error>,
}

impl<'m> Sink<'m> {
    /// `inline` is a buffer that is used again.
    pub(super) fn new(inline: &'m mut Vec<u8>, map: &'m mut WriteMap, limit: u64) -> Self {
        inline.clear();
        Sink { inline, map, mapped: 0, limit, too_large: false, failed: None }
    }

    /// Whether more was written than is allowed.
    pub(super) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Why not all that was written is there, if so.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// How many bytes are in the map; none if they are all in the buffer.
    pub(super) fn mapped(&self) -> Option<usize> {
        (self.mapped > 0).then_some(self.mapped)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.map.write(bytes, self.mapped) {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed.get_or_insert(error);
            return Err(told);
        }
        self.mapped += bytes.len();
        Ok(())
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let so_far = self.inline.len().max(self.mapped) as u64;
        if bytes.len() as u64 > self.limit.saturating_sub(so_far) {
            self.too_large = true;
            return Err(io::Error::other("the result is too large"));
        }
        if self.mapped == 0 && self.inline.len() + bytes.len() <= INLINE {
            self.inline.extend_from_slice(bytes);
        } else {
            if self.mapped == 0 {
                let head = std::mem::take(self.inline);
                self.put(&head)?;
                *self.inline = head;
                self.inline.clear();
            }
            self.put(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::shared::memory::{ReadMap, shared_file};

    /// One that is written to the file.
    const PIECE: usize = 16 * 1024;

    fn written(pieces: &[usize], limit: u64) -> (Vec<u8>, bool, bool) {
        let mut map = WriteMap::new(shared_file("test", 4_096).unwrap()).unwrap();
        let mut inline = vec![9; 3];
        let mut sink = Sink::new(&mut inline, &mut map, limit);
        let mut expected = Vec::new();
        for (index, len) in pieces.iter().enumerate() {
            let piece = vec![index as u8; *len];
            if sink.write_all(&piece).is_err() {
                break;
            }
            expected.extend(piece);
        }
        let (mapped, too_large) = (sink.mapped(), sink.is_too_large());
        let bytes = match mapped {
            Some(len) => ReadMap::new(map.file(), len).unwrap().bytes().to_vec(),
            None => inline.clone(),
        };
        assert_eq!(bytes, expected);
        (bytes, mapped.is_some(), too_large)
    }

    #[test]
    fn short_results_stay_in_the_reply_and_long_ones_go_to_the_map() {
        let none = u64::MAX;
        assert!(!written(&[], none).1);
        assert!(!written(&[10, 20, 30], none).1);
        assert!(!written(&[INLINE], none).1);
        assert!(written(&[INLINE, 1], none).1);
        assert!(written(&[INLINE + 1], none).1);
        assert!(written(&[5, 1_000_000, 7, 3_000_000, 0, 1], none).1);
        assert!(written(&[PIECE, PIECE, 3, PIECE - 1, PIECE, 5, 10 * PIECE], none).1);
    }

    #[test]
    fn a_map_that_is_used_again_has_what_was_written_last() {
        let mut map = WriteMap::new(shared_file("test", 4_096).unwrap()).unwrap();
        let mut inline = Vec::new();
        // Shorter and longer than before, in pieces that are copied and pieces that are written.
        for (byte, pieces) in
            [(1, vec![3 * PIECE]), (2, vec![PIECE + 1, 9, 9 * PIECE]), (3, vec![PIECE + 1, 7])]
        {
            let mut sink = Sink::new(&mut inline, &mut map, u64::MAX);
            for len in &pieces {
                sink.write_all(&vec![byte; *len]).unwrap();
            }
            let len = sink.mapped().unwrap();
            assert_eq!(len, pieces.iter().sum::<usize>());
            map.protect().unwrap();
            assert_eq!(ReadMap::new(map.file(), len).unwrap().bytes(), vec![byte; len]);
        }
    }

    #[test]
    fn what_could_not_be_written_is_told_even_if_the_task_goes_on() {
        // A file that may not be written to.
        let mut map = WriteMap::new(shared_file("test", 4_096).unwrap()).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&map.file()));
        map.exchange_file(std::fs::File::open(path).unwrap().into());
        let mut inline = Vec::new();
        let mut sink = Sink::new(&mut inline, &mut map, u64::MAX);
        sink.write_all(&[1; 100]).unwrap();
        assert!(sink.take_failure().is_none());
        assert!(sink.write_all(&[2; 2 * PIECE]).is_err());
        assert!(sink.take_failure().is_some());
    }

    #[test]
    fn what_is_longer_than_allowed_is_told() {
        assert!(!written(&[60, 40], 100).2);
        assert!(written(&[60, 41], 100).2);
        assert!(written(&[INLINE * 2, 1], INLINE as u64 * 2).2);
        assert!(!written(&[INLINE * 2], INLINE as u64 * 2).2);
    }
}
