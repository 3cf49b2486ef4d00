//! Layer norms, attention, and copies of tokens.

use stitchkit_runtime::kernels::{Attention, Landing};

use super::{FULL, NARROW, RELU};
use crate::case::{Attending, Case, HeadOrder, Norm, Op, Scales, Values};

const NORM: Norm =
    Norm { shape: [7, 48], epsilon: 3, shift: 38, landing: FULL, values: Values::Random, scales: Scales::Typical };
/// Scores of about 5400 * sqrt(features) spread over some ten octaves.
const ATTENTION: Attending = Attending {
    tokens: [1, 17],
    heads: 3,
    features: [16, 16],
    order: HeadOrder::Parts,
    score_multiplier: 60_000,
    scale: (0x6000_0000, 30),
    landing: FULL,
    values: Values::Random,
};
const NONE: Attending = Attending { score_multiplier: 0, ..ATTENTION };
const SHARP: Attending = Attending { score_multiplier: Attention::MAX_SCORE_MULTIPLIER, ..ATTENTION };
const ENDS: Landing = Landing { zero_point: 127, lo: -128, hi: 127 };

const fn case(name: &'static str, seed: u32, skew: u8, op: Op) -> Case {
    Case { name, op, seed, skew }
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("layer norm", 300, 0, Op::LayerNorm(NORM)),
    case("layer norm on odd addresses, odd channels", 301, 1, Op::LayerNorm(Norm { shape: [5, 29], ..NORM })),
    case("layer norm, one channel", 302, 3, Op::LayerNorm(Norm { shape: [4, 1], ..NORM })),
    case("layer norm, 513 channels", 303, 0, Op::LayerNorm(Norm { shape: [2, 513], ..NORM })),
    case("layer norm, small values", 304, 0, Op::LayerNorm(Norm { values: Values::Small, ..NORM })),
    case("layer norm, all equal", 305, 0, Op::LayerNorm(Norm { values: Values::Equal(-128), epsilon: 0, ..NORM })),
    case("layer norm, rails", 306, 0, Op::LayerNorm(Norm { values: Values::Rails, epsilon: 0, ..NORM })),
    case("layer norm, large epsilon", 307, 0, Op::LayerNorm(Norm { epsilon: (1 << 62) - 1, ..NORM })),
    case("layer norm, clamped", 308, 0, Op::LayerNorm(Norm { landing: NARROW, ..NORM })),
    case("layer norm, zero point 127", 309, 0, Op::LayerNorm(Norm { landing: ENDS, ..NORM })),
    case("layer norm, least shift", 310, 0, Op::LayerNorm(Norm { shift: 16, ..NORM })),
    case("layer norm, largest shift and gains", 311, 0, Op::LayerNorm(Norm { shift: 62, scales: Scales::Largest(0), ..NORM })),
    case("layer norm, largest gains", 314, 0, Op::LayerNorm(Norm { shift: 44, scales: Scales::Largest(0), ..NORM })),
    case("layer norm, saturated", 312, 0, Op::LayerNorm(Norm { shift: 30, scales: Scales::Largest(0), ..NORM })),
    case("layer norm, some gains zero", 313, 0, Op::LayerNorm(Norm { scales: Scales::SomeZero, ..NORM })),
    case("attention", 320, 0, Op::Attention(ATTENTION)),
    case("attention on odd addresses", 321, 1, Op::Attention(ATTENTION)),
    case("attention, 64 tokens on a grid", 322, 0, Op::Attention(Attending { tokens: [8, 8], heads: 2, ..ATTENTION })),
    case("attention, 66 tokens", 323, 2, Op::Attention(Attending { tokens: [1, 66], heads: 1, ..ATTENTION })),
    case("attention, one token", 324, 0, Op::Attention(Attending { tokens: [1, 1], ..ATTENTION })),
    case("attention, two tokens", 325, 3, Op::Attention(Attending { tokens: [2, 1], ..ATTENTION })),
    case("attention, 3 and 5 features", 326, 1, Op::Attention(Attending { features: [3, 5], ..ATTENTION })),
    case("attention, 20 and 36 features", 327, 0, Op::Attention(Attending { features: [20, 36], heads: 2, ..ATTENTION })),
    case("attention, 70 and 18 features", 328, 0, Op::Attention(Attending { features: [70, 18], heads: 1, ..ATTENTION })),
    case("attention, 130 and 1 features", 329, 1, Op::Attention(Attending { features: [130, 1], heads: 1, tokens: [1, 6], ..ATTENTION })),
    case("attention, head after head", 330, 1, Op::Attention(Attending { order: HeadOrder::Heads, ..ATTENTION })),
    case("attention, head after head, odd features", 331, 0, Op::Attention(Attending { order: HeadOrder::Heads, features: [7, 9], ..ATTENTION })),
    case("attention, no scores", 332, 0, Op::Attention(NONE)),
    case("attention, least multiplier", 333, 0, Op::Attention(Attending { score_multiplier: 1, ..ATTENTION })),
    case("attention, largest multiplier", 334, 0, Op::Attention(SHARP)),
    case("attention, on the rails", 335, 0, Op::Attention(Attending { values: Values::Rails, ..ATTENTION })),
    case("attention, all lowest", 336, 0, Op::Attention(Attending { values: Values::Highest, ..ATTENTION })),
    case("attention, small values", 337, 0, Op::Attention(Attending { values: Values::Small, score_multiplier: 1 << 25, ..ATTENTION })),
    case("attention, clamped", 338, 0, Op::Attention(Attending { landing: NARROW, ..NONE })),
    case("attention, zero point -128", 339, 0, Op::Attention(Attending { landing: RELU, ..SHARP })),
    case("attention, zero point 127", 340, 0, Op::Attention(Attending { landing: ENDS, ..SHARP })),
    case("attention, zero multiplier", 341, 0, Op::Attention(Attending { scale: (0, 1), landing: NARROW, ..ATTENTION })),
    case("attention, least shift", 342, 0, Op::Attention(Attending { scale: (1 << 30, 1), ..ATTENTION })),
    case("attention, largest shift", 343, 0, Op::Attention(Attending { scale: (i32::MAX, 39), ..SHARP })),
    case("concat before and after", 350, 1, Op::Concat([13, 40, 5])),
    case("concat nothing", 351, 0, Op::Concat([0, 9, 0])),
    case("slice", 352, 0, Op::Slice([4, 5, 6], [1, 2, 3], [3, 2, 3])),
    case("slice, one token", 353, 1, Op::Slice([1, 17, 9], [0, 0, 0], [1, 1, 9])),
];
