//! The owner reads its items from a stream, working on them meanwhile.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::Owner;
use crate::admission::policy::{GRAIN_HIGH, GRAIN_LOW, Nanos};
use crate::db::{Database, Reading};
use crate::job::Work;

/// Below how many items that wait an owner of a shared job reads on, at the most.
const READ_AHEAD: usize = 512;
/// How much work an owner keeps its connection for while the pool has no other to give.
const LEND_MAX: Nanos = 2_000_000;
/// After how many items read without a pause the clock is asked.
const READ_CHECK: usize = 64;

impl<DB: Database, W: Work> Owner<'_, DB, W> {
    /// Reads all of `items`, working on them meanwhile. Returns when the last was read (some may still
    /// wait for `finish`), when a chunk failed (`finish` says how), or with the stream's own error;
    /// items read before that error come before it in order, so `finish` decides which one counts.
    pub(crate) async fn feed<S, E>(&mut self, items: Pin<&mut S>) -> Result<(), E>
    where
        S: Stream<Item = Result<W::Item, E>> + ?Sized,
    {
        if DB::COMPUTES_HERE && self.wants_turn() {
            self.take_turn().await;
        }
        let fed = self.feed_all(items).await;
        // What comes next may be a wait.
        self.turn = None;
        fed
    }

    async fn feed_all<S, E>(&mut self, mut items: Pin<&mut S>) -> Result<(), E>
    where
        S: Stream<Item = Result<W::Item, E>> + ?Sized,
    {
        // A route whose cost is known can call for help as soon as there are rows to help with.
        self.decide();
        while !self.failed() {
            let (low, high) = self.marks();
            let mut read = 0;
            while self.waiting() < if read == 0 { low } else { high } {
                let polled = poll_fn(|context| Poll::Ready(items.as_mut().poll_next(context))).await;
                let next = match polled {
                    Poll::Ready(next) => next,
                    Poll::Pending if self.waiting() > 0 => break,
                    Poll::Pending => {
                        self.turn = None;
                        let Some(next) = self.next_or_failure(items.as_mut()).await else { return Ok(()) };
                        self.held_since = Instant::now();
                        self.gave_way = false;
                        next
                    }
                };
                let Some(item) = next else {
                    self.unread = 0;
                    return Ok(());
                };
                self.accept(item?);
                read += 1;
                if read % READ_CHECK == 0 {
                    self.give_way(Instant::now()).await;
                }
                if self.failed() {
                    return Ok(());
                }
            }
            self.step().await;
        }
        Ok(())
    }

    /// Waits for the next item; none if a helper's chunk fails first.
    async fn next_or_failure<S: Stream + ?Sized>(&self, mut items: Pin<&mut S>) -> Option<Option<S::Item>> {
        let _waiting = (!DB::COMPUTES_HERE).then(|| self.owning.wait());
        poll_fn(|context| {
            if let Some(shared) = &self.shared
                && shared.job.chunks.poll_closed(context).is_ready()
            {
                return Poll::Ready(None);
            }
            items.as_mut().poll_next(context).map(Some)
        })
        .await
    }

    /// When the owner reads: with fewer items waiting than the first number, until the second or until
    /// the stream has none for the moment. Reading feeds everyone, so a shared job wants a chunk for
    /// each participant there is or could be. All at once when others may wait for the connection.
    fn marks(&self) -> (usize, usize) {
        let Some(cost) = self.cost else { return (1, 1) };
        if self.lends && reads_on(cost.of(self.items_left()), || DB::is_used_up(&self.core.source)) {
            return (usize::MAX, usize::MAX);
        }
        let Reading { batch, look_every } = self.pace;
        // Looked at before every chunk.
        if look_every < Duration::from_nanos(GRAIN_HIGH) {
            return (batch, batch);
        }
        match &self.shared {
            None => (1, batch),
            Some(shared) => {
                let hands = shared.job.participants() as u64 + 1;
                let low = cost.items_in(hands * GRAIN_HIGH).min(READ_AHEAD);
                (low, low + low.max(batch))
            }
        }
    }

    fn accept(&mut self, item: W::Item) {
        self.unread = self.unread.saturating_sub(1);
        self.private.push_back(item);
        let Some(cost) = self.cost else { return };
        if self.shared.is_some() && self.private.len() >= cost.items_in(GRAIN_LOW) {
            self.offer(None);
        }
    }
}

/// Whether an owner reads all its rows before it works on more of them, as others may be waiting for its
/// connection. Short work gives it back soon enough by itself, and does not look at what all cores write.
fn reads_on(left: Nanos, others_may_wait: impl FnOnce() -> bool) -> bool {
    left >= LEND_MAX && others_may_wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_on_when_the_pool_is_used_up_and_much_work_is_left() {
        for (used_up, left, want) in [
            (true, LEND_MAX, true),
            (true, LEND_MAX - 1, false),
            (false, Nanos::MAX, false),
            (true, Nanos::MAX, true),
        ] {
            assert_eq!(reads_on(left, || used_up), want, "{left} ns left, used up: {used_up}");
        }
        assert!(!reads_on(LEND_MAX - 1, || unreachable!("short work does not look at the pool")));
    }
}
