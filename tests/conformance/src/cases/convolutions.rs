//! Convolutions, fully connected layers, depthwise convolutions.

use stitchkit_runtime::kernels::{Add, Landing};

use super::{FULL, NARROW, RELU};
use crate::case::{Bias, Case, Convolution, Op, Scales, Values};

/// A 1x1 convolution; the other cases change what they are about.
const BASE: Convolution = Convolution {
    input: [6, 6, 8],
    channels: 8,
    kernel: [1, 1],
    stride: [1, 1],
    pad: [0; 4],
    cut: [0; 2],
    dilation: [1, 1],
    groups: 1,
    pad_value: 0,
    values: Values::Random,
    bias: Bias::Typical,
    scales: Scales::Typical,
    landing: FULL,
    residual: None,
};
/// A padded 3x3 convolution.
const THREE: Convolution = Convolution { kernel: [3, 3], pad: [1; 4], pad_value: -5, ..BASE };
/// A 3x3 depthwise convolution.
const DEPTHWISE: Convolution = Convolution { channels: 8, ..THREE };
/// A fully connected layer of 32 to 10 features over one row.
const DENSE: Convolution = Convolution { input: [1, 1, 32], channels: 10, ..BASE };

/// Rescales both operands to about a half, rounding half up.
const RESIDUAL: Add = Add { a_multiplier: 70_001, b_multiplier: 60_013, offset: 66_000, shift: 17, lo: -128, hi: 127 };
/// Every product of int8 values lands on a tie or an integer.
const RESIDUAL_TIES: Add = Add { a_multiplier: 1, b_multiplier: 1, offset: 1, shift: 1, lo: -90, hi: 100 };

const fn conv(name: &'static str, seed: u32, skew: u8, op: Convolution) -> Case {
    Case { name, op: Op::Conv2d(op), seed, skew }
}

const fn woven(name: &'static str, seed: u32, skew: u8, op: Convolution) -> Case {
    Case { name, op: Op::Woven(op), seed, skew }
}

