//! Layer norm, sixteen channels at a time.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::kernels::layer_norm::{LayerNorm, Spread};

/// Normalises the channels of a position whose values have `spread` in common, in whole vectors; returns how many were done: a
/// multiple of sixteen. Gains and offsets are as many as values.
#[inline(never)]
pub fn normalise(norm: &LayerNorm<'_>, spread: &Spread, x: &[i8], [gain, offset]: [&[i32]; 2], y: &mut [i8]) -> usize {
    // 2^31 has no place in a lane.
    let Ok(reciprocal) = i32::try_from(spread.reciprocal) else { return 0 };
    let vectors = Vectors::new(norm, spread, reciprocal);
    let (places, x) = (y.as_chunks_mut::<16>().0, x.as_chunks::<16>().0);
    let tables = gain.as_chunks::<16>().0.iter().zip(offset.as_chunks::<16>().0);
    let mut done = 0;
    for ((place, x), (gain, offset)) in places.iter_mut().zip(x).zip(tables) {
        vectors.sixteen(x, gain, offset, place);
        done += 16;
    }
    done
}

/// The sum of values and of their squares, of whole vectors of sixteen, and how many those are. There are less than 2^15 values.
#[inline(always)]
pub fn sums(x: &[i8]) -> (i32, u32, usize) {
    let vectors = x.as_chunks::<16>().0;
    // SAFETY: reads the sixteen bytes of each array.
    unsafe {
        let (mut sum, mut squares) = (vdupq_n_s32(0), vdupq_n_s32(0));
        for x in vectors {
            let x = vld1q_s8(x.as_ptr());
            sum = vpadalq_s16(sum, vpaddlq_s8(x));
            squares = vpadalq_s16(squares, vmull_s8(vget_low_s8(x), vget_low_s8(x)));
            squares = vpadalq_s16(squares, vmull_high_s8(x, x));
        }
        (vaddvq_s32(sum), vaddvq_s32(squares) as u32, 16 * vectors.len())
    }
}

struct Vectors {
    count: int32x4_t,
    /// Less the sum.
    start: int32x4_t,
    reciprocal: int32x4_t,
    /// Left shifts: negative.
    down: int64x2_t,
    last: int64x2_t,
    zero_point: int16x8_t,
    lo: int8x16_t,
    hi: int8x16_t,
}

impl Vectors {
    #[inline(always)]
    fn new(norm: &LayerNorm<'_>, spread: &Spread, reciprocal: i32) -> Self {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            Self {
                count: vdupq_n_s32(spread.count),
                start: vdupq_n_s32(spread.sum.wrapping_neg()),
                reciprocal: vdupq_n_s32(reciprocal),
                down: vdupq_n_s64(-i64::from(spread.shift & 63)),
                last: vdupq_n_s64(-i64::from(norm.shift & 63)),
                zero_point: vdupq_n_s16(norm.landing.zero_point.into()),
                lo: vdupq_n_s8(norm.landing.lo),
                hi: vdupq_n_s8(norm.landing.hi),
            }
        }
    }

    #[inline(always)]
    fn sixteen(&self, x: &[i8; 16], gain: &[i32; 16], offset: &[i32; 16], place: &mut [i8; 16]) {
        // SAFETY: reads and writes the sixteen elements of each array.
        unsafe {
            let x = vld1q_s8(x.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            let four = |at: usize, x: int32x4_t| {
                let (gain, offset) = (gain.as_ptr().wrapping_add(at), offset.as_ptr().wrapping_add(at));
                self.four(x, vld1q_s32(gain), vld1q_s32(offset))
            };
            let a = four(0, vmovl_s16(vget_low_s16(low)));
            let b = four(4, vmovl_high_s16(low));
            let c = four(8, vmovl_s16(vget_low_s16(high)));
            let d = four(12, vmovl_high_s16(high));
            // Saturation to 16 bits before the zero point is added changes nothing that the clamp would not.
            let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), self.zero_point);
            let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), self.zero_point);
            let y = vqmovn_high_s16(vqmovn_s16(low), high);
            vst1q_s8(place.as_mut_ptr(), vminq_s8(vmaxq_s8(y, self.lo), self.hi));
        }
    }

    /// Four results, before the zero point. Sums stay far inside 64 bits, so that the rounding shift adds what the definition adds.
    #[inline(always)]
    fn four(&self, x: int32x4_t, gain: int32x4_t, offset: int32x4_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let difference = vmlaq_s32(self.start, x, self.count);
            let [low, high] = products(difference, self.reciprocal).map(|product| vshlq_s64(product, self.down));
            let z = vuzp1q_s32(vreinterpretq_s32_s64(low), vreinterpretq_s32_s64(high));
            let low = vmlal_s32(vshll_n_s32::<16>(vget_low_s32(offset)), vget_low_s32(z), vget_low_s32(gain));
            let high = vmlal_high_s32(vshll_high_n_s32::<16>(offset), z, gain);
            let (low, high) = (vrshlq_s64(low, self.last), vrshlq_s64(high, self.last));
            vqmovn_high_s64(vqmovn_s64(low), high)
        }
    }
}

/// Products of 64 bits. The compiler would multiply one by one if it saw that all lanes of `b` are equal.
#[inline(always)]
fn products(a: int32x4_t, b: int32x4_t) -> [int64x2_t; 2] {
    let (low, high): (int64x2_t, int64x2_t);
    // SAFETY: works on registers only; vectors are part of this architecture.
    unsafe {
        asm!(
            "smull {0:v}.2d, {2:v}.2s, {3:v}.2s",
            "smull2 {1:v}.2d, {2:v}.4s, {3:v}.4s",
            out(vreg) low, lateout(vreg) high, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [low, high]
}
