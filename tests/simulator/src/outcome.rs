//! What came of a run.

use crate::admission::policy::Nanos;

/// What must never happen, counted by the machine's own book-keeping and not by what the policy was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Wake-ups for a job while as many threads ran as there are cores.
    pub wakes_when_busy: u64,
    /// Chunks that helpers took while more threads ran than there are cores.
    pub claims_when_crowded: u64,
    /// The most work in one chunk of a helper that was more than one item.
    pub longest_chunk: Nanos,
    /// Wake-ups, all of them.
    pub wakes: u64,
    /// Chunks that helpers did.
    pub helped: u64,
}

/// The latencies of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of each request, in the order in which they came.
    pub latencies: Vec<Nanos>,
    /// What the pool's policy was watched for.
    pub watched: Watched,
    sorted: Vec<Nanos>,
}

impl Outcome {
    pub(crate) fn new(latencies: Vec<Nanos>, watched: Watched) -> Self {
        let mut sorted = latencies.clone();
        sorted.sort_unstable();
        Outcome { latencies, watched, sorted }
    }

    /// The mean latency.
    pub fn mean(&self) -> Nanos {
        self.sorted.iter().sum::<Nanos>() / self.sorted.len().max(1) as u64
    }

    /// The latency that so many in ten thousand requests do not exceed.
    pub fn quantile(&self, per_ten_thousand: usize) -> Nanos {
        let rank = (self.sorted.len() * per_ten_thousand).div_ceil(10_000);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// How a run compares with the sequential one of the same requests.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// The largest ratio of the two runs' quantiles from the median up, in thousandths.
    pub worst_quantile: u64,
    /// The same of the first and the tenth percentile.
    pub worst_low_quantile: u64,
    /// Requests that took more than a millisecond longer than alone at half a per cent more cost.
    pub losers: usize,
    /// By how much the worst request did, beyond that; negative if all are below.
    pub worst_loss: i64,
}

impl Outcome {
    /// Compares this run with the sequential one, `alone`, and with that of costs half a per cent higher.
    pub fn compare(&self, alone: &Outcome, inflated: &Outcome) -> Comparison {
        const SLACK: i64 = 1_000_000;
        let worst = |quantiles: &[usize]| {
            let ratio = |&q: &usize| self.quantile(q) * 1_000 / alone.quantile(q).max(1);
            quantiles.iter().map(ratio).max().unwrap_or(0)
        };
        let pairs = self.latencies.iter().zip(&inflated.latencies);
        let losses = pairs.map(|(here, there)| here.cast_signed() - there.cast_signed() - SLACK);
        Comparison {
            worst_quantile: worst(&[5_000, 9_000, 9_900, 9_990]),
            worst_low_quantile: worst(&[100, 1_000]),
            losers: losses.clone().filter(|loss| *loss > 0).count(),
            worst_loss: losses.max().unwrap_or(i64::MIN),
        }
    }
}
