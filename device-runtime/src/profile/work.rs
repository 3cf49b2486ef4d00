//! The features of a step that its latency depends on.

use crate::bundle::Op;

/// Classes of steps that share coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum OpClass {
    /// 1x1 convolutions and fully connected layers.
    Pointwise,
    /// Other convolutions.
    Conv,
    /// Depthwise convolutions.
    Depthwise,
    /// Element-wise additions.
    Add,
    /// Maximum and average pools.
    Pool,
    /// Table look-ups.
    Lut,
    /// Softmax.
    Softmax,
    /// Copies in another order.
    Transpose,
}

impl OpClass {
    /// Number of classes.
    pub const COUNT: usize = 8;

    /// Every class, in order of index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Pointwise,
        Self::Conv,
        Self::Depthwise,
        Self::Add,
        Self::Pool,
        Self::Lut,
        Self::Softmax,
        Self::Transpose,
    ];

    /// Name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pointwise => "pointwise",
            Self::Conv => "conv",
            Self::Depthwise => "depthwise",
            Self::Add => "add",
            Self::Pool => "pool",
            Self::Lut => "lut",
            Self::Softmax => "softmax",
            Self::Transpose => "transpose",
        }
    }
}

/// How much one step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Which coefficients apply.
    pub class: OpClass,
    /// Multiply-accumulates of convolutions, window taps of pools, else 0.
    pub taps: u64,
    /// Elements written.
    pub outputs: u64,
    /// Input values gathered for windows, over all output positions; convolutions only.
    pub gathered: u64,
    /// Outputs that also take a fused residual addition.
    pub residual_outputs: u64,
    /// Bytes of weights and tables read.
    pub weight_bytes: u64,
}

impl Work {
    /// The work of one step.
    #[must_use]
    pub fn of(op: &Op) -> Self {
        let outputs = op.output().elements();
        let none =
            Self { class: OpClass::Transpose, taps: 0, outputs, gathered: 0, residual_outputs: 0, weight_bytes: 0 };
        match op {
            Op::Conv2d { geometry, residual, .. } => {
                let is_pointwise = geometry.window.kernel == [1, 1];
                let taps = geometry.taps() as u64;
                Self {
                    class: if is_pointwise { OpClass::Pointwise } else { OpClass::Conv },
                    taps: op.macs(),
                    gathered: (geometry.output.positions() as u64).saturating_mul(taps),
                    residual_outputs: if residual.is_some() { outputs } else { 0 },
                    weight_bytes: channel_bytes(geometry.output.c, taps),
                    ..none
                }
            }
            Op::Depthwise { geometry, residual, .. } => Self {
                class: OpClass::Depthwise,
                taps: op.macs(),
                residual_outputs: if residual.is_some() { outputs } else { 0 },
                weight_bytes: channel_bytes(geometry.output.c, geometry.taps() as u64),
                ..none
            },
            Op::MaxPool(geometry) | Op::AvgPool { geometry, .. } => {
                let [rows, columns] = geometry.window.kernel;
                let taps = outputs.saturating_mul(u64::from(rows) * u64::from(columns));
                Self { class: OpClass::Pool, taps, ..none }
            }
            Op::Add { .. } => Self { class: OpClass::Add, ..none },
            Op::Lut { .. } => Self { class: OpClass::Lut, weight_bytes: 256, ..none },
            Op::Softmax { .. } => Self { class: OpClass::Softmax, weight_bytes: 1024, ..none },
            Op::Transpose { .. } => none,
        }
    }
}

/// Weights, bias, multiplier and shift of every output channel.
fn channel_bytes(channels: u16, taps: u64) -> u64 {
    u64::from(channels).saturating_mul(taps.saturating_add(9))
}
