//! Float to int8: which ranges the activations have, and which integer steps compute the same network.
//!
//! | module | purpose |
//! |---|---|
//! | [`pieces`] | the parts that shipped plans are made of: anchor segments between neighbouring cuts, stitching layers |
//! | [`histogram`] | distribution of one tensor's values, and the range chosen from it |
//! | [`pinned`] | quantizations kept in a file |
//! | [`calibrate`] | one pinned quantization per cut, and one per value inside a piece |
//! | `equalize` | channels that share a range brought to like ranges, in floats |
//! | `equalized` | the same for a family that is to be trained with rounding |
//! | [`scale`] | ranges to scales, real factors to fixed-point multipliers |
//! | [`lower`] | float graph to integer steps |
//! | [`fake`] | the same rounding on real numbers, for training |
//! | [`integer`] | the integer steps with their constants |
//! | [`noise`] | how far integer activations are from the float ones |
//!
//! The arithmetic is that of `stitchkit_runtime::kernels`: per-channel symmetric weights, per-tensor asymmetric
//! activations (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
//! Inference"), one rounding per output.

pub mod calibrate;
mod constants;
mod equalize;
mod equalized;
pub mod fake;
mod fuse;
pub mod histogram;
pub mod integer;
pub mod lower;
pub mod noise;
pub mod pieces;
pub mod pinned;
pub mod scale;
mod tokens;

pub use calibrate::{Calibration, CutRange, Options, calibrate};
pub use constants::ChannelFault;
pub use equalized::{Writable, equalized};
pub use fuse::held_values;
pub use histogram::Method;
pub use lower::LowerError;
pub use tokens::constant_quant;

/// Whether channels that share a range are brought to like ranges before they are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channels {
    /// They are.
    #[default]
    Equalized,
    /// Constants stay as the family has them.
    AsStored,
}
