//! Sums of pooling windows, eight channels at a time.

use core::arch::naked_asm;

/// Adds eight channels of `count` positions, `step` bytes apart from the start of `taps` on, to `sums`; at most 255
/// positions, whose sums fit 16 bits. Returns false, with `sums` as they were, if there are none or `taps` does not hold them.
#[inline(always)]
pub fn sum_row(sums: &mut [i32; 8], taps: &[i8], step: usize, count: usize) -> bool {
    if count == 0 || taps.len() < (count - 1) * step + 8 {
        return false;
    }
    let mut halves = [0i16; 8];
    // SAFETY: `taps` reaches to the last position's eight channels.
    unsafe { sum_eight(taps.as_ptr(), step, count, halves.as_mut_ptr()) };
    for (sum, half) in sums.iter_mut().zip(halves) {
        *sum = sum.wrapping_add(half.into());
    }
    true
}

/// Sums of eight channels in 16 bits.
///
/// # Safety
/// `from` leads over `count` times eight readable bytes, `step` apart; `to` has room for eight sums. `count` is at least 1.
#[unsafe(naked)]
unsafe extern "C" fn sum_eight(from: *const i8, step: usize, count: usize, to: *mut i16) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, lr}}",
        "vmov.i32 q0, #0",
        "dls lr, r2",
        "1:",
        "vldrb.s16 q1, [r0]",
        "add r0, r0, r1",
        "vadd.i16 q0, q0, q1",
        "le lr, 1b",
        "vstrh.16 q0, [r3]",
        "pop {{r4, pc}}",
    )
}
