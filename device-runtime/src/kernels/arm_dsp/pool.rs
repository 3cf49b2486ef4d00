//! Sums of pooling windows, four channels at a time.

use core::arch::asm;

/// Adds four channels of `count` positions, `step` bytes apart from the start of `taps` on, to `sums`; at most 255 positions,
/// whose sums fit 16 bits. Returns false, with `sums` as they were, if there are none or `taps` does not hold them.
#[inline(always)]
pub fn sum_row(sums: &mut [i32; 4], taps: &[i8], step: usize, count: usize) -> bool {
    if count == 0 || taps.len() < (count - 1) * step + 4 {
        return false;
    }
    let (even, odd): (u32, u32);
    // SAFETY: `taps` reaches to the last position's four channels; an address past it is computed, not read.
    unsafe {
        asm!(
            "1:",
            "ldr {word}, [{from}]",
            "add {from}, {from}, {step}",
            "sxtab16 {even}, {even}, {word}",
            "sxtab16 {odd}, {odd}, {word}, ror #8",
            "subs {count}, {count}, #1",
            "bne 1b",
            from = inout(reg) taps.as_ptr() => _,
            step = in(reg) step,
            count = inout(reg) count => _,
            even = inout(reg) 0 => even,
            odd = inout(reg) 0 => odd,
            word = out(reg) _,
            options(readonly, nostack),
        );
    }
    let halves = [even as u16, odd as u16, (even >> 16) as u16, (odd >> 16) as u16];
    for (sum, half) in sums.iter_mut().zip(halves) {
        *sum = sum.wrapping_add((half as i16).into());
    }
    true
}
