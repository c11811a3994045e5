//! Memory that a server and one of its workers share, and what else has no safe form. **The only unsafe code
//! of process workers.**
//!
//! Why it is sound, as long as the worker does not set out to break it:
//!
//! 1. **The file stays long enough.** Reading a map beyond its file's end is a `SIGBUS`. Every file is made by
//!    the server, as a memfd sealed against shrinking and against further seals ([`shared_file`]), and only
//!    such files are mapped ([`ReadMap::new`] asks for the seal and for the length). A file can grow; what is
//!    mapped then stays as it is.
//! 2. **One writes, and nobody reads meanwhile.** A result's map is the worker's from when it is lent until its
//!    reply, and the server's from then until it is lent again; the server makes no slice of it in between
//!    (`maps.rs`: a map is lent only when the last [`bytes::Bytes`] of it is gone). An argument's map is
//!    written by the server before it is sent, and used again only once the worker has said that it is done
//!    with it. Maps are never shared between workers, and those of a worker that died are not used again.
//!    [`empty`] and [`ReadMap::empty`] are for maps that nobody reads and that are not lent again.
//! 3. **What the worker has handed over it cannot write by accident.** It makes its own map read-only before
//!    it replies, so a wild pointer of its C code meets a page fault, which kills the worker and leaves the
//!    result alone. The server's map is read-only from the start. Where a file has no pages yet the worker writes
//!    to the file, through no map at all ([`write_at`]): what it has mapped of it is protected the same.
//! 4. **Shared numbers are atomic.** The control page is written and read through [`AtomicU64`] alone, is
//!    aligned as a page, and never shorter than one.
//! 5. **Descriptors are closed once**, in a worker that has just begun, by [`close_inherited`]: see there.
//! 6. **A signal's handler makes two system calls**, and nothing else: see [`end_with_parent`].
//!
//! What it does not protect against: a worker that breaks the protocol on purpose. It holds the file and can
//! map it again for writing, so bytes may change under a slice of the server's, which Rust calls undefined.
//! For code that may be taken over by its input there is `copy-results`, with which the server maps nothing and
//! reads with `pread`.

// The workspace denies it; which files may say this is held by a test.
#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapMut, MmapOptions, UncheckedAdvice};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
    memfd_create,
};
use rustix::process::{Signal, getpid, kill_process, kill_process_group, set_parent_process_death_signal};

const PAGE: usize = 4_096;
/// A huge page, where pages are of 4 KiB.
pub(in crate::process) const HUGE: usize = 2 * 1024 * 1024;
/// Every file begins with a hole as long as a huge page, and a long one ends with one. They take no memory: a map of a
/// long file begins in the first wherever its address and its place in the file are then a whole number of huge pages
/// apart, as the system wants it for them, and reaches as far into the last.
const HEAD: usize = HUGE;
const TAIL: usize = HUGE;

/// How long a file for so many bytes is.
fn with_holes(len: usize) -> u64 {
    let tail = if len < HUGE { 0 } else { TAIL };
    HEAD as u64 + len as u64 + tail as u64
}

/// A file in memory for `len` bytes that can grow and not shrink.
pub(in crate::process) fn shared_file(name: &str, len: usize) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    lengthen(&file, len)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Lets a file take `len` bytes, which it did not before.
pub(in crate::process) fn lengthen(file: impl AsFd, len: usize) -> io::Result<()> {
    Ok(ftruncate(file, with_holes(len))?)
}

/// For how many bytes the file is.
pub(in crate::process) fn length(file: impl AsFd) -> io::Result<u64> {
    let long = u64::try_from(fstat(file)?.st_size).unwrap_or(0).saturating_sub(HEAD as u64);
    Ok(if long < HUGE as u64 { long } else { long - TAIL as u64 })
}

/// Reads what stands at this place of a file: some of it, or nothing at its very end.
pub(in crate::process) fn read_at(file: impl AsFd, bytes: &mut [u8], at: usize) -> io::Result<usize> {
    Ok(rustix::io::pread(file, bytes, HEAD as u64 + at as u64)?)
}

