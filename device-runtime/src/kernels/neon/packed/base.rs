//! Kernels without SDOT: a vector holds two taps of eight filters, and meets two taps of a window, repeated in all lanes.
//!
//! Two products fit 16 bits, since no weight is -128.

use core::arch::asm;

use super::{Kernel, Sums, Taps};

/// Widening multiplications.
pub struct Base;

/// Four taps of eight filters, in `wa` and `wb`, for a window, whose taps are in lanes `$k` and `$l`.
macro_rules! window {
    ($i:literal, $k:literal, $l:literal) => {
        concat!(
            "dup {p:v}.8h, {v",
            $i,
            ":v}.h[",
            $k,
            "]\n",
            "dup {q:v}.8h, {v",
            $i,
            ":v}.h[",
            $l,
            "]\n",
            "smull {r:v}.8h, {wa:v}.8b, {p:v}.8b\n",
            "smull2 {s:v}.8h, {wa:v}.16b, {p:v}.16b\n",
            "smlal {r:v}.8h, {wb:v}.8b, {q:v}.8b\n",
            "smlal2 {s:v}.8h, {wb:v}.16b, {q:v}.16b\n",
            "sadalp {a",
            $i,
            ":v}.4s, {r:v}.8h\n",
            "sadalp {b",
            $i,
            ":v}.4s, {s:v}.8h\n",
        )
    };
}

/// Four taps for so many windows.
macro_rules! quad {
    ($count:tt, 0) => {
        quad!($count, "0", "1")
    };
    ($count:tt, 1) => {
        quad!($count, "2", "3")
    };
    ($count:tt, 2) => {
        quad!($count, "4", "5")
    };
    ($count:tt, 3) => {
        quad!($count, "6", "7")
    };
    ($count:tt, $k:literal, $l:literal) => {
        concat!("ldp {wa:q}, {wb:q}, [{w}], #32\n", windows!($count, window, $k, $l))
    };
}

impl Kernel for Base {
    #[inline(always)]
    unsafe fn eight(taps: Taps, bias: Sums, x: [*const i8; 8], weights: *const i8) -> [Sums; 8] {
        // SAFETY: reads what the caller grants.
        unsafe { eight_windows!(taps, bias, x, weights, "", quad, p, q, r, s) }
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, bias: Sums, x: [*const i8; 4], weights: *const i8) -> [Sums; 4] {
        // SAFETY: reads what the caller grants.
        unsafe { four_windows!(taps, bias, x, weights, "", quad, p, q, r, s) }
    }

    #[inline(always)]
    unsafe fn one(taps: Taps, [mut a0, mut b0]: Sums, x: *const i8, weights: *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                walk!(1, quad),
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _, x0 = inout(reg) x => _,
                a0 = inout(vreg) a0, b0 = inout(vreg) b0,
                v0 = out(vreg) _, wa = out(vreg) _, wb = out(vreg) _,
                p = out(vreg) _, q = out(vreg) _, r = out(vreg) _, s = out(vreg) _,
                options(readonly, nostack)
            );
        }
        [a0, b0]
    }
}
