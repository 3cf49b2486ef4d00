//! 64-bit Arm: vectors of sixteen int8 values, with the dot product (SDOT) and matrix (SMMLA) instructions where the processor
//! has them.
//!
//! Convolution works on tiles of a few windows and filters whose sums stay in registers. Windows are read where they lie in
//! the input; only what reaches over its border, or what has rows that do not fill vectors, is copied together first.

mod attention;
mod conv;
mod depthwise;
mod finish;
mod lay;
mod layer_norm;
mod lut;
#[cfg(any(test, feature = "std"))]
mod packed;
mod pool;
mod products;
mod sums;
mod tiles;

pub use attention::attention;
pub use conv::conv2d;
pub use depthwise::depthwise;
pub use layer_norm::{Normaliser, square_root, sums};
pub use lut::{lut, lut_in_place};
#[cfg(any(test, feature = "std"))]
pub use packed::{conv2d_packed, depthwise_packed, draw};
pub use pool::{raise, sum_row};

use super::params::Add;
use super::reference;
use finish::Addition;

/// What multiplies and accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Widening multiplications, on every processor.
    Base,
    /// Four products per lane and instruction (SDOT).
    Dot,
    /// Two by two sums of eight products per instruction (SMMLA); has SDOT too.
    Matrix,
}

/// `output[i] = add(a[i], b[i])`.
pub fn add(add: &Add, a: &[i8], b: &[i8], output: &mut [i8]) {
    let addition = Addition::new(add);
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let (places, rest) = output.as_chunks_mut();
    for ((place, a), b) in places.iter_mut().zip(a).zip(b) {
        *place = addition.of_bytes(a, b);
    }
    reference::add(add, a_rest, b_rest, rest);
}

/// `a[i] = add(a[i], b[i])`.
pub fn add_in_place(add: &Add, a: &mut [i8], b: &[i8]) {
    let addition = Addition::new(add);
    let (b, b_rest) = b.as_chunks();
    let (places, rest) = a.as_chunks_mut();
    for (place, b) in places.iter_mut().zip(b) {
        *place = addition.of_bytes(place, b);
    }
    reference::add_in_place(add, rest, b_rest);
}
