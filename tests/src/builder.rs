//! Builds bundles with random weights.

use stitchkit_runtime::bundle::write::{BlockParts, BundleParts, GoldenParts, PlanParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, ChannelTables, Op, Quant, Step};
use stitchkit_runtime::exec::{Arena, Executor};
use stitchkit_runtime::kernels::{Add, Conv2d, Isa, Landing, Shape, Window, woven};

use crate::place::{Placed, place, place_divided, place_over};
use crate::{Rng, style::Style};

/// A linear output around zero.
pub const SIGNED: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };
/// A rectified output: zero is -128.
pub const RECTIFIED: Landing = Landing { zero_point: -128, lo: -128, hi: 127 };

/// Blocks and constants collected so far. Weights are random; scales are such that activations stay spread out.
#[derive(Debug)]
pub struct Builder {
    parts: BundleParts,
    rng: Rng,
    style: Style,
}

/// A square window: kernel, stride, padding above and left.
#[must_use]
pub const fn window(kernel: u8, stride: u8, pad: u8) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2], dilation: [1, 1] }
}

impl Builder {
    /// An empty bundle of this name, input and output.
    #[must_use]
    pub fn new(name: &str, input: Shape, output: Shape, seed: u32) -> Self {
        let quant = Quant { scale: 1.0 / 64.0, zero_point: 0 };
        let parts = BundleParts {
            name: name.to_owned(),
            labels: (0..output.c).map(|class| format!("class {class}")).collect(),
            input,
            input_quant: quant,
            output,
            blocks: Vec::new(),
            plans: Vec::new(),
            woven: Vec::new(),
            weights: Vec::new(),
            tables: Vec::new(),
            shifts: Vec::new(),
            input_lut: Vec::new(),
            golden: None,
        };
        Self { parts, rng: Rng::new(seed), style: Style::TYPICAL }
    }

    /// The parts, for what the builder has no word for.
    pub fn parts_mut(&mut self) -> &mut BundleParts {
        &mut self.parts
    }

    /// Weaves the filters of every fully connected layer where they can be; returns how many layers there are.
    pub fn weave(&mut self) -> usize {
        let Self { parts, .. } = self;
        parts.woven.clear();
        let steps = parts.blocks.iter().flat_map(|block| &block.steps).map(|step| step.op);
        for (index, op) in (0..).zip(steps) {
            let Op::Conv2d { geometry, weights: at, residual: None, .. } = op else { continue };
            let len = geometry.taps() * usize::from(geometry.output.c);
            let filters = &mut parts.weights[at as usize..at as usize + len];
            if !geometry.can_be_woven() || !at.is_multiple_of(4) {
                continue;
            }
            if let Some(bytes) = woven(filters, geometry.taps()) {
                filters.copy_from_slice(&bytes);
                parts.woven.push(index);
            }
        }
        parts.woven.len()
    }

    /// Draws what follows from another seed and in another style.
    pub fn restyle(&mut self, seed: u32, style: Style) {
        self.rng = Rng::new(seed);
        self.style = style;
    }

    /// A convolution whose weights and constants are added to the bundle. The input's zero
    /// point, which is the geometry's pad value, is folded into the bias.
    pub fn conv(&mut self, geometry: Conv2d, landing: Landing, residual: Option<Add>) -> Op {
        let taps = geometry.taps();
        let (weights, tables) = self.constants(&geometry, taps, landing, |channel, tap| channel * taps + tap);
        Op::Conv2d { geometry, weights, tables, residual }
    }

    /// A depthwise convolution, likewise.
    pub fn depthwise(&mut self, geometry: Conv2d, landing: Landing, residual: Option<Add>) -> Op {
        let channels = usize::from(geometry.output.c);
        let taps = geometry.taps();
        let (weights, tables) = self.constants(&geometry, taps, landing, |channel, tap| tap * channels + channel);
        Op::Depthwise { geometry, weights, tables, residual }
    }

