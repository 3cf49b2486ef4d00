//! What a case is.

use stitchkit_runtime::kernels::{Add, Conv2d, Landing, Pool2d, Shape, Window};

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
                extent(h, self.pad[0] + self.pad[2], &window, 0),
                extent(w, self.pad[1] + self.pad[3], &window, 1),
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

/// Output extent along one axis.
const fn extent(input: u16, pad: u8, window: &Window, axis: usize) -> u16 {
    let span = (window.kernel[axis] as u16 - 1) * window.dilation[axis] as u16 + 1;
    (input + pad as u16 - span) / window.stride[axis] as u16 + 1
}
