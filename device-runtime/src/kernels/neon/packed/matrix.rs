//! Kernels with SMMLA: a vector holds eight taps of two filters, and meets eight taps of two windows.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Kernel, Sums, Tables, Taps};

/// SMMLA. Sums are those of two windows and eight filters, in every vector those of two of the filters: `[window][filter]`.
pub struct Matrix;

/// Eight taps of two windows, in `$x`, and of eight filters, in `v4` to `v7`.
macro_rules! products {
    ($group:literal, $x:literal) => {
        concat!(
            "smmla {",
            $group,
            "0:v}.4s, ",
            $x,
            ".16b, v4.16b\n",
            "smmla {",
            $group,
            "1:v}.4s, ",
            $x,
            ".16b, v5.16b\n",
            "smmla {",
            $group,
            "2:v}.4s, ",
            $x,
            ".16b, v6.16b\n",
            "smmla {",
            $group,
            "3:v}.4s, ",
            $x,
            ".16b, v7.16b\n",
        )
    };
}

/// A unit of eight windows.
macro_rules! eight {
    () => {
        concat!(
            values!(),
            weights!(),
            products!("a", "v0"),
            products!("b", "v1"),
            products!("c", "v2"),
            products!("d", "v3"),
        )
    };
}

/// A unit of four windows, which are in `$x` and `$y`.
macro_rules! four {
    ($x:literal, $y:literal) => {
        concat!(weights!(), products!("a", $x), products!("b", $y))
    };
}

/// A unit of one window, which stands in both rows of the matrix.
macro_rules! one {
    () => {
        concat!("ld1r {{v0.2d}}, [{x}], #8\n", weights!(), products!("a", "v0"))
    };
}

impl Kernel for Matrix {
    const UNIT: usize = 8;
    const ENTRIES: usize = 16;

    #[inline(always)]
    unsafe fn tables(panel: [*const i32; 3]) -> [Tables; 4] {
        // SAFETY: the caller's promise.
        unsafe { [0, 4, 8, 12].map(|at| Tables::of(panel.map(|table| table.wrapping_add(at)))) }
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
                ".arch_extension i8mm",
                "2",
                concat!(eight!(), eight!(), eight!(), eight!()),
                eight!()
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
                ".arch_extension i8mm",
                "1",
                concat!(values!(), four!("v0", "v1"), four!("v2", "v3")),
                concat!("ldp q0, q1, [{x}], #32\n", four!("v0", "v1"))
            )
        }
    }

    #[inline(always)]
    unsafe fn one(taps: Taps, sums: Sums, x: *const i8, weights: *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe { one_window!(taps, sums, x, weights, ".arch_extension i8mm", "1", concat!(one!(), one!()), one!()) }
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
}
