//! Single instructions and inner loops.
//!
//! The compiler has no stable functions for SDOT and SMMLA, hence the assembly. It names the extension itself, so that it
//! assembles in functions for any processor; callers have made sure that this one has it.

use core::arch::aarch64::*;
use core::arch::asm;

/// Four products per lane, added to `sums`.
///
/// # Safety
/// The processor has SDOT.
#[inline(always)]
pub unsafe fn sdot(mut sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) x, in(vreg) w,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Products of two rows of eight `x` and two rows of eight `w`, added to the four sums `[x row][w row]`.
///
/// # Safety
/// The processor has SMMLA.
#[inline(always)]
pub unsafe fn smmla(mut sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers only.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) x, in(vreg) w,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Four windows and four filters, 32 taps per turn; sums are `[window][filter]`, four partial sums each.
///
/// # Safety
/// The processor has SDOT, every pointer `32 * turns` readable bytes, and `turns` is at least 1. Pointers are advanced.
#[inline(always)]
pub unsafe fn dot_4x4(sums: &mut [int32x4_t; 16], x: &mut [*const i8; 4], w: &mut [*const i8; 4], turns: usize) {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = sums;
    let [x0, x1, x2, x3] = x;
    let [w0, w1, w2, w3] = w;
    // SAFETY: reads what the caller grants.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "2:",
            "ldp {p:q}, {q:q}, [{x0}], #32",
            "ldp {y:q}, {z:q}, [{w0}], #32",
            "ldp {r:q}, {s:q}, [{x1}], #32",
            "ldp {t:q}, {u:q}, [{x2}], #32",
            "ldp {v:q}, {k:q}, [{x3}], #32",
            "sdot {a0:v}.4s, {p:v}.16b, {y:v}.16b",
            "sdot {b0:v}.4s, {r:v}.16b, {y:v}.16b",
            "sdot {c0:v}.4s, {t:v}.16b, {y:v}.16b",
            "sdot {d0:v}.4s, {v:v}.16b, {y:v}.16b",
            "ldp {m:q}, {n:q}, [{w1}], #32",
            "sdot {a0:v}.4s, {q:v}.16b, {z:v}.16b",
            "sdot {b0:v}.4s, {s:v}.16b, {z:v}.16b",
            "sdot {c0:v}.4s, {u:v}.16b, {z:v}.16b",
            "sdot {d0:v}.4s, {k:v}.16b, {z:v}.16b",
            "ldp {y:q}, {z:q}, [{w2}], #32",
            "sdot {a1:v}.4s, {p:v}.16b, {m:v}.16b",
            "sdot {b1:v}.4s, {r:v}.16b, {m:v}.16b",
            "sdot {c1:v}.4s, {t:v}.16b, {m:v}.16b",
            "sdot {d1:v}.4s, {v:v}.16b, {m:v}.16b",
            "sdot {a1:v}.4s, {q:v}.16b, {n:v}.16b",
            "sdot {b1:v}.4s, {s:v}.16b, {n:v}.16b",
            "sdot {c1:v}.4s, {u:v}.16b, {n:v}.16b",
            "sdot {d1:v}.4s, {k:v}.16b, {n:v}.16b",
            "ldp {m:q}, {n:q}, [{w3}], #32",
            "sdot {a2:v}.4s, {p:v}.16b, {y:v}.16b",
            "sdot {b2:v}.4s, {r:v}.16b, {y:v}.16b",
            "sdot {c2:v}.4s, {t:v}.16b, {y:v}.16b",
            "sdot {d2:v}.4s, {v:v}.16b, {y:v}.16b",
            "subs {turns}, {turns}, #1",
            "sdot {a2:v}.4s, {q:v}.16b, {z:v}.16b",
            "sdot {b2:v}.4s, {s:v}.16b, {z:v}.16b",
            "sdot {c2:v}.4s, {u:v}.16b, {z:v}.16b",
            "sdot {d2:v}.4s, {k:v}.16b, {z:v}.16b",
            "sdot {a3:v}.4s, {p:v}.16b, {m:v}.16b",
            "sdot {b3:v}.4s, {r:v}.16b, {m:v}.16b",
            "sdot {c3:v}.4s, {t:v}.16b, {m:v}.16b",
            "sdot {d3:v}.4s, {v:v}.16b, {m:v}.16b",
            "sdot {a3:v}.4s, {q:v}.16b, {n:v}.16b",
            "sdot {b3:v}.4s, {s:v}.16b, {n:v}.16b",
            "sdot {c3:v}.4s, {u:v}.16b, {n:v}.16b",
            "sdot {d3:v}.4s, {k:v}.16b, {n:v}.16b",
            "b.ne 2b",
            turns = inout(reg) turns => _,
            x0 = inout(reg) *x0, x1 = inout(reg) *x1, x2 = inout(reg) *x2, x3 = inout(reg) *x3,
            w0 = inout(reg) *w0, w1 = inout(reg) *w1, w2 = inout(reg) *w2, w3 = inout(reg) *w3,
            a0 = inout(vreg) *a0, a1 = inout(vreg) *a1, a2 = inout(vreg) *a2, a3 = inout(vreg) *a3,
            b0 = inout(vreg) *b0, b1 = inout(vreg) *b1, b2 = inout(vreg) *b2, b3 = inout(vreg) *b3,
            c0 = inout(vreg) *c0, c1 = inout(vreg) *c1, c2 = inout(vreg) *c2, c3 = inout(vreg) *c3,
            d0 = inout(vreg) *d0, d1 = inout(vreg) *d1, d2 = inout(vreg) *d2, d3 = inout(vreg) *d3,
            p = out(vreg) _, q = out(vreg) _, r = out(vreg) _, s = out(vreg) _,
            t = out(vreg) _, u = out(vreg) _, v = out(vreg) _, k = out(vreg) _,
            y = out(vreg) _, z = out(vreg) _, m = out(vreg) _, n = out(vreg) _,
            options(readonly, nostack)
        );
    }
}

