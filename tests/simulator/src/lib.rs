//! Admission in virtual time: simulated cores, requests and an operating system's scheduler around the
//! very functions that decide in the pool. Integers and seeded random numbers only, so a run gives the
//! same nanoseconds everywhere.
//!
//! What is modelled, and what is not, is in `BENCHMARKS.md` under "Simulation".

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

mod admission;
mod cells;
mod os;
mod outcome;
mod random;
mod sim;
mod traffic;
mod world;

pub use cells::Cell;
pub use outcome::{Comparison, Outcome, Watched};
pub use traffic::{Arrivals, MEAN_WORK, Request, Traffic};
pub use world::{Policy, Scheduler, World};

/// Nanoseconds.
pub type Nanos = u64;

/// Plays `requests` through `world` under `policy`. `permille` stretches what every request costs:
/// 1,005 is half a per cent more.
pub fn simulate(world: &World, policy: Policy, requests: &[Request], permille: u64) -> Outcome {
    sim::Sim::new(world, policy, requests, permille).run()
}

/// Does `run` for each of `cells` on as many threads as there are cores; the results in their order.
pub fn each<T: Send>(cells: &[Cell], run: impl Fn(&Cell) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let work = || {
            let claim = || {
                let index = next.fetch_add(1, Ordering::Relaxed);
                cells.get(index).map(|cell| (index, cell))
            };
            std::iter::from_fn(claim).map(|(index, cell)| (index, run(cell))).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
