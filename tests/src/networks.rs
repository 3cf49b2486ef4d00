//! A bundle whose layers have the extents and widths of networks in use, with random weights: a plan for each family of networks
//! and one for each operator that is little of a family, so that a count of instructions per plan tells which layers became slower.

use stitchkit_runtime::bundle::{BundleError, Op};
use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape};

use crate::builder::{Builder, RECTIFIED, SIGNED, window};

/// What every plan takes: an image, which the fully connected plan reads as a vector.
const INPUT: Shape = Shape::new(64, 64, 3);
const CLASSES: u16 = 10;
/// Features of a token, and the heads they are divided into.
const FEATURES: u16 = 192;
const HEADS: u16 = 3;

/// `(a + b) * 0.7`, signed.
const SUM: Add = Add { a_multiplier: 22_938, b_multiplier: 22_938, offset: 1 << 14, shift: 15, lo: -128, hi: 127 };
/// `(a + (b + 128)) * 0.7 - 128`, rectified: a signed convolution onto a rectified operand.
const ONTO_RECTIFIED: Add = Add { offset: 128 * 22_938 - (128 << 15) + (1 << 14), ..SUM };

/// The bundle's bytes: plans `dense`, `mobile`, `residual` and `transformer`, and those named after operators.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn bundle() -> Result<Vec<u8>, BundleError> {
    let mut b = Builder::new("networks", INPUT, Shape::new(1, 1, CLASSES), 11);
    for (name, family) in FAMILIES {
        let mut layers = Layers { b: &mut b, steps: Vec::new(), shape: INPUT, zero_point: 0 };
        family(&mut layers);
        let steps = layers.steps;
        let block = b.block(name, INPUT, steps);
        b.over_plan(name, &[block]);
    }
    b.parts_mut().plans.sort_by_key(|plan| plan.cost);
    b.finish(0)
}

type Family = fn(&mut Layers<'_>);
const FAMILIES: [(&str, Family); 15] = [
    ("dense", dense),
    ("mobile", mobile),
    ("residual", residual),
    ("transformer", transformer),
    ("depthwise", depthwise),
    ("grouped", grouped),
    ("max-pool", max_pool),
    ("mean-pool", mean_pool),
    ("sum", sum),
    ("table", table),
    ("softmax", softmax),
    ("transpose", transpose),
    ("copy", copy),
    ("layer-norm", layer_norm),
    ("attention", self_attention),
];

/// Steps one after the other, each of which reads the value before.
struct Layers<'a> {
    b: &'a mut Builder,
    steps: Vec<([u8; 2], Op)>,
    /// Of the latest value.
    shape: Shape,
    zero_point: i8,
}