/// Eight windows and eight filters, 16 taps per turn; sums are `[four filters][window]`, a filter per lane.
///
/// The filters are transposed on the way, so that a lane of a window meets four filters.
///
/// # Safety
/// The processor has SDOT, every pointer `16 * turns` readable bytes, and `turns` is at least 1. Pointers are advanced.
#[inline(always)]
pub unsafe fn dot_8x8(sums: &mut [int32x4_t; 16], x: &mut [*const i8; 8], w: &mut [*const i8; 8], turns: usize) {
    let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = sums;
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
    let [w0, w1, w2, w3, w4, w5, w6, w7] = w;
    // SAFETY: reads what the caller grants.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "2:",
            "ldr {x0v:q}, [{x0}], #16",
            "ldr {x1v:q}, [{x1}], #16",
            "ldr {x2v:q}, [{x2}], #16",
            "ldr {x3v:q}, [{x3}], #16",
            "ldr {x4v:q}, [{x4}], #16",
            "ldr {x5v:q}, [{x5}], #16",
            "ldr {x6v:q}, [{x6}], #16",
            "ldr {x7v:q}, [{x7}], #16",
            "ldr {t0:q}, [{w0}], #16",
            "ldr {t1:q}, [{w1}], #16",
            "ldr {t2:q}, [{w2}], #16",
            "ldr {t3:q}, [{w3}], #16",
            "trn1 {u0:v}.4s, {t0:v}.4s, {t1:v}.4s",
            "trn2 {u1:v}.4s, {t0:v}.4s, {t1:v}.4s",
            "trn1 {u2:v}.4s, {t2:v}.4s, {t3:v}.4s",
            "trn2 {u3:v}.4s, {t2:v}.4s, {t3:v}.4s",
            "trn1 {t0:v}.2d, {u0:v}.2d, {u2:v}.2d",
            "trn1 {t1:v}.2d, {u1:v}.2d, {u3:v}.2d",
            "trn2 {t2:v}.2d, {u0:v}.2d, {u2:v}.2d",
            "trn2 {t3:v}.2d, {u1:v}.2d, {u3:v}.2d",
            "sdot {a0:v}.4s, {t0:v}.16b, {x0v:v}.4b[0]",
            "sdot {a1:v}.4s, {t0:v}.16b, {x1v:v}.4b[0]",
            "sdot {a2:v}.4s, {t0:v}.16b, {x2v:v}.4b[0]",
            "sdot {a3:v}.4s, {t0:v}.16b, {x3v:v}.4b[0]",
            "sdot {a4:v}.4s, {t0:v}.16b, {x4v:v}.4b[0]",
            "sdot {a5:v}.4s, {t0:v}.16b, {x5v:v}.4b[0]",
            "sdot {a6:v}.4s, {t0:v}.16b, {x6v:v}.4b[0]",
            "sdot {a7:v}.4s, {t0:v}.16b, {x7v:v}.4b[0]",
            "sdot {a0:v}.4s, {t1:v}.16b, {x0v:v}.4b[1]",
            "sdot {a1:v}.4s, {t1:v}.16b, {x1v:v}.4b[1]",
            "sdot {a2:v}.4s, {t1:v}.16b, {x2v:v}.4b[1]",
            "sdot {a3:v}.4s, {t1:v}.16b, {x3v:v}.4b[1]",
            "sdot {a4:v}.4s, {t1:v}.16b, {x4v:v}.4b[1]",
            "sdot {a5:v}.4s, {t1:v}.16b, {x5v:v}.4b[1]",
            "sdot {a6:v}.4s, {t1:v}.16b, {x6v:v}.4b[1]",
            "sdot {a7:v}.4s, {t1:v}.16b, {x7v:v}.4b[1]",
            "sdot {a0:v}.4s, {t2:v}.16b, {x0v:v}.4b[2]",
            "sdot {a1:v}.4s, {t2:v}.16b, {x1v:v}.4b[2]",
            "sdot {a2:v}.4s, {t2:v}.16b, {x2v:v}.4b[2]",
            "sdot {a3:v}.4s, {t2:v}.16b, {x3v:v}.4b[2]",
            "sdot {a4:v}.4s, {t2:v}.16b, {x4v:v}.4b[2]",
            "sdot {a5:v}.4s, {t2:v}.16b, {x5v:v}.4b[2]",
            "sdot {a6:v}.4s, {t2:v}.16b, {x6v:v}.4b[2]",
            "sdot {a7:v}.4s, {t2:v}.16b, {x7v:v}.4b[2]",
            "sdot {a0:v}.4s, {t3:v}.16b, {x0v:v}.4b[3]",
            "sdot {a1:v}.4s, {t3:v}.16b, {x1v:v}.4b[3]",
            "sdot {a2:v}.4s, {t3:v}.16b, {x2v:v}.4b[3]",
            "sdot {a3:v}.4s, {t3:v}.16b, {x3v:v}.4b[3]",
            "sdot {a4:v}.4s, {t3:v}.16b, {x4v:v}.4b[3]",
            "sdot {a5:v}.4s, {t3:v}.16b, {x5v:v}.4b[3]",
            "sdot {a6:v}.4s, {t3:v}.16b, {x6v:v}.4b[3]",
            "sdot {a7:v}.4s, {t3:v}.16b, {x7v:v}.4b[3]",
            "ldr {t0:q}, [{w4}], #16",
            "ldr {t1:q}, [{w5}], #16",
            "ldr {t2:q}, [{w6}], #16",
            "ldr {t3:q}, [{w7}], #16",
            "trn1 {u0:v}.4s, {t0:v}.4s, {t1:v}.4s",
            "trn2 {u1:v}.4s, {t0:v}.4s, {t1:v}.4s",
            "trn1 {u2:v}.4s, {t2:v}.4s, {t3:v}.4s",
            "trn2 {u3:v}.4s, {t2:v}.4s, {t3:v}.4s",
            "trn1 {t0:v}.2d, {u0:v}.2d, {u2:v}.2d",
            "trn1 {t1:v}.2d, {u1:v}.2d, {u3:v}.2d",
            "trn2 {t2:v}.2d, {u0:v}.2d, {u2:v}.2d",
            "trn2 {t3:v}.2d, {u1:v}.2d, {u3:v}.2d",
            "sdot {b0:v}.4s, {t0:v}.16b, {x0v:v}.4b[0]",
            "sdot {b1:v}.4s, {t0:v}.16b, {x1v:v}.4b[0]",
            "sdot {b2:v}.4s, {t0:v}.16b, {x2v:v}.4b[0]",
            "sdot {b3:v}.4s, {t0:v}.16b, {x3v:v}.4b[0]",
            "sdot {b4:v}.4s, {t0:v}.16b, {x4v:v}.4b[0]",
            "sdot {b5:v}.4s, {t0:v}.16b, {x5v:v}.4b[0]",
            "sdot {b6:v}.4s, {t0:v}.16b, {x6v:v}.4b[0]",
            "sdot {b7:v}.4s, {t0:v}.16b, {x7v:v}.4b[0]",
            "sdot {b0:v}.4s, {t1:v}.16b, {x0v:v}.4b[1]",
            "sdot {b1:v}.4s, {t1:v}.16b, {x1v:v}.4b[1]",
            "sdot {b2:v}.4s, {t1:v}.16b, {x2v:v}.4b[1]",
            "sdot {b3:v}.4s, {t1:v}.16b, {x3v:v}.4b[1]",
            "sdot {b4:v}.4s, {t1:v}.16b, {x4v:v}.4b[1]",
            "sdot {b5:v}.4s, {t1:v}.16b, {x5v:v}.4b[1]",
            "sdot {b6:v}.4s, {t1:v}.16b, {x6v:v}.4b[1]",
            "sdot {b7:v}.4s, {t1:v}.16b, {x7v:v}.4b[1]",
            "sdot {b0:v}.4s, {t2:v}.16b, {x0v:v}.4b[2]",
            "sdot {b1:v}.4s, {t2:v}.16b, {x1v:v}.4b[2]",
            "sdot {b2:v}.4s, {t2:v}.16b, {x2v:v}.4b[2]",
            "sdot {b3:v}.4s, {t2:v}.16b, {x3v:v}.4b[2]",
            "sdot {b4:v}.4s, {t2:v}.16b, {x4v:v}.4b[2]",
            "sdot {b5:v}.4s, {t2:v}.16b, {x5v:v}.4b[2]",
            "sdot {b6:v}.4s, {t2:v}.16b, {x6v:v}.4b[2]",
            "sdot {b7:v}.4s, {t2:v}.16b, {x7v:v}.4b[2]",
            "subs {turns}, {turns}, #1",
            "sdot {b0:v}.4s, {t3:v}.16b, {x0v:v}.4b[3]",
            "sdot {b1:v}.4s, {t3:v}.16b, {x1v:v}.4b[3]",
            "sdot {b2:v}.4s, {t3:v}.16b, {x2v:v}.4b[3]",
            "sdot {b3:v}.4s, {t3:v}.16b, {x3v:v}.4b[3]",
            "sdot {b4:v}.4s, {t3:v}.16b, {x4v:v}.4b[3]",
            "sdot {b5:v}.4s, {t3:v}.16b, {x5v:v}.4b[3]",
            "sdot {b6:v}.4s, {t3:v}.16b, {x6v:v}.4b[3]",
            "sdot {b7:v}.4s, {t3:v}.16b, {x7v:v}.4b[3]",
            "b.ne 2b",
            turns = inout(reg) turns => _,
            x0 = inout(reg) *x0, x1 = inout(reg) *x1, x2 = inout(reg) *x2, x3 = inout(reg) *x3,
            x4 = inout(reg) *x4, x5 = inout(reg) *x5, x6 = inout(reg) *x6, x7 = inout(reg) *x7,
            w0 = inout(reg) *w0, w1 = inout(reg) *w1, w2 = inout(reg) *w2, w3 = inout(reg) *w3,
            w4 = inout(reg) *w4, w5 = inout(reg) *w5, w6 = inout(reg) *w6, w7 = inout(reg) *w7,
            a0 = inout(vreg) *a0, a1 = inout(vreg) *a1, a2 = inout(vreg) *a2, a3 = inout(vreg) *a3,
            a4 = inout(vreg) *a4, a5 = inout(vreg) *a5, a6 = inout(vreg) *a6, a7 = inout(vreg) *a7,
            b0 = inout(vreg) *b0, b1 = inout(vreg) *b1, b2 = inout(vreg) *b2, b3 = inout(vreg) *b3,
            b4 = inout(vreg) *b4, b5 = inout(vreg) *b5, b6 = inout(vreg) *b6, b7 = inout(vreg) *b7,
            x0v = out(vreg) _, x1v = out(vreg) _, x2v = out(vreg) _, x3v = out(vreg) _,
            x4v = out(vreg) _, x5v = out(vreg) _, x6v = out(vreg) _, x7v = out(vreg) _,
            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
            u0 = out(vreg) _, u1 = out(vreg) _, u2 = out(vreg) _, u3 = out(vreg) _,
            options(readonly, nostack)
        );
    }
}

