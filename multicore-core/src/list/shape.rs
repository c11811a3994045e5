//! What is known of a query whatever its values: what its text and the schema say, how the database
//! would run it, and which way of reading it has been faster. Found out at the first use (`survey`),
//! kept in `shapes`. Nothing here takes a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::sync::OnceCell;

use super::analysis::Facts;
use super::cursor;
use super::places::Places;
use super::plan::Parts;
use super::strategy;
use crate::admission::policy::Nanos;
use crate::db::PlanKind;

/// Magnitudes there are.
const MAGNITUDES: usize = u64::BITS as usize + 1;
/// A program asks for pages of few lengths; what strangers ask for must not fill the connections' caches of
/// statements, a hundred each.
const MOST_LENGTHS: usize = 4;
/// For how many pages the driver steps a query that has stalled where it was stepped: what was spent there
/// until it stalled is then no more than a hundredth of them.
const STALLED_FOR: u32 = 64;

/// What is known of one query.
pub(crate) struct Shape {
    pub(super) id: cursor::Shape,
    pub(super) facts: Facts,
    /// Whether the order is total by the schema, and not only by the program's word.
    pub(super) proven: bool,
    /// Whether connections can share a snapshot of this database.
    pub(super) snapshots: bool,
    /// Where some of its rows stand.
    pub(super) places: Places,
    /// The types that cursors' values are cast to.
    pub(super) casts: OnceCell<Vec<Option<String>>>,
    /// For so many pages more the driver steps it, since it stalled where it was stepped here.
    stalled: AtomicU32,
    /// By magnitude: asking once is the rule, so that a page finds its answer without a lock.
    plans: [OnceLock<PlanKind>; MAGNITUDES],
    /// The lengths of pages that stand in the text of statements.
    lengths: [OnceLock<u64>; MOST_LENGTHS],
    /// By length and depth: each range walks to the page's depth again, and a short page pays more of
    /// what a range costs to open.
    pays: [OnceLock<Box<[OnceLock<Pays>; MAGNITUDES]>>; MAGNITUDES],
}

impl Shape {
    pub(super) fn new(text: &str, facts: Facts, proven: bool, snapshots: bool) -> Self {
        Shape {
            id: cursor::Shape::of(&[text]),
            facts,
            proven,
            snapshots,
            places: Places::default(),
            casts: OnceCell::new(),
            stalled: AtomicU32::new(0),
            plans: [const { OnceLock::new() }; MAGNITUDES],
            lengths: [const { OnceLock::new() }; MOST_LENGTHS],
            pays: [const { OnceLock::new() }; MAGNITUDES],
        }
    }

    /// Whether the page may be read from a row that is found by its keys, and in ranges.
    pub(super) fn splits(&self) -> bool {
        self.facts.splits.is_ok() && self.proven
    }

    /// Whether a statement of it may be stepped where its rows are used, as far as is known of it: it has not
    /// stalled of late.
    pub(super) fn flows(&self) -> bool {
        let left = self.stalled.load(Ordering::Relaxed);
        if left > 0 {
            // Two at once may count as one.
            self.stalled.store(left - 1, Ordering::Relaxed);
        }
        left == 0
    }

    /// A statement of it stalled where it was stepped.
    pub(super) fn stall(&self) {
        self.stalled.store(STALLED_FOR, Ordering::Relaxed);
    }

    /// How a page of about this length is run, if that was asked before.
    pub(super) fn plan(&self, rows: u64) -> Option<PlanKind> {
        self.plans[magnitude(rows)].get().copied()
    }

    pub(super) fn learn_plan(&self, rows: u64, plan: PlanKind) {
        // Requests that asked at the same time found the same.
        let _told_by_another = self.plans[magnitude(rows)].set(plan);
    }

    /// Whether a statement may have this length of a page in its text: the first few that were asked for,
    /// since each makes a statement that every connection prepares and keeps.
    pub(super) fn keeps_length(&self, rows: u64) -> bool {
        self.lengths.iter().any(|length| *length.get_or_init(|| rows) == rows)
    }

    /// What pages of about this length and depth have taken.
    pub(super) fn pays(&self, rows: u64, skip: u64) -> &Pays {
        let of_length = &self.pays[magnitude(rows)];
        let of_length = of_length.get_or_init(|| Box::new([const { OnceLock::new() }; MAGNITUDES]));
        of_length[magnitude(skip)].get_or_init(Pays::default)
    }
}

/// Databases choose by size; within a factor of two they choose alike.
fn magnitude(rows: u64) -> usize {
    (u64::BITS - rows.leading_zeros()) as usize
}

/// A query's text without its values.
pub(super) fn text_of(parts: &Parts) -> String {
    let mut text = String::with_capacity(256);
    for part in [&parts.columns, &parts.tables, parts.filters.as_ref().unwrap_or(&String::new())] {
        text.push_str(part);
        text.push('\0');
    }
    for key in &parts.keys {
        text.push_str(&key.sql);
        text.push(if key.descending { '\u{1}' } else { '\u{2}' });
        text.push(match key.nulls {
            None => '\u{3}',
            Some(super::order::Nulls::First) => '\u{4}',
            Some(super::order::Nulls::Last) => '\u{5}',
        });
    }
    text
}

/// What a row takes each way, all told.
#[derive(Debug, Default)]
pub(super) struct Pays {
    single: Way,
    ranges: Way,
    /// Whether ranges are the faster way, by these.
    pay: AtomicBool,
    /// Until which page ranges begin with an exported snapshot, since others write a lot.
    export_until: AtomicU64,
}

