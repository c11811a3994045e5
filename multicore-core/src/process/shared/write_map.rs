//! A map to write to, which grows, with huge pages where it is long enough for them.
//!
//! New memory of a file costs most: a page of 4 KiB is emptied first, and takes a fault or a step of the system's on
//! its own; and a map of many pages is walked over, page by page, each time that its protection changes. Both are of
//! no weight with pages of 2 MiB, which the system gives to such files where it is asked to, by `MADV_COLLAPSE`, even
//! if `/sys/kernel/mm/transparent_hugepage` says `never` for others, and not if it says `deny`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::memory::{HUGE, OwnMap, empty, length, lengthen, write_at};

/// A map grows by this at the least, and then twofold, or by a quarter where it has huge pages: what is kept for
/// later is counted by the files' lengths.
const GROW: usize = 64 * 1024;
/// A piece from this length on is written to a file that has no memory there instead of copied into its map:
/// a small page that is mapped is emptied first and costs a fault, which together take longer than the copy.
const LONG: usize = 16 * 1024;

/// A map to write to, which can be made read-only and writable again.
#[derive(Debug)]
pub(in crate::process) struct WriteMap {
    file: OwnedFd,
    map: OwnMap,
    /// Up to where the file has its memory since this map knows it.
    backed: usize,
    /// How long the file is: as long as the map, or longer.
    long: usize,
    /// How long the server knows it to be.
    told: usize,
    patience: Patience,
}

/// Whether the system is asked for more huge pages.
#[derive(Debug, Default)]
struct Patience {
    asked: u32,
    /// How many took longer than the small pages in their place would have.
    slow: u32,
    refused: bool,
}

impl Patience {
    /// The system may move others' memory to make a huge page.
    const LONG: Duration = Duration::from_millis(2);
    /// Some are slow on any machine.
    const SOME: u32 = 3;

    fn is_over(&self) -> bool {
        self.refused || (self.slow > Self::SOME && 2 * self.slow > self.asked)
    }

    fn took(&mut self, time: Duration) {
        self.asked += 1;
        self.slow += u32::from(time > Self::LONG);
    }
}

impl WriteMap {
    /// All of a sealed file.
    pub(in crate::process) fn new(file: OwnedFd) -> io::Result<Self> {
        let len = usize::try_from(length(&file)?).map_err(io::Error::other)?;
        let map = OwnMap::new(&file, len)?;
        Ok(WriteMap { file, map, backed: 0, long: len, told: len, patience: Patience::default() })
    }

    pub(in crate::process) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file in which to write from now on.
    #[cfg(test)]
    pub(in crate::process) fn exchange_file(&mut self, file: OwnedFd) {
        self.file = file;
    }

