//! The records of a bundle, as postcard stores them. `host-tools/docs/format.md` is their specification.
//!
//! Weights and tables are named by their position in the bulk sections: weights by byte offset in `WGHT`, 32-bit tables by
//! entry index in `TABL`, shifts by byte offset in `SHFT`.

use serde::{Deserialize, Serialize};

use super::Footprint;
use super::operators::built;
use crate::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape};

/// Scale and zero point of an int8 tensor: `real = scale * (q - zero_point)`.
///
/// The device never computes with `scale`; it is there for whoever reads the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quant {
    /// Real value of one step.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero_point: i8,
}

/// What a bundle is: record of section `META`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Meta<'a> {
    /// Name of the family.
    pub name: &'a str,
    /// Class names, one per line; empty if unknown.
    pub labels: &'a str,
    /// Extents of the input image or vector.
    pub input: Shape,
    /// Quantization of the input tensor, common to all plans.
    pub input_quant: Quant,
    /// Extents of the output.
    pub output: Shape,
}

/// A run of steps stored once and named by every plan that uses it: record of section `BLCK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block<'a> {
    /// Anchor segment or stitching layer this block holds.
    pub name: &'a str,
    /// Index of its first step in section `STEP`.
    pub first_step: u16,
    /// Number of steps, at least 1.
    pub steps: u16,
    /// Extents of the value the block takes.
    pub input: Shape,
    /// Extents of the value its last step produces.
    pub output: Shape,
}

/// Per-channel requantization constants of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTables {
    /// Index in `TABL` of the biases, one per output channel.
    pub bias: u32,
    /// Index in `TABL` of the multipliers, one per output channel.
    pub multiplier: u32,
    /// Offset in `SHFT` of the shifts, one per output channel.
    pub shift: u32,
    /// Zero point and clamp.
    pub landing: Landing,
}

/// What a step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Op {
    /// Convolution or fully connected layer. With `residual` the step has a second input, whose memory it overwrites:
    /// `out = residual(requantized convolution, second input)`.
    Conv2d {
        /// Geometry.
        geometry: Conv2d,
        /// Offset in `WGHT`, OHWI.
        weights: u32,
        /// Requantization.
        tables: ChannelTables,
        /// The fused residual addition.
        residual: Option<Add>,
    },
    /// Depthwise convolution; weights are HWC. `residual` as for [`Op::Conv2d`].
    Depthwise {
        /// Geometry with `groups == input.c == output.c`.
        geometry: Conv2d,
        /// Offset in `WGHT`, HWC.
        weights: u32,
        /// Requantization.
        tables: ChannelTables,
        /// The fused residual addition.
        residual: Option<Add>,
    },
    /// Element-wise addition of two inputs of one shape; may run in place on the first input.
    Add {
        /// Extents of both inputs and the output.
        shape: Shape,
        /// Multipliers, offset, shift, clamp.
        add: Add,
    },
    /// Maximum over a window.
    MaxPool(Pool2d),
    /// Mean over a window, taps outside count as zero.
    AvgPool {
        /// Geometry.
        geometry: Pool2d,
        /// Zero point of the input.
        input_zero_point: i8,
        /// Multiplier with the reciprocal of the window size in it.
        multiplier: i32,
        /// Right shift.
        shift: u8,
        /// Zero point and clamp.
        landing: Landing,
    },
    /// Pointwise function by a table of 256 bytes; may run in place.
    Lut {
        /// Extents of input and output.
        shape: Shape,
        /// Offset in `WGHT` of the 256 entries, indexed by the value's bits as unsigned byte.
        table: u32,
    },
    /// Softmax over the channels of each position; output scale 1/256, zero point -128.
    Softmax {
        /// Extents of input and output.
        shape: Shape,
        /// Index in `TABL` of the 256 exponentials.
        table: u32,
    },
    /// Axis permutation: axis `i` of the output is axis `perm[i]` of the input, axes being h, w, c.
    Transpose {
        /// Extents of the input.
        input: Shape,
        /// Permutation of 0, 1, 2.
        perm: [u8; 3],
    },
    /// Layer norm over the channels of each position.
    LayerNorm {
        /// Extents of input and output.
        shape: Shape,
        /// Index in `TABL` of the gains, one per channel; the offsets follow.
        table: u32,
        /// Added to the scaled variance.
        epsilon: u64,
        /// Right shift.
        shift: u8,
        /// Zero point and clamp.
        landing: Landing,
    },
    /// Multi-head self-attention over queries, keys and values side by side in one tensor.
    Attention(Attention),
    /// Addition of constants; may run in place.
    AddConstant {
        /// Extents of input and output.
        shape: Shape,
        /// Multipliers, offset, shift, clamp; the constants are the second operand.
        add: Add,
        /// Offset in `WGHT` of the constants, as many as the shape has elements.
        constants: u32,
    },
    /// Constant tokens before and after those of the input, which has one row.
    Concat {
        /// Extents of the input; one row.
        input: Shape,
        /// Tokens before it.
        before: u16,
        /// Tokens after it.
        after: u16,
        /// Offset in `WGHT` of the constant tokens.
        constants: u32,
    },
    /// Part of a tensor.
    Slice {
        /// Extents of the input.
        input: Shape,
        /// Where the part starts: row, column, channel.
        first: [u16; 3],
        /// Extents of the part.
        output: Shape,
    },
}

