//! Widens rows of four channels for depthwise 3x3 convolution.

use core::arch::naked_asm;

use super::instructions::Halves;

/// What lines hold: columns inside the input, of rows inside of it or padding.
#[repr(C)]
pub struct Lines {
    /// Bytes from column to column of the input.
    pub step: usize,
    /// Columns inside the input.
    pub columns: usize,
    /// Rows of the input.
    pub height: usize,
    /// Bytes from row to row of the input.
    pub row_bytes: usize,
    /// Bytes from the end of the columns of a line to the start of those of the next.
    pub skip: usize,
    /// Either half of a column outside.
    pub pad: u32,
}

/// Makes `count` lines of the rows from `row` on; rows that are not less than `height` are padding. `from` points to the first
/// column inside in row 0.
///
/// # Safety
/// Four bytes at each column of every row below `height` are readable, `to` leads over the columns of `count` lines; `count`
/// is at least 1.
#[unsafe(naked)]
pub unsafe extern "C" fn widen_lines(lines: &Lines, from: *const i8, row: usize, count: usize, to: *mut Halves) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_widen",
        "ldr r11, [r0]",
        "add r0, r0, r5",
        "sxtb16 lr, r11",
        "sxtb16 r11, r11, ror #8",
        "strd lr, r11, [r4], #8",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldm r0, {{r5, r6, r7, r8, r9, r10}}",
        "ldr r4, [sp, #36]",
        "cbz r6, 8f",
        "mla r1, r2, r8, r1",
        "1:",
        "cmp r2, r7",
        "bhs 6f",
        "mov r0, r1",
        "subs r12, r6, #3",
        "blt 3f",
        "2:",
        "stitchkit_widen",
        "stitchkit_widen",
        "stitchkit_widen",
        "subs r12, r12, #3",
        "bge 2b",
        "3:",
        "adds r12, r12, #3",
        "beq 5f",
        "4:",
        "stitchkit_widen",
        "subs r12, r12, #1",
        "bne 4b",
        "5:",
        "add r1, r1, r8",
        "add r2, r2, #1",
        "add r4, r4, r9",
        "subs r3, r3, #1",
        "bne 1b",
        "8:",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        // A line of padding.
        "6:",
        "mov r12, r6",
        "7:",
        "strd r10, r10, [r4], #8",
        "subs r12, r12, #1",
        "bne 7b",
        "b 5b",
        ".purgem stitchkit_widen",
        leave_thumb!(),
    )
}
