//! What a page of the table `item` must hold after so many writes: the oracle of tests that read while
//! somebody writes. The state after write number `v` is a pure function of a seed and `v`, and each row
//! of a page says which `v` it saw. Reading pages is for `pages`, bringing the writes to a database for
//! `writers`.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::pages::{Asked, Key, Order, Place, Seen};

/// A table `item` and its writes: as many rows as `rows`, give or take a twentieth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) seed: u64,
    /// At least 40, so that no kind of write ever lacks a row.
    pub(crate) rows: usize,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: i64,
    pub(crate) k: i32,
    pub(crate) note: String,
}

/// One write: the rows as they are after it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    Insert(Item),
    Delete(i64),
    /// Changes `k`.
    Move(Item),
    /// Two rows exchange their `k`.
    Swap(Item, Item),
    /// Changes `id`: one row is gone and another has come, so that their number does not tell.
    Renumber(i64, Item),
}

/// A page that is not wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Exactly the rows that the table had after write `v`.
    Right { v: i64 },
    /// No row, hence no `v` to compare with.
    Empty,
}

impl Item {
    fn new(id: i64, k: i32, by: i64) -> Self {
        // Quotes and letters of two bytes, in notes of several lengths, for those who compare bytes.
        let note = format!("\"{id}\" by write {by}{}", "é".repeat(by.rem_euclid(7) as usize));
        Item { id, k, note }
    }
}

impl Table {
    /// The state before the first write.
    pub(crate) fn model(self) -> Model {
        assert!(self.rows >= 40, "{self:?} has too few rows");
        let mut draws = Draws::new(self, 0);
        let mut model = Model { table: self, v: 0, by_id: vec![], by_k: vec![], by_k_desc: vec![] };
        for place in 0..self.rows as i64 {
            let id = place * GAP + 1 + draws.below(GAP as usize) as i64;
            let k = draws.k(self);
            model.add(Row { id, k, by: 0 });
        }
        model
    }

    /// Page number `n` of an endless mixture of all orders and places.
    pub(crate) fn asked(self, n: u64) -> Asked {
        let draws = &mut Draws::new(self, i64::MIN + n as i64);
        let order = [Order::Id, Order::IdDesc, Order::K, Order::KDesc][draws.below(4)];
        let key = Key { k: draws.k(self), id: draws.id(self) };
        let place = match draws.below(4) {
            0 => Place::After(key),
            1 => Place::Before(key),
            _ => Place::Offset(draws.below(self.rows)),
        };
        Asked { order, place, limit: 1 + draws.below(100) }
    }
}

/// How far apart the first rows are.
const GAP: i64 = 8;

/// A row, its note told by the write that made it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    id: i64,
    k: i32,
    by: i64,
}

impl Row {
    fn item(self) -> Item {
        Item::new(self.id, self.k, self.by)
    }
}

/// The table after write `v`. A reader, whose pages never go back in time, keeps one of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    table: Table,
    v: i64,
    // Sorted vectors, not trees: any offset is found at once, and moving the rows behind an insertion
    // is cheap at the sizes of tests.
    by_id: Vec<Row>,
    by_k: Vec<(i32, i64)>,
    by_k_desc: Vec<(Reverse<i32>, i64)>,
}

