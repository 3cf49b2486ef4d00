//! What a kernel is told besides its slices. The same structures are stored in the bundle's step records.

use serde::{Deserialize, Serialize};

use super::requantize::requantize;
#[cfg(arm_dsp)]
use super::requantize::requantize_once;

/// Extents of an activation in elements: height, width, channels (channels vary fastest).
///
/// Every activation is rank 3: an image is `[h, w, c]`, a token sequence `[1, n, c]`, a vector `[1, 1, c]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub h: u16,
    /// Columns.
    pub w: u16,
    /// Channels.
    pub c: u16,
}

impl Shape {
    /// Shape of `h` x `w` positions with `c` channels.
    #[must_use]
    pub const fn new(h: u16, w: u16, c: u16) -> Self {
        Self { h, w, c }
    }

    /// Number of elements, which is also the number of bytes (int8). At most 2^48, so it fits `u64`;
    /// a checked bundle holds only shapes below 2^31.
    #[must_use]
    pub const fn elements(self) -> u64 {
        self.h as u64 * self.w as u64 * self.c as u64
    }

    /// [`elements`](Self::elements) as `usize`; saturates where it would not fit.
    #[must_use]
    pub const fn len(self) -> usize {
        let n = self.elements();
        if n > u32::MAX as u64 { u32::MAX as usize } else { n as usize }
    }

    /// True if any extent is zero.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.elements() == 0
    }

    /// Positions: height times width.
    #[must_use]
    pub const fn positions(self) -> usize {
        self.h as usize * self.w as usize
    }
}

/// Window geometry shared by convolution and pooling.
///
/// Padding at the bottom and right follows from the output extents: taps outside the input read
/// [`Conv2d::pad_value`] (convolution) or are skipped (pooling).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Kernel extents, rows then columns; each at least 1.
    pub kernel: [u8; 2],
    /// Stride, rows then columns; each at least 1.
    pub stride: [u8; 2],
    /// Padding above and to the left.
    pub pad: [u8; 2],
    /// Dilation, rows then columns; each at least 1.
    pub dilation: [u8; 2],
}

impl Window {
    /// A 1x1 window: stride 1, no padding.
    pub const POINT: Self = Self { kernel: [1, 1], stride: [1, 1], pad: [0, 0], dilation: [1, 1] };
}

/// Geometry of a convolution. A fully connected layer is a 1x1 convolution over `[1, rows, features]`.
///
/// Weights are OHWI, `[output.c][kernel rows][kernel columns][input.c / groups]`; output channel `o` belongs to
/// group `o / (output.c / groups)`. Depthwise convolutions have an operator of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv2d {
    /// Input extents.
    pub input: Shape,
    /// Output extents.
    pub output: Shape,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Number of groups; divides both channel counts.
    pub groups: u16,
    /// Value of taps outside the input: the input's zero point.
    pub pad_value: i8,
}

impl Conv2d {
    /// Weights feeding one output channel: kernel rows x kernel columns x input channels per group.
    #[must_use]
    pub const fn taps(&self) -> usize {
        let groups = if self.groups == 0 { 1 } else { self.groups as usize };
        self.window.kernel[0] as usize * self.window.kernel[1] as usize * (self.input.c as usize / groups)
    }

    /// Whether every output position reads the input position at its place, and nothing else: both may be taken in the order
    /// of memory. A 1x1 window alone is not enough, nor are as many positions: rows must be as long.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        let Self { input, output, window: w, .. } = self;
        w.kernel == [1, 1] && w.stride == [1, 1] && w.pad == [0, 0] && input.h == output.h && input.w == output.w
    }

    /// Whether filters can be woven in pairs ([`woven_s8`](super::woven_s8)): a fully connected layer for one vector, with a
    /// multiple of eight inputs and an even number of outputs.
    #[must_use]
    pub fn can_be_woven(&self) -> bool {
        let is_vector = self.input.positions() == 1 && self.output.positions() == 1 && self.window == Window::POINT;
        is_vector && self.groups == 1 && self.input.c.is_multiple_of(8) && self.output.c.is_multiple_of(2)
    }

    /// Bytes of scratch that [`conv2d_s8`](super::conv2d_s8) may use on any ISA: the taps of four windows, or of as many as
    /// there are, widened to 16 bits and padded to a multiple of four taps.
    #[must_use]
    pub const fn scratch_bytes(&self) -> usize {
        let positions = self.output.positions();
        let windows = if positions < 4 { positions } else { 4 };
        2 * windows * self.taps().next_multiple_of(4)
    }
}

/// Geometry of a pooling step. Channels are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pool2d {
    /// Input extents.
    pub input: Shape,
    /// Output extents.
    pub output: Shape,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
}

/// Where an int8 result lands after its multiplication: zero point, then clamp.
/// ReLU and ReLU6 live in the clamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Landing {
    /// Zero point added after the multiplication.
    pub zero_point: i8,
    /// Smallest value kept.
    pub lo: i8,
    /// Largest value kept; at least `lo`.
    pub hi: i8,
}