/// Writes bytes to this place of a file, which is long enough. It is the system that writes, so the protection of
/// maps does not matter.
pub(in crate::process) fn write_at(file: impl AsFd, bytes: &[u8], at: usize) -> io::Result<()> {
    let file = file.as_fd();
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::pwrite(file, &bytes[written..], (HEAD + at + written) as u64) {
            Ok(some) => written += some,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives the memory of a file that nobody needs any more back to the system, whoever still has it: it is as long
/// as before, and zero.
pub(in crate::process) fn empty(file: impl AsFd) {
    let Ok(len @ 1..) = length(&file) else { return };
    // Where the system does not do it, the memory goes with the last who has the file.
    let (how, pages) =
        (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, len.next_multiple_of(PAGE as u64));
    let _done = fallocate(&file, how, HEAD as u64, pages);
}

/// Refuses a file that could shrink under a map, or is shorter than it.
fn check(file: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    if !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
        return Err(io::Error::other("the shared file is not sealed against shrinking"));
    }
    let long = length(file)?;
    if len == 0 || long < len as u64 {
        return Err(io::Error::other(format!("the shared file has {long} bytes, not {len}")));
    }
    Ok(())
}

/// What is mapped of a file, without the part of its head that only gives it its place.
#[derive(Debug)]
struct Placed<M> {
    map: M,
    skip: usize,
    len: usize,
}

impl<M: Deref<Target = [u8]>> Placed<M> {
    /// The first `len` bytes of a file, at an address for huge pages if they are enough for one.
    fn new(len: usize, map: impl Fn(&MmapOptions) -> io::Result<M>) -> io::Result<Self> {
        let at = |offset: usize, mapped: usize| map(MmapOptions::new().offset(offset as u64).len(mapped));
        if len < HUGE {
            return Ok(Placed { map: at(HEAD, len)?, skip: 0, len });
        }
        // A map as long as one that was just there is put where that one was, unless another thread takes the place
        // in between: the pages are small then.
        let mapped = HEAD + len;
        let there = at(0, mapped)?;
        let offset = there.as_ptr().addr() % HUGE;
        if offset == 0 {
            return Ok(Placed { map: there, skip: HEAD, len });
        }
        drop(there);
        Ok(Placed { map: at(offset, mapped)?, skip: HEAD - offset, len })
    }

    fn bytes(&self) -> &[u8] {
        &self.map[self.skip..self.skip + self.len]
    }

    fn with<N>(self, change: impl FnOnce(M) -> io::Result<N>) -> io::Result<Placed<N>> {
        Ok(Placed { map: change(self.map)?, skip: self.skip, len: self.len })
    }
}

/// A map to read from.
#[derive(Debug)]
pub(in crate::process) struct ReadMap(Placed<Mmap>);

impl ReadMap {
    /// The first `len` bytes of a sealed file.
    pub(in crate::process) fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        let file = file.as_fd();
        check(file, len)?;
        // SAFETY: points 1 and 2 of the head.
        Placed::new(len, |options| unsafe { options.map(file.as_raw_fd()) }).map(ReadMap)
    }

    pub(in crate::process) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// As [`empty`], as far as it is mapped, where the file is not at hand.
    pub(in crate::process) fn empty(self) {
        // Where the system does not do it, the memory goes with the last who has the file.
        let Ok(map) = self.0.map.make_mut() else { return };
        // SAFETY: it changes bytes that nobody reads any more: nobody has a slice of what is owned here, and the map
        // is not lent again (point 2 of the head).
        let _done = unsafe { map.unchecked_advise(UncheckedAdvice::Remove) };
    }
}

/// A map of one's own, which can be made read-only and writable again.
#[derive(Debug)]
pub(in crate::process) struct OwnMap(
    /// None while its protection is changed, and after that failed.
    Option<Protected>,
);

#[derive(Debug)]
enum Protected {
    Writable(Placed<MmapMut>),
    ReadOnly(Placed<Mmap>),
}

