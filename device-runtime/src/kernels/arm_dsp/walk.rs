//! The loop over the windows of depthwise 3x3 convolution.

use core::arch::naked_asm;

use super::group::{Group, Source, pack_weights};
use super::lines::Pair;

/// Where [`rows_of_windows`] goes.
#[repr(C)]
pub struct Walk {
    /// Windows of a row that begin with a pair of columns, at least 1, and windows that begin with the second column of one, in
    /// bytes of pairs.
    pub along: [usize; 2],
    /// The lines under the first row.
    pub lines: [*mut Pair; 3],
    /// Bytes from the first output place of the former to that of the latter.
    pub second: usize,
    /// First output place.
    pub to: *mut i8,
    /// Bytes from place to place.
    pub step: usize,
    /// Bytes from row to row in lines.
    pub line_step: usize,
    /// Bytes from row to row of the output.
    pub row_step: usize,
}

/// Saturated int8 values of four channels at the windows of `rows` rows, at least 1: those for which `group` is packed, then the
/// others, if there are any. `group` is left packed for these.
///
/// # Safety
/// The lines hold a pair for every window of a row that begins with one, and another behind them; every place has four writable
/// bytes; `group` is packed from `source`, which still names the same channels.
#[unsafe(naked)]
pub unsafe extern "C" fn rows_of_windows(group: &mut Group, walk: &Walk, source: &Source, rows: usize) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_pair at",
        "ldm \\at, {{r7, r8, r9, r10}}",
        "smlad r0, r7, r11, r0",
        "smlad r1, r8, r12, r1",
        "ldm lr!, {{r7, r8, r11, r12}}",
        "smlad r2, r9, r7, r2",
        "smlad r3, r10, r8, r3",
        ".endm",
        "push {{r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        // Not zero while there are other windows.
        "ldr r2, [r1, #4]",
        "push {{r2}}",
        "0:",
        "ldr r2, [r0, #{second}]",
        "ldr r8, [r1, r2, lsl #2]",
        "adds r1, r1, #8",
        "ldm r1!, {{r4, r5, r6, r10}}",
        "ldm r1, {{r3, r7, r11, r12}}",
        "mla r3, r2, r10, r3",
        "ldr r10, [sp, #16]",
        "mov r9, r0",
        "mov lr, r11",
        // From the end of a row to the start of the next.
        "lsr r1, r8, #4",
        "mls r12, r1, r7, r12",
        "sub r11, r11, r8",
        // The end of the row in the first line.
        "add r8, r8, r4",
        "push {{r3, r7, r8, r9, r10, r11, r12, lr}}",
        "mov lr, r0",
        "1:",
        "ldm lr!, {{r0, r1, r2, r3, r11, r12}}",
        "stitchkit_pair r4!",
        "stitchkit_pair r4",
        "stitchkit_pair r5!",
        "stitchkit_pair r5",
        "stitchkit_pair r6!",
        "stitchkit_pair r6",
        // r11 holds the zero point, r12 the first multiplier.
        "smmul r0, r0, r12",
        "ldm lr!, {{r7, r8, r9, r10, r12}}",
        "smmul r1, r1, r7",
        "smmul r2, r2, r8",
        "smmul r3, r3, r9",
        "ldm lr, {{r7, r8}}",
        "asrs r0, r0, r10",
        "adc r0, r0, r11",
        "asrs r1, r1, r12",
        "adc r1, r1, r11",
        "asrs r2, r2, r7",
        "adc r2, r2, r11",
        "asrs r3, r3, r8",
        "adc r3, r3, r11",
        "ldm sp, {{r7, r8, r9, lr}}",
        "ssat r0, #8, r0",
        "ssat r1, #8, r1",
        "ssat r2, #8, r2",
        "ssat r3, #8, r3",
        "strb r0, [r7]",
        "strb r1, [r7, #1]",
        "strb r2, [r7, #2]",
        "strb r3, [r7, #3]",
        "add r7, r7, r8",
        "str r7, [sp]",
        "cmp r4, r9",
        "bne 1b",
        "add r0, sp, #16",
        "ldm r0, {{r0, r1, r2, r3}}",
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
        "pop {{r3}}",
        "cbz r3, 2f",
        "movs r3, #0",
        "push {{r3}}",
        "ldr r0, [sp, #4]",
        "ldr r1, [sp, #12]",
        "ldr r2, [r0, #{second}]",
        "eor r2, r2, #1",
        "str r2, [r0, #{second}]",
        "bl {pack_weights}",
        "ldrd r0, r1, [sp, #4]",
        "b 0b",
        "2:",
        "add sp, sp, #16",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_pair",
        leave_thumb!(),
        second = const Group::SECOND,
        pack_weights = sym pack_weights,
    )
}
