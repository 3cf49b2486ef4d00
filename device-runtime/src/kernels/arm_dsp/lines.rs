//! Widens rows of four channels for depthwise 3x3 convolution.

use core::arch::naked_asm;

/// Two adjacent columns of four channels: the first in the low halves, the second in the high ones.
pub type Pair = [u32; 4];

/// What lines hold: columns inside the input, of rows inside of it or padding.
#[repr(C)]
pub struct Lines {
    /// The first column inside, in row 0; the one before it if the second of a pair is the first inside.
    pub from: *const i8,
    /// Bytes from column to column of the input.
    pub step: usize,
    /// See [`extent`].
    pub extent: usize,
    /// Rows of the input.
    pub height: usize,
    /// Bytes from row to row of the input.
    pub row_bytes: usize,
    /// Bytes from the end of the pairs of a line to the start of those of the next.
    pub skip: usize,
    /// Four times the byte of a column outside.
    pub pad: u32,
}

/// How much of a line is written: from the first of `columns` on, which is the first or, if `second` is 1, the second of a pair.
/// There is at least one column.
#[inline(always)]
pub fn extent(second: usize, columns: usize) -> usize {
    // A doubling leaves four less than twice the columns of whole pairs, and carries `second` out.
    ((second + columns).wrapping_sub(2) & (usize::MAX >> 1)) | second << (usize::BITS - 1)
}

/// Makes `count` lines of the rows from `row` on; rows that are not less than `height` are padding.
///
/// # Safety
/// Four bytes at each column of every row below `height` are readable; `to` leads over the pairs of `count` lines; `count` is
/// at least 1.
#[unsafe(naked)]
pub unsafe extern "C" fn widen_lines(lines: &Lines, to: *mut Pair, row: usize, count: usize) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldm r0, {{r4, r5, r6, r7, r8, r9, r10}}",
        "push {{r8, r9}}",
        "mla r4, r2, r8, r4",
        "1:",
        "cmp r2, r7",
        "bhs 8f",
        "mov r0, r4",
        "lsls r12, r6, #1",
        "bmi 5f",
        "mov r11, r10",
        "bcs 3f",
        "2:",
        "ldr r11, [r0]",
        "3:",
        "ldr lr, [r0, r5]",
        "4:",
        "add r0, r0, r5, lsl #1",
        "pkhbt r8, r11, lr, lsl #16",
        "pkhtb lr, lr, r11, asr #16",
        "sxtb16 r9, r8, ror #8",
        "sxtb16 r8, r8",
        "sxtb16 r11, lr",
        "sxtb16 lr, lr, ror #8",
        "stm r1!, {{r8, r9, r11, lr}}",
        "subs r12, r12, #4",
        "bge 2b",
        "5:",
        // A last column that is the first of a pair.
        "adds r12, r12, #2",
        "beq 7f",
        "6:",
        "ldrd r8, r9, [sp]",
        "add r4, r4, r8",
        "add r1, r1, r9",
        "add r2, r2, #1",
        "subs r3, r3, #1",
        "bne 1b",
        "pop {{r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        "7:",
        "ldr r11, [r0]",
        "mov lr, r10",
        "b 4b",
        // A line of padding.
        "8:",
        "lsl r12, r6, #1",
        "add r12, r12, #4",
        "sxtb16 r8, r10",
        "mov r9, r8",
        "9:",
        "strd r8, r9, [r1], #8",
        "strd r8, r9, [r1], #8",
        "subs r12, r12, #4",
        "bgt 9b",
        "b 6b",
        leave_thumb!(),
    )
}
