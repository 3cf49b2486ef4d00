//! A bundle made to be measured: every class of step in many shapes, small enough for a Cortex-M0 with 16 KB of memory.
//!
//! All steps of a block read the same value, so a block is a list of independent measurements. That value is the block's
//! input, or what a first step makes of it where the elements of the input do not suit. The weights are pseudo-random; all
//! steps share them.

use stitchkit_runtime::bundle::write::{BlockParts, BundleParts, PlanParts, write};
use stitchkit_runtime::bundle::{BundleError, ChannelTables, InPlace, Op, Placement, Quant, Step};
use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape, Window};
use stitchkit_runtime::profile::Work;

use crate::compile::cost;

/// How large steps may be.
struct Sizes {
    /// Elements of the bundle's input; every block gives them another shape.
    input: u16,
    /// Weights that a step may use.
    weights: usize,
    /// Most elements that a step puts out.
    outputs: usize,
    /// Most bytes of output and scratch of a step. A value made of the input lies behind them, which may then lie over the input.
    bytes: usize,
    /// Most multiply-accumulates of a step.
    macs: u64,
    /// The input's rows and columns; the rest are channels.
    grids: &'static [(u16, u16)],
    /// Rows and columns of the input, and what is made of it.
    made: &'static [(u16, u16, Made)],
}

/// For a Cortex-M0 with 16 KB of memory; scalar boards finish in seconds.
const SMALL: Sizes = Sizes {
    input: 1536,
    weights: 56 << 10,
    outputs: 3072,
    bytes: 8192,
    macs: 1_000_000,
    grids: &[(48, 32), (32, 16), (16, 16), (16, 8), (8, 8), (8, 6), (4, 8), (4, 4), (2, 2), (3, 1), (1, 1)],
    made: &MADE,
};

/// For boards with an operating system, whose time for steps of the size that products have does not follow from small ones.
const LARGE: Sizes = Sizes {
    input: 24_576,
    weights: 512 << 10,
    outputs: 49_152,
    bytes: 65_536,
    macs: 6_000_000,
    grids: &[(96, 64), (48, 32), (32, 32), (32, 16), (16, 16), (8, 8)],
    made: &[
        (32, 32, Made::Conv(1, 3)),
        (32, 32, Made::Conv(1, 8)),
        (32, 32, Made::Conv(1, 16)),
        (32, 32, Made::Conv(1, 20)),
        (32, 32, Made::Conv(1, 32)),
        (32, 24, Made::Conv(1, 16)),
        (24, 16, Made::Conv(1, 40)),
        (16, 16, Made::Conv(1, 24)),
        (16, 16, Made::Conv(1, 32)),
        (16, 16, Made::Conv(1, 48)),
        (16, 16, Made::Conv(1, 64)),
        (8, 8, Made::Conv(1, 64)),
        (8, 8, Made::Conv(1, 96)),
        (16, 16, Made::Conv(1, 7)),
    ],
};

/// Elements of every plan's output.
const OUTPUT: u16 = 4;

/// What a first step makes of the input.
#[derive(Clone, Copy)]
enum Made {
    /// A convolution without padding: kernel and channels.
    Conv(u8, u16),
    /// A pool over all positions, which leaves the channels.
    Squeeze,
}

/// Values made for [`SMALL`].
const MADE: [(u16, u16, Made); 22] = [
    (16, 16, Made::Conv(1, 1)),
    (16, 16, Made::Conv(1, 3)),
    (16, 16, Made::Conv(2, 2)),
    (16, 8, Made::Conv(1, 8)),
    (16, 8, Made::Conv(2, 5)),
    (32, 16, Made::Conv(1, 4)),
    (8, 8, Made::Conv(1, 1)),
    (8, 8, Made::Conv(1, 3)),
    (8, 8, Made::Conv(1, 8)),
    (8, 8, Made::Conv(2, 16)),
    (8, 8, Made::Conv(3, 2)),
    (8, 8, Made::Conv(3, 4)),
    (8, 6, Made::Conv(2, 24)),
    (4, 8, Made::Conv(2, 12)),
    (4, 4, Made::Conv(1, 16)),
    (4, 4, Made::Conv(1, 31)),
    (4, 4, Made::Conv(2, 4)),
    (4, 4, Made::Conv(2, 40)),
    (16, 8, Made::Squeeze),
    (8, 6, Made::Squeeze),
    (4, 4, Made::Squeeze),
    (2, 2, Made::Squeeze),
];

