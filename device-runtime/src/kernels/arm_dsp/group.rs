//! Constants of depthwise 3x3 convolution, four channels at a time.

use core::arch::naked_asm;

use crate::kernels::params::Requant;

/// Constants of four channels, in the order in which [`row_of_windows`] reads them.
#[derive(Default)]
#[repr(C)]
pub struct Group {
    /// Per kernel column: rows 0 and 1 of each channel, then row 2 of channels 0 and 2, 1 and 3.
    weights: [[u32; 6]; 3],
    /// Two channels each: multipliers, shifts less 32, zero point.
    scales: [[i32; 5]; 2],
    bias: [i32; 4],
}

/// Where the constants of all channels are.
pub struct Source<'a> {
    pub q: &'a Requant<'a>,
    pub bits: u32,
    pub weights: &'a [i8],
    pub channels: usize,
}

impl Source<'_> {
    /// Makes `group` the constants of four channels from `first` on; `None` if there are too few. Weights and biases are shifted left by `bits`, at most 8, so that weights
    /// still fit 16 bits.
    #[inline(never)]
    pub fn load(&self, first: usize, group: &mut Group) -> Option<()> {
        let end = first + 4;
        let pack = Pack {
            weights: self.weights.get(first..8 * self.channels + end)?.as_ptr(),
            channels: self.channels,
            bits: self.bits,
            multiplier: self.q.multiplier.get(first..end)?.as_ptr(),
            bias: self.q.bias.get(first..end)?.as_ptr(),
            shift: self.q.shift.get(first..end)?.as_ptr(),
            zero_point: self.q.landing.zero_point.into(),
        };
        // SAFETY: nine taps of four channels and as many table entries exist.
        unsafe { pack_group(group, &pack) };
        Some(())
    }
}

/// What [`pack_group`] reads. Pointers are those of the first of four channels.
#[repr(C)]
struct Pack {
    weights: *const i8,
    /// Bytes from tap to tap.
    channels: usize,
    bits: u32,
    multiplier: *const i32,
    bias: *const i32,
    shift: *const u8,
    zero_point: i32,
}

/// Brings the constants of four channels in order.
///
/// # Safety
/// Nine taps of four weights exist, and four entries of each table.
#[unsafe(naked)]
unsafe extern "C" fn pack_group(group: &mut Group, pack: &Pack) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_up word",
        "lsl \\word, \\word, r4",
        "bic \\word, \\word, r12",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "push {{r1}}",
        "ldm r1, {{r2, r3, r4}}",
        // Bits that a shifted low half leaves in the high one.
        "mov r12, #0x10000",
        "lsl r12, r12, r4",
        "sub r12, r12, #0x10000",
        "add r11, r3, r3, lsl #1",
        "mov r1, #3",
        "1:",
        "ldr r5, [r2]",
        "ldr r6, [r2, r11]",
        "ldr r7, [r2, r11, lsl #1]",
        "add r2, r2, r3",
        "sxtb16 r8, r5",
        "sxtb16 r9, r6",
        "sxtb16 r10, r7",
        "sxtb16 r5, r5, ror #8",
        "sxtb16 r6, r6, ror #8",
        "sxtb16 r7, r7, ror #8",
        "pkhbt lr, r8, r9, lsl #16",
        "pkhtb r9, r9, r8, asr #16",
        "pkhbt r8, r5, r6, lsl #16",
        "pkhtb r6, r6, r5, asr #16",
        "cbz r4, 2f",
        "stitchkit_up lr",
        "stitchkit_up r8",
        "stitchkit_up r9",
        "stitchkit_up r6",
        "stitchkit_up r10",
        "stitchkit_up r7",
        "2:",
        "strd lr, r8, [r0], #8",
        "strd r9, r6, [r0], #8",
        "strd r10, r7, [r0], #8",
        "subs r1, r1, #1",
        "bne 1b",
        "pop {{r1}}",
        "add r1, r1, #12",
        "ldm r1, {{r1, r2, r3, r12}}",
        "ldm r1, {{r5, r6, r7, r8}}",
        "sub r11, r4, #32",
        "ldrb r1, [r3]",
        "ldrb r9, [r3, #1]",
        "ldrb r10, [r3, #2]",
        "ldrb r3, [r3, #3]",
        "add r1, r1, r11",
        "add r9, r9, r11",
        "add r10, r10, r11",
        "add r3, r3, r11",
        "strd r5, r6, [r0], #8",
        "strd r1, r9, [r0], #8",
        "str r12, [r0], #4",
        "strd r7, r8, [r0], #8",
        "strd r10, r3, [r0], #8",
        "str r12, [r0], #4",
        "ldm r2, {{r5, r6, r7, r8}}",
        "lsl r5, r5, r4",
        "lsl r6, r6, r4",
        "lsl r7, r7, r4",
        "lsl r8, r8, r4",
        "stm r0, {{r5, r6, r7, r8}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_up",
        leave_thumb!(),
    )
}
