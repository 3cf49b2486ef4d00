//! Kernels with SDOT: a vector holds four taps of four filters, and meets four taps of a window, taken by lane.

use core::arch::asm;

use super::{Kernel, Sums, Taps};

/// SDOT by lane.
pub struct Dot;

/// Four taps of four filters, in `$weights`, for a window.
macro_rules! dot {
    ($i:literal, $sums:literal, $weights:literal, $lane:literal) => {
        concat!("sdot {", $sums, $i, ":v}.4s, {", $weights, ":v}.16b, {v", $i, ":v}.4b[", $lane, "]\n")
    };
}

/// Four taps of eight filters for so many windows.
macro_rules! quad {
    ($count:tt, $lane:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            windows!($count, dot, "a", "wa", $lane),
            windows!($count, dot, "b", "wb", $lane)
        )
    };
}

/// Four taps of eight filters for one window; even lanes and odd ones add to sums of their own.
macro_rules! alone {
    (1, 0) => {
        alone!("0", "a0", "b0")
    };
    (1, 1) => {
        alone!("1", "a1", "b1")
    };
    (1, 2) => {
        alone!("2", "a0", "b0")
    };
    (1, 3) => {
        alone!("3", "a1", "b1")
    };
    ($lane:literal, $a:literal, $b:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "sdot {",
            $a,
            ":v}.4s, {wa:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
            "sdot {",
            $b,
            ":v}.4s, {wb:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
        )
    };
}

impl Kernel for Dot {
    #[inline(always)]
    unsafe fn eight(taps: Taps, bias: Sums, x: [*const i8; 8], weights: *const i8) -> [Sums; 8] {
        // SAFETY: reads what the caller grants.
        unsafe { eight_windows!(taps, bias, x, weights, ".arch_extension dotprod", quad) }
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, bias: Sums, x: [*const i8; 4], weights: *const i8) -> [Sums; 4] {
        // SAFETY: reads what the caller grants.
        unsafe { four_windows!(taps, bias, x, weights, ".arch_extension dotprod", quad) }
    }

    #[inline(always)]
    unsafe fn one(taps: Taps, [mut a0, mut b0]: Sums, x: *const i8, weights: *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "movi {a1:v}.4s, #0",
                "movi {b1:v}.4s, #0",
                walk!(1, alone),
                "add {a0:v}.4s, {a0:v}.4s, {a1:v}.4s",
                "add {b0:v}.4s, {b0:v}.4s, {b1:v}.4s",
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _, x0 = inout(reg) x => _,
                a0 = inout(vreg) a0, a1 = out(vreg) _, b0 = inout(vreg) b0, b1 = out(vreg) _,
                v0 = out(vreg) _, wa = out(vreg) _, wb = out(vreg) _,
                options(readonly, nostack)
            );
        }
        [a0, b0]
    }
}
