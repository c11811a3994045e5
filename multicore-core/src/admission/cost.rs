//! What a route's work costs, learnt while it runs: `time(k items) = fixed + per_item * k` by
//! exponentially weighted least squares over chunks. Estimates only; what follows from them is
//! decided in `policy`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::policy::{Cost, Nanos};

/// How much the past counts when a request's samples come in.
const DECAY: f64 = 0.7;
/// A fixed cost above this is not ours (claiming and storing a chunk costs a microsecond or two) but
/// a preempted sample; believing it would make chunks too long to share.
const FIXED_MAX: f64 = 20_000.0;
/// A measurement that differs by less from what was known is not worth a shared write.
const WORTH_TELLING: f64 = 0.1;
/// One stretch that took this many times what was expected was interrupted; it counts as this much.
const OUTLIER: f64 = 4.0;

/// Sums of least squares over `(items, nanoseconds)` samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Samples {
    n: f64,
    k: f64,
    kk: f64,
    t: f64,
    kt: f64,
}

impl Samples {
    /// Adds a stretch of `items` that took `elapsed`; `known` tames an interrupted one.
    pub(crate) fn add(&mut self, items: usize, elapsed: Nanos, known: Option<Cost>) {
        if items == 0 {
            return;
        }
        let k = items as f64;
        let mut t = elapsed as f64;
        if let Some(cost) = known {
            let expected = cost.fixed as f64 + cost.per_item as f64 * k;
            // A cost that truly rose still gets there, in a few requests instead of one.
            t = t.min((OUTLIER * expected).max(1.0));
        }
        self.n += 1.0;
        self.k += k;
        self.kk += k * k;
        self.t += t;
        self.kt += k * t;
    }

    /// Items measured.
    pub(crate) fn items(&self) -> f64 {
        self.k
    }

    /// Nanoseconds measured.
    pub(crate) fn nanos(&self) -> f64 {
        self.t
    }

    fn scaled(self, by: f64) -> Self {
        Samples { n: self.n * by, k: self.k * by, kk: self.kk * by, t: self.t * by, kt: self.kt * by }
    }

    fn plus(self, o: Self) -> Self {
        Samples { n: self.n + o.n, k: self.k + o.k, kk: self.kk + o.kk, t: self.t + o.t, kt: self.kt + o.kt }
    }

    /// The line through the samples, or none without samples.
    fn fit(&self) -> Option<(f64, f64)> {
        if self.k <= 0.0 {
            return None;
        }
        let through_origin = (self.t / self.k, 0.0);
        let spread = self.n * self.kk - self.k * self.k;
        // Chunks of one size say nothing about the fixed part.
        if spread <= 1e-3 * self.n * self.kk {
            return Some(through_origin);
        }
        let per_item = (self.n * self.kt - self.k * self.t) / spread;
        let fixed = (self.t - per_item * self.k) / self.n;
        if per_item <= 0.0 || fixed <= 0.0 {
            return Some(through_origin);
        }
        let fixed = fixed.min(FIXED_MAX);
        // The bounded line still goes through the mean.
        Some((((self.t - fixed * self.n) / self.k).max(0.0), fixed))
    }
}

/// One route's estimate, shared by its requests.
#[derive(Debug, Default)]
pub(crate) struct CostModel {
    /// Nanoseconds + 1, so that zero means unknown.
    per_item: AtomicU64,
    fixed: AtomicU64,
    /// What an item becomes, in bytes; zero means unknown.
    item_bytes: AtomicUsize,
    samples: Mutex<Samples>,
}

impl CostModel {
    /// What is known so far; none before the first request has finished.
    pub(crate) fn estimate(&self) -> Option<Cost> {
        // The two numbers may come from different requests: either pair is a fair estimate.
        let per_item = self.per_item.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Cost { per_item: per_item.max(1), fixed: self.fixed.load(Ordering::Relaxed) })
    }

    /// What an item became lately, in bytes, where it becomes bytes.
    #[allow(dead_code, reason = "only lists need it")]
    pub(crate) fn item_bytes(&self) -> Option<usize> {
        Some(self.item_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes > 0)
    }

    /// Takes in what a request's items became. In the steady state this reads and compares only.
    #[allow(dead_code, reason = "only lists need it")]
    pub(crate) fn learn_item_bytes(&self, bytes: usize, items: usize) {
        let Some(new) = bytes.checked_div(items) else { return };
        let known = self.item_bytes.load(Ordering::Relaxed);
        if new.abs_diff(known) as f64 > WORTH_TELLING * known as f64 {
            self.item_bytes.store(new, Ordering::Relaxed);
        }
    }

    /// Takes in what a request measured. In the steady state this reads and compares only.
    pub(crate) fn learn(&self, new: &Samples) {
        let Some((measured, _)) = new.fit() else { return };
        if let Some(known) = self.estimate() {
            let known = known.per_item as f64;
            if (measured - known).abs() <= WORTH_TELLING * known {
                return;
            }
        }
        let fit = {
            let mut sums = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            // One request counts as one, however many chunks it had.
            *sums = sums.scaled(DECAY).plus(new.scaled(1.0 / new.n.max(1.0)));
            sums.fit()
        };
        if let Some((per_item, fixed)) = fit {
            self.fixed.store(fixed as u64, Ordering::Relaxed);
            self.per_item.store(per_item as u64 + 1, Ordering::Relaxed);
        }
    }
}

