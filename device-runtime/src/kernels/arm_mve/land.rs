//! Requantization of sums to int8.

use core::arch::naked_asm;

use super::filters::WINDOWS;

/// Requantization of a block's sums.
#[repr(C)]
pub struct Landings {
    /// [`Sums`](super::filters::Sums).
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
    /// Windows to do: 3 or 1.
    pub windows: usize,
}

/// Saturated int8 values of `count` filters at the windows. The high half of the product, shifted right and rounded half
/// up, is exact because every shift plus `bits` is at least 33.
///
/// Eight filters at a time, those of even and of odd index apart until they are narrowed; then four at a time.
///
/// # Safety
/// `sums` points to [`Sums`](super::filters::Sums); tables and all three places have `count` entries.
#[unsafe(naked)]
pub unsafe extern "C" fn land(landings: &Landings) {
    naked_asm!(
        ".cpu cortex-m55",
        ".macro stitchkit_land_8 sums, place, up",
        "vld20.32 {{q0, q1}}, [\\sums]",
        "vld21.32 {{q0, q1}}, [\\sums]!",
        "vadd.i32 q0, q0, q2",
        "vadd.i32 q1, q1, q3",
        ".if \\up",
        "vshl.s32 q0, r8",
        "vshl.s32 q1, r8",
        ".endif",
        "vmulh.s32 q0, q0, q4",
        "vmulh.s32 q1, q1, q5",
        "vrshl.s32 q0, q0, q6",
        "vrshl.s32 q1, q1, q7",
        "vqmovnb.s32 q0, q0",
        "vqmovnt.s32 q0, q1",
        "vqadd.s16 q0, q0, r7",
        "vqmovnb.s16 q0, q0",
        "vstrb.16 q0, [\\place], #8",
        ".endm",
        ".macro stitchkit_eights up",
        "1:",
        "vld20.32 {{q2, q3}}, [r1]",
        "vld21.32 {{q2, q3}}, [r1]!",
        "vld20.32 {{q4, q5}}, [r2]",
        "vldrb.u16 q7, [r3], #8",
        "vld21.32 {{q4, q5}}, [r2]!",
        "rsb r9, r8, #32",
        "vneg.s16 q7, q7",
        "vadd.i16 q7, q7, r9",
        "vmovlb.s16 q6, q7",
        "vmovlt.s16 q7, q7",
        "stitchkit_land_8 r0, r4, \\up",
        "cmp r10, #1",
        "beq 2f",
        "stitchkit_land_8 r12, r5, \\up",
        "stitchkit_land_8 r11, r6, \\up",
        "2:",
        "le lr, 1b",
        ".endm",
        ".macro stitchkit_land_4 sums, place",
        "vldrw.u32 q0, [\\sums], #16",
        "vadd.i32 q0, q0, q1",
        "vshl.s32 q0, r8",
        "vmulh.s32 q0, q0, q2",
        "vrshl.s32 q0, q0, q3",
        "vqmovnb.s32 q0, q0",
        "vqadd.s16 q0, q0, r7",
        "vqmovnb.s16 q0, q0",
        "vstrb.32 q0, [\\place], #4",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "vpush {{d8, d9, d10, d11, d12, d13, d14, d15}}",
        "ldm r0, {{r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10}}",
        "sub sp, sp, #4",
        "str r9, [sp]",
        "add r12, r0, #256",
        "add r11, r0, #512",
        "lsr r9, r9, #3",
        "wls lr, r9, 4f",
        "cmp r8, #0",
        "bne 3f",
        "stitchkit_eights 0",
        "b 4f",
        "3:",
        "stitchkit_eights 1",
        "4:",
        "ldr r9, [sp]",
        "ands r9, r9, #7",
        "beq 7f",
        "rsb lr, r8, #32",
        "vdup.32 q4, lr",
        "dlstp.32 lr, r9",
        "5:",
        "vldrb.u32 q3, [r3], #4",
        "vldrw.u32 q1, [r1], #16",
        "vldrw.u32 q2, [r2], #16",
        "vsub.i32 q3, q4, q3",
        "stitchkit_land_4 r0, r4",
        "stitchkit_land_4 r12, r5",
        "stitchkit_land_4 r11, r6",
        "letp lr, 5b",
        "7:",
        "add sp, sp, #4",
        "vpop {{d8, d9, d10, d11, d12, d13, d14, d15}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_land_8",
        ".purgem stitchkit_eights",
        ".purgem stitchkit_land_4",
    )
}
