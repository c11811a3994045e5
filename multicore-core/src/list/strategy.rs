//! Whether a page is read in ranges, and in how many. Pure; what goes in was found out by `survey` and
//! measured by `run`.

use std::ops::Range;

use crate::admission::policy::{Machine, Nanos};
use crate::ranges::ranges;

/// Fewer rows than this a range, and opening it costs more than it brings.
const RANGE_ROWS: u64 = 500;
/// Above this a row, reading is not what takes the time: chunks of one statement's rows serve as well.
const LIGHT: Nanos = 20_000;
/// From this offset on the first row of a page is found by its keys.
pub(crate) const LOCATE_FROM: u64 = 64;
/// How often each way is tried before they are compared. The first time does not count, since it finds
/// connections that do not know the statement; and one time says little on a busy machine.
const TRIES: u64 = 4;
/// Every so many pages the way that was slower is tried again, in between these by what it costs.
const TRY_AGAIN: (u64, u64) = (4, 128);
/// How many of these ten-thousandths of all time trying again may take.
const TRYING: u64 = 100;
/// Ranges must be this many hundredths of one statement's time to be worth the connections; once they were, they are
/// until one statement is faster.
const WORTH: u64 = 95;

/// Up to this depth a statement that takes its rows off an index soon has its first one.
pub(crate) const SHALLOW: u64 = 1_000;
/// How many thousand instructions of the database one step may take on an async thread: half a millisecond.
const STEP: u32 = 50;
/// So many rows before a page may take a thousand instructions, each of some ten microseconds, where the
/// thread's other tasks are elsewhere meanwhile.
const PASSED_IN_A_THOUSAND: u64 = 10;
/// And no more than these altogether: fifty milliseconds, in which nobody could cancel.
const STEP_IN_PLACE: u32 = 5_000;

/// How a statement is stepped on the thread that uses its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stepwise {
    /// How many thousand instructions a step may take before the driver takes over; none if each surely ends
    /// soon by itself.
    pub(crate) limit: Option<u32>,
    /// Whether the first step may take long, and is taken with the thread's other tasks moved elsewhere.
    pub(crate) in_place: bool,
}

/// How to step a statement whose rows come off an index. `prompt` says that each comes soon after the last,
/// `can_move` that the async thread's other tasks can move.
pub(crate) fn stepwise(prompt: bool, skip: u64, can_move: bool) -> Stepwise {
    // Passing over rows takes longer where each is held against filters.
    let deep = skip >= if prompt { SHALLOW } else { LOCATE_FROM };
    let in_place = deep && can_move;
    let limit = if in_place {
        let passed = u32::try_from(skip / PASSED_IN_A_THOUSAND).unwrap_or(u32::MAX);
        Some(STEP.saturating_add(passed).min(STEP_IN_PLACE))
    } else {
        (!prompt || deep).then_some(STEP)
    };
    Stepwise { limit, in_place }
}

impl Stepwise {
    /// The same, in a transaction of its own.
    pub(crate) fn in_transaction(self) -> Self {
        Stepwise { limit: Some(self.limit.unwrap_or(STEP)), ..self }
    }
}

/// What speaks for ranges and against them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) machine: Machine,
    /// Workers that have nothing to do.
    pub(crate) parked: usize,
    /// Rows asked for.
    pub(crate) rows: u64,
    /// What a row costs to decode, render and encode, where that is known.
    pub(crate) render: Option<Nanos>,
    /// What a row took with one statement, and with ranges, all told; zero where not known.
    pub(crate) single: Nanos,
    pub(crate) ranges: Nanos,
    /// Whether ranges have been faster, as [`pay`] says.
    pub(crate) pay: bool,
    /// How many pages were read each way while both were open.
    pub(crate) by_single: u64,
    pub(crate) by_ranges: u64,
}

/// Whether a page is long enough for more than one range, whatever the machine does.
pub(crate) fn is_long(rows: u64) -> bool {
    rows >= 2 * RANGE_ROWS
}

