//! The arithmetic in scalar code, for any processor. Every variant must return these bytes.
//!
//! The functions expect arguments that the public operators have checked; other arguments give unspecified bytes, never
//! a panic.

mod attention;
mod conv;

pub(super) use attention::attention;
#[cfg(any(neon, portable, target_arch = "x86_64"))]
pub(super) use conv::depthwise_sum;
pub(super) use conv::{conv2d, depthwise};

use super::params::Add;

/// `output[i] = add(a[i], b[i])`.
pub(super) fn add(add: &Add, a: &[i8], b: &[i8], output: &mut [i8]) {
    for ((y, &a), &b) in output.iter_mut().zip(a).zip(b) {
        *y = add.apply(a, b);
    }
}

/// `a[i] = add(a[i], b[i])`.
pub(super) fn add_in_place(add: &Add, a: &mut [i8], b: &[i8]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a = add.apply(*a, b);
    }
}
