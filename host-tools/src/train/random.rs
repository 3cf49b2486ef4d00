//! Random numbers that depend on a seed, a purpose and a step alone, so that a resumed run draws what an uninterrupted one
//! would have drawn.

use std::f64::consts::TAU;

/// What numbers are drawn for; each purpose has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Order of the training images in an epoch.
    Order = 1,
    /// Crops and flips.
    Augment = 2,
    /// Mixup.
    Mixup = 3,
    /// Which stitch is trained.
    Draw = 4,
    /// Starting values of low-rank updates.
    LowRank = 5,
}

/// A stream of numbers: SplitMix64 (Steele et al., 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of one step (or epoch, or layer) of one purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, step: u64) -> Self {
        let mut random = Self(seed);
        for part in [purpose as u64, step] {
            random.0 = random.bits() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        random
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0 .. 1`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0 .. bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Index of a weight, with a probability in proportion to it; 0 if no weight is positive.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        let mut last = 0;
        for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos()
    }

    /// Symmetric beta distribution: `alpha > 0` twice.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        let (a, b) = (self.gamma(alpha), self.gamma(alpha));
        if a + b > 0.0 { a / (a + b) } else { 0.5 }
    }

    /// Gamma distribution of shape `alpha > 0` and scale 1 (Marsaglia and Tsang, 2000).
    fn gamma(&mut self, alpha: f64) -> f64 {
        if alpha < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / alpha);
            return self.gamma(alpha + 1.0) * boost;
        }
        let d = alpha - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

/// The numbers `0 .. count` in the order of one epoch (Fisher and Yates).
#[must_use]
pub fn epoch_order(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = Random::new(seed, Purpose::Order, epoch);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.below(last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_step_and_repeat_otherwise() {
        let first = |seed, purpose, step| Random::new(seed, purpose, step).bits();
        let base = first(1, Purpose::Draw, 0);
        assert_eq!(base, first(1, Purpose::Draw, 0));
        for other in [first(2, Purpose::Draw, 0), first(1, Purpose::Mixup, 0), first(1, Purpose::Draw, 1)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut random = Random::new(7, Purpose::Draw, 0);
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
        };
        let close = |found: (f64, f64), mean: f64, variance: f64| {
            assert!((found.0 - mean).abs() < 0.02 && (found.1 - variance).abs() < 0.05 * variance + 0.005, "{found:?}");
        };
        close(moments(&(0..20_000).map(|_| random.unit()).collect::<Vec<_>>()), 0.5, 1.0 / 12.0);
        close(moments(&(0..20_000).map(|_| random.normal()).collect::<Vec<_>>()), 0.0, 1.0);
        for alpha in [0.2, 0.8, 3.0] {
            let variance = 0.25 / (2.0 * alpha + 1.0);
            close(moments(&(0..20_000).map(|_| random.beta(alpha)).collect::<Vec<_>>()), 0.5, variance);
        }
    }

    #[test]
    fn weighted_draws_follow_their_weights_and_never_take_zero() {
        let mut random = Random::new(3, Purpose::Draw, 0);
        let mut counts = [0; 4];
        (0..10_000).for_each(|_| counts[random.weighted(&[0.0, 1.0, 3.0, 0.0])] += 1);
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert!((2300..2700).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn an_epoch_sees_every_image_once() {
        let mut order = epoch_order(100, 5, 2);
        assert_ne!(order, epoch_order(100, 5, 3));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
