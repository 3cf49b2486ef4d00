//! Kernels without SDOT: a vector holds two taps of eight filters, and meets two taps of a window, repeated in all lanes.
//!
//! Two products fit 16 bits, since no weight is -128.

use core::arch::aarch64::{vaddq_s32, vdupq_n_s32};
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// Widening multiplications. Sums are those of a window's first four filters, its others, and those of the next window.
pub struct Base;

/// Four taps of eight filters, in `v2` and `v3`, for a window: two adjacent lanes of a vector.
macro_rules! products {
    ($group:literal, $low:literal, $high:literal, $v:literal, $k:literal, $l:literal) => {
        concat!(
            "dup v4.8h, ",
            $v,
            ".h[",
            $k,
            "]\n",
            "dup v5.8h, ",
            $v,
            ".h[",
            $l,
            "]\n",
            "smull v6.8h, v2.8b, v4.8b\n",
            "smull2 v7.8h, v2.16b, v4.16b\n",
            "smlal v6.8h, v3.8b, v5.8b\n",
            "smlal2 v7.8h, v3.16b, v5.16b\n",
            "sadalp {",
            $group,
            $low,
            ":v}.4s, v6.8h\n",
            "sadalp {",
            $group,
            $high,
            ":v}.4s, v7.8h\n",
        )
    };
}

/// A unit of four windows, in `$v`, whose sums are two groups.
macro_rules! quad {
    ($first:literal, $second:literal, $v:literal) => {
        concat!(
            products!($first, "0", "1", $v, "0", "1"),
            products!($first, "2", "3", $v, "2", "3"),
            products!($second, "0", "1", $v, "4", "5"),
            products!($second, "2", "3", $v, "6", "7"),
        )
    };
}

/// A unit of a block of eight windows.
macro_rules! eight {
    () => {
        concat!("ldp q2, q3, [{w}], #32\n", "ldp q0, q1, [{x}], #32\n", quad!("a", "b", "v0"), quad!("c", "d", "v1"),)
    };
}

/// A unit of a block of four windows.
macro_rules! four {
    () => {
        concat!("ldp q2, q3, [{w}], #32\n", "ldr q0, [{x}], #16\n", quad!("a", "b", "v0"))
    };
}

/// A unit of one window that is in two lanes; sums are `a0` and `a1` or `a2` and `a3`.
macro_rules! one {
    ($low:literal, $high:literal, $k:literal, $l:literal) => {
        concat!("ldp q2, q3, [{w}], #32\n", products!("a", $low, $high, "v0", $k, $l))
    };
}

impl Kernel for Base {
    const UNIT: usize = 4;
    const ENTRIES: usize = 8;

    #[inline(always)]
    unsafe fn tables(panel: [*const i32; 3]) -> [Tables; 4] {
        // SAFETY: the caller's promise.
        let [low, high] = unsafe { Tables::of_eight(panel) };
        [low, high, low, high]
    }

    #[inline(always)]
    unsafe fn eight(taps: Taps, sums: [Sums; 4], x: *const i8, weights: *const i8) -> [Sums; 4] {
        // SAFETY: reads what the caller grants.
        unsafe { eight_windows!(taps, sums, x, weights, "", "1", concat!(eight!(), eight!()), eight!()) }
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, sums: [Sums; 2], x: *const i8, weights: *const i8) -> [Sums; 2] {
        // SAFETY: reads what the caller grants.
        unsafe { four_windows!(taps, sums, x, weights, "", "1", concat!(four!(), four!()), four!()) }
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
                    "ldr q0, [{x}], #16\n",
                    one!("0", "1", "0", "1"),
                    one!("2", "3", "2", "3"),
                    one!("0", "1", "4", "5"),
                    one!("2", "3", "6", "7"),
                ),
                concat!("ldr s0, [{x}], #4\n", one!("0", "1", "0", "1"))
            )
        }
    }
}
