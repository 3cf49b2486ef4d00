//! The features of a step that its latency depends on.

use crate::bundle::{Bundle, Op, PlacedStep};
use crate::exec::value_bytes;
use crate::kernels::{Add, Conv2d, Landing, Pool2d, Shape, Window};

use super::model::Coefficients;

/// Classes of steps that share coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum OpClass {
    /// 1x1 convolutions and fully connected layers.
    Pointwise,
    /// Other convolutions whose input channels are a multiple of four, 1x1 with a stride or padding included.
    Conv,
    /// Convolutions, 1x1 included, whose input channels are no multiple of four: first layers.
    NarrowConv,
    /// Convolutions with fewer than four taps, in groups or not.
    TinyConv,
    /// Other convolutions in groups.
    GroupedConv,
    /// Depthwise 3x3 convolutions without dilation, of stride 1 or 2, whose channels are a multiple of four.
    Depthwise3x3,
    /// Other depthwise convolutions.
    Depthwise,
    /// Element-wise additions.
    Add,
    /// Maximum pools.
    MaxPool,
    /// Average pools.
    AvgPool,
    /// Table look-ups.
    Lut,
    /// Softmax.
    Softmax,
    /// Copies in another order or place.
    Transpose,
    /// Layer norms.
    LayerNorm,
    /// Attention.
    Attention,
}

impl OpClass {
    /// Number of classes.
    pub const COUNT: usize = 15;

    /// Every class, in order of index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Pointwise,
        Self::Conv,
        Self::NarrowConv,
        Self::TinyConv,
        Self::GroupedConv,
        Self::Depthwise3x3,
        Self::Depthwise,
        Self::Add,
        Self::MaxPool,
        Self::AvgPool,
        Self::Lut,
        Self::Softmax,
        Self::Transpose,
        Self::LayerNorm,
        Self::Attention,
    ];

    /// Name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pointwise => "pointwise",
            Self::Conv => "conv",
            Self::NarrowConv => "narrow-conv",
            Self::TinyConv => "tiny-conv",
            Self::GroupedConv => "grouped-conv",
            Self::Depthwise3x3 => "depthwise-3x3",
            Self::Depthwise => "depthwise",
            Self::Add => "add",
            Self::MaxPool => "max-pool",
            Self::AvgPool => "avg-pool",
            Self::Lut => "lut",
            Self::Softmax => "softmax",
            Self::Transpose => "transpose",
            Self::LayerNorm => "layer-norm",
            Self::Attention => "attention",
        }
    }
}

/// How much one step does. What a class does not have is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Which coefficients apply.
    pub class: OpClass,
    /// Multiply-accumulates of convolutions and attention, window taps of pools.
    pub taps: u64,
    /// Of a convolution, taps over a multiple of four in each window and filter.
    pub rest_taps: u64,
    /// Taps of windows over a multiple of four, or of channels over a multiple of four in a pool or a depthwise
    /// convolution: kernels take both by fours.
    pub lone_taps: u64,
    /// As [`lone_taps`](Self::lone_taps) of windows, where the taps of a window are a multiple of eight.
    pub even_lone_taps: u64,
    /// Elements written.
    pub outputs: u64,
    /// Outputs that also take a fused residual addition.
    pub residual_outputs: u64,
    /// Outputs of a convolution without one that are clamped to less than int8.
    pub clamped_outputs: u64,
    /// Input values gathered for the windows of a convolution, values of the rows that a depthwise 3x3 convolution reads,
    /// taps visited by a pool or another depthwise convolution, rows copied by a transpose, scores of attention.
    pub gathered: u64,
    /// Stretches of adjacent input values under the windows; of a depthwise convolution per four channels, and of a 3x3
    /// one per row of outputs instead of per window.
    pub rows: u64,
    /// Windows, per group; of a depthwise convolution per four channels, of a 3x3 one per sixteen; positions of a softmax or
    /// layer norm; queries of all heads.
    pub windows: u64,
    /// Windows that reach over the border, per group or per four channels.
    pub clipped_windows: u64,
    /// Filters of a convolution, of a depthwise 3x3 one by fours.
    pub filters: u64,
    /// Bytes of weights and tables read.
    pub weight_bytes: u64,
}

