//! Sums of values that were transposed, with SDOT and USMMLA: a vector holds several tokens of a feature.
//!
//! Weights are cut into two bytes, whose sums are added up apart.

use core::arch::aarch64::*;

use super::{Lane, MOST_TOKENS, QUERIES, Rows};
use crate::kernels::neon::products::{sdot_lane, usmmla};

/// Most features.
const MOST_FEATURES: usize = 64;
/// Features of a group.
const GROUP: usize = 8;
/// Vectors for sixteen tokens: of a group of values, and of the weights of four queries.
const VECTORS: usize = 8;

type Vector = [i8; 16];

/// Room for the values of a head and for the weights of four queries.
pub struct Room {
    values: [Vector; MOST_TOKENS * MOST_FEATURES / 16],
    weights: [Vector; MOST_TOKENS / 16 * VECTORS],
}

impl Room {
    pub fn new() -> Self {
        Self { values: [[0; 16]; _], weights: [[0; 16]; _] }
    }
}

/// Whether values of so many tokens and features have room.
pub fn fits(tokens: usize, features: usize) -> bool {
    tokens <= MOST_TOKENS && features <= MOST_FEATURES && features.is_multiple_of(GROUP)
}

/// Sums of eight features of four queries.
pub type Sums = [[int32x4_t; 2]; QUERIES];

/// How values and weights lie in vectors, and are multiplied.
///
/// The functions are unsafe: the processor has the instructions, and vectors are those of sixteen tokens.
pub trait Turn {
    /// Bits of a weight's low part.
    const LOW_BITS: i32;
    /// Stores the first or the second eight tokens of eight features; every vector has those of two features.
    unsafe fn put_values(features: [int8x16_t; 4], second: usize, to: &mut [Vector; VECTORS]);
    /// Stores the weights of four queries.
    unsafe fn put_weights(weights: [[uint16x8_t; 2]; QUERIES], to: &mut [Vector; VECTORS]);
    /// Sums of values times low parts and high parts of weights, of all tokens.
    unsafe fn sums(values: &[[Vector; VECTORS]], weights: &[[Vector; VECTORS]]) -> [Sums; 2];
}

/// SDOT: four tokens of four features; weights of one query and sixteen tokens.
pub struct Dot;

impl Turn for Dot {
    const LOW_BITS: i32 = 7;

    #[inline(always)]
    unsafe fn put_values(features: [int8x16_t; 4], second: usize, to: &mut [Vector; VECTORS]) {
        // SAFETY: sixteen bytes of every place.
        unsafe {
            let [a, b, c, d] = features.map(|features| vreinterpretq_s32_s8(features));
            let vectors = [vuzp1q_s32(a, b), vuzp1q_s32(c, d), vuzp2q_s32(a, b), vuzp2q_s32(c, d)];
            for (place, vector) in to.iter_mut().skip(4 * second).zip(vectors) {
                vst1q_s8(place.as_mut_ptr(), vreinterpretq_s8_s32(vector));
            }
        }
    }

    #[inline(always)]
    unsafe fn put_weights(weights: [[uint16x8_t; 2]; QUERIES], to: &mut [Vector; VECTORS]) {
        let (low, high) = to.split_at_mut(QUERIES);
        for ((weights, low), high) in weights.into_iter().zip(low).zip(high) {
            // SAFETY: sixteen bytes of every place.
            unsafe {
                let bytes = |[a, b]: [uint16x8_t; 2]| vuzp1q_s8(vreinterpretq_s8_u16(a), vreinterpretq_s8_u16(b));
                vst1q_s8(low.as_mut_ptr(), bytes(weights.map(|weights| vandq_u16(weights, vdupq_n_u16(127)))));
                vst1q_s8(high.as_mut_ptr(), bytes(weights.map(|weights| vshrq_n_u16::<7>(weights))));
            }
        }
    }

