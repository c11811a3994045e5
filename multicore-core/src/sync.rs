//! The synchronisation primitives of the shared parts (`job::chunks`, `job::registry`, and what hands channels and
//! calls over in `process::server`): the standard library's, or loom's under `--cfg multicore_loom`, so that the
//! model checker runs the production code. Nothing else in the crate belongs here.

#[cfg(multicore_loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

#[cfg(not(multicore_loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(multicore_loom)]
pub(crate) mod atomic {
    #[cfg(all(target_os = "linux", feature = "process"))]
    pub(crate) use loom::sync::atomic::AtomicU8;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
}

#[cfg(not(multicore_loom))]
pub(crate) mod atomic {
    #[cfg(all(target_os = "linux", feature = "process"))]
    pub(crate) use std::sync::atomic::AtomicU8;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
}

/// Locks, ignoring poison: no user code runs under these locks, and every critical section leaves
/// the state valid at each step, so a panic inside one has nothing half-done to protect others from.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Stays on the core until `ready` or for about `limit`, letting other threads that want it run.
#[cfg(not(multicore_loom))]
pub(crate) fn spin_until(limit: std::time::Duration, ready: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !ready() && start.elapsed() < limit {
        std::thread::yield_now();
    }
}

/// Under loom the time is up at any moment: both outcomes are explored.
#[cfg(multicore_loom)]
pub(crate) fn spin_until(_limit: std::time::Duration, ready: impl Fn() -> bool) {
    if !ready() {
        loom::thread::yield_now();
    }
}
