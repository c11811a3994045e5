//! Where rows stand in a list: the keys of some, as earlier pages have seen them, so that a page deep in the
//! list begins near it and need not walk there from the start.
//!
//! A position is one of a snapshot. All places are of one, and whoever reads a page from a place lets the
//! database say whether it still sees that one; if not, they are forgotten. Pure, but for the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cursor::KeyValue;

/// As many pages far from each other are seldom looked at by turns.
const MOST_PLACES: usize = 64;
/// Keys longer than this, together, are not kept.
const LONGEST_KEYS: usize = 1_024;
/// So many times in a row places may be forgotten, or not be found, before one was of use, until only some pages are looked
/// at: where others write all the time it never pays.
const VAIN: u32 = 4;
/// Then one of so many.
const LOOK_AGAIN: u32 = 16;
/// From this position on places are kept: so many rows before a page are walked past in no time.
pub(super) const FROM: u64 = 1_000;
/// A page that could be read in ranges takes a place only if that leaves out so many times its own rows: passing over
/// a row takes a small part of what reading it does, which ranges would share.
const WORTH: u64 = 4;

/// The snapshot that places are of: equal stamps mean that the same rows are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its number.
    pub(super) snapshot: i64,
    /// The number of the lock by which it is told that the server has not lost its memory since (PostgreSQL).
    pub(super) lock: i64,
}

/// A row's place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// How many rows stand before it.
    pub(super) position: u64,
    pub(super) keys: Vec<KeyValue>,
}

/// The places that are known of one query.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// There will never be any.
    ended: bool,
    stamp: Option<Stamp>,
    places: Vec<(Place, u64)>,
    /// Counts uses, for which place was used last.
    clock: u64,
    /// How often places were forgotten, or looked for and not found, since one was of use.
    vain: u32,
    /// Pages that were not looked at since one was.
    passed: u32,
}

