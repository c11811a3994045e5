//! Whether the database stands still between pages: the snapshot that was seen last, and whether it was
//! the one before it too. While it does, readers can be told which snapshot to expect, which costs nothing
//! per row; when somebody writes, that costs one try in vain.

use std::sync::atomic::{AtomicI64, Ordering};

/// The snapshot of the last page, for all of a pool's queries: who writes anywhere in the server moves it.
/// Zero stands for none.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    last: AtomicI64,
    expected: AtomicI64,
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
}