const LANDING: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };
const SUM: Add = Add { a_multiplier: 1 << 14, b_multiplier: 1 << 14, offset: 1 << 14, shift: 15, lo: -128, hi: 127 };

/// The bundle's bytes.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn bundle() -> Result<Vec<u8>, BundleError> {
    of_sizes(&SMALL)
}

/// The bytes of a bundle with steps as large as those of products: half a megabyte, and 128 KB of arena.
///
/// # Errors
/// As [`bundle`].
pub fn large_bundle() -> Result<Vec<u8>, BundleError> {
    of_sizes(&LARGE)
}

fn of_sizes(sizes: &'static Sizes) -> Result<Vec<u8>, BundleError> {
    let mut parts = empty(sizes);
    let whole = sizes.grids.iter().map(|&(h, w)| (h, w, None));
    for (h, w, made) in whole.chain(sizes.made.iter().map(|&(h, w, made)| (h, w, Some(made)))) {
        let input = Shape::new(h, w, sizes.input / (h * w));
        let steps = steps(sizes, input, made);
        let plan = plan(sizes, &parts, input, made, &steps);
        parts.blocks.push(BlockParts { name: plan.path.clone(), input, steps });
        parts.plans.push(plan);
    }
    parts.plans.sort_by_key(|plan| plan.cost);
    write(&parts)
}

fn empty(sizes: &Sizes) -> BundleParts {
    // Marsaglia's xorshift, so that the bundle is the same everywhere.
    let mut state = 0x9E37_79B9u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as i8
    };
    let quant = Quant { scale: 1.0, zero_point: 0 };
    let mut tables = vec![0; 256];
    tables.extend([1 << 30; 256]);
    tables.extend((0..256).map(|i| (1 << 16) >> (i / 8)));
    BundleParts {
        name: "shapes".to_owned(),
        labels: Vec::new(),
        input: Shape::new(1, 1, sizes.input),
        input_quant: quant,
        output: Shape::new(1, 1, OUTPUT),
        blocks: Vec::new(),
        plans: Vec::new(),
        woven: Vec::new(),
        weights: (0..sizes.weights).map(|_| random().max(-127)).collect(),
        tables,
        shifts: vec![40; 256],
        input_lut: Vec::new(),
        golden: None,
    }
}

const CHANNELS: ChannelTables = ChannelTables { bias: 0, multiplier: 256, shift: 0, landing: LANDING };
/// Index of the softmax table.
const EXPONENTIALS: u32 = 512;

/// Steps over the block's input or what is made of it, the last of which gives the bundle's output.
fn steps(sizes: &'static Sizes, input: Shape, made: Option<Made>) -> Vec<Step> {
    let mut list = List { sizes, from: 0, input, steps: Vec::new(), clamps: u32::from(input.c) % 6 };
    if let Some(made) = made {
        list.make(made);
    }
    let input = list.input;
    for channels in [4, 10, 16, 31, 64] {
        list.conv([1, 1], 1, 0, channels, 1);
    }
    list.conv([1, 1], 2, 0, 16, 1);
    for channels in [3, 8, 16, 32, 64] {
        list.conv([3, 3], 1, 1, channels, 1);
    }
    list.conv([3, 3], 1, 0, 24, 1);
    list.conv([3, 3], 2, 1, 16, 1);
    list.conv([3, 3], 2, 0, 8, 1);
    list.conv([5, 5], 1, 2, 6, 1);
    list.conv([1, 3], 1, 0, 8, 1);
    list.conv([4, 2], 1, 0, 20, 1);
    list.conv([2, 4], 2, 1, 12, 1);
    if input.c.is_multiple_of(6) {
        list.conv([3, 3], 1, 1, input.c, input.c / 3);
    }
    if input.c.is_multiple_of(2) {
        list.conv([3, 3], 1, 1, 2 * input.c, 2);
    }
    if input.c.is_multiple_of(8) {
        list.conv([1, 1], 1, 0, 16, 4);
    }
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (7, 1)] {
        list.conv([kernel, kernel], stride, kernel / 2, input.c, input.c);
    }
    for (kernel, stride) in [(2, 2), (3, 2), (3, 1)] {
        list.pool(kernel, stride);
    }
    list.everywhere();
    list.elementwise();
    list.norm();
    for heads in [1, 2, 4] {
        list.attention(heads);
    }
    list.push([list.from, 0], conv(input, Shape::new(1, 1, OUTPUT), Window::POINT, 1, None, i8::MIN));
    list.steps
}

