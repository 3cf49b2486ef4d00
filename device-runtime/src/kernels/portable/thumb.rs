//! The inner loops of Thumb processors without DSP instructions: Armv6-M multiplies and adds apart and has eight registers
//! that most instructions take, the others multiply and add in one instruction.

use core::arch::naked_asm;

/// Sums of products of two windows `x`, `y` and two filters `v`, `w`: `[x v, y v, x w, y w]`.
///
/// # Safety
/// All four lead over `taps` readable bytes; `taps` is at least 1.
#[cfg(not(thumb1))]
#[unsafe(naked)]
pub unsafe extern "C" fn four_dots(
    x: *const i8,
    y: *const i8,
    v: *const i8,
    w: *const i8,
    taps: usize,
    sums: &mut [i32; 4],
) {
    naked_asm!(
        ".macro stitchkit_tap",
        "ldrsb r8, [r0], #1",
        "ldrsb r9, [r1], #1",
        "ldrsb r10, [r2], #1",
        "ldrsb r11, [r3], #1",
        "mla r4, r8, r10, r4",
        "mla r5, r9, r10, r5",
        "mla r6, r8, r11, r6",
        "mla r7, r9, r11, r7",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldr r12, [sp, #36]",
        "movs r4, #0",
        "movs r5, #0",
        "movs r6, #0",
        "movs r7, #0",
        "subs r12, r12, #4",
        "blt 2f",
        "1:",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "subs r12, r12, #4",
        "bge 1b",
        "2:",
        "adds r12, r12, #4",
        "beq 4f",
        "3:",
        "stitchkit_tap",
        "subs r12, r12, #1",
        "bne 3b",
        "4:",
        "ldr r12, [sp, #40]",
        "stm r12, {{r4, r5, r6, r7}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_tap",
    )
}

/// Sums of products of two windows `x`, `y` and two filters `v`, `w`: `[x v, y v, x w, y w]`.
///
/// # Safety
/// All four lead over `taps` readable bytes; `taps` is at least 1.
#[cfg(thumb1)]
#[unsafe(naked)]
pub unsafe extern "C" fn four_dots(
    x: *const i8,
    y: *const i8,
    v: *const i8,
    w: *const i8,
    taps: usize,
    sums: &mut [i32; 4],
) {
    naked_asm!(
        ".macro stitchkit_tap",
        "ldrsb r5, [r0, r4]",
        "ldrsb r6, [r2, r4]",
        "movs r7, r6",
        "muls r7, r5, r7",
        "add r8, r7",
        "ldrsb r7, [r3, r4]",
        "muls r5, r7, r5",
        "add r10, r5",
        "ldrsb r5, [r1, r4]",
        "muls r6, r5, r6",
        "add r9, r6",
        "muls r7, r5, r7",
        "add r11, r7",
        "adds r4, r4, #1",
        ".endm",
        "push {{r4, r5, r6, r7, lr}}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "mov r7, r11",
        "push {{r4, r5, r6, r7}}",
        "movs r5, #0",
        "mov r8, r5",
        "mov r9, r5",
        "mov r10, r5",
        "mov r11, r5",
        // From minus the number of taps up to zero, first to a multiple of four.
        "ldr r4, [sp, #36]",
        "adds r0, r0, r4",
        "adds r1, r1, r4",
        "adds r2, r2, r4",
        "adds r3, r3, r4",
        "rsbs r4, r4, #0",
        "1:",
        "movs r5, #3",
        "tst r4, r5",
        "beq 2f",
        "stitchkit_tap",
        "b 1b",
        "2:",
        "cmp r4, #0",
        "beq 4f",
        "3:",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "bne 3b",
        "4:",
        "ldr r4, [sp, #40]",
        "mov r0, r8",
        "mov r1, r9",
        "mov r2, r10",
        "mov r3, r11",
        "stm r4!, {{r0, r1, r2, r3}}",
        "pop {{r4, r5, r6, r7}}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7",
        "pop {{r4, r5, r6, r7, pc}}",
        ".purgem stitchkit_tap",
    )
}

/// Sums of products of a window `x` and two filters `v`, `w`.
///
/// # Safety
/// All three lead over `taps` readable bytes; `taps` is at least 1.
#[cfg(not(thumb1))]
#[unsafe(naked)]
pub unsafe extern "C" fn two_dots(x: *const i8, v: *const i8, w: *const i8, taps: usize, sums: &mut [i32; 2]) {
    naked_asm!(
        ".macro stitchkit_tap",
        "ldrsb r6, [r0], #1",
        "ldrsb r7, [r1], #1",
        "ldrsb r12, [r2], #1",
        "mla r4, r6, r7, r4",
        "mla r5, r6, r12, r5",
        ".endm",
        "push {{r4, r5, r6, r7}}",
        "movs r4, #0",
        "movs r5, #0",
        "subs r3, r3, #4",
        "blt 2f",
        "1:",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "subs r3, r3, #4",
        "bge 1b",
        "2:",
        "adds r3, r3, #4",
        "beq 4f",
        "3:",
        "stitchkit_tap",
        "subs r3, r3, #1",
        "bne 3b",
        "4:",
        "ldr r12, [sp, #16]",
        "strd r4, r5, [r12]",
        "pop {{r4, r5, r6, r7}}",
        "bx lr",
        ".purgem stitchkit_tap",
    )
}

/// Sums of products of a window `x` and two filters `v`, `w`.
///
/// # Safety
/// All three lead over `taps` readable bytes; `taps` is at least 1.
#[cfg(thumb1)]
#[unsafe(naked)]
pub unsafe extern "C" fn two_dots(x: *const i8, v: *const i8, w: *const i8, taps: usize, sums: &mut [i32; 2]) {
    naked_asm!(
        ".macro stitchkit_tap",
        "ldrsb r6, [r0, r3]",
        "ldrsb r7, [r1, r3]",
        "muls r7, r6, r7",
        "adds r4, r4, r7",
        "ldrsb r7, [r2, r3]",
        "muls r7, r6, r7",
        "adds r5, r5, r7",
        "adds r3, r3, #1",
        ".endm",
        "push {{r4, r5, r6, r7}}",
        "movs r4, #0",
        "movs r5, #0",
        // From minus the number of taps up to zero, first to a multiple of four.
        "adds r0, r0, r3",
        "adds r1, r1, r3",
        "adds r2, r2, r3",
        "rsbs r3, r3, #0",
        "1:",
        "movs r6, #3",
        "tst r3, r6",
        "beq 2f",
        "stitchkit_tap",
        "b 1b",
        "2:",
        "cmp r3, #0",
        "beq 4f",
        "3:",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "stitchkit_tap",
        "bne 3b",
        "4:",
        "ldr r6, [sp, #16]",
        "stm r6!, {{r4, r5}}",
        "pop {{r4, r5, r6, r7}}",
        "bx lr",
        ".purgem stitchkit_tap",
    )
}

/// Rows of taps of four channels.
#[repr(C)]
pub struct Rows {
    pub x: *const i8,
    pub w: *const i8,
    /// Bytes from tap to tap.
    pub x_step: usize,
    pub w_step: usize,
    /// Taps of a row, and rows; at least 1.
    pub taps: usize,
    pub rows: usize,
    /// Bytes from behind the last tap of a row of `x` to the first of the next; rows of `w` follow one another.
    pub x_skip: usize,
}

/// Adds the products of four adjacent channels to `sums`.
///
/// # Safety
/// Every tap of `x` and `w` has four readable bytes. `rows` is used up.
#[cfg(not(thumb1))]
#[unsafe(naked)]
pub unsafe extern "C" fn four_channels(sums: &mut [i32; 4], rows: &mut Rows) {
    naked_asm!(
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "push {{r0, r1}}",
        "ldm r0, {{r4, r5, r6, r7}}",
        "ldm r1, {{r0, r1, r2, r3, r8, r9, r10}}",
        "1:",
        "mov lr, r8",
        "2:",
        "ldrsb r11, [r0]",
        "ldrsb r12, [r1]",
        "mla r4, r11, r12, r4",
        "ldrsb r11, [r0, #1]",
        "ldrsb r12, [r1, #1]",
        "mla r5, r11, r12, r5",
        "ldrsb r11, [r0, #2]",
        "ldrsb r12, [r1, #2]",
        "mla r6, r11, r12, r6",
        "ldrsb r11, [r0, #3]",
        "ldrsb r12, [r1, #3]",
        "mla r7, r11, r12, r7",
        "add r0, r0, r2",
        "add r1, r1, r3",
        "subs lr, lr, #1",
        "bne 2b",
        "add r0, r0, r10",
        "subs r9, r9, #1",
        "bne 1b",
        "pop {{r0, r1}}",
        "stm r0, {{r4, r5, r6, r7}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}

/// Adds the products of four adjacent channels to `sums`.
///
/// # Safety
/// Every tap of `x` and `w` has four readable bytes. `rows` is used up.
#[cfg(thumb1)]
#[unsafe(naked)]
pub unsafe extern "C" fn four_channels(sums: &mut [i32; 4], rows: &mut Rows) {
    naked_asm!(
        ".macro stitchkit_channel at, sum",
        "ldrb r5, [r2, #\\at]",
        "ldrb r6, [r3, #\\at]",
        "sxtb r5, r5",
        "sxtb r6, r6",
        "muls r5, r6, r5",
        "add \\sum, r5",
        ".endm",
        "push {{r4, r5, r6, r7, lr}}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "mov r7, r11",
        "push {{r0, r4, r5, r6, r7}}",
        "ldm r0!, {{r4, r5, r6, r7}}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7",
        "ldr r2, [r1]",
        "ldr r3, [r1, #4]",
        "ldr r4, [r1, #8]",
        "ldr r7, [r1, #12]",
        "1:",
        "ldr r0, [r1, #16]",
        "2:",
        "stitchkit_channel 0, r8",
        "stitchkit_channel 1, r9",
        "stitchkit_channel 2, r10",
        "stitchkit_channel 3, r11",
        "adds r2, r2, r4",
        "adds r3, r3, r7",
        "subs r0, r0, #1",
        "bne 2b",
        "ldr r5, [r1, #24]",
        "adds r2, r2, r5",
        "ldr r5, [r1, #20]",
        "subs r5, r5, #1",
        "str r5, [r1, #20]",
        "bne 1b",
        "pop {{r0}}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "mov r7, r11",
        "stm r0!, {{r4, r5, r6, r7}}",
        "pop {{r4, r5, r6, r7}}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7",
        "pop {{r4, r5, r6, r7, pc}}",
        ".purgem stitchkit_channel",
    )
}
