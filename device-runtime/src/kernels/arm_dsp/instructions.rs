//! The instructions that the compiler offers no stable name for, and the loops that need every register.

use core::arch::asm;

/// Four taps as 16-bit halves: `[x0 x2, x1 x3]`, the order that sign-extending alternate bytes gives.
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

/// Clamps to int8.
#[inline(always)]
pub fn saturate(y: i32) -> i32 {
    let out;
    // SAFETY: register arithmetic only.
    unsafe { asm!("ssat {0}, #8, {1}", out(reg) out, in(reg) y, options(pure, nomem, nostack)) }
    out
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

/// Body of the loops below: `stitchkit_widen`, four at a time, then one by one. The operand of this name holds how often, less
/// four, and the flags are those of that subtraction.
macro_rules! widen_all {
    ($left:literal) => {
        concat!(
            "blt 3f\n2:\nstitchkit_widen\nstitchkit_widen\nstitchkit_widen\nstitchkit_widen\n",
            "subs {",
            $left,
            "}, {",
            $left,
            "}, #4\nbge 2b\n3:\nadds {",
            $left,
            "}, {",
            $left,
            "}, #4\nbeq 5f\n4:\nstitchkit_widen\nsubs {",
            $left,
            "}, {",
            $left,
            "}, #1\nbne 4b\n5:"
        )
    };
}

/// Widens `rows` rows of `words` words each, `row_step` bytes apart, to every fourth place; `skip` bytes are added to the place
/// after each row.
///
/// # Safety
/// `from` points to `(rows - 1) * row_step + 4 * words` readable bytes of any alignment, `to` to as many places;
/// `rows` and `words` are at least 1.
#[inline(never)]
pub unsafe fn widen_rows(from: *const i8, row_step: usize, words: usize, rows: usize, to: *mut Halves, skip: isize) {
    // SAFETY: reads and writes what the caller vouches for; advances past the last row are computed, not used.
    unsafe {
        asm!(
            ".macro stitchkit_widen",
            "ldr r3, [{x}], #4",
            "sxtb16 r2, r3",
            "sxtb16 r3, r3, ror #8",
            "strd r2, r3, [{to}], #32",
            ".endm",
            "1:",
            "mov {x}, {from}",
            "add {from}, {from}, {row_step}",
            "subs {n}, {words}, #4",
            widen_all!("n"),
            "add {to}, {to}, {skip}",
            "subs {rows}, {rows}, #1",
            "bne 1b",
            ".purgem stitchkit_widen",
            from = inout(reg) from => _,
            row_step = in(reg) row_step,
            words = in(reg) words,
            rows = inout(reg) rows => _,
            to = inout(reg) to => _,
            skip = in(reg) skip,
            x = out(reg) _,
            n = out(reg) _,
            out("r2") _,
            out("r3") _,
            options(nostack),
        );
    }
}

/// Widens `words` words.
///
/// # Safety
/// `from` points to as many readable words of any alignment, `to` to as many places; `words` is at least 1.
#[inline(never)]
pub unsafe fn widen_words(from: *const i8, words: usize, to: *mut Halves) {
    // SAFETY: reads and writes what the caller vouches for.
    unsafe {
        asm!(
            // Four at a time from a word boundary.
            "tst {from}, #3",
            "bne 4f",
            "subs {words}, {words}, #4",
            "blt 3f",
            "2:",
            "ldm {from}!, {{r3, r5, r9, r12}}",
            "sxtb16 r2, r3",
            "sxtb16 r3, r3, ror #8",
            "sxtb16 r4, r5",
            "sxtb16 r5, r5, ror #8",
            "sxtb16 r8, r9",
            "sxtb16 r9, r9, ror #8",
            "sxtb16 r10, r12",
            "sxtb16 r12, r12, ror #8",
            "stm {to}!, {{r2, r3, r4, r5, r8, r9, r10, r12}}",
            "subs {words}, {words}, #4",
            "bge 2b",
            "3:",
            "adds {words}, {words}, #4",
            "beq 5f",
            "4:",
            "ldr r3, [{from}], #4",
            "sxtb16 r2, r3",
            "sxtb16 r3, r3, ror #8",
            "strd r2, r3, [{to}], #8",
            "subs {words}, {words}, #1",
            "bne 4b",
            "5:",
            from = inout(reg) from => _,
            words = inout(reg) words => _,
            to = inout(reg) to => _,
            out("r2") _,
            out("r3") _,
            out("r4") _,
            out("r5") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r12") _,
            options(nostack),
        );
    }
}
