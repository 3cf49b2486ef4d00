//! The instructions that the compiler offers no stable name for, and the loops that need every register.

use core::arch::asm;

/// Four taps of two windows as 16-bit halves: `[x0 x2, x1 x3]` of the first window, then of the second.
///
/// The order within four taps is what sign-extending alternate bytes of a word of weights gives.
pub type Block = [Halves; 2];

/// Four taps of one window: `[x0 x2, x1 x3]`.
pub type Halves = [u32; 2];

/// Sign-extends bytes 0 and 2 of a word.
#[inline(always)]
pub fn even_bytes(word: u32) -> u32 {
    let halves;
    // SAFETY: register arithmetic only.
    unsafe { asm!("sxtb16 {0}, {1}", out(reg) halves, in(reg) word, options(pure, nomem, nostack, preserves_flags)) }
    halves
}

/// Sign-extends bytes 1 and 3 of a word.
#[inline(always)]
pub fn odd_bytes(word: u32) -> u32 {
    let halves;
    // SAFETY: register arithmetic only.
    unsafe {
        asm!("sxtb16 {0}, {1}, ror #8", out(reg) halves, in(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

/// `acc` plus the products of the low and of the high halves.
#[inline(always)]
pub fn dual_multiply_add(x: u32, w: u32, mut acc: i32) -> i32 {
    // SAFETY: register arithmetic only.
    unsafe { asm!("smlad {0}, {1}, {2}, {0}", inout(reg) acc, in(reg) x, in(reg) w, options(pure, nomem, nostack)) }
    acc
}

/// `((acc * multiplier) >> (32 + shift)) + zero_point`, rounded half up, for `shift` 1 to 30.
///
/// The carry out of the arithmetic shift is the bit of weight one half.
#[inline(always)]
pub fn scale(acc: i32, multiplier: i32, shift: u32, zero_point: i32) -> i32 {
    let y;
    // SAFETY: register arithmetic only.
    unsafe {
        asm!(
            "smmul {y}, {acc}, {multiplier}",
            "asrs {y}, {y}, {shift}",
            "adc {y}, {y}, {zero_point}",
            y = out(reg) y,
            acc = in(reg) acc,
            multiplier = in(reg) multiplier,
            shift = in(reg) shift,
            zero_point = in(reg) zero_point,
            options(pure, nomem, nostack),
        );
    }
    y
}

/// Clamps to int8.
#[inline(always)]
pub fn saturate(y: i32) -> i32 {
    let out;
    // SAFETY: register arithmetic only.
    unsafe { asm!("ssat {0}, #8, {1}", out(reg) out, in(reg) y, options(pure, nomem, nostack)) }
    out
}

/// The part of a [`Block`] that belongs to one of two windows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// First window.
    Left = 0,
    /// Second window.
    Right = 1,
}

impl Half {
    /// This half of `block`.
    #[inline(always)]
    pub fn of(self, block: &mut Block) -> &mut Halves {
        let [left, right] = block;
        match self {
            Self::Left => left,
            Self::Right => right,
        }
    }
}

/// Copies `rows` rows of `words` words each; rows start `from_step` and `to_step` bytes apart and may overlap in `to`, where
/// the later one stays.
///
/// # Safety
/// `from` points to `(rows - 1) * from_step + 4 * words` readable bytes, `to` likewise to writable ones, both of any
/// alignment; `rows` and `words` are at least 1.
#[inline(always)]
pub unsafe fn copy_rows(from: *const i8, from_step: usize, words: usize, rows: usize, to: *mut i8, to_step: usize) {
    // SAFETY: reads and writes what the caller vouches for; row advances past the last row are computed, not used.
    unsafe {
        asm!(
            "1:",
            "mov {x}, {from}",
            "mov {y}, {to}",
            "mov {n}, {words}",
            "2:",
            "ldr {word}, [{x}], #4",
            "str {word}, [{y}], #4",
            "subs {n}, {n}, #1",
            "bne 2b",
            "add {from}, {from}, {from_step}",
            "add {to}, {to}, {to_step}",
            "subs {rows}, {rows}, #1",
            "bne 1b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            from_step = in(reg) from_step,
            to_step = in(reg) to_step,
            words = in(reg) words,
            rows = inout(reg) rows => _,
            x = out(reg) _,
            y = out(reg) _,
            n = out(reg) _,
            word = out(reg) _,
            options(nostack),
        );
    }
}

/// Widens `rows` rows of `words` words each, `row_step` bytes apart, to one half of as many blocks.
///
/// # Safety
/// `from` points to `(rows - 1) * row_step + 4 * words` readable bytes of any alignment, `to` to `rows * words` blocks;
/// `rows` and `words` are at least 1.
#[inline(always)]
pub unsafe fn widen_rows(from: *const i8, row_step: usize, words: usize, rows: usize, to: *mut Halves) {
    // SAFETY: reads and writes what the caller vouches for; row advances past the last row are computed, not read.
    unsafe {
        asm!(
            ".macro stitchkit_widen",
            "ldr r3, [{x}], #4",
            "sxtb16 r2, r3",
            "sxtb16 r3, r3, ror #8",
            "strd r2, r3, [{to}], #16",
            ".endm",
            "1:",
            "mov {x}, {from}",
            "add {from}, {from}, {row_step}",
            "subs {n}, {words}, #4",
            "blt 3f",
            "2:",
            "stitchkit_widen",
            "stitchkit_widen",
            "stitchkit_widen",
            "stitchkit_widen",
            "subs {n}, {n}, #4",
            "bge 2b",
            "3:",
            "adds {n}, {n}, #4",
            "beq 5f",
            "4:",
            "stitchkit_widen",
            "subs {n}, {n}, #1",
            "bne 4b",
            "5:",
            "subs {rows}, {rows}, #1",
            "bne 1b",
            ".purgem stitchkit_widen",
            from = inout(reg) from => _,
            row_step = in(reg) row_step,
            words = in(reg) words,
            rows = inout(reg) rows => _,
            to = inout(reg) to => _,
            x = out(reg) _,
            n = out(reg) _,
            out("r2") _,
            out("r3") _,
            options(nostack),
        );
    }
}

/// Adds the products of two filters and both windows of `blocks` to `sums[filter][window]`.
///
/// # Safety
/// `filters` each point to `4 * blocks.len()` readable bytes, of any alignment.
#[inline(always)]
pub unsafe fn two_filters_two_windows(sums: &mut [[i32; 2]; 2], blocks: &[Block], filters: [*const i8; 2]) {
    // SAFETY: reads `blocks.len()` blocks, which are word-aligned, and as many words from each filter. r6, r7 and r11 are
    // not available as operands and are restored before the end.
    unsafe {
        asm!(
            ".macro stitchkit_block",
            "ldm r4!, {{r6, r7, r10, r11}}",
            "ldr lr, [r5], #4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r0, r12, r6, r0",
            "smlad r1, r12, r10, r1",
            "smlad r0, lr, r7, r0",
            "smlad r1, lr, r11, r1",
            "ldr lr, [r8], #4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r2, r12, r6, r2",
            "smlad r3, r12, r10, r3",
            "smlad r2, lr, r7, r2",
            "smlad r3, lr, r11, r3",
            ".endm",
            "push {{r6, r7, r11}}",
            "subs r9, r9, #4",
            "blt 3f",
            "2:",
            "stitchkit_block",
            "stitchkit_block",
            "stitchkit_block",
            "stitchkit_block",
            "subs r9, r9, #4",
            "bge 2b",
            "3:",
            "adds r9, r9, #4",
            "beq 5f",
            "4:",
            "stitchkit_block",
            "subs r9, r9, #1",
            "bne 4b",
            "5:",
            "pop {{r6, r7, r11}}",
            ".purgem stitchkit_block",
            inout("r0") sums[0][0],
            inout("r1") sums[0][1],
            inout("r2") sums[1][0],
            inout("r3") sums[1][1],
            inout("r4") blocks.as_ptr() => _,
            inout("r5") filters[0] => _,
            inout("r8") filters[1] => _,
            inout("r9") blocks.len() => _,
            out("r10") _,
            out("r12") _,
            out("lr") _,
            options(readonly),
        );
    }
}

/// Adds the products of two filters and one window, eight taps per block, to `sums`.
///
/// # Safety
/// `filters` each point to `8 * blocks.len()` readable bytes, of any alignment.
#[inline(always)]
pub unsafe fn two_filters_one_window(sums: &mut [i32; 2], blocks: &[Block], filters: [*const i8; 2]) {
    // SAFETY: reads `blocks.len()` blocks, which are word-aligned, and twice as many words from each filter. r6 and r7 are
    // not available as operands and are restored before the end.
    unsafe {
        asm!(
            "push {{r6, r7}}",
            "subs r4, r4, #1",
            "blt 3f",
            "2:",
            "ldm r0!, {{r6, r7, r8, r9}}",
            "ldr lr, [r1], #4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r2, r12, r6, r2",
            "smlad r2, lr, r7, r2",
            "ldr lr, [r1], #4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r2, r12, r8, r2",
            "smlad r2, lr, r9, r2",
            "ldr lr, [r5], #4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r3, r12, r6, r3",
            "smlad r3, lr, r7, r3",
            "ldr lr, [r5], #4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r3, r12, r8, r3",
            "smlad r3, lr, r9, r3",
            "subs r4, r4, #1",
            "bge 2b",
            "3:",
            "pop {{r6, r7}}",
            inout("r0") blocks.as_ptr() => _,
            inout("r1") filters[0] => _,
            inout("r5") filters[1] => _,
            inout("r2") sums[0],
            inout("r3") sums[1],
            inout("r4") blocks.len() => _,
            out("r8") _,
            out("r9") _,
            out("r12") _,
            out("lr") _,
            options(readonly),
        );
    }
}

/// Adds the products of `taps` taps of four channels to `sums`; the steps are the bytes from tap to tap.
///
/// # Safety
/// `taps` is at least 1; `x` points to `(taps - 1) * x_step + 4` readable bytes, `w` likewise; both of any alignment.
#[inline(always)]
pub unsafe fn row_of_taps(sums: &mut [i32; 4], taps: usize, x: *const i8, x_step: usize, w: *const i8, w_step: usize) {
    // SAFETY: reads words up to the ends that the caller vouches for; addresses past them are computed, not read. r6 and r7
    // are not available as operands and are restored before the end.
    unsafe {
        asm!(
            "push {{r6, r7}}",
            "1:",
            "ldr r10, [r4]",
            "add r4, r4, r8",
            "ldr lr, [r5]",
            "add r5, r5, r9",
            "sxtb16 r6, r10",
            "sxtb16 r10, r10, ror #8",
            "sxtb16 r7, lr",
            "sxtb16 lr, lr, ror #8",
            "smlabb r0, r6, r7, r0",
            "smlatt r2, r6, r7, r2",
            "smlabb r1, r10, lr, r1",
            "smlatt r3, r10, lr, r3",
            "subs r12, r12, #1",
            "bne 1b",
            "pop {{r6, r7}}",
            inout("r0") sums[0],
            inout("r1") sums[1],
            inout("r2") sums[2],
            inout("r3") sums[3],
            inout("r4") x => _,
            inout("r5") w => _,
            in("r8") x_step,
            in("r9") w_step,
            out("r10") _,
            inout("r12") taps => _,
            out("lr") _,
            options(readonly),
        );
    }
}

/// Adds the products of a 3x3 depthwise window for four channels to `sums`. Taps of a row are `pitch` bytes apart, rows of
/// the input `row_pitch`, rows of the weights `3 * pitch`.
///
/// # Safety
/// `x` points to `2 * row_pitch + 2 * pitch + 4` readable bytes, `w` to `8 * pitch + 4`; both of any alignment.
#[inline(always)]
pub unsafe fn nine_taps(sums: &mut [i32; 4], x: *const i8, w: *const i8, pitch: usize, row_pitch: usize) {
    // SAFETY: reads words up to the ends that the caller vouches for. r6 is not available as an operand and is restored
    // before the end.
    unsafe {
        asm!(
            ".macro stitchkit_tap",
            "sxtb16 r12, r10",
            "sxtb16 r10, r10, ror #8",
            "sxtb16 r6, lr",
            "sxtb16 lr, lr, ror #8",
            "smlabb r0, r12, r6, r0",
            "smlatt r2, r12, r6, r2",
            "smlabb r1, r10, lr, r1",
            "smlatt r3, r10, lr, r3",
            ".endm",
            ".macro stitchkit_row",
            "ldr r10, [r4]",
            "ldr lr, [r5]",
            "stitchkit_tap",
            "ldr r10, [r4, r8]",
            "ldr lr, [r5, r8]",
            "stitchkit_tap",
            "ldr r10, [r4, r8, lsl #1]",
            "ldr lr, [r5, r8, lsl #1]",
            "stitchkit_tap",
            ".endm",
            "push {{r6, r7}}",
            "stitchkit_row",
            "add r4, r4, r9",
            "add r5, r5, r8",
            "add r5, r5, r8, lsl #1",
            "stitchkit_row",
            "add r4, r4, r9",
            "add r5, r5, r8",
            "add r5, r5, r8, lsl #1",
            "stitchkit_row",
            "pop {{r6, r7}}",
            ".purgem stitchkit_row",
            ".purgem stitchkit_tap",
            inout("r0") sums[0],
            inout("r1") sums[1],
            inout("r2") sums[2],
            inout("r3") sums[3],
            inout("r4") x => _,
            inout("r5") w => _,
            in("r8") pitch,
            in("r9") row_pitch,
            out("r10") _,
            out("r12") _,
            out("lr") _,
            options(readonly),
        );
    }
}
