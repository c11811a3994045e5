//! What follows for a list from its text and the catalogue.
//!
//! Whether the order is total is a closure of functional dependencies: the order's keys settle columns,
//! equalities carry that on to other columns, and a table whose unique key is settled is settled with
//! all its columns. The order is total when all tables are settled.

use std::collections::{HashMap, HashSet};

use super::names::{Meaning, Names, Place};
use super::parse::{ColumnRef, Condition, Constant, Parsed};
use crate::db::{Dialect, Equality, Table, TableName};

/// What is known of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Of each key of the order, whether it may be NULL. `None`: cannot tell.
    pub(crate) nullable: Vec<Option<bool>>,
    /// Whether the keys of the order together determine the row. `Some(false)`: all tables are known,
    /// and it does not follow. `None`: cannot tell.
    pub(crate) unique: Option<bool>,
    /// Why it must never be read in ranges over several connections.
    pub(crate) splits: Result<(), &'static str>,
    /// Whether the rows come promptly if their order comes from an index: nothing is filtered, joins add
    /// to a row and do not multiply it, and what is worked out for a row is cheap.
    pub(crate) prompt: bool,
    /// Whether the keys mean in a condition what they mean in the order, where a name may also be that of a
    /// column of the result.
    pub(crate) seeks: bool,
    /// Whether its rows are its tables' rows, so that they can be counted without its columns.
    pub(crate) plain: bool,
}

impl Parsed {
    /// What follows if `catalogue` has what is known of the tables.
    pub(crate) fn facts(&self, catalogue: &HashMap<TableName, Table>) -> Facts {
        let names = Names::new(self, catalogue);
        let meanings: Vec<Meaning> = self.keys.iter().map(|key| names.meaning(key)).collect();
        let known = self.tables().iter().all(|table| catalogue.contains_key(table)) && names.complete();
        let rules = Rules::new(self, &names);
        let trusted = self.joins && self.verdict.rows;

        let nullable = meanings.iter().map(|meaning| match meaning {
            Meaning::Column(place) if trusted => rules.nullable(*place),
            _ => None,
        });
        let settled = self.keys.iter().zip(&meanings).filter_map(|(key, meaning)| match meaning {
            Meaning::Column(place) if key.exact => Some(*place),
            _ => None,
        });
        let unique = match rules.settles(settled, None) {
            _ if !trusted => None,
            true => Some(true),
            false if names.complete() => Some(false),
            false => None,
        };
        let seeks = self.keys.iter().zip(&meanings).all(|(key, meaning)| {
            let Some(column) = &key.column else { return true };
            let same =
                |namesake: &Option<ColumnRef>| namesake.as_ref().is_some_and(|n| n.name == column.name);
            key.namesakes.iter().all(same)
                && match meaning {
                    Meaning::Column(place) => names.find(column) == Some(*place),
                    Meaning::Elsewhere => true,
                    Meaning::Expression => key.namesakes.is_empty(),
                }
        });
        let beyond_snapshot = names.tables.iter().flatten().any(|table| table.beyond_snapshot);
        let splits = self.verdict.stable.and(if !self.joins {
            Err("its joins are not understood")
        } else if meanings.contains(&Meaning::Expression) {
            Err("a key of its order is not a column")
        } else if !seeks {
            Err("a key of its order has the name of another column of the result")
        } else if beyond_snapshot {
            Err("which of a table's rows are seen depends on more than the snapshot")
        } else if !known {
            // A view may do anything that was looked for in the text.
            Err("it reads a view, or a table that is not known")
        } else {
            Ok(())
        });
        let to_one = match meanings.first() {
            Some(Meaning::Column((source, _))) => rules.settles([], Some(*source)),
            _ => false,
        };
        let harmless = self.verdict.stable.is_ok() && !self.verdict.subqueries;
        let prompt = trusted && known && to_one && harmless && !self.filtered;
        Facts { nullable: nullable.collect(), unique, splits, prompt, seeks, plain: trusted }
    }
}

/// What holds in every row of the result, as places.
struct Rules<'a> {
    names: &'a Names<'a>,
    /// Columns that settle each other.
    equal: Vec<(Place, Place)>,
    constant: HashSet<Place>,
    not_null: HashSet<Place>,
    /// Of each source that is LEFT JOINed, the columns that the tables before it settle where it is not
    /// NULL; these columns are not NULL then.
    outer: Vec<Option<HashSet<Place>>>,
}

