//! The loop over the windows of depthwise 3x3 convolution.

use core::arch::naked_asm;

use super::group::Group;
use super::instructions::Halves;

/// Where [`rows_of_windows`] goes.
#[repr(C)]
pub struct Walk {
    /// First output place.
    pub to: *mut i8,
    /// Bytes from place to place.
    pub step: usize,
    /// Bytes from the first column of a row's first window to behind that of its last, in strips.
    pub along: usize,
    /// Bytes from window to window in strips.
    pub advance: usize,
    /// Rows, at least 1.
    pub rows: usize,
    /// Bytes from the end of a row in strips to the start of the next.
    pub strip_skip: usize,
    /// Bytes from behind the last place of a row to the first of the next.
    pub to_skip: usize,
    /// Bytes from row to row in strips.
    pub strip_step: usize,
}

/// Saturated int8 values of four channels at every window of rows.
///
/// # Safety
/// The strips hold three columns for every window from their start on; `along` is `advance` times the windows of a row; every
/// place has four writable bytes.
#[unsafe(naked)]
pub unsafe extern "C" fn rows_of_windows(group: *const Group, strips: &[*mut Halves; 3], walk: *const Walk) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_column at",
        "ldrd r8, r9, [r4, #\\at]",
        "ldrd r10, r11, [r5, #\\at]",
        "pkhbt r7, r8, r10, lsl #16",
        "pkhtb r10, r10, r8, asr #16",
        "pkhbt r8, r9, r11, lsl #16",
        "pkhtb r11, r11, r9, asr #16",
        "ldm lr!, {{r9, r12}}",
        "smlad r0, r7, r9, r0",
        "smlad r1, r8, r12, r1",
        "ldm lr!, {{r9, r12}}",
        "smlad r2, r10, r9, r2",
        "smlad r3, r11, r12, r3",
        "ldrd r8, r9, [r6, #\\at]",
        "ldm lr!, {{r10, r11}}",
        "smlabb r0, r8, r10, r0",
        "smlabb r1, r9, r11, r1",
        "smlatt r2, r8, r10, r2",
        "smlatt r3, r9, r11, r3",
        ".endm",
        ".macro stitchkit_two a, b",
        "ldm lr!, {{r7, r8, r9, r10, r11}}",
        "smmul \\a, \\a, r7",
        "smmul \\b, \\b, r8",
        "asrs \\a, \\a, r9",
        "adc \\a, \\a, r11",
        "asrs \\b, \\b, r10",
        "adc \\b, \\b, r11",
        "ssat \\a, #8, \\a",
        "ssat \\b, #8, \\b",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldm r1, {{r4, r5, r6}}",
        "ldm r2, {{r3, r7, r8, r9, r10, r11, r12, lr}}",
        // From here on the end of the row in the first strip.
        "add r8, r8, r4",
        "push {{r3, r7, r8, r9, r10, r11, r12, lr}}",
        "add lr, r0, #112",
        "1:",
        "ldm lr, {{r0, r1, r2, r3}}",
        "sub lr, lr, #112",
        "stitchkit_column 0",
        "stitchkit_column 8",
        "stitchkit_column 16",
        "stitchkit_two r0, r1",
        "stitchkit_two r2, r3",
        "ldm sp, {{r7, r8, r9, r10}}",
        "strb r0, [r7]",
        "strb r1, [r7, #1]",
        "strb r2, [r7, #2]",
        "strb r3, [r7, #3]",
        "add r7, r7, r8",
        "str r7, [sp]",
        "add r4, r4, r10",
        "add r5, r5, r10",
        "add r6, r6, r10",
        "cmp r4, r9",
        "bne 1b",
        "ldr r0, [sp, #16]",
        "ldrd r1, r2, [sp, #20]",
        "ldr r3, [sp, #28]",
        "subs r0, r0, #1",
        "str r0, [sp, #16]",
        "add r4, r4, r1",
        "add r5, r5, r1",
        "add r6, r6, r1",
        "add r7, r7, r2",
        "str r7, [sp]",
        "add r9, r9, r3",
        "str r9, [sp, #8]",
        "bne 1b",
        "add sp, sp, #32",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_column",
        ".purgem stitchkit_two",
        leave_thumb!(),
    )
}