struct List {
    sizes: &'static Sizes,
    /// The value that is read.
    from: u8,
    /// Its shape.
    input: Shape,
    steps: Vec<Step>,
    /// Convolutions so far.
    clamps: u32,
}

fn conv(input: Shape, output: Shape, window: Window, groups: u16, residual: Option<Add>, lo: i8) -> Op {
    let geometry = Conv2d { input, output, window, groups, pad_value: -128 };
    let tables = ChannelTables { landing: Landing { lo, ..LANDING }, ..CHANNELS };
    if groups > 1 && groups == input.c && groups == output.c {
        return Op::Depthwise { geometry, weights: 0, tables, residual };
    }
    Op::Conv2d { geometry, weights: 0, tables, residual }
}

fn extent(input: u16, kernel: u8, stride: u8, pad: u8) -> Option<u16> {
    let span = (input + 2 * u16::from(pad)).checked_sub(u16::from(kernel))?;
    Some(span / u16::from(stride) + 1)
}

impl List {
    fn push(&mut self, inputs: [u8; 2], op: Op) {
        self.steps.push(Step { inputs, op });
    }

    /// Number of the latest step's output.
    fn latest(&self) -> u8 {
        self.steps.len() as u8
    }

    /// Puts another value in the place of the input.
    fn make(&mut self, made: Made) {
        let op = match made {
            Made::Conv(kernel, channels) => {
                let window = Window { kernel: [kernel; 2], ..Window::POINT };
                let [h, w] = [self.input.h, self.input.w].map(|extent| extent - u16::from(kernel) + 1);
                conv(self.input, Shape::new(h, w, channels), window, 1, None, i8::MIN)
            }
            Made::Squeeze => {
                let kernel = [self.input.h, self.input.w].map(|extent| extent as u8);
                let output = Shape::new(1, 1, self.input.c);
                Op::MaxPool(Pool2d { input: self.input, output, window: Window { kernel, ..Window::POINT } })
            }
        };
        self.input = op.output();
        self.push([0, 0], op);
        self.from = self.latest();
    }

    /// A convolution without and one with a residual, if they are within the limits. Clamps of all of int8 and narrower
    /// ones take turns.
    fn conv(&mut self, kernel: [u8; 2], stride: u8, pad: u8, channels: u16, groups: u16) {
        let window = Window { kernel, stride: [stride; 2], pad: [pad; 2], dilation: [1, 1] };
        let rows = extent(self.input.h, kernel[0], stride, pad);
        let columns = extent(self.input.w, kernel[1], stride, pad);
        let (Some(h), Some(w)) = (rows, columns) else { return };
        let output = Shape::new(h, w, channels);
        let op =
            conv(self.input, output, window, groups, None, if self.clamps.is_multiple_of(3) { -100 } else { i8::MIN });
        let weights = match op {
            Op::Conv2d { geometry, .. } => geometry.taps() * usize::from(channels),
            _ => usize::from(kernel[0]) * usize::from(kernel[1]) * usize::from(channels),
        };
        let fits = weights <= self.sizes.weights && channels <= 256 && output.len() <= self.sizes.outputs;
        if !fits
            || output.len().next_multiple_of(16) + op.scratch_bytes() > self.sizes.bytes
            || op.macs() > self.sizes.macs
        {
            return;
        }
        self.push([self.from, 0], op);
        let lo = if self.clamps.is_multiple_of(2) { i8::MIN } else { -100 };
        let sum = Add { lo, ..SUM };
        self.push([self.from, self.latest()], conv(self.input, output, window, groups, Some(sum), i8::MIN));
        self.clamps += 1;
    }

