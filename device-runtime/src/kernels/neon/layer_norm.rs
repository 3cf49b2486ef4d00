//! Layer norm, sixteen channels at a time.

use core::arch::aarch64::*;
use core::mem::MaybeUninit;

use super::finish::{Bytes, load_four};
use crate::kernels::layer_norm::{LayerNorm, Spread};
use crate::kernels::scales::FRACTION;

/// Least right shift whose lower half is dropped with the lower half of a sum.
const LEAST_SHIFT: u8 = 33;

/// The sum of values and of their squares, of whole vectors of sixteen, and how many those are. There are less than 2^15 values.
#[inline(always)]
pub fn sums(x: &[i8]) -> (i32, u32, usize) {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let mut sums = (vdupq_n_s32(0), vdupq_n_u32(0));
        let (pairs, rest) = x.as_chunks::<32>();
        for x in pairs {
            let (a, b) = (vld1q_s8(x.as_ptr()), vld1q_s8(x.as_ptr().wrapping_add(16)));
            sums = add(sums, vpadalq_s8(vpaddlq_s8(a), b), [a, b]);
        }
        let rest = rest.as_chunks::<16>().0;
        for x in rest {
            let x = vld1q_s8(x.as_ptr());
            sums = add(sums, vpaddlq_s8(x), [x]);
        }
        (vaddvq_s32(sums.0), vaddvq_u32(sums.1), 32 * pairs.len() + 16 * rest.len())
    }
}

/// Adds `pairs` to a sum of values and the squares of `x` to one of squares.
#[inline(always)]
fn add<const N: usize>(
    (sum, mut squares): (int32x4_t, uint32x4_t),
    pairs: int16x8_t,
    x: [int8x16_t; N],
) -> (int32x4_t, uint32x4_t) {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        for x in x {
            // Two squares are at most 2^15, which 16 bits without sign hold.
            let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(x)), x, x);
            squares = vpadalq_u16(squares, vreinterpretq_u16_s16(pairs));
        }
        (vpadalq_s16(sum, pairs), squares)
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

/// Most channels whose offsets are widened once for all positions.
const MOST_CHANNELS: usize = 256;
/// Least positions for which that is less work.
const LEAST_POSITIONS: usize = 4;

/// What all positions have in common.
pub struct Normaliser {
    /// Offsets times 2^16 of whole vectors of channels, if [`is_widened`](Self::is_widened).
    offsets: [[MaybeUninit<int64x2_t>; 8]; MOST_CHANNELS / 16],
    is_widened: bool,
    /// Left shift of a sum's upper half, to [`FRACTION`].
    last: int32x4_t,
    bytes: Bytes,
    /// Whether a sum's lower half may be dropped.
    has_upper: bool,
    /// Whether nothing is clamped to less than int8.
    is_whole: bool,
}

impl Normaliser {
    #[inline(always)]
    pub fn new(norm: &LayerNorm<'_>) -> Self {
        Self {
            offsets: [[MaybeUninit::uninit(); _]; _],
            is_widened: false,
            // SAFETY: vectors are part of this architecture.
            last: unsafe { vdupq_n_s32(FRACTION + 32 - i32::from(norm.shift & 63)) },
            bytes: Bytes::new(norm.landing),
            has_upper: norm.shift >= LEAST_SHIFT,
            is_whole: Bytes::is_whole(norm.landing),
        }
    }

    /// Widens the offsets of all channels, if that is less work for so many positions.
    #[inline(always)]
    pub fn widen(&mut self, offset: &[i32], positions: usize) {
        self.is_widened = positions >= LEAST_POSITIONS && offset.len() <= MOST_CHANNELS;
        if self.is_widened {
            for (places, offsets) in self.offsets.iter_mut().zip(offset.as_chunks::<16>().0) {
                // SAFETY: sixteen offsets.
                let wide = unsafe { widened(&mut offsets.as_ptr()) };
                places.iter_mut().zip(wide.as_flattened()).for_each(|(place, &wide)| *place = MaybeUninit::new(wide));
            }
        }
    }

    /// Normalises the channels of a position whose values have `spread` in common, in whole vectors; returns how many were done: a
    /// multiple of sixteen. Gains and offsets, which may have been [widened](Self::widen), are as many as values.
    #[inline(always)]
    pub fn normalise(&self, spread: &Spread, x: &[i8], tables: [&[i32]; 2], y: &mut [i8]) -> usize {
        match i32::try_from(spread.reciprocal) {
            Ok(reciprocal) if self.has_upper => {
                let difference = Difference::new(spread, reciprocal);
                match (difference.is_narrow && self.is_whole, self.is_widened) {
                    (true, true) => self.all::<true, true>(&difference, x, tables, y),
                    (true, false) => self.all::<true, false>(&difference, x, tables, y),
                    (false, _) => self.general(&difference, x, tables, y),
                }
            }
            // 2^31 has no place in a lane.
            _ => 0,
        }
    }

    /// [`all`](Self::all), in memory once.
    #[inline(never)]
    fn general(&self, difference: &Difference, x: &[i8], tables: [&[i32]; 2], y: &mut [i8]) -> usize {
        self.all::<false, false>(difference, x, tables, y)
    }

