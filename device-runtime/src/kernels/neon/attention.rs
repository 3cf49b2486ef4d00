//! Self-attention, four queries at a time.

mod mix;
mod score;
mod turned;
mod weigh;

use core::arch::aarch64::*;

use super::Level;
use crate::kernels::attention::{Attention, QUERIES, Weight, normalise};
use crate::kernels::requantize;

/// Features summed at once.
const FEATURES: usize = 16;
/// Most tokens whose keys and values are rearranged for the dot product, on the stack.
const MOST_TOKENS: usize = 256;

/// The queries, keys or values of one head.
#[derive(Clone, Copy)]
struct Lane {
    first: *const i8,
    /// Bytes from token to token.
    pitch: usize,
    /// Tokens, at least 1.
    tokens: usize,
}

impl Lane {
    /// The features of a token; beyond the last one, of that.
    #[inline(always)]
    fn token(&self, at: usize) -> *const i8 {
        self.first.wrapping_add(at.min(self.tokens - 1) * self.pitch)
    }
}

/// What four queries have for every key, a row each: first scores, then in the first half of the row weights, 16 bits each.
#[derive(Clone, Copy)]
struct Rows {
    first: *mut u32,
    /// Words of a row, a multiple of 4 and at least as many as tokens.
    len: usize,
}

impl Rows {
    #[inline(always)]
    fn scores(&self, query: usize) -> *mut i32 {
        self.first.wrapping_add(query * self.len).cast()
    }

    #[inline(always)]
    fn weights(&self, query: usize) -> *mut u16 {
        self.first.wrapping_add(query * self.len).cast()
    }
}

/// Self-attention of the queries from `first` on; `scratch` holds [`Attention::scratch_bytes`], `input` is of the shape that `p` says,
/// and `p` [`is_possible`](Attention::is_possible). The processor has the instructions of `level`.
pub fn attention(level: Level, p: &Attention, first: usize, input: &[i8], scratch: &mut [u32], output: &mut [i8]) {
    let (tokens, features) = (p.tokens(), usize::from(p.value_features));
    let (pitch, width) = (usize::from(p.input.c), features * usize::from(p.heads));
    let rows = Rows { first: scratch.as_mut_ptr(), len: tokens.next_multiple_of(4) };
    if scratch.len() < QUERIES * rows.len || input.len() < tokens * pitch {
        return;
    }
    let weight = Weight::new(p.score_multiplier);
    let (mut key_room, mut room) = (score::Room::new(), turned::Room::new());
    for head in 0..usize::from(p.heads) {
        let lane = |part| Lane { first: input.as_ptr().wrapping_add(p.channel(part, head)), pitch, tokens };
        let [queries, keys, values] = [0, 1, 2].map(lane);
        let keys = score::Keys::new(level, keys, p.key_features.into(), &mut key_room);
        let mut values = mix::Values::new(level, values, features, &mut room);
        for (block, results) in output.chunks_mut((width * QUERIES).max(1)).enumerate() {
            let start = first + block * QUERIES;
            let query: [*const i8; QUERIES] = core::array::from_fn(|i| queries.token(start + i));
            // SAFETY: the lanes lie in the input, the rows in the scratch, and the processor has the instructions.
            unsafe {
                keys.score(query, rows);
                let scales: [_; QUERIES] =
                    core::array::from_fn(|i| normalise(p, weigh::weigh(weight, rows, i, tokens)));
                values.take(rows);
                for from in (0..features).step_by(FEATURES) {
                    let sums = values.sums(rows, from);
                    let places = results.chunks_exact_mut(width.max(1)).map(|result| {
                        let end = (from + FEATURES).min(features);
                        result.get_mut(head * features + from..head * features + end).unwrap_or_default()
                    });
                    for ((place, sums), scale) in places.zip(sums).zip(scales) {
                        land(p, sums, scale, place);
                    }
                }
            }
        }
    }
}

/// Sums of at most sixteen features to their place.
#[inline(always)]
fn land(p: &Attention, sums: [int32x4_t; 4], (multiplier, shift): (i32, u8), place: &mut [i8]) {
    let mut values = [0i32; FEATURES];
    // SAFETY: vectors are part of this architecture, and the array has sixteen places.
    unsafe {
        let by = vdupq_n_s32(31 - i32::from(shift));
        if let (33.., Some(place)) = (shift, place.first_chunk_mut::<FEATURES>()) {
            // As in the epilogue of convolutions: shifts of at least 33 round once.
            let [a, b, c, d] = sums.map(|sum| vrshlq_s32(vqdmulhq_n_s32(sum, multiplier), by));
            let zero_point = vdupq_n_s16(p.landing.zero_point.into());
            let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zero_point);
            let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), zero_point);
            let y = vqmovn_high_s16(vqmovn_s16(low), high);
            let y = vminq_s8(vmaxq_s8(y, vdupq_n_s8(p.landing.lo)), vdupq_n_s8(p.landing.hi));
            return vst1q_s8(place.as_mut_ptr(), y);
        }
        for (values, sum) in values.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            vst1q_s32(values.as_mut_ptr(), sum);
        }
    }
    for (y, sum) in place.iter_mut().zip(values) {
        *y = requantize(sum, multiplier, shift, p.landing);
    }
}
