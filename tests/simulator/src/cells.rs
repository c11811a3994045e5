//! The runs that tests and tables are made of.

use crate::admission::policy::Nanos;
use crate::traffic::{Arrivals, Traffic};
use crate::world::{Scheduler, World};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000_000_000;

/// One world and what comes into it.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What tables call it.
    pub name: String,
    /// The machine.
    pub world: World,
    /// The requests.
    pub traffic: Traffic,
}

impl Cell {
    /// So many requests at `load` per cent of `cores`.
    pub fn new(cores: usize, load: u64, arrivals: Arrivals, scheduler: Scheduler, requests: usize) -> Self {
        let seed = 1_000 * cores as u64 + load;
        // Siblings: 1.3 times what one thread a core does.
        let of = if scheduler == Scheduler::Siblings { (cores * 65 / 100).max(1) } else { cores };
        Cell {
            name: format!("{cores} cores, {load}%, {arrivals:?}, {scheduler:?}"),
            world: World::new(cores, scheduler),
            traffic: Traffic { requests, arrivals, load, cores: of, database: 0, cold: false, seed },
        }
    }

    fn named(mut self, what: &str) -> Self {
        self.name = format!("{}, {what}", self.name);
        self
    }

    /// The same where rows come from a database, in up to four batches of two milliseconds on average.
    pub fn with_database(mut self) -> Self {
        self.traffic.database = 2 * MS;
        self.named("database")
    }

    /// The same with no route ever seen before.
    pub fn cold(mut self) -> Self {
        self.traffic.cold = true;
        self.named("cold")
    }

    /// The same with other programs on a quarter of the cores, at least on one, every other second.
    pub fn with_others(mut self) -> Self {
        let others = (self.world.cores / 4).max(1);
        let turn = |second: u64| (second * SECOND, if second % 2 == 1 { others } else { 0 });
        self.world.external = (1..1_000).map(turn).collect();
        self.named("others")
    }

    /// The same in a container that may use its cores' worth of time in every 100 ms, of a machine that
    /// has twice as many cores.
    pub fn with_quota(mut self) -> Self {
        let cores = self.world.cores;
        self.world.quota = Some((2 * cores, cores as u64 * 100 * MS, 100 * MS));
        self.named("quota")
    }

    /// Machines where a request that is helped can only make the others' competition less: equal shares
    /// for everybody, and nobody waits for anything. There no request may lose; about `requests` a cell.
    pub fn monotone(requests: usize) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (cores, requests) in sizes(requests) {
            for load in [30, 70, 90, 110] {
                for arrivals in [Arrivals::Poisson, Arrivals::Bursts, Arrivals::Steps] {
                    cells.push(Cell::new(cores, load, arrivals, Scheduler::Fair, requests));
                }
            }
            for load in [30, 70, 90] {
                cells.push(Cell::new(cores, load, Arrivals::Poisson, Scheduler::Fair, requests).cold());
            }
        }
        cells
    }

    /// Machines where being done earlier changes what others meet: a shorter computation asks the database
    /// earlier, a turn of three milliseconds ends elsewhere, a quota is used up in another period. There
    /// single requests can lose to any change, and the promise is about all of them together.
    pub fn chaotic(requests: usize) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (cores, requests) in sizes(requests) {
            for load in [30, 70, 90] {
                let poisson = |scheduler| Cell::new(cores, load, Arrivals::Poisson, scheduler, requests);
                cells.push(poisson(Scheduler::RoundRobin));
                cells.push(poisson(Scheduler::Siblings));
                cells.push(poisson(Scheduler::Fair).with_database());
                cells.push(poisson(Scheduler::Fair).with_others());
                cells.push(poisson(Scheduler::Fair).with_quota());
                cells.push(Cell::new(cores, load, Arrivals::Bursts, Scheduler::RoundRobin, requests));
            }
        }
        cells
    }
}

/// Core counts and how many requests each: many cores see more in the same time.
fn sizes(requests: usize) -> [(usize, usize); 4] {
    [(2, requests / 2), (4, requests / 2), (16, requests), (64, 2 * requests)]
}
