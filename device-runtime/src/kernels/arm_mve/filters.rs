//! Loops over filters and the requantization of their sums.

use core::arch::naked_asm;

/// Windows of one block.
pub const WINDOWS: usize = 3;
/// Filters of one block at most.
pub const CHUNK: usize = 64;

/// Sums of a block, bias excluded.
pub type Sums = [[i32; CHUNK]; WINDOWS];

/// Filters over windows.
#[repr(C)]
pub struct Block {
    /// Taps of each window, adjacent.
    pub windows: [*const i8; WINDOWS],
    pub weights: *const i8,
    /// Taps per window and weights per filter, at least 1.
    pub taps: usize,
    /// Turns: pairs of filters, or groups of four.
    pub turns: usize,
    /// Where the first window's sums go.
    pub sums: *mut i32,
    /// Bytes from the first filter of a turn to the next one.
    pub filter_step: usize,
}

/// Sums of two filters per turn over three windows.
///
/// # Safety
/// Windows and filters have `taps` readable bytes each; `sums` points into [`Sums`], with two places per turn.
#[unsafe(naked)]
pub unsafe extern "C" fn three_windows(block: *mut Block) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "mov r12, r0",
        "ldr r11, [r12, #16]",
        "1:",
        "ldr r1, [r12, #12]",
        "ldr r3, [r12, #28]",
        "ldm r12, {{r5, r7, r9}}",
        "mov r0, #0",
        "mov r2, #0",
        "mov r4, #0",
        "mov r6, #0",
        "mov r8, #0",
        "mov r10, #0",
        "add r3, r3, r1",
        "dlstp.8 lr, r11",
        "2:",
        "vldrb.u8 q0, [r1], #16",
        "vldrb.u8 q1, [r3], #16",
        "vldrb.u8 q2, [r5], #16",
        "vmladava.s8 r0, q0, q2",
        "vldrb.u8 q3, [r7], #16",
        "vmladava.s8 r2, q1, q2",
        "vldrb.u8 q2, [r9], #16",
        "vmladava.s8 r4, q0, q3",
        "vmladava.s8 r6, q1, q3",
        "vmladava.s8 r8, q0, q2",
        "vmladava.s8 r10, q1, q2",
        "letp lr, 2b",
        "ldr r1, [r12, #24]",
        "ldr r3, [r12, #12]",
        "ldr r5, [r12, #20]",
        "strd r4, r6, [r1, #256]",
        "strd r8, r10, [r1, #512]",
        "strd r0, r2, [r1], #8",
        "add r3, r3, r11, lsl #1",
        "subs r5, r5, #1",
        "str r3, [r12, #12]",
        "str r5, [r12, #20]",
        "str r1, [r12, #24]",
        "bne 1b",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}

/// Sums of four filters per turn over the first window.
///
/// # Safety
/// As [`three_windows`], with four places per turn in the first window's sums.
#[unsafe(naked)]
pub unsafe extern "C" fn one_window(block: *mut Block) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "mov r12, r0",
        "ldr r11, [r12, #16]",
        "ldr r8, [r12, #12]",
        "ldr r10, [r12, #28]",
        "1:",
        "ldr r9, [r12]",
        "mov r1, r8",
        "add r3, r1, r10",
        "add r5, r3, r10",
        "add r7, r5, r10",
        "add r8, r8, r11, lsl #2",
        "mov r0, #0",
        "mov r2, #0",
        "mov r4, #0",
        "mov r6, #0",
        "dlstp.8 lr, r11",
        "2:",
        "vldrb.u8 q0, [r9], #16",
        "vldrb.u8 q1, [r1], #16",
        "vldrb.u8 q2, [r3], #16",
        "vmladava.s8 r0, q0, q1",
        "vldrb.u8 q3, [r5], #16",
        "vmladava.s8 r2, q0, q2",
        "vldrb.u8 q1, [r7], #16",
        "vmladava.s8 r4, q0, q3",
        "vmladava.s8 r6, q0, q1",
        "letp lr, 2b",
        "ldr r1, [r12, #24]",
        "ldr r5, [r12, #20]",
        "stm r1!, {{r0, r2, r4, r6}}",
        "subs r5, r5, #1",
        "str r5, [r12, #20]",
        "str r1, [r12, #24]",
        "bne 1b",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}

/// Requantization of a block's sums.
#[repr(C)]
pub struct Landings {
    pub sums: *const i32,
    pub bias: *const i32,
    pub multiplier: *const i32,
    pub shift: *const u8,
    /// Places of each window.
    pub places: [*mut i8; WINDOWS],
    pub zero_point: i32,
    /// Bits by which accumulators are shifted left.
    pub bits: u32,
    /// Filters, at least 1.
    pub count: usize,
    /// 32 less `bits`.
    pub high: u32,
}

/// Saturated int8 values of `count` filters at three windows. The high half of the product, shifted right and rounded half
/// up, is exact because every shift plus `bits` is at least 33.
///
/// # Safety
/// `sums` points to [`Sums`], tables and places have `count` entries.
#[unsafe(naked)]
pub unsafe extern "C" fn land(landings: *const Landings) {
    naked_asm!(
        ".cpu cortex-m55",
        ".macro stitchkit_land place",
        "vadd.i32 q0, q0, q1",
        "vshl.s32 q0, r8",
        "vmulh.s32 q0, q0, q2",
        "vrshl.s32 q0, q0, q3",
        "vadd.i32 q0, q0, r7",
        "vqmovnb.s32 q0, q0",
        "vqmovnb.s16 q0, q0",
        "vstrb.32 q0, [\\place], #4",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, lr}}",
        "vpush {{d8, d9}}",
        "ldm r0, {{r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10}}",
        "vdup.32 q4, r10",
        "add r10, r0, #512",
        "dlstp.32 lr, r9",
        "1:",
        "vldrb.u32 q3, [r3], #4",
        "vldrw.u32 q1, [r1], #16",
        "vldrw.u32 q2, [r2], #16",
        "vsub.i32 q3, q4, q3",
        "vldrw.u32 q0, [r0, #256]",
        "stitchkit_land r5",
        "vldrw.u32 q0, [r10], #16",
        "stitchkit_land r6",
        "vldrw.u32 q0, [r0], #16",
        "stitchkit_land r4",
        "letp lr, 1b",
        "vpop {{d8, d9}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, pc}}",
        ".purgem stitchkit_land",
    )
}

/// Copies `rows` rows of `bytes` bytes that start `step` apart to adjacent places.
///
/// # Safety
/// `from` leads over that many readable bytes, `to` over as many writable ones; `rows` and `bytes` are at least 1.
#[unsafe(naked)]
pub unsafe extern "C" fn copy_rows(from: *const i8, step: usize, bytes: usize, rows: usize, to: *mut i8) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, lr}}",
        "ldr r4, [sp, #12]",
        "1:",
        "mov r12, r0",
        "mov r5, r4",
        "dlstp.8 lr, r2",
        "2:",
        "vldrb.u8 q0, [r12], #16",
        "vstrb.8 q0, [r5], #16",
        "letp lr, 2b",
        "add r0, r0, r1",
        "add r4, r4, r2",
        "subs r3, r3, #1",
        "bne 1b",
        "pop {{r4, r5, pc}}",
    )
}