    #[inline(always)]
    unsafe fn sums(values: &[[Vector; VECTORS]], weights: &[[Vector; VECTORS]]) -> [Sums; 2] {
        // SAFETY: sixteen bytes of every vector; the caller has made sure of SDOT.
        unsafe {
            let mut sums = [[[vdupq_n_s32(0); 2]; QUERIES]; 2];
            for (values, weights) in values.iter().zip(weights) {
                let values = values.each_ref().map(|vector| vld1q_s8(vector.as_ptr()));
                let weights = weights.each_ref().map(|vector| vld1q_s8(vector.as_ptr()));
                let [a, b, c, d, e, f, g, h] = values;
                dot_tokens::<0>(&mut sums, [a, b], &weights);
                dot_tokens::<1>(&mut sums, [c, d], &weights);
                dot_tokens::<2>(&mut sums, [e, f], &weights);
                dot_tokens::<3>(&mut sums, [g, h], &weights);
            }
            sums
        }
    }
}

/// Adds four tokens: those of a lane of the weights.
#[inline(always)]
unsafe fn dot_tokens<const LANE: usize>(sums: &mut [Sums; 2], values: [int8x16_t; 2], weights: &[int8x16_t; VECTORS]) {
    for (sums, weights) in sums.as_flattened_mut().iter_mut().zip(weights) {
        for (sum, values) in sums.iter_mut().zip(values) {
            // SAFETY: the caller has made sure of SDOT.
            *sum = unsafe { sdot_lane::<LANE>(*sum, values, *weights) };
        }
    }
}

/// USMMLA: eight tokens of two features; weights of two queries and eight tokens.
pub struct Matrix;

impl Turn for Matrix {
    const LOW_BITS: i32 = 8;

    #[inline(always)]
    unsafe fn put_values(features: [int8x16_t; 4], second: usize, to: &mut [Vector; VECTORS]) {
        for (place, vector) in to.iter_mut().skip(4 * second).zip(features) {
            // SAFETY: sixteen bytes of every place.
            unsafe { vst1q_s8(place.as_mut_ptr(), vector) };
        }
    }

