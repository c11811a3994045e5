//! A lock that the pool's control connection holds from when it is first wanted (PostgreSQL). While another session finds
//! it held, the server has not lost its memory since it was taken: a crash ends all sessions. Snapshots are numbered
//! by the server's memory, and after a crash that lost what was not on disk yet, their numbers may come again.
//!
//! Here is what is known of it; who asks for it is `read::from_place`.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

/// After it was refused it is asked for again when it was wanted so many times.
const ASK_AGAIN: u32 = 64;

/// The lock's number; zero while there is none.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    number: AtomicI64,
    asking: AtomicBool,
    rest: AtomicU32,
}

impl Hold {
    /// The number of the lock that is held, as far as is known.
    pub(super) fn number(&self) -> Option<i64> {
        Some(self.number.load(Ordering::Acquire)).filter(|number| *number != 0)
    }

    /// Whether the one who wants it now is to ask for it, and to say what came of it.
    pub(super) fn is_to_be_asked_for(&self) -> bool {
        let rest = |rest: u32| rest.checked_sub(1);
        let rests = self.rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok();
        !rests && !self.asking.swap(true, Ordering::Acquire)
    }

    /// The lock of this number is held now; or none is.
    pub(super) fn was_asked_for(&self, taken: Option<i64>) {
        match taken {
            Some(number) => self.number.store(number, Ordering::Release),
            None => self.rest.store(ASK_AGAIN, Ordering::Relaxed),
        }
        self.asking.store(false, Ordering::Release);
    }

    /// The lock of this number may be held no more.
    pub(super) fn is_in_doubt(&self, number: i64) {
        // Another one may have been taken by now.
        let _is_another = self.number.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_at_a_time_and_not_soon_again_after_it_was_refused() {
        let hold = Hold::default();
        assert_eq!(hold.number(), None);
        assert!(hold.is_to_be_asked_for() && !hold.is_to_be_asked_for());
        hold.was_asked_for(None);
        assert_eq!(hold.number(), None);
        assert!((0..ASK_AGAIN).all(|_| !hold.is_to_be_asked_for()));
        assert!(hold.is_to_be_asked_for());
        hold.was_asked_for(Some(7));
        assert_eq!(hold.number(), Some(7));
    }

    #[test]
    fn only_the_lock_that_is_in_doubt_is_given_up() {
        let hold = Hold::default();
        hold.was_asked_for(Some(7));
        hold.is_in_doubt(6);
        assert_eq!(hold.number(), Some(7));
        hold.is_in_doubt(7);
        assert_eq!(hold.number(), None);
        assert!(hold.is_to_be_asked_for());
    }
}