impl Layers<'_> {
    /// The latest value; 0 is the input.
    fn now(&self) -> u8 {
        self.steps.len() as u8
    }

    /// Adds a step that reads these values.
    fn push_from(&mut self, inputs: [u8; 2], op: Op) {
        self.shape = op.output();
        self.zero_point = zero_point(&op, self.zero_point);
        self.steps.push((inputs, op));
    }

    fn push(&mut self, op: Op) {
        self.push_from([self.now(), 0], op);
    }

    /// A convolution of the latest value to so many channels.
    fn geometry(&self, channels: u16, kernel: u8, stride: u8) -> Conv2d {
        let input = self.shape;
        let output = Shape::new(input.h / u16::from(stride), input.w / u16::from(stride), channels);
        let pad_value = self.zero_point;
        Conv2d { input, output, window: window(kernel, stride, kernel / 2), groups: 1, pad_value }
    }

    fn conv(&mut self, channels: u16, kernel: u8, stride: u8, landing: Landing) {
        let op = self.b.conv(self.geometry(channels, kernel, stride), landing, None);
        self.push(op);
    }

    /// A convolution that keeps the channels and adds an older value.
    fn conv_onto(&mut self, value: u8, channels: u16, kernel: u8, add: Add) {
        let op = self.b.conv(self.geometry(channels, kernel, 1), SIGNED, Some(add));
        self.push_from([self.now(), value], op);
    }

    fn depthwise(&mut self, kernel: u8, stride: u8) {
        let channels = self.shape.c;
        let geometry = Conv2d { groups: channels, ..self.geometry(channels, kernel, stride) };
        let op = self.b.depthwise(geometry, RECTIFIED, None);
        self.push(op);
    }

    fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    fn table(&mut self) {
        let op = Op::Lut { shape: self.shape, table: self.b.lut_table() };
        self.push(op);
    }

    fn layer_norm(&mut self) {
        let op = self.b.layer_norm(self.shape, SIGNED);
        self.push(op);
    }

    /// The mean of windows of this size, which do not overlap.
    fn mean(&mut self, kernel: [u8; 2], landing: Landing) {
        let input = self.shape;
        let output = Shape::new(input.h / u16::from(kernel[0]), input.w / u16::from(kernel[1]), input.c);
        let mut window = window(1, 1, 0);
        (window.kernel, window.stride) = (kernel, kernel);
        let (multiplier, shift) = reciprocal(u32::from(kernel[0]) * u32::from(kernel[1]));
        let geometry = Pool2d { input, output, window };
        self.push(Op::AvgPool { geometry, input_zero_point: landing.zero_point, multiplier, shift, landing });
    }

    /// Values in place of classes, at next to no cost.
    fn first_values(&mut self) {
        let output = Shape::new(1, 1, CLASSES);
        self.push(Op::Slice { input: self.shape, first: [0; 3], output });
    }

    /// Fully connected to the classes, and softmax.
    fn classes(&mut self) {
        self.conv(CLASSES, 1, 1, SIGNED);
        let op = Op::Softmax { shape: self.shape, table: self.b.softmax_table(0.98) };
        self.push(op);
    }
}

/// The zero point of an output, from that of the input.
fn zero_point(op: &Op, before: i8) -> i8 {
    match op {
        Op::Conv2d { tables, residual: None, .. } | Op::Depthwise { tables, residual: None, .. } => {
            tables.landing.zero_point
        }
        Op::Conv2d { residual: Some(add), .. } | Op::Depthwise { residual: Some(add), .. }
            if *add == ONTO_RECTIFIED =>
        {
            RECTIFIED.zero_point
        }
        Op::MaxPool(_) | Op::Slice { .. } => before,
        Op::AvgPool { landing, .. } => landing.zero_point,
        _ => SIGNED.zero_point,
    }
}

/// `1 / n` as multiplier and right shift.
fn reciprocal(n: u32) -> (i32, u8) {
    let shift = 30 + n.next_power_of_two().trailing_zeros();
    (((1u64 << shift) / u64::from(n)) as i32, shift as u8)
}

/// Vectors of the widths of MLPerf Tiny's autoencoder.
fn dense(layers: &mut Layers<'_>) {
    let input = Shape::new(1, 1, INPUT.len() as u16);
    layers.push(Op::Slice { input, first: [0; 3], output: Shape::new(1, 1, 640) });
    for width in [128, 128, 8, 128, 640] {
        layers.conv(width, 1, 1, RECTIFIED);
    }
    layers.classes();
}

/// 3x3 convolutions at 32x32x16 and 16x16x32, a shortcut by a 1x1 convolution of stride 2, mean.
fn residual(layers: &mut Layers<'_>) {
    layers.conv(16, 3, 2, RECTIFIED);
    let shortcut = layers.now();
    layers.conv(16, 3, 1, RECTIFIED);
    layers.conv_onto(shortcut, 16, 3, ONTO_RECTIFIED);
    let (before, shape) = (layers.now(), layers.shape);
    layers.conv(32, 3, 2, RECTIFIED);
    let first = layers.now();
    layers.reshape(shape);
    let op = layers.b.conv(layers.geometry(32, 1, 2), SIGNED, None);
    layers.push_from([before, 0], op);
    let shortcut = layers.now();
    let op = layers.b.conv(layers.geometry(32, 3, 1), SIGNED, Some(SUM));
    layers.push_from([first, shortcut], op);
    layers.conv(64, 1, 1, RECTIFIED);
    layers.mean([16, 16], RECTIFIED);
    layers.classes();
}

