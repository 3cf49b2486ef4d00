//! What the kernels share: the walk over the units of a block's kernel rows, as text of assembly.
//!
//! Operands: `bias` what sums start with, `x` the block, `w` the panel, `n`, `jump` and `rows` as `units`, `jump` and `rows` of
//! [`Taps`](super::Taps), `t` counts. Sums are in `v16` to `v31`, four for every two windows, and those of four windows more in `v8` to
//! `v15`.

/// All taps: `$many` does two to the power of `$shift` units, and every `$some` two to the power of its `$bit`, which are lower.
macro_rules! walk {
    ($shift:literal, $many:expr, $($bit:literal, $some:expr),+) => {
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
            $("tbz {n}, #", $bit, ", 5f\n", $some, "5:\n",)+
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

/// Sums of a panel and a block of windows, whose names and registers are given, [`walk`]ed with `$units`, for which `v0` to `v7` are
/// free. Moves `$weights` behind the panel.
macro_rules! windows {
    (
        [$([$($sum:ident $register:tt),+]),+],
        $taps:expr, $bias:expr, $x:expr, $weights:expr, $extension:literal, $start:expr, $($units:expr),+
    ) => {{
        let taps = $taps;
        $($(let $sum;)+)+
        asm!(
            $extension,
            $start,
            walk!($($units),+),
            t = out(reg) _, n = in(reg) taps.units, jump = in(reg) taps.jump, rows = inout(reg) taps.rows => _,
            bias = in(reg) $bias, x = inout(reg) $x => _, w = inout(reg) *$weights,
            $($(out($register) $sum,)+)+
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            options(readonly, nostack)
        );
        [$([$($sum),+]),+]
    }};
}

/// [`windows`] of a block of twelve.
macro_rules! twelve_windows {
    ($($rest:tt)*) => {
        windows!(
            [
                [a0 "v16", a1 "v17", a2 "v18", a3 "v19"],
                [b0 "v20", b1 "v21", b2 "v22", b3 "v23"],
                [c0 "v24", c1 "v25", c2 "v26", c3 "v27"],
                [d0 "v28", d1 "v29", d2 "v30", d3 "v31"],
                [e0 "v8", e1 "v9", e2 "v10", e3 "v11"],
                [f0 "v12", f1 "v13", f2 "v14", f3 "v15"]
            ],
            $($rest)*
        )
    };
}

/// [`windows`] of a block of four.
macro_rules! four_windows {
    ($($rest:tt)*) => {
        windows!([[a0 "v16", a1 "v17", a2 "v18", a3 "v19"], [b0 "v20", b1 "v21", b2 "v22", b3 "v23"]], $($rest)*)
    };
}

/// [`windows`] of a block of one.
macro_rules! one_window {
    ($($rest:tt)*) => {{
        let [sums] = windows!([[a0 "v16", a1 "v17", a2 "v18", a3 "v19"]], $($rest)*);
        sums
    }};
}

/// Starts the sums of two windows, from the first one's on, with the biases of eight filters for each.
macro_rules! start {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!("ldp q", $a, ", q", $b, ", [{bias}]\n", "ldp q", $c, ", q", $d, ", [{bias}]\n")
    };
}

/// [`start`] of a block of twelve.
macro_rules! start_twelve {
    () => {
        concat!(
            start_four!(),
            start!(24, 25, 26, 27),
            start!(28, 29, 30, 31),
            start!(8, 9, 10, 11),
            start!(12, 13, 14, 15)
        )
    };
}

/// [`start`] of a block of four.
macro_rules! start_four {
    () => {
        concat!(start!(16, 17, 18, 19), start!(20, 21, 22, 23))
    };
}

/// As [`one_window`], whose two vectors of sums are had as sums of two each: the first and third, the others.
macro_rules! one_window_twice {
    ($taps:expr, $bias:expr, $x:expr, $weights:expr, $extension:literal, $($units:expr),+) => {{
        let [a, b, c, d] = one_window!(
            $taps, $bias, $x, $weights, $extension,
            "ldp q16, q17, [{bias}]\nmovi v18.4s, #0\nmovi v19.4s, #0", $($units),+
        );
        let (low, high) = (vaddq_s32(a, c), vaddq_s32(b, d));
        [low, high, low, high]
    }};
}
