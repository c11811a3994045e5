//! Splitting a length into contiguous ranges. Pure arithmetic; who works on them is decided elsewhere.

use std::ops::Range;

/// Splits `0..len` into contiguous ranges for `workers`: each `ceil(len / workers)` long but at least
/// `min_len`, the last one shorter. No range is empty, so an empty length gives none.
///
/// ```
/// use multicore_core::ranges;
/// assert_eq!(ranges(80, 4, 0), [0..20, 20..40, 40..60, 60..80]);
/// assert_eq!(ranges(80, 4, 30), [0..30, 30..60, 60..80]);
/// assert_eq!(ranges(80, 4, 100), [0..80]);
/// assert!(ranges(0, 4, 10).is_empty());
/// ```
///
/// # Panics
/// When `workers` is zero.
pub fn ranges(len: u64, workers: usize, min_len: u64) -> Vec<Range<u64>> {
    assert!(workers > 0, "ranges for zero workers");
    let step = len.div_ceil(workers as u64).max(min_len).max(1);
    let mut ranges = Vec::with_capacity(workers.min(usize::try_from(len.div_ceil(step)).unwrap_or(workers)));
    let mut start = 0;
    while start < len {
        let end = start.saturating_add(step).min(len);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_number_line_are_fine() {
        assert_eq!(ranges(3, 64, 0), [0..1, 1..2, 2..3]);
        assert_eq!(ranges(u64::MAX, 1, u64::MAX).first(), Some(&(0..u64::MAX)));
        assert_eq!(ranges(u64::MAX, 2, 0), [0..1 << 63, 1 << 63..u64::MAX]);
        assert_eq!(ranges(5, 4, 0), [0..2, 2..4, 4..5]);
    }

    #[test]
    #[should_panic(expected = "zero workers")]
    fn zero_workers_is_a_mistake_of_the_caller() {
        ranges(1, 0, 0);
    }

    proptest! {
        #[test]
        fn ranges_cover_everything_once_in_order(len in 0_u64..10_000, workers in 1_usize..70, min in 0_u64..500) {
            let split = ranges(len, workers, min);
            prop_assert!(split.len() <= workers);
            let mut next = 0;
            for (index, range) in split.iter().enumerate() {
                prop_assert_eq!(range.start, next);
                prop_assert!(range.start < range.end);
                if index + 1 < split.len() {
                    prop_assert!(range.end - range.start >= min);
                }
                next = range.end;
            }
            prop_assert_eq!(next, len);
        }
    }
}