impl Default for Op {
    /// Nothing that a checked bundle holds: a transpose without elements.
    fn default() -> Self {
        Self::Transpose { input: Shape::new(0, 0, 0), perm: [0; 3] }
    }
}

impl Op {
    /// Short name for tables and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::Depthwise { .. } => "depthwise",
            Self::Add { .. } => "add",
            Self::MaxPool(_) => "maxpool",
            Self::AvgPool { .. } => "avgpool",
            Self::Lut { .. } => "lut",
            Self::Softmax { .. } => "softmax",
            Self::Transpose { .. } => "transpose",
            Self::LayerNorm { .. } => "layernorm",
            Self::Attention(_) => "attention",
            Self::AddConstant { .. } => "addconstant",
            Self::Concat { .. } => "concat",
            Self::Slice { .. } => "slice",
        }
    }

    /// Extents of the first input; the empty shape if the operator is not built in.
    #[must_use]
    pub const fn input(&self) -> Shape {
        match self {
            Self::Conv2d { geometry, .. } | Self::Depthwise { geometry, .. } => geometry.input,
            Self::MaxPool(geometry) | Self::AvgPool { geometry, .. } => geometry.input,
            Self::Add { shape, .. } | Self::Lut { shape, .. } | Self::Softmax { shape, .. } => *shape,
            Self::LayerNorm { shape, .. } | Self::AddConstant { shape, .. } => *shape,
            Self::Transpose { input, .. } if built::TRANSPOSE => *input,
            Self::Concat { input, .. } if built::CONCAT => *input,
            Self::Slice { input, .. } if built::SLICE => *input,
            Self::Attention(attention) if built::ATTENTION => attention.input,
            _ => Shape::new(0, 0, 0),
        }
    }

    /// Extents of the output. A transpose with an impossible permutation, a concatenation of too many tokens and an operator
    /// that is not built in have the empty shape.
    #[must_use]
    pub fn output(&self) -> Shape {
        match self {
            Self::Conv2d { geometry, .. } | Self::Depthwise { geometry, .. } => geometry.output,
            Self::MaxPool(geometry) | Self::AvgPool { geometry, .. } => geometry.output,
            Self::Attention(attention) if built::ATTENTION => attention.output(),
            Self::Concat { input, before, after, .. } if built::CONCAT => {
                let tokens = before.checked_add(*after).and_then(|constant| constant.checked_add(input.w));
                Shape::new(input.h, tokens.unwrap_or(0), input.c)
            }
            Self::Slice { output, .. } if built::SLICE => *output,
            Self::Transpose { input, perm } if built::TRANSPOSE => {
                let axes = [input.h, input.w, input.c];
                let axis = |i: usize| axes.get(usize::from(perm[i])).copied().unwrap_or(0);
                Shape::new(axis(0), axis(1), axis(2))
            }
            // As large as the input.
            _ => self.input(),
        }
    }

    /// Elements of the first input and of the output.
    pub(super) fn lens(&self) -> (usize, usize) {
        let (input, output) = match self {
            // Without calls: most steps of most plans.
            Self::Conv2d { geometry, .. } | Self::Depthwise { geometry, .. } => (geometry.input, geometry.output),
            _ => (self.input(), self.output()),
        };
        (input.len(), output.len())
    }

    /// Number of inputs: 1, or 2 for additions and convolutions with a fused residual; 1 if the operator is not built in.
    #[must_use]
    pub const fn arity(&self) -> usize {
        match self {
            Self::Add { .. } if built::ADD => 2,
            Self::Conv2d { residual: Some(_), .. } => 2,
            Self::Depthwise { residual: Some(_), .. } if built::DEPTHWISE => 2,
            _ => 1,
        }
    }

    /// Bytes of scratch the step needs, on any ISA; 0 if the operator is not built in.
    #[must_use]
    pub const fn scratch_bytes(&self) -> usize {
        match self {
            Self::Conv2d { geometry, .. } => geometry.scratch_bytes(),
            Self::Attention(attention) if built::ATTENTION => attention.scratch_bytes(),
            _ => 0,
        }
    }

    /// Which input's memory the output takes over: required (fused residual), allowed, or none.
    #[must_use]
    pub const fn in_place(&self) -> InPlace {
        match self {
            Self::Conv2d { residual: Some(_), .. } | Self::Depthwise { residual: Some(_), .. } => InPlace::SecondInput,
            Self::Add { .. } if built::ADD => InPlace::FirstInputIfWanted,
            Self::Lut { .. } if built::LUT => InPlace::FirstInputIfWanted,
            Self::AddConstant { .. } if built::ADDCONSTANT => InPlace::FirstInputIfWanted,
            _ => InPlace::Never,
        }
    }

    /// Multiply-accumulates, padded taps included; 0 for everything but convolutions and attention.
    #[must_use]
    pub const fn macs(&self) -> u64 {
        match self {
            Self::Conv2d { geometry, .. } => geometry.output.elements() * geometry.taps() as u64,
            Self::Depthwise { geometry, .. } => {
                geometry.output.elements() * geometry.window.kernel[0] as u64 * geometry.window.kernel[1] as u64
            }
            Self::Attention(attention) => attention.macs(),
            _ => 0,
        }
    }
}

