//! Finds the column of a known table that a name in the text means, by SQL's rules for names without a
//! table and for columns joined by USING. Where databases differ, or it depends on a table that is not
//! known, a name means nothing.

use std::collections::HashMap;

use super::parse::{ColumnRef, Key, Parsed};
use crate::db::{Column, Table, TableName};

/// A column: the index of its source in FROM, and its index in the table.
pub(super) type Place = (usize, usize);

/// What a key of the order means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Column(Place),
    /// A column, but of a table that is not known.
    Elsewhere,
    /// An expression, or something that cannot be told from one.
    Expression,
}

/// The columns of a text's tables.
pub(super) struct Names<'a> {
    parsed: &'a Parsed,
    /// What the catalogue says of each source.
    pub(super) tables: Vec<Option<&'a Table>>,
    /// Columns that USING makes one, the one in the first table first.
    merged: Vec<Vec<Place>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(parsed: &'a Parsed, catalogue: &'a HashMap<TableName, Table>) -> Self {
        let table = |name: &TableName| catalogue.get(name);
        let tables = parsed.sources.iter().map(|source| source.table.as_ref().and_then(table)).collect();
        let mut names = Names { parsed, tables, merged: Vec::new() };
        for (index, source) in parsed.sources.iter().enumerate() {
            for name in &source.using {
                let Some(right) = names.column(index, name) else { continue };
                let before = |other: usize| other < index && parsed.sources[other].chain == source.chain;
                // A table that is not known may have a column of that name as well.
                if (0..index).any(|other| before(other) && names.tables[other].is_none()) {
                    continue;
                }
                let Some(left) = names.unqualified(name, before) else { continue };
                match names.merged.iter_mut().find(|merged| merged.contains(&left)) {
                    Some(merged) => merged.push(right),
                    None => names.merged.push(vec![left, right]),
                }
            }
        }
        names
    }

    /// Whether all tables are known.
    pub(super) fn complete(&self) -> bool {
        self.tables.iter().all(Option::is_some)
    }

    /// What the catalogue says of a column.
    pub(super) fn at(&self, (source, column): Place) -> Option<&'a Column> {
        self.tables.get(source).copied().flatten()?.columns.get(column)
    }

    /// A source's column by its name alone.
    pub(super) fn column(&self, source: usize, name: &str) -> Option<Place> {
        let table = self.tables.get(source).copied().flatten()?;
        let column = table.columns.iter().position(|column| column.name == name)?;
        Some((source, column))
    }

    /// The column that is meant.
    pub(super) fn find(&self, column: &ColumnRef) -> Option<Place> {
        let Some(table) = &column.table else { return self.unqualified(&column.name, |_| true) };
        let mut sources = (0..self.tables.len()).filter(|&index| {
            let source = &self.parsed.sources[index];
            let schema = source.table.as_ref().and_then(|table| table.schema.as_ref());
            source.alias.as_ref() == Some(table)
                && (column.schema.is_none() || source.itself && schema == column.schema.as_ref())
        });
        match (sources.next(), sources.next()) {
            (Some(source), None) => self.column(source, &column.name),
            _ => None,
        }
    }

    /// The column of this name in those sources, if there is but one.
    fn unqualified(&self, name: &str, of: impl Fn(usize) -> bool) -> Option<Place> {
        let places: Vec<Place> = (0..self.tables.len())
            .filter(|&source| of(source))
            .filter_map(|s| self.column(s, name))
            .collect();
        match places.as_slice() {
            [] => None,
            [place] => Some(*place),
            several => self
                .merged
                .iter()
                .find(|merged| several.iter().all(|place| merged.contains(place)))
                .map(|merged| merged[0]),
        }
    }

    /// Pairs of columns that USING makes equal, with whether that holds in every row of the result.
    pub(super) fn joined(&self) -> impl Iterator<Item = (Place, Place, bool)> + '_ {
        self.merged.iter().flat_map(move |merged| {
            merged[1..]
                .iter()
                .map(move |right| (merged[0], *right, self.parsed.sources[right.0].outer.is_none()))
        })
    }

    /// What a key of the order means.
    pub(super) fn meaning(&self, key: &Key) -> Meaning {
        let Some(column) = &key.column else { return Meaning::Expression };
        if key.namesakes.is_empty() {
            return match self.find(column) {
                Some(place) => Meaning::Column(place),
                // A rowid, a whole row, or text in quotes.
                None if self.complete() => Meaning::Expression,
                None => Meaning::Elsewhere,
            };
        }
        // The name is that of a column of the result. It is plain if that is a column of a table, and no
        // other column of a table has the name.
        let mut meant = None;
        for namesake in &key.namesakes {
            let Some(namesake) = namesake else { return Meaning::Expression };
            match self.find(namesake) {
                None if self.complete() => return Meaning::Expression,
                None => return Meaning::Elsewhere,
                place if meant.is_some() && meant != place => return Meaning::Expression,
                place => meant = place,
            }
        }
        let Some(meant) = meant else { return Meaning::Expression };
        // `SELECT u.id FROM u JOIN p … ORDER BY id` is not about `p.id` for any database.
        let own = self.at(meant).is_some_and(|found| found.name == column.name);
        let doubtful = |place: Place| {
            let merged = self.merged.iter().find(|merged| merged.contains(&place) && merged.contains(&meant));
            // By USING one name is several columns, and some databases take the first.
            merged.map_or(!own, |merged| merged[0] != meant)
        };
        let mut others = (0..self.tables.len()).filter_map(|source| self.column(source, &column.name));
        if others.any(|place| place != meant && doubtful(place)) {
            return Meaning::Expression;
        }
        Meaning::Column(meant)
    }
}
