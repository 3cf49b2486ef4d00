//! The checked float graph: what stitchkit understands of an anchor.
//!
//! A [`Graph`] is a list of nodes in topological order over per-sample tensors (the batch axis is implicit everywhere).
//! Feature maps are HWC, token sequences `[tokens, channels]`, vectors `[features]`; any rank is allowed.
//! Node `i` produces value `i + 1`; value 0 is the graph's input. Nothing here assumes a convolutional network.

use std::fmt;

pub mod attention;
pub mod blocks;
pub mod cost;
pub mod cuts;
pub mod forward;
pub mod head;
pub mod import;
pub mod resize;
pub mod rewrite;
pub mod segment;
#[cfg(test)]
mod tests;
mod weights;

pub use attention::Attention;
pub use blocks::{StageBlocks, find_blocks};
pub use cuts::{CutError, find_cuts, resolve_cut};
pub use forward::{Batch, forward, forward_adjust, forward_keep, forward_observe};
pub use import::{ImportError, import, import_structure};
pub use segment::SegmentError;
pub use weights::{Origin, Weights};

/// A value of a [`Graph`]: 0 is the input, `i + 1` the output of node `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

impl ValueId {
    /// The graph's input.
    pub const INPUT: Self = Self(0);
}

/// Window geometry of convolutions and pools, rows then columns. Padding is top, left, bottom, right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Kernel extents.
    pub kernel: [usize; 2],
    /// Strides.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Dilations.
    pub dilation: [usize; 2],
}

/// A float convolution. Weights are OHWI, `[out][rows][columns][in / groups]`; a depthwise convolution has
/// `groups == in == out`.
#[derive(Debug, Clone)]
pub struct Conv {
    /// Geometry.
    pub window: Window,
    /// Groups; divides both channel counts.
    pub groups: usize,
    /// Output channels.
    pub out_channels: usize,
    /// OHWI weights.
    pub weights: Weights,
    /// One bias per output channel.
    pub bias: Weights,
}

/// A fully connected layer on the last axis. Weights are `[out][in]`.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Output features.
    pub out_features: usize,
    /// `[out][in]` weights.
    pub weights: Weights,
    /// One bias per output feature.
    pub bias: Weights,
}

