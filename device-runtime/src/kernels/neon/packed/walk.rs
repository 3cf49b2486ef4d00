//! What kernels of four taps at a time share: the walk over the rows of eight, four or one window, as text of assembly.
//!
//! Operands: `v0` to `v7` the windows' taps, `x0` to `x7` where they are, `w` the panel, `n`, `jump` and `rows` as in
//! [`Taps`](super::Taps), `t` counts.

/// A text for each of so many windows: `$one!` of the window's number and of what follows.
macro_rules! windows {
    (1, $one:ident $(, $more:literal)*) => { $one!("0" $(, $more)*) };
    (4, $one:ident $(, $more:literal)*) => {
        concat!(
            $one!("0" $(, $more)*), $one!("1" $(, $more)*), $one!("2" $(, $more)*), $one!("3" $(, $more)*)
        )
    };
    (8, $one:ident $(, $more:literal)*) => {
        concat!(
            $one!("0" $(, $more)*), $one!("1" $(, $more)*), $one!("2" $(, $more)*), $one!("3" $(, $more)*),
            $one!("4" $(, $more)*), $one!("5" $(, $more)*), $one!("6" $(, $more)*), $one!("7" $(, $more)*)
        )
    };
}

/// The next taps of a window, in a register of the given size.
macro_rules! load {
    ($i:literal, $size:literal, $bytes:literal) => {
        concat!("ldr {v", $i, ":", $size, "}, [{x", $i, "}], #", $bytes, "\n")
    };
}

/// On to the window's next row.
macro_rules! advance {
    ($i:literal) => {
        concat!("add {x", $i, "}, {x", $i, "}, {jump}\n")
    };
}

/// From a row to the label 2, or past the last row. Eight windows are not moved behind their last row.
macro_rules! next_row {
    (8) => {
        concat!("subs {rows}, {rows}, #1\n", "b.eq 7f\n", windows!(8, advance), "b 2b\n", "7:\n")
    };
    ($count:tt) => {
        concat!(windows!($count, advance), "subs {rows}, {rows}, #1\n", "b.ne 2b\n")
    };
}

/// All taps: sixteen at a time, then eight, then four. `$quad!` of the number of windows and of the place among the taps that were
/// loaded does four of them.
macro_rules! walk {
    ($count:tt, $quad:ident) => {
        concat!(
            "2:\n",
            "lsr {t}, {n}, #4\n",
            "cbz {t}, 4f\n",
            "3:\n",
            windows!($count, load, "q", "16"),
            "subs {t}, {t}, #1\n",
            $quad!($count, 0),
            $quad!($count, 1),
            $quad!($count, 2),
            $quad!($count, 3),
            "b.ne 3b\n",
            "4:\n",
            "tbz {n}, #3, 5f\n",
            windows!($count, load, "d", "8"),
            $quad!($count, 0),
            $quad!($count, 1),
            "5:\n",
            "tbz {n}, #2, 6f\n",
            windows!($count, load, "s", "4"),
            $quad!($count, 0),
            "6:\n",
            next_row!($count),
        )
    };
}

/// Sums of a panel and eight windows by a [`walk`] with `$quad`, for which vectors of the names `$spare` are free.
macro_rules! eight_windows {
    ($taps:expr, $bias:expr, $x:expr, $weights:expr, $extension:literal, $quad:ident $(, $spare:ident)*) => {{
        let (taps, [a, b], x) = ($taps, $bias, $x);
        let [mut a0, mut a1, mut a2, mut a3, mut a4, mut a5, mut a6, mut a7] = [a; 8];
        let [mut b0, mut b1, mut b2, mut b3, mut b4, mut b5, mut b6, mut b7] = [b; 8];
        asm!(
            $extension,
            walk!(8, $quad),
            t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            w = inout(reg) $weights => _,
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
            $($spare = out(vreg) _,)*
            options(readonly, nostack)
        );
        [[a0, b0], [a1, b1], [a2, b2], [a3, b3], [a4, b4], [a5, b5], [a6, b6], [a7, b7]]
    }};
}

/// As [`eight_windows`], of four.
macro_rules! four_windows {
    ($taps:expr, $bias:expr, $x:expr, $weights:expr, $extension:literal, $quad:ident $(, $spare:ident)*) => {{
        let (taps, [a, b], x) = ($taps, $bias, $x);
        let [mut a0, mut a1, mut a2, mut a3] = [a; 4];
        let [mut b0, mut b1, mut b2, mut b3] = [b; 4];
        asm!(
            $extension,
            walk!(4, $quad),
            t = out(reg) _, n = in(reg) taps.row_taps, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            w = inout(reg) $weights => _,
            x0 = inout(reg) x[0] => _, x1 = inout(reg) x[1] => _,
            x2 = inout(reg) x[2] => _, x3 = inout(reg) x[3] => _,
            a0 = inout(vreg) a0, a1 = inout(vreg) a1, a2 = inout(vreg) a2, a3 = inout(vreg) a3,
            b0 = inout(vreg) b0, b1 = inout(vreg) b1, b2 = inout(vreg) b2, b3 = inout(vreg) b3,
            v0 = out(vreg) _, v1 = out(vreg) _, v2 = out(vreg) _, v3 = out(vreg) _,
            wa = out(vreg) _, wb = out(vreg) _,
            $($spare = out(vreg) _,)*
            options(readonly, nostack)
        );
        [[a0, b0], [a1, b1], [a2, b2], [a3, b3]]
    }};
}