    fn pool(&mut self, kernel: u8, stride: u8) {
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [0; 2], dilation: [1, 1] };
        let extents = [self.input.h, self.input.w].map(|extent_in| extent(extent_in, kernel, stride, 0));
        let [Some(h), Some(w)] = extents else { return };
        self.pools(Pool2d { input: self.input, output: Shape::new(h, w, self.input.c), window });
    }

    /// Pools over all positions.
    fn everywhere(&mut self) {
        let kernel = [self.input.h, self.input.w].map(|extent| extent as u8);
        let output = Shape::new(1, 1, self.input.c);
        self.pools(Pool2d { input: self.input, output, window: Window { kernel, ..Window::POINT } });
    }

    fn pools(&mut self, pool: Pool2d) {
        self.push([self.from, 0], Op::MaxPool(pool));
        let (multiplier, shift) = (1 << 30, 34);
        self.push(
            [self.from, 0],
            Op::AvgPool { geometry: pool, input_zero_point: -128, multiplier, shift, landing: LANDING },
        );
    }

    fn elementwise(&mut self) {
        let shape = self.input;
        self.push([self.from, 0], Op::Lut { shape, table: 0 });
        self.push([self.latest(), self.from], Op::Add { shape, add: SUM });
        self.push([self.from, 0], Op::Softmax { shape, table: EXPONENTIALS });
        for perm in [[1, 0, 2], [2, 0, 1], [0, 2, 1]] {
            self.push([self.from, 0], Op::Transpose { input: shape, perm });
        }
        let column = Shape::new(shape.h, 1, shape.c);
        let window = Window { kernel: [1, 1], stride: [1, shape.w as u8], ..Window::POINT };
        self.push([self.from, 0], conv(shape, Shape { c: 8, ..column }, window, 1, None, i8::MIN));
        let few = Shape { c: 8, ..column };
        self.push([self.latest(), 0], Op::Softmax { shape: few, table: EXPONENTIALS });
        let sums = self.latest() - 1;
        self.push([self.latest(), 0], Op::Lut { shape: few, table: 0 });
        self.push([self.latest(), sums], Op::Add { shape: few, add: SUM });
    }
}

impl List {
    fn norm(&mut self) {
        let shape = self.input;
        if shape.c <= 256 {
            self.push([self.from, 0], Op::LayerNorm { shape, table: 0, epsilon: 0, shift: 36, landing: LANDING });
        }
    }

    /// Attention of so many heads, if the channels can be shared out and the step is within the limits.
    fn attention(&mut self, heads: u16) {
        let features = self.input.c / (3 * heads);
        if features == 0 || !self.input.c.is_multiple_of(3 * heads) {
            return;
        }
        let attention = Attention {
            input: self.input,
            heads,
            key_features: features,
            value_features: features,
            first: [0, heads * features, 2 * heads * features],
            pitch: [features; 3],
            score_multiplier: 1 << 18,
            multiplier: 1 << 30,
            shift: 30,
            landing: LANDING,
        };
        let op = Op::Attention(attention);
        let bytes = op.output().len().next_multiple_of(16) + op.scratch_bytes();
        if op.macs() <= self.sizes.macs && bytes <= self.sizes.bytes {
            self.push([self.from, 0], op);
        }
    }
}

