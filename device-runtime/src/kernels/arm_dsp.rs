//! Armv7E-M, Armv8-M with the DSP extension, Armv7-A: 16-bit dual multiply-accumulate.

mod columns;
mod conv;
mod depthwise;
mod epilogue;
mod instructions;
mod pack;

pub use conv::conv2d;
pub use depthwise::depthwise;

use super::params::Add;
use super::reference;

/// `output[i] = add(a[i], b[i])`.
pub fn add(add: &Add, a: &[i8], b: &[i8], output: &mut [i8]) {
    let Some(sum) = saturating(add) else { return reference::add(add, a, b, output) };
    for ((y, &a), &b) in output.iter_mut().zip(a).zip(b) {
        *y = sum(a, b);
    }
}

/// `a[i] = add(a[i], b[i])`.
pub fn add_in_place(add: &Add, a: &mut [i8], b: &[i8]) {
    let Some(sum) = saturating(add) else { return reference::add_in_place(add, a, b) };
    for (a, &b) in a.iter_mut().zip(b) {
        *a = sum(*a, b);
    }
}

/// [`Add::apply`] with the saturating instruction, if the clamp is that of int8.
#[inline(always)]
fn saturating(add: &Add) -> Option<impl Fn(i8, i8) -> i8> {
    let Add { a_multiplier, b_multiplier, offset, shift, lo, hi } = *add;
    (lo == i8::MIN && hi == i8::MAX).then_some(move |a: i8, b: i8| {
        let a = i32::from(a).wrapping_mul(a_multiplier).wrapping_add(offset);
        let sum = i32::from(b).wrapping_mul(b_multiplier).wrapping_add(a);
        instructions::saturate(sum >> (shift & 31)) as i8
    })
}
