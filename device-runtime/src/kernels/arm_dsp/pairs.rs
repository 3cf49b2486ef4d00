//! Loops over pairs of filters for a single window: what a fully connected layer does for one vector.
//!
//! Weights are read four words at a time. Where filters lie one after the other, the first filter runs two words ahead, to need four
//! registers for both: each half of a block uses up the two words that are left of one filter, then reads four of the other and uses
//! two. So the last reading of the first filter takes two words of the second, which are not used.
//!
//! A word of a woven pair is two taps of both filters. Multiplied as it is, it adds 256 times the products of the odd filter and once
//! those of the even one; its low bytes add the latter alone. So three instructions do what takes four where each filter's bytes
//! have to be told apart, and the odd filter's sum is what is left, shifted right by eight.

use core::arch::naked_asm;

use super::instructions::Halves;

/// Requantizes and stores two accumulators, in r10 and r11, and ends the function at label 7 after the last. The carry out of the
/// arithmetic shift is the bit of weight one half. Overwrites lr and the register given.
macro_rules! land {
    ($spare:literal) => {
        concat!(
            "ldrd ",
            $spare,
            ", lr, [r0], #8\n",
            "smmul r10, r10, ",
            $spare,
            "\n",
            "smmul r11, r11, lr\n",
            "ldrh ",
            $spare,
            ", [r1], #2\n",
            "add ",
            $spare,
            ", ",
            $spare,
            ", r5\n",
            "asrs r10, r10, ",
            $spare,
            "\n",
            "adc r10, r10, r6\n",
            "lsr ",
            $spare,
            ", ",
            $spare,
            ", #8\n",
            "asrs r11, r11, ",
            $spare,
            "\n",
            "adc r11, r11, r6\n",
            "ssat r10, #8, r10\n",
            "ssat r11, #8, r11\n",
            "strb r10, [r2], #1\n",
            "strb r11, [r2], #1\n",
            "cmp r2, r4\n",
            "beq.w 7f",
        )
    };
}

/// Tables, weights and places of an even number of filters.
#[repr(C)]
pub struct Pairs {
    pub multiplier: *const i32,
    pub shift: *const u8,
    pub out: *mut i8,
    pub bias: *const i32,
    /// Behind the last output.
    pub out_end: *const i8,
    /// Bits by which accumulators are shifted left, minus 32, times 257: for two shifts at once.
    pub scale: i32,
    pub zero_point: i32,
    /// Weights of a filter, a multiple of eight.
    pub taps: usize,
    /// Taps of the window.
    pub columns: *const Halves,
    pub weights: *const i8,
    /// Bits by which accumulators are shifted left.
    pub bits: u32,
}

/// All filters over one window.
///
/// # Safety
/// Every pointer of `pairs` suits its description, for a positive even number of filters of at least eight weights each; the
/// columns hold all quads of the window; weights, columns, biases and multipliers are on word boundaries. No shift plus
/// `bits` is below 33.
#[unsafe(naked)]
pub unsafe extern "C" fn one_window(pairs: &Pairs) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_word acc, word, even, odd",
        "sxtb16 lr, \\word",
        "sxtb16 \\word, \\word, ror #8",
        "smlad \\acc, lr, \\even, \\acc",
        "smlad \\acc, \\word, \\odd, \\acc",
        ".endm",
        // Eight taps of both filters: 18 instructions of four bytes.
        ".macro stitchkit_half left, from, acc",
        "ldm r12!, {{r4, r5, r6, r7}}",
        "stitchkit_word \\left, r2, r4, r5",
        "stitchkit_word \\left, r3, r6, r7",
        "ldm \\from!, {{r0, r1, r2, r3}}",
        "stitchkit_word \\acc, r0, r4, r5",
        "stitchkit_word \\acc, r1, r6, r7",
        ".endm",
        ".macro stitchkit_block",
        "stitchkit_half r10, r9, r11",
        "stitchkit_half r11, r8, r10",
        ".endm",
        ".macro stitchkit_pair",
        "ldrd r10, r11, [r3], #8",
        "stm sp, {{r0, r1, r2, r3}}",
        "mov r8, r9",
        "add r9, r9, r7",
        "ldrd r2, r3, [r8], #8",
        ".endm",
        // Room for the rounding bit: 12 bytes.
        ".macro stitchkit_room",
        ".balign 4",
        "ldr.w lr, [sp, #52]",
        "lsl.w r10, r10, lr",
        "lsl.w r11, r11, lr",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        // On the stack: the first nine words of `pairs`, the address that requantizes, the one that a pair starts at, the half
        // that it starts with, the end of the columns, the bits, and what follows a round of the loop.
        "sub sp, sp, #60",
        "ldm r0!, {{r1, r2, r3, r4, r5, r6, r7, r8, r12}}",
        "stm sp, {{r1, r2, r3, r4, r5, r6, r7, r8, r12}}",
        "ldr r9, [r0]",
        "add r7, r12, r8, lsl #1",
        // The first round starts so far in that the last one ends with the loop.
        "rsb r1, r8, #0",
        "ubfx r1, r1, #3, #4",
        "adr.w r6, 2f",
        "mov r2, #72",
        "mla r6, r1, r2, r6",
        "orr r6, r6, #1",
        "adr.w r5, 6f",
        "orr r5, r5, #1",
        "tst r1, #1",
        "it eq",
        "moveq r5, r6",
        // Up to 128 taps there is one round, and no need to compare.
        "adr.w r3, 9f",
        "orr r3, r3, #1",
        "cmp r8, #128",
        "it hi",
        "subhi r3, r3, #12",
        "str r3, [sp, #56]",
        // Whole rounds start at the top of the loop, without a jump.
        "adr.w r4, 4f",
        "adr.w r3, 8f",
        "lsls r2, r8, #25",
        "it eq",
        "moveq r4, r3",
        "ldr r8, [r0, #4]",
        "orr r4, r4, #1",
        "cmp r8, #0",
        "it ne",
        "subne r4, r4, #12",
        "add lr, sp, #36",
        "stm lr, {{r4, r5, r6, r7, r8}}",
        "cmp r2, #0",
        "ldm sp, {{r0, r1, r2, r3, r4, r5, r6, r7, r12}}",
        "beq 10f",
        "b.w 5f",
        "stitchkit_room",
        "8:",
        land!("r8"),
        "10:",
        "stitchkit_pair",
        "2:",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "ldr pc, [sp, #56]",
        // Is this the end of the columns? 12 bytes.
        ".balign 4",
        "ldr.w lr, [sp, #48]",
        "cmp.w r12, lr",
        "bne.w 2b",
        "9:",
        "ldm sp, {{r0, r1, r2, r3, r4, r5, r6, r7, r12, pc}}",
        "stitchkit_room",
        "4:",
        land!("r8"),
        "5:",
        "stitchkit_pair",
        "ldr pc, [sp, #40]",
        // An odd number of halves starts with words of the second filter.
        ".balign 4",
        "6:",
        "sub r8, r8, #8",
        "ldrd r2, r3, [r9], #8",
        "ldr pc, [sp, #44]",
        "7:",
        "add sp, sp, #60",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_pair",
        ".purgem stitchkit_room",
        ".purgem stitchkit_block",
        ".purgem stitchkit_half",
        ".purgem stitchkit_word",
        leave_thumb!(),
    )
}

