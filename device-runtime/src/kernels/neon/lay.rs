//! Rows laid together, for instructions that take a few taps of several.

use core::arch::aarch64::*;

/// The window at a place of a block.
const fn window_at<const UNIT: usize>(place: usize) -> usize {
    match (UNIT, place % 4) {
        (8, 1) => place + 1,
        (8, 2) => place - 1,
        _ => place,
    }
}

/// Lays `taps` taps of windows together: a unit of every window, four taps or eight, then the next. With units of eight, every four
/// windows are in the order 0, 2, 1, 3. `taps` is a multiple of the unit.
///
/// # Safety
/// Every window has as many readable bytes, and `out` as many for each that can be written.
#[inline(always)]
pub unsafe fn lay<const UNIT: usize, const W: usize>(x: [*const i8; W], taps: usize, mut out: *mut i8) {
    let x: [*const i8; W] = core::array::from_fn(|place| x[window_at::<UNIT>(place) % W]);
    let mut at = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while at + 16 <= taps {
            for four in 0..W / 4 {
                let [a, b, c, d] =
                    [0, 1, 2, 3].map(|i| vreinterpretq_s32_s8(vld1q_s8(x[4 * four + i].wrapping_add(at))));
                let vectors = if UNIT == 8 { halves([a, b, c, d], W) } else { quarters([a, b, c, d], W) };
                for (vector, place) in vectors {
                    vst1q_s32(out.wrapping_add(place + 4 * UNIT * four).cast(), vector);
                }
            }
            (at, out) = (at + 16, out.wrapping_add(16 * W));
        }
        while at < taps {
            for (place, x) in x.iter().enumerate() {
                let (from, to) = (x.wrapping_add(at), out.wrapping_add(place * UNIT));
                if UNIT == 8 {
                    to.cast::<u64>().write_unaligned(from.cast::<u64>().read_unaligned());
                } else {
                    to.cast::<u32>().write_unaligned(from.cast::<u32>().read_unaligned());
                }
            }
            (at, out) = (at + UNIT, out.wrapping_add(UNIT * W));
        }
    }
}

/// Vectors of two units of eight taps of four windows, and where they go.
#[inline(always)]
unsafe fn halves(windows: [int32x4_t; 4], block_windows: usize) -> [(int32x4_t, usize); 4] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let [a, b, c, d] = windows.map(|window| vreinterpretq_s64_s32(window));
        let pair = |vector| vreinterpretq_s32_s64(vector);
        let unit = 8 * block_windows;
        [
            (pair(vzip1q_s64(a, b)), 0),
            (pair(vzip1q_s64(c, d)), 16),
            (pair(vzip2q_s64(a, b)), unit),
            (pair(vzip2q_s64(c, d)), unit + 16),
        ]
    }
}

/// Vectors of four units of four taps of four windows, and where they go.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [int32x4_t; 4], block_windows: usize) -> [(int32x4_t, usize); 4] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let pairs = |a, b| [vreinterpretq_s64_s32(vtrn1q_s32(a, b)), vreinterpretq_s64_s32(vtrn2q_s32(a, b))];
        let ([even, odd], [even_too, odd_too]) = (pairs(a, b), pairs(c, d));
        let unit = 4 * block_windows;
        [
            (vreinterpretq_s32_s64(vzip1q_s64(even, even_too)), 0),
            (vreinterpretq_s32_s64(vzip1q_s64(odd, odd_too)), unit),
            (vreinterpretq_s32_s64(vzip2q_s64(even, even_too)), 2 * unit),
            (vreinterpretq_s32_s64(vzip2q_s64(odd, odd_too)), 3 * unit),
        ]
    }
}
