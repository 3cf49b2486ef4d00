//! Integer blocks before they become records of a bundle: kernels that own their constants.

use stitchkit_runtime::bundle::{ChannelTables, Op, Quant};
use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape};

use crate::compile::accesses::Accesses;
use crate::compile::memory::{Clearances, FlatStep};
use crate::graph::ValueId;

/// Values of a block are numbered in a byte, so it has at most this many steps.
pub const MAX_BLOCK_STEPS: usize = 254;

/// A convolution with its constants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvKernel {
    /// Geometry.
    pub geometry: Conv2d,
    /// OHWI weights, or HWC for a depthwise convolution.
    pub weights: Vec<i8>,
    /// Bias per output channel, input zero point folded in.
    pub bias: Vec<i32>,
    /// Multiplier per output channel.
    pub multiplier: Vec<i32>,
    /// Shift per output channel.
    pub shift: Vec<u8>,
    /// Zero point and clamp of the convolution's own result.
    pub landing: Landing,
    /// The fused addition.
    pub residual: Option<Add>,
}

/// What a step computes; the owned twin of [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kernel {
    Conv(ConvKernel),
    Depthwise(ConvKernel),
    Add {
        shape: Shape,
        add: Add,
    },
    MaxPool(Pool2d),
    AvgPool {
        geometry: Pool2d,
        input_zero_point: i8,
        multiplier: i32,
        shift: u8,
        landing: Landing,
    },
    Lut {
        shape: Shape,
        table: Box<[i8; 256]>,
    },
    Softmax {
        shape: Shape,
        table: Vec<i32>,
    },
    Transpose {
        input: Shape,
        perm: [u8; 3],
    },
    /// `table` holds the gains, then the offsets.
    LayerNorm {
        shape: Shape,
        table: Vec<i32>,
        epsilon: u64,
        shift: u8,
        landing: Landing,
    },
    Attention(Attention),
    AddConstant {
        shape: Shape,
        add: Add,
        constants: Vec<i8>,
    },
    Concat {
        input: Shape,
        before: u16,
        after: u16,
        constants: Vec<i8>,
    },
    Slice {
        input: Shape,
        first: [u16; 3],
        output: Shape,
    },
}

/// Where a kernel's constants lie in the bundle's sections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offsets {
    /// Weights, lookup table or constant values, in `WGHT`.
    pub weights: u32,
    /// Biases, exponentials, or gains and offsets, in `TABL`.
    pub bias: u32,
    /// Multipliers, in `TABL`.
    pub multiplier: u32,
    /// Shifts, in `SHFT`.
    pub shift: u32,
}

impl Kernel {
    /// The record of this kernel with its constants at `at`.
    #[must_use]
    pub fn record(&self, at: Offsets) -> Op {
        let tables = |conv: &ConvKernel| ChannelTables {
            bias: at.bias,
            multiplier: at.multiplier,
            shift: at.shift,
            landing: conv.landing,
        };
        match self {
            Self::Conv(conv) => Op::Conv2d {
                geometry: conv.geometry,
                weights: at.weights,
                tables: tables(conv),
                residual: conv.residual,
            },
            Self::Depthwise(conv) => Op::Depthwise {
                geometry: conv.geometry,
                weights: at.weights,
                tables: tables(conv),
                residual: conv.residual,
            },
            Self::Add { shape, add } => Op::Add { shape: *shape, add: *add },
            Self::MaxPool(geometry) => Op::MaxPool(*geometry),
            Self::AvgPool { geometry, input_zero_point, multiplier, shift, landing } => Op::AvgPool {
                geometry: *geometry,
                input_zero_point: *input_zero_point,
                multiplier: *multiplier,
                shift: *shift,
                landing: *landing,
            },
            Self::Lut { shape, .. } => Op::Lut { shape: *shape, table: at.weights },
            Self::Softmax { shape, .. } => Op::Softmax { shape: *shape, table: at.bias },
            Self::Transpose { input, perm } => Op::Transpose { input: *input, perm: *perm },
            Self::LayerNorm { shape, epsilon, shift, landing, .. } => {
                Op::LayerNorm { shape: *shape, table: at.bias, epsilon: *epsilon, shift: *shift, landing: *landing }
            }
            Self::Attention(attention) => Op::Attention(*attention),
            Self::AddConstant { shape, add, .. } => Op::AddConstant { shape: *shape, add: *add, constants: at.weights },
            Self::Concat { input, before, after, .. } => {
                Op::Concat { input: *input, before: *before, after: *after, constants: at.weights }
            }
            Self::Slice { input, first, output } => Op::Slice { input: *input, first: *first, output: *output },
        }
    }