/// A way of reading.
#[derive(Debug, Default)]
struct Way {
    /// Pages for which both ways were open.
    pages: AtomicU64,
    /// What a row of them took: the mean of the first, then an exponentially weighted one.
    per_row: AtomicU64,
}

/// How many pages that mean is about.
const REMEMBERED: u64 = 16;

/// For so many pages after writes came in between, the snapshot is exported at once.
const EXPORT_FOR: u64 = 64;
/// What a row takes the way that could not be gone.
const NEVER: Nanos = Nanos::MAX / 256;

impl Pays {
    /// What a row takes with one statement, and with ranges; zero where that is not known.
    pub(super) fn per_row(&self) -> [Nanos; 2] {
        [&self.single, &self.ranges].map(|way| way.per_row.load(Ordering::Relaxed))
    }

    /// How many pages were read with one statement, and how many in ranges, while both ways were open.
    pub(super) fn pages(&self) -> [u64; 2] {
        [&self.single, &self.ranges].map(|way| way.pages.load(Ordering::Relaxed))
    }

    /// Counts such a page. The first one teaches nothing: it finds connections that do not know the
    /// statement.
    pub(super) fn learn(&self, ranges: bool, per_row: Nanos) {
        let way = if ranges { &self.ranges } else { &self.single };
        let old = way.per_row.load(Ordering::Relaxed);
        let new = match way.pages.fetch_add(1, Ordering::Relaxed) {
            0 => return,
            _ if old == 0 || old == NEVER => per_row.max(1),
            pages => {
                let weight = pages.min(REMEMBERED);
                // One page that was interrupted says nothing; a cost that truly changed gets there all the same.
                let per_row = per_row.clamp(old / 2, 2 * old);
                (((weight - 1) * old + per_row) / weight).max(1)
            }
        };
        way.per_row.store(new, Ordering::Relaxed);
        self.compare();
    }

    /// Whether ranges have been the faster way.
    pub(super) fn pay(&self) -> bool {
        self.pay.load(Ordering::Relaxed)
    }

    fn compare(&self) {
        let [single, ranges] = self.per_row();
        if single > 0 && ranges > 0 {
            self.pay.store(strategy::pay(self.pay(), single, ranges), Ordering::Relaxed);
        }
    }

    /// A page could not be read in ranges: as slow as can be, until one can.
    pub(super) fn failed(&self) {
        self.ranges.pages.fetch_add(1, Ordering::Relaxed);
        self.ranges.per_row.store(NEVER, Ordering::Relaxed);
        self.compare();
    }

    /// The snapshot had moved between the ranges.
    pub(super) fn moved(&self) {
        let until = self.pages().iter().sum::<u64>() + EXPORT_FOR;
        self.export_until.store(until, Ordering::Relaxed);
    }

    pub(super) fn exports(&self) -> bool {
        self.pages().iter().sum::<u64>() < self.export_until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let facts = Facts {
            nullable: Vec::new(),
            unique: Some(true),
            splits: Ok(()),
            prompt: true,
            seeks: true,
            plain: true,
        };
        Shape::new("", facts, true, true)
    }

    #[test]
    fn pages_of_other_lengths_and_depths_teach_each_other_nothing() {
        let shape = shape();
        shape.pays(1_000, 0).learn(false, 1);
        shape.pays(1_000, 0).learn(false, 3_000);
        assert_eq!(shape.pays(1_000, 0).per_row(), [3_000, 0]);
        assert_eq!(shape.pays(900, 0).per_row(), [3_000, 0]);
        for (rows, skip) in [(10_000, 0), (1_000, 100_000), (1_000, 1)] {
            assert_eq!(shape.pays(rows, skip).per_row(), [0, 0], "{rows} {skip}");
        }
    }

    #[test]
    fn the_first_few_lengths_are_kept() {
        let shape = shape();
        let kept: Vec<_> = (0..2 * MOST_LENGTHS as u64).map(|rows| shape.keeps_length(rows)).collect();
        assert_eq!(kept, [[true; MOST_LENGTHS], [false; MOST_LENGTHS]].concat());
        assert!(shape.keeps_length(0) && !shape.keeps_length(99));
    }

    #[test]
    fn the_first_page_of_a_way_does_not_count_and_one_that_failed_only_until_one_does_not() {
        let pays = Pays::default();
        for (per_row, mean) in [(9_000, 0), (1_000, 1_000), (2_000, 1_500), (3_000, 2_000)] {
            pays.learn(true, per_row);
            assert_eq!(pays.per_row(), [0, mean]);
        }
        pays.failed();
        assert_eq!(pays.per_row(), [0, NEVER]);
        pays.learn(true, 1_000);
        assert_eq!(pays.per_row(), [0, 1_000]);
        assert_eq!(pays.pages(), [0, 6]);
    }

    #[test]
    fn ranges_pay_from_when_they_were_faster_until_they_failed() {
        let pays = Pays::default();
        for _ in 0..3 {
            pays.learn(false, 1_000);
            assert!(!pays.pay(), "nothing is known of ranges");
        }
        (0..3).for_each(|_| pays.learn(true, 940));
        assert!(pays.pay());
        (0..20).for_each(|_| pays.learn(true, 990));
        assert!(pays.pay(), "one statement is not faster");
        pays.failed();
        assert!(!pays.pay());
    }
}