impl Model {
    /// How many writes it has seen.
    pub(crate) fn v(&self) -> i64 {
        self.v
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Carries out the writes up to number `v`.
    pub(crate) fn advance_to(&mut self, v: i64) {
        assert!(v >= self.v, "version {v} is past, at {}", self.v);
        while self.v < v {
            self.write();
        }
    }

    /// Carries out the next write, and tells which it was.
    pub(crate) fn write(&mut self) -> Write {
        let by = self.v + 1;
        let draws = &mut Draws::new(self.table, by);
        let slack = self.table.rows / 20;
        let kind = draws.below(8);
        let write = match kind {
            0..4 => {
                let few = self.len() + slack <= self.table.rows;
                let many = self.len() >= self.table.rows + slack;
                if few || (kind < 2 && !many) {
                    let row = Row { id: self.free(draws), k: draws.k(self.table), by };
                    self.add(row);
                    Write::Insert(row.item())
                } else {
                    let gone = self.by_id[draws.below(self.len())].id;
                    self.remove(gone);
                    Write::Delete(gone)
                }
            }
            4 | 5 => {
                let row = self.by_id[draws.below(self.len())];
                Write::Move(self.replace(row.id, Row { k: draws.k(self.table), by, ..row }))
            }
            6 => {
                let one = draws.below(self.len());
                let other = (one + 1 + draws.below(self.len() - 1)) % self.len();
                let (one, other) = (self.by_id[one], self.by_id[other]);
                Write::Swap(
                    self.replace(one.id, Row { k: other.k, by, ..one }),
                    self.replace(other.id, Row { k: one.k, by, ..other }),
                )
            }
            _ => {
                let row = self.by_id[draws.below(self.len())];
                let id = self.free(draws);
                Write::Renumber(row.id, self.replace(row.id, Row { id, by, ..row }))
            }
        };
        self.v = by;
        write
    }

    /// The page as it must be now.
    pub(crate) fn page(&self, asked: Asked) -> Vec<Item> {
        let Asked { order, place, limit } = asked;
        let (start, end) = match place {
            Place::Offset(offset) => (offset, offset.saturating_add(limit)),
            Place::After(key) => {
                let start = self.ahead(order, key, true);
                (start, start.saturating_add(limit))
            }
            Place::Before(key) => {
                let end = self.ahead(order, key, false);
                (end.saturating_sub(limit), end)
            }
        };
        let range = start.min(self.len())..end.min(self.len());
        let of_id = |id| self.by_id[self.search(id).expect("a row of the index")].item();
        match order {
            Order::Id => self.by_id[range].iter().map(|row| row.item()).collect(),
            Order::IdDesc => {
                let range = self.len() - range.end..self.len() - range.start;
                self.by_id[range].iter().rev().map(|row| row.item()).collect()
            }
            Order::K => self.by_k[range].iter().map(|&(_, id)| of_id(id)).collect(),
            Order::KDesc => self.by_k_desc[range].iter().map(|&(_, id)| of_id(id)).collect(),
        }
    }

    /// Compares a page with the one that was asked for at the version its rows saw.
    pub(crate) fn check(&mut self, asked: Asked, page: &[Seen]) -> Result<Verdict, String> {
        let Some(&Seen { v, .. }) = page.first() else { return Ok(Verdict::Empty) };
        if let Some(other) = page.iter().find(|seen| seen.v != v) {
            return Err(format!("{asked:?}: rows of versions {v} and {} in one page", other.v));
        }
        if v < self.v {
            return Err(format!("{asked:?}: version {v} after version {}", self.v));
        }
        self.advance_to(v);
        let due = self.page(asked);
        let same = |(seen, due): (&Seen, &Item)| (seen.id, seen.k, &seen.note) == (due.id, due.k, &due.note);
        match page.iter().zip(&due).position(|pair| !same(pair)) {
            Some(at) => {
                Err(format!("{asked:?} at version {v}: row {at} is {:?}, not {:?}", page[at], due[at]))
            }
            None if page.len() != due.len() => {
                Err(format!("{asked:?} at version {v}: {} rows, not {}", page.len(), due.len()))
            }
            None => Ok(Verdict::Right { v }),
        }
    }

    /// How many rows the order puts before the key, and those equal to it as well if `through`.
    fn ahead(&self, order: Order, Key { k, id }: Key, through: bool) -> usize {
        use std::cmp::Ordering::{Equal, Less};
        let ahead = |ordering| ordering == Less || (through && ordering == Equal);
        match order {
            Order::Id => self.by_id.partition_point(|row| ahead(row.id.cmp(&id))),
            Order::IdDesc => self.len() - self.by_id.partition_point(|row| !ahead(id.cmp(&row.id))),
            Order::K => self.by_k.partition_point(|row| ahead(row.cmp(&(k, id)))),
            Order::KDesc => self.by_k_desc.partition_point(|row| ahead(row.cmp(&(Reverse(k), id)))),
        }
    }

    fn search(&self, id: i64) -> Result<usize, usize> {
        self.by_id.binary_search_by_key(&id, |row| row.id)
    }

    fn add(&mut self, row: Row) {
        let at = self.search(row.id).expect_err("a free id");
        self.by_id.insert(at, row);
        let at = self.by_k.binary_search(&(row.k, row.id)).expect_err("a free id");
        self.by_k.insert(at, (row.k, row.id));
        let at = self.by_k_desc.binary_search(&(Reverse(row.k), row.id)).expect_err("a free id");
        self.by_k_desc.insert(at, (Reverse(row.k), row.id));
    }

    fn remove(&mut self, id: i64) {
        let row = self.by_id.remove(self.search(id).expect("a row"));
        self.by_k.remove(self.by_k.binary_search(&(row.k, id)).expect("a row"));
        self.by_k_desc.remove(self.by_k_desc.binary_search(&(Reverse(row.k), id)).expect("a row"));
    }

    fn replace(&mut self, id: i64, row: Row) -> Item {
        self.remove(id);
        self.add(row);
        row.item()
    }

    /// An id that no row has.
    fn free(&self, draws: &mut Draws) -> i64 {
        loop {
            let id = draws.id(self.table);
            if self.search(id).is_err() {
                return id;
            }
        }
    }
}

/// The random numbers of one write (SplitMix64).
struct Draws(u64);

impl Draws {
    fn new(table: Table, by: i64) -> Self {
        Draws(mix(mix(table.seed) ^ by as u64))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % bound as u64) as usize
    }

