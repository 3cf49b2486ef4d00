//! A small bundle with every operator, written from pseudo-random constants.

use crate::bundle::write::{BlockParts, BundleParts, PlanParts, write};
use crate::bundle::{BundleError, ChannelTables, InPlace, Op, Placement, Quant, Step};
use crate::kernels::{Add, Conv2d, Landing, Pool2d, Shape, Window};

/// Numerical Recipes' linear congruential generator; only the high bits are used.
pub struct Random(pub u64);

impl Random {
    /// A number in `0 .. 2^31`.
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// A number in `lo ..= hi`.
    pub fn between(&mut self, lo: i32, hi: i32) -> i32 {
        lo + (self.next() % (hi - lo + 1) as u32) as i32
    }

    /// `len` bytes of the full int8 range.
    pub fn bytes(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.between(-128, 127) as i8).collect()
    }
}

/// Collects constants while steps are described.
struct Builder {
    random: Random,
    weights: Vec<i8>,
    tables: Vec<i32>,
    shifts: Vec<u8>,
}

const WIDE: Landing = Landing { zero_point: 3, lo: -128, hi: 127 };
const SQUARE: Window = Window { kernel: [3, 3], stride: [1, 1], pad: [1, 1], dilation: [1, 1] };

/// Half of each operand, rounded half up.
const MEAN: Add = Add { a_multiplier: 1 << 14, b_multiplier: 1 << 14, offset: 1 << 14, shift: 15, lo: -128, hi: 127 };

fn step(inputs: [u8; 2], op: Op) -> Step {
    Step { inputs, op }
}

impl Builder {
    fn constants(&mut self, weights: usize, taps: usize, channels: u16) -> (u32, ChannelTables) {
        let offset = self.weights.len() as u32;
        for _ in 0..weights {
            let weight = self.random.between(-127, 127) as i8;
            self.weights.push(weight);
        }
        let tables = ChannelTables {
            bias: self.tables.len() as u32,
            multiplier: self.tables.len() as u32 + u32::from(channels),
            shift: self.shifts.len() as u32,
            landing: WIDE,
        };
        let spread = (taps as f64).sqrt() * 60.0;
        for _ in 0..channels {
            let bias = self.random.between(-2000, 2000);
            self.tables.push(bias);
        }
        for _ in 0..channels {
            let multiplier = (1 << 30) + self.random.between(0, (1 << 30) - 2);
            self.tables.push(multiplier);
            let shift = 31 + spread.log2().ceil() as i32 + self.random.between(0, 1);
            self.shifts.push(shift as u8);
        }
        (offset, tables)
    }

    fn conv(&mut self, geometry: Conv2d, residual: Option<Add>) -> Op {
        let taps = geometry.taps();
        let channels = geometry.output.c;
        let (weights, tables) = self.constants(taps * usize::from(channels), taps, channels);
        Op::Conv2d { geometry, weights, tables, residual }
    }

    fn point(&mut self, input: Shape, channels: u16, residual: Option<Add>) -> Op {
        let output = Shape::new(input.h, input.w, channels);
        self.conv(Conv2d { input, output, window: Window::POINT, groups: 1, pad_value: 3 }, residual)
    }

    fn depthwise(&mut self, shape: Shape, residual: Option<Add>) -> Op {
        let geometry = Conv2d { input: shape, output: shape, window: SQUARE, groups: shape.c, pad_value: 3 };
        let (weights, tables) = self.constants(9 * usize::from(shape.c), 9, shape.c);
        Op::Depthwise { geometry, weights, tables, residual }
    }

    fn lut(&mut self, shape: Shape) -> Op {
        let table = self.weights.len() as u32;
        let entries = self.random.bytes(256);
        self.weights.extend(entries);
        Op::Lut { shape, table }
    }

    fn softmax(&mut self, shape: Shape) -> Op {
        let table = self.tables.len() as u32;
        self.tables.extend((0..256).map(|i| (65536.0 * (f64::from(-i) / 40.0).exp()).round() as i32));
        Op::Softmax { shape, table }
    }
}

/// Extents of the input of [`bundle`].
pub const INPUT: Shape = Shape::new(12, 10, 3);
const MIDDLE: Shape = Shape::new(6, 5, 8);
const CLASSES: u16 = 10;

/// Convolution with stride and padding, max pooling.
fn stem(b: &mut Builder) -> Vec<Step> {
    let window = Window { stride: [2, 2], ..SQUARE };
    let conv = b.conv(Conv2d { input: INPUT, output: MIDDLE, window, groups: 1, pad_value: -5 }, None);
    let pool = Op::MaxPool(Pool2d { input: MIDDLE, output: MIDDLE, window: SQUARE });
    vec![step([0, 0], conv), step([1, 0], pool)]
}

/// Expansion, depthwise, projection with fused residual on the block's input, lookup.
fn inverted(b: &mut Builder) -> Vec<Step> {
    let wide = Shape::new(MIDDLE.h, MIDDLE.w, 16);
    vec![
        step([0, 0], b.point(MIDDLE, 16, None)),
        step([1, 0], b.depthwise(wide, None)),
        step([2, 0], b.point(wide, 8, Some(MEAN))),
        step([3, 0], b.lut(MIDDLE)),
    ]
}

