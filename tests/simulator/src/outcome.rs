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
