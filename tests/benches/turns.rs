//! Interleaved measuring: contestants take turns in one process, so that what disturbs the machine
//! disturbs them alike, and what is reported are ratios between neighbours in time, with their spread.

use std::time::Duration;

use crate::ratio::{Ratio, ratio};

/// One contestant's times, a round each.
pub(crate) struct Times {
    pub(crate) rounds: Vec<Duration>,
}

impl Times {
    /// The median time.
    pub(crate) fn median(&self) -> Duration {
        self.at(0.5)
    }

    /// The time that this part of the rounds was not longer than.
    pub(crate) fn at(&self, part: f64) -> Duration {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * part).round() as usize]
    }
}

/// Runs the contestants in turn for `rounds`, after `warm_up` rounds that do not count. Every other
/// round goes backwards, so that nobody always follows the same neighbour.
pub(crate) fn interleave(
    rounds: usize,
    warm_up: usize,
    contestants: &mut [Box<dyn FnMut() -> Duration + '_>],
) -> Vec<Times> {
    let count = contestants.len();
    let mut times: Vec<Times> = (0..count).map(|_| Times { rounds: Vec::with_capacity(rounds) }).collect();
    for round in 0..warm_up + rounds {
        for place in 0..count {
            let index = if round % 2 == 0 { place } else { count - 1 - place };
            let took = contestants[index]();
            if round >= warm_up {
                times[index].rounds.push(took);
            }
        }
    }
    times
}

/// `base`'s times over `other`'s: above 1, `other` is faster.
pub(crate) fn faster(base: &Times, other: &Times) -> Ratio {
    let seconds = |times: &Times| times.rounds.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    ratio(&seconds(base), &seconds(other))
}
