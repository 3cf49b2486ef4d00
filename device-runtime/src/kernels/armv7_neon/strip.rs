//! Strips of a 3x3 depthwise convolution in assembly: eight channels of adjacent outputs of a row.

use core::arch::naked_asm;

use super::finish::Landings;

/// What a strip reads and writes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Lines {
    /// First channel of the first column, per kernel row.
    pub rows: [*const i8; 3],
    /// Bytes from column to column, per kernel row.
    pub steps: [usize; 3],
    /// Bytes from behind the last column of an output to the first column of the next, per kernel row. [`sliding`] takes
    /// outputs one column apart and needs none.
    pub advances: [isize; 3],
    /// Where the first result goes.
    pub place: *mut i8,
    /// Bytes from output to output.
    pub step: usize,
    /// Outputs, at least 1.
    pub count: usize,
}

/// Weights, `[kernel row][kernel column]`, and biases of eight channels.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Filters {
    /// Weights.
    pub weights: [[[i8; 8]; 3]; 3],
    /// Biases.
    pub bias: [i32; 8],
}

/// Requantization of eight channels.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Tables {
    /// Multipliers.
    pub multiplier: [i32; 8],
    /// Left shifts after the multiplication: [`Landings::shift_base`] less the shifts.
    pub shift: [i32; 8],
    /// Loaded after the tables before them.
    pub landings: Landings,
}

/// Takes r0 to r2 apart: weights to d0 to d8, r0 the biases, lr the tables, r1 to r12 the lines.
macro_rules! enter {
    () => {
        ".fpu neon
        push {{r4-r11, lr}}
        vpush {{d8-d15}}
        vldmia r0!, {{d0-d8}}
        mov lr, r2
        ldm r1, {{r1-r12}}"
    };
}

/// Loads a column: a value per kernel row.
macro_rules! column {
    ($a:literal, $b:literal, $c:literal) => {
        concat!(
            "vld1.8 {{", $a, "}}, [r1], r4\n",
            "vld1.8 {{", $b, "}}, [r2], r5\n",
            "vld1.8 {{", $c, "}}, [r3], r6\n",
        )
    };
}

/// Sums, requantizes and stores one output from its three columns. Changes q8 to q14.
macro_rules! output {
    ([$a0:literal, $a1:literal, $a2:literal], [$b0:literal, $b1:literal, $b2:literal], [$c0:literal, $c1:literal, $c2:literal]) => {
        concat!(
            "vldmia r0, {{d16-d19}}\n",
            "vmull.s8 q10, ",
            $a0,
            ", d0\n",
            "vmull.s8 q11, ",
            $a1,
            ", d3\n",
            "vmull.s8 q12, ",
            $a2,
            ", d6\n",
            "vmull.s8 q13, ",
            $b2,
            ", d7\n",
            "vmlal.s8 q10, ",
            $b0,
            ", d1\n",
            "vmlal.s8 q11, ",
            $b1,
            ", d4\n",
            "vmlal.s8 q12, ",
            $c0,
            ", d2\n",
            "vmlal.s8 q13, ",
            $c1,
            ", d5\n",
            "vaddw.s16 q8, q8, d20\n",
            "vaddw.s16 q9, q9, d21\n",
            "vmull.s8 q10, ",
            $c2,
            ", d8\n",
            "vaddw.s16 q8, q8, d22\n",
            "vaddw.s16 q9, q9, d23\n",
            "vaddw.s16 q8, q8, d24\n",
            "vaddw.s16 q9, q9, d25\n",
            "vaddw.s16 q8, q8, d26\n",
            "vaddw.s16 q9, q9, d27\n",
            "vaddw.s16 q8, q8, d20\n",
            "vaddw.s16 q9, q9, d21\n",
            "vldmia lr!, {{d20-d29}}\n",
            "vshl.s32 q8, q8, q14\n",
            "vshl.s32 q9, q9, q14\n",
            "vqdmulh.s32 q8, q8, q10\n",
            "vqdmulh.s32 q9, q9, q11\n",
            "vrshl.s32 q8, q8, q12\n",
            "vrshl.s32 q9, q9, q13\n",
            "vldmia lr, {{d20-d23}}\n",
            "sub lr, lr, #80\n",
            "vqmovn.s32 d16, q8\n",
            "vqmovn.s32 d17, q9\n",
            "vqadd.s16 q8, q8, q10\n",
            "vqmovn.s16 d16, q8\n",
            "vmax.s8 d16, d16, d22\n",
            "vmin.s8 d16, d16, d23\n",
            "vst1.8 {{d16}}, [r10], r11\n",
            "subs r12, r12, #1\n",
        )
    };
}

/// Computes a strip. Adds two products in 16 bits: exact unless some weight is -128.
///
/// # Safety
/// The processor has the vectors; all pointers of `lines` are good for what it says.
#[unsafe(naked)]
pub unsafe extern "C" fn strided(filters: &Filters, lines: &Lines, tables: &Tables) {
    naked_asm!(
        enter!(),
        "1:",
        column!("d9", "d10", "d11"),
        column!("d12", "d13", "d14"),
        column!("d15", "d30", "d31"),
        "add r1, r1, r7",
        "add r2, r2, r8",
        "add r3, r3, r9",
        output!(["d9", "d10", "d11"], ["d12", "d13", "d14"], ["d15", "d30", "d31"]),
        "bne 1b",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    )
}

/// [`strided`] for outputs one column apart, which share two columns with the next.
///
/// # Safety
/// As [`strided`].
#[unsafe(naked)]
pub unsafe extern "C" fn sliding(filters: &Filters, lines: &Lines, tables: &Tables) {
    naked_asm!(
        enter!(),
        column!("d9", "d10", "d11"),
        column!("d12", "d13", "d14"),
        "1:",
        column!("d15", "d30", "d31"),
        output!(["d9", "d10", "d11"], ["d12", "d13", "d14"], ["d15", "d30", "d31"]),
        "beq 2f",
        column!("d9", "d10", "d11"),
        output!(["d12", "d13", "d14"], ["d15", "d30", "d31"], ["d9", "d10", "d11"]),
        "beq 2f",
        column!("d12", "d13", "d14"),
        output!(["d15", "d30", "d31"], ["d9", "d10", "d11"], ["d12", "d13", "d14"]),
        "bne 1b",
        "2:",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    )
}