impl Work {
    /// The work of one step.
    #[must_use]
    pub fn of(op: &Op) -> Self {
        let none = Self { outputs: op.output().elements(), ..Self::none(OpClass::Transpose) };
        match op {
            Op::Conv2d { geometry, tables, residual, .. } => {
                Self::conv(geometry, op.macs()).with(geometry, &tables.landing, residual.as_ref())
            }
            Op::Depthwise { geometry, tables, residual, .. } => {
                Self::depthwise(geometry, op.macs()).with(geometry, &tables.landing, residual.as_ref())
            }
            Op::MaxPool(geometry) => Self::pool(OpClass::MaxPool, geometry),
            Op::AvgPool { geometry, .. } => Self::pool(OpClass::AvgPool, geometry),
            Op::Add { .. } => Self { class: OpClass::Add, ..none },
            Op::Lut { .. } => Self { class: OpClass::Lut, weight_bytes: 256, ..none },
            Op::Softmax { shape, .. } => {
                Self { class: OpClass::Softmax, windows: shape.positions() as u64, weight_bytes: 1024, ..none }
            }
            Op::Transpose { input, perm } => {
                let axes = [input.h, input.w, input.c].map(u64::from);
                let inner = axes.get(usize::from(perm[2])).copied().unwrap_or(1).max(1);
                Self { gathered: none.outputs / inner, ..none }
            }
            Op::LayerNorm { shape, .. } => Self {
                class: OpClass::LayerNorm,
                windows: shape.positions() as u64,
                weight_bytes: 8 * u64::from(shape.c),
                ..none
            },
            Op::Attention(attention) => {
                let tokens = attention.tokens() as u64;
                let queries = tokens * u64::from(attention.heads);
                let scores = queries.saturating_mul(tokens);
                Self { class: OpClass::Attention, taps: op.macs(), gathered: scores, windows: queries, ..none }
            }
            Op::AddConstant { .. } => Self { class: OpClass::Add, weight_bytes: none.outputs, ..none },
            Op::Concat { .. } => Self { gathered: 3, weight_bytes: value_bytes(op) as u64, ..none },
            Op::Slice { output, .. } => Self { gathered: output.positions() as u64, ..none },
        }
    }

    /// The work of a step of `bundle`, whose filters may be [woven](Bundle::is_woven).
    #[must_use]
    pub fn of_placed(bundle: &Bundle<'_>, placed: &PlacedStep) -> Self {
        let work = Self::of(&placed.step.op);
        if bundle.is_woven(placed.index) { work.woven() } else { work }
    }

    /// The work of a fully connected layer with woven filters on a processor that gains from them: of what a tap of a lone window
    /// takes more than one of four windows (18 instructions for 16 on Armv7E-M, not 13), a fifth is left (14).
    #[must_use]
    pub const fn woven(self) -> Self {
        Self { even_lone_taps: self.even_lone_taps / 5, ..self }
    }

    /// The amounts that the [`Coefficients`] apply to, in the order of [`Coefficients::as_array`].
    #[must_use]
    pub const fn amounts(&self) -> [u64; Coefficients::COUNT] {
        [
            self.taps,
            self.rest_taps,
            self.lone_taps,
            self.even_lone_taps,
            self.outputs,
            self.residual_outputs,
            self.clamped_outputs,
            self.gathered,
            self.rows,
            self.windows,
            self.clipped_windows,
            self.filters,
            1,
        ]
    }

    const fn none(class: OpClass) -> Self {
        Self {
            class,
            taps: 0,
            rest_taps: 0,
            lone_taps: 0,
            even_lone_taps: 0,
            outputs: 0,
            residual_outputs: 0,
            clamped_outputs: 0,
            gathered: 0,
            rows: 0,
            windows: 0,
            clipped_windows: 0,
            filters: 0,
            weight_bytes: 0,
        }
    }

