//! Kernels with SDOT: a vector holds four taps of four filters, and meets four taps of a window, taken by lane.

use core::arch::asm;

use super::{Kernel, Sums, Taps};

/// SDOT by lane.
pub struct Dot;

/// Four taps of eight filters for eight windows.
macro_rules! eight {
    ($lane:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "sdot {a0:v}.4s, {wa:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
            "sdot {a1:v}.4s, {wa:v}.16b, {v1:v}.4b[",
            $lane,
            "]\n",
            "sdot {a2:v}.4s, {wa:v}.16b, {v2:v}.4b[",
            $lane,
            "]\n",
            "sdot {a3:v}.4s, {wa:v}.16b, {v3:v}.4b[",
            $lane,
            "]\n",
            "sdot {a4:v}.4s, {wa:v}.16b, {v4:v}.4b[",
            $lane,
            "]\n",
            "sdot {a5:v}.4s, {wa:v}.16b, {v5:v}.4b[",
            $lane,
            "]\n",
            "sdot {a6:v}.4s, {wa:v}.16b, {v6:v}.4b[",
            $lane,
            "]\n",
            "sdot {a7:v}.4s, {wa:v}.16b, {v7:v}.4b[",
            $lane,
            "]\n",
            "sdot {b0:v}.4s, {wb:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
            "sdot {b1:v}.4s, {wb:v}.16b, {v1:v}.4b[",
            $lane,
            "]\n",
            "sdot {b2:v}.4s, {wb:v}.16b, {v2:v}.4b[",
            $lane,
            "]\n",
            "sdot {b3:v}.4s, {wb:v}.16b, {v3:v}.4b[",
            $lane,
            "]\n",
            "sdot {b4:v}.4s, {wb:v}.16b, {v4:v}.4b[",
            $lane,
            "]\n",
            "sdot {b5:v}.4s, {wb:v}.16b, {v5:v}.4b[",
            $lane,
            "]\n",
            "sdot {b6:v}.4s, {wb:v}.16b, {v6:v}.4b[",
            $lane,
            "]\n",
            "sdot {b7:v}.4s, {wb:v}.16b, {v7:v}.4b[",
            $lane,
            "]\n",
        )
    };
}

/// Four taps of eight filters for four windows.
macro_rules! four {
    ($lane:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "sdot {a0:v}.4s, {wa:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
            "sdot {a1:v}.4s, {wa:v}.16b, {v1:v}.4b[",
            $lane,
            "]\n",
            "sdot {a2:v}.4s, {wa:v}.16b, {v2:v}.4b[",
            $lane,
            "]\n",
            "sdot {a3:v}.4s, {wa:v}.16b, {v3:v}.4b[",
            $lane,
            "]\n",
            "sdot {b0:v}.4s, {wb:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
            "sdot {b1:v}.4s, {wb:v}.16b, {v1:v}.4b[",
            $lane,
            "]\n",
            "sdot {b2:v}.4s, {wb:v}.16b, {v2:v}.4b[",
            $lane,
            "]\n",
            "sdot {b3:v}.4s, {wb:v}.16b, {v3:v}.4b[",
            $lane,
            "]\n",
        )
    };
}

/// Four taps of eight filters for one window; even lanes and odd ones add to sums of their own.
macro_rules! one {
    ($lane:literal, $a:literal, $b:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            "sdot {",
            $a,
            ":v}.4s, {wa:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
            "sdot {",
            $b,
            ":v}.4s, {wb:v}.16b, {v0:v}.4b[",
            $lane,
            "]\n",
        )
    };
}

