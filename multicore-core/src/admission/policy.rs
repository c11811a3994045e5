//! The decisions of admission as pure functions over integer nanoseconds: no clocks, threads or
//! atomics, so that the pool and a simulator in virtual time run the same code. What the machine is
//! doing now is gathered in `load`, what work costs is estimated in `cost`. The simulator is
//! `tests/simulator`, which compiles this very file; what it showed is in `BENCHMARKS.md`.
//!
//! The policy in one paragraph: the owner of a job always works on it itself; idle workers may help;
//! help is worth calling when the work that is left pays for it eight times over; helpers leave within
//! one chunk when the cores are wanted elsewhere, and change to jobs with less left. So a request is
//! never slower than it would be alone by more than a chunk, and help costs nothing when there are no
//! idle cores.

/// Nanoseconds. Integers, so that a simulation gives the same answer everywhere.
pub(crate) type Nanos = u64;

/// Work must be worth this many times what sharing it costs. Eight was the smallest factor at which
/// no load and no quantile was slower than sequential beyond half a per cent, in simulation.
pub(crate) const PAY_OFF: u64 = 8;
/// For each helper after the first, so many times are enough: the owner waits for none of them, and in
/// simulation nothing was gained by more, at any load.
pub(crate) const PAY_OFF_MORE: u64 = 4;
/// The shortest chunk: below it, claiming and finishing show up in the total.
pub(crate) const GRAIN_LOW: Nanos = 50_000;
/// The longest chunk of a shared job: how long an owner may have to wait for its last helper.
pub(crate) const GRAIN_HIGH: Nanos = 200_000;
/// The longest chunk of an owner that works alone.
pub(crate) const GRAIN_MAX: Nanos = 1_000_000;
/// The longest a worker without work stays on its core.
pub(crate) const LINGER_MAX: Nanos = 50_000;
/// How long an owner holds its async thread while all async threads are busy: neighbours wait for it. Looked at
/// between chunks, so one who works alone holds it for up to `GRAIN_MAX`; to be as strict there took 3% of
/// PostgreSQL's throughput.
pub(crate) const HOLD_CROWDED: Nanos = 400_000;
/// The same where owners take turns: neighbours wait for some of these.
pub(crate) const HOLD_TURN: Nanos = 200_000;
/// How many owners take turns on one async thread. With one, a thread stood still whenever another had
/// both; a third makes neighbours wait longer and wins nothing.
pub(crate) const TURNS_A_THREAD: usize = 2;
/// How long while another async thread is parked, and so free to serve the neighbours.
pub(crate) const HOLD_SPARE: Nanos = 10_000_000;
/// How many workers one participant wakes at a time: wake-ups spread like a tree, and none of the
/// woken finds the work gone because a hundred others were woken first.
pub(crate) const WAKES_AT_ONCE: usize = 2;
/// What a wake-up is taken to cost before the first one was measured.
pub(crate) const WAKE_START: Nanos = 20_000;
/// The bounds a measured wake-up is held to: below, the clock's own cost shows; above, it was not the
/// wake-up but a busy machine, which `busy` already says.
pub(crate) const WAKE_BOUNDS: (Nanos, Nanos) = (2_000, 200_000);

/// What the machine is doing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Cores this process may use.
    pub(crate) cores: usize,
    /// Cores in use: by owners or async threads, and by workers.
    pub(crate) busy: usize,
    /// Those of them that workers use which help with jobs, or look for one to help with.
    pub(crate) helpers: usize,
    /// What a wake-up costs: the call, and the time until the woken thread runs.
    pub(crate) wake: Nanos,
    /// The 1-minute load average is above the configured limit, or the CPU quota was used up lately.
    pub(crate) veto: bool,
    /// An async thread is parked.
    pub(crate) spare_thread: bool,
}

impl Machine {
    /// Cores nobody uses.
    pub(crate) fn idle(self) -> usize {
        self.cores.saturating_sub(self.busy)
    }

    /// Whether nobody can come to help: no core is idle, and none is a helper's, which would leave a job
    /// for one with less left.
    fn is_taken(self) -> bool {
        self.idle() == 0 && self.helpers == 0
    }
}

/// What a route's work costs: `fixed` per chunk and `per_item` per item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) per_item: Nanos,
    pub(crate) fixed: Nanos,
}

