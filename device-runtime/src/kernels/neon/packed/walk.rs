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

/// Sums of a panel and a block of eight windows, [`walk`]ed with `$many` and `$one`, for which vectors of the names `$spare` are free.
/// Names of sums: `a0` to `d3`.
macro_rules! eight_windows {
    ($taps:expr, $sums:expr, $x:expr, $weights:expr, $extension:literal, $shift:literal, $many:expr, $one:expr, $($spare:ident),*) => {{
        let taps = $taps;
        let [[mut a0, mut a1, mut a2, mut a3], [mut b0, mut b1, mut b2, mut b3], c, d] = $sums;
        let ([mut c0, mut c1, mut c2, mut c3], [mut d0, mut d1, mut d2, mut d3]) = (c, d);
        asm!(
            $extension,
            walk!($shift, $many, $one),
            t = out(reg) _, n = in(reg) taps.units, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            x = inout(reg) $x => _, w = inout(reg) $weights => _,
            a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
            b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
            c0 = inout(vreg) c0, c1 = inout(vreg) c1, c2 = inout(vreg) c2, c3 = inout(vreg) c3,
            d0 = inout(vreg) d0, d1 = inout(vreg) d1, d2 = inout(vreg) d2, d3 = inout(vreg) d3,
            $($spare = out(vreg) _,)*
            options(readonly, nostack)
        );
        [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]]
    }};
}

/// As [`eight_windows`], of four.
macro_rules! four_windows {
    ($taps:expr, $sums:expr, $x:expr, $weights:expr, $extension:literal, $shift:literal, $many:expr, $one:expr, $($spare:ident),*) => {{
        let taps = $taps;
        let [[mut a0, mut a1, mut a2, mut a3], [mut b0, mut b1, mut b2, mut b3]] = $sums;
        asm!(
            $extension,
            walk!($shift, $many, $one),
            t = out(reg) _, n = in(reg) taps.units, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            x = inout(reg) $x => _, w = inout(reg) $weights => _,
            a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
            b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
            $($spare = out(vreg) _,)*
            options(readonly, nostack)
        );
        [[a0, a1, a2, a3], [b0, b1, b2, b3]]
    }};
}

/// As [`eight_windows`], of one.
macro_rules! one_window {
    ($taps:expr, $sums:expr, $x:expr, $weights:expr, $extension:literal, $shift:literal, $many:expr, $one:expr, $($spare:ident),*) => {{
        let taps = $taps;
        let [mut a0, mut a1, mut a2, mut a3] = $sums;
        asm!(
            $extension,
            walk!($shift, $many, $one),
            t = out(reg) _, n = in(reg) taps.units, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            x = inout(reg) $x => _, w = inout(reg) $weights => _,
            a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
            $($spare = out(vreg) _,)*
            options(readonly, nostack)
        );
        [a0, a1, a2, a3]
    }};
}