/// [`sdot`] of sixteen `w` and four values of `x`: those of `LANE`, for every lane.
///
/// # Safety
/// The processor has SDOT.
#[inline(always)]
pub unsafe fn sdot_lane<const LANE: usize>(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]",
            inout(vreg) sums, in(vreg) w, in(vreg) x, const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Eight windows and eight filters, 16 taps per turn; sums are `[pair of windows][pair of filters]`, two by two each.
///
/// # Safety
/// The processor has SMMLA, every pointer `16 * turns` readable bytes, and `turns` is at least 1. Pointers are advanced.
#[inline(always)]
pub unsafe fn matrix_8x8(sums: &mut [int32x4_t; 16], x: &mut [*const i8; 8], w: &mut [*const i8; 8], turns: usize) {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = sums;
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
    let [w0, w1, w2, w3, w4, w5, w6, w7] = w;
    // SAFETY: reads what the caller grants.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "2:",
            "ldr {m:q}, [{x0}], #16",
            "ldr {n:q}, [{x1}], #16",
            "ldr {y:q}, [{x2}], #16",
            "ldr {z:q}, [{x3}], #16",
            "zip1 {p:v}.2d, {m:v}.2d, {n:v}.2d",
            "zip2 {q:v}.2d, {m:v}.2d, {n:v}.2d",
            "ldr {m:q}, [{x4}], #16",
            "ldr {n:q}, [{x5}], #16",
            "zip1 {r:v}.2d, {y:v}.2d, {z:v}.2d",
            "zip2 {s:v}.2d, {y:v}.2d, {z:v}.2d",
            "ldr {y:q}, [{x6}], #16",
            "ldr {z:q}, [{x7}], #16",
            "zip1 {t:v}.2d, {m:v}.2d, {n:v}.2d",
            "zip2 {u:v}.2d, {m:v}.2d, {n:v}.2d",
            "ldr {m:q}, [{w0}], #16",
            "ldr {n:q}, [{w1}], #16",
            "zip1 {v:v}.2d, {y:v}.2d, {z:v}.2d",
            "zip2 {k:v}.2d, {y:v}.2d, {z:v}.2d",
            "zip1 {y:v}.2d, {m:v}.2d, {n:v}.2d",
            "zip2 {z:v}.2d, {m:v}.2d, {n:v}.2d",
            "ldr {m:q}, [{w2}], #16",
            "ldr {n:q}, [{w3}], #16",
            "smmla {a0:v}.4s, {p:v}.16b, {y:v}.16b",
            "smmla {b0:v}.4s, {r:v}.16b, {y:v}.16b",
            "smmla {c0:v}.4s, {t:v}.16b, {y:v}.16b",
            "smmla {d0:v}.4s, {v:v}.16b, {y:v}.16b",
            "smmla {a0:v}.4s, {q:v}.16b, {z:v}.16b",
            "smmla {b0:v}.4s, {s:v}.16b, {z:v}.16b",
            "smmla {c0:v}.4s, {u:v}.16b, {z:v}.16b",
            "smmla {d0:v}.4s, {k:v}.16b, {z:v}.16b",
            "zip1 {y:v}.2d, {m:v}.2d, {n:v}.2d",
            "zip2 {z:v}.2d, {m:v}.2d, {n:v}.2d",
            "ldr {m:q}, [{w4}], #16",
            "ldr {n:q}, [{w5}], #16",
            "smmla {a1:v}.4s, {p:v}.16b, {y:v}.16b",
            "smmla {b1:v}.4s, {r:v}.16b, {y:v}.16b",
            "smmla {c1:v}.4s, {t:v}.16b, {y:v}.16b",
            "smmla {d1:v}.4s, {v:v}.16b, {y:v}.16b",
            "smmla {a1:v}.4s, {q:v}.16b, {z:v}.16b",
            "smmla {b1:v}.4s, {s:v}.16b, {z:v}.16b",
            "smmla {c1:v}.4s, {u:v}.16b, {z:v}.16b",
            "smmla {d1:v}.4s, {k:v}.16b, {z:v}.16b",
            "zip1 {y:v}.2d, {m:v}.2d, {n:v}.2d",
            "zip2 {z:v}.2d, {m:v}.2d, {n:v}.2d",
            "ldr {m:q}, [{w6}], #16",
            "ldr {n:q}, [{w7}], #16",
            "smmla {a2:v}.4s, {p:v}.16b, {y:v}.16b",
            "smmla {b2:v}.4s, {r:v}.16b, {y:v}.16b",
            "smmla {c2:v}.4s, {t:v}.16b, {y:v}.16b",
            "smmla {d2:v}.4s, {v:v}.16b, {y:v}.16b",
            "smmla {a2:v}.4s, {q:v}.16b, {z:v}.16b",
            "smmla {b2:v}.4s, {s:v}.16b, {z:v}.16b",
            "smmla {c2:v}.4s, {u:v}.16b, {z:v}.16b",
            "smmla {d2:v}.4s, {k:v}.16b, {z:v}.16b",
            "zip1 {y:v}.2d, {m:v}.2d, {n:v}.2d",
            "zip2 {z:v}.2d, {m:v}.2d, {n:v}.2d",
            "subs {turns}, {turns}, #1",
            "smmla {a3:v}.4s, {p:v}.16b, {y:v}.16b",
            "smmla {b3:v}.4s, {r:v}.16b, {y:v}.16b",
            "smmla {c3:v}.4s, {t:v}.16b, {y:v}.16b",
            "smmla {d3:v}.4s, {v:v}.16b, {y:v}.16b",
            "smmla {a3:v}.4s, {q:v}.16b, {z:v}.16b",
            "smmla {b3:v}.4s, {s:v}.16b, {z:v}.16b",
            "smmla {c3:v}.4s, {u:v}.16b, {z:v}.16b",
            "smmla {d3:v}.4s, {k:v}.16b, {z:v}.16b",
            "b.ne 2b",
            turns = inout(reg) turns => _,
            x0 = inout(reg) *x0, x1 = inout(reg) *x1, x2 = inout(reg) *x2, x3 = inout(reg) *x3,
            x4 = inout(reg) *x4, x5 = inout(reg) *x5, x6 = inout(reg) *x6, x7 = inout(reg) *x7,
            w0 = inout(reg) *w0, w1 = inout(reg) *w1, w2 = inout(reg) *w2, w3 = inout(reg) *w3,
            w4 = inout(reg) *w4, w5 = inout(reg) *w5, w6 = inout(reg) *w6, w7 = inout(reg) *w7,
            a0 = inout(vreg) *a0, a1 = inout(vreg) *a1, a2 = inout(vreg) *a2, a3 = inout(vreg) *a3,
            b0 = inout(vreg) *b0, b1 = inout(vreg) *b1, b2 = inout(vreg) *b2, b3 = inout(vreg) *b3,
            c0 = inout(vreg) *c0, c1 = inout(vreg) *c1, c2 = inout(vreg) *c2, c3 = inout(vreg) *c3,
            d0 = inout(vreg) *d0, d1 = inout(vreg) *d1, d2 = inout(vreg) *d2, d3 = inout(vreg) *d3,
            p = out(vreg) _, q = out(vreg) _, r = out(vreg) _, s = out(vreg) _,
            t = out(vreg) _, u = out(vreg) _, v = out(vreg) _, k = out(vreg) _,
            y = out(vreg) _, z = out(vreg) _, m = out(vreg) _, n = out(vreg) _,
            options(readonly, nostack)
        );
    }
}