/// A projected shortcut that is computed before the branch it joins, a depthwise residual, additions, softmax.
fn branches(b: &mut Builder) -> Vec<Step> {
    vec![
        step([0, 0], b.point(MIDDLE, 8, None)),
        step([0, 0], b.conv(Conv2d { input: MIDDLE, output: MIDDLE, window: SQUARE, groups: 2, pad_value: 3 }, None)),
        step([2, 1], b.point(MIDDLE, 8, Some(MEAN))),
        step([2, 3], b.depthwise(MIDDLE, Some(MEAN))),
        step([4, 0], b.lut(MIDDLE)),
        step([5, 4], Op::Add { shape: MIDDLE, add: MEAN }),
        step([6, 0], b.softmax(MIDDLE)),
        step([6, 7], Op::Add { shape: MIDDLE, add: Add { a_multiplier: 9000, lo: -100, ..MEAN } }),
        step([6, 8], Op::Add { shape: MIDDLE, add: MEAN }),
    ]
}

/// Average pooling, transposition, dilated grouped convolution.
fn mixer(b: &mut Builder) -> Vec<Step> {
    let pooled = Shape::new(3, 2, 8);
    let window = Window { kernel: [2, 2], stride: [2, 2], pad: [0, 0], dilation: [1, 1] };
    let pool = Op::AvgPool {
        geometry: Pool2d { input: MIDDLE, output: pooled, window },
        input_zero_point: 3,
        multiplier: 1 << 30,
        shift: 32,
        landing: WIDE,
    };
    let turned = Shape::new(8, 3, 2);
    let window = Window { pad: [2, 2], dilation: [2, 2], ..SQUARE };
    let output = Shape::new(8, 3, 4);
    vec![
        step([0, 0], pool),
        step([1, 0], Op::Transpose { input: pooled, perm: [2, 0, 1] }),
        step([2, 0], b.conv(Conv2d { input: turned, output, window, groups: 2, pad_value: 3 }, None)),
    ]
}

/// Fully connected layer over the flattened value.
fn head(b: &mut Builder) -> Vec<Step> {
    vec![step([0, 0], b.point(Shape::new(1, 1, 96), CLASSES, None))]
}

/// Gives every value memory of its own, except where an operator runs in place.
fn place(blocks: &[BlockParts], path: &[u16]) -> (Vec<Placement>, u32) {
    let mut end = 0;
    let mut take = |len: usize| {
        let start: u32 = end;
        end = (end + len as u32).next_multiple_of(16);
        start
    };
    let mut block_input = take(INPUT.len());
    let mut layout = Vec::new();
    for block in path.iter().map(|&index| &blocks[usize::from(index)]) {
        let mut values = vec![block_input];
        for (at, step) in block.steps.iter().enumerate() {
            let first = step.inputs[0];
            let first_is_done = !block.steps[at + 1..].iter().any(|later| later.inputs.contains(&first));
            let output = match step.op.in_place() {
                InPlace::SecondInput => values[usize::from(step.inputs[1])],
                InPlace::FirstInputIfWanted if first_is_done => values[usize::from(first)],
                _ => take(step.op.output().len()),
            };
            layout.push(Placement { output, scratch: take(step.op.scratch_bytes()) });
            values.push(output);
            block_input = output;
        }
    }
    (layout, end)
}

fn plan(blocks: &[BlockParts], stitch: u32, path: &[u16], accuracy_ppm: u32) -> PlanParts {
    let (layout, arena_bytes) = place(blocks, path);
    let steps = || path.iter().flat_map(|&index| &blocks[usize::from(index)].steps);
    let macs = steps().map(|step| step.op.macs()).sum();
    PlanParts {
        stitch,
        path: path.iter().map(|&index| blocks[usize::from(index)].name.clone()).collect::<Vec<_>>().join(" > "),
        blocks: path.to_vec(),
        layout,
        input_offset: 0,
        arena_bytes,
        arena_lower_bound_bytes: arena_bytes,
        macs,
        params: 0,
        cost: 3 * macs,
        accuracy_ppm,
        float_accuracy_ppm: accuracy_ppm,
        output_quant: Quant { scale: 0.25, zero_point: 3 },
        fast_bytes: 0,
    }
}

/// The parts of a bundle with three plans over shared blocks.
pub fn parts() -> BundleParts {
    let mut builder = Builder { random: Random(7), weights: vec![], tables: vec![], shifts: vec![] };
    let flat = Shape::new(1, 1, 96);
    let blocks: Vec<BlockParts> = [
        ("stem", INPUT, stem(&mut builder)),
        ("inverted", MIDDLE, inverted(&mut builder)),
        ("branches", MIDDLE, branches(&mut builder)),
        ("mixer", MIDDLE, mixer(&mut builder)),
        ("head", flat, head(&mut builder)),
    ]
    .into_iter()
    .map(|(name, input, steps)| BlockParts { name: name.into(), input, steps })
    .collect();
    let plans = vec![
        plan(&blocks, 0, &[0, 3, 4], 500_000),
        plan(&blocks, 1, &[0, 1, 3, 4], 600_000),
        plan(&blocks, 2, &[0, 1, 2, 1, 3, 4], 700_000),
    ];
    BundleParts {
        name: "synthetic".into(),
        labels: (0..CLASSES).map(|class| format!("class {class}")).collect(),
        input: INPUT,
        input_quant: Quant { scale: 1.0 / 64.0, zero_point: 3 },
        output: Shape::new(1, 1, CLASSES),
        blocks,
        plans,
        woven: Vec::new(),
        weights: builder.weights,
        tables: builder.tables,
        shifts: builder.shifts,
        input_lut: (0..3 * 256).map(|entry| ((entry % 256) - 128) as i8).collect(),
        golden: None,
    }
}

/// The bundle's bytes, without golden vectors.
pub fn bundle() -> Result<Vec<u8>, BundleError> {
    write(&parts())
}