/// Requantization of one output channel per table entry; see [`requantize`](super::requantize).
#[derive(Debug, Clone, Copy)]
pub struct Requant<'a> {
    /// Bias with the input zero point folded in: `b - zero_point * sum(weights)`.
    pub bias: &'a [i32],
    /// Multiplier per channel, 0 or in `2^30 .. 2^31`.
    pub multiplier: &'a [i32],
    /// Right shift per channel, 1 to 62.
    pub shift: &'a [u8],
    /// Zero point and clamp, common to all channels.
    pub landing: Landing,
}

/// Requantization of one output channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    /// Bias with the input zero point folded in.
    pub bias: i32,
    /// Multiplier, 0 or in `2^30 .. 2^31`.
    pub multiplier: i32,
    /// Right shift, 1 to 62.
    pub shift: u8,
}

impl Channel {
    /// [`requantize`](Self::requantize), in memory once for kernels that take many more instructions per value.
    #[cfg(arm_dsp)]
    #[inline(always)]
    pub fn requantize_once(self, acc: i32, landing: Landing) -> i8 {
        requantize_once(acc, self.multiplier, self.shift, landing)
    }

    /// Accumulator, bias included, to int8.
    #[inline(always)]
    pub fn requantize(self, acc: i32, landing: Landing) -> i8 {
        requantize(acc, self.multiplier, self.shift, landing)
    }
}

impl<'a> Requant<'a> {
    /// One channel, if all tables have it.
    #[cfg(arm_dsp)]
    #[inline(always)]
    pub(super) fn channel(&self, at: usize) -> Option<Channel> {
        Some(Channel { bias: *self.bias.get(at)?, multiplier: *self.multiplier.get(at)?, shift: *self.shift.get(at)? })
    }

    /// The tables, channel by channel.
    #[inline(always)]
    pub(super) fn channels(&self) -> impl Iterator<Item = Channel> + Clone + 'a {
        let tables = self.bias.iter().zip(self.multiplier).zip(self.shift);
        tables.map(|((&bias, &multiplier), &shift)| Channel { bias, multiplier, shift })
    }
}

/// Integer addition of two tensors with different scales:
/// `clamp((a * a_multiplier + b * b_multiplier + offset) >> shift, lo, hi)` with an arithmetic shift.
///
/// The exporter folds both zero points, the output zero point and the rounding half into `offset`, so that the sum
/// rounds once, half up. Bounds that make 32-bit arithmetic exact: multipliers at most `2^21` in magnitude, `shift` 1 to 21,
/// `offset` at most `2^30` in magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Add {
    /// Multiplier of the first operand.
    pub a_multiplier: i32,
    /// Multiplier of the second operand.
    pub b_multiplier: i32,
    /// Zero points and rounding.
    pub offset: i32,
    /// Right shift.
    pub shift: u8,
    /// Smallest value kept.
    pub lo: i8,
    /// Largest value kept.
    pub hi: i8,
}

impl Add {
    /// Largest magnitude of a multiplier.
    pub const MAX_MULTIPLIER: i32 = 1 << 21;
    /// Largest magnitude of `offset`.
    pub const MAX_OFFSET: i32 = 1 << 30;
    /// Largest shift.
    pub const MAX_SHIFT: u8 = 21;

    /// Applies the addition to one pair.
    #[must_use]
    #[inline(always)]
    pub fn apply(&self, a: i8, b: i8) -> i8 {
        let sum = i32::from(a)
            .wrapping_mul(self.a_multiplier)
            .wrapping_add(i32::from(b).wrapping_mul(self.b_multiplier))
            .wrapping_add(self.offset);
        (sum >> (self.shift & 31)).max(i32::from(self.lo)).min(i32::from(self.hi)) as i8
    }
}

/// Why a kernel refused its arguments. A checked bundle never causes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ShapeError {
    /// The input slice does not have the elements its shape asks for.
    Input,
    /// The second input does not have the elements of the first.
    SecondInput,
    /// The output slice does not have the elements its shape asks for.
    Output,
    /// The weights do not have the elements the geometry asks for.
    Weights,
    /// A table (bias, multiplier, shift, lookup) is too short.
    Table,
    /// The scratch slice is shorter than the kernel needs, or is not 4-byte aligned.
    Scratch,
    /// A stride, dilation, kernel extent, group count or permutation is impossible.
    Geometry,
}

impl core::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Input => "input length does not match its shape",
            Self::SecondInput => "second input length does not match the first",
            Self::Output => "output length does not match its shape",
            Self::Weights => "weight length does not match the geometry",
            Self::Table => "a per-channel or lookup table is too short",
            Self::Scratch => "scratch is too small or misaligned",
            Self::Geometry => "stride, dilation, kernel, groups or permutation is impossible",
        })
    }
}

impl core::error::Error for ShapeError {}