/// What to expect of the items still to come in this request: the route's estimate counts as much as
/// `prior_weight` of measuring, so that a request that differs from the route's others is judged by
/// itself within a chunk.
pub(crate) fn blend(known: Option<Cost>, measured: &Samples, prior_weight: Nanos) -> Option<Cost> {
    let Some(known) = known else {
        return (measured.items() > 0.0)
            .then(|| Cost { per_item: ((measured.nanos() / measured.items()) as u64).max(1), fixed: 0 });
    };
    let prior_items = prior_weight as f64 / known.per_item.max(1) as f64;
    let per_item = (prior_weight as f64 + measured.nanos()) / (prior_items + measured.items());
    Some(Cost { per_item: (per_item as u64).max(1), fixed: known.fixed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl IntoIterator<Item = (usize, Nanos)>) -> Samples {
        let mut s = Samples::default();
        for (k, t) in of {
            s.add(k, t, None);
        }
        s
    }

    #[test]
    fn nothing_is_known_before_the_first_request() {
        let model = CostModel::default();
        assert_eq!(model.estimate(), None);
        model.learn(&Samples::default());
        assert_eq!(model.estimate(), None);
    }

    #[test]
    fn a_line_is_found_again() {
        let model = CostModel::default();
        model.learn(&samples((1..40).map(|k| (k, 5_000 + 2_000 * k as u64))));
        let cost = model.estimate().unwrap();
        assert!((1_990..=2_010).contains(&cost.per_item), "{cost:?}");
        assert!((4_900..=5_100).contains(&cost.fixed), "{cost:?}");
    }

    #[test]
    fn chunks_of_one_size_count_as_per_item_cost_only() {
        let model = CostModel::default();
        model.learn(&samples((0..10).map(|_| (20, 100_000))));
        assert_eq!(model.estimate(), Some(Cost { per_item: 5_000, fixed: 0 }));
    }

    #[test]
    fn a_preempted_sample_does_not_become_a_fixed_cost() {
        let model = CostModel::default();
        model.learn(&samples([(1, 4_000_000), (100, 100_000), (200, 200_000)]));
        assert!(model.estimate().unwrap().fixed <= FIXED_MAX as u64);
    }

    #[test]
    fn an_interrupted_stretch_is_tamed_and_a_real_rise_is_learnt_all_the_same() {
        let model = CostModel::default();
        model.learn(&samples((0..10).map(|_| (100, 100_000))));
        let mut interrupted = Samples::default();
        interrupted.add(100, 50_000_000, model.estimate());
        assert_eq!(interrupted.nanos(), 400_000.0);
        for _ in 0..12 {
            let mut s = Samples::default();
            for _ in 0..20 {
                s.add(100, 20_000_000, model.estimate());
            }
            model.learn(&s);
        }
        assert!(model.estimate().unwrap().per_item > 150_000, "{:?}", model.estimate());
    }

    #[test]
    fn small_differences_write_nothing() {
        let model = CostModel::default();
        model.learn(&samples((0..10).map(|_| (100, 100_000))));
        let before = *model.samples.lock().unwrap();
        model.learn(&samples((0..10).map(|_| (100, 105_000))));
        assert_eq!(*model.samples.lock().unwrap(), before);
    }

    #[test]
    fn what_an_item_becomes_is_what_it_became_lately() {
        let model = CostModel::default();
        assert_eq!(model.item_bytes(), None);
        for (bytes, items, known) in [
            (0, 0, None),
            (1_000, 10, Some(100)),
            (1_090, 10, Some(100)),
            (3_000, 10, Some(300)),
            (5, 0, Some(300)),
        ] {
            model.learn_item_bytes(bytes, items);
            assert_eq!(model.item_bytes(), known, "{bytes} {items}");
        }
    }

    #[test]
    fn a_request_that_differs_is_judged_by_itself_within_a_chunk() {
        let known = Some(Cost { per_item: 2_000, fixed: 100 });
        assert_eq!(blend(known, &Samples::default(), 50_000), known);
        let measured = samples([(10, 2_000_000)]);
        let blended = blend(known, &measured, 50_000).unwrap();
        assert!(blended.per_item > 50_000, "{blended:?}");
        assert_eq!(blend(None, &measured, 50_000), Some(Cost { per_item: 200_000, fixed: 0 }));
        assert_eq!(blend(None, &Samples::default(), 50_000), None);
    }
}
