//! Stopping the readers of a page that step their statements themselves: nobody can drop what is inside a
//! step, so it looks at a flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::db::Guard;

/// The flags of the connections that are read from now. Once it has let go of a connection, its flag is down
/// and stays down: a stop that comes late meets no other statement.
#[derive(Default)]
pub(super) struct Stops {
    stopped: AtomicBool,
    flags: Mutex<Vec<Arc<AtomicBool>>>,
}

/// A connection's flag among those that are raised; taken out when dropped.
pub(super) struct Entered<'s> {
    stops: &'s Stops,
    flag: Option<Arc<AtomicBool>>,
}

impl Stops {
    fn flags(&self) -> MutexGuard<'_, Vec<Arc<AtomicBool>>> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Stops those that have entered, and those to come.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        for flag in &*self.flags() {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// From now on a stop also reaches the statements of this guard's connection.
    pub(super) fn enter(&self, guard: &Guard) -> Entered<'_> {
        let flag = match guard {
            Guard::Flag(flag) => {
                let flag = Arc::clone(flag);
                let mut flags = self.flags();
                flags.push(Arc::clone(&flag));
                if self.is_stopped() {
                    flag.store(true, Ordering::Relaxed);
                }
                Some(flag)
            }
            _ => None,
        };
        Entered { stops: self, flag }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let Some(flag) = &self.flag else { return };
        // Under the lock, so that nobody raises it afterwards.
        let mut flags = self.stops.flags();
        flags.retain(|other| !Arc::ptr_eq(other, flag));
        flag.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_reaches_those_inside_and_nobody_after_they_left() {
        let stops = Stops::default();
        let (one, other) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let raised = || [&one, &other].map(|flag| flag.load(Ordering::Relaxed));
        let inside = stops.enter(&Guard::Flag(Arc::clone(&one)));
        drop(stops.enter(&Guard::Flag(Arc::clone(&other))));
        stops.stop();
        assert_eq!((raised(), stops.is_stopped()), ([true, false], true));
        drop(inside);
        assert_eq!(raised(), [false, false]);
        stops.stop();
        assert_eq!(raised(), [false, false]);
        let late = stops.enter(&Guard::Flag(Arc::clone(&other)));
        assert_eq!(raised(), [false, true]);
        drop(late);
        assert_eq!(raised(), [false, false]);
    }
}