    /// The file, if it has become longer than the server knows, who is told now.
    pub(in crate::process) fn grown(&mut self) -> Option<BorrowedFd<'_>> {
        let told = std::mem::replace(&mut self.told, self.long);
        (told < self.long).then(|| self.file.as_fd())
    }

    /// Gives the memory back if there is more of it than the server knows of, who would count it as less: what was
    /// written came to nothing.
    pub(in crate::process) fn forget_growth(&mut self) {
        if self.backed > self.told {
            empty(&self.file);
            self.backed = 0;
        }
    }

    pub(in crate::process) fn len(&self) -> usize {
        self.map.len()
    }

    /// Writes bytes at this place, at which what was written before ends or which lies within. The map grows as it
    /// needs.
    pub(in crate::process) fn write(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let end = at + bytes.len();
        self.take_huge_pages(end)?;
        if bytes.len() >= LONG && at >= self.backed {
            self.let_file_reach(end)?;
            write_at(&self.file, bytes, at)?;
        } else {
            self.reach(end)?;
            self.map.bytes()?[at..end].copy_from_slice(bytes);
        }
        self.backed = self.backed.max(end);
        Ok(())
    }

    /// Lets the file and the map be at least `len` bytes long.
    fn reach(&mut self, len: usize) -> io::Result<()> {
        if len <= self.map.len() {
            return Ok(());
        }
        let now = self.map.len();
        let more = if now < HUGE { now } else { (now / 4).next_multiple_of(HUGE) };
        let len = len.max(now.saturating_add(more)).max(GROW);
        self.let_file_reach(len)?;
        // A longer one goes to an address of its own. What is in memory stays there meanwhile.
        self.map = OwnMap::new(&self.file, len)?;
        Ok(())
    }

    fn let_file_reach(&mut self, len: usize) -> io::Result<()> {
        if len > self.long {
            lengthen(&self.file, len)?;
            self.long = len;
        }
        Ok(())
    }

    /// Before something is written up to `end`: whatever has no memory yet becomes huge pages, from the one in which
    /// that begins, unless all of the result is shorter than one.
    fn take_huge_pages(&mut self, end: usize) -> io::Result<()> {
        while HUGE <= end && self.backed < end && !self.patience.is_over() {
            let at = self.backed / HUGE * HUGE;
            self.reach(end.next_multiple_of(HUGE))?;
            let start = Instant::now();
            if self.map.give_huge_page(at).is_err() {
                self.patience.refused = true;
                return Ok(());
            }
            self.patience.took(start.elapsed());
            self.backed = at + HUGE;
        }
        Ok(())
    }

    /// From here on a write to it is a fault.
    pub(in crate::process) fn protect(&mut self) -> io::Result<()> {
        self.map.protect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::shared::memory::{ReadMap, shared_file};

    const PAGE: usize = 4_096;

    fn map(len: usize) -> WriteMap {
        WriteMap::new(shared_file("test", len).unwrap()).unwrap()
    }

    fn read(map: &WriteMap, len: usize) -> ReadMap {
        ReadMap::new(map.file(), len).unwrap()
    }

    #[test]
    fn what_is_emptied_is_gone_and_the_file_as_long() {
        let mut write = map(10 * PAGE);
        write.write(&[7; 9 * PAGE], 0).unwrap();
        read(&write, 8 * PAGE).empty();
        let bytes = read(&write, 10 * PAGE);
        assert!(bytes.bytes()[..8 * PAGE].iter().all(|byte| *byte == 0));
        assert_eq!(bytes.bytes()[8 * PAGE], 7, "beyond the map");
    }

    #[test]
    fn what_was_long_is_emptied_too() {
        let mut write = map(PAGE);
        write.write(&vec![7; 2 * HUGE + 5], 0).unwrap();
        let len = write.len();
        read(&write, len).empty();
        assert!(read(&write, len).bytes().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_file_that_has_grown_is_told_of_once() {
        let mut write = map(PAGE);
        assert!(write.grown().is_none());
        write.write(&[1; PAGE], PAGE).unwrap();
        assert!(write.grown().is_some() && write.grown().is_none());
        write.write(&[1; LONG], 2 * PAGE).unwrap();
        assert!(write.grown().is_none(), "within the file");
        write.write(&[1; LONG], GROW).unwrap();
        assert!(write.grown().is_some() && write.grown().is_none());
    }

    #[test]
    fn memory_that_the_server_would_not_know_of_is_given_back() {
        let mut write = map(2 * PAGE);
        write.write(&[7; PAGE], 0).unwrap();
        write.forget_growth();
        assert_eq!(read(&write, PAGE).bytes(), [7; PAGE], "it knows of these");
        write.write(&vec![7; 3 * HUGE], PAGE).unwrap();
        write.forget_growth();
        assert!(read(&write, 3 * HUGE).bytes().iter().all(|byte| *byte == 0));
        write.write(&vec![8; 3 * HUGE], 0).unwrap();
        write.protect().unwrap();
        assert!(read(&write, 3 * HUGE).bytes().iter().all(|byte| *byte == 8));
        assert!(write.grown().is_some(), "and is told of it later");
    }

    #[test]
    fn a_file_is_not_much_longer_than_what_is_written_in_pieces() {
        let mut write = map(PAGE);
        for at in 0..1_200 {
            write.write(&[1; LONG], at * LONG).unwrap();
        }
        let (written, long) = (1_200 * LONG as u64, length(write.file()).unwrap());
        assert!((written..written + written / 4 + HUGE as u64).contains(&long), "{long}");
    }

    #[test]
    fn what_is_written_is_read_and_what_is_handed_over_stays_when_the_file_grows() {
        let mut write = map(PAGE);
        write.write(b"hello", 0).unwrap();
        write.protect().unwrap();
        let held = read(&write, 5);
        assert_eq!(held.bytes(), b"hello");
        write.write(&[7], GROW - 1).unwrap();
        assert_eq!(write.len(), GROW);
        assert_eq!(held.bytes(), b"hello");
        assert_eq!(read(&write, GROW).bytes()[GROW - 1], 7);
    }

    #[test]
    fn pieces_of_any_length_are_read_as_they_were_written() {
        for piece in [1_000, LONG - 1, LONG, 700_001, HUGE - 1, HUGE, HUGE + 1, 3 * HUGE + 17] {
            let mut write = map(PAGE);
            // Twice: into new memory, and into the same again.
            for round in 0..2_u8 {
                let mut expected = Vec::new();
                while expected.len() < 3 * HUGE {
                    let bytes: Vec<u8> = (0..piece).map(|at| (at % 251) as u8 ^ round).collect();
                    write.write(&bytes, expected.len()).unwrap();
                    expected.extend(bytes);
                }
                write.protect().unwrap();
                assert!(read(&write, expected.len()).bytes() == expected, "pieces of {piece}");
            }
        }
    }

    /// As a result that is held for long would see it.
    #[test]
    fn what_is_read_meanwhile_stays_where_its_pages_are_exchanged_for_a_huge_one() {
        let mut write = map(PAGE);
        write.write(&vec![5; HUGE - 1], 0).unwrap();
        let held = read(&write, HUGE - 1);
        assert!(held.bytes().iter().all(|byte| *byte == 5));
        write.write(&vec![6; HUGE], HUGE - 1).unwrap();
        assert!(held.bytes().iter().all(|byte| *byte == 5));
    }

    #[test]
    fn huge_pages_that_are_refused_or_mostly_slow_are_not_asked_for_again() {
        let (fast, slow) = (Patience::LONG, Patience::LONG + Duration::from_nanos(1));
        for (times, over) in [
            (vec![], false),
            (vec![slow, slow, slow], false),
            (vec![slow, slow, slow, slow], true),
            (vec![slow, slow, slow, fast, fast, fast, slow], true),
            (vec![slow, slow, slow, fast, fast, fast, fast, slow], false),
        ] {
            let mut patience = Patience::default();
            times.iter().for_each(|time| patience.took(*time));
            assert_eq!(patience.is_over(), over, "{times:?}");
        }
        assert!(Patience { refused: true, ..Patience::default() }.is_over());
    }
}
