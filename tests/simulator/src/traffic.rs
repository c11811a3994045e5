//! The requests of a run, drawn before it so that every policy meets the same ones.

use crate::admission::policy::Nanos;
use crate::random::Random;

/// The mean of a request's work, as `Traffic::requests` draws it: 2 ms times 2.18, and the rare long one.
pub const MEAN_WORK: Nanos = 4_440_000;
const MEDIAN_WORK: Nanos = 2_000_000;
/// One in so many requests is an export or a report, so many times as long.
const RARE: (u64, u64) = (500, 8);
/// What an item of each route costs.
const ROUTES: [Nanos; 6] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000];

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// One after the other at random.
    Poisson,
    /// Every five seconds four times as many for half a second.
    Bursts,
    /// A second each at half the rate, at the rate, and at one and a half times the rate.
    Steps,
}

impl Arrivals {
    /// The rate at `at` in thousandths of the mean, and until when it holds.
    fn rate(self, at: Nanos) -> (u64, Nanos) {
        let period = |pieces: &[(Nanos, u64)]| {
            let whole: Nanos = pieces.iter().map(|(length, _)| length).sum();
            let mut until = at / whole * whole;
            for &(length, rate) in pieces {
                until += length;
                if at < until {
                    return (rate, until);
                }
            }
            unreachable!("the pieces add up to the whole");
        };
        match self {
            Arrivals::Poisson => (1_000, Nanos::MAX),
            // 4.5 s and 4 times 0.5 s make 1.3 of 5 s.
            Arrivals::Bursts => period(&[(4_500_000_000, 769), (500_000_000, 3_077)]),
            Arrivals::Steps => {
                period(&[(1_000_000_000, 500), (1_000_000_000, 1_000), (1_000_000_000, 1_500)])
            }
        }
    }
}

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// How many requests.
    pub requests: usize,
    /// How they come.
    pub arrivals: Arrivals,
    /// Their work, in per cent of what `cores` can do.
    pub load: u64,
    /// The cores that `load` is meant for.
    pub cores: usize,
    /// The mean of each wait for the database; zero means that rows are there at once.
    pub database: Nanos,
    /// Whether no request is of a route that was seen before, so that nothing is known of its cost.
    pub cold: bool,
    /// Where the random numbers start.
    pub seed: u64,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When it comes.
    pub at: Nanos,
    /// What its cost is learnt by.
    pub(crate) route: usize,
    /// How many items it is for.
    pub(crate) items: usize,
    /// What each costs.
    pub(crate) per_item: Nanos,
    /// In how many batches the items come from the database.
    pub(crate) batches: usize,
    /// How long the database takes for each.
    pub(crate) wait: Nanos,
}

impl Request {
    /// Its work.
    pub fn work(&self) -> Nanos {
        self.items as u64 * self.per_item
    }
}

impl Traffic {
    /// The requests, in the order in which they come.
    pub fn requests(&self) -> Vec<Request> {
        let mut random = Random::new(self.seed);
        let gap = MEAN_WORK * 100 / (self.load * self.cores as u64);
        let mut at = 0;
        (0..self.requests)
            .map(|index| {
                at = self.after(at, random.exponential(gap));
                self.request(&mut random, index, at)
            })
            .collect()
    }

    /// When the next request comes: `gap` later at the mean rate.
    fn after(&self, mut at: Nanos, gap: Nanos) -> Nanos {
        // In thousandths of nanoseconds at the mean rate.
        let mut left = u128::from(gap) * 1_000;
        loop {
            let (rate, until) = self.arrivals.rate(at);
            let here = u128::from(until - at) * u128::from(rate);
            if left <= here {
                return at + (left / u128::from(rate)) as Nanos;
            }
            left -= here;
            at = until;
        }
    }

    fn request(&self, random: &mut Random, index: usize, at: Nanos) -> Request {
        let route = random.below(ROUTES.len() as u64) as usize;
        let rare = random.below(RARE.0) == 0;
        let work = random.log_normal(MEDIAN_WORK) * if rare { RARE.1 } else { 1 };
        // Requests of one route differ by half.
        let per_item = ROUTES[route] / 2 + random.below(ROUTES[route]);
        let per_item = per_item.clamp(1, work.max(1));
        let items = usize::try_from(work / per_item).unwrap_or(usize::MAX);
        // Drawn always, so that traffic with and without a database is otherwise the same.
        let (batches, wait) = (1 + random.below(4) as usize, random.exponential(self.database.max(1)));
        let (batches, wait) = if self.database == 0 { (1, 0) } else { (batches.min(items), wait) };
        let route = if self.cold { index } else { route };
        Request { at, route, items, per_item, batches, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(arrivals: Arrivals) -> Vec<Request> {
        let (load, cores, seed) = (70, 16, 1);
        Traffic { requests: 100_000, arrivals, load, cores, database: 0, cold: false, seed }.requests()
    }

    #[test]
    fn requests_bring_the_load_they_are_meant_to() {
        for arrivals in [Arrivals::Poisson, Arrivals::Bursts, Arrivals::Steps] {
            let requests = traffic(arrivals);
            let work: Nanos = requests.iter().map(Request::work).sum();
            let mean = work / requests.len() as u64;
            assert!(mean.abs_diff(MEAN_WORK) < MEAN_WORK / 50, "a mean of {mean} ns");
            let load = work * 1_000 / (16 * requests.last().unwrap().at);
            assert!((670..730).contains(&load), "{arrivals:?}: {load} in thousand");
        }
    }

    #[test]
    fn a_burst_brings_four_times_as_many() {
        let requests = traffic(Arrivals::Bursts);
        let in_burst = |request: &&Request| request.at % 5_000_000_000 >= 4_500_000_000;
        let bursts = requests.last().unwrap().at / 5_000_000_000;
        let during = requests.iter().take_while(|r| r.at < bursts * 5_000_000_000).filter(in_burst).count();
        let before = requests.iter().take_while(|r| r.at < bursts * 5_000_000_000).count() - during;
        let ratio = during * 9 * 100 / before;
        assert!((390..410).contains(&ratio), "{ratio} in hundred");
    }
}