impl<'a> Rules<'a> {
    fn new(parsed: &Parsed, names: &'a Names<'a>) -> Self {
        let mut rules = Rules {
            names,
            equal: Vec::new(),
            constant: HashSet::new(),
            not_null: HashSet::new(),
            outer: Vec::new(),
        };
        for condition in &parsed.conditions {
            match condition {
                Condition::Equal(a, b) => {
                    let (a, b) = (names.find(a), names.find(b));
                    rules.not_null.extend(a.into_iter().chain(b));
                    if let (Some(a), Some(b)) = (a, b)
                        && rules.same(a, b)
                    {
                        rules.equal.push((a, b));
                    }
                }
                Condition::Constant(column, constant) => {
                    let place = names.find(column);
                    rules.not_null.extend(place);
                    rules
                        .constant
                        .extend(place.filter(|place| rules.is_settled(*place, *constant, parsed.dialect)));
                }
                Condition::NotNull(column) => rules.not_null.extend(names.find(column)),
            }
        }
        for (source, table) in parsed.sources.iter().enumerate() {
            rules.outer.push(table.outer.as_ref().map(|on| {
                on.iter()
                    .filter_map(|condition| rules.outer_place(source, condition, parsed.dialect))
                    .collect()
            }));
        }
        for (left, right, always) in names.joined() {
            if !rules.same(left, right) {
                continue;
            }
            if always {
                rules.not_null.extend([left, right]);
                rules.equal.push((left, right));
            } else if let Some(Some(settled)) = rules.outer.get_mut(right.0) {
                settled.insert(right);
            }
        }
        rules
    }

    /// The column of a LEFT JOINed source that a condition of its ON settles.
    fn outer_place(&self, source: usize, condition: &Condition, dialect: Dialect) -> Option<Place> {
        let own = |column: &ColumnRef| self.names.find(column).filter(|place| place.0 == source);
        let before = |column: &ColumnRef| self.names.find(column).filter(|place| place.0 < source);
        match condition {
            Condition::Equal(a, b) => {
                let (inner, outer) = own(a).zip(before(b)).or_else(|| own(b).zip(before(a)))?;
                self.same(inner, outer).then_some(inner)
            }
            Condition::Constant(column, constant) => {
                own(column).filter(|place| self.is_settled(*place, *constant, dialect))
            }
            Condition::NotNull(_) => None,
        }
    }

    fn same(&self, a: Place, b: Place) -> bool {
        self.names.at(a).zip(self.names.at(b)).is_some_and(|(a, b)| a.equality.same(&b.equality))
    }

    /// Whether being equal to a constant leaves a column one value only.
    fn is_settled(&self, place: Place, constant: Constant, dialect: Dialect) -> bool {
        let Some(column) = self.names.at(place) else { return false };
        match (dialect, &column.equality) {
            // In MySQL `'1' = 1`, `'01' = 1` and `'x' = 0`, so it takes text to settle text.
            (Dialect::MySql, Equality::Text(_)) => constant == Constant::Text,
            (Dialect::MySql, Equality::Integer) => constant != Constant::Text,
            (Dialect::MySql, _) => false,
            (Dialect::Sqlite | Dialect::Postgres, equality) => *equality != Equality::Unknown,
        }
    }

    /// Whether a column may be NULL in the result.
    fn nullable(&self, place: Place) -> Option<bool> {
        let column = self.names.at(place)?;
        let outer = self.outer.get(place.0)?.is_some();
        Some((column.nullable || outer) && !self.not_null.contains(&place))
    }

    /// Whether these columns, and all of this table, settle all tables.
    fn settles(&self, columns: impl IntoIterator<Item = Place>, source: Option<usize>) -> bool {
        let mut settled: HashSet<Place> = columns.into_iter().chain(self.constant.iter().copied()).collect();
        let mut tables = vec![false; self.names.tables.len()];
        if let Some(source) = source {
            self.settle(source, &mut tables, &mut settled);
        }
        loop {
            let before = settled.len();
            for &(a, b) in &self.equal {
                if settled.contains(&a) || settled.contains(&b) {
                    settled.extend([a, b]);
                }
            }
            let mut more = settled.len() > before;
            for source in 0..tables.len() {
                if !tables[source] && self.is_key_settled(source, &tables, &settled) {
                    self.settle(source, &mut tables, &mut settled);
                    more = true;
                }
            }
            if !more {
                return tables.iter().all(|settled| *settled);
            }
        }
    }

    fn settle(&self, source: usize, tables: &mut [bool], settled: &mut HashSet<Place>) {
        tables[source] = true;
        let columns = self.names.tables[source].map_or(0, |table| table.columns.len());
        settled.extend((0..columns).map(|column| (source, column)));
    }

    /// Whether a table's row is settled by one of its unique keys.
    fn is_key_settled(&self, source: usize, tables: &[bool], settled: &HashSet<Place>) -> bool {
        let Some(table) = self.names.tables[source] else { return false };
        let by_join = match &self.outer[source] {
            // Without the whole row before it, one that joins cannot be told from one that does not.
            Some(_) if tables[..source].contains(&false) => return false,
            Some(by_join) => Some(by_join),
            None => None,
        };
        let is_settled = |column: &String| {
            let Some(place) = self.names.column(source, column) else { return false };
            if by_join.is_some_and(|by_join| by_join.contains(&place)) {
                return true;
            }
            // Any number of rows may have a key with NULL in it.
            let nullable = self.names.at(place).is_none_or(|column| column.nullable);
            settled.contains(&place) && (!nullable || self.not_null.contains(&place))
        };
        table.unique.iter().any(|key| !key.is_empty() && key.iter().all(is_settled))
    }
}
