//! Sums for means, and maxima.

use core::arch::aarch64::*;

use crate::kernels::pool;

/// Adds sixteen channels of `count` positions, `step` bytes apart from the start of `taps` on, to `sums`; at most 255 positions.
/// Returns false, with `sums` as they were, if there are none or `taps` does not hold sixteen channels of each.
#[inline(always)]
pub fn sum_row(sums: &mut [i32; 16], mut taps: &[i8], step: usize, count: usize) -> bool {
    if count == 0 || taps.len() < (count - 1) * step + 16 {
        return false;
    }
    // SAFETY: sixteen bytes of every array, vectors are part of this architecture.
    unsafe {
        // 255 times -128 fits 16 bits.
        let (mut low, mut high) = (vdupq_n_s16(0), vdupq_n_s16(0));
        for _ in 0..count {
            let Some(sixteen) = taps.first_chunk::<16>() else { break };
            let x = vld1q_s8(sixteen.as_ptr());
            (low, high) = (vaddw_s8(low, vget_low_s8(x)), vaddw_high_s8(high, x));
            taps = taps.get(step..).unwrap_or(&[]);
        }
        let wide =
            [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)];
        for (sums, wide) in sums.as_chunks_mut::<4>().0.iter_mut().zip(wide) {
            vst1q_s32(sums.as_mut_ptr(), vaddq_s32(vld1q_s32(sums.as_ptr()), wide));
        }
    }
    true
}

/// Raises values to those of `taps`, which are as many or none.
#[inline(always)]
pub fn raise(values: &mut [i8], taps: &[i8]) {
    let (blocks, rest) = values.as_chunks_mut::<16>();
    let (sixteens, last_taps) = taps.as_chunks::<16>();
    for (block, sixteen) in blocks.iter_mut().zip(sixteens) {
        // SAFETY: reads and writes the sixteen bytes of each array.
        unsafe {
            let raised = vmaxq_s8(vld1q_s8(block.as_ptr()), vld1q_s8(sixteen.as_ptr()));
            vst1q_s8(block.as_mut_ptr(), raised);
        }
    }
    pool::raise(rest, last_taps);
}