/// The plan over one block that is about to be added.
fn plan(sizes: &Sizes, parts: &BundleParts, input: Shape, made: Option<Made>, steps: &[Step]) -> PlanParts {
    let layout = layout(sizes, steps, made);
    let ends = layout.iter().zip(steps).map(|(at, step)| {
        let scratch = step.op.scratch_bytes();
        let scratch_end = if scratch == 0 { 0 } else { at.scratch as usize + scratch };
        scratch_end.max(at.output as usize + step.op.output().len())
    });
    let arena_bytes = ends.max().unwrap_or(0) as u32;
    let macs = steps.iter().map(|step| step.op.macs()).sum();
    let first = made.and_then(|_| steps.first()).map(|step| step.op.output());
    let made = first.map_or(String::new(), |to| format!(" to {}x{}x{}", to.h, to.w, to.c));
    let path = format!("{}x{}x{}{made}", input.h, input.w, input.c);
    PlanParts {
        stitch: parts.plans.len() as u32,
        path,
        blocks: vec![parts.blocks.len() as u16],
        layout,
        input_offset: 0,
        arena_bytes,
        arena_lower_bound_bytes: arena_bytes,
        macs,
        params: 0,
        cost: steps.iter().map(|step| cost::instructions(&Work::of(&step.op))).sum(),
        accuracy_ppm: 0,
        float_accuracy_ppm: 0,
        output_quant: parts.input_quant,
        fast_bytes: 0,
    }
}

/// The value that all steps read stays; outputs lie behind the input, or where it was, or one place further where a step
/// reads what lies there.
fn layout(sizes: &Sizes, steps: &[Step], made: Option<Made>) -> Vec<Placement> {
    let most = (sizes.outputs as u32).next_multiple_of(16);
    let near = if made.is_some() { 0 } else { u32::from(sizes.input).next_multiple_of(16) };
    let far = near + most;
    let mut places: Vec<Placement> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let place_of = |value: u8| value.checked_sub(1).map_or(0, |at| places[usize::from(at)].output);
        let output = match step.op.in_place() {
            _ if made.is_some() && index == 0 => sizes.bytes as u32,
            InPlace::SecondInput => place_of(step.inputs[1]),
            InPlace::FirstInputIfWanted if place_of(step.inputs[0]) == near || place_of(step.inputs[0]) == far => {
                place_of(step.inputs[0])
            }
            _ if place_of(step.inputs[0]) == near => far,
            _ => near,
        };
        // Convolutions read what stays, so they put out near; their scratch follows. That of a first step follows the input.
        let before = if output == near { near + (step.op.output().len() as u32).next_multiple_of(16) } else { most };
        places.push(Placement { output, scratch: before });
    }
    places
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
    use stitchkit_runtime::profile::{OpClass, Work};

    use super::*;

    #[test]
    fn every_class_is_there_and_a_small_board_can_run_it() {
        let bytes = AlignedBytes::copy_of(&bundle().unwrap());
        let bundle = Bundle::parse(bytes.as_slice()).unwrap();
        let steps: Vec<Work> = bundle
            .plans()
            .flat_map(|plan| bundle.steps_of(&plan).map(|placed| Work::of(&placed.step.op)).collect::<Vec<_>>())
            .collect();
        let classes: BTreeSet<&str> = steps.iter().map(|work| work.class.name()).collect();
        assert_eq!(classes.len(), OpClass::COUNT);
        assert!(steps.iter().any(|work| work.residual_outputs > 0));
        assert!(bundle.plans().all(|plan| plan.arena_bytes <= 11 * 1024));
        assert!(bundle.len_bytes() <= 160 * 1024);
    }

    #[test]
    fn large_steps_are_those_of_products() {
        let bytes = AlignedBytes::copy_of(&large_bundle().unwrap());
        let bundle = Bundle::parse(bytes.as_slice()).unwrap();
        assert!(bundle.plans().all(|plan| plan.arena_bytes <= 160 * 1024));
        let most = bundle.plans().flat_map(|plan| bundle.steps_of(&plan).map(|step| step.step.op.macs()).max()).max();
        assert!(most > Some(5_000_000));
    }
}