    #[inline(always)]
    unsafe fn put_weights([a, b, c, d]: [[uint16x8_t; 2]; QUERIES], to: &mut [Vector; VECTORS]) {
        for (half, places) in to.as_chunks_mut::<QUERIES>().0.iter_mut().enumerate() {
            // SAFETY: sixteen bytes of every place.
            unsafe {
                let [a, b, c, d] = [a, b, c, d].map(|weights| vreinterpretq_s8_u16(weights[half & 1]));
                let vectors = [vuzp1q_s8(a, b), vuzp1q_s8(c, d), vuzp2q_s8(a, b), vuzp2q_s8(c, d)];
                for (place, vector) in places.iter_mut().zip(vectors) {
                    vst1q_s8(place.as_mut_ptr(), vector);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn sums(values: &[[Vector; VECTORS]], weights: &[[Vector; VECTORS]]) -> [Sums; 2] {
        // SAFETY: sixteen bytes of every vector; the caller has made sure of USMMLA.
        unsafe {
            // Low and high parts, of two queries each, by pairs of features.
            let mut sums = [[vdupq_n_s32(0); 4]; 4];
            let values = values.as_flattened().as_chunks::<4>().0;
            let weights = weights.as_flattened().as_chunks::<4>().0;
            for (values, weights) in values.iter().zip(weights) {
                let values = values.each_ref().map(|vector| vld1q_s8(vector.as_ptr()));
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    let weights = vld1q_u8(weights.as_ptr().cast());
                    for (sum, values) in sums.iter_mut().zip(values) {
                        *sum = usmmla(*sum, weights, values);
                    }
                }
            }
            let queries = |sums: [int32x4_t; 4]| {
                let [a, b, c, d] = sums.map(|sums| vreinterpretq_s64_s32(sums));
                let first = [vuzp1q_s64(a, b), vuzp1q_s64(c, d)];
                let second = [vuzp2q_s64(a, b), vuzp2q_s64(c, d)];
                [first, second].map(|sums| sums.map(|sums| vreinterpretq_s32_s64(sums)))
            };
            let [low, low_too, high, high_too] = sums.map(queries);
            let all = |[a, b]: [[int32x4_t; 2]; 2], [c, d]: [[int32x4_t; 2]; 2]| [a, b, c, d];
            [all(low, low_too), all(high, high_too)]
        }
    }
}

impl Room {
    /// Transposes the values of a head, for which [`fits`] holds.
    #[inline(always)]
    pub fn turn<T: Turn>(&mut self, lane: &Lane, features: usize) {
        let blocks = lane.tokens.div_ceil(16);
        let places = self.values.as_chunks_mut::<VECTORS>().0;
        for (group, places) in places.chunks_exact_mut(blocks).take(features / GROUP).enumerate() {
            for (block, place) in places.iter_mut().enumerate() {
                for second in 0..2 {
                    let first = 16 * block + 8 * second;
                    // SAFETY: eight features of every token.
                    unsafe {
                        let rows = core::array::from_fn(|i| vld1_s8(lane.token(first + i).wrapping_add(GROUP * group)));
                        T::put_values(transposed(rows), second, place);
                    }
                }
            }
        }
    }

    /// Takes the weights of four queries over so many tokens.
    ///
    /// # Safety
    /// The rows hold them, with zeros behind the last up to a multiple of eight.
    #[inline(always)]
    pub unsafe fn take<T: Turn>(&mut self, rows: Rows, tokens: usize) {
        let places = self.weights.as_chunks_mut::<VECTORS>().0;
        for (block, place) in places.iter_mut().enumerate().take(tokens.div_ceil(16)) {
            let at = 16 * block;
            // SAFETY: eight weights, and eight more if there are so many tokens.
            unsafe {
                let weights = core::array::from_fn(|query| {
                    let from = rows.weights(query).wrapping_add(at);
                    let second = if at + 8 < tokens { vld1q_u16(from.wrapping_add(8)) } else { vdupq_n_u16(0) };
                    [vld1q_u16(from), second]
                });
                T::put_weights(weights, place);
            }
        }
    }

    /// Sums of a group of features of four queries.
    ///
    /// # Safety
    /// The processor has the instructions; values and weights of so many tokens were taken.
    #[inline(always)]
    pub unsafe fn sums<T: Turn>(&self, tokens: usize, group: usize) -> Sums {
        let blocks = tokens.div_ceil(16);
        let values = self.values.as_chunks().0.get(blocks * group..blocks * (group + 1)).unwrap_or(&[]);
        // SAFETY: the caller's promise.
        let [low, high] = unsafe { T::sums(values, self.weights.as_chunks().0) };
        core::array::from_fn(|query| {
            let parts = |half: usize| (low[query & 3][half], high[query & 3][half]);
            // SAFETY: vectors are part of this architecture.
            [parts(0), parts(1)].map(|(low, high)| unsafe { vaddq_s32(low, vshlq_s32(high, vdupq_n_s32(T::LOW_BITS))) })
        })
    }
}

/// Eight features of eight tokens; every vector has the tokens of two features.
#[inline(always)]
unsafe fn transposed(tokens: [int8x8_t; 8]) -> [int8x16_t; 4] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let [a, b, c, d, e, f, g, h] = tokens.map(|token| vcombine_s8(token, vcreate_s8(0)));
        let (ae, cg, bf, dh) = (vzip1q_s8(a, e), vzip1q_s8(c, g), vzip1q_s8(b, f), vzip1q_s8(d, h));
        let (even, even_too) = (vzip1q_s8(ae, cg), vzip2q_s8(ae, cg));
        let (odd, odd_too) = (vzip1q_s8(bf, dh), vzip2q_s8(bf, dh));
        [vzip1q_s8(even, odd), vzip2q_s8(even, odd), vzip1q_s8(even_too, odd_too), vzip2q_s8(even_too, odd_too)]
    }
}