impl Kernel for Dot {
    #[inline(always)]
    unsafe fn eight(taps: Taps, [a, b]: Sums, x: [*const i8; 8], weights: *const i8) -> [Sums; 8] {
        let [mut a0, mut a1, mut a2, mut a3, mut a4, mut a5, mut a6, mut a7] = [a; 8];
        let [mut b0, mut b1, mut b2, mut b3, mut b4, mut b5, mut b6, mut b7] = [b; 8];
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "2:",
                "lsr {t}, {n}, #4",
                "cbz {t}, 4f",
                "3:",
                "ldr {v0:q}, [{x0}], #16",
                "ldr {v1:q}, [{x1}], #16",
                "ldr {v2:q}, [{x2}], #16",
                "ldr {v3:q}, [{x3}], #16",
                "ldr {v4:q}, [{x4}], #16",
                "ldr {v5:q}, [{x5}], #16",
                "ldr {v6:q}, [{x6}], #16",
                "ldr {v7:q}, [{x7}], #16",
                "subs {t}, {t}, #1",
                eight!("0"),
                eight!("1"),
                eight!("2"),
                eight!("3"),
                "b.ne 3b",
                "4:",
                "tbz {n}, #3, 5f",
                "ldr {v0:d}, [{x0}], #8",
                "ldr {v1:d}, [{x1}], #8",
                "ldr {v2:d}, [{x2}], #8",
                "ldr {v3:d}, [{x3}], #8",
                "ldr {v4:d}, [{x4}], #8",
                "ldr {v5:d}, [{x5}], #8",
                "ldr {v6:d}, [{x6}], #8",
                "ldr {v7:d}, [{x7}], #8",
                eight!("0"),
                eight!("1"),
                "5:",
                "tbz {n}, #2, 6f",
                "ldr {v0:s}, [{x0}], #4",
                "ldr {v1:s}, [{x1}], #4",
                "ldr {v2:s}, [{x2}], #4",
                "ldr {v3:s}, [{x3}], #4",
                "ldr {v4:s}, [{x4}], #4",
                "ldr {v5:s}, [{x5}], #4",
                "ldr {v6:s}, [{x6}], #4",
                "ldr {v7:s}, [{x7}], #4",
                eight!("0"),
                "6:",
                "subs {rows}, {rows}, #1",
                "b.eq 7f",
                "add {x0}, {x0}, {jump}",
                "add {x1}, {x1}, {jump}",
                "add {x2}, {x2}, {jump}",
                "add {x3}, {x3}, {jump}",
                "add {x4}, {x4}, {jump}",
                "add {x5}, {x5}, {jump}",
                "add {x6}, {x6}, {jump}",
                "add {x7}, {x7}, {jump}",
                "b 2b",
                "7:",
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _,
                x0 = inout(reg) x[0] => _, x1 = inout(reg) x[1] => _, x2 = inout(reg) x[2] => _,
                x3 = inout(reg) x[3] => _, x4 = inout(reg) x[4] => _, x5 = inout(reg) x[5] => _,
                x6 = inout(reg) x[6] => _, x7 = inout(reg) x[7] => _,
                a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
                a4 = inout(vreg) a4, a5 = inout(vreg) a5, a6 = inout(vreg) a6, a7 = inout(vreg) a7,
                b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
                b4 = inout(vreg) b4, b5 = inout(vreg) b5, b6 = inout(vreg) b6, b7 = inout(vreg) b7,
                v0 = out(vreg) _, v1 = out(vreg) _, v2 = out(vreg) _, v3 = out(vreg) _,
                v4 = out(vreg) _, v5 = out(vreg) _, v6 = out(vreg) _, v7 = out(vreg) _,
                wa = out(vreg) _, wb = out(vreg) _,
                options(readonly, nostack)
            );
        }
        [[a0, b0], [a1, b1], [a2, b2], [a3, b3], [a4, b4], [a5, b5], [a6, b6], [a7, b7]]
    }

    #[inline(always)]
    unsafe fn four(taps: Taps, [a, b]: Sums, x: [*const i8; 4], weights: *const i8) -> [Sums; 4] {
        let [mut a0, mut a1, mut a2, mut a3] = [a; 4];
        let [mut b0, mut b1, mut b2, mut b3] = [b; 4];
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "2:",
                "lsr {t}, {n}, #4",
                "cbz {t}, 4f",
                "3:",
                "ldr {v0:q}, [{x0}], #16",
                "ldr {v1:q}, [{x1}], #16",
                "ldr {v2:q}, [{x2}], #16",
                "ldr {v3:q}, [{x3}], #16",
                "subs {t}, {t}, #1",
                four!("0"),
                four!("1"),
                four!("2"),
                four!("3"),
                "b.ne 3b",
                "4:",
                "tbz {n}, #3, 5f",
                "ldr {v0:d}, [{x0}], #8",
                "ldr {v1:d}, [{x1}], #8",
                "ldr {v2:d}, [{x2}], #8",
                "ldr {v3:d}, [{x3}], #8",
                four!("0"),
                four!("1"),
                "5:",
                "tbz {n}, #2, 6f",
                "ldr {v0:s}, [{x0}], #4",
                "ldr {v1:s}, [{x1}], #4",
                "ldr {v2:s}, [{x2}], #4",
                "ldr {v3:s}, [{x3}], #4",
                four!("0"),
                "6:",
                "add {x0}, {x0}, {jump}",
                "add {x1}, {x1}, {jump}",
                "add {x2}, {x2}, {jump}",
                "add {x3}, {x3}, {jump}",
                "subs {rows}, {rows}, #1",
                "b.ne 2b",
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _,
                x0 = inout(reg) x[0] => _, x1 = inout(reg) x[1] => _,
                x2 = inout(reg) x[2] => _, x3 = inout(reg) x[3] => _,
                a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
                b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
                v0 = out(vreg) _, v1 = out(vreg) _, v2 = out(vreg) _, v3 = out(vreg) _,
                wa = out(vreg) _, wb = out(vreg) _,
                options(readonly, nostack)
            );
        }
        [[a0, b0], [a1, b1], [a2, b2], [a3, b3]]
    }

    #[inline(always)]
    unsafe fn one(taps: Taps, [mut a0, mut b0]: Sums, x: *const i8, weights: *const i8) -> Sums {
        // SAFETY: reads what the caller grants.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "movi {a1:v}.4s, #0",
                "movi {b1:v}.4s, #0",
                "2:",
                "lsr {t}, {n}, #4",
                "cbz {t}, 4f",
                "3:",
                "ldr {v0:q}, [{x0}], #16",
                "subs {t}, {t}, #1",
                one!("0", "a0", "b0"),
                one!("1", "a1", "b1"),
                one!("2", "a0", "b0"),
                one!("3", "a1", "b1"),
                "b.ne 3b",
                "4:",
                "tbz {n}, #3, 5f",
                "ldr {v0:d}, [{x0}], #8",
                one!("0", "a0", "b0"),
                one!("1", "a1", "b1"),
                "5:",
                "tbz {n}, #2, 6f",
                "ldr {v0:s}, [{x0}], #4",
                one!("0", "a0", "b0"),
                "6:",
                "add {x0}, {x0}, {jump}",
                "subs {rows}, {rows}, #1",
                "b.ne 2b",
                "add {a0:v}.4s, {a0:v}.4s, {a1:v}.4s",
                "add {b0:v}.4s, {b0:v}.4s, {b1:v}.4s",
                t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
                w = inout(reg) weights => _, x0 = inout(reg) x => _,
                a0 = inout(vreg) a0, a1 = out(vreg) _, b0 = inout(vreg) b0, b1 = out(vreg) _,
                v0 = out(vreg) _, wa = out(vreg) _, wb = out(vreg) _,
                options(readonly, nostack)
            );
        }
        [a0, b0]
    }
}
