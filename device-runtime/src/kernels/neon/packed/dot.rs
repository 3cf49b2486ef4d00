//! Kernels with SDOT: a vector holds four taps of four filters, and meets four taps of a window, taken by lane.

use core::arch::aarch64::vaddq_s32;
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// SDOT by lane. Sums are those of a window's first four filters, its others, and those of the next window.
pub struct Dot;

/// Four taps of eight filters, in `$a` and `$b`, for a window: a lane of a vector. Adds to two vectors of sums.
macro_rules! dot {
    ($low:literal, $high:literal, $x:literal, $lane:literal, $a:literal, $b:literal) => {
        concat!(
            "sdot v", $low, ".4s, ", $a, ".16b, ", $x, ".4b[", $lane, "]\n", "sdot v", $high, ".4s, ", $b, ".16b, ",
            $x, ".4b[", $lane, "]\n",
        )
    };
}

/// A unit of four windows, in `$x`, whose sums are given.
macro_rules! quad {
    ($x:literal, $w:literal, $v:literal; $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal $h:literal) => {
        concat!(
            dot!($a, $b, $x, "0", $w, $v),
            dot!($c, $d, $x, "1", $w, $v),
            dot!($e, $f, $x, "2", $w, $v),
            dot!($g, $h, $x, "3", $w, $v),
        )
    };
    ($x:literal, $w:literal, $v:literal) => {
        quad!($x, $w, $v; 16 17 18 19 20 21 22 23)
    };
}

/// A unit of the first eight windows, whose taps are in `$x` and `$y`.
macro_rules! eight {
    ($x:literal, $y:literal, $w:literal, $v:literal) => {
        concat!(quad!($x, $w, $v), quad!($y, $w, $v; 24 25 26 27 28 29 30 31))
    };
}

/// A unit of twelve windows.
macro_rules! twelve {
    ($w:literal, $v:literal) => {
        concat!(
            "ld1 {{v0.16b-v2.16b}}, [{x}], #48\n",
            eight!("v0", "v1", $w, $v),
            quad!("v2", $w, $v; 8 9 10 11 12 13 14 15)
        )
    };
}

/// Two units of twelve windows.
macro_rules! two_of_twelve {
    () => {
        concat!(weights!(), twelve!("v4", "v5"), twelve!("v6", "v7"))
    };
}

/// Two units of four windows, which are in `$x` and `$y`.
macro_rules! two_of_four {
    ($x:literal, $y:literal) => {
        concat!(weights!(), quad!($x, "v4", "v5"), quad!($y, "v6", "v7"))
    };
}

/// Loads the weights of the last unit.
macro_rules! last_weights {
    () => {
        "ldp q4, q5, [{w}], #32\n"
    };
}

/// A window in lanes of `v0` and two units of weights: even units and odd ones add to sums of their own.
macro_rules! two_of_one {
    ($lane:literal, $next:literal) => {
        concat!(weights!(), dot!(16, 17, "v0", $lane, "v4", "v5"), dot!(18, 19, "v0", $next, "v6", "v7"))
    };
}

impl Kernel for Dot {
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
                ".arch_extension dotprod",
                start_twelve!(),
                "2",
                concat!(two_of_twelve!(), two_of_twelve!()),
                "1",
                two_of_twelve!(),
                "0",
                concat!(last_weights!(), twelve!("v4", "v5"))
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
                ".arch_extension dotprod",
                start_four!(),
                "2",
                concat!(values!(), two_of_four!("v0", "v1"), two_of_four!("v2", "v3")),
                "1",
                concat!("ldp q0, q1, [{x}], #32\n", two_of_four!("v0", "v1")),
                "0",
                concat!("ldr q0, [{x}], #16\n", last_weights!(), quad!("v0", "v4", "v5"))
            )
        }
    }

    #[inline(always)]
    unsafe fn one(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            one_window_twice!(
                taps,
                bias,
                x,
                weights,
                ".arch_extension dotprod",
                "2",
                concat!("ldr q0, [{x}], #16\n", two_of_one!("0", "1"), two_of_one!("2", "3")),
                "1",
                concat!("ldr d0, [{x}], #8\n", two_of_one!("0", "1")),
                "0",
                concat!("ldr s0, [{x}], #4\n", last_weights!(), dot!(16, 17, "v0", "0", "v4", "v5"))
            )
        }
    }
}
