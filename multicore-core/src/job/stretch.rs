//! An uninterrupted stretch of an owner's work: bounded by the clock, so that neither a cold start nor a
//! cost that rises needs a special case. How long it may be is decided by the owner.

use std::time::{Duration, Instant};

use super::{Failure, Work, guarded};
use crate::admission::policy::Nanos;

/// Within a stretch of work the clock is asked about this often.
const CLOCK_EVERY: Nanos = 25_000;

/// Runs a stretch where it is, or with the async thread's other tasks handed to another thread.
pub(super) fn held<T>(in_place: bool, run: impl FnOnce() -> T) -> T {
    if in_place { tokio::task::block_in_place(run) } else { run() }
}

/// An uninterrupted stretch of work, ended by the clock.
pub(super) struct Stretch {
    limit: Duration,
    start: Instant,
    pub(super) now: Instant,
    pub(super) done: usize,
}

impl Stretch {
    pub(super) fn begin(limit: Nanos) -> Self {
        let start = Instant::now();
        Stretch { limit: Duration::from_nanos(limit), start, now: start, done: 0 }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Works on items until none is left or the time is up, at least on one.
    pub(super) fn run<W: Work>(
        &mut self,
        work: &W,
        items: &mut impl Iterator<Item = W::Item>,
        out: &mut W::Out,
    ) -> Result<(), Failure<W::Error>> {
        let result = guarded(|| {
            let mut check = 1;
            for item in items.by_ref() {
                work.add(item, out)?;
                self.done += 1;
                if self.done >= check {
                    self.now = Instant::now();
                    let elapsed = self.elapsed();
                    if elapsed >= self.limit {
                        return Ok(());
                    }
                    check = self.done + next_check(self.done, elapsed);
                }
            }
            Ok(())
        });
        self.now = Instant::now();
        result
    }
}

/// After how many more items to ask the clock, `done` having taken `elapsed`: as many as take
/// `CLOCK_EVERY`, and never more than were done, so that a cost that rises is noticed.
fn next_check(done: usize, elapsed: Duration) -> usize {
    let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
    let stride = (done as u64).saturating_mul(CLOCK_EVERY) / elapsed;
    usize::try_from(stride).unwrap_or(usize::MAX).clamp(1, done.max(1))
}
