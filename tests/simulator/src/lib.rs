//! Admission in virtual time: simulated cores, requests and an operating system's scheduler around the
//! very functions that decide in the pool. Integers and seeded random numbers only, so a run gives the
//! same nanoseconds everywhere.
//!
//! What is modelled, and what is not, is in `BENCHMARKS.md` under "Simulation".

mod admission;
mod cells;
mod os;
mod outcome;
mod random;
mod sim;
mod traffic;
mod world;

pub use cells::Cell;
pub use outcome::{Outcome, Watched};
pub use traffic::{Arrivals, MEAN_WORK, Request, Traffic};
pub use world::{Policy, Scheduler, World};

/// Nanoseconds.
pub type Nanos = u64;

/// Plays `requests` through `world` under `policy`. `permille` stretches what every request costs:
/// 1,005 is half a per cent more.
pub fn simulate(world: &World, policy: Policy, requests: &[Request], permille: u64) -> Outcome {
    sim::Sim::new(world, policy, requests, permille).run()
}
