//! Kernels without SDOT: a vector holds two taps of eight filters, and meets two taps of a window, repeated in all lanes.
//!
//! Two products fit 16 bits, since no weight is -128.

use core::arch::aarch64::{vaddq_s32, vdupq_n_s32};
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// Widening multiplications. Sums are those of a window's first four filters, its others, and those of the next window.
pub struct Base;

/// Four taps of eight filters, in `wa` and `wb`, for a window: two adjacent lanes of a vector.
macro_rules! products {
    ($low:literal, $high:literal, $v:literal, $k:literal, $l:literal) => {
        concat!(
            "dup {p:v}.8h, {",
            $v,
            ":v}.h[",
            $k,
            "]\n",
            "dup {q:v}.8h, {",
            $v,
            ":v}.h[",
            $l,
            "]\n",
            "smull {r:v}.8h, {wa:v}.8b, {p:v}.8b\n",
            "smull2 {s:v}.8h, {wa:v}.16b, {p:v}.16b\n",
            "smlal {r:v}.8h, {wb:v}.8b, {q:v}.8b\n",
            "smlal2 {s:v}.8h, {wb:v}.16b, {q:v}.16b\n",
            "sadalp {",
            $low,
            ":v}.4s, {r:v}.8h\n",
            "sadalp {",
            $high,
            ":v}.4s, {s:v}.8h\n",
        )
    };
}

/// A unit of eight windows.
macro_rules! eight {
    () => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "ldp {v:q}, {u:q}, [{x}], #32\n",
            products!("a0", "a1", "v", "0", "1"),
            products!("a2", "a3", "v", "2", "3"),
            products!("b0", "b1", "v", "4", "5"),
            products!("b2", "b3", "v", "6", "7"),
            products!("c0", "c1", "u", "0", "1"),
            products!("c2", "c3", "u", "2", "3"),
            products!("d0", "d1", "u", "4", "5"),
            products!("d2", "d3", "u", "6", "7"),
        )
    };
}

/// A unit of four windows.
macro_rules! four {
    () => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "ldr {v:q}, [{x}], #16\n",
            products!("a0", "a1", "v", "0", "1"),
            products!("a2", "a3", "v", "2", "3"),
            products!("b0", "b1", "v", "4", "5"),
            products!("b2", "b3", "v", "6", "7"),
        )
    };
}

/// A unit of one window that is in two lanes; sums are `a0` and `a1` or `a2` and `a3`.
macro_rules! one {
    ($low:literal, $high:literal, $k:literal, $l:literal) => {
        concat!("ldp {wa:q}, {wb:q}, [{w}], #32\n", products!($low, $high, "v", $k, $l))
    };
}

impl Kernel for Base {
    const UNIT: usize = 4;
    const ENTRIES: usize = 8;

    #[inline(always)]
    unsafe fn tables(panel: [*const i32; 3]) -> [Tables; 4] {
        // SAFETY: the caller's promise.
        unsafe { Tables::twice(panel) }
    }

    #[inline(always)]
    unsafe fn eight(taps: Taps, sums: [Sums; 4], x: *const i8, weights: *const i8) -> [Sums; 4] {
        // SAFETY: reads what the caller grants.
        unsafe {
            eight_windows!(
                taps,
                sums,
                x,
                weights,
                "",
                "1",
                concat!(eight!(), eight!()),
                eight!(),
                v,
                u,
                wa,
                wb,
                p,
                q,
                r,
                s
            )
        }
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, sums: [Sums; 2], x: *const i8, weights: *const i8) -> [Sums; 2] {
        // SAFETY: reads what the caller grants.
        unsafe {
            four_windows!(taps, sums, x, weights, "", "1", concat!(four!(), four!()), four!(), v, wa, wb, p, q, r, s)
        }
    }

    /// Even units and odd ones add to sums of their own.
    #[inline(always)]
    unsafe fn one(taps: Taps, [low, high, ..]: Sums, x: *const i8, weights: *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            one_window_twice!(
                taps,
                [low, high],
                x,
                weights,
                "",
                "2",
                concat!(
                    "ldr {v:q}, [{x}], #16\n",
                    one!("a0", "a1", "0", "1"),
                    one!("a2", "a3", "2", "3"),
                    one!("a0", "a1", "4", "5"),
                    one!("a2", "a3", "6", "7"),
                ),
                concat!("ldr {v:s}, [{x}], #4\n", one!("a0", "a1", "0", "1")),
                v,
                wa,
                wb,
                p,
                q,
                r,
                s
            )
        }
    }
}