/// All filters, woven in pairs, over one window.
///
/// # Safety
/// Every pointer of `pairs` suits its description, for a positive even number of filters, a multiple of eight weights each; the
/// columns hold all quads of the window; weights, columns, biases and multipliers are on word boundaries. No shift plus
/// `bits` is below 33.
#[cfg(feature = "woven")]
#[unsafe(naked)]
pub unsafe extern "C" fn one_window_woven(pairs: &Pairs) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_word word, taps",
        "sxtb16 lr, \\word",
        "smlad r11, \\word, \\taps, r11",
        "smlad r10, lr, \\taps, r10",
        ".endm",
        // Eight taps of both filters: 14 instructions of four bytes.
        ".macro stitchkit_half",
        "ldm r12!, {{r4, r5, r6, r7}}",
        "ldm r8!, {{r0, r1, r2, r3}}",
        "stitchkit_word r0, r4",
        "stitchkit_word r1, r5",
        "stitchkit_word r2, r6",
        "stitchkit_word r3, r7",
        ".endm",
        ".macro stitchkit_block",
        "stitchkit_half",
        "stitchkit_half",
        "stitchkit_half",
        "stitchkit_half",
        ".endm",
        // The odd filter's bias stays in r9.
        ".macro stitchkit_pair",
        "ldrd r10, r9, [r3], #8",
        "mov r11, r10",
        "stm sp, {{r0, r1, r2, r3}}",
        ".endm",
        ".macro stitchkit_apart",
        "sub r11, r11, r10",
        "add r11, r9, r11, asr #8",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        // On the stack: the first nine words of `pairs`, the address that requantizes, the one that a pair starts at, the end of
        // the columns, the bits, and what follows a round of the loop.
        "sub sp, sp, #60",
        "ldm r0!, {{r1, r2, r3, r4, r5, r6, r7, r8, r12}}",
        "stm sp, {{r1, r2, r3, r4, r5, r6, r7, r8, r12}}",
        "add r6, r12, r8, lsl #1",
        // The first round starts so far in that the last one ends with the loop.
        "rsb r1, r8, #0",
        "ubfx r1, r1, #3, #4",
        "adr.w r5, 2f",
        "mov r2, #56",
        "mla r5, r1, r2, r5",
        "orr r5, r5, #1",
        // Up to 128 taps there is one round, and no need to compare.
        "adr.w r3, 9f",
        "orr r3, r3, #1",
        "cmp r8, #128",
        "it hi",
        "subhi r3, r3, #12",
        "str r3, [sp, #52]",
        "ldrd r8, r7, [r0]",
        "adr.w r4, 4f",
        "orr r4, r4, #1",
        "cmp r7, #0",
        "it ne",
        "subne r4, r4, #24",
        "add lr, sp, #36",
        "stm lr, {{r4, r5, r6, r7}}",
        "ldm sp, {{r0, r1, r2, r3, r4, r5, r6, r7, r12}}",
        "b 5f",
        // Room for the rounding bit: 24 bytes.
        ".balign 4",
        "stitchkit_apart",
        "ldr.w lr, [sp, #48]",
        "lsl.w r10, r10, lr",
        "lsl.w r11, r11, lr",
        "b.w 6f",
        "4:",
        "stitchkit_apart",
        "6:",
        land!("r9"),
        "5:",
        "stitchkit_pair",
        "ldr pc, [sp, #40]",
        ".balign 4",
        "2:",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "stitchkit_block",
        "ldr pc, [sp, #52]",
        // Is this the end of the columns? 12 bytes.
        ".balign 4",
        "ldr.w lr, [sp, #44]",
        "cmp.w r12, lr",
        "bne.w 2b",
        "9:",
        "ldm sp, {{r0, r1, r2, r3, r4, r5, r6, r7, r12, pc}}",
        "7:",
        "add sp, sp, #60",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_apart",
        ".purgem stitchkit_pair",
        ".purgem stitchkit_block",
        ".purgem stitchkit_half",
        ".purgem stitchkit_word",
        leave_thumb!(),
    )
}