    /// The record with all offsets zero, for whoever needs shapes and sizes alone.
    #[must_use]
    pub fn outline(&self) -> Op {
        self.record(Offsets::default())
    }

    /// Trained constants in bytes: int8 weights. Lookup tables count, biases and requantization tables do not.
    #[must_use]
    pub fn weights(&self) -> &[i8] {
        match self {
            Self::Conv(conv) | Self::Depthwise(conv) => &conv.weights,
            Self::Lut { table, .. } => table.as_slice(),
            Self::AddConstant { constants, .. } | Self::Concat { constants, .. } => constants,
            _ => &[],
        }
    }
}

/// One step of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerStep {
    /// Name of the float node it comes from.
    pub name: String,
    /// Values it reads: 0 is the block's input, `i + 1` the output of step `i`.
    pub inputs: [u8; 2],
    /// What it computes.
    pub kernel: Kernel,
    /// Quantization of its output.
    pub quant: Quant,
    /// The float value its output stands for, in the graph of the piece it comes from.
    pub value: ValueId,
    /// Piece (anchor segment or stitching layer) it comes from.
    pub piece: usize,
}

/// A run of steps with one input and one output; without steps its output is its input.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerBlock {
    /// Name for people.
    pub name: String,
    /// Extents of the input.
    pub input: Shape,
    /// Quantization of the input.
    pub input_quant: Quant,
    /// Quantization of the output.
    pub output_quant: Quant,
    /// Steps in order of execution.
    pub steps: Vec<IntegerStep>,
}

impl IntegerBlock {
    /// Extents of the output.
    #[must_use]
    pub fn output(&self) -> Shape {
        self.steps.last().map_or(self.input, |step| step.kernel.outline().output())
    }

    /// This block followed by `next`. The caller has checked that both together stay within [`MAX_BLOCK_STEPS`].
    #[must_use]
    pub fn followed_by(mut self, next: &Self) -> Self {
        let base = self.steps.len() as u8;
        self.steps.extend(next.steps.iter().cloned().map(|mut step| {
            step.inputs = step.inputs.map(|value| value + base);
            step
        }));
        self.output_quant = next.output_quant;
        self.name = format!("{}+{}", self.name, next.name);
        self
    }
}

/// How a step may write its output over its input: in about three parts, or in the smallest that pay. Kernels take positions by
/// threes, fours and eights.
fn clearances(op: &Op) -> Option<Clearances> {
    const LEAST_POSITIONS: usize = 24;
    let third = op.output().positions().div_ceil(3);
    Some(Clearances {
        coarse: op.clearance(third.next_multiple_of(LEAST_POSITIONS))?,
        fine: op.clearance(third.next_multiple_of(4).min(LEAST_POSITIONS))?,
    })
}

/// The steps of consecutive blocks as the memory planner takes them.
#[must_use]
pub fn flatten<'a>(blocks: impl IntoIterator<Item = &'a IntegerBlock>) -> Vec<FlatStep> {
    let mut steps: Vec<FlatStep> = Vec::new();
    for block in blocks {
        let base = steps.len();
        for step in &block.steps {
            let op = step.kernel.outline();
            steps.push(FlatStep {
                inputs: step.inputs[..op.arity()].iter().map(|&value| base + usize::from(value)).collect(),
                output_bytes: op.output().len() as u32,
                scratch_bytes: op.scratch_bytes() as u32,
                in_place: op.in_place(),
                clearance: clearances(&op),
                accesses: Accesses::of(&op),
            });
        }
    }
    steps
}
