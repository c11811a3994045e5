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
//!    to the file, through no map at all ([`WriteMap::append`]): what it has mapped of it is protected the same.
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
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapMut, MmapOptions, RemapOptions, UncheckedAdvice};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
    memfd_create,
};
use rustix::process::{Signal, getpid, kill_process, kill_process_group, set_parent_process_death_signal};

const PAGE: usize = 4_096;

/// A file in memory of `len` bytes that can grow and not shrink.
pub(in crate::process) fn shared_file(name: &str, len: usize) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, len as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// How long the file is.
pub(in crate::process) fn length(file: impl AsFd) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}

/// Gives the memory of a file that nobody needs any more back to the system, whoever still has it: it is as long
/// as before, and zero.
pub(in crate::process) fn empty(file: impl AsFd) {
    let Ok(len @ 1..) = length(&file) else { return };
    // Where the system does not do it, the memory goes with the last who has the file.
    let (how, pages) =
        (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, len.next_multiple_of(PAGE as u64));
    let _done = fallocate(&file, how, 0, pages);
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

/// A map to read from.
#[derive(Debug)]
pub(in crate::process) struct ReadMap(Mmap);

impl ReadMap {
    /// The first `len` bytes of a sealed file.
    pub(in crate::process) fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        let file = file.as_fd();
        check(file, len)?;
        // SAFETY: points 1 and 2 of the head.
        let map = unsafe { MmapOptions::new().len(len).map(file.as_raw_fd())? };
        Ok(ReadMap(map))
    }

    pub(in crate::process) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As [`empty`], as far as it is mapped, where the file is not at hand.
    pub(in crate::process) fn empty(self) {
        // Where the system does not do it, the memory goes with the last who has the file.
        let Ok(map) = self.0.make_mut() else { return };
        // SAFETY: it changes bytes that nobody reads any more: nobody has a slice of what is owned here, and the map
        // is not lent again (point 2 of the head).
        let _done = unsafe { map.unchecked_advise(UncheckedAdvice::Remove) };
    }
}

/// A map to write to, which can be made read-only and writable again.
#[derive(Debug)]
pub(in crate::process) struct WriteMap {
    file: OwnedFd,
    /// How much of the file was written to since this map knows it; beyond it has no pages yet.
    used: usize,
    /// How long the file is: as long as the map, or longer.
    long: usize,
    /// How long the server knows it to be.
    told: usize,
    /// None while its protection is changed, and after that failed.
    map: Option<Protected>,
}

#[derive(Debug)]
enum Protected {
    Writable(MmapMut),
    ReadOnly(Mmap),
}

impl WriteMap {
    /// All of a sealed file.
    pub(in crate::process) fn new(file: OwnedFd) -> io::Result<Self> {
        let len = usize::try_from(length(&file)?).map_err(io::Error::other)?;
        check(file.as_fd(), len)?;
        // SAFETY: points 1 and 2 of the head.
        let map = unsafe { MmapOptions::new().len(len).map_mut(file.as_raw_fd())? };
        Ok(WriteMap { file, used: 0, long: len, told: len, map: Some(Protected::Writable(map)) })
    }