    /// The position of a softmax table that holds the powers of `ratio`.
    pub fn softmax_table(&mut self, ratio: f64) -> u32 {
        let at = self.parts.tables.len() as u32;
        self.parts.tables.extend((0..256).map(|d| (65_536.0 * ratio.powi(d)).round() as i32));
        at
    }

    /// A layer norm with random gains around 1/2^26 of int8 and small offsets.
    pub fn layer_norm(&mut self, shape: Shape, landing: Landing) -> Op {
        let channels = usize::from(shape.c);
        let table = self.parts.tables.len() as u32;
        // The normalised value is about 1, and 40 steps of the output make it so.
        for channel in 0..2 * channels {
            let random = self.rng.next_u32() as i32 >> 7;
            self.parts.tables.push(if channel < channels { (40 << 20) + random } else { random });
        }
        Op::LayerNorm { shape, table, epsilon: 3, shift: 36, landing }
    }

    /// The position of random constant values.
    pub fn values(&mut self, len: usize) -> u32 {
        let at = self.parts.weights.len() as u32;
        let values = self.rng.vector(len);
        self.parts.weights.extend(values);
        at
    }

    /// The position of a lookup table with random entries.
    pub fn lut_table(&mut self) -> u32 {
        self.values(256)
    }

    fn constants(
        &mut self,
        geometry: &Conv2d,
        taps: usize,
        landing: Landing,
        position: impl Fn(usize, usize) -> usize,
    ) -> (u32, ChannelTables) {
        let channels = usize::from(geometry.output.c);
        let offset = self.parts.weights.len();
        let weights = self.style.draw_weights(&mut self.rng, taps * channels);
        // Weights and activations have a standard deviation of about 74; the output shall have one of about 50.
        let scale = 50.0 / (74.0 * 74.0 * (taps as f64).sqrt());
        let tables = ChannelTables {
            bias: self.parts.tables.len() as u32,
            multiplier: (self.parts.tables.len() + channels) as u32,
            shift: self.parts.shifts.len() as u32,
            landing,
        };
        let zero_point = i32::from(geometry.pad_value);
        for channel in 0..channels {
            let sum: i32 = (0..taps).map(|tap| i32::from(weights[position(channel, tap)])).sum();
            self.parts.tables.push(self.style.draw_bias(&mut self.rng) - zero_point * sum);
        }
        for _ in 0..channels {
            let (multiplier, shift) = self.style.draw_scale(&mut self.rng, scale);
            self.parts.tables.push(multiplier);
            self.parts.shifts.push(shift);
        }
        self.parts.weights.extend(weights);
        (offset as u32, tables)
    }

    /// Adds a block; `steps` name their inputs as [`Step::inputs`] does. Returns its index.
    pub fn block(&mut self, name: &str, input: Shape, steps: Vec<([u8; 2], Op)>) -> u16 {
        let steps = steps.into_iter().map(|(inputs, op)| Step { inputs, op }).collect();
        self.parts.blocks.push(BlockParts { name: name.to_owned(), input, steps });
        (self.parts.blocks.len() - 1) as u16
    }

    /// Adds a plan over `blocks`; plans must be added by rising cost.
    pub fn plan(&mut self, path: &str, blocks: &[u16]) {
        let placed = place(self.parts.input, &self.chain(blocks));
        self.add_plan(path, blocks, placed);
    }

    /// As [`plan`](Self::plan), with outputs written over inputs wherever that can be.
    pub fn over_plan(&mut self, path: &str, blocks: &[u16]) {
        let placed = place_over(self.parts.input, &self.chain(blocks));
        self.add_plan(path, blocks, placed);
    }

    /// As [`over_plan`](Self::over_plan), laid out in a fast and a main memory.
    pub fn divided_plan(&mut self, path: &str, blocks: &[u16]) {
        let placed = place_divided(self.parts.input, &self.chain(blocks));
        self.add_plan(path, blocks, placed);
    }

    fn chain(&self, blocks: &[u16]) -> Vec<&BlockParts> {
        blocks.iter().map(|&b| &self.parts.blocks[usize::from(b)]).collect()
    }

