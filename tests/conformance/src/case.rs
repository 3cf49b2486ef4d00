//! What a case is.

use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape, Window};

/// One kernel call with generated operands.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is about.
    pub name: &'static str,
    /// The call.
    pub op: Op,
    /// Seed of the operands.
    pub seed: u32,
    /// Bytes by which the int8 operands are moved off their 16-byte boundaries, 0 to 15.
    pub skew: u8,
}

/// The operator and its parameters.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// `conv2d_s8`.
    Conv2d(Convolution),
    /// `woven_s8`: a fully connected layer whose filters are woven in pairs.
    Woven(Convolution),
    /// `depthwise_s8`.
    Depthwise(Convolution),
    /// `add_s8` or `add_in_place_s8`.
    Add(Addition),
    /// `max_pool_s8`.
    MaxPool(Pooling),
    /// `avg_pool_s8`.
    AvgPool(Average),
    /// `lut_s8` or `lut_in_place_s8` over so many elements.
    Lut(u16, Form),
    /// `softmax_s8` over so many rows and columns; the third field is the ratio of neighbouring table entries, in 1/65536.
    Softmax(u16, u16, u32, Values),
    /// `transpose_s8` of `[h, w, c]` by a permutation.
    Transpose([u16; 3], [u8; 3]),
    /// `layer_norm_s8`.
    LayerNorm(Norm),
    /// `attention_s8`.
    Attention(Attending),
    /// `concat_s8` of so many elements before, so many of the input, and so many after.
    Concat([u16; 3]),
    /// `slice_s8`: extents of the input, where the part starts, its extents.
    Slice([u16; 3], [u16; 3], [u16; 3]),
}

/// Whether an operator writes to memory of its own or over its first input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Input and output are apart.
    Apart,
    /// The output replaces the first input.
    InPlace,
}

/// How activations and weights are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// All of int8; weights without -128.
    Random,
    /// -3 to 3, so that sums are small and ties frequent.
    Small,
    /// Activations -128, weights -127: the largest positive sum.
    Highest,
    /// Activations -128, weights 127: the largest negative sum.
    Lowest,
    /// Every value and weight the same.
    Equal(i8),
    /// -128 or 127 at random.
    Rails,
}

/// How multipliers and shifts are generated, per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// Such that random operands spread over the range of int8.
    Typical,
    /// Multipliers at random from the normalised range, shifts at random between these, both included.
    Shifts(u8, u8),
    /// Multiplier 2^30 with a shift from 31 to 34: odd accumulators land on ties.
    Ties,
    /// As `Typical`, but every third multiplier is zero.
    SomeZero,
    /// Multiplier `i32::MAX` and this shift.
    Largest(u8),
}

/// How biases are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// Up to a few times the size of a typical sum.
    Typical,
    /// All zero.
    Zero,
    /// As large as keeps every accumulator below 2^30, of either sign.
    Extreme,
}

/// A convolution; output extents follow from the rest.
#[derive(Debug, Clone, Copy)]
pub struct Convolution {
    /// Input extents h, w, c.
    pub input: [u16; 3],
    /// Output channels.
    pub channels: u16,
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Stride.
    pub stride: [u8; 2],
    /// Padding: above, left, below, right.
    pub pad: [u8; 4],
    /// Last rows and columns of the output that are left out.
    pub cut: [u16; 2],
    /// Dilation.
    pub dilation: [u8; 2],
    /// Groups; ignored by depthwise cases.
    pub groups: u16,
    /// Value of taps outside the input.
    pub pad_value: i8,
    /// Activations and weights.
    pub values: Values,
    /// Biases.
    pub bias: Bias,
    /// Multipliers and shifts.
    pub scales: Scales,
    /// Zero point and clamp.
    pub landing: Landing,
    /// Fused residual addition.
    pub residual: Option<Add>,
}

impl Convolution {
    /// Geometry as the kernel takes it, for `groups` groups.
    #[must_use]
    pub const fn geometry(&self, groups: u16) -> Conv2d {
        let [h, w, c] = self.input;
        let window = Window {
            kernel: self.kernel,
            stride: self.stride,
            pad: [self.pad[0], self.pad[1]],
            dilation: self.dilation,
        };
        Conv2d {
            input: Shape::new(h, w, c),
            output: Shape::new(
                extent(h, self.pad[0] + self.pad[2], &window, 0) - self.cut[0],
                extent(w, self.pad[1] + self.pad[3], &window, 1) - self.cut[1],
                self.channels,
            ),
            window,
            groups,
            pad_value: self.pad_value,
        }
    }
}