impl OwnMap {
    /// The first `len` bytes of a sealed file.
    pub(in crate::process) fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        let file = file.as_fd();
        check(file, len)?;
        // SAFETY: points 1 and 2 of the head.
        let map = Placed::new(len, |options| unsafe { options.map_mut(file.as_raw_fd()) })?;
        Ok(OwnMap(Some(Protected::Writable(map))))
    }

    pub(in crate::process) fn len(&self) -> usize {
        match &self.0 {
            Some(Protected::Writable(map)) => map.len,
            Some(Protected::ReadOnly(map)) => map.len,
            None => 0,
        }
    }

    /// Its bytes, writable.
    pub(in crate::process) fn bytes(&mut self) -> io::Result<&mut [u8]> {
        let map = match self.0.take().ok_or_else(lost)? {
            Protected::Writable(map) => map,
            Protected::ReadOnly(map) => map.with(Mmap::make_mut)?,
        };
        match self.0.insert(Protected::Writable(map)) {
            Protected::Writable(map) => Ok(&mut map.map[map.skip..map.skip + map.len]),
            Protected::ReadOnly(_) => Err(lost()),
        }
    }

    /// From here on a write to it is a fault.
    pub(in crate::process) fn protect(&mut self) -> io::Result<()> {
        let map = match self.0.take().ok_or_else(lost)? {
            Protected::Writable(map) => map.with(MmapMut::make_read_only)?,
            Protected::ReadOnly(map) => map,
        };
        self.0 = Some(Protected::ReadOnly(map));
        Ok(())
    }

    /// Lets these bytes, a huge page's worth that is mapped, be one huge page. They stay as they are.
    ///
    /// # Errors
    /// Where the system has no huge page to give, does not know of this (before Linux 6.1), or the map's address is
    /// not one for it.
    pub(in crate::process) fn give_huge_page(&mut self, at: usize) -> io::Result<()> {
        /// `MADV_COLLAPSE`, the same on every architecture; the C libraries' headers do not all have it.
        const COLLAPSE: libc::c_int = 25;
        let bytes = &mut self.bytes()?[at..at + HUGE];
        // One without any memory is not considered.
        bytes[0] = std::hint::black_box(bytes[0]);
        // SAFETY: the range is a mapped one, borrowed from its owner. What it holds stays the same: only the pages
        // that hold it are others.
        match unsafe { libc::madvise(bytes.as_mut_ptr().cast(), HUGE, COLLAPSE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn lost() -> io::Error {
    io::Error::other("the map's protection could not be changed before")
}

/// A page with the number of the call that a worker has begun.
#[derive(Debug)]
pub(in crate::process) struct ControlPage(MmapMut);

impl ControlPage {
    /// The file of a new page.
    pub(in crate::process) fn file() -> io::Result<OwnedFd> {
        shared_file("multicore-control", PAGE)
    }

    pub(in crate::process) fn new(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        check(file, PAGE)?;
        // SAFETY: points 1 and 4 of the head; no slice is ever made of it.
        let map = unsafe { MmapOptions::new().offset(HEAD as u64).len(PAGE).map_mut(file.as_raw_fd())? };
        Ok(ControlPage(map))
    }

    fn number(&self) -> &AtomicU64 {
        let number = self.0.as_ptr().cast_mut().cast::<u64>();
        // SAFETY: mapped for writing for as long as `self` lives, aligned as a page is, and only ever used as
        // an atomic, by both processes.
        unsafe { AtomicU64::from_ptr(number) }
    }

    /// Notes that a call has begun.
    pub(in crate::process) fn begin(&self, call: u64) {
        self.number().store(call, Ordering::Release);
    }

    /// The last call that has begun.
    pub(in crate::process) fn begun(&self) -> u64 {
        self.number().load(Ordering::Acquire)
    }
}

/// Closes every descriptor above the standard three but `keep`: what the server's libraries did not mark as
/// not to be inherited, such as a listening socket, would otherwise live on here.
///
/// # Errors
/// Where `/proc/self/fd` cannot be read.
pub(in crate::process) fn close_inherited(keep: BorrowedFd<'_>) -> io::Result<()> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) {
            open.push(number);
        }
    }
    // The folder's own descriptor was among them and is closed by now; closing it again fails and does no harm,
    // as nothing was opened since.
    for number in open {
        if number > 2 && number != keep.as_raw_fd() && !is_close_on_exec(number) {
            // SAFETY: called first in a worker's life: what is open without the mark that Rust's own descriptors
            // all have was inherited, and belongs to nobody in this process.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// Descriptors that this process has opened by itself carry the mark; inherited ones cannot have it.
fn is_close_on_exec(number: i32) -> bool {
    // SAFETY: not used beyond this call, and nothing else runs that could close it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    match rustix::io::fcntl_getfd(borrowed) {
        Ok(flags) => flags.contains(rustix::io::FdFlags::CLOEXEC),
        // Closed by now.
        Err(_) => true,
    }
}

/// What a worker is sent at its server's death: a signal that no program has a use for.
#[cfg(not(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "sparc",
    target_arch = "sparc64"
)))]
const PARENT_IS_GONE: Signal = Signal::STKFLT;
/// The nearest where that one does not exist.
#[cfg(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc", target_arch = "sparc64"))]
const PARENT_IS_GONE: Signal = Signal::POWER;

