//! Kernels with SMMLA: a vector holds eight taps of two filters, and meets eight taps of two windows.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Kernel, Sums, Taps};

/// SMMLA. Sums are those of two windows and two filters: `[window][filter]`.
pub struct Matrix;

/// Eight taps of eight filters for eight windows.
macro_rules! eight {
    ($p:literal, $q:literal, $r:literal, $s:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "smmla {a0:v}.4s, {",
            $p,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {b0:v}.4s, {",
            $q,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {c0:v}.4s, {",
            $r,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {d0:v}.4s, {",
            $s,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {a1:v}.4s, {",
            $p,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {b1:v}.4s, {",
            $q,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {c1:v}.4s, {",
            $r,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {d1:v}.4s, {",
            $s,
            ":v}.16b, {wb:v}.16b\n",
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "smmla {a2:v}.4s, {",
            $p,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {b2:v}.4s, {",
            $q,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {c2:v}.4s, {",
            $r,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {d2:v}.4s, {",
            $s,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {a3:v}.4s, {",
            $p,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {b3:v}.4s, {",
            $q,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {c3:v}.4s, {",
            $r,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {d3:v}.4s, {",
            $s,
            ":v}.16b, {wb:v}.16b\n",
        )
    };
}

/// Eight taps of eight filters for four windows.
macro_rules! four {
    ($p:literal, $q:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "smmla {a0:v}.4s, {",
            $p,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {b0:v}.4s, {",
            $q,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {a1:v}.4s, {",
            $p,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {b1:v}.4s, {",
            $q,
            ":v}.16b, {wb:v}.16b\n",
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "smmla {a2:v}.4s, {",
            $p,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {b2:v}.4s, {",
            $q,
            ":v}.16b, {wa:v}.16b\n",
            "smmla {a3:v}.4s, {",
            $p,
            ":v}.16b, {wb:v}.16b\n",
            "smmla {b3:v}.4s, {",
            $q,
            ":v}.16b, {wb:v}.16b\n",
        )
    };
}

/// A bias twice for each pair of filters.
#[inline(always)]
fn twice(bias: Sums) -> [int32x4_t; 4] {
    // SAFETY: vectors are part of this architecture.
    let [[a, b], [c, d]] = bias.map(|bias| unsafe {
        let bias = vreinterpretq_s64_s32(bias);
        [vreinterpretq_s32_s64(vzip1q_s64(bias, bias)), vreinterpretq_s32_s64(vzip2q_s64(bias, bias))]
    });
    [a, b, c, d]
}

/// Sums of two windows and four pairs of filters, window by window.
#[inline(always)]
fn apart([a, b, c, d]: [int32x4_t; 4]) -> [Sums; 2] {
    let halves = |a, b| {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
            [vreinterpretq_s32_s64(vzip1q_s64(a, b)), vreinterpretq_s32_s64(vzip2q_s64(a, b))]
        }
    };
    let ([first, second], [first_too, second_too]) = (halves(a, b), halves(c, d));
    [[first, first_too], [second, second_too]]
}

impl Kernel for Matrix {
    #[inline(always)]
    unsafe fn eight(taps: Taps, bias: Sums, x: [*const i8; 8], weights: *const i8) -> [Sums; 8] {
        let [mut a0, mut a1, mut a2, mut a3] = twice(bias);
        let [mut b0, mut b1, mut b2, mut b3] = [a0, a1, a2, a3];
        let [mut c0, mut c1, mut c2, mut c3] = [a0, a1, a2, a3];
        let [mut d0, mut d1, mut d2, mut d3] = [a0, a1, a2, a3];
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "2:",
                "lsr {t}, {n}, #4",
                "cbz {t}, 4f",
                "3:",
                windows!(4, load, "q", "16"),
                "zip1 {v4:v}.2d, {v0:v}.2d, {v1:v}.2d",
                "zip2 {v5:v}.2d, {v0:v}.2d, {v1:v}.2d",
                "ldr {v0:q}, [{x4}], #16",
                "ldr {v1:q}, [{x5}], #16",
                "zip1 {u0:v}.2d, {v2:v}.2d, {v3:v}.2d",
                "zip2 {u1:v}.2d, {v2:v}.2d, {v3:v}.2d",
                "ldr {wa:q}, [{x6}], #16",
                "ldr {wb:q}, [{x7}], #16",
                "zip1 {v2:v}.2d, {v0:v}.2d, {v1:v}.2d",
                "zip2 {v3:v}.2d, {v0:v}.2d, {v1:v}.2d",
                "zip1 {v0:v}.2d, {wa:v}.2d, {wb:v}.2d",
                "zip2 {v1:v}.2d, {wa:v}.2d, {wb:v}.2d",
                "subs {t}, {t}, #1",
                eight!("v4", "u0", "v2", "v0"),
                eight!("v5", "u1", "v3", "v1"),
                "b.ne 3b",
                "4:",
                "tbz {n}, #3, 5f",
                "ldr {v0:d}, [{x0}], #8",
                "ldr {v1:d}, [{x2}], #8",
                "ldr {v2:d}, [{x4}], #8",
                "ldr {v3:d}, [{x6}], #8",
                "ld1 {{{v0:v}.d}}[1], [{x1}], #8",
                "ld1 {{{v1:v}.d}}[1], [{x3}], #8",
                "ld1 {{{v2:v}.d}}[1], [{x5}], #8",
                "ld1 {{{v3:v}.d}}[1], [{x7}], #8",
                eight!("v0", "v1", "v2", "v3"),
                "5:",
                next_row!(8),
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _,
                x0 = inout(reg) x[0] => _, x1 = inout(reg) x[1] => _, x2 = inout(reg) x[2] => _,
                x3 = inout(reg) x[3] => _, x4 = inout(reg) x[4] => _, x5 = inout(reg) x[5] => _,
                x6 = inout(reg) x[6] => _, x7 = inout(reg) x[7] => _,
                a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
                b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
                c0 = inout(vreg) c0, c1 = inout(vreg) c1, c2 = inout(vreg) c2, c3 = inout(vreg) c3,
                d0 = inout(vreg) d0, d1 = inout(vreg) d1, d2 = inout(vreg) d2, d3 = inout(vreg) d3,
                v0 = out(vreg) _, v1 = out(vreg) _, v2 = out(vreg) _, v3 = out(vreg) _,
                v4 = out(vreg) _, v5 = out(vreg) _, u0 = out(vreg) _, u1 = out(vreg) _,
                wa = out(vreg) _, wb = out(vreg) _,
                options(readonly, nostack)
            );
        }
        let ([w0, w1], [w2, w3]) = (apart([a0, a1, a2, a3]), apart([b0, b1, b2, b3]));
        let ([w4, w5], [w6, w7]) = (apart([c0, c1, c2, c3]), apart([d0, d1, d2, d3]));
        [w0, w1, w2, w3, w4, w5, w6, w7]
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, bias: Sums, x: [*const i8; 4], weights: *const i8) -> [Sums; 4] {
        let [mut a0, mut a1, mut a2, mut a3] = twice(bias);
        let [mut b0, mut b1, mut b2, mut b3] = [a0, a1, a2, a3];
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "2:",
                "lsr {t}, {n}, #4",
                "cbz {t}, 4f",
                "3:",
                windows!(4, load, "q", "16"),
                "subs {t}, {t}, #1",
                "zip1 {v4:v}.2d, {v0:v}.2d, {v1:v}.2d",
                "zip2 {v5:v}.2d, {v0:v}.2d, {v1:v}.2d",
                "zip1 {v0:v}.2d, {v2:v}.2d, {v3:v}.2d",
                "zip2 {v1:v}.2d, {v2:v}.2d, {v3:v}.2d",
                four!("v4", "v0"),
                four!("v5", "v1"),
                "b.ne 3b",
                "4:",
                "tbz {n}, #3, 5f",
                "ldr {v0:d}, [{x0}], #8",
                "ldr {v1:d}, [{x2}], #8",
                "ld1 {{{v0:v}.d}}[1], [{x1}], #8",
                "ld1 {{{v1:v}.d}}[1], [{x3}], #8",
                four!("v0", "v1"),
                "5:",
                next_row!(4),
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _,
                x0 = inout(reg) x[0] => _, x1 = inout(reg) x[1] => _,
                x2 = inout(reg) x[2] => _, x3 = inout(reg) x[3] => _,
                a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
                b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
                v0 = out(vreg) _, v1 = out(vreg) _, v2 = out(vreg) _, v3 = out(vreg) _,
                v4 = out(vreg) _, v5 = out(vreg) _, wa = out(vreg) _, wb = out(vreg) _,
                options(readonly, nostack)
            );
        }
        let ([w0, w1], [w2, w3]) = (apart([a0, a1, a2, a3]), apart([b0, b1, b2, b3]));
        [w0, w1, w2, w3]
    }

    /// The window stands in both rows of the matrix.
    #[inline(always)]
    unsafe fn one(taps: Taps, bias: Sums, x: *const i8, weights: *const i8) -> Sums {
        let [mut a0, mut a1, mut a2, mut a3] = twice(bias);
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "2:",
                "lsr {t}, {n}, #3",
                "3:",
                "ld1r {{{v0:v}.2d}}, [{x0}], #8",
                "ldp {wa:q}, {wb:q}, [{w}], #32",
                "ldp {wc:q}, {wd:q}, [{w}], #32",
                "subs {t}, {t}, #1",
                "smmla {a0:v}.4s, {v0:v}.16b, {wa:v}.16b",
                "smmla {a1:v}.4s, {v0:v}.16b, {wb:v}.16b",
                "smmla {a2:v}.4s, {v0:v}.16b, {wc:v}.16b",
                "smmla {a3:v}.4s, {v0:v}.16b, {wd:v}.16b",
                "b.ne 3b",
                next_row!(1),
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _, x0 = inout(reg) x => _,
                a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
                v0 = out(vreg) _, wa = out(vreg) _, wb = out(vreg) _, wc = out(vreg) _, wd = out(vreg) _,
                options(readonly, nostack)
            );
        }
        let [sums, _] = apart([a0, a1, a2, a3]);
        sums
    }
}
