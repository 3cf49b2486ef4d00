//! A bundle of a few kilobytes that holds every operator, optional section and in-place form.

use stitchkit_runtime::bundle::{BundleError, Op};
use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Pool2d, Shape};

use crate::builder::{Builder, RECTIFIED, SIGNED, window};

const MEAN: Add = Add { a_multiplier: 1, b_multiplier: 1, offset: 1, shift: 1, lo: -128, hi: 127 };

/// The bundle's bytes, with pixel tables and two golden vectors.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn bundle() -> Result<Vec<u8>, BundleError> {
    builder().finish(2)
}

/// The same before it is written, without golden vectors.
#[must_use]
pub fn builder() -> Builder {
    let input = Shape::new(6, 6, 2);
    let mut b = Builder::new("every-op", input, Shape::new(1, 1, 4), 3);
    b.parts_mut().input_lut = (0..512).map(|i| (i % 256 - 128) as i8).collect();
    let features = features(&mut b, input);
    let short = Shape::new(3, 3, 4);
    let detour = detour(&mut b, short);
    let tokens = tokens(&mut b, short);
    let head = head(&mut b, short);
    b.plan("short", &[features, head]);
    b.plan("tokens", &[features, tokens, head]);
    b.divided_plan("detour", &[features, detour, head]);
    b.weave();
    b
}

/// Convolution, depthwise convolution with residual, pool: 6x6x2 to 3x3x4.
fn features(b: &mut Builder, input: Shape) -> u16 {
    let wide = Shape::new(6, 6, 4);
    let first = Conv2d { input, output: wide, window: window(3, 1, 1), groups: 2, pad_value: 0 };
    let second = Conv2d { input: wide, output: wide, window: window(3, 1, 1), groups: 4, pad_value: -128 };
    let pool = Pool2d { input: wide, output: Shape::new(3, 3, 4), window: window(2, 2, 0) };
    let steps = vec![
        ([0, 0], b.conv(first, RECTIFIED, None)),
        ([1, 1], b.conv(Conv2d { input: wide, window: window(1, 1, 0), groups: 1, ..first }, RECTIFIED, None)),
        ([2, 1], b.depthwise(second, RECTIFIED, Some(MEAN))),
        ([3, 0], Op::MaxPool(pool)),
    ];
    b.block("features", input, steps)
}

/// Table, transposes, addition and a convolution onto a residual.
fn detour(b: &mut Builder, shape: Shape) -> u16 {
    let geometry = Conv2d { input: shape, output: shape, window: window(3, 1, 1), groups: 1, pad_value: -128 };
    let table = b.lut_table();
    let steps = vec![
        ([0, 0], b.conv(geometry, SIGNED, None)),
        ([1, 0], Op::Lut { shape, table }),
        ([2, 0], Op::Transpose { input: shape, perm: [2, 0, 1] }),
        ([3, 0], Op::Transpose { input: Shape::new(4, 3, 3), perm: [1, 2, 0] }),
        ([4, 0], Op::Add { shape, add: MEAN }),
        ([5, 0], b.conv(geometry, SIGNED, Some(MEAN))),
    ];
    b.block("detour", shape, steps)
}

/// A transformer's block over the positions and a class token, which is then dropped.
fn tokens(b: &mut Builder, shape: Shape) -> u16 {
    let token = |tokens: u16, channels: u16| Shape::new(1, tokens, channels);
    let dense = |from: Shape, channels: u16, pad_value: i8| Conv2d {
        input: from,
        output: Shape { c: channels, ..from },
        window: window(1, 1, 0),
        groups: 1,
        pad_value,
    };
    let all = token(10, 4);
    let attention = Attention {
        input: token(10, 12),
        heads: 2,
        key_features: 2,
        value_features: 2,
        first: [0, 4, 8],
        pitch: [2; 3],
        score_multiplier: 100_000,
        multiplier: 1 << 30,
        shift: 30,
        landing: SIGNED,
    };
    let (class, positions) = (b.values(4), b.values(40));
    let steps = vec![
        ([0, 0], Op::Concat { input: token(9, 4), before: 1, after: 0, constants: class }),
        ([1, 0], Op::AddConstant { shape: all, add: MEAN, constants: positions }),
        ([2, 0], b.layer_norm(all, SIGNED)),
        ([3, 0], b.conv(dense(all, 12, 0), SIGNED, None)),
        ([4, 0], Op::Attention(attention)),
        ([5, 2], b.conv(dense(all, 4, 0), SIGNED, Some(MEAN))),
        ([6, 0], Op::Slice { input: all, first: [0, 1, 0], output: token(9, 4) }),
        ([7, 0], Op::AddConstant { shape: token(9, 4), add: MEAN, constants: positions }),
        // The block's input stays alive to the end, so that damaged steps that read it read the same everywhere.
        ([8, 0], b.conv(dense(token(9, 4), 4, 0), RECTIFIED, Some(MEAN))),
    ];
    b.block("tokens", shape, steps)
}

/// Mean, two fully connected layers, softmax. The second layer's filters can be woven.
fn head(b: &mut Builder, shape: Shape) -> u16 {
    let pooled = Shape::new(1, 1, shape.c);
    let pool = Op::AvgPool {
        geometry: Pool2d { input: shape, output: pooled, window: window(3, 1, 0) },
        input_zero_point: -128,
        // 1/9 as 0x71C71C72 * 2^-34.
        multiplier: 0x71C7_1C72,
        shift: 34,
        landing: RECTIFIED,
    };
    let hidden = Shape::new(1, 1, 8);
    let dense = |input, output, pad_value| Conv2d { input, output, window: window(1, 1, 0), groups: 1, pad_value };
    let table = b.softmax_table(0.98);
    let steps = vec![
        ([0, 0], pool),
        ([1, 0], b.conv(dense(pooled, hidden, -128), SIGNED, None)),
        ([2, 0], b.conv(dense(hidden, pooled, 0), SIGNED, None)),
        ([3, 0], Op::Softmax { shape: pooled, table }),
    ];
    b.block("head", shape, steps)
}
