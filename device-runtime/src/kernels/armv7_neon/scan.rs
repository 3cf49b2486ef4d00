//! Looks for weights of -128.

use core::arch::naked_asm;

/// Whether two products of weights and values may not fit 16 bits: some weight is -128. The exporter writes no such weights.
///
/// The processor has the vectors.
pub fn has_least(weights: &[i8]) -> bool {
    let (blocks, rest) = weights.as_chunks::<32>();
    // SAFETY: the function reads the blocks and is only reached on processors that have the vectors.
    rest.contains(&i8::MIN) || (!blocks.is_empty() && unsafe { least(blocks.as_ptr(), blocks.len()) } == i8::MIN.into())
}

/// The least of `count` times 32 bytes, sign extended; `count` is at least 1.
///
/// # Safety
/// The processor has the vectors, and `from` as many readable bytes.
#[unsafe(naked)]
unsafe extern "C" fn least(from: *const [i8; 32], count: usize) -> i32 {
    naked_asm!(
        ".fpu neon",
        "vmov.i8 q8, #127",
        "vmov.i8 q9, #127",
        "1:",
        "vld1.8 {{d0-d3}}, [r0]!",
        "vmin.s8 q8, q8, q0",
        "vmin.s8 q9, q9, q1",
        "subs r1, r1, #1",
        "bne 1b",
        "vmin.s8 q8, q8, q9",
        "vmin.s8 d0, d16, d17",
        "vpmin.s8 d0, d0, d0",
        "vpmin.s8 d0, d0, d0",
        "vpmin.s8 d0, d0, d0",
        "vmov.s8 r0, d0[0]",
        "bx lr",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::armv7_neon::is_present;

    #[test]
    fn one_weight_is_found_anywhere() {
        if !is_present() {
            return;
        }
        for len in 0..100 {
            let mut weights = vec![-127i8; len];
            assert!(!has_least(&weights), "{len}");
            for at in 0..len {
                weights[at] = i8::MIN;
                assert!(has_least(&weights), "{at} of {len}");
                weights[at] = 127;
            }
        }
    }
}
