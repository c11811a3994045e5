//! Round robin: a core is a thread's for three milliseconds if it wants it that long, whoever wakes up
//! waits behind all others. Rough on those who woke up, and so on a library that counts on getting cores
//! back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::admission::policy::Nanos;

const SLICE: Nanos = 3_000_000;

#[derive(Clone, Debug, Default)]
struct CoreState {
    thread: Option<usize>,
    since: Nanos,
    slice_ends: Nanos,
    /// Which of the events of this core counts.
    time: u32,
}

#[derive(Debug)]
pub(crate) struct RoundRobin {
    now: Nanos,
    cores: Vec<CoreState>,
    free: Vec<usize>,
    /// Threads that wait for a core.
    ready: VecDeque<usize>,
    left: Vec<Nanos>,
    on: Vec<Option<usize>>,
    events: BinaryHeap<Reverse<(Nanos, u32, usize)>>,
    /// Threads of others, which come after those of this program and always want a core.
    first_external: usize,
    external: usize,
    /// Those that are not there.
    away: Vec<usize>,
    /// How many that should leave are still there.
    leaving: usize,
}

impl RoundRobin {
    /// For `threads` of this program, and up to `external` others.
    pub(crate) fn new(cores: usize, threads: usize, external: usize) -> Self {
        RoundRobin {
            now: 0,
            cores: vec![CoreState::default(); cores],
            free: (0..cores).rev().collect(),
            ready: VecDeque::new(),
            left: vec![0; threads + external],
            on: vec![None; threads + external],
            events: BinaryHeap::new(),
            first_external: threads,
            external: 0,
            away: (threads..threads + external).collect(),
            leaving: 0,
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn runnable(&self) -> usize {
        self.cores.len() - self.free.len() + self.ready.len()
    }

    pub(crate) fn set_external(&mut self, threads: usize) {
        let had = std::mem::replace(&mut self.external, threads);
        self.leaving += had.saturating_sub(threads);
        for _ in had..threads {
            // One that has not left yet stays.
            if self.leaving > 0 {
                self.leaving -= 1;
            } else if let Some(thread) = self.away.pop() {
                self.start(thread, Nanos::MAX / 4);
            }
        }
    }

    /// Whether this is a thread of others that should not be there any more; then it is gone.
    fn leaves(&mut self, thread: usize) -> bool {
        let leaves = thread >= self.first_external && self.leaving > 0;
        if leaves {
            self.leaving -= 1;
            self.away.push(thread);
        }
        leaves
    }

    fn drop_stale(&mut self) {
        while let Some(&Reverse((_, time, core))) = self.events.peek() {
            if self.cores[core].time == time {
                break;
            }
            self.events.pop();
        }
    }

    pub(crate) fn next_at(&mut self) -> Option<Nanos> {
        self.drop_stale();
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn advance(&mut self, to: Nanos) {
        self.now = to;
    }

    pub(crate) fn done(&mut self) -> Option<usize> {
        loop {
            self.drop_stale();
            let &Reverse((at, _, core)) = self.events.peek()?;
            if at > self.now {
                return None;
            }
            self.events.pop();
            let thread = self.cores[core].thread?;
            self.settle(core, thread);
            if self.left[thread] == 0 {
                return Some(thread);
            }
            // The slice is over.
            if self.leaves(thread) {
                self.vacate(core);
            } else if self.ready.is_empty() {
                self.cores[core].slice_ends = self.now + SLICE;
                self.schedule(core, thread);
            } else {
                self.ready.push_back(thread);
                self.vacate(core);
            }
        }
    }

    /// Books what the thread on this core has done.
    fn settle(&mut self, core: usize, thread: usize) {
        let ran = self.now - self.cores[core].since;
        self.left[thread] = self.left[thread].saturating_sub(ran);
        self.cores[core].since = self.now;
    }

    fn schedule(&mut self, core: usize, thread: usize) {
        let state = &mut self.cores[core];
        state.since = self.now;
        state.time = state.time.wrapping_add(1);
        let at = (self.now + self.left[thread]).min(state.slice_ends);
        self.events.push(Reverse((at, state.time, core)));
    }

    fn put(&mut self, core: usize, thread: usize) {
        self.cores[core].thread = Some(thread);
        self.cores[core].slice_ends = self.now + SLICE;
        self.on[thread] = Some(core);
        self.schedule(core, thread);
    }

    /// The core's thread leaves; who waits longest gets it.
    fn vacate(&mut self, core: usize) {
        if let Some(thread) = self.cores[core].thread.take() {
            self.on[thread] = None;
        }
        self.cores[core].time = self.cores[core].time.wrapping_add(1);
        while let Some(next) = self.ready.pop_front() {
            if !self.leaves(next) {
                return self.put(core, next);
            }
        }
        self.free.push(core);
    }

    pub(crate) fn start(&mut self, thread: usize, work: Nanos) {
        self.left[thread] = work;
        match self.free.pop() {
            Some(core) => self.put(core, thread),
            None => self.ready.push_back(thread),
        }
    }

    pub(crate) fn resume(&mut self, thread: usize, work: Nanos, gives_way: bool) {
        self.left[thread] = work;
        let Some(core) = self.on[thread] else { return };
        let over = gives_way || self.cores[core].slice_ends <= self.now;
        if over && !self.ready.is_empty() {
            self.ready.push_back(thread);
            self.vacate(core);
        } else {
            if over {
                self.cores[core].slice_ends = self.now + SLICE;
            }
            self.schedule(core, thread);
        }
    }

    pub(crate) fn block(&mut self, thread: usize) {
        if let Some(core) = self.on[thread] {
            self.vacate(core);
        }
    }

    pub(crate) fn replace(&mut self, thread: usize, work: Nanos) {
        self.left[thread] = work;
        if let Some(core) = self.on[thread] {
            self.schedule(core, thread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn run(os: &mut RoundRobin) -> Vec<(Nanos, usize)> {
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
    fn threads_take_turns_of_three_milliseconds() {
        let mut os = RoundRobin::new(1, 2, 0);
        os.start(0, 4 * MS);
        os.start(1, 4 * MS);
        assert_eq!(run(&mut os), [(7 * MS, 0), (8 * MS, 1)]);
    }

    #[test]
    fn who_wakes_up_waits_behind_all_others() {
        let mut os = RoundRobin::new(1, 3, 0);
        os.start(0, 6 * MS);
        os.start(1, 2 * MS);
        os.start(2, MS);
        assert_eq!(run(&mut os), [(5 * MS, 1), (6 * MS, 2), (9 * MS, 0)]);
    }

    #[test]
    fn who_gives_way_lets_the_next_one_run() {
        let mut os = RoundRobin::new(1, 2, 0);
        os.start(0, MS);
        os.start(1, MS);
        os.advance(MS);
        assert_eq!(os.done(), Some(0));
        assert!(os.has_waiting());
        os.resume(0, MS, true);
        assert_eq!(run(&mut os), [(2 * MS, 1), (3 * MS, 0)]);
    }

    #[test]
    fn threads_of_others_come_and_go() {
        let mut os = RoundRobin::new(1, 1, 1);
        os.set_external(1);
        os.start(0, 4 * MS);
        os.advance(3 * MS);
        assert_eq!(os.done(), None);
        os.set_external(0);
        os.advance(6 * MS);
        assert_eq!(os.done(), None);
        os.advance(7 * MS);
        assert_eq!(os.done(), Some(0));
    }
}
