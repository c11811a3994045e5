//! What is measured: sites, cells, rounds, and what of it the command line leaves out. Pure.

use std::fmt;

const HELP: &str =
    "cargo bench -p multicore-tests --bench load -- [quick] [write] [SITE...] [ROWSxUS...] [cN...]
  quick     one round of a few cells, in under three minutes
  write     writes BENCHMARKS.md and docs/ even if something was left out
  SITE      sqlite, postgres, limits (where it does not help), distant (PostgreSQL 10 ms away)
  ROWSxUS   only these pages, for example 1000x20
  cN        only with N connections, for example c8
Nothing: all of it, written into BENCHMARKS.md and docs/.";

/// A database, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Site {
    Sqlite,
    Postgres,
    /// PostgreSQL behind a proxy that holds everything back.
    Distant,
}

impl Site {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Site::Sqlite => "SQLite",
            Site::Postgres => "PostgreSQL",
            Site::Distant => "PostgreSQL, 10 ms away",
        }
    }
}

/// A way to write the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contestant {
    Plain,
    Rayon,
    SpawnBlocking,
    JoinSet,
    Multicore,
}

impl Contestant {
    pub(crate) const ALL: [Contestant; 5] = [
        Contestant::Plain,
        Contestant::Rayon,
        Contestant::SpawnBlocking,
        Contestant::JoinSet,
        Contestant::Multicore,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Contestant::Plain => "plain",
            Contestant::Rayon => "rayon",
            Contestant::SpawnBlocking => "spawn_blocking",
            Contestant::JoinSet => "JoinSet",
            Contestant::Multicore => "Multicore",
        }
    }
}

/// A page of the list and what its rows cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    pub(crate) rows: u32,
    pub(crate) render_us: u32,
    /// In an order that no index has.
    pub(crate) sorted: bool,
}

impl Page {
    pub(crate) fn path(&self) -> String {
        format!("/list?limit={}&render_us={}&sorted={}", self.rows, self.render_us, self.sorted)
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows >= 1_000 {
            write!(f, "{},{:03} x {}", self.rows / 1_000, self.rows % 1_000, self.render_us)?;
        } else {
            write!(f, "{} x {}", self.rows, self.render_us)?;
        }
        if self.sorted { f.write_str(", unindexed sort") } else { Ok(()) }
    }
}

/// What one turn measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    pub(crate) page: Page,
    pub(crate) connections: usize,
    /// Belongs to "where it does not help".
    pub(crate) limit: bool,
}

const PAGES: [(u32, u32); 7] =
    [(100, 0), (100, 20), (100, 200), (1_000, 0), (1_000, 20), (1_000, 200), (10_000, 0)];
const QUICK: [(u32, u32); 3] = [(100, 0), (1_000, 20), (1_000, 200)];

pub(crate) struct Plan {
    quick: bool,
    write: bool,
    cores: usize,
    main: bool,
    limits: bool,
    sites: Vec<Site>,
    pages: Vec<(u32, u32)>,
    connections: Vec<usize>,
    /// The words that were given, to be written beside the results.
    words: Vec<String>,
}