    fn conv(geometry: &Conv2d, macs: u64) -> Self {
        let Window { kernel, stride, pad, .. } = geometry.window;
        let groups = u64::from(geometry.groups.max(1));
        let taps = geometry.taps() as u64;
        let filters = u64::from(geometry.output.c);
        let positions = geometry.output.positions() as u64;
        let is_pointwise = kernel == [1, 1] && stride == [1, 1] && pad == [0, 0];
        let class = match geometry.groups {
            _ if taps < 4 => OpClass::TinyConv,
            1 if !geometry.input.c.is_multiple_of(4) => OpClass::NarrowConv,
            1 if is_pointwise => OpClass::Pointwise,
            1 => OpClass::Conv,
            _ => OpClass::GroupedConv,
        };
        let stretches = match class {
            OpClass::Pointwise => 0,
            _ if groups > 1 => u64::from(kernel[0]) * u64::from(kernel[1]),
            _ => u64::from(kernel[0]),
        };
        let lone_taps = (positions % 4).saturating_mul(taps).saturating_mul(filters);
        let (lone_taps, even_lone_taps) = if taps.is_multiple_of(8) { (0, lone_taps) } else { (lone_taps, 0) };
        Self {
            taps: macs,
            rest_taps: geometry.output.elements().saturating_mul(taps % 4),
            lone_taps,
            even_lone_taps,
            outputs: geometry.output.elements(),
            gathered: positions.saturating_mul(taps).saturating_mul(groups),
            rows: positions.saturating_mul(groups).saturating_mul(stretches),
            windows: positions.saturating_mul(groups),
            clipped_windows: positions.saturating_sub(whole_windows(geometry)).saturating_mul(groups),
            filters,
            weight_bytes: channel_bytes(filters, taps),
            ..Self::none(class)
        }
    }

    fn depthwise(geometry: &Conv2d, macs: u64) -> Self {
        let Window { kernel, stride, dilation, .. } = geometry.window;
        let channels = u64::from(geometry.output.c);
        let positions = geometry.output.positions() as u64;
        let [rows, columns] = kernel.map(u64::from);
        let is_strided = stride == [1, 1] || stride == [2, 2];
        let is_3x3 = kernel == [3, 3] && is_strided && dilation == [1, 1] && channels.is_multiple_of(4);
        let weight_bytes = channel_bytes(channels, rows * columns);
        if is_3x3 {
            let output_rows = u64::from(geometry.output.h);
            return Self {
                taps: macs,
                gathered: output_rows.saturating_mul(u64::from(geometry.input.w)).saturating_mul(channels),
                rows: output_rows.saturating_mul(channels / 4),
                windows: positions.saturating_mul(channels.div_ceil(16)),
                filters: channels / 4,
                weight_bytes,
                ..Self::none(OpClass::Depthwise3x3)
            };
        }
        let clipped = positions.saturating_sub(whole_windows(geometry));
        let (quads, lone) = (channels / 4, channels % 4);
        Self {
            taps: positions.saturating_mul(quads).saturating_mul(rows * columns),
            lone_taps: positions.saturating_mul(lone).saturating_mul(rows * columns),
            gathered: positions.saturating_mul(rows * columns),
            rows: positions.saturating_mul(quads).saturating_mul(rows),
            windows: positions.saturating_mul(quads),
            clipped_windows: clipped.saturating_mul(quads),
            weight_bytes,
            ..Self::none(OpClass::Depthwise)
        }
    }

    fn pool(class: OpClass, geometry: &Pool2d) -> Self {
        let outputs = geometry.output.elements();
        let positions = geometry.output.positions() as u64;
        let [rows, columns] = geometry.window.kernel.map(u64::from);
        Self {
            taps: outputs.saturating_mul(rows * columns),
            lone_taps: positions.saturating_mul(rows * columns).saturating_mul(u64::from(geometry.output.c % 4)),
            outputs,
            gathered: positions * rows * columns,
            windows: positions,
            ..Self::none(class)
        }
    }

    /// Adds what happens to the outputs of a convolution.
    fn with(self, geometry: &Conv2d, landing: &Landing, residual: Option<&Add>) -> Self {
        let outputs = geometry.output.elements();
        let is_wide = landing.lo == i8::MIN && landing.hi == i8::MAX;
        match residual {
            Some(_) => Self { residual_outputs: outputs, ..self },
            None if is_wide => self,
            None => Self { clamped_outputs: outputs, ..self },
        }
    }
}

/// Weights, bias, multiplier and shift of every output channel.
fn channel_bytes(channels: u64, taps: u64) -> u64 {
    channels.saturating_mul(taps.saturating_add(9))
}

/// Windows that lie inside the input.
fn whole_windows(geometry: &Conv2d) -> u64 {
    let Conv2d { input, output, window, .. } = geometry;
    let rows = whole_along(window, 0, *input, *output);
    rows.saturating_mul(whole_along(window, 1, *input, *output))
}