    fn id(&mut self, table: Table) -> i64 {
        1 + self.below(table.rows * GAP as usize) as i64
    }

    /// Few enough that several rows share a `k`.
    fn k(&mut self, table: Table) -> i32 {
        self.below(table.rows / 4) as i32
    }
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A page as a reader would have seen it.
fn seen(model: &Model, asked: Asked) -> Vec<Seen> {
    let see = |Item { id, k, note }| Seen { id, k, note, v: model.v() };
    model.page(asked).into_iter().map(see).collect()
}

#[test]
fn every_page_equals_the_sorted_and_filtered_rows() {
    let table = Table { seed: 1, rows: 60 };
    let mut model = table.model();
    for n in 0..2_000 {
        model.advance_to(n as i64);
        let Asked { order, place, limit } = table.asked(n);
        let mut rows: Vec<_> = model.by_id.iter().map(|row| row.item()).collect();
        let key_of = |row: &Item| Key { k: row.k, id: row.id };
        let compare = |a: Key, b: Key| match order {
            Order::Id => a.id.cmp(&b.id),
            Order::IdDesc => b.id.cmp(&a.id),
            Order::K => (a.k, a.id).cmp(&(b.k, b.id)),
            Order::KDesc => b.k.cmp(&a.k).then(a.id.cmp(&b.id)),
        };
        rows.sort_by(|a, b| compare(key_of(a), key_of(b)));
        let due: Vec<_> = match place {
            Place::Offset(offset) => rows.into_iter().skip(offset).take(limit).collect(),
            Place::After(key) => {
                rows.into_iter().filter(|row| compare(key_of(row), key).is_gt()).take(limit).collect()
            }
            Place::Before(key) => {
                rows.retain(|row| compare(key_of(row), key).is_lt());
                rows.split_off(rows.len().saturating_sub(limit))
            }
        };
        assert_eq!(model.page(Asked { order, place, limit }), due);
        assert!(model.len().abs_diff(table.rows) <= table.rows / 20, "{} rows", model.len());
    }
}

#[test]
fn the_writes_of_a_seed_are_always_the_same_and_those_of_another_are_not() {
    let writes = |seed| {
        let mut model = Table { seed, rows: 40 }.model();
        (0..500).map(|_| model.write()).collect::<Vec<_>>()
    };
    let ours = writes(1);
    assert_eq!(ours, writes(1));
    assert_ne!(ours, writes(2));
    let kinds: std::collections::HashSet<_> = ours.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 5, "not all kinds of writes");
}

#[test]
fn a_page_that_differs_in_anything_is_refused() {
    let table = Table { seed: 2, rows: 500 };
    let mut model = table.model();
    model.advance_to(100);
    for n in 0..200 {
        let asked = table.asked(n);
        let right = seen(&model, asked);
        let Some(last) = right.last() else {
            assert_eq!(model.check(asked, &right), Ok(Verdict::Empty));
            continue;
        };
        assert_eq!(model.check(asked, &right), Ok(Verdict::Right { v: 100 }));
        let corruptions: [fn(&mut Vec<Seen>); 9] = [
            |page| drop(page.remove(0)),
            |page| drop(page.pop()),
            |page| page.rotate_left(1),
            |page| page.reverse(),
            |page| page.push(page[0].clone()),
            |page| page.insert(0, page[0].clone()),
            |page| page[0].note.push(' '),
            |page| page[0].k += 1,
            |page| page[0].id += 1,
        ];
        for (which, corrupt) in corruptions.into_iter().enumerate() {
            let mut page = right.clone();
            corrupt(&mut page);
            // A page of one row has none to lose or to take another place.
            if page.is_empty() || page == right {
                assert_eq!(right.len(), 1, "corruption {which} changed nothing");
                continue;
            }
            let verdict = model.check(asked, &page);
            assert!(verdict.is_err(), "corruption {which} of {asked:?} was not seen: {verdict:?}");
        }
        let mut page = right.clone();
        page.push(Seen { v: 101, ..last.clone() });
        assert!(model.check(asked, &page).unwrap_err().contains("versions 100 and 101"));
        page.iter_mut().for_each(|seen| seen.v = 99);
        assert!(model.check(asked, &page).unwrap_err().contains("version 99 after version 100"));
    }
}