    /// All whole vectors; with `PLAIN`, the difference [`is_narrow`](Difference::is_narrow), and nothing is clamped to less than int8;
    /// with `WIDE`, offsets were widened.
    #[inline(always)]
    fn all<const PLAIN: bool, const WIDE: bool>(
        &self,
        difference: &Difference,
        x: &[i8],
        [gain, offset]: [&[i32]; 2],
        y: &mut [i8],
    ) -> usize {
        let vectors = x.len().min(gain.len()).min(offset.len()).min(y.len()) / 16;
        let (mut x, mut gain, mut offset, mut y) = (x.as_ptr(), gain.as_ptr(), offset.as_ptr(), y.as_mut_ptr());
        let mut offsets = self.offsets.as_ptr().cast();
        for _ in 0..vectors {
            // SAFETY: so many vectors of sixteen elements of each.
            unsafe {
                let values = vld1q_s8(x);
                let gains = load_four::<0>(&mut gain);
                let starts = if WIDE { wide(&mut offsets) } else { widened(&mut offset) };
                let [a, b] = difference.normalised::<PLAIN>(vmovl_s8(vget_low_s8(values)));
                let [c, d] = difference.normalised::<PLAIN>(vmovl_high_s8(values));
                let z = [a, b, c, d];
                let sums = [0, 1, 2, 3].map(|i| self.four(z[i], gains[i], starts[i]));
                vst1q_s8(y, if PLAIN { self.bytes.saturated(sums) } else { self.bytes.of(sums) });
            }
            (x, y) = (x.wrapping_add(16), y.wrapping_add(16));
        }
        16 * vectors
    }

    /// Four results, before the zero point, given offsets times 2^16. Of a sum, whose 64 bits have room to spare, the upper half is
    /// rounded as the whole would be: the shift is at least [`LEAST_SHIFT`].
    #[inline(always)]
    fn four(&self, z: int32x4_t, gain: int32x4_t, [low, high]: [int64x2_t; 2]) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let low = vreinterpretq_s32_s64(vmlal_s32(low, vget_low_s32(z), vget_low_s32(gain)));
            let high = vreinterpretq_s32_s64(vmlal_high_s32(high, z, gain));
            vqshlq_s32(vuzp2q_s32(low, high), self.last)
        }
    }
}

/// Sixteen offsets that were widened; `from` moves on.
///
/// # Safety
/// There are as many.
#[inline(always)]
unsafe fn wide(from: &mut *const i32) -> [[int64x2_t; 2]; 4] {
    // SAFETY: the caller's promise; vectors are part of this architecture.
    unsafe {
        let [[a, b, c, d], [e, f, g, h]] = [load_four::<1>(from), load_four::<2>(from)];
        [[a, b], [c, d], [e, f], [g, h]].map(|pair| pair.map(|offsets| vreinterpretq_s64_s32(offsets)))
    }
}

/// Sixteen offsets times 2^16; `offsets` moves on.
///
/// # Safety
/// There are as many.
#[inline(always)]
unsafe fn widened(offsets: &mut *const i32) -> [[int64x2_t; 2]; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        load_four::<1>(offsets)
            .map(|offsets| [vshll_n_s32::<16>(vget_low_s32(offsets)), vshll_high_n_s32::<16>(offsets)])
    }
}

/// How values become normalised ones.
struct Difference {
    /// Times `2^(31 - spread.shift)`, if that is a left shift; so is `start`.
    count: i32,
    /// Less the sum.
    start: int32x4_t,
    reciprocal: int32x4_t,
    /// Left shift of the product: negative.
    down: int32x4_t,
    /// Whether `count` fits 16 bits and nothing is shifted down.
    is_narrow: bool,
}

impl Difference {
    #[inline(always)]
    fn new(spread: &Spread, reciprocal: i32) -> Self {
        let up = 31 - (spread.shift & 63) as i32;
        let count = spread.count << up.max(0);
        // SAFETY: vectors are part of this architecture.
        unsafe {
            Self {
                count,
                start: vdupq_n_s32(spread.sum.wrapping_neg() << up.max(0)),
                reciprocal: vdupq_n_s32(reciprocal),
                down: vdupq_n_s32(up.min(0)),
                is_narrow: up >= 0 && count <= i32::from(i16::MAX),
            }
        }
    }

    /// Eight normalised values.
    ///
    /// They are below 2^24, so that their left shift by `31 - spread.shift` has room before the reciprocal, at least 2^30, is
    /// multiplied; the doubling multiplication drops 31 bits.
    #[inline(always)]
    fn normalised<const NARROW: bool>(&self, x: int16x8_t) -> [int32x4_t; 2] {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            if NARROW {
                let count = vdupq_n_s16(self.count as i16);
                let low = vmlal_s16(self.start, vget_low_s16(x), vget_low_s16(count));
                [low, vmlal_high_s16(self.start, x, count)].map(|product| vqdmulhq_s32(product, self.reciprocal))
            } else {
                [vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x)].map(|x| {
                    let product = vqdmulhq_s32(vmlaq_n_s32(self.start, x, self.count), self.reciprocal);
                    vshlq_s32(product, self.down)
                })
            }
        }
    }
}
