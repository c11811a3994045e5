//! A worker's place in the pool, which lasts through all processes that take it: its number, its name, and how
//! its thread is woken.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

pub(super) struct Place {
    pub(super) index: usize,
    pub(super) name: String,
    /// Readable once it is woken.
    pub(super) wakeup: OwnedFd,
}

impl Place {
    pub(super) fn new(index: usize, name: String) -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Place { index, name, wakeup })
    }

    pub(super) fn wake(&self) {
        // Fails only where it has been woken 2^64 times and not looked.
        let _awake = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
    }

    /// Until it is woken again.
    pub(super) fn sleep(&self) {
        let _count = rustix::io::read(&self.wakeup, &mut [0; 8]);
    }
}