const fn depthwise(name: &'static str, seed: u32, skew: u8, op: Convolution) -> Case {
    Case { name, op: Op::Depthwise(op), seed, skew }
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    conv("1x1", 1, 0, BASE),
    conv("1x1 on odd addresses", 2, 1, BASE),
    conv("1x1 on addresses 2 mod 4", 3, 2, BASE),
    conv("1x1, one channel in and out", 4, 0, Convolution { input: [5, 5, 1], channels: 1, ..BASE }),
    conv("1x1, 3 to 5 channels", 5, 3, Convolution { input: [5, 7, 3], channels: 5, ..BASE }),
    conv("1x1, 6 to 6 channels", 6, 0, Convolution { input: [3, 3, 6], channels: 6, ..BASE }),
    conv("1x1, 7 to 1 channels", 7, 1, Convolution { input: [3, 3, 7], channels: 1, ..BASE }),
    conv("1x1, 64 to 3 channels", 8, 0, Convolution { input: [3, 5, 64], channels: 3, ..BASE }),
    conv("1x1, 257 to 4 channels", 9, 0, Convolution { input: [2, 2, 257], channels: 4, ..BASE }),
    conv("1x1, 8 to 130 channels", 10, 5, Convolution { input: [2, 3, 8], channels: 130, ..BASE }),
    conv("1x1 with stride 2", 11, 0, Convolution { input: [7, 6, 16], stride: [2, 2], ..BASE }),
    conv("1x1 with padding", 12, 0, Convolution { pad: [1, 0, 0, 1], pad_value: 3, ..BASE }),
    conv("1x1, as many positions in narrower rows", 14, 0, Convolution { input: [4, 6, 8], pad: [0, 0, 2, 0], cut: [0, 2], pad_value: 5, ..BASE }),
    conv("1x1, as many positions in wider rows", 15, 0, Convolution { input: [6, 4, 8], pad: [0, 0, 0, 2], cut: [2, 0], pad_value: -6, ..BASE }),
    conv("1x1, more rows than the input", 16, 0, Convolution { input: [4, 4, 16], pad: [0, 0, 3, 0], pad_value: 7, ..BASE }),
    conv("1x1, fewer rows than the input", 17, 0, Convolution { cut: [3, 0], ..BASE }),
    conv("1x1, fewer columns than the input", 18, 0, Convolution { cut: [0, 3], ..BASE }),
    conv("grouped 1x1, as many positions in narrower rows", 19, 0, Convolution { input: [4, 6, 16], pad: [0, 0, 2, 0], cut: [0, 2], groups: 2, ..BASE }),
    conv("stitching layer, 32 to 48 channels", 13, 0, Convolution { input: [4, 4, 32], channels: 48, landing: RELU, ..BASE }),
    conv("3x3, same", 20, 0, THREE),
    conv("3x3, same, on odd addresses", 21, 3, THREE),
    conv("3x3, valid", 22, 0, Convolution { pad: [0; 4], ..THREE }),
    conv("3x3, 3 to 16 channels", 23, 0, Convolution { input: [8, 8, 3], channels: 16, landing: RELU, ..THREE }),
    conv("3x3, 1 to 5 channels", 24, 1, Convolution { input: [8, 7, 1], channels: 5, ..THREE }),
    conv("3x3, 5 to 7 channels", 25, 1, Convolution { input: [5, 6, 5], channels: 7, ..THREE }),
    conv("3x3, 16 to 16 channels", 26, 0, Convolution { input: [6, 6, 16], channels: 16, landing: RELU, ..THREE }),
    conv("3x3, 64 to 2 channels", 27, 0, Convolution { input: [3, 3, 64], channels: 2, ..THREE }),
    conv("3x3, stride 2, padding below and right", 28, 0, Convolution { input: [8, 8, 8], stride: [2, 2], pad: [0, 0, 1, 1], ..THREE }),
    conv("3x3, stride 2, padding on all sides", 29, 0, Convolution { input: [7, 7, 8], stride: [2, 2], ..THREE }),
    conv("3x3, stride 3 by 1", 30, 2, Convolution { input: [9, 4, 4], stride: [3, 1], ..THREE }),
    conv("3x3, dilation 2", 31, 0, Convolution { pad: [2; 4], dilation: [2, 2], ..THREE }),
    conv("3x3, dilation 1 by 3, odd padding", 32, 0, Convolution { pad: [1, 3, 1, 2], dilation: [1, 3], ..THREE }),
    conv("3x3, padding as wide as the kernel", 33, 0, Convolution { input: [3, 3, 4], pad: [3; 4], ..THREE }),
    conv("3x3 over a single position", 34, 0, Convolution { input: [1, 1, 12], ..THREE }),
    conv("3x3 over a single row", 35, 0, Convolution { input: [1, 9, 4], ..THREE }),
    conv("5x5, same", 36, 0, Convolution { input: [6, 6, 4], channels: 6, kernel: [5, 5], pad: [2; 4], ..THREE }),
    conv("5x3, stride 1 by 2, asymmetric padding", 37, 1, Convolution { input: [7, 9, 3], kernel: [5, 3], stride: [1, 2], pad: [2, 0, 1, 2], ..THREE }),
    conv("7x7, stride 2", 38, 0, Convolution { input: [9, 9, 3], channels: 4, kernel: [7, 7], stride: [2, 2], pad: [3; 4], ..THREE }),
    conv("10x4, stride 2, as keyword spotting begins", 39, 0, Convolution { input: [25, 10, 1], channels: 8, kernel: [10, 4], stride: [2, 2], pad: [4, 1, 5, 1], ..THREE }),
    conv("1x3 along a row", 40, 0, Convolution { input: [1, 20, 6], kernel: [1, 3], pad: [0, 1, 0, 1], ..THREE }),
    conv("2 groups", 41, 0, Convolution { groups: 2, ..THREE }),
    conv("3 groups of 3 to 2 channels", 42, 1, Convolution { input: [4, 4, 9], channels: 6, groups: 3, ..THREE }),
    conv("grouped 1x1, 4 groups", 43, 0, Convolution { input: [4, 4, 16], channels: 8, groups: 4, ..BASE }),
    conv("as many groups as channels", 44, 0, Convolution { groups: 8, ..THREE }),
    conv("residual, 3x3", 50, 0, Convolution { residual: Some(RESIDUAL), ..THREE }),
    conv("residual, 3x3, odd channels and addresses", 51, 1, Convolution { input: [5, 5, 5], channels: 3, residual: Some(RESIDUAL), ..THREE }),
    conv("residual, 1x1 with stride", 52, 0, Convolution { input: [6, 6, 16], stride: [2, 2], residual: Some(RESIDUAL), landing: RELU, ..BASE }),
    conv("residual on ties", 53, 0, Convolution { residual: Some(RESIDUAL_TIES), ..THREE }),
    conv("residual, grouped", 54, 0, Convolution { groups: 2, residual: Some(RESIDUAL), ..THREE }),
    conv("clamped on both sides", 60, 0, Convolution { landing: NARROW, ..THREE }),
    conv("clamped to one value", 61, 0, Convolution { landing: Landing { zero_point: 9, lo: 9, hi: 9 }, ..BASE }),
    conv("zero point 127", 62, 0, Convolution { landing: Landing { zero_point: 127, lo: -128, hi: 127 }, ..BASE }),
    conv("padding value -128", 63, 0, Convolution { pad_value: -128, ..THREE }),
    conv("padding value 127", 64, 0, Convolution { pad_value: 127, ..THREE }),
    conv("zero multipliers", 65, 0, Convolution { scales: Scales::SomeZero, landing: NARROW, ..THREE }),
    conv("ties", 66, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Ties, ..BASE }),
    conv("ties, 3x3", 67, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Ties, ..THREE }),
    conv("shifts below 32", 68, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Shifts(24, 31), ..BASE }),
    conv("shifts from 1", 69, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Shifts(1, 31), ..BASE }),
    conv("shifts from 31 to 34", 70, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Shifts(31, 34), ..THREE }),
    conv("shifts to 62", 71, 0, Convolution { bias: Bias::Extreme, scales: Scales::Shifts(52, 62), ..THREE }),
    conv("all shifts, even channels", 72, 0, Convolution { channels: 62, input: [3, 3, 4], scales: Scales::Shifts(1, 62), ..BASE }),
    conv("all shifts, odd channels", 73, 1, Convolution { channels: 61, input: [2, 2, 5], scales: Scales::Shifts(1, 62), ..BASE }),
    conv("largest multiplier", 74, 0, Convolution { scales: Scales::Largest(39), ..BASE }),
    conv("largest multiplier, shift 62", 75, 0, Convolution { bias: Bias::Extreme, scales: Scales::Largest(62), ..BASE }),
    conv("largest multiplier, shift 1", 76, 0, Convolution { bias: Bias::Extreme, scales: Scales::Largest(1), ..BASE }),
    conv("highest sums", 77, 0, Convolution { input: [4, 4, 16], values: Values::Highest, pad_value: -128, scales: Scales::Shifts(44, 47), ..THREE }),
    conv("lowest sums", 78, 0, Convolution { input: [4, 4, 16], values: Values::Lowest, pad_value: -128, scales: Scales::Shifts(44, 47), ..THREE }),
    conv("sums on the rails", 79, 0, Convolution { input: [4, 4, 16], values: Values::Rails, scales: Scales::Shifts(40, 44), ..THREE }),
    conv("extreme accumulators", 80, 0, Convolution { channels: 15, bias: Bias::Extreme, scales: Scales::Shifts(53, 56), ..THREE }),
    conv("highest sums over 1024 taps", 81, 0, Convolution { input: [1, 2, 1024], channels: 3, values: Values::Highest, scales: Scales::Shifts(46, 48), ..BASE }),
    conv("constant input and weights", 82, 0, Convolution { values: Values::Equal(-1), scales: Scales::Shifts(33, 36), ..THREE }),
    conv("fully connected, one row", 90, 0, DENSE),
    conv("fully connected, one row, odd sizes", 91, 1, Convolution { input: [1, 1, 37], channels: 11, ..DENSE }),
    conv("fully connected, 2 rows", 92, 0, Convolution { input: [1, 2, 64], ..DENSE }),
    conv("fully connected, 49 rows", 93, 0, Convolution { input: [1, 49, 32], channels: 24, ..DENSE }),
    conv("fully connected, 7 rows, odd sizes", 94, 3, Convolution { input: [1, 7, 33], channels: 9, ..DENSE }),
    conv("fully connected, 640 to 10 features", 95, 0, Convolution { input: [1, 1, 640], ..DENSE }),
    conv("fully connected, one feature", 96, 0, Convolution { input: [1, 1, 1], channels: 1, ..DENSE }),
    woven("woven, 32 to 10 features", 500, 0, DENSE),
    woven("woven, 8 to 2 features", 501, 0, Convolution { input: [1, 1, 8], channels: 2, ..DENSE }),
    woven("woven, 128 to 20 features", 502, 0, Convolution { input: [1, 1, 128], channels: 20, landing: RELU, ..DENSE }),
    woven("woven, 136 to 6 features", 503, 0, Convolution { input: [1, 1, 136], channels: 6, landing: NARROW, ..DENSE }),
    woven("woven, 640 to 12 features", 504, 0, Convolution { input: [1, 1, 640], channels: 12, ..DENSE }),
    woven("woven, on odd addresses", 505, 1, Convolution { input: [1, 1, 64], channels: 4, ..DENSE }),
    woven("woven, sums on the rails", 506, 0, Convolution { input: [1, 1, 504], channels: 4, values: Values::Rails, scales: Scales::Shifts(38, 42), ..DENSE }),
    woven("woven, sums beyond 24 bits", 507, 0, Convolution { input: [1, 1, 1024], channels: 4, values: Values::Lowest, scales: Scales::Shifts(40, 44), ..DENSE }),
    woven("woven, shifts below 32", 508, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Shifts(24, 31), ..DENSE }),
    woven("woven, shifts from 1", 509, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Shifts(1, 31), ..DENSE }),
    woven("woven, ties", 510, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Ties, ..DENSE }),
    woven("woven, extreme accumulators", 511, 0, Convolution { channels: 16, bias: Bias::Extreme, scales: Scales::Shifts(53, 56), ..DENSE }),
    depthwise("depthwise 3x3", 100, 0, DEPTHWISE),
    depthwise("depthwise 3x3 on odd addresses", 101, 1, DEPTHWISE),
    depthwise("depthwise, 5 channels", 102, 0, Convolution { input: [5, 6, 5], channels: 5, ..DEPTHWISE }),
    depthwise("depthwise, 1 channel", 103, 0, Convolution { input: [6, 6, 1], channels: 1, ..DEPTHWISE }),
    depthwise("depthwise, 67 channels", 104, 2, Convolution { input: [3, 3, 67], channels: 67, ..DEPTHWISE }),
    depthwise("depthwise, stride 2, asymmetric padding", 105, 0, Convolution { input: [8, 8, 8], stride: [2, 2], pad: [0, 0, 1, 1], ..DEPTHWISE }),
    depthwise("depthwise, dilation 2", 106, 0, Convolution { pad: [2; 4], dilation: [2, 2], ..DEPTHWISE }),
    depthwise("depthwise 5x5", 107, 0, Convolution { kernel: [5, 5], pad: [2; 4], ..DEPTHWISE }),
    depthwise("depthwise 1x1", 108, 0, Convolution { kernel: [1, 1], pad: [0; 4], ..DEPTHWISE }),
    depthwise("depthwise, residual", 109, 0, Convolution { residual: Some(RESIDUAL), landing: RELU, ..DEPTHWISE }),
    depthwise("depthwise, ties", 110, 0, Convolution { values: Values::Small, bias: Bias::Zero, scales: Scales::Ties, ..DEPTHWISE }),
    depthwise("depthwise, extreme accumulators", 111, 0, Convolution { input: [4, 4, 15], channels: 15, bias: Bias::Extreme, scales: Scales::Shifts(53, 56), ..DEPTHWISE }),
    depthwise("depthwise, all shifts", 112, 1, Convolution { input: [3, 3, 62], channels: 62, scales: Scales::Shifts(1, 62), ..DEPTHWISE }),
    depthwise("depthwise, zero multipliers", 113, 0, Convolution { scales: Scales::SomeZero, landing: NARROW, ..DEPTHWISE }),
    depthwise("depthwise over a single position", 114, 0, Convolution { input: [1, 1, 8], ..DEPTHWISE }),
];
