//! int8 operators on slices.
//!
//! Activations are HWC with channels fastest ([`Shape`]), convolution weights OHWI, depthwise weights HWC. The operators
//! that have faster variants take an [`Isa`]; the scalar reference states their arithmetic and every variant returns the same
//! bytes. Argument order: parameters, requantization, inputs, constants, scratch, output. Slices have exactly the length
//! their shape asks for and are checked first; after that no operator can fail. Nothing here knows bundles or plans,
//! allocates or panics.

#[cfg(arm_dsp)]
mod arm_dsp;
#[cfg(arm_mve)]
mod arm_mve;
#[cfg(arm_neon)]
mod armv7_neon;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod check;
#[cfg(any(arm_dsp, neon, portable, target_arch = "x86_64"))]
mod columns;
mod conv;
mod elementwise;
#[cfg(any(arm_neon, neon, target_arch = "x86_64"))]
mod gather;
mod isa;
mod layer_norm;
mod moves;
#[cfg(neon)]
mod neon;
#[cfg(any(test, feature = "std"))]
mod packed;
mod params;
mod pool;
#[cfg(portable)]
mod portable;
mod reference;
mod requantize;
#[cfg(any(arm_dsp, neon, portable, test, feature = "std"))]
mod scales;
mod softmax;
#[cfg(test)]
mod testing;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod windows;
#[cfg(feature = "woven")]
mod woven;

pub use attention::{Attention, attention_queries_s8, attention_s8};
pub use conv::{conv2d_s8, depthwise_s8};
pub use elementwise::{add_in_place_s8, add_s8, lut_in_place_s8, lut_s8};
pub use isa::Isa;
pub use layer_norm::{LAYER_NORM_MAX_CHANNELS, LayerNorm, layer_norm_s8};
pub(crate) use moves::is_inside;
pub use moves::{concat_s8, slice_s8};
#[cfg(any(test, feature = "std"))]
pub use packed::{Drawn, Filters, PackedConv, Panels};
pub use params::{Add, Conv2d, Landing, Pool2d, Requant, Shape, ShapeError, Window};
pub use pool::{avg_pool_s8, max_pool_s8};
pub use requantize::requantize;
pub use softmax::softmax_s8;
pub use transpose::transpose_s8;
#[cfg(feature = "woven")]
pub use woven::woven_s8;
#[cfg(any(test, feature = "std"))]
pub use woven::{unwoven, woven};