/// Depthwise 3x3 convolutions of stride 1 and 2 between 1x1 convolutions to more and to fewer channels.
fn mobile(layers: &mut Layers<'_>) {
    layers.conv(16, 3, 2, RECTIFIED);
    layers.depthwise(3, 1);
    layers.conv(8, 1, 1, SIGNED);
    inverted(layers, 48, 2, 24);
    let narrow = layers.now();
    layers.conv(144, 1, 1, RECTIFIED);
    layers.depthwise(3, 1);
    layers.conv_onto(narrow, 24, 1, SUM);
    inverted(layers, 144, 2, 32);
    layers.conv(128, 1, 1, RECTIFIED);
    layers.mean([8, 8], RECTIFIED);
    layers.classes();
}

fn inverted(layers: &mut Layers<'_>, wide: u16, stride: u8, narrow: u16) {
    layers.conv(wide, 1, 1, RECTIFIED);
    layers.depthwise(3, stride);
    layers.conv(narrow, 1, 1, SIGNED);
}

/// Patches, a class token and positions, one block of a vision transformer, mean of the tokens.
fn transformer(layers: &mut Layers<'_>) {
    let patch = Conv2d { window: window(8, 8, 0), ..layers.geometry(FEATURES, 8, 8) };
    let op = layers.b.conv(patch, SIGNED, None);
    layers.push(op);
    let patches = Shape::new(1, patch.output.positions() as u16, FEATURES);
    let class = layers.b.values(usize::from(FEATURES));
    layers.push(Op::Concat { input: patches, before: 1, after: 0, constants: class });
    let tokens = layers.shape;
    let positions = layers.b.values(tokens.len());
    layers.push(Op::AddConstant { shape: tokens, add: SUM, constants: positions });
    let stream = layers.now();
    layers.layer_norm();
    layers.conv(3 * FEATURES, 1, 1, SIGNED);
    layers.push(Op::Attention(attention(layers.shape, FEATURES)));
    layers.conv_onto(stream, FEATURES, 1, SUM);
    let stream = layers.now();
    layers.layer_norm();
    layers.conv(2 * FEATURES, 1, 1, SIGNED);
    layers.table();
    layers.conv_onto(stream, FEATURES, 1, SUM);
    layers.layer_norm();
    layers.mean([1, tokens.w as u8], SIGNED);
    layers.classes();
}

/// Attention over queries, keys and values side by side, `between` channels from one to the next.
fn attention(input: Shape, between: u16) -> Attention {
    let features = FEATURES / HEADS;
    Attention {
        input,
        heads: HEADS,
        key_features: features,
        value_features: features,
        first: [0, between, 2 * between],
        pitch: [features; 3],
        // Scores of random values have a standard deviation of about 20,000: some octaves.
        score_multiplier: 30_000,
        multiplier: 1 << 30,
        shift: 30,
        landing: SIGNED,
    }
}

/// The input taken for a tensor in the middle of a network.
const MIDDLE: Shape = Shape::new(16, 16, 48);
/// And for tokens.
const TOKENS: Shape = Shape::new(1, 64, FEATURES);

/// 5x5, and 3x3 onto an older value.
fn depthwise(layers: &mut Layers<'_>) {
    layers.reshape(MIDDLE);
    layers.depthwise(5, 1);
    let older = layers.now();
    layers.depthwise(5, 1);
    let geometry = Conv2d { groups: MIDDLE.c, ..layers.geometry(MIDDLE.c, 3, 1) };
    let op = layers.b.depthwise(geometry, SIGNED, Some(ONTO_RECTIFIED));
    layers.push_from([layers.now(), older], op);
    layers.first_values();
}

