//! What benchmarks report: a ratio with its spread, of numbers taken in the same rounds.

/// How many times faster than `base` something is: the median over rounds, and the middle half.
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}x ({:.2} to {:.2})", self.median, self.low, self.high)
    }
}

/// `base` over `other`, round by round: above 1, `other` is faster.
pub(crate) fn ratio(base: &[f64], other: &[f64]) -> Ratio {
    let mut ratios: Vec<f64> = base.iter().zip(other).map(|(base, other)| base / other).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part).round() as usize];
    Ratio { median: at(0.5), low: at(0.25), high: at(0.75) }
}
