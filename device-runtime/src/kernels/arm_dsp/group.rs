//! Constants of depthwise 3x3 convolution, four channels at a time.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::kernels::params::Requant;

/// Constants of four channels, in the order in which [`rows_of_windows`](super::walk::rows_of_windows) reads them.
#[repr(C)]
pub struct Group {
    bias: [i32; 4],
    /// Per kernel row two pairs of columns of each channel. One of the four columns is none of the kernel's: zero.
    weights: [[u32; 8]; 3],
    zero_point: i32,
    multiplier: [i32; 4],
    /// Shifts less 32.
    shift: [u32; 4],
    /// 1 if the weights are those of windows that begin with the second column of a pair, otherwise 0.
    second: usize,
}

impl Group {
    /// Where the last word is.
    pub const SECOND: usize = offset_of!(Self, second);
}

/// Where the constants of all channels are.
#[repr(C)]
pub struct Source {
    /// The first of the four channels that are wanted.
    pub first: usize,
    /// Weights and biases are shifted left by so much, at most 8: weights still fit 16 bits.
    bits: u32,
    /// Bytes from tap to tap.
    channels: usize,
    bias: *const i32,
    multiplier: *const i32,
    shift: *const u8,
    zero_point: i32,
    weights: *const i8,
}

impl Source {
    /// The first of `channels`; `None` unless weights and tables hold all.
    pub fn new(q: &Requant<'_>, bits: u32, weights: &[i8], channels: usize) -> Option<Self> {
        Some(Self {
            first: 0,
            weights: weights.get(..9 * channels)?.as_ptr(),
            bits,
            channels,
            bias: q.bias.get(..channels)?.as_ptr(),
            multiplier: q.multiplier.get(..channels)?.as_ptr(),
            shift: q.shift.get(..channels)?.as_ptr(),
            zero_point: q.landing.zero_point.into(),
        })
    }
}

/// Makes `group` the constants of four channels, for windows that begin with a pair of columns.
///
/// # Safety
/// There are four channels from the first on.
#[unsafe(naked)]
pub unsafe extern "C" fn pack_group(group: *mut Group, source: &Source) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldrd r2, r3, [r1]",
        "add r12, r1, #{tables}",
        "ldm r12, {{r4, r5, r6, r12}}",
        "add r4, r4, r2, lsl #2",
        "ldm r4, {{r7, r8, r9, r10}}",
        "lsl r7, r7, r3",
        "lsl r8, r8, r3",
        "lsl r9, r9, r3",
        "lsl r10, r10, r3",
        "stm r0, {{r7, r8, r9, r10}}",
        "add r4, r0, #{scales}",
        "add r5, r5, r2, lsl #2",
        "ldm r5, {{r7, r8, r9, r10}}",
        "str r12, [r4], #4",
        "stm r4!, {{r7, r8, r9, r10}}",
        "ldr r6, [r6, r2]",
        "sub r3, r3, #32",
        "uxtab r7, r3, r6",
        "uxtab r8, r3, r6, ror #8",
        "uxtab r9, r3, r6, ror #16",
        "uxtab r10, r3, r6, ror #24",
        "movs r2, #0",
        "stm r4!, {{r7, r8, r9, r10}}",
        "str r2, [r4]",
        "bl {pack_weights}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        leave_thumb!(),
        tables = const offset_of!(Source, bias),
        scales = const offset_of!(Group, zero_point),
        pack_weights = sym pack_weights,
    )
}

/// Makes the weights of `group` those of windows that begin with a pair of columns or, if `second` is 1, with the second of one.
/// Changes every register, those too that functions keep: only functions that have saved them may call it.
///
/// # Safety
/// There are four channels from the first on.
#[unsafe(naked)]
pub unsafe extern "C" fn pack_weights(group: *mut Group, source: &Source, second: usize) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_up word",
        "lsl \\word, \\word, r4",
        "bic \\word, \\word, r1",
        ".endm",
        "push {{lr}}",
        "ldm r1, {{r3, r4, r12}}",
        "ldr r1, [r1, #{weights}]",
        "add r3, r3, r1",
        "adds r0, r0, #{to}",
        "movs r1, #3",
        "1:",
        "ldr r5, [r3]",
        "ldr r6, [r3, r12]",
        "ldr r7, [r3, r12, lsl #1]",
        "add r3, r3, r12, lsl #1",
        "add r3, r3, r12",
        "mov r8, #0",
        "cbz r2, 2f",
        "mov r8, r7",
        "mov r7, r6",
        "mov r6, r5",
        "movs r5, #0",
        "2:",
        "pkhbt r9, r5, r6, lsl #16",
        "pkhtb r10, r6, r5, asr #16",
        "pkhbt r11, r7, r8, lsl #16",
        "pkhtb lr, r8, r7, asr #16",
        "sxtb16 r5, r9",
        "sxtb16 r6, r9, ror #8",
        "sxtb16 r7, r10",
        "sxtb16 r8, r10, ror #8",
        "sxtb16 r9, r11",
        "sxtb16 r10, r11, ror #8",
        "sxtb16 r11, lr",
        "sxtb16 lr, lr, ror #8",
        "cbz r4, 3f",
        "push {{r1}}",
        // Bits that a shifted low half leaves in the high one.
        "mov r1, #0x10000",
        "lsl r1, r1, r4",
        "sub r1, r1, #0x10000",
        "stitchkit_up r5",
        "stitchkit_up r6",
        "stitchkit_up r7",
        "stitchkit_up r8",
        "stitchkit_up r9",
        "stitchkit_up r10",
        "stitchkit_up r11",
        "stitchkit_up lr",
        "pop {{r1}}",
        "3:",
        "stm r0!, {{r5, r6, r7, r8, r9, r10, r11, lr}}",
        "subs r1, r1, #1",
        "bne 1b",
        "pop {{pc}}",
        ".purgem stitchkit_up",
        leave_thumb!(),
        weights = const offset_of!(Source, weights),
        to = const offset_of!(Group, weights),
    )
}