/// An affine map of each channel (index of the last axis).
#[derive(Debug, Clone)]
pub struct ChannelMap {
    /// One factor per channel.
    pub scale: Weights,
    /// One summand per channel.
    pub shift: Weights,
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// `x * (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// The approximation of [`Function::Gelu`] by a hyperbolic tangent.
    GeluTanh,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x * clip(x / 6 + 1 / 2, 0, 1)`.
    HardSwish,
    /// `clip(alpha * x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x` above 0, `slope * x` below.
    LeakyRelu {
        /// Slope below 0.
        slope: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// Exponential.
    Exp,
    /// Square root.
    Sqrt,
    /// `1 / x`.
    Reciprocal,
    /// Magnitude.
    Abs,
    /// `x` to a constant power.
    Power(f32),
}

/// Arithmetic on two tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

/// The operators of a float graph. Each takes one input unless it says otherwise.
#[derive(Debug, Clone)]
pub enum Op {
    /// 2-D convolution of an HWC map (batch norms are folded in at import; one that cannot be folded is a 1x1 depthwise convolution).
    Conv(Conv),
    /// Fully connected layer on the last axis.
    Dense(Dense),
    /// Element-wise sum of two tensors of equal shape.
    Add,
    /// Clamp to `lo ..= hi`; ReLU is `0 ..= inf`, ReLU6 `0 ..= 6`.
    Clip {
        /// Lower bound, may be `-inf`.
        lo: f32,
        /// Upper bound, may be `inf`.
        hi: f32,
    },
    /// Maximum over a window; taps outside the map are ignored.
    MaxPool(Window),
    /// Mean over a window; taps outside the map count as zeros. Global average pooling has the map as its window.
    AvgPool(Window),
    /// Softmax over the last axis.
    Softmax,
    /// Same elements in the same order under the node's shape.
    Reshape,
    /// Axis `i` of the output is axis `perm[i]` of the input (batch axis not counted).
    Transpose {
        /// Permutation of the per-sample axes.
        perm: Vec<usize>,
    },
    /// Affine map of each channel.
    Affine(ChannelMap),
    /// Layer norm over the last axis, then an affine map of each channel.
    LayerNorm {
        /// Factors and summands; absent ones are fillers.
        affine: ChannelMap,
        /// Added to the variance.
        epsilon: f32,
    },
    /// A function of every element.
    Unary(Function),
    /// Two inputs of equal rank, element by element; an extent of 1 is repeated to that of the other.
    Binary(Arithmetic),
    /// Matrix product of the last two axes of two inputs of equal rank; leading extents are equal or 1.
    MatMul {
        /// The second input holds its columns as rows.
        transpose_b: bool,
    },
    /// Indices `start, start + step, ...` of an axis, as many as the node's shape says.
    Slice {
        /// Stored axis.
        axis: usize,
        /// First index.
        start: usize,
        /// Distance of indices, may be negative.
        step: isize,
    },
    /// The listed indices of an axis.
    Gather {
        /// Stored axis.
        axis: usize,
        /// Indices.
        indices: Vec<usize>,
    },
    /// All inputs, one after the other along an axis.
    Concat {
        /// Stored axis.
        axis: usize,
    },
    /// Mean over an axis, which keeps the extent 1.
    Mean {
        /// Stored axis.
        axis: usize,
    },
    /// A tensor that does not depend on the input (class token, position embedding); has no inputs.
    Constant(Weights),
    /// Self-attention; never imported, but made of the nodes that are by [`attention::join`].
    Attention(Attention),
}

impl Op {
    /// Short lower-case name for messages and tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv(_) => "conv",
            Self::Dense(_) => "dense",
            Self::Add => "add",
            Self::Clip { .. } => "clip",
            Self::MaxPool(_) => "maxpool",
            Self::AvgPool(_) => "avgpool",
            Self::Softmax => "softmax",
            Self::Reshape => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::Affine(_) => "affine",
            Self::LayerNorm { .. } => "layernorm",
            Self::Unary(_) => "unary",
            Self::Binary(_) => "binary",
            Self::MatMul { .. } => "matmul",
            Self::Slice { .. } => "slice",
            Self::Gather { .. } => "gather",
            Self::Concat { .. } => "concat",
            Self::Mean { .. } => "mean",
            Self::Constant(_) => "constant",
            Self::Attention(_) => "attention",
        }
    }

    /// Whether the operation can be translated to integer steps of the device runtime, where its shapes allow it. Products of
    /// activations can as parts of self-attention.
    #[must_use]
    pub fn has_int8_form(&self) -> bool {
        match self {
            Self::Conv(_) | Self::Dense(_) | Self::Affine(_) | Self::Add | Self::Clip { .. } => true,
            Self::MaxPool(_) | Self::AvgPool(_) | Self::Mean { .. } | Self::Softmax | Self::LayerNorm { .. } => true,
            Self::Reshape | Self::Transpose { .. } | Self::Concat { .. } | Self::Constant(_) => true,
            Self::Unary(_) | Self::Attention(_) => true,
            Self::Slice { step, .. } => *step == 1,
            Self::Binary(_) | Self::MatMul { .. } | Self::Gather { .. } => false,
        }
    }

    /// The constants of the operation.
    #[must_use]
    pub fn constants(&self) -> Vec<&Weights> {
        match self {
            Self::Conv(conv) => vec![&conv.weights, &conv.bias],
            Self::Dense(dense) => vec![&dense.weights, &dense.bias],
            Self::Affine(affine) | Self::LayerNorm { affine, .. } => vec![&affine.scale, &affine.shift],
            Self::Constant(values) => vec![values],
            _ => Vec::new(),
        }
    }

    /// The constants of the operation in the same order, to be replaced by others of the same length.
    pub fn constants_mut(&mut self) -> Vec<&mut Weights> {
        match self {
            Self::Conv(conv) => vec![&mut conv.weights, &mut conv.bias],
            Self::Dense(dense) => vec![&mut dense.weights, &mut dense.bias],
            Self::Affine(affine) | Self::LayerNorm { affine, .. } => vec![&mut affine.scale, &mut affine.shift],
            Self::Constant(values) => vec![values],
            _ => Vec::new(),
        }
    }
}

/// One operation of a [`Graph`].
#[derive(Debug, Clone)]
pub struct Node {
    /// Name in the source model.
    pub name: String,
    /// Name of the output tensor in the source model; what named cuts refer to.
    pub tensor: String,
    /// Operator of the source model, in ONNX's terms; empty where the import added the node.
    pub operator: String,
    /// The operation with its constants.
    pub op: Op,
    /// Inputs, each produced earlier.
    pub inputs: Vec<ValueId>,
    /// Per-sample shape of the output.
    pub shape: Vec<usize>,
}

/// A float network with one input and one output.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Name for messages, usually the file stem.
    pub name: String,
    /// Name of the input tensor.
    pub input_tensor: String,
    /// Per-sample shape of the input (HWC for images).
    pub input_shape: Vec<usize>,
    /// Operations in topological order.
    pub nodes: Vec<Node>,
    /// The value the graph returns.
    pub output: ValueId,
    /// Tensor names of the source model that no node carries any more (a convolution's output before its batch norm was
    /// folded in, an identity's output), with the values that stand for them now.
    pub aliases: Vec<(String, ValueId)>,
}

impl Graph {
    /// Per-sample shape of a value.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        match value.0 {
            0 => &self.input_shape,
            i => &self.nodes[i - 1].shape,
        }
    }

    /// Name of a value's tensor in the source model.
    #[must_use]
    pub fn tensor(&self, value: ValueId) -> &str {
        match value.0 {
            0 => &self.input_tensor,
            i => &self.nodes[i - 1].tensor,
        }
    }

    /// The node that produces a value; `None` for the input.
    #[must_use]
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        value.0.checked_sub(1).map(|i| &self.nodes[i])
    }

    /// Whether a value is a constant tensor.
    #[must_use]
    pub fn is_constant(&self, value: ValueId) -> bool {
        self.producer(value).is_some_and(|node| matches!(node.op, Op::Constant(_)))
    }

    /// Elements per sample of a value.
    #[must_use]
    pub fn elements(&self, value: ValueId) -> usize {
        self.shape(value).iter().product()
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value#{}", self.0)
    }
}
