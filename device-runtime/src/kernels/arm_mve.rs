//! Armv8.1-M with MVE: 128-bit vectors, sixteen products per instruction.

mod conv;
mod depthwise;
mod filters;
mod finish;
mod gather;
mod land;
mod pool;
mod strips;

pub use conv::conv2d;
pub use depthwise::depthwise;
pub use pool::sum_row;

use super::params::Add;
use finish::{Addition, add_vectors};

/// `output[i] = add(a[i], b[i])`.
pub fn add(add: &Add, a: &[i8], b: &[i8], output: &mut [i8]) {
    if a.len() != b.len() || a.len() != output.len() || a.is_empty() {
        return;
    }
    // SAFETY: all three have this length, which is not zero.
    unsafe { add_vectors(&Addition::new(add), a.as_ptr(), b.as_ptr(), output.as_mut_ptr(), a.len()) };
}

/// `a[i] = add(a[i], b[i])`.
pub fn add_in_place(add: &Add, a: &mut [i8], b: &[i8]) {
    if a.len() != b.len() || a.is_empty() {
        return;
    }
    // SAFETY: both have this length, which is not zero.
    unsafe { add_vectors(&Addition::new(add), a.as_ptr(), b.as_ptr(), a.as_mut_ptr(), a.len()) };
}