fn whole_along(window: &Window, axis: usize, input: Shape, output: Shape) -> u64 {
    let (input, output) = if axis == 0 { (input.h, output.h) } else { (input.w, output.w) };
    let at = |values: [u8; 2]| u32::from(values[axis & 1]);
    let (pad, stride) = (at(window.pad), at(window.stride).max(1));
    let reach = at(window.kernel).saturating_sub(1) * at(window.dilation);
    let first = pad.div_ceil(stride);
    let Some(room) = (u32::from(input) + pad).checked_sub(reach + 1) else { return 0 };
    let end = (room / stride + 1).min(u32::from(output));
    u64::from(end.saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_windows_are_those_with_every_tap_inside() {
        for (extent, kernel, stride, pad, dilation) in [
            (8u16, 3u8, 1u8, 1u8, 1u8),
            (8, 3, 2, 0, 1),
            (9, 5, 2, 2, 1),
            (7, 3, 1, 2, 2),
            (2, 5, 1, 2, 1),
            (1, 1, 1, 0, 1),
        ] {
            let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2], dilation: [dilation; 2] };
            let output = extent.div_ceil(stride.into());
            let inside = |at: u16| {
                let start = i32::from(at) * i32::from(stride) - i32::from(pad);
                start >= 0 && start + i32::from(kernel - 1) * i32::from(dilation) < i32::from(extent)
            };
            let want = (0..output).filter(|&at| inside(at)).count() as u64;
            let shape = |n| Shape::new(n, n, 1);
            assert_eq!(whole_along(&window, 0, shape(extent), shape(output)), want, "{window:?}");
        }
    }

    #[test]
    fn a_convolution_counts_groups_lone_windows_and_clamps() {
        let shape = Shape::new(3, 3, 8);
        let window = Window { kernel: [3, 3], stride: [1, 1], pad: [1, 1], dilation: [1, 1] };
        let geometry = Conv2d { input: shape, output: shape, window, groups: 2, pad_value: 0 };
        let landing = Landing { zero_point: 0, lo: -5, hi: 127 };
        let work = Work::conv(&geometry, 9 * 8 * 36).with(&geometry, &landing, None);
        assert_eq!((work.class, work.windows, work.clipped_windows), (OpClass::GroupedConv, 18, 16));
        assert_eq!((work.gathered, work.rows, work.filters), (9 * 36 * 2, 9 * 9 * 2, 8));
        assert_eq!((work.lone_taps, work.even_lone_taps, work.rest_taps), (36 * 8, 0, 0));
        assert_eq!((work.clamped_outputs, work.residual_outputs), (72, 0));
        let whole = Work::conv(&Conv2d { groups: 1, ..geometry }, 9 * 8 * 72);
        assert_eq!((whole.class, whole.lone_taps, whole.even_lone_taps), (OpClass::Conv, 0, 72 * 8));
    }

    #[test]
    fn convolutions_are_classed_by_what_kernels_tell_apart() {
        let class = |channels, kernel, groups| {
            let window = Window { kernel: [kernel; 2], ..Window::POINT };
            let shape = Shape::new(8, 8, channels);
            Work::conv(&Conv2d { input: shape, output: shape, window, groups, pad_value: 0 }, 1).class
        };
        let classes = [class(8, 1, 1), class(8, 3, 1), class(3, 3, 1), class(3, 1, 1), class(8, 3, 2), class(8, 1, 4)];
        use OpClass::{Conv, GroupedConv, NarrowConv, Pointwise, TinyConv};
        assert_eq!(classes, [Pointwise, Conv, NarrowConv, TinyConv, GroupedConv, TinyConv]);
        let depthwise = |channels, kernel| {
            let window = Window { kernel: [kernel; 2], ..Window::POINT };
            let shape = Shape::new(8, 8, channels);
            let geometry = Conv2d { input: shape, output: shape, window, groups: channels, pad_value: 0 };
            Work::depthwise(&geometry, 1).class
        };
        assert_eq!([depthwise(8, 3), depthwise(6, 3), depthwise(8, 5)], {
            [OpClass::Depthwise3x3, OpClass::Depthwise, OpClass::Depthwise]
        });
    }
}