    fn add_plan(&mut self, path: &str, blocks: &[u16], placed: Placed) {
        let stitch = self.parts.plans.len() as u32;
        let chain = self.chain(blocks);
        let ops = || chain.iter().flat_map(|block| &block.steps).map(|step| &step.op);
        let macs: u64 = ops().map(Op::macs).sum();
        let params = ops().map(params).sum();
        let accuracy_ppm = 600_000 + 50_000 * stitch;
        self.parts.plans.push(PlanParts {
            stitch,
            path: path.to_owned(),
            blocks: blocks.to_vec(),
            layout: placed.layout,
            input_offset: placed.input_offset,
            arena_bytes: placed.arena_bytes,
            arena_lower_bound_bytes: placed.lower_bound_bytes,
            macs,
            params,
            cost: 3 * macs + 1000,
            accuracy_ppm,
            float_accuracy_ppm: accuracy_ppm + 2000,
            output_quant: Quant { scale: 1.0 / 16.0, zero_point: 0 },
            fast_bytes: placed.fast_bytes,
        });
    }

    /// The bundle's bytes, with `vectors` golden vectors that the scalar reference computes.
    ///
    /// # Errors
    /// [`BundleError`] if the parts do not form a valid bundle.
    pub fn finish(mut self, vectors: usize) -> Result<Vec<u8>, BundleError> {
        if vectors == 0 {
            return write(&self.parts);
        }
        let bytes = AlignedBytes::copy_of(&write(&self.parts)?);
        let bundle = Bundle::parse(bytes.as_slice())?;
        let inputs: Vec<Vec<i8>> = (0..vectors).map(|_| self.rng.vector(bundle.meta().input.len())).collect();
        let outputs = (0..bundle.plan_count())
            .map(|plan| inputs.iter().map(|input| infer(&bundle, plan, Isa::Reference, input)).collect())
            .collect();
        self.parts.golden = Some(GoldenParts { inputs, outputs });
        write(&self.parts)
    }
}

/// Outputs of the plan for `inputs`, in two memories as it was laid out; of the main one there is no more than that takes.
///
/// # Panics
/// If the plan does not exist or an input has another length.
#[must_use]
pub fn infer_divided(bundle: &Bundle<'_>, plan: u16, isa: Isa, inputs: &[&[i8]]) -> Vec<Vec<i8>> {
    let footprint = bundle.plan(plan).expect("the plan exists").footprint();
    let mut fast = AlignedBytes::new(footprint.fast_bytes as usize);
    let mut main = AlignedBytes::new((footprint.arena_bytes - footprint.fast_bytes) as usize);
    fast.as_mut_slice().fill(0xA5);
    main.as_mut_slice().fill(0x5A);
    let arena = Arena { fast: fast.as_mut_slice(), main: main.as_mut_slice() };
    let mut executor = Executor::with_arena(bundle, plan, arena, isa).expect("both memories have the plan's sizes");
    let run = |input: &&[i8]| {
        executor.input().expect("the bundle is intact").copy_from_slice(input);
        executor.run().expect("the bundle is intact").to_vec()
    };
    inputs.iter().map(run).collect()
}

/// One inference on the host.
///
/// # Panics
/// If the plan does not exist or the input has another length.
#[must_use]
pub fn infer(bundle: &Bundle<'_>, plan: u16, isa: Isa, input: &[i8]) -> Vec<i8> {
    let arena_bytes = bundle.plan(plan).expect("the plan exists").arena_bytes as usize;
    let mut arena = AlignedBytes::new(arena_bytes);
    let mut executor =
        Executor::with_isa(bundle, plan, arena.as_mut_slice(), isa).expect("the arena has the plan's size");
    executor.input().expect("the bundle is intact").copy_from_slice(input);
    executor.run().expect("the bundle is intact").to_vec()
}

fn params(op: &Op) -> u64 {
    match op {
        Op::Conv2d { geometry, .. } | Op::Depthwise { geometry, .. } => {
            u64::from(geometry.output.c) * (geometry.taps() as u64 + 1)
        }
        _ => 0,
    }
}
