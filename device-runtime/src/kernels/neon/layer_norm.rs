//! Layer norm, sixteen channels at a time.

use core::arch::aarch64::*;

use super::finish::Bytes;
use crate::kernels::layer_norm::{LayerNorm, Spread};
use crate::kernels::scales::FRACTION;

/// Least right shift whose lower half is dropped with the lower half of a sum.
const LEAST_SHIFT: u8 = 33;

/// Normalises the channels of a position whose values have `spread` in common, in whole vectors; returns how many were done: a
/// multiple of sixteen. Gains and offsets are as many as values.
#[inline(never)]
pub fn normalise(norm: &LayerNorm<'_>, spread: &Spread, x: &[i8], tables: [&[i32]; 2], y: &mut [i8]) -> usize {
    match i32::try_from(spread.reciprocal) {
        Ok(reciprocal) if norm.shift >= LEAST_SHIFT => {
            let vectors = Vectors::new(norm, spread, reciprocal);
            if spread.shift > 31 { vectors.all::<true>(x, tables, y) } else { vectors.all::<false>(x, tables, y) }
        }
        // 2^31 has no place in a lane.
        _ => 0,
    }
}

/// The sum of values and of their squares, of whole vectors of sixteen, and how many those are. There are less than 2^15 values.
#[inline(always)]
pub fn sums(x: &[i8]) -> (i32, u32, usize) {
    let vectors = x.as_chunks::<16>().0;
    // SAFETY: reads the sixteen bytes of each array.
    unsafe {
        let (mut sum, mut squares) = (vdupq_n_s32(0), vdupq_n_u32(0));
        for x in vectors {
            let x = vld1q_s8(x.as_ptr());
            sum = vpadalq_s16(sum, vpaddlq_s8(x));
            // Two squares are at most 2^15, which 16 bits without sign hold.
            let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(x)), x, x);
            squares = vpadalq_u16(squares, vreinterpretq_u16_s16(pairs));
        }
        (vaddvq_s32(sum), vaddvq_u32(squares), 16 * vectors.len())
    }
}

/// `floor(sqrt(value))`: the root of 53 bits is less than 1 from the exact one.
#[inline(always)]
pub fn square_root(value: u64) -> u32 {
    // SAFETY: vectors are part of this architecture.
    let root = unsafe { vget_lane_f64::<0>(vsqrt_f64(vdup_n_f64(value as f64))) };
    let root = root as u32;
    let rest = value.wrapping_sub(u64::from(root) * u64::from(root)) as i64;
    root.wrapping_add(u32::from(rest > 2 * i64::from(root))).wrapping_sub(u32::from(rest < 0))
}

struct Vectors {
    /// Times `2^(31 - spread.shift)`, if that is a left shift; so is `start`.
    count: int32x4_t,
    /// Less the sum.
    start: int32x4_t,
    reciprocal: int32x4_t,
    /// Left shifts: negative.
    down: int32x4_t,
    last: int32x4_t,
    bytes: Bytes,
}

impl Vectors {
    #[inline(always)]
    fn new(norm: &LayerNorm<'_>, spread: &Spread, reciprocal: i32) -> Self {
        let up = 31 - (spread.shift & 63) as i32;
        // SAFETY: vectors are part of this architecture.
        unsafe {
            Self {
                count: vdupq_n_s32(spread.count << up.max(0)),
                start: vdupq_n_s32(spread.sum.wrapping_neg() << up.max(0)),
                reciprocal: vdupq_n_s32(reciprocal),
                down: vdupq_n_s32(up.min(0)),
                last: vdupq_n_s32(FRACTION + 32 - i32::from(norm.shift & 63)),
                bytes: Bytes::new(norm.landing),
            }
        }
    }

    /// All whole vectors; with `DOWN` normalised values are shifted right.
    #[inline(always)]
    fn all<const DOWN: bool>(&self, x: &[i8], [gain, offset]: [&[i32]; 2], y: &mut [i8]) -> usize {
        let (places, x) = (y.as_chunks_mut::<16>().0, x.as_chunks::<16>().0);
        let tables = gain.as_chunks::<16>().0.iter().zip(offset.as_chunks::<16>().0);
        let mut done = 0;
        for ((place, x), (gain, offset)) in places.iter_mut().zip(x).zip(tables) {
            self.sixteen::<DOWN>(x, gain, offset, place);
            done += 16;
        }
        done
    }

    #[inline(always)]
    fn sixteen<const DOWN: bool>(&self, x: &[i8; 16], gain: &[i32; 16], offset: &[i32; 16], place: &mut [i8; 16]) {
        // SAFETY: reads and writes the sixteen elements of each array.
        unsafe {
            let x = vld1q_s8(x.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            let (gain, offset) = (vld1q_s32_x4(gain.as_ptr()), vld1q_s32_x4(offset.as_ptr()));
            let a = self.four::<DOWN>(vmovl_s16(vget_low_s16(low)), gain.0, offset.0);
            let b = self.four::<DOWN>(vmovl_high_s16(low), gain.1, offset.1);
            let c = self.four::<DOWN>(vmovl_s16(vget_low_s16(high)), gain.2, offset.2);
            let d = self.four::<DOWN>(vmovl_high_s16(high), gain.3, offset.3);
            vst1q_s8(place.as_mut_ptr(), self.bytes.of([a, b, c, d]));
        }
    }

    /// Four results, before the zero point.
    ///
    /// Normalised values are below 2^24, so that their left shift by `31 - spread.shift` has room before the reciprocal, at least
    /// 2^30, is multiplied; the doubling multiplication drops 31 bits. Of a sum, whose 64 bits have room to spare, the
    /// upper half is rounded as the whole would be: the shift is at least [`LEAST_SHIFT`].
    #[inline(always)]
    fn four<const DOWN: bool>(&self, x: int32x4_t, gain: int32x4_t, offset: int32x4_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let mut z = vqdmulhq_s32(vmlaq_s32(self.start, x, self.count), self.reciprocal);
            if DOWN {
                z = vshlq_s32(z, self.down);
            }
            let low = vmlal_s32(vshll_n_s32::<16>(vget_low_s32(offset)), vget_low_s32(z), vget_low_s32(gain));
            let high = vmlal_high_s32(vshll_high_n_s32::<16>(offset), z, gain);
            vqshlq_s32(vuzp2q_s32(vreinterpretq_s32_s64(low), vreinterpretq_s32_s64(high)), self.last)
        }
    }
}
