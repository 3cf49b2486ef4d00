//! Bundles with random graphs: every operator, odd extents, groups, strides, dilation.

use stitchkit_runtime::bundle::{BundleError, Op};
use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Pool2d, Shape, Window};

use crate::Rng;
use crate::builder::{Builder, RECTIFIED, SIGNED};

const MEAN: Add = Add { a_multiplier: 1, b_multiplier: 1, offset: 1, shift: 1, lo: -128, hi: 127 };

/// A bundle of two plans, one with a detour, that depends on `seed` alone.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn bundle(seed: u32) -> Result<Vec<u8>, BundleError> {
    let mut rng = Rng::new(seed);
    let input = Shape::new(below(&mut rng, 9), below(&mut rng, 9), below(&mut rng, 7));
    let classes = below(&mut rng, 11);
    let mut b = Builder::new("random", input, Shape::new(1, 1, classes), seed);
    let (trunk, shape) = block(&mut b, &mut rng, input, Extents::Free);
    let (detour, _) = block(&mut b, &mut rng, shape, Extents::Kept);
    let head = head(&mut b, shape, classes);
    b.plan("straight", &[trunk, head]);
    b.plan("detour", &[trunk, detour, head]);
    b.finish(0)
}

/// Whether a block may change extents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extents {
    Kept,
    Free,
}

/// 1 to `n`.
fn below(rng: &mut Rng, n: u16) -> u16 {
    (rng.next_u32() >> 8) as u16 % n + 1
}

fn block(b: &mut Builder, rng: &mut Rng, input: Shape, extents: Extents) -> (u16, Shape) {
    let mut shape = input;
    let mut steps = Vec::new();
    for _ in 0..below(rng, 4) {
        let last = [steps.len() as u8, 0];
        let kinds = if extents == Extents::Kept { 7 } else { 14 };
        let op = match below(rng, kinds) {
            1 => convolution(b, rng, shape, shape, None),
            2 => depthwise(b, rng, shape, shape),
            3 => Op::Lut { shape, table: b.lut_table() },
            4 => {
                steps.push((last, convolution(b, rng, shape, shape, None)));
                steps.push(([last[0] + 1, last[0]], convolution(b, rng, shape, shape, Some(MEAN))));
                continue;
            }
            5 => {
                steps.push((last, depthwise(b, rng, shape, shape)));
                steps.push(([last[0] + 1, last[0]], Op::Add { shape, add: MEAN }));
                continue;
            }
            6 => b.layer_norm(shape, SIGNED),
            7 => Op::AddConstant { shape, add: MEAN, constants: b.values(shape.len()) },
            8 => attention(rng, shape),
            9 => concat(b, rng, shape),
            10 => {
                let output = Shape::new(below(rng, shape.h), below(rng, shape.w), below(rng, shape.c));
                let first = [shape.h - output.h, shape.w - output.w, shape.c - output.c];
                Op::Slice { input: shape, first: first.map(|most| below(rng, most + 1) - 1), output }
            }
            11 => Op::Transpose { input: shape, perm: [1, 2, 0] },
            12 => {
                let output = Shape::new(shape.h.div_ceil(2), shape.w.div_ceil(2), shape.c);
                let window = Window { kernel: [2, 2], stride: [2, 2], pad: [0, 0], dilation: [1, 1] };
                Op::MaxPool(Pool2d { input: shape, output, window })
            }
            _ => {
                let extent = |n: u16, rng: &mut Rng| below(rng, n);
                let channels = shape.c * below(rng, 3);
                let output = Shape::new(extent(shape.h, rng), extent(shape.w, rng), channels);
                convolution(b, rng, shape, output, None)
            }
        };
        shape = op.output();
        steps.push((last, op));
    }
    (b.block("random", input, steps), shape)
}

/// Attention whose queries, keys and values may lie anywhere in the channels, also over each other.
fn attention(rng: &mut Rng, input: Shape) -> Op {
    let features = [below(rng, input.c), below(rng, input.c)];
    let heads = below(rng, 3);
    let mut place = |features: u16| {
        let room = input.c - features;
        let pitch = if heads == 1 { 0 } else { below(rng, room / (heads - 1) + 1) - 1 };
        (below(rng, room - pitch * (heads - 1) + 1) - 1, pitch)
    };
    let parts = [place(features[0]), place(features[0]), place(features[1])];
    Op::Attention(Attention {
        input,
        heads,
        key_features: features[0],
        value_features: features[1],
        first: parts.map(|(first, _)| first),
        pitch: parts.map(|(_, pitch)| pitch),
        score_multiplier: rng.next_u32() >> 14,
        multiplier: 1 << 30,
        shift: 30,
        landing: SIGNED,
    })
}

/// Constant tokens around the positions, taken for tokens of a sequence.
fn concat(b: &mut Builder, rng: &mut Rng, shape: Shape) -> Op {
    let input = Shape::new(1, shape.h * shape.w, shape.c);
    let (before, after) = (below(rng, 3) - 1, below(rng, 3) - 1);
    let constants = b.values(usize::from(before + after) * usize::from(shape.c));
    Op::Concat { input, before, after, constants }
}

/// A convolution from `input` to `output` extents, whose windows may reach outside the input on every side.
fn convolution(b: &mut Builder, rng: &mut Rng, input: Shape, output: Shape, residual: Option<Add>) -> Op {
    let groups: Vec<u16> = (1..=input.c).filter(|&g| input.c.is_multiple_of(g) && output.c.is_multiple_of(g)).collect();
    let groups = groups[usize::from(below(rng, groups.len() as u16)) - 1];
    let geometry = Conv2d { input, output, window: window(rng, input, output), groups, pad_value: -128 };
    b.conv(geometry, if residual.is_some() { SIGNED } else { RECTIFIED }, residual)
}

fn depthwise(b: &mut Builder, rng: &mut Rng, input: Shape, output: Shape) -> Op {
    let geometry = Conv2d { input, output, window: window(rng, input, output), groups: input.c, pad_value: 3 };
    b.depthwise(geometry, SIGNED, None)
}

/// A window whose stride keeps the last output position inside the padded input.
fn window(rng: &mut Rng, input: Shape, output: Shape) -> Window {
    let kernel = [below(rng, 4) as u8, below(rng, 4) as u8];
    let pad = kernel.map(|k| (rng.next_u32() >> 16) as u8 % (k + 1));
    let mut stride = |input: u16, output: u16, pad: u8| {
        let most = if output == 1 { 3 } else { (input + u16::from(pad) - 1) / (output - 1) };
        below(rng, most.clamp(1, 3)) as u8
    };
    let stride = [stride(input.h, output.h, pad[0]), stride(input.w, output.w, pad[1])];
    Window { kernel, stride, pad, dilation: [below(rng, 2) as u8, below(rng, 2) as u8] }
}

/// A fully connected layer over everything, and softmax.
fn head(b: &mut Builder, shape: Shape, classes: u16) -> u16 {
    let features = Shape::new(1, 1, shape.len() as u16);
    let output = Shape::new(1, 1, classes);
    let dense = Conv2d { input: features, output, window: Window::POINT, groups: 1, pad_value: 0 };
    let table = b.softmax_table(0.98);
    let steps = vec![([0, 0], b.conv(dense, SIGNED, None)), ([1, 0], Op::Softmax { shape: output, table })];
    b.block("head", features, steps)
}