    pub(in crate::process) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file, if it has become longer than the server knows, who is told now.
    pub(in crate::process) fn grown(&mut self) -> Option<BorrowedFd<'_>> {
        let told = std::mem::replace(&mut self.told, self.long);
        (told < self.long).then(|| self.file.as_fd())
    }

    pub(in crate::process) fn len(&self) -> usize {
        match &self.map {
            Some(Protected::Writable(map)) => map.len(),
            Some(Protected::ReadOnly(map)) => map.len(),
            None => 0,
        }
    }

    /// Its bytes, writable.
    pub(in crate::process) fn bytes(&mut self) -> io::Result<&mut [u8]> {
        Ok(self.writable()?)
    }

    fn writable(&mut self) -> io::Result<&mut MmapMut> {
        let map = match self.map.take().ok_or_else(lost)? {
            Protected::Writable(map) => map,
            Protected::ReadOnly(map) => map.make_mut()?,
        };
        match self.map.insert(Protected::Writable(map)) {
            Protected::Writable(map) => Ok(map),
            Protected::ReadOnly(_) => Err(lost()),
        }
    }

    /// Lets the file and the map grow to `len` bytes.
    pub(in crate::process) fn grow(&mut self, len: usize) -> io::Result<()> {
        if len <= self.len() {
            return Ok(());
        }
        if len > self.long {
            ftruncate(&self.file, len as u64)?;
            self.long = len;
        }
        let map = self.writable()?;
        // SAFETY: the file is as long, and cannot shrink. The borrow says that nobody holds a slice.
        unsafe { map.remap(len, RemapOptions::new().may_move(true)) }
    }

    /// Whether nothing was written at this place and beyond.
    pub(in crate::process) fn is_new_at(&self, at: usize) -> bool {
        at >= self.used
    }

    /// Copies bytes into the map, which reaches as far.
    pub(in crate::process) fn put(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let end = at + bytes.len();
        self.bytes()?[at..end].copy_from_slice(bytes);
        self.used = self.used.max(end);
        Ok(())
    }

    /// Writes bytes to the file, which grows; the map stays as it is. It is the system that writes, so the map's
    /// protection does not matter.
    pub(in crate::process) fn append(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let end = at + bytes.len();
            match rustix::io::pwrite(&self.file, left, (end - left.len()) as u64) {
                Ok(some) => left = &left[some..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.used = at + bytes.len();
        self.long = self.long.max(self.used);
        Ok(())
    }

    /// From here on a write to it is a fault.
    pub(in crate::process) fn protect(&mut self) -> io::Result<()> {
        let map = match self.map.take().ok_or_else(lost)? {
            Protected::Writable(map) => map.make_read_only()?,
            Protected::ReadOnly(map) => map,
        };
        self.map = Some(Protected::ReadOnly(map));
        Ok(())
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
        let map = unsafe { MmapOptions::new().len(PAGE).map_mut(file.as_raw_fd())? };
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
    fn what_is_emptied_is_gone_and_the_file_as_long() {
        let mut write = WriteMap::new(shared_file("test", 10 * PAGE).unwrap()).unwrap();
        write.put(&[7; 9 * PAGE], 0).unwrap();
        ReadMap::new(write.file(), 8 * PAGE).unwrap().empty();
        let bytes = ReadMap::new(write.file(), 10 * PAGE).unwrap();
        assert!(bytes.bytes()[..8 * PAGE].iter().all(|byte| *byte == 0));
        assert_eq!(bytes.bytes()[8 * PAGE], 7, "beyond the map");
    }

    #[test]
    fn a_file_that_has_grown_is_told_of_once() {
        let mut write = WriteMap::new(shared_file("test", PAGE).unwrap()).unwrap();
        assert!(write.grown().is_none());
        write.grow(2 * PAGE).unwrap();
        assert!(write.grown().is_some() && write.grown().is_none());
        write.append(&[1; PAGE], PAGE).unwrap();
        assert!(write.grown().is_none(), "within the file");
        write.append(&[1; PAGE], 2 * PAGE).unwrap();
        assert!(write.grown().is_some() && write.grown().is_none());
    }

    #[test]
    fn what_is_written_is_read_and_what_is_handed_over_stays_when_the_file_grows() {
        let mut write = WriteMap::new(shared_file("test", PAGE).unwrap()).unwrap();
        write.bytes().unwrap()[..5].copy_from_slice(b"hello");
        write.protect().unwrap();
        let read = ReadMap::new(write.file(), 5).unwrap();
        assert_eq!(read.bytes(), b"hello");
        write.grow(10 * PAGE).unwrap();
        assert_eq!(write.len(), 10 * PAGE);
        assert_eq!(read.bytes(), b"hello");
        write.bytes().unwrap()[10 * PAGE - 1] = 7;
        assert_eq!(ReadMap::new(write.file(), 10 * PAGE).unwrap().bytes()[10 * PAGE - 1], 7);
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
