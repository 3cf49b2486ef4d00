//! Kernels with SDOT: a vector holds four taps of four filters, and meets four taps of a window, taken by lane.

use core::arch::aarch64::{vaddq_s32, vdupq_n_s32};
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// SDOT by lane. Sums are those of a window's first four filters, its others, and those of the next window.
pub struct Dot;

/// Four taps of eight filters, in `$a` and `$b`, for a window: a lane of a vector. Its sums are two of a group.
macro_rules! dot {
    ($group:literal, $low:literal, $high:literal, $x:literal, $lane:literal, $a:literal, $b:literal) => {
        concat!(
            "sdot {", $group, $low, ":v}.4s, ", $a, ".16b, ", $x, ".4b[", $lane, "]\n", "sdot {", $group, $high,
            ":v}.4s, ", $b, ".16b, ", $x, ".4b[", $lane, "]\n",
        )
    };
}

/// A unit of four windows, in `$x`, whose sums are two groups.
macro_rules! quad {
    ($first:literal, $second:literal, $x:literal, $a:literal, $b:literal) => {
        concat!(
            dot!($first, "0", "1", $x, "0", $a, $b),
            dot!($first, "2", "3", $x, "1", $a, $b),
            dot!($second, "0", "1", $x, "2", $a, $b),
            dot!($second, "2", "3", $x, "3", $a, $b),
        )
    };
}

/// Eight windows, whose taps are in `$x` and `$y`.
macro_rules! eight {
    ($x:literal, $y:literal, $a:literal, $b:literal) => {
        concat!(quad!("a", "b", $x, $a, $b), quad!("c", "d", $y, $a, $b))
    };
}

/// Two units of eight windows.
macro_rules! two_of_eight {
    () => {
        concat!(values!(), weights!(), eight!("v0", "v1", "v4", "v5"), eight!("v2", "v3", "v6", "v7"))
    };
}

/// Loads the weights of the last unit.
macro_rules! last_weights {
    () => {
        "ldp q4, q5, [{w}], #32\n"
    };
}

/// A window in a lane of `v0` and two units of weights: even units and odd ones add to sums of their own.
macro_rules! two_of_one {
    ($lane:literal, $next:literal) => {
        concat!(weights!(), dot!("a", "0", "1", "v0", $lane, "v4", "v5"), dot!("a", "2", "3", "v0", $next, "v6", "v7"))
    };
}

impl Kernel for Dot {
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
        unsafe {
            eight_windows!(
                taps,
                sums,
                x,
                weights,
                ".arch_extension dotprod",
                "2",
                concat!(two_of_eight!(), two_of_eight!()),
                concat!("ldp q0, q1, [{x}], #32\n", last_weights!(), eight!("v0", "v1", "v4", "v5"))
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
                concat!(
                    values!(),
                    weights!(),
                    quad!("a", "b", "v0", "v4", "v5"),
                    quad!("a", "b", "v1", "v6", "v7"),
                    weights!(),
                    quad!("a", "b", "v2", "v4", "v5"),
                    quad!("a", "b", "v3", "v6", "v7"),
                ),
                concat!("ldr q0, [{x}], #16\n", last_weights!(), quad!("a", "b", "v0", "v4", "v5"))
            )
        }
    }

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
                concat!("ldr q0, [{x}], #16\n", two_of_one!("0", "1"), two_of_one!("2", "3")),
                concat!("ldr s0, [{x}], #4\n", last_weights!(), dot!("a", "0", "1", "v0", "0", "v4", "v5"))
            )
        }
    }
}
