//! A worker's place in the pool, which lasts through all processes that take it: its number, its name, and how
//! its thread is woken.

use std::io;

pub(super) use self::wakeup::Wakeup;

pub(super) struct Place {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) wakeup: Wakeup,
}

impl Place {
    pub(super) fn new(index: usize, name: String) -> io::Result<Self> {
        Ok(Place { index, name, wakeup: Wakeup::new()? })
    }

    pub(super) fn wake(&self) {
        self.wakeup.wake();
    }

    /// Until it is woken again.
    pub(super) fn sleep(&self) {
        self.wakeup.take();
    }
}

#[cfg(not(multicore_loom))]
mod wakeup {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};

    /// Readable once it is woken.
    pub(in super::super) struct Wakeup(OwnedFd);

    impl Wakeup {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Wakeup(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
        }

        pub(super) fn wake(&self) {
            // Fails only where it has been woken 2^64 times and not looked.
            let _awake = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }

        pub(super) fn take(&self) {
            let _count = rustix::io::read(&self.0, &mut [0; 8]);
        }
    }

    impl AsFd for Wakeup {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// What an event counter and `epoll` are to the thread, for the model checker.
#[cfg(multicore_loom)]
mod wakeup {
    use std::io;

    use crate::sync::{Condvar, Mutex, lock};

    #[derive(Default)]
    struct Signals {
        woken: bool,
        ended: bool,
    }

    pub(in super::super) struct Wakeup(Mutex<Signals>, Condvar);

    impl Wakeup {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Wakeup(Mutex::new(Signals::default()), Condvar::new()))
        }

        pub(super) fn wake(&self) {
            lock(&self.0).woken = true;
            self.1.notify_one();
        }

        /// The process has ended.
        pub(in super::super) fn end(&self) {
            lock(&self.0).ended = true;
            self.1.notify_one();
        }

        pub(super) fn take(&self) {
            lock(&self.0).woken = false;
        }

        /// Waits until it is woken, or the process has ended, which is told once.
        pub(in super::super) fn wait(&self) -> (bool, bool) {
            let mut signals = lock(&self.0);
            while !signals.woken && !signals.ended {
                signals = self.1.wait(signals).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            let Signals { woken, ended } = std::mem::take(&mut *signals);
            (woken, ended)
        }

        /// Whether it would wake now.
        pub(in super::super) fn is_set(&self) -> bool {
            lock(&self.0).woken
        }
    }
}