/// 3x3 in three groups of channels, and 3x3 with holes.
fn grouped(layers: &mut Layers<'_>) {
    layers.reshape(MIDDLE);
    let geometry = Conv2d { groups: 3, ..layers.geometry(MIDDLE.c, 3, 1) };
    let op = layers.b.conv(geometry, RECTIFIED, None);
    layers.push(op);
    let mut geometry = layers.geometry(16, 3, 1);
    (geometry.window.dilation, geometry.window.pad) = ([2, 2], [2, 2]);
    let op = layers.b.conv(geometry, RECTIFIED, None);
    layers.push(op);
    layers.first_values();
}

fn max_pool(layers: &mut Layers<'_>) {
    layers.reshape(MIDDLE);
    layers.push(Op::MaxPool(Pool2d { input: MIDDLE, output: MIDDLE, window: window(3, 1, 1) }));
    layers.push(Op::MaxPool(Pool2d { input: MIDDLE, output: Shape::new(8, 8, 48), window: window(2, 2, 0) }));
    layers.first_values();
}

fn mean_pool(layers: &mut Layers<'_>) {
    layers.reshape(MIDDLE);
    layers.mean([2, 2], SIGNED);
    layers.mean([8, 8], SIGNED);
    layers.first_values();
}

/// With constants, and with a tensor.
fn sum(layers: &mut Layers<'_>) {
    let constants = layers.b.values(MIDDLE.len());
    layers.push(Op::AddConstant { shape: MIDDLE, add: SUM, constants });
    layers.push_from([1, 0], Op::Add { shape: MIDDLE, add: SUM });
    layers.first_values();
}

fn table(layers: &mut Layers<'_>) {
    layers.reshape(MIDDLE);
    layers.table();
    layers.first_values();
}

/// Over the channels of many positions, as detectors and segmenters end.
fn softmax(layers: &mut Layers<'_>) {
    let op = Op::Softmax { shape: MIDDLE, table: layers.b.softmax_table(0.98) };
    layers.push(op);
    layers.first_values();
}

/// A shuffle of channels in groups, and channels first.
fn transpose(layers: &mut Layers<'_>) {
    layers.push(Op::Transpose { input: Shape::new(256, 3, 16), perm: [0, 2, 1] });
    layers.push(Op::Transpose { input: MIDDLE, perm: [2, 0, 1] });
    layers.first_values();
}

/// A token more, and all but that one.
fn copy(layers: &mut Layers<'_>) {
    let constants = layers.b.values(usize::from(FEATURES));
    layers.push(Op::Concat { input: TOKENS, before: 1, after: 0, constants });
    layers.push(Op::Slice { input: layers.shape, first: [0, 1, 0], output: TOKENS });
    layers.first_values();
}

fn layer_norm(layers: &mut Layers<'_>) {
    layers.reshape(TOKENS);
    layers.layer_norm();
    layers.first_values();
}

/// One head, whose queries, keys and values are the features of a token.
fn self_attention(layers: &mut Layers<'_>) {
    layers.push(Op::Attention(Attention { heads: 1, ..attention(TOKENS, FEATURES / HEADS) }));
    layers.first_values();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stitchkit_runtime::bundle::operators::OPERATORS;
    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
    use stitchkit_runtime::kernels::Isa;

    use super::*;
    use crate::Rng;
    use crate::builder::infer;

    #[test]
    fn every_operator_is_in_a_plan_and_every_plan_spreads_its_values() {
        let file = AlignedBytes::copy_of(&bundle().expect("a bundle"));
        let bundle = Bundle::parse(file.as_slice()).expect("a valid bundle");
        let names: BTreeSet<_> =
            bundle.plans().flat_map(|plan| bundle.steps_of(&plan)).map(|placed| placed.step.op.name()).collect();
        assert_eq!(names, OPERATORS.into_iter().collect());
        let mut rng = Rng::new(3);
        let inputs = [rng.vector(INPUT.len()), rng.vector(INPUT.len())];
        for (plan, described) in (0..).zip(bundle.plans()) {
            let [a, b] = [0, 1].map(|at| infer(&bundle, plan, Isa::best(), &inputs[at]));
            assert!(a != b, "plan {} has the same outputs whatever it is given", described.path);
        }
    }
}
