//! Kernels with SDOT: a vector holds four taps of four filters, and meets four taps of a window, taken by lane.

use core::arch::aarch64::{vaddq_s32, vdupq_n_s32};
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// SDOT by lane. Sums are those of a window's first four filters, its others, and those of the next window.
pub struct Dot;

/// Four taps of eight filters, in `wa` and `wb`, for a window: a lane of a vector.
macro_rules! dot {
    ($low:literal, $high:literal, $v:literal, $lane:literal) => {
        concat!(
            "sdot {",
            $low,
            ":v}.4s, {wa:v}.16b, {",
            $v,
            ":v}.4b[",
            $lane,
            "]\n",
            "sdot {",
            $high,
            ":v}.4s, {wb:v}.16b, {",
            $v,
            ":v}.4b[",
            $lane,
            "]\n",
        )
    };
}

/// A unit of eight windows.
macro_rules! eight {
    () => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "ldp {v:q}, {u:q}, [{x}], #32\n",
            dot!("a0", "a1", "v", "0"),
            dot!("a2", "a3", "v", "1"),
            dot!("b0", "b1", "v", "2"),
            dot!("b2", "b3", "v", "3"),
            dot!("c0", "c1", "u", "0"),
            dot!("c2", "c3", "u", "1"),
            dot!("d0", "d1", "u", "2"),
            dot!("d2", "d3", "u", "3"),
        )
    };
}

/// A unit of four windows.
macro_rules! four {
    () => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "ldr {v:q}, [{x}], #16\n",
            dot!("a0", "a1", "v", "0"),
            dot!("a2", "a3", "v", "1"),
            dot!("b0", "b1", "v", "2"),
            dot!("b2", "b3", "v", "3"),
        )
    };
}

/// A unit of one window that is in a lane; sums are `a0` and `a1` or `a2` and `a3`.
macro_rules! one {
    ($low:literal, $high:literal, $lane:literal) => {
        concat!("ldp {wa:q}, {wb:q}, [{w}], #32\n", dot!($low, $high, "v", $lane))
    };
}

impl Kernel for Dot {
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
                ".arch_extension dotprod",
                "2",
                concat!(eight!(), eight!(), eight!(), eight!()),
                eight!(),
                v,
                u,
                wa,
                wb
            )
        }
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, sums: [Sums; 2], x: *const i8, weights: *const i8) -> [Sums; 2] {
        // SAFETY: reads what the caller grants.
        unsafe {
            four_windows!(
                taps,
                sums,
                x,
                weights,
                ".arch_extension dotprod",
                "2",
                concat!(four!(), four!(), four!(), four!()),
                four!(),
                v,
                wa,
                wb
            )
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
                ".arch_extension dotprod",
                "2",
                concat!(
                    "ldr {v:q}, [{x}], #16\n",
                    one!("a0", "a1", "0"),
                    one!("a2", "a3", "1"),
                    one!("a0", "a1", "2"),
                    one!("a2", "a3", "3"),
                ),
                concat!("ldr {v:s}, [{x}], #4\n", one!("a0", "a1", "0")),
                v,
                wa,
                wb
            )
        }
    }
}