/// An addition.
#[derive(Debug, Clone, Copy)]
pub struct Addition {
    /// Extents of both inputs.
    pub shape: [u16; 3],
    /// Arithmetic.
    pub add: Add,
    /// Both operands.
    pub values: Values,
    /// Where the sum goes.
    pub form: Form,
}

/// A pooling window over an input.
#[derive(Debug, Clone, Copy)]
pub struct Pooling {
    /// Input extents h, w, c.
    pub input: [u16; 3],
    /// Window rows and columns.
    pub kernel: [u8; 2],
    /// Stride.
    pub stride: [u8; 2],
    /// Padding: above, left, below, right.
    pub pad: [u8; 4],
}

impl Pooling {
    /// Geometry as the kernel takes it.
    #[must_use]
    pub const fn geometry(&self) -> Pool2d {
        let [h, w, c] = self.input;
        let window =
            Window { kernel: self.kernel, stride: self.stride, pad: [self.pad[0], self.pad[1]], dilation: [1, 1] };
        Pool2d {
            input: Shape::new(h, w, c),
            output: Shape::new(
                extent(h, self.pad[0] + self.pad[2], &window, 0),
                extent(w, self.pad[1] + self.pad[3], &window, 1),
                c,
            ),
            window,
        }
    }
}

/// An average.
#[derive(Debug, Clone, Copy)]
pub struct Average {
    /// The window.
    pub pool: Pooling,
    /// Zero point of the input.
    pub input_zero_point: i8,
    /// Multiplier.
    pub multiplier: i32,
    /// Right shift.
    pub shift: u8,
    /// Zero point and clamp.
    pub landing: Landing,
    /// The input.
    pub values: Values,
}

/// A layer norm.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// Positions and channels.
    pub shape: [u16; 2],
    /// Added to the scaled variance.
    pub epsilon: u64,
    /// Bits by which gains and offsets exceed a typical output.
    pub shift: u8,
    /// Zero point and clamp.
    pub landing: Landing,
    /// The input.
    pub values: Values,
    /// Gains and offsets: of typical size, or as large as they can be.
    pub scales: Scales,
}

/// An attention.
#[derive(Debug, Clone, Copy)]
pub struct Attending {
    /// Rows and columns of tokens.
    pub tokens: [u16; 2],
    /// Heads.
    pub heads: u16,
    /// Features of a query or key, and of a value.
    pub features: [u16; 2],
    /// How heads and parts lie in a token.
    pub order: HeadOrder,
    /// See [`Attention::score_multiplier`].
    pub score_multiplier: u32,
    /// Multiplier and shift of the result.
    pub scale: (i32, u8),
    /// Zero point and clamp.
    pub landing: Landing,
    /// The input.
    pub values: Values,
}

/// How queries, keys and values of several heads lie in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadOrder {
    /// All queries, all keys, all values.
    Parts,
    /// Value, key and query of one head after those of another, and one channel that nothing reads in front.
    Heads,
}

impl Attending {
    /// The operator as the kernel takes it.
    #[must_use]
    pub const fn operator(&self) -> Attention {
        let [keys, values] = self.features;
        let ((first, pitch), channels) = match self.order {
            HeadOrder::Parts => {
                let all = self.heads * keys;
                (([0, all, 2 * all], [keys, keys, values]), 2 * all + self.heads * values)
            }
            HeadOrder::Heads => {
                let one = 2 * keys + values;
                (([1 + values + keys, 1 + values, 1], [one; 3]), 1 + self.heads * one)
            }
        };
        Attention {
            input: Shape::new(self.tokens[0], self.tokens[1], channels),
            heads: self.heads,
            key_features: keys,
            value_features: values,
            first,
            pitch,
            score_multiplier: self.score_multiplier,
            multiplier: self.scale.0,
            shift: self.scale.1,
            landing: self.landing,
        }
    }
}

/// Output extent along one axis.
const fn extent(input: u16, pad: u8, window: &Window, axis: usize) -> u16 {
    let span = (window.kernel[axis] as u16 - 1) * window.dilation[axis] as u16 + 1;
    (input + pad as u16 - span) / window.stride[axis] as u16 + 1
}