impl Plan {
    pub(crate) fn new(words: &[String]) -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut plan = Plan {
            quick: false,
            write: false,
            cores,
            main: false,
            limits: false,
            sites: Vec::new(),
            pages: Vec::new(),
            connections: Vec::new(),
            words: words.to_vec(),
        };
        for word in words {
            match word.as_str() {
                "quick" => plan.quick = true,
                "write" => plan.write = true,
                "sqlite" => plan.sites.push(Site::Sqlite),
                "postgres" => plan.sites.push(Site::Postgres),
                "distant" => plan.sites.push(Site::Distant),
                "limits" => plan.limits = true,
                _ => {
                    if let Some(connections) = word.strip_prefix('c').and_then(|n| n.parse().ok()) {
                        plan.connections.push(connections);
                    } else if let Some((rows, us)) = word.split_once('x')
                        && let (Ok(rows), Ok(us)) = (rows.parse(), us.parse())
                    {
                        plan.pages.push((rows, us));
                    } else {
                        return Err(HELP.to_owned());
                    }
                }
            }
        }
        let cells = !plan.pages.is_empty() || !plan.connections.is_empty();
        plan.main = cells || !plan.limits;
        plan.limits |= !cells;
        if plan.sites.is_empty() {
            plan.sites = vec![Site::Sqlite, Site::Postgres, Site::Distant];
        }
        if plan.pages.is_empty() {
            plan.pages = if plan.quick { QUICK.to_vec() } else { PAGES.to_vec() };
        }
        if plan.connections.is_empty() {
            // 1, 2, 4 ... 4 x cores; the ends alone when it must be quick.
            let most = 4 * cores;
            plan.connections = if plan.quick {
                vec![1, most]
            } else {
                std::iter::successors(Some(1), |n| Some(n * 2))
                    .take_while(|n| *n < most)
                    .chain([most])
                    .collect()
            };
        }
        Ok(plan)
    }

    /// Nothing was left out, so the results may stand in the documents. Or it was asked for.
    pub(crate) fn is_whole(&self) -> bool {
        self.words.is_empty() || self.write
    }

    pub(crate) fn command(&self) -> String {
        let command = "cargo bench -p multicore-tests --bench load".to_owned();
        if self.words.is_empty() { command } else { format!("{command} -- {}", self.words.join(" ")) }
    }

    pub(crate) fn sites(&self) -> impl Iterator<Item = Site> {
        self.sites.iter().copied().filter(|site| !self.cells(*site).is_empty())
    }

    /// The most connections: more requests than cores.
    pub(crate) fn most(&self) -> usize {
        self.connections.iter().copied().max().unwrap_or(1)
    }

    /// Whether the server has more requests than cores then.
    pub(crate) fn saturated(&self, connections: usize) -> bool {
        connections >= 4 * self.cores
    }

    pub(crate) const fn cores(&self) -> usize {
        self.cores
    }

    /// The cells of a site, in the order of a round.
    pub(crate) fn cells(&self, site: Site) -> Vec<Cell> {
        let mut cells = Vec::new();
        if self.main && site != Site::Distant {
            for (rows, render_us) in &self.pages {
                for connections in &self.connections {
                    let page = Page { rows: *rows, render_us: *render_us, sorted: false };
                    cells.push(Cell { page, connections: *connections, limit: false });
                }
            }
        }
        if self.limits {
            let limits: &[(u32, u32, bool)] = match site {
                Site::Sqlite | Site::Postgres => &[(10, 0, false), (1_000, 0, true)],
                Site::Distant if self.quick => &[(1_000, 0, false)],
                Site::Distant => &[(100, 0, false), (1_000, 0, false), (1_000, 20, false)],
            };
            for (rows, render_us, sorted) in limits {
                let page = Page { rows: *rows, render_us: *render_us, sorted: *sorted };
                cells.push(Cell { page, connections: 1, limit: true });
            }
        }
        cells
    }

    pub(crate) fn rounds(&self, site: Site) -> usize {
        match (self.quick, site) {
            (true, _) => 1,
            (false, Site::Distant) => 5,
            (false, _) => 6,
        }
    }

    /// Who takes part in a round. All do in three rounds. What is promised to the per cent needs more,
    /// of the two it is promised between; the middle of the curve needs fewer.
    pub(crate) fn contestants(&self, _site: Site, cell: &Cell, round: usize) -> Vec<Contestant> {
        use Contestant::{JoinSet, Multicore, Plain};
        let middle = cell.connections > 1 && !self.saturated(cell.connections);
        match round {
            _ if cell.limit && round < 5 => vec![Plain, JoinSet, Multicore],
            _ if cell.limit => Vec::new(),
            0 | 1 => Contestant::ALL.to_vec(),
            2 if !middle => Contestant::ALL.to_vec(),
            _ if self.saturated(cell.connections) => vec![Plain, Multicore],
            _ => Vec::new(),
        }
    }

    /// Seconds of a turn: long enough for some dozens of answers of the slowest kind.
    pub(crate) fn window(&self, cell: &Cell) -> u64 {
        let work = u64::from(cell.page.rows) * u64::from(cell.page.render_us + 6);
        match work {
            100_000.. if self.saturated(cell.connections) && !self.quick => 4,
            100_000.. => 2,
            20_000.. if self.saturated(cell.connections) && !self.quick => 2,
            _ => 1,
        }
    }

    /// About how long it all takes.
    pub(crate) fn seconds(&self) -> u64 {
        let mut tenths = 0;
        for site in self.sites() {
            tenths += 40;
            for cell in self.cells(site) {
                for round in 0..self.rounds(site) {
                    let turns = self.contestants(site, &cell, round).len() as u64;
                    // A turn's start, its end on wrk's clock of 100 ms, and the wait for a quiet server.
                    tenths += turns * (10 * self.window(&cell) + 2);
                }
            }
        }
        tenths / 10
    }
}

/// The same order in every run, and another one in every round.
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) const fn new() -> Self {
        Shuffle(0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // Xorshift, by Marsaglia.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            items.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
    }
}
