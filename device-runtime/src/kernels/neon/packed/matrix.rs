//! Kernels with SMMLA: a vector holds eight taps of two filters, and meets eight taps of two windows.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Finish, Kernel, Sums, Tables, Taps};

/// SMMLA. Sums are those of two windows and eight filters, in every vector those of two of the filters: `[window][filter]`.
pub struct Matrix;

/// Eight taps of two windows, in `$x`, and of eight filters, in `v4` to `v7`.
macro_rules! products {
    ($a:literal, $b:literal, $c:literal, $d:literal, $x:literal) => {
        concat!(products!($a, $x, "v4"), products!($b, $x, "v5"), products!($c, $x, "v6"), products!($d, $x, "v7"),)
    };
    ($sums:literal, $x:literal, $weights:literal) => {
        concat!("smmla v", $sums, ".4s, ", $x, ".16b, ", $weights, ".16b\n")
    };
}

/// A unit of twelve windows.
macro_rules! twelve {
    () => {
        concat!(eight!(), "ldp q0, q1, [{x}], #32\n", products!(8, 9, 10, 11, "v0"), products!(12, 13, 14, 15, "v1"),)
    };
}

/// Two units of twelve windows. Of the windows that are loaded second, two pairs are the first unit's.
macro_rules! twelve_twice {
    () => {
        concat!(
            eight!(),
            values!(),
            products!(8, 9, 10, 11, "v0"),
            products!(12, 13, 14, 15, "v1"),
            weights!(),
            products!(16, 17, 18, 19, "v2"),
            products!(20, 21, 22, 23, "v3"),
            values!(),
            products!(24, 25, 26, 27, "v0"),
            products!(28, 29, 30, 31, "v1"),
            products!(8, 9, 10, 11, "v2"),
            products!(12, 13, 14, 15, "v3"),
        )
    };
}

/// A unit of the first eight windows.
macro_rules! eight {
    () => {
        concat!(
            values!(),
            weights!(),
            products!(16, 17, 18, 19, "v0"),
            products!(20, 21, 22, 23, "v1"),
            products!(24, 25, 26, 27, "v2"),
            products!(28, 29, 30, 31, "v3"),
        )
    };
}

/// A unit of four windows, which are in `$x` and `$y`.
macro_rules! four {
    ($x:literal, $y:literal) => {
        concat!(weights!(), products!(16, 17, 18, 19, $x), products!(20, 21, 22, 23, $y))
    };
}

/// Two units of four windows.
macro_rules! four_twice {
    () => {
        concat!(values!(), four!("v0", "v1"), four!("v2", "v3"))
    };
}

/// A unit of one window, which stands in both rows of the matrix.
macro_rules! one {
    () => {
        concat!("ld1r {{v0.2d}}, [{x}], #8\n", weights!(), products!(16, 17, 18, 19, "v0"))
    };
}

/// Starts the sums of two windows.
macro_rules! start_pair {
    ($first:literal, $last:literal) => {
        concat!("ld1 {{v", $first, ".4s-v", $last, ".4s}}, [{bias}]\n")
    };
}

/// Starts the sums of twelve windows.
macro_rules! start_twelve_pairs {
    () => {
        concat!(
            start_pair!(16, 19),
            start_pair!(20, 23),
            start_pair!(24, 27),
            start_pair!(28, 31),
            start_pair!(8, 11),
            start_pair!(12, 15)
        )
    };
}

impl Kernel for Matrix {
    const UNIT: usize = 8;

    #[inline(always)]
    unsafe fn tables(panel: &mut [*const i32; 3]) -> [Tables; 4] {
        // SAFETY: the caller's promise.
        unsafe { Tables::of_sixteen(panel) }
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
                ".arch_extension i8mm",
                start_twelve_pairs!(),
                "3",
                concat!(twelve_twice!(), twelve_twice!(), twelve_twice!(), twelve_twice!()),
                "2",
                concat!(twelve_twice!(), twelve_twice!()),
                "1",
                twelve_twice!(),
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
                ".arch_extension i8mm",
                concat!(start_pair!(16, 19), start_pair!(20, 23)),
                "2",
                concat!(four_twice!(), four_twice!()),
                "1",
                four_twice!(),
                "0",
                concat!("ldp q0, q1, [{x}], #32\n", four!("v0", "v1"))
            )
        }
    }

    #[inline(always)]
    unsafe fn one(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            one_window!(
                taps,
                bias,
                x,
                weights,
                ".arch_extension i8mm",
                start_pair!(16, 19),
                "2",
                concat!(one!(), one!(), one!(), one!()),
                "1",
                concat!(one!(), one!()),
                "0",
                one!()
            )
        }
    }

    /// Two filters of one window are 16 bits, which alternate with those of another window.
    #[inline(always)]
    fn order([a, b]: [int8x16_t; 2]) -> [int8x16_t; 2] {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let (a, b) = (vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b));
            [vreinterpretq_s8_s16(vuzp1q_s16(a, b)), vreinterpretq_s8_s16(vuzp2q_s16(a, b))]
        }
    }

    /// Every vector has two filters of all windows.
    #[inline(always)]
    fn values_of_eight<const PLAIN: bool>(
        finish: &Finish<'_>,
        [a, b, c, d]: [Sums; 4],
        tables: &[Tables; 4],
    ) -> [int8x16_t; 4] {
        [0, 1, 2, 3].map(|pair| finish.values_of::<PLAIN>([a[pair], b[pair], c[pair], d[pair]], &[tables[pair]; 4]))
    }

    #[inline(always)]
    unsafe fn store_eight<const PLAIN: bool, const ADDS: bool>(
        finish: &Finish<'_>,
        values: [int8x16_t; 4],
        place: *mut i8,
        step: usize,
    ) -> *mut i8 {
        // SAFETY: the caller's promise.
        unsafe { finish.store_filter_pairs::<PLAIN, ADDS>(values, place, step) }
    }
}