/// How many ranges a page may have at most: one for the owner and one for each worker that could come.
pub(crate) fn hands(machine: Machine, parked: usize, rows: u64) -> usize {
    if machine.veto {
        return 1;
    }
    let helpers = parked.min(machine.idle()).min(machine.cores.saturating_sub(1));
    let worth = usize::try_from(rows / RANGE_ROWS).unwrap_or(usize::MAX);
    (1 + helpers).min(worth).max(1)
}

/// Where in a page of so many rows its ranges lie, at most one for each of `hands`. The first has `lead` rows more
/// than the others.
pub(crate) fn cut(rows: u64, hands: usize, lead: u64) -> Vec<Range<u64>> {
    let lead = lead.min(rows / 2);
    let shared = rows - lead;
    let least = if hands as u64 * RANGE_ROWS <= shared { RANGE_ROWS } else { 1 };
    let parts = ranges(shared, hands, least).into_iter();
    parts
        .map(|part| if part.start == 0 { 0..part.end + lead } else { part.start + lead..part.end + lead })
        .collect()
}

/// How many rows the owner reads before the others can begin, if they begin so much later and a row of a page
/// in ranges takes `per_row`, all told.
pub(crate) fn lead(later: Nanos, per_row: Nanos, hands: usize) -> u64 {
    later.checked_div(per_row.saturating_mul(hands as u64)).unwrap_or(0)
}

/// Whether both ways are open to this page, so that measuring and comparing them makes sense.
pub(crate) fn is_eligible(case: Case) -> bool {
    hands(case.machine, case.parked, case.rows) > 1 && case.render.is_some_and(|render| render <= LIGHT)
}

/// Whether an eligible page is read in ranges: at first in turn with one statement, then if that has been
/// faster, and once in a while if it has been slower, since data and machines change.
pub(crate) fn choose_ranges(case: Case) -> bool {
    if case.by_single.min(case.by_ranges) < TRIES {
        return case.by_ranges < case.by_single;
    }
    let every = try_again(case.single, case.ranges);
    if (case.by_single + case.by_ranges) % every == every - 1 { !case.pay } else { case.pay }
}

/// Whether ranges are the faster way, from what a row took each way and whether they were it so far: both are known
/// to some hundredths only, and a choice that followed each of them would be the slower way half the time where the
/// faster one is ahead by little.
pub(crate) fn pay(before: bool, single: Nanos, ranges: Nanos) -> bool {
    let most = if before { 100 } else { WORTH };
    ranges.saturating_mul(100) <= single.saturating_mul(most)
}