/// How a step's output may share memory with an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPlace {
    /// Output and inputs never overlap.
    Never,
    /// The output lies exactly where the first input lies, or apart from it.
    FirstInputIfWanted,
    /// The output lies exactly where the second input lies.
    SecondInput,
}

/// One kernel call of a block: record of section `STEP`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The values it takes, within its block: 0 is the block's input, `i + 1` the output of the block's step `i`.
    /// The second entry counts only where [`Op::arity`] is 2.
    pub inputs: [u8; 2],
    /// What it computes.
    pub op: Op,
}

/// Where a step of a plan puts its output and its scratch, in bytes from the start of the arena. Eight bytes in the plan's
/// `layout`, both little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Offset of the output.
    pub output: u32,
    /// Offset of the scratch; 0 where the step needs none.
    pub scratch: u32,
}

/// One executable path through the family: record of section `PLAN`. Plans are stored by rising cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan<'a> {
    /// Id of the stitch in the family's enumeration.
    pub stitch: u32,
    /// Path through the anchors, for people.
    pub path: &'a str,
    /// Block indices, 16-bit little-endian; the first takes the bundle's input.
    pub blocks: &'a [u8],
    /// One [`Placement`] per step of those blocks, in order.
    pub layout: &'a [u8],
    /// Offset of the input in the arena.
    pub input_offset: u32,
    /// Bytes of arena the plan needs, scratch included.
    pub arena_bytes: u32,
    /// No layout of these steps can need less.
    pub arena_lower_bound_bytes: u32,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Weights and biases on the path.
    pub params: u64,
    /// Predicted Cortex-M4 instructions of one inference; other boards scale it by their measured speed.
    pub cost: u64,
    /// Share of right answers in parts per million, int8, on the evaluation set; 0 if unknown.
    pub accuracy_ppm: u32,
    /// The same before quantization.
    pub float_accuracy_ppm: u32,
    /// Quantization of the output.
    pub output_quant: Quant,
    /// How many of the arena's first bytes were laid out for a fast memory, 0 where there was none; from section `FAST`. See
    /// [`Footprint`].
    #[serde(skip)]
    pub fast_bytes: u32,
}

impl Plan<'_> {
    /// The memory it takes.
    #[must_use]
    pub const fn footprint(&self) -> Footprint {
        Footprint { arena_bytes: self.arena_bytes, fast_bytes: self.fast_bytes }
    }
}
