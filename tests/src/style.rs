//! How constants are drawn.

use crate::Rng;

/// How weights are drawn; never -128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// All of int8.
    Random,
    /// -127 or 127.
    Rails,
    /// 127 everywhere: the largest sums.
    Highest,
    /// -127 everywhere.
    Lowest,
    /// -1, 0 or 1: small sums, frequent ties.
    Small,
    /// Mostly zero.
    Sparse,
}

/// How multipliers and shifts are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// Outputs of random weights spread over int8.
    Typical,
    /// Nearly every output saturates.
    Saturating,
    /// Nearly every output is the zero point.
    Vanishing,
    /// Powers of two: ties.
    Ties,
    /// Any multiplier of the format with any shift.
    Any,
}

/// How biases are drawn, besides the correction of the zero point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// Up to a few times a typical sum.
    Typical,
    /// All zero.
    Zero,
    /// Near 2^29, of either sign.
    Extreme,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Weights.
    pub weights: Weights,
    /// Multipliers and shifts.
    pub scales: Scales,
    /// Biases.
    pub bias: Bias,
}

impl Style {
    /// Activations stay spread out from layer to layer.
    pub const TYPICAL: Self = Self { weights: Weights::Random, scales: Scales::Typical, bias: Bias::Typical };

    /// Half of the styles are typical in each respect.
    pub fn any(rng: &mut Rng) -> Self {
        let mut pick = |count: u32| (rng.next_u32() >> 8) % (2 * count);
        let weights = match pick(5) {
            0 => Weights::Rails,
            1 => Weights::Highest,
            2 => Weights::Lowest,
            3 => Weights::Small,
            4 => Weights::Sparse,
            _ => Weights::Random,
        };
        let scales = match pick(4) {
            0 => Scales::Saturating,
            1 => Scales::Vanishing,
            2 => Scales::Ties,
            3 => Scales::Any,
            _ => Scales::Typical,
        };
        let bias = match pick(2) {
            0 => Bias::Zero,
            1 => Bias::Extreme,
            _ => Bias::Typical,
        };
        Self { weights, scales, bias }
    }

    /// `count` weights.
    pub fn draw_weights(self, rng: &mut Rng, count: usize) -> Vec<i8> {
        let weight = |random: i8| match self.weights {
            Weights::Random => random.max(-127),
            Weights::Rails => [-127, 127][usize::from(random < 0)],
            Weights::Highest => 127,
            Weights::Lowest => -127,
            Weights::Small => random.rem_euclid(3) - 1,
            Weights::Sparse if random % 8 == 0 => random.max(-127),
            Weights::Sparse => 0,
        };
        rng.vector(count).into_iter().map(weight).collect()
    }

    /// A bias.
    pub fn draw_bias(self, rng: &mut Rng) -> i32 {
        let random = rng.next_u32() as i32;
        match self.bias {
            Bias::Typical => random >> 18,
            Bias::Zero => 0,
            Bias::Extreme => (random >> 20) + [-(1 << 29), 1 << 29][usize::from(random & 1 == 0)],
        }
    }

    /// Multiplier and shift of a channel, whose typical factor is `scale`.
    pub fn draw_scale(self, rng: &mut Rng, scale: f64) -> (i32, u8) {
        let random = rng.next_u32();
        let spread = 0.5 + f64::from(random) / f64::from(u32::MAX);
        match self.scales {
            Scales::Typical => normalise(scale * spread),
            Scales::Saturating => normalise((scale * 100.0 * spread).min(0.5)),
            Scales::Vanishing => normalise(scale * spread / 1000.0),
            Scales::Ties => normalise(2f64.powf(scale.log2().round())),
            Scales::Any => {
                let multiplier = [0, i32::MAX, 1 << 30, (1 << 30) + (random >> 3) as i32][(random % 4) as usize];
                (multiplier.max(0), 1 + (random >> 8) as u8 % 62)
            }
        }
    }
}

/// `multiplier * 2^-shift` nearest to `scale`.
fn normalise(scale: f64) -> (i32, u8) {
    let exponent = scale.log2().floor();
    let multiplier = (scale * 2f64.powf(30.0 - exponent)).round().min(f64::from(i32::MAX));
    (multiplier as i32, (30.0 - exponent) as u8)
}
