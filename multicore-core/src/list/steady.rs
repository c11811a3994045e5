//! Whether the database stands still between pages: the snapshot that was seen last, and whether it was
//! the one before it too. While it does, readers can be told which snapshot to expect, which costs nothing
//! per row; when somebody writes, that costs one try in vain. And which session the readers of a shared snapshot are
//! to be in, which hardly ever changes.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::admission::policy::Nanos;

/// For so many shared snapshots after readers were in another session than expected, or did not say, none is
/// expected.
const TOLD_FOR: u32 = 64;

/// The snapshot of the last page, for all of a pool's queries: who writes anywhere in the server moves it. And the
/// session of the last one that was shared. Zero stands for none.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    last: AtomicI64,
    expected: AtomicI64,
    session: AtomicI64,
    /// So many shared snapshots more are told with their session.
    told: AtomicU32,
    /// What it took to share the last one, in nanoseconds.
    took: AtomicU64,
}

impl Steady {
    /// The snapshot that readers will probably see.
    pub(super) fn expected(&self) -> Option<i64> {
        Some(self.expected.load(Ordering::Relaxed)).filter(|&snapshot| snapshot != 0)
    }

    /// A page saw this snapshot.
    pub(super) fn saw(&self, snapshot: i64) {
        let before = self.last.swap(snapshot, Ordering::Relaxed);
        self.expected.store(if before == snapshot { snapshot } else { 0 }, Ordering::Relaxed);
    }

    /// Readers saw another snapshot than they were told to expect.
    pub(super) fn moved(&self) {
        self.expected.store(0, Ordering::Relaxed);
    }

    /// The session that readers of a shared snapshot will probably be in.
    pub(super) fn session(&self) -> Option<i64> {
        Some(self.session.load(Ordering::Relaxed)).filter(|&session| session != 0)
    }

    /// What it took to share the last snapshot; nothing, if none was.
    pub(super) fn took(&self) -> Nanos {
        self.took.load(Ordering::Relaxed)
    }

    pub(super) fn learn_took(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let old = self.took();
        // One that was held up says nothing.
        let took = if old == 0 { took } else { took.clamp(old / 2, old.saturating_mul(2)) };
        self.took.store(took, Ordering::Relaxed);
    }

    /// A shared snapshot was told with its session.
    pub(super) fn told(&self, session: i64) {
        // Two at once may count as one.
        let left = self.told.load(Ordering::Relaxed);
        if left > 0 {
            self.told.store(left - 1, Ordering::Relaxed);
        } else {
            self.session.store(session, Ordering::Relaxed);
        }
    }

    /// Readers were in another session than expected, or had no rows to say so.
    pub(super) fn strayed(&self) {
        self.told.store(TOLD_FOR, Ordering::Relaxed);
        self.session.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_expected_once_two_pages_have_seen_it_and_until_it_moves() {
        let steady = Steady::default();
        for (saw, expected) in [(7, None), (8, None), (8, Some(8)), (8, Some(8)), (9, None), (9, Some(9))] {
            steady.saw(saw);
            assert_eq!(steady.expected(), expected, "{saw}");
        }
        steady.moved();
        assert_eq!(steady.expected(), None);
        // Seen once more it stands still again: what moved was another reader's.
        steady.saw(9);
        assert_eq!(steady.expected(), Some(9));
    }

    #[test]
    fn a_session_is_expected_once_it_was_told_and_for_a_while_not_after_readers_were_in_another() {
        let steady = Steady::default();
        assert_eq!(steady.session(), None);
        steady.told(5);
        assert_eq!(steady.session(), Some(5));
        steady.strayed();
        for _ in 0..TOLD_FOR {
            assert_eq!(steady.session(), None);
            steady.told(6);
        }
        steady.told(6);
        assert_eq!(steady.session(), Some(6));
    }
}
