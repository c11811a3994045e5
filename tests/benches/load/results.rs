//! What was measured, turn by turn, kept in a file as it comes; and what rounds say together.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::Outcome;
use crate::plan::{Cell, Contestant, Plan, Site};

/// One turn.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    /// Lists a second.
    pub(crate) per_second: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) light_p99_ms: f64,
    /// Complete answers, from which the percentiles are.
    pub(crate) requests: f64,
}

struct Entry {
    site: Site,
    cell: Cell,
    contestant: Contestant,
    round: usize,
    slot: Slot,
}

pub(crate) struct Results {
    entries: Vec<Entry>,
    file: File,
}

/// A median over rounds, and the extremes.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, low, high })
    }
}

/// As a ratio.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |value: f64| if value >= 10.0 { 0 } else { 2 };
        let (a, b, c) = (digits(self.median), digits(self.low), digits(self.high));
        write!(f, "{:.a$}x ({:.b$} to {:.c$})", self.median, self.low, self.high)
    }
}

/// Where everything of a run is kept, beside the build's other output.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("load")
}

impl Results {
    pub(crate) fn new(plan: &Plan) -> Outcome<Self> {
        let failed = |error: std::io::Error| format!("no file for the results: {error}");
        std::fs::create_dir_all(folder()).map_err(failed)?;
        let mut file = File::create(folder().join("turns.tsv")).map_err(failed)?;
        writeln!(file, "# {}", plan.command()).map_err(failed)?;
        let names = "site\tpage\tconnections\tcontestant\tround\tper_second\tmean_ms\tp50_ms\tp99_ms\tlight_p99_ms\trequests";
        writeln!(file, "{names}").map_err(failed)?;
        Ok(Results { entries: Vec::new(), file })
    }

    pub(crate) fn add(
        &mut self,
        site: Site,
        cell: Cell,
        contestant: Contestant,
        round: usize,
        slot: Slot,
    ) -> Outcome {
        let Slot { per_second, mean_ms, p50_ms, p99_ms, light_p99_ms, requests } = slot;
        writeln!(
            self.file,
            "{}\t{}\t{}\t{}\t{round}\t{per_second}\t{mean_ms}\t{p50_ms}\t{p99_ms}\t{light_p99_ms}\t{requests}",
            site.name(),
            cell.page,
            cell.connections,
            contestant.name()
        )
        .map_err(|error| format!("the results cannot be kept: {error}"))?;
        self.entries.push(Entry { site, cell, contestant, round, slot });
        Ok(())
    }

    fn of(&self, site: Site, cell: &Cell, contestant: Contestant) -> impl Iterator<Item = &Entry> {
        let cell = *cell;
        self.entries
            .iter()
            .filter(move |entry| entry.site == site && entry.cell == cell && entry.contestant == contestant)
    }

    /// A number of a contestant, over its rounds.
    pub(crate) fn value(
        &self,
        site: Site,
        cell: &Cell,
        contestant: Contestant,
        number: fn(&Slot) -> f64,
    ) -> Option<Spread> {
        Spread::of(self.of(site, cell, contestant).map(|entry| number(&entry.slot)).collect())
    }

    /// One's number over another's, of the same round.
    pub(crate) fn ratio(
        &self,
        site: Site,
        cell: &Cell,
        one: Contestant,
        other: Contestant,
        number: fn(&Slot) -> f64,
    ) -> Option<Spread> {
        let ratios = self.of(site, cell, one).filter_map(|entry| {
            let other = self.of(site, cell, other).find(|other| other.round == entry.round)?;
            Some(number(&entry.slot) / number(&other.slot))
        });
        Spread::of(ratios.collect())
    }
}
