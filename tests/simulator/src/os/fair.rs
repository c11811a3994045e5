//! Fair sharing: everybody who can run does, all at the same speed, as the kernel's fair scheduler does
//! it over times that are longer than its slices. Knows siblings that share a core, and a CPU quota.
//!
//! One number says how much service everybody has had since the beginning; a thread is done when it
//! reaches the thread's own mark. So an event costs the same however many threads there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::admission::policy::Nanos;

/// Service is counted in parts of a nanosecond, so that rounding does not add up.
const PARTS: u64 = 1 << 10;

/// How many cores' worth of work `runnable` threads get done, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capacity {
    /// One each, up to so many.
    Cores(usize),
    /// So many cores with two siblings each: both together do 1.3 times what one does.
    Siblings(usize),
    /// All of so many, however few the threads: the ideal that splits work for nothing.
    All(usize),
}

impl Capacity {
    fn of(self, runnable: usize) -> u64 {
        let thousandths = match self {
            Capacity::Cores(cores) => 1_000 * runnable.min(cores),
            Capacity::Siblings(cores) => {
                let both = runnable.saturating_sub(cores).min(cores);
                1_000 * runnable.min(cores) + 300 * both
            }
            Capacity::All(cores) => 1_000 * cores,
        };
        thousandths as u64
    }
}

/// A CPU quota as the kernel's `cpu.max` sets it.
#[derive(Debug)]
struct Quota {
    /// Thousandths of core nanoseconds a period.
    limit: u128,
    period: Nanos,
    left: u128,
    ends: Nanos,
    throttled: u64,
    stopped: bool,
}

#[derive(Debug)]
pub(crate) struct Fair {
    capacity: Capacity,
    now: Nanos,
    /// Service everybody had so far.
    service: u64,
    /// At what service whose work is done; stale unless the number of times matches.
    marks: BinaryHeap<Reverse<(u64, u32, usize)>>,
    times: Vec<u32>,
    runnable: usize,
    external: usize,
    quota: Option<Quota>,
}

impl Fair {
    pub(crate) fn new(capacity: Capacity, threads: usize, quota: Option<(Nanos, Nanos)>) -> Self {
        let quota = quota.map(|(limit, period)| {
            let limit = u128::from(limit) * 1_000;
            Quota { limit, period, left: limit, ends: period, throttled: 0, stopped: false }
        });
        Fair {
            capacity,
            now: 0,
            service: 0,
            marks: BinaryHeap::new(),
            times: vec![0; threads],
            runnable: 0,
            external: 0,
            quota,
        }
    }

    pub(crate) fn throttled(&self) -> u64 {
        self.quota.as_ref().map_or(0, |quota| quota.throttled)
    }

    pub(crate) fn runnable(&self) -> usize {
        self.runnable + self.external
    }

    pub(crate) fn set_external(&mut self, threads: usize) {
        self.external = threads;
    }