impl Cost {
    /// The time `items` take.
    pub(crate) fn of(self, items: usize) -> Nanos {
        self.per_item.saturating_mul(items as u64)
    }

    /// How many items make a chunk of about `grain`; at least one.
    pub(crate) fn items_in(self, grain: Nanos) -> usize {
        usize::try_from(grain / self.per_item.max(1)).unwrap_or(usize::MAX).max(1)
    }

    /// The shortest chunk that keeps the fixed part small.
    pub(crate) fn grain_low(self) -> Nanos {
        GRAIN_LOW.max(PAY_OFF * self.fixed)
    }
}

/// How many cores are in use. Owners run on async threads, so whichever are more count; workers run on
/// threads of their own.
pub(crate) fn busy(owners: usize, busy_threads: usize, awake_workers: usize) -> usize {
    owners.max(busy_threads) + awake_workers
}

/// What a wake-up is expected to cost after one that cost `measured`.
pub(crate) fn learnt_wake(known: Nanos, measured: Nanos) -> Nanos {
    (7 * known + measured.clamp(WAKE_BOUNDS.0, WAKE_BOUNDS.1)) / 8
}

/// What one more participant costs before it has done anything.
fn entry(cost: Cost, machine: Machine) -> Nanos {
    (machine.wake + cost.fixed).max(1)
}

/// Whether `work` is too little to share with even one helper.
pub(crate) fn too_small(work: Nanos, cost: Cost, machine: Machine) -> bool {
    work <= 2 * PAY_OFF * entry(cost, machine)
}

/// Why an owner does not ask for help now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    OneCore,
    Veto,
    TooSmall,
    Busy,
}

/// Whether there is a reason not to ask for help with `items`. Too small while nothing is known of
/// their cost yet: if the job ends before that, it was.
pub(crate) fn alone(items: usize, cost: Option<Cost>, machine: Machine) -> Option<Alone> {
    if machine.cores <= 1 {
        return Some(Alone::OneCore);
    }
    if machine.veto {
        return Some(Alone::Veto);
    }
    match cost {
        Some(cost) if !too_small(cost.of(items), cost, machine) => machine.is_taken().then_some(Alone::Busy),
        _ => Some(Alone::TooSmall),
    }
}

/// How long an owner that has not published works in one go, `grain` being what its next private chunk
/// is allowed, and what the one after it will be.
pub(crate) fn private_limit(
    items: usize,
    cost: Option<Cost>,
    grain: Nanos,
    machine: Machine,
) -> (Nanos, Nanos) {
    match cost {
        // Long enough to measure.
        None => (GRAIN_LOW, grain),
        Some(cost) if too_small(cost.of(items), cost, machine) => (GRAIN_MAX, grain),
        Some(cost) => (private_grain(cost.of(items), cost, grain), next_private_grain(grain)),
    }
}

/// Whether the owner of a shared job has nobody beside it and nobody to come.
pub(crate) fn is_deserted(participants: usize, machine: Machine) -> bool {
    participants == 1 && machine.is_taken()
}

/// How many participants `work` deserves, the owner included.
pub(crate) fn desired(work: Nanos, cost: Cost, machine: Machine) -> usize {
    let paid_for = work / (PAY_OFF_MORE * entry(cost, machine));
    let helpers = usize::try_from(paid_for).unwrap_or(usize::MAX);
    helpers.saturating_add(1).min(machine.cores)
}

/// The next chunk of an owner that works alone while others want the cores: `grain` is what the last
/// one was allowed. Half of what is left at most, so that there is something to share when a core
/// falls idle.
pub(crate) fn private_grain(left: Nanos, cost: Cost, grain: Nanos) -> Nanos {
    let low = cost.grain_low().min(GRAIN_MAX);
    (left / 2).clamp(low, grain.clamp(low, GRAIN_MAX))
}

/// What a private owner's next chunk is allowed after one of `grain`.
pub(crate) fn next_private_grain(grain: Nanos) -> Nanos {
    grain.saturating_mul(2).min(GRAIN_MAX)
}

/// The next chunk of a shared job: guided self-scheduling (Polychronopoulos and Kuck, 1987) over the
/// participants there are and could be, within bounds.
pub(crate) fn shared_grain(left: Nanos, participants: usize, cost: Cost, machine: Machine) -> Nanos {
    let hands = participants.saturating_add(machine.idle()).clamp(1, machine.cores.max(1));
    let low = cost.grain_low();
    (left / (2 * hands as u64)).clamp(low, GRAIN_HIGH.max(low))
}