/// Whether a page of `rows` gains by a place at a position; `long` says that it could be read in ranges.
pub(super) fn is_worth(position: u64, rows: u64, long: bool) -> bool {
    !long || position >= rows.saturating_mul(WORTH)
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last known place at or before a position, and what it is of, if a page of `rows` gains by it; `long`
    /// says that it could be read in ranges.
    pub(super) fn before(&self, position: u64, rows: u64, long: bool) -> Option<(Stamp, Place)> {
        let inner = &mut *self.lock();
        let stamp = inner.stamp?;
        let known = inner.places.iter_mut().filter(|(place, _)| place.position <= position);
        let (place, used) = known.max_by_key(|(place, _)| place.position)?;
        if !is_worth(place.position, rows, long) {
            return None;
        }
        inner.clock += 1;
        *used = inner.clock;
        Some((stamp, place.clone()))
    }

    /// Whether a page is to be looked at for places.
    pub(super) fn wants_more(&self) -> bool {
        let mut inner = self.lock();
        if inner.vain < VAIN {
            return true;
        }
        inner.passed = (inner.passed + 1) % LOOK_AGAIN;
        inner.passed == 0
    }

    /// Whether there may ever be any.
    pub(super) fn may_be(&self) -> bool {
        !self.lock().ended
    }

    /// There will be none: the query's keys are not fit for it.
    pub(super) fn end(&self) {
        *self.lock() = Inner { ended: true, ..Inner::default() };
    }

    /// A page was looked at, and showed none.
    pub(super) fn looked_in_vain(&self) {
        let mut inner = self.lock();
        inner.vain = inner.vain.saturating_add(1);
    }

    /// A page was read from a place.
    pub(super) fn was_of_use(&self) {
        self.lock().vain = 0;
    }

    /// The snapshot of these places was not seen any more.
    pub(super) fn forget(&self, stamp: Stamp) {
        if self.drop_of(stamp) {
            self.looked_in_vain();
        }
    }

    /// These places are of no use any more, whether or not they were. Whether there were such.
    pub(super) fn drop_of(&self, stamp: Stamp) -> bool {
        let mut inner = self.lock();
        let is_its = inner.stamp == Some(stamp);
        if is_its {
            inner.stamp = None;
            inner.places.clear();
        }
        is_its
    }

    /// A place that a page has seen. Whether it is kept.
    pub(super) fn learn(&self, stamp: Stamp, position: u64, keys: &[KeyValue]) -> bool {
        let length = |key: &KeyValue| match key {
            KeyValue::Text(text) => text.len(),
            KeyValue::Blob(bytes) => bytes.len(),
            KeyValue::Null | KeyValue::Int(_) | KeyValue::Uint(_) | KeyValue::Real(_) => 8,
        };
        if position < FROM || keys.iter().map(length).sum::<usize>() > LONGEST_KEYS {
            return false;
        }
        let inner = &mut *self.lock();
        if inner.stamp != Some(stamp) {
            // Which of two is the later one cannot be told. Of an earlier one nothing will come.
            inner.stamp = Some(stamp);
            inner.places.clear();
        }
        inner.clock += 1;
        if let Some((_, used)) = inner.places.iter_mut().find(|(place, _)| place.position == position) {
            *used = inner.clock;
            return true;
        }
        if inner.places.len() == MOST_PLACES
            && let Some(oldest) = (0..MOST_PLACES).min_by_key(|at| inner.places[*at].1)
        {
            inner.places.swap_remove(oldest);
        }
        inner.places.push((Place { position, keys: keys.to_vec() }, inner.clock));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { snapshot: 7, lock: 1 };

    fn keys(n: i64) -> Vec<KeyValue> {
        vec![KeyValue::Int(n)]
    }

    fn positions(places: &Places) -> Vec<u64> {
        let mut positions: Vec<_> = places.lock().places.iter().map(|(place, _)| place.position).collect();
        positions.sort_unstable();
        positions
    }

    #[test]
    fn the_nearest_place_at_or_before_a_page_is_taken() {
        let places = Places::default();
        assert_eq!(places.before(5_000, 100, false), None);
        for position in [2_000, 5_000, 3_000] {
            places.learn(STAMP, position, &keys(position as i64));
        }
        for (position, nearest) in [
            (1_999, None),
            (2_000, Some(2_000)),
            (2_999, Some(2_000)),
            (4_000, Some(3_000)),
            (9_000, Some(5_000)),
            (u64::MAX, Some(5_000)),
        ] {
            let place = nearest.map(|at| (STAMP, Place { position: at, keys: keys(at as i64) }));
            assert_eq!(places.before(position, 100, false), place, "{position}");
        }
        // One that might be read in ranges gains by a place only if that is far.
        assert!(places.before(9_000, 5_000 / WORTH, true).is_some());
        assert_eq!(places.before(9_000, 5_000 / WORTH + 1, true), None);
        assert_eq!(places.before(u64::MAX, u64::MAX, true), None);
    }

    #[test]
    fn places_of_another_snapshot_are_forgotten() {
        let places = Places::default();
        places.learn(STAMP, 2_000, &keys(1));
        for other in [Stamp { snapshot: 8, ..STAMP }, Stamp { lock: 2, ..STAMP }] {
            places.forget(other);
            assert_eq!(positions(&places), [2_000], "it is of no others");
        }
        places.forget(STAMP);
        assert_eq!(positions(&places), [0; 0]);
        places.learn(STAMP, 2_000, &keys(1));
        let other = Stamp { snapshot: 8, ..STAMP };
        places.learn(other, 3_000, &keys(2));
        assert_eq!(positions(&places), [3_000]);
        assert_eq!(places.before(3_000, 1, false).unwrap().0, other);
    }

    #[test]
    fn places_near_the_start_and_those_of_long_keys_are_not_kept() {
        let places = Places::default();
        places.learn(STAMP, FROM - 1, &keys(1));
        places.learn(STAMP, FROM, &[KeyValue::Text("x".repeat(LONGEST_KEYS)), KeyValue::Int(1)]);
        places.learn(STAMP, FROM, &[KeyValue::Blob(vec![0; LONGEST_KEYS + 1])]);
        assert_eq!(positions(&places), [0; 0]);
        places.learn(STAMP, FROM, &[KeyValue::Text("x".repeat(LONGEST_KEYS))]);
        assert_eq!(positions(&places), [FROM]);
    }

    #[test]
    fn of_many_places_those_used_last_are_kept() {
        let places = Places::default();
        let most = MOST_PLACES as u64;
        for n in 0..most {
            places.learn(STAMP, FROM + n, &keys(0));
        }
        assert!(places.before(FROM, 1, false).is_some());
        places.learn(STAMP, FROM + 1, &keys(0));
        places.learn(STAMP, FROM + most, &keys(0));
        let all: Vec<u64> = (0..=most).filter(|n| *n != 2).map(|n| FROM + n).collect();
        assert_eq!(positions(&places), all);
    }

    #[test]
    fn where_others_write_all_the_time_few_pages_are_looked_at() {
        let places = Places::default();
        for _ in 0..VAIN {
            assert!(places.wants_more() && places.wants_more());
            places.learn(STAMP, FROM, &keys(0));
            places.forget(STAMP);
            places.forget(STAMP);
        }
        let looked: Vec<bool> = (0..2 * LOOK_AGAIN).map(|_| places.wants_more()).collect();
        let every: Vec<bool> = (1..=2 * LOOK_AGAIN).map(|n| n % LOOK_AGAIN == 0).collect();
        assert_eq!(looked, every);
        places.was_of_use();
        assert!(places.wants_more());
        // Also where none is ever found, as on a standby. What was dropped for another reason does not count.
        for _ in 0..VAIN {
            assert!(places.wants_more());
            places.learn(STAMP, FROM, &keys(0));
            assert!(places.drop_of(STAMP) && !places.drop_of(STAMP));
            assert!(places.wants_more());
            places.looked_in_vain();
        }
        assert!(!places.wants_more());
    }

    #[test]
    fn a_query_whose_keys_are_not_fit_has_none() {
        let places = Places::default();
        assert!(places.learn(STAMP, FROM, &keys(0)) && places.may_be());
        places.end();
        assert!(!places.may_be());
        assert_eq!(places.before(FROM, 1, false), None);
    }
}
