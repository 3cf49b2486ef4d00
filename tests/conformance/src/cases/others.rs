//! Additions, pools, tables, softmax, transposes.

use stitchkit_runtime::kernels::Add;

use super::{FULL, NARROW};
use crate::case::{Addition, Average, Case, Form, Op, Pooling, Values};

const HALVES: Add = Add { a_multiplier: 1, b_multiplier: 1, offset: 1, shift: 1, lo: -128, hi: 127 };
const TYPICAL: Add =
    Add { a_multiplier: 1_467_291, b_multiplier: 987_654, offset: 3_276_801, shift: 20, lo: -128, hi: 127 };
const LARGEST: Add = Add {
    a_multiplier: Add::MAX_MULTIPLIER,
    b_multiplier: Add::MAX_MULTIPLIER,
    offset: -Add::MAX_OFFSET,
    shift: Add::MAX_SHIFT,
    lo: -128,
    hi: 127,
};
const SUM: Addition = Addition { shape: [5, 5, 8], add: TYPICAL, values: Values::Random, form: Form::Apart };
const POOL: Pooling = Pooling { input: [6, 6, 8], kernel: [2, 2], stride: [2, 2], pad: [0; 4] };
/// 3/4 divided by the four values of a window.
const MEAN: Average = Average {
    pool: POOL,
    input_zero_point: -3,
    multiplier: 0x6000_0000,
    shift: 33,
    landing: FULL,
    values: Values::Random,
};

const fn case(name: &'static str, seed: u32, skew: u8, op: Op) -> Case {
    Case { name, op, seed, skew }
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("add", 200, 0, Op::Add(SUM)),
    case("add in place", 201, 0, Op::Add(Addition { form: Form::InPlace, ..SUM })),
    case("add on odd addresses, odd length", 202, 1, Op::Add(Addition { shape: [3, 3, 7], ..SUM })),
    case("add in place on odd addresses, odd length", 203, 1, Op::Add(Addition { shape: [3, 3, 7], form: Form::InPlace, ..SUM })),
    case("add on ties", 204, 0, Op::Add(Addition { add: HALVES, ..SUM })),
    case("add in place on ties", 205, 0, Op::Add(Addition { add: HALVES, form: Form::InPlace, ..SUM })),
    case("add, largest constants", 206, 0, Op::Add(Addition { add: LARGEST, values: Values::Rails, ..SUM })),
    case("add, largest multipliers", 210, 0, Op::Add(Addition { add: Add { offset: 1 << 20, ..LARGEST }, ..SUM })),
    case("add, negative multiplier", 207, 0, Op::Add(Addition { add: Add { b_multiplier: -987_654, ..TYPICAL }, ..SUM })),
    case("add, clamped", 208, 0, Op::Add(Addition { add: Add { lo: -4, hi: 31, ..TYPICAL }, ..SUM })),
    case("add, one element", 209, 3, Op::Add(Addition { shape: [1, 1, 1], ..SUM })),
    case("max pool 2x2", 220, 0, Op::MaxPool(POOL)),
    case("max pool 3x3, stride 2, padded", 221, 0, Op::MaxPool(Pooling { input: [7, 7, 5], kernel: [3, 3], pad: [1; 4], ..POOL })),
    case("max pool 3x2, stride 1, asymmetric padding", 222, 1, Op::MaxPool(Pooling { kernel: [3, 2], stride: [1, 1], pad: [1, 0, 1, 1], ..POOL })),
    case("max pool over everything", 223, 0, Op::MaxPool(Pooling { kernel: [6, 6], stride: [1, 1], ..POOL })),
    case("average pool 2x2", 230, 0, Op::AvgPool(MEAN)),
    case("average pool 3x3, stride 1, padded", 231, 1, Op::AvgPool(Average { pool: Pooling { input: [5, 5, 3], kernel: [3, 3], stride: [1, 1], pad: [1; 4] }, shift: 34, ..MEAN })),
    case("average pool over 8x8", 232, 0, Op::AvgPool(Average { pool: Pooling { input: [8, 8, 16], kernel: [8, 8], stride: [1, 1], pad: [0; 4] }, shift: 35, ..MEAN })),
    case("average pool, clamped", 233, 0, Op::AvgPool(Average { landing: NARROW, ..MEAN })),
    case("average pool, input zero point -128", 234, 0, Op::AvgPool(Average { input_zero_point: -128, landing: super::RELU, ..MEAN })),
    case("average pool on ties", 235, 0, Op::AvgPool(Average { input_zero_point: 0, multiplier: 1 << 30, shift: 32, ..MEAN })),
    case("average pool, zero multiplier", 236, 0, Op::AvgPool(Average { multiplier: 0, landing: NARROW, ..MEAN })),
    case("table", 240, 0, Op::Lut(300, Form::Apart)),
    case("table in place", 241, 1, Op::Lut(300, Form::InPlace)),
    case("softmax, 10 classes", 250, 0, Op::Softmax(1, 10, 62_000, Values::Random)),
    case("softmax, 7 rows of 13", 251, 1, Op::Softmax(7, 13, 64_000, Values::Random)),
    case("softmax, all equal", 252, 0, Op::Softmax(2, 10, 60_000, Values::Equal(5))),
    case("softmax, two equal", 253, 0, Op::Softmax(1, 2, 60_000, Values::Equal(-128))),
    case("softmax, saturated", 254, 0, Op::Softmax(3, 10, 20_000, Values::Rails)),
    case("softmax, one class", 255, 0, Op::Softmax(4, 1, 60_000, Values::Random)),
    case("softmax, rows of 1000", 256, 0, Op::Softmax(2, 1000, 40_000, Values::Random)),
    case("softmax, flat table", 257, 0, Op::Softmax(2, 1000, 65_536, Values::Random)),
    case("transpose h w c to w h c", 270, 0, Op::Transpose([3, 5, 4], [1, 0, 2])),
    case("transpose h w c to c h w", 271, 1, Op::Transpose([3, 5, 4], [2, 0, 1])),
    case("transpose h w c to h c w", 272, 0, Op::Transpose([3, 5, 7], [0, 2, 1])),
    case("transpose h w c to w c h", 273, 0, Op::Transpose([2, 5, 7], [1, 2, 0])),
    case("transpose to the same", 274, 0, Op::Transpose([3, 5, 4], [0, 1, 2])),
    case("transpose all axes", 275, 0, Op::Transpose([6, 5, 4], [2, 1, 0])),
];
