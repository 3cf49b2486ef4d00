//! What the kernels share: the walk over the units of a block's kernel rows, as text of assembly.
//!
//! Operands: `x` the block, `w` the panel, `n`, `jump` and `rows` as `units`, `jump` and `rows` of [`Taps`](super::Taps), `t` counts.

/// All taps: `$many` does two to the power of `$shift` units, `$one` one.
macro_rules! walk {
    ($shift:literal, $many:expr, $one:expr) => {
        concat!(
            "2:\n",
            "lsr {t}, {n}, #",
            $shift,
            "\n",
            "cbz {t}, 4f\n",
            "3:\n",
            "subs {t}, {t}, #1\n",
            $many,
            "b.ne 3b\n",
            "4:\n",
            "ands {t}, {n}, #(1 << ",
            $shift,
            ") - 1\n",
            "b.eq 6f\n",
            "5:\n",
            "subs {t}, {t}, #1\n",
            $one,
            "b.ne 5b\n",
            "6:\n",
            "add {x}, {x}, {jump}\n",
            "subs {rows}, {rows}, #1\n",
            "b.ne 2b\n",
        )
    };
}

/// Loads 64 bytes of windows.
macro_rules! values {
    () => {
        "ld1 {{v0.16b-v3.16b}}, [{x}], #64\n"
    };
}

/// Loads 64 bytes of weights.
macro_rules! weights {
    () => {
        "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n"
    };
}

/// Sums of a panel and a block of windows, whose names are given, [`walk`]ed with `$many` and `$one`, for which `v0` to `v7` are free.
macro_rules! windows {
    (
        [$([$s0:ident, $s1:ident, $s2:ident, $s3:ident]),+],
        $taps:expr, $sums:expr, $x:expr, $weights:expr, $extension:literal, $shift:literal, $many:expr, $one:expr
    ) => {{
        let taps = $taps;
        let [$([mut $s0, mut $s1, mut $s2, mut $s3]),+] = $sums;
        asm!(
            $extension,
            walk!($shift, $many, $one),
            t = out(reg) _, n = in(reg) taps.units, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            x = inout(reg) $x => _, w = inout(reg) $weights => _,
            $($s0 = inout(vreg) $s0, $s1 = inout(vreg) $s1, $s2 = inout(vreg) $s2, $s3 = inout(vreg) $s3,)+
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            options(readonly, nostack)
        );
        [$([$s0, $s1, $s2, $s3]),+]
    }};
}

/// [`windows`] of a block of eight.
macro_rules! eight_windows {
    ($($rest:tt)*) => {
        windows!([[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]], $($rest)*)
    };
}

/// [`windows`] of a block of four.
macro_rules! four_windows {
    ($($rest:tt)*) => { windows!([[a0, a1, a2, a3], [b0, b1, b2, b3]], $($rest)*) };
}

/// [`windows`] of a block of one.
macro_rules! one_window {
    ($taps:expr, $sums:expr, $($rest:tt)*) => {{
        let [sums] = windows!([[a0, a1, a2, a3]], $taps, [$sums], $($rest)*);
        sums
    }};
}

/// As [`one_window`], whose two vectors of sums are had as sums of two each: `a0` and `a2`, `a1` and `a3`.
macro_rules! one_window_twice {
    ($taps:expr, [$low:ident, $high:ident], $($rest:tt)*) => {{
        let zero = vdupq_n_s32(0);
        let [a, b, c, d] = one_window!($taps, [$low, $high, zero, zero], $($rest)*);
        let (low, high) = (vaddq_s32(a, c), vaddq_s32(b, d));
        [low, high, low, high]
    }};
}
