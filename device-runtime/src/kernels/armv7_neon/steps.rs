//! Parts of the functions in assembly that compute tiles of a convolution.
//!
//! Registers: r0 the [`Tile`](super::tile::Tile), r2 and r3 taps of the two windows, r4 to r7 weights of the four filters, r11
//! turns left, r12 the place of the next results, lr taps of a row and those before a tail; q8 to q11 sums of the first window,
//! q12 to q15 of the second.

/// Lets the assembler take the vectors, which the target does not have, and keeps what the caller wants back.
macro_rules! enter {
    () => {
        ".fpu neon\npush {{r4-r11, lr}}\nvpush {{d8-d15}}"
    };
}

/// Biases, multipliers and left shifts of the quad to the tables; pointers go on to the next. Changes r1 to r4.
macro_rules! tables {
    () => {
        "ldr r1, [r0, #{bias}]
        ldr r2, [r0, #{multiplier}]
        ldr r3, [r0, #{shift}]
        add r4, r0, #{shift_base}
        vld1.32 {{d0-d1}}, [r1]!
        vld1.32 {{d2-d3}}, [r2]!
        vld1.32 {{d4[0]}}, [r3]!
        vld1.32 {{d16[]}}, [r4]
        vmov d17, d16
        add r4, r0, #{tables}
        vmovl.u8 q2, d4
        vmovl.u16 q2, d4
        vsub.i32 q2, q8, q2
        str r1, [r0, #{bias}]
        str r2, [r0, #{multiplier}]
        str r3, [r0, #{shift}]
        vstmia r4, {{d0-d5}}"
    };
}

/// On to the next quad at label 10, or the end.
macro_rules! next_quad {
    () => {
        "ldr r1, [r0, #{place}]
        ldr r2, [r0, #{taps}]
        ldr r3, [r0, #{weights}]
        ldr r4, [r0, #{quads}]
        add r1, r1, #4
        add r3, r3, r2, lsl #2
        subs r4, r4, #1
        str r1, [r0, #{place}]
        str r3, [r0, #{weights}]
        str r4, [r0, #{quads}]
        bne 10b
        vpop {{d8-d15}}
        pop {{r4-r11, pc}}"
    };
}

/// Adds products of two windows to their sums.
macro_rules! add_pair {
    ($add:literal, $first:literal, $second:literal) => {
        concat!($add, ".s16 ", $first, ", q6\n", $add, ".s16 ", $second, ", q7\n")
    };
}

/// The first 16 taps of two windows and one filter, which are loaded.
macro_rules! sixteen {
    ($add:literal, $first:literal, $second:literal) => {
        concat!(
            "vmull.s8 q6, d0, d8\n",
            "vmull.s8 q7, d4, d8\n",
            "vmlal.s8 q6, d1, d9\n",
            "vmlal.s8 q7, d5, d9\n",
            add_pair!($add, $first, $second),
        )
    };
}

/// Two windows and one filter, 32 taps: q0 to q3 the windows', `$add` is `vpaddl` for the first and `vpadal` for later ones.
macro_rules! pair_32 {
    ($add:literal, $weights:literal, $first:literal, $second:literal) => {
        concat!(
            "vld1.8 {{d8-d11}}, [",
            $weights,
            "]!\n",
            sixteen!($add, $first, $second),
            "vmull.s8 q6, d2, d10\n",
            "vmull.s8 q7, d6, d10\n",
            "vmlal.s8 q6, d3, d11\n",
            "vmlal.s8 q7, d7, d11\n",
            add_pair!("vpadal", $first, $second),
        )
    };
}

/// Two windows and one filter, 16 taps: q0 and q2 the windows'.
macro_rules! pair_16 {
    ($add:literal, $weights:literal, $first:literal, $second:literal) => {
        concat!("vld1.8 {{d8-d9}}, [", $weights, "]!\n", sixteen!($add, $first, $second),)
    };
}

/// Two windows and one filter, 8 taps: d0 and d4 the windows'.
macro_rules! pair_8 {
    ($add:literal, $weights:literal, $first:literal, $second:literal) => {
        concat!(
            "vld1.8 {{d8}}, [",
            $weights,
            "]!\n",
            "vmull.s8 q6, d0, d8\n",
            "vmull.s8 q7, d4, d8\n",
            add_pair!($add, $first, $second),
        )
    };
}

/// Two windows and all four filters.
macro_rules! pair {
    ($step:ident, $add:literal) => {
        concat!(
            $step!($add, "r4", "q8", "q12"),
            $step!($add, "r5", "q9", "q13"),
            $step!($add, "r6", "q10", "q14"),
            $step!($add, "r7", "q11", "q15")
        )
    };
}

/// Sums of two windows to results in d0. `$shift` is `vshl.s32` where [`Landings`](super::finish::Landings) has bits, otherwise
/// a comment. Changes `$address`.
macro_rules! finish_pair {
    ($shift:literal, $address:literal) => {
        concat!(
            "add ",
            $address,
            ", r0, #{tables}\n",
            "vpadd.i32 d16, d16, d17\n",
            "vpadd.i32 d18, d18, d19\n",
            "vpadd.i32 d20, d20, d21\n",
            "vpadd.i32 d22, d22, d23\n",
            "vpadd.i32 d24, d24, d25\n",
            "vpadd.i32 d26, d26, d27\n",
            "vpadd.i32 d28, d28, d29\n",
            "vpadd.i32 d30, d30, d31\n",
            "vpadd.i32 d0, d16, d18\n",
            "vpadd.i32 d1, d20, d22\n",
            "vpadd.i32 d2, d24, d26\n",
            "vpadd.i32 d3, d28, d30\n",
            "vldmia ",
            $address,
            ", {{d16-d27}}\n",
            "vadd.i32 q0, q0, q8\n",
            "vadd.i32 q1, q1, q8\n",
            $shift,
            " q0, q0, q11\n",
            $shift,
            " q1, q1, q11\n",
            "vqdmulh.s32 q0, q0, q9\n",
            "vqdmulh.s32 q1, q1, q9\n",
            "vrshl.s32 q0, q0, q10\n",
            "vrshl.s32 q1, q1, q10\n",
            "vqmovn.s32 d0, q0\n",
            "vqmovn.s32 d1, q1\n",
            "vqadd.s16 q0, q0, q12\n",
            "vqmovn.s16 d0, q0\n",
            "vmax.s8 d0, d0, d26\n",
            "vmin.s8 d0, d0, d27\n",
        )
    };
}

/// One window and one filter, 32 taps: q0 and q1 the window's.
macro_rules! single_32 {
    ($weights:literal, $sums:literal) => {
        concat!(
            "vld1.8 {{d8-d11}}, [",
            $weights,
            "]!\n",
            "vmull.s8 q6, d0, d8\n",
            "vmull.s8 q7, d1, d9\n",
            "vmull.s8 q2, d2, d10\n",
            "vmull.s8 q3, d3, d11\n",
            "vpadal.s16 ",
            $sums,
            ", q6\n",
            "vpadal.s16 ",
            $sums,
            ", q7\n",
            "vpadal.s16 ",
            $sums,
            ", q2\n",
            "vpadal.s16 ",
            $sums,
            ", q3\n",
        )
    };
}

/// One window and one filter, 8 taps: d0 the window's.
macro_rules! single_8 {
    ($weights:literal, $sums:literal) => {
        concat!("vld1.8 {{d8}}, [", $weights, "]!\n", "vmull.s8 q6, d0, d8\n", "vpadal.s16 ", $sums, ", q6\n",)
    };
}

/// One window and all four filters.
macro_rules! single {
    ($step:ident) => {
        concat!($step!("r4", "q8"), $step!("r5", "q9"), $step!("r6", "q10"), $step!("r7", "q11"))
    };
}

/// A function of a tile from its assembly, with the offsets that the parts name.
macro_rules! tile_function {
    ($(#[$doc:meta])* $name:ident, $($code:expr,)*) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(tile: &mut Tile) {
            core::arch::naked_asm!(
                $($code,)*
                // All functions know all offsets, whether they use them or not.
                "// {rows} {row_count} {len} {tails} {input} {weights} {taps} {quads} {bias} {multiplier} {shift} {place}",
                "// {step} {turns} {shift_base} {tables}",
                rows = const offset_of!(Tile, rows),
                row_count = const offset_of!(Tile, row_count),
                len = const offset_of!(Tile, len),
                tails = const offset_of!(Tile, tails),
                input = const offset_of!(Tile, input),
                weights = const offset_of!(Tile, weights),
                taps = const offset_of!(Tile, taps),
                quads = const offset_of!(Tile, quads),
                bias = const offset_of!(Tile, bias),
                multiplier = const offset_of!(Tile, multiplier),
                shift = const offset_of!(Tile, shift),
                place = const offset_of!(Tile, place),
                step = const offset_of!(Tile, step),
                turns = const offset_of!(Tile, turns),
                shift_base = const offset_of!(Tile, shift_base),
                tables = const offset_of!(Tile, tables),
            )
        }
    };
}