    fn is_stopped(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.stopped)
    }

    /// What all threads get done in a nanosecond, in thousandths, and how many they are.
    fn rate(&self) -> (u64, u64) {
        let runnable = self.runnable + self.external;
        (self.capacity.of(runnable), runnable as u64)
    }

    fn drop_stale(&mut self) {
        while let Some(&Reverse((_, time, thread))) = self.marks.peek() {
            if self.times[thread] == time {
                break;
            }
            self.marks.pop();
        }
    }

    pub(crate) fn next_at(&mut self) -> Option<Nanos> {
        self.drop_stale();
        let mark = self.marks.peek().map(|Reverse((mark, ..))| *mark);
        let (rate, threads) = self.rate();
        let done = mark.filter(|_| !self.is_stopped()).map(|mark| {
            let missing = u128::from(mark.saturating_sub(self.service));
            let takes = (missing * 1_000 * u128::from(threads)).div_ceil(u128::from(rate * PARTS));
            self.now + takes as Nanos
        });
        let Some(quota) = &self.quota else { return done };
        mark?;
        let limit = if quota.stopped || rate == 0 {
            quota.ends
        } else {
            quota.ends.min(self.now + quota.left.div_ceil(u128::from(rate)) as Nanos)
        };
        Some(done.map_or(limit, |done| done.min(limit)))
    }

    pub(crate) fn advance(&mut self, to: Nanos) {
        let (rate, threads) = self.rate();
        let passed = u128::from(to - self.now);
        let stopped = self.is_stopped();
        self.now = to;
        if threads > 0 && !stopped {
            self.service += (passed * u128::from(rate * PARTS) / u128::from(1_000 * threads)) as u64;
        }
        if let Some(quota) = &mut self.quota {
            if !stopped {
                quota.left = quota.left.saturating_sub(passed * u128::from(rate));
            }
            if to >= quota.ends {
                quota.ends = to / quota.period * quota.period + quota.period;
                quota.left = quota.limit;
                quota.stopped = false;
            } else if quota.left == 0 && !stopped {
                quota.stopped = true;
                quota.throttled += 1;
            }
        }
    }

    pub(crate) fn done(&mut self) -> Option<usize> {
        self.drop_stale();
        let &Reverse((mark, _, thread)) = self.marks.peek()?;
        if mark > self.service || self.is_stopped() {
            return None;
        }
        self.marks.pop();
        Some(thread)
    }

    fn mark(&mut self, thread: usize, work: Nanos) {
        self.times[thread] = self.times[thread].wrapping_add(1);
        self.marks.push(Reverse((self.service + work * PARTS, self.times[thread], thread)));
    }

    pub(crate) fn start(&mut self, thread: usize, work: Nanos) {
        self.runnable += 1;
        self.mark(thread, work);
    }

    pub(crate) fn resume(&mut self, thread: usize, work: Nanos, _gives_way: bool) {
        self.mark(thread, work);
    }

    pub(crate) fn block(&mut self, _thread: usize) {
        self.runnable -= 1;
    }

    pub(crate) fn replace(&mut self, thread: usize, work: Nanos) {
        self.mark(thread, work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(os: &mut Fair) -> Vec<(Nanos, usize)> {
        let mut done = Vec::new();
        while let Some(at) = os.next_at() {
            os.advance(at);
            while let Some(thread) = os.done() {
                os.block(thread);
                done.push((at, thread));
            }
        }
        done
    }

    #[test]
    fn threads_have_a_core_each_while_there_are_enough_and_equal_shares_after() {
        let mut os = Fair::new(Capacity::Cores(2), 3, None);
        os.start(0, 1_000);
        os.start(1, 2_000);
        assert_eq!(run(&mut os), [(1_000, 0), (2_000, 1)]);
        let mut os = Fair::new(Capacity::Cores(2), 3, None);
        for thread in 0..3 {
            os.start(thread, 1_000);
        }
        assert_eq!(run(&mut os).last(), Some(&(1_500, 2)));
    }

    #[test]
    fn threads_of_others_take_their_share() {
        let mut os = Fair::new(Capacity::Cores(1), 1, None);
        os.set_external(1);
        os.start(0, 1_000);
        assert_eq!(run(&mut os), [(2_000, 0)]);
    }

    #[test]
    fn siblings_do_a_third_more_than_one_thread() {
        let mut os = Fair::new(Capacity::Siblings(1), 2, None);
        os.start(0, 1_300);
        os.start(1, 1_300);
        assert_eq!(run(&mut os), [(2_000, 0), (2_000, 1)]);
    }

    #[test]
    fn a_used_up_quota_stops_everybody_until_the_period_ends() {
        let mut os = Fair::new(Capacity::Cores(4), 4, Some((2_000, 1_000)));
        for thread in 0..4 {
            os.start(thread, 700);
        }
        assert_eq!(run(&mut os)[0].0, 1_200, "500 in the first period, 200 in the second");
        assert_eq!(os.throttled(), 1);
    }

    #[test]
    fn the_ideal_gives_all_cores_to_one_thread() {
        let mut os = Fair::new(Capacity::All(4), 2, None);
        os.start(0, 1_000);
        assert_eq!(run(&mut os), [(250, 0)]);
    }
}
