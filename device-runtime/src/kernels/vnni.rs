//! x86-64 with AVX-512 and its int8 dot product (VNNI).
//!
//! A vector holds four filters, sixteen taps each, and a window is repeated for all four. The instruction multiplies unsigned by
//! signed bytes: filters are taken with 128 added, and 128 times the sum of a window's taps is subtracted again.

mod conv;
mod depthwise;
mod finish;
#[cfg(any(test, feature = "std"))]
mod packed;

pub use conv::conv2d;
pub use depthwise::depthwise;
#[cfg(any(test, feature = "std"))]
pub use packed::{conv2d_packed, depthwise_packed, draw};
