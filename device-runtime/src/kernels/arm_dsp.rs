//! Armv7E-M, Armv8-M with the DSP extension, Armv7-A: 16-bit dual multiply-accumulate.

/// Directive that lets the assembler take the instructions outside of functions compiled for them.
#[cfg(arm_v8m)]
macro_rules! dsp_instructions {
    () => {
        ".cpu cortex-m33"
    };
}
/// Architectures that always have the instructions need no directive.
#[cfg(not(arm_v8m))]
macro_rules! dsp_instructions {
    () => {
        ""
    };
}

/// First words of a body written for Thumb: where functions are entered in the 32-bit encoding, these change over. Changes r12.
#[cfg(a32)]
macro_rules! enter_thumb {
    () => {
        "add r12, pc, #1\nbx r12\n.thumb"
    };
}
/// Last word of a body written for Thumb, for the function behind it.
#[cfg(a32)]
macro_rules! leave_thumb {
    () => {
        ".arm"
    };
}
/// On these targets everything is Thumb.
#[cfg(not(a32))]
macro_rules! enter_thumb {
    () => {
        ""
    };
}
/// On these targets everything is Thumb.
#[cfg(not(a32))]
macro_rules! leave_thumb {
    () => {
        ""
    };
}

mod attention;
mod columns;
mod conv;
mod depthwise;
mod filters;
mod finish;
mod group;
mod instructions;
mod lines;
mod pack;
mod pairs;
mod pool;
mod rows;
mod walk;

pub use attention::attention;
pub use conv::conv2d;
#[cfg(feature = "woven")]
pub use conv::woven;
pub use depthwise::depthwise;
pub use pool::sum_row;

use super::params::Add;
use super::reference;
use finish::saturating;

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