/// The length of a shared job's next chunk in items, `waiting` of them being there to claim and `left`
/// being the work nobody has claimed. However wrong the estimates are, one participant does not take
/// all that waits, unless that is too little to share.
pub(crate) fn shared_length(
    left: Nanos,
    waiting: usize,
    participants: usize,
    cost: Cost,
    machine: Machine,
) -> usize {
    let most = waiting.div_ceil(2).max(cost.items_in(cost.grain_low()));
    cost.items_in(shared_grain(left, participants, cost, machine)).min(most)
}

/// Whether so many items wait that the woken finds something beside what the waker takes itself.
pub(crate) fn worth_waking(waiting: usize, cost: Cost) -> bool {
    waiting >= 2 && cost.of(waiting) >= 2 * GRAIN_LOW
}

/// How many parked workers to wake for a job now.
pub(crate) fn wakes(machine: Machine, parked: usize, participants: usize, desired: usize) -> usize {
    if machine.veto {
        return 0;
    }
    desired.saturating_sub(participants).min(machine.idle()).min(parked).min(WAKES_AT_ONCE)
}

/// Whether a helper gives its core back: more run than there are cores, or the load limit holds.
pub(crate) fn must_retire(machine: Machine) -> bool {
    machine.veto || machine.busy > machine.cores
}

/// How long a worker that found nothing to do stays on its core before it sleeps: as long as waking it
/// costs, so that it never wastes more than twice what the best choice would have (the ski-rental
/// argument of Karlin, Manasse, McGeoch and Owicki, 1990). Not at all when the cores are wanted.
pub(crate) fn linger(machine: Machine) -> Nanos {
    if must_retire(machine) { 0 } else { machine.wake.min(LINGER_MAX) }
}

/// How long an owner holds its async thread before it gives way.
///
/// Giving way costs little when all async threads are busy, and they are when it matters. When one is
/// parked, giving way wakes it for nothing, at ten microseconds and a core, so it is done once after
/// each wait (`gave_way`): Tokio polls its I/O on one parked thread only, and the thread that did may
/// be the owner's. The woken thread takes that over, and from then on serves the neighbours.
pub(crate) fn hold(machine: Machine, gave_way: bool, takes_turns: bool) -> Nanos {
    match (machine.spare_thread && gave_way, takes_turns) {
        (true, _) => HOLD_SPARE,
        (false, true) => HOLD_TURN,
        (false, false) => HOLD_CROWDED,
    }
}

/// How many owners may be ready to work on so many async threads at a time. More take turns.
pub(crate) fn turns(threads: usize) -> usize {
    threads.saturating_mul(TURNS_A_THREAD)
}

/// An open job as a helper sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Work nobody has claimed, what is still to be read included.
    pub(crate) left: Nanos,
    /// Whether there is something to claim now.
    pub(crate) claimable: bool,
    pub(crate) participants: usize,
    pub(crate) desired: usize,
}

impl Open {
    /// Whether a helper would be of use here.
    pub(crate) fn wants_hands(&self) -> bool {
        self.claimable && self.participants < self.desired
    }
}

/// Which open job a worker with nothing to do should help: the one with the least left that still
/// wants hands. Smallest first empties the most requests soonest, and starves nobody because every
/// job's owner works on it too.
pub(crate) fn pick(open: impl Iterator<Item = Open>) -> Option<usize> {
    open.enumerate()
        .filter(|(_, job)| job.wants_hands())
        .min_by_key(|(_, job)| job.left)
        .map(|(index, _)| index)
}