/// Every how many pages the slower way is tried again: often where it costs little more, which is also where
/// the choice is least sure.
fn try_again(single: Nanos, ranges: Nanos) -> u64 {
    let (least, most) = TRY_AGAIN;
    let more = single.abs_diff(ranges).saturating_mul(10_000 / TRYING) / single.min(ranges).max(1);
    more.clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(rows: u64, single: Nanos, ranges: Nanos) -> Case {
        let machine =
            Machine { cores: 4, busy: 1, helpers: 0, wake: 20_000, veto: false, spare_thread: true };
        Case {
            machine,
            parked: 3,
            rows,
            render: Some(5_000),
            single,
            ranges,
            pay: pay(false, single, ranges),
            by_single: TRIES,
            by_ranges: TRIES,
        }
    }

    #[test]
    fn what_may_hold_the_thread_is_limited_or_has_it_for_itself() {
        for (prompt, skip, can_move, limit, in_place) in [
            (true, 0, true, None, false),
            (true, SHALLOW - 1, false, None, false),
            (true, SHALLOW, true, Some(150), true),
            (true, SHALLOW, false, Some(STEP), false),
            (false, 0, true, Some(STEP), false),
            (false, LOCATE_FROM, true, Some(56), true),
            (false, SHALLOW, true, Some(150), true),
            (false, SHALLOW, false, Some(STEP), false),
            (true, u64::MAX, true, Some(STEP_IN_PLACE), true),
        ] {
            let want = Stepwise { limit, in_place };
            assert_eq!(stepwise(prompt, skip, can_move), want, "{prompt} {skip} {can_move}");
        }
    }

    #[test]
    fn who_begins_earlier_has_more_to_read_and_nobody_nothing() {
        for (rows, hands, lead, want) in [
            (1_000, 2, 0, vec![0..500, 500..1_000]),
            (1_000, 2, 100, vec![0..550, 550..1_000]),
            (10_000, 4, 400, vec![0..2_800, 2_800..5_200, 5_200..7_600, 7_600..10_000]),
            (1_200, 3, 0, vec![0..400, 400..800, 800..1_200]),
            (1_000, 2, u64::MAX, vec![0..750, 750..1_000]),
            (1, 3, 9, Vec::from_iter(Some(0..1))),
            (0, 3, 9, vec![]),
        ] {
            assert_eq!(cut(rows, hands, lead), want, "{rows} {hands} {lead}");
        }
        // A tenth of a millisecond, and half a microsecond a row of two readers side by side.
        assert_eq!(lead(100_000, 500, 2), 100);
        assert_eq!(lead(100_000, 0, 2), 0);
        assert_eq!(lead(100_000, Nanos::MAX, 2), 0);
    }

    #[test]
    fn hands_are_the_owner_and_the_workers_with_a_core_and_enough_to_read() {
        let machine = case(0, 0, 0).machine;
        for (busy, parked, rows, want) in [
            (1, 3, 10_000, 4),
            (1, 1, 10_000, 2),
            (3, 3, 10_000, 2),
            (4, 3, 10_000, 1),
            (1, 3, 1_000, 2),
            (1, 3, 10, 1),
        ] {
            assert_eq!(hands(Machine { busy, ..machine }, parked, rows), want, "{busy} {parked} {rows}");
        }
        assert_eq!(hands(Machine { veto: true, ..machine }, 3, 10_000), 1);
    }

    #[test]
    fn a_page_that_is_not_long_never_has_two_hands() {
        let machine = Machine { cores: 64, busy: 0, ..case(0, 0, 0).machine };
        for rows in [0, 1, 499, 500, 999, 1_000, 1_001, 10_000] {
            assert_eq!(hands(machine, 63, rows) > 1, is_long(rows), "{rows}");
        }
    }

    #[test]
    fn heavy_rendering_and_short_pages_are_not_for_ranges() {
        assert!(is_eligible(case(10_000, 0, 0)));
        assert!(!is_eligible(case(900, 0, 0)));
        assert!(!is_eligible(Case { render: Some(50_000), ..case(10_000, 0, 0) }));
        assert!(!is_eligible(Case { render: None, ..case(10_000, 0, 0) }));
    }

    #[test]
    fn the_way_that_was_faster_stays_until_the_other_is() {
        for (before, single, ranges, want) in [
            (false, 1_000, 951, false),
            (false, 1_000, 950, true),
            (true, 1_000, 1_000, true),
            (true, 1_000, 1_001, false),
            (true, 1_000, Nanos::MAX / 256, false),
        ] {
            assert_eq!(pay(before, single, ranges), want, "{before} {single} {ranges}");
        }
    }

    #[test]
    fn both_ways_take_turns_at_first() {
        let (mut by_single, mut by_ranges) = (0, 0);
        for page in 0..2 * TRIES {
            let case = Case { by_single, by_ranges, ..case(10_000, 1_000, 2_000) };
            let ranges = choose_ranges(case);
            assert_eq!(ranges, page % 2 == 1, "{page}");
            *(if ranges { &mut by_ranges } else { &mut by_single }) += 1;
        }
    }

    #[test]
    fn then_the_faster_one_is_taken_and_the_other_looked_at_again() {
        for (single, ranges, pages, want) in [
            (1_000, 950, 2 * TRIES, true),
            (1_000, 951, 2 * TRIES, false),
            (1_000, 2_000, 98, false),
            (1_000, 2_000, 99, true),
            (1_000, 500, 98, true),
            (1_000, 500, 99, false),
            // A tenth slower: one per cent is one page in ten.
            (1_000, 1_100, 18, false),
            (1_000, 1_100, 19, true),
            (1_000, 1_000, 14, false),
            (1_000, 1_000, 15, true),
        ] {
            let case = Case { by_single: pages - TRIES, ..case(10_000, single, ranges) };
            assert_eq!(choose_ranges(case), want, "{single} {ranges} {pages}");
        }
    }
}
