//! Kernels without SDOT: a vector holds two taps of eight filters, and meets two taps of a window, repeated in all lanes.
//!
//! Two products fit 16 bits, since no weight is -128.

use core::arch::aarch64::vaddq_s32;
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// Widening multiplications. Sums are those of a window's first four filters, its others, and those of the next window.
pub struct Base;

/// Four taps of eight filters, in `v2` and `v3`, for a window: two adjacent lanes of a vector.
macro_rules! products {
    ($low:literal, $high:literal, $v:literal, $k:literal, $l:literal) => {
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
            "sadalp v",
            $low,
            ".4s, v6.8h\n",
            "sadalp v",
            $high,
            ".4s, v7.8h\n",
        )
    };
}

/// A unit of four windows, in `$v`, whose sums begin with those given.
macro_rules! quad {
    ($v:literal, $a:literal, $b:literal, $c:literal, $d:literal, $e:literal, $f:literal, $g:literal, $h:literal) => {
        concat!(
            products!($a, $b, $v, "0", "1"),
            products!($c, $d, $v, "2", "3"),
            products!($e, $f, $v, "4", "5"),
            products!($g, $h, $v, "6", "7"),
        )
    };
}

/// A unit of the first four windows, in `v0`, and its weights.
macro_rules! four {
    () => {
        concat!("ldp q2, q3, [{w}], #32\n", quad!("v0", 16, 17, 18, 19, 20, 21, 22, 23))
    };
}

/// A unit of the first eight windows.
macro_rules! eight {
    () => {
        concat!("ldp q0, q1, [{x}], #32\n", four!(), quad!("v1", 24, 25, 26, 27, 28, 29, 30, 31))
    };
}

/// A unit of a block of twelve windows.
macro_rules! twelve {
    () => {
        concat!(eight!(), "ldr q0, [{x}], #16\n", quad!("v0", 8, 9, 10, 11, 12, 13, 14, 15))
    };
}

/// A unit of a block of four windows.
macro_rules! of_four {
    () => {
        concat!("ldr q0, [{x}], #16\n", four!())
    };
}

/// A unit of one window that is in two lanes; sums are the first two or the others.
macro_rules! one {
    ($low:literal, $high:literal, $k:literal, $l:literal) => {
        concat!("ldp q2, q3, [{w}], #32\n", products!($low, $high, "v0", $k, $l))
    };
}

/// Two units of one window.
macro_rules! two_of_one {
    ($k:literal, $l:literal, $m:literal, $n:literal) => {
        concat!(one!(16, 17, $k, $l), one!(18, 19, $m, $n))
    };
}

impl Kernel for Base {
    const UNIT: usize = 4;

    #[inline(always)]
    unsafe fn tables(panel: &mut [*const i32; 3]) -> [Tables; 4] {
        // SAFETY: the caller's promise.
        let [low, high] = unsafe { Tables::of_eight(*panel) };
        *panel = panel.map(|table| table.wrapping_add(8));
        [low, high, low, high]
    }

    #[inline(always)]
    unsafe fn twelve(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> [Sums; 6] {
        // SAFETY: reads what the caller grants.
        unsafe {
            twelve_windows!(
                taps,
                bias,
                x,
                weights,
                "",
                start_twelve!(),
                "1",
                concat!(twelve!(), twelve!()),
                "0",
                twelve!()
            )
        }
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> [Sums; 2] {
        // SAFETY: reads what the caller grants.
        unsafe {
            four_windows!(
                taps,
                bias,
                x,
                weights,
                "",
                start_four!(),
                "1",
                concat!(of_four!(), of_four!()),
                "0",
                of_four!()
            )
        }
    }

    /// Even units and odd ones add to sums of their own.
    #[inline(always)]
    unsafe fn one(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            one_window_twice!(
                taps,
                bias,
                x,
                weights,
                "",
                "2",
                concat!("ldr q0, [{x}], #16\n", two_of_one!("0", "1", "2", "3"), two_of_one!("4", "5", "6", "7"),),
                "1",
                concat!("ldr d0, [{x}], #8\n", two_of_one!("0", "1", "2", "3")),
                "0",
                concat!("ldr s0, [{x}], #4\n", one!(16, 17, "0", "1"))
            )
        }
    }
}
