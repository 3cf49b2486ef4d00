//! Loops over filters: widened taps in, int8 out.

use core::arch::naked_asm;

use super::instructions::Halves;

/// Tables, weights and places of a run of filters. `*_end` point behind the run's last entry; `index` counts from minus the
/// number of filters up to zero.
#[repr(C)]
pub struct Job {
    pub multiplier_end: *const i32,
    pub shift_end: *const u8,
    pub index: isize,
    pub zero_point: i32,
    /// Bits by which accumulators are shifted left, minus 32.
    pub scale: i32,
    pub bias_end: *const i32,
    /// Taps of the windows, in quads.
    pub columns: *const Halves,
    /// Groups of four quads per filter.
    pub rounds: usize,
    /// Whole quads after that, plus [`PARTIAL`] if a quad with fewer taps follows.
    pub tail: usize,
    /// From behind the last whole quad of weights to the four weights that end the filter.
    pub adjust: isize,
    pub weights: *const i8,
    /// Where the outputs of each window end.
    pub out_end: [*mut i8; 4],
}

/// Marks a last quad that is not full; see [`Job::tail`].
pub const PARTIAL: usize = 0x100;

/// All filters over four windows: `columns` holds, per quad, the [`Halves`] of each window.
///
/// A last quad that is not full holds the last four taps, those that an earlier quad holds being zero.
///
/// # Safety
/// Every pointer of `job` suits its description, for `-index` filters of at least four weights each; the columns hold all
/// quads of four windows, word-aligned; tables are aligned. `index` is negative, `scale` at least -32.
#[unsafe(naked)]
pub unsafe extern "C" fn four_windows(job: *mut Job) {
    naked_asm!(
        dsp_instructions!(),
        ".macro stitchkit_quad",
        "ldr r11, [r5], #4",
        "ldm r4!, {{r6, r7, r8, r9}}",
        "sxtb16 r10, r11",
        "sxtb16 r11, r11, ror #8",
        "smlad r0, r10, r6, r0",
        "smlad r1, r10, r8, r1",
        "smlad r0, r11, r7, r0",
        "smlad r1, r11, r9, r1",
        "ldm r4!, {{r6, r7, r8, r9}}",
        "smlad r2, r10, r6, r2",
        "smlad r3, r10, r8, r3",
        "smlad r2, r11, r7, r2",
        "smlad r3, r11, r9, r3",
        ".endm",
        ".macro stitchkit_land acc",
        "smmul \\acc, \\acc, r4",
        "asrs \\acc, \\acc, r6",
        "adc \\acc, \\acc, r8",
        "ssat \\acc, #8, \\acc",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "mov lr, r0",
        "ldr r5, [lr, #40]",
        "ldr r7, [lr, #8]",
        // A filter.
        "1:",
        "ldr r6, [lr, #20]",
        "ldr r4, [lr, #24]",
        "ldr r12, [lr, #28]",
        "ldr r0, [r6, r7, lsl #2]",
        "cmp r12, #0",
        "mov r1, r0",
        "mov r2, r0",
        "mov r3, r0",
        "beq 3f",
        "2:",
        "stitchkit_quad",
        "stitchkit_quad",
        "stitchkit_quad",
        "stitchkit_quad",
        "subs r12, r12, #1",
        "bne 2b",
        "3:",
        "ldr r12, [lr, #32]",
        "cmp r12, #0",
        "bne 8f",
        // Its four outputs. The carry out of the arithmetic shift is the bit of weight one half.
        "5:",
        "ldm lr, {{r4, r6, r7, r8, r9}}",
        "ldr r4, [r4, r7, lsl #2]",
        "ldrb r6, [r6, r7]",
        "cmn r9, #32",
        "add r6, r6, r9",
        "bne 7f",
        "6:",
        "stitchkit_land r0",
        "stitchkit_land r1",
        "stitchkit_land r2",
        "stitchkit_land r3",
        "add r12, lr, #44",
        "ldm r12, {{r8, r9, r10, r11}}",
        "strb r0, [r8, r7]",
        "strb r1, [r9, r7]",
        "strb r2, [r10, r7]",
        "strb r3, [r11, r7]",
        "adds r7, r7, #1",
        "str r7, [lr, #8]",
        "bne 1b",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        // Room for the rounding bit.
        "7:",
        "add r9, r9, #32",
        "lsl r0, r0, r9",
        "lsl r1, r1, r9",
        "lsl r2, r2, r9",
        "lsl r3, r3, r9",
        "b 6b",
        // Quads after the last round.
        "8:",
        "tst r12, #0xff",
        "beq 10f",
        "9:",
        "stitchkit_quad",
        "sub r12, r12, #1",
        "tst r12, #0xff",
        "bne 9b",
        "10:",
        "cmp r12, #0",
        "beq 5b",
        "ldr r6, [lr, #36]",
        "add r5, r5, r6",
        "stitchkit_quad",
        "b 5b",
        ".purgem stitchkit_quad",
        ".purgem stitchkit_land",
    )
}
