//! Random numbers that are the same on every machine: integers only, no logarithms or exponentials of
//! the platform's mathematics library.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`; the bias is below `n / 2^64`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Exponential, by comparisons alone (von Neumann, "Various techniques used in connection with random
    /// digits", 1951): runs of descending uniform numbers are tried until one has odd length; its first
    /// number is the fraction, and how many were tried before it the whole part.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let mut whole: u64 = 0;
        loop {
            let first = self.next();
            let (mut last, mut length) = (first, 1);
            loop {
                let next = self.next();
                if next >= last {
                    break;
                }
                (last, length) = (next, length + 1);
            }
            if length % 2 == 1 {
                let fraction = u128::from(first) * u128::from(mean);
                return whole * mean + (fraction >> 64) as u64;
            }
            whole += 1;
        }
    }

    /// Log-normal with the given median and sigma 1.25: its mean is 2.18 medians, its 99th percentile 18.
    pub(crate) fn log_normal(&mut self, median: u64) -> u64 {
        let draw = self.next();
        // 7 bits choose the interval of the table, of the last interval 6 more a finer one; the
        // quantile is interpolated within it.
        let index = (draw >> 57) as usize;
        let (low, high, rest) = if index < 127 {
            (QUANTILES[index], QUANTILES[index + 1], draw << 7)
        } else {
            let index = (draw << 7 >> 58) as usize;
            (TAIL[index], TAIL[index + 1], draw << 13)
        };
        let between = u128::from(high - low) * u128::from(rest >> 32) * u128::from(median);
        low * median / SCALE + ((between / u128::from(SCALE)) >> 32) as u64
    }
}

const SCALE: u64 = 1024;

/// Quantiles 0/128 to 127/128 of the log-normal distribution with median `SCALE` and sigma 1.25: the
/// exponential of 1.25 times the normal distribution's quantile. The first stands for 1/512.
#[rustfmt::skip]
const QUANTILES: [u64; 128] = [
    28, 50, 69, 85, 100, 113, 126, 138, 150, 162, 174, 186, 197, 209, 220, 232,
    243, 255, 266, 278, 290, 302, 314, 326, 338, 350, 363, 375, 388, 401, 414, 427,
    441, 454, 468, 482, 496, 511, 526, 541, 556, 571, 587, 603, 619, 636, 653, 670,
    688, 705, 724, 742, 761, 781, 800, 821, 841, 862, 884, 906, 928, 951, 975, 999,
    1024, 1049, 1075, 1102, 1129, 1158, 1186, 1216, 1247, 1278, 1310, 1343, 1377, 1413, 1449, 1486,
    1525, 1565, 1606, 1649, 1693, 1739, 1786, 1835, 1886, 1939, 1995, 2052, 2112, 2174, 2240, 2308,
    2379, 2454, 2533, 2616, 2703, 2795, 2892, 2995, 3104, 3220, 3344, 3477, 3619, 3772, 3938, 4117,
    4313, 4528, 4764, 5026, 5319, 5649, 6025, 6459, 6968, 7576, 8320, 9261, 10508, 12280, 15121, 21024,
];

/// Quantiles of the same from 127/128 in steps of 1/64 of what is above; the last is that of 1 - 1/32768.
#[rustfmt::skip]
const TAIL: [u64; 65] = [
    21024, 21175, 21329, 21487, 21648, 21813, 21981, 22154, 22330, 22511, 22696, 22886, 23080,
    23280, 23485, 23695, 23911, 24133, 24362, 24597, 24840, 25089, 25347, 25613, 25887, 26171,
    26464, 26768, 27083, 27410, 27749, 28102, 28469, 28851, 29250, 29667, 30103, 30560, 31040,
    31545, 32077, 32639, 33234, 33866, 34538, 35255, 36023, 36849, 37741, 38709, 39765, 40923,
    42203, 43629, 45234, 47061, 49171, 51651, 54635, 58336, 63131, 69766, 80046, 100397, 153651,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> u64) -> u64 {
        (0..100_000).map(|_| draw()).sum::<u64>() / 100_000
    }

    #[test]
    fn the_generator_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        // From the reference implementation.
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn exponential_numbers_have_their_mean_and_their_tail() {
        let mut random = Random::new(1);
        assert!((990_000..1_010_000).contains(&mean(|| random.exponential(1_000_000))));
        let above = (0..100_000).filter(|_| random.exponential(1_000_000) > 3_000_000).count();
        assert!((4_800..5_160).contains(&above), "exp(-3) is 4.98%: {above}");
    }

    #[test]
    fn log_normal_numbers_have_their_mean_and_their_quantiles() {
        let mut random = Random::new(2);
        let mean = mean(|| random.log_normal(1_000_000));
        assert!((2_120_000..2_250_000).contains(&mean), "{mean}");
        let mut draws: Vec<u64> = (0..100_000).map(|_| random.log_normal(1_000_000)).collect();
        draws.sort_unstable();
        for (at, want) in [(50_000, 1_000_000), (90_000, 4_962_000), (99_000, 18_318_000)] {
            assert!(draws[at].abs_diff(want) < want / 20, "{at}: {}", draws[at]);
        }
    }

    #[test]
    fn uniform_numbers_stay_below_their_bound() {
        let mut random = Random::new(3);
        let mut seen = [0; 7];
        for _ in 0..70_000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
    }
}