/// From here on the death of the thread that started this process ends it at once, and with it all of its process
/// group: what tasks have started. `SIGKILL` as the signal would leave those behind.
///
/// A task's code that handles or blocks this signal puts that off: the process then ends with its socket, once the
/// task is over.
///
/// # Errors
/// What the system says.
pub(in crate::process) fn end_with_parent() -> io::Result<()> {
    let own = getpid();
    let end = move || {
        // Where it leads no group, it goes alone.
        let _gone = kill_process_group(own, Signal::KILL);
        let _gone = kill_process(own, Signal::KILL);
    };
    // SAFETY: what a handler may do is what is safe in the middle of anything, and `kill` is: it takes no lock,
    // allocates nothing, cannot panic, and here does not return.
    unsafe { signal_hook_registry::register(PARENT_IS_GONE.as_raw(), end)? };
    Ok(set_parent_process_death_signal(Some(PARENT_IS_GONE))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_long_as_they_were_made() {
        let file = shared_file("test", 1).unwrap();
        for len in [1, 4_096, HUGE - 1, HUGE, HUGE + 1, 2 * HUGE, 9 * HUGE + 7] {
            lengthen(&file, len).unwrap();
            assert_eq!(length(&file).unwrap(), len as u64);
            assert_eq!(length(shared_file("test", len).unwrap()).unwrap(), len as u64);
        }
    }

    #[test]
    fn long_maps_are_where_huge_pages_can_be() {
        let file = shared_file("test", 3 * HUGE).unwrap();
        // Another test may take the place of one.
        let mut maps = (0..100).map(|_| ReadMap::new(&file, 3 * HUGE).unwrap());
        assert!(maps.any(|map| map.bytes().as_ptr().addr().is_multiple_of(HUGE)));
    }

    #[test]
    fn a_file_that_could_shrink_or_is_too_short_is_not_mapped() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 100).unwrap();
        assert!(ReadMap::new(&file, 100).unwrap_err().to_string().contains("not sealed"));
        let file = shared_file("test", 100).unwrap();
        let error = ReadMap::new(&file, 101).unwrap_err().to_string();
        assert_eq!(error, "the shared file has 100 bytes, not 101");
        assert!(ReadMap::new(&file, 0).is_err());
        assert!(ftruncate(&file, 99).is_err(), "sealed");
        assert!(fcntl_add_seals(&file, SealFlags::WRITE).is_err(), "no further seals");
    }

    #[test]
    fn both_sides_of_a_control_page_see_the_number() {
        let file = ControlPage::file().unwrap();
        let (worker, server) = (ControlPage::new(&file).unwrap(), ControlPage::new(&file).unwrap());
        assert_eq!(server.begun(), 0);
        worker.begin(7);
        assert_eq!(server.begun(), 7);
    }
}