/// Whether a helper leaves a job with `here` left for one with `there` left.
pub(crate) fn must_switch(here: Nanos, there: Nanos) -> bool {
    there > 0 && there < here / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Nanos = 1_000;
    const MS: Nanos = 1_000_000;

    fn machine(cores: usize, busy: usize) -> Machine {
        Machine { cores, busy, helpers: 0, wake: 20 * US, veto: false, spare_thread: false }
    }

    fn cost(per_item: Nanos) -> Cost {
        Cost { per_item, fixed: 0 }
    }

    #[test]
    fn work_is_shared_only_when_it_pays_for_the_wake_up_eight_times_for_both() {
        for (work, small) in [(0, true), (319 * US, true), (320 * US, true), (320 * US + 1, false)] {
            assert_eq!(too_small(work, cost(US), machine(2, 1)), small, "work of {work} ns");
        }
        let slow_start = Cost { per_item: US, fixed: 20 * US };
        assert!(too_small(640 * US, slow_start, machine(2, 1)), "a fixed cost raises the bar");
    }

    #[test]
    fn an_owner_asks_for_help_unless_there_is_a_reason_not_to_and_the_first_one_counts() {
        let veto = Machine { veto: true, ..machine(2, 9) };
        let others_are_helped = Machine { helpers: 1, ..machine(2, 2) };
        let known = Some(cost(US));
        for (items, cost, m, want) in [
            (10_000, known, machine(2, 1), None),
            (10_000, known, machine(2, 2), Some(Alone::Busy)),
            (10_000, known, others_are_helped, None),
            (10_000, known, machine(1, 1), Some(Alone::OneCore)),
            (10_000, known, veto, Some(Alone::Veto)),
            (10_000, None, machine(2, 1), Some(Alone::TooSmall)),
            (320, known, machine(2, 2), Some(Alone::TooSmall)),
        ] {
            assert_eq!(alone(items, cost, m), want, "{items} items on {m:?}");
        }
    }

    #[test]
    fn an_unpublished_owner_measures_first_runs_what_is_too_small_through_and_else_grows() {
        let known = Some(cost(US));
        for (items, cost, grain, want) in [
            (10_000, None, 100 * US, (GRAIN_LOW, 100 * US)),
            (300, known, 100 * US, (GRAIN_MAX, 100 * US)),
            (10_000, known, 100 * US, (100 * US, 200 * US)),
            (400, known, MS, (200 * US, MS)),
        ] {
            assert_eq!(private_limit(items, cost, grain, machine(2, 2)), want, "{items} items, {grain}");
        }
    }

    #[test]
    fn an_owner_is_deserted_when_nobody_helps_and_no_core_is_idle_or_a_helpers() {
        assert!(is_deserted(1, machine(2, 2)));
        assert!(!is_deserted(1, Machine { helpers: 1, ..machine(2, 2) }));
        assert!(!is_deserted(2, machine(2, 2)));
        assert!(!is_deserted(1, machine(2, 1)));
    }

    #[test]
    fn one_participant_takes_at_most_half_of_what_waits_unless_that_is_too_little_to_share() {
        for (waiting, want) in [(10_000, 200), (300, 150), (80, 50), (10, 50)] {
            assert_eq!(shared_length(10 * MS, waiting, 1, cost(US), machine(2, 1)), want, "{waiting}");
        }
    }

    #[test]
    fn nobody_is_woken_before_there_is_enough_for_two() {
        for (waiting, per_item, want) in [(100, US, true), (99, US, false), (1, 10 * MS, false)] {
            assert_eq!(worth_waking(waiting, cost(per_item)), want, "{waiting} items");
        }
    }

    #[test]
    fn participants_grow_with_the_work_and_stop_at_the_cores() {
        for (work, cores, want) in [
            (0, 8, 1),
            (79 * US, 8, 1),
            (80 * US, 8, 2),
            (160 * US, 8, 3),
            (10 * MS, 8, 8),
            (10 * MS, 1, 1),
            (u64::MAX, 64, 64),
        ] {
            assert_eq!(desired(work, cost(US), machine(cores, 1)), want, "{work} ns on {cores} cores");
        }
    }

    #[test]
    fn a_private_chunk_is_half_of_what_is_left_between_the_bounds() {
        for (left, grain, want) in [
            (10 * MS, 50 * US, 50 * US),
            (10 * MS, 400 * US, 400 * US),
            (10 * MS, 9 * MS, MS),
            (300 * US, MS, 150 * US),
            (0, MS, 50 * US),
        ] {
            assert_eq!(private_grain(left, cost(US), grain), want, "left {left}, grain {grain}");
        }
        assert_eq!(next_private_grain(50 * US), 100 * US);
        assert_eq!(next_private_grain(900 * US), MS);
    }

    #[test]
    fn a_private_chunk_of_work_with_a_huge_fixed_part_still_gives_the_thread_back() {
        let heavy = Cost { per_item: US, fixed: 10 * MS };
        assert_eq!(private_grain(u64::MAX, heavy, 50 * US), MS);
    }

    #[test]
    fn shared_chunks_shrink_towards_the_end_and_with_more_hands() {
        for (left, participants, m, want) in [
            (10 * MS, 1, machine(2, 1), 200 * US),
            (600 * US, 2, machine(2, 2), 150 * US),
            (600 * US, 1, machine(16, 1), 50 * US),
            (100 * US, 2, machine(2, 2), 50 * US),
        ] {
            assert_eq!(shared_grain(left, participants, cost(US), m), want, "left {left} on {m:?}");
        }
        let heavy = Cost { per_item: US, fixed: 100 * US };
        assert_eq!(shared_grain(10 * MS, 1, heavy, machine(2, 1)), 800 * US, "the low bound wins");
    }

    #[test]
    fn nobody_is_woken_without_an_idle_core_a_parked_worker_and_work_for_it() {
        let veto = Machine { veto: true, ..machine(8, 1) };
        for (m, parked, participants, desired, want) in [
            (machine(8, 1), 8, 1, 8, 2),
            (machine(8, 7), 8, 1, 8, 1),
            (machine(8, 8), 8, 1, 8, 0),
            (machine(8, 20), 8, 1, 8, 0),
            (machine(8, 1), 0, 1, 8, 0),
            (machine(8, 1), 8, 3, 3, 0),
            (machine(8, 1), 8, 5, 3, 0),
            (veto, 8, 1, 8, 0),
        ] {
            assert_eq!(wakes(m, parked, participants, desired), want, "{m:?}, {parked} parked");
        }
    }

    #[test]
    fn helpers_leave_when_more_run_than_there_are_cores_or_the_limit_holds() {
        assert!(!must_retire(machine(2, 2)));
        assert!(must_retire(machine(2, 3)));
        assert!(must_retire(Machine { veto: true, ..machine(8, 1) }));
    }

    #[test]
    fn an_idle_worker_lingers_for_what_a_wake_up_costs_unless_the_cores_are_wanted() {
        assert_eq!(linger(machine(2, 2)), 20 * US);
        assert_eq!(linger(machine(2, 3)), 0);
        assert_eq!(linger(Machine { wake: 200 * US, ..machine(2, 1) }), LINGER_MAX);
    }

    #[test]
    fn an_owner_holds_its_thread_long_only_while_another_one_serves_the_neighbours() {
        let spare = Machine { spare_thread: true, ..machine(2, 1) };
        for (m, gave_way, takes_turns, want) in [
            (spare, true, false, HOLD_SPARE),
            (spare, true, true, HOLD_SPARE),
            (spare, false, false, HOLD_CROWDED),
            (spare, false, true, HOLD_TURN),
            (machine(2, 2), true, false, HOLD_CROWDED),
            (machine(2, 2), true, true, HOLD_TURN),
            (machine(2, 2), false, false, HOLD_CROWDED),
            (machine(2, 2), false, true, HOLD_TURN),
        ] {
            assert_eq!(hold(m, gave_way, takes_turns), want, "{m:?}, {gave_way}, {takes_turns}");
        }
    }

    #[test]
    fn the_job_with_the_least_left_that_wants_hands_is_picked() {
        let open = |left, participants, desired| Open { left, claimable: left > 0, participants, desired };
        assert_eq!(pick([].into_iter()), None);
        assert_eq!(pick([open(9, 1, 2), open(3, 1, 2), open(5, 1, 2)].into_iter()), Some(1));
        assert_eq!(pick([open(9, 1, 2), open(3, 2, 2), open(0, 1, 2)].into_iter()), Some(0));
        assert_eq!(pick([open(9, 2, 2)].into_iter()), None);
        assert_eq!(pick([Open { claimable: false, ..open(9, 1, 2) }].into_iter()), None);
    }

    #[test]
    fn a_helper_changes_jobs_only_for_one_with_less_than_half() {
        for (here, there, want) in [(10, 4, true), (10, 5, false), (10, 0, false), (0, 0, false)] {
            assert_eq!(must_switch(here, there), want, "here {here}, there {there}");
        }
    }

    #[test]
    fn chunk_lengths_are_at_least_one_item() {
        assert_eq!(cost(200 * US).items_in(50 * US), 1);
        assert_eq!(cost(0).items_in(50 * US), 50_000);
        assert_eq!(cost(US).items_in(50 * US), 50);
    }
}
