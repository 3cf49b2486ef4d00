//! From scores to weights, sixteen at a time.

use core::arch::aarch64::*;

use super::Rows;
use crate::kernels::attention::{OCTAVE, Weight};

/// Scores at a time.
const SCORES: usize = 16;

/// The low and the high bytes of [`OCTAVE`].
static BYTES: [[u8; 256]; 2] = bytes();

const fn bytes() -> [[u8; 256]; 2] {
    let (mut bytes, mut at) = ([[0; 256]; 2], 0);
    while at < 256 {
        [bytes[0][at], bytes[1][at]] = OCTAVE[at].to_le_bytes();
        at += 1;
    }
    bytes
}

/// Turns one query's scores into weights, with zeros behind as far as the row's half reaches or sixteen are filled; returns their sum.
///
/// # Safety
/// The row has at least `tokens` words, whose scores are written, and at least 1; what fills the last four scores repeats one of them.
#[inline(never)]
pub unsafe fn weigh(weight: Weight, rows: Rows, query: usize, tokens: usize) -> u32 {
    let (scores, weights) = (rows.scores(query), rows.weights(query));
    // SAFETY: the caller's promise; weights are written behind the scores that are read next.
    unsafe {
        let weigher = Weigher::new(weight, highest(scores, tokens));
        let mut sum = vdupq_n_u32(0);
        let mut at = 0;
        while at + 4 * SCORES <= tokens {
            sum = weigher.some::<4>(scores.wrapping_add(at), weights.wrapping_add(at), sum);
            at += 4 * SCORES;
        }
        while at + SCORES <= tokens {
            sum = weigher.some::<1>(scores.wrapping_add(at), weights.wrapping_add(at), sum);
            at += SCORES;
        }
        vaddvq_u32(sum).wrapping_add(last(&weigher, rows, query, (at, tokens)))
    }
}

/// The highest of so many scores and of those that fill the last four.
#[inline(always)]
unsafe fn highest(scores: *const i32, count: usize) -> i32 {
    // SAFETY: the caller grants the scores.
    unsafe {
        let four = |at: usize| vld1q_s32(scores.wrapping_add(at));
        let mut highest = [vdupq_n_s32(i32::MIN); 4];
        let mut at = 0;
        while at + SCORES <= count {
            highest = core::array::from_fn(|i| vmaxq_s32(highest[i & 3], four(at + 4 * i)));
            at += SCORES;
        }
        while at < count {
            highest[0] = vmaxq_s32(highest[0], four(at));
            at += 4;
        }
        let [a, b, c, d] = highest;
        vmaxvq_s32(vmaxq_s32(vmaxq_s32(a, b), vmaxq_s32(c, d)))
    }
}

/// The weights from `at` on, less than sixteen.
#[inline(always)]
unsafe fn last(weigher: &Weigher, rows: Rows, query: usize, (at, tokens): (usize, usize)) -> u32 {
    let count = tokens - at;
    if count == 0 {
        return 0;
    }
    let (mut scores, mut weights) = ([0i32; SCORES], [0u16; SCORES]);
    // SAFETY: so many scores; as many weights as the row has room for.
    unsafe {
        core::ptr::copy_nonoverlapping(rows.scores(query).wrapping_add(at), scores.as_mut_ptr(), count);
        weigher.some::<1>(scores.as_ptr(), weights.as_mut_ptr(), vdupq_n_u32(0));
        let count_of_all = vdupq_n_u16(count as u16);
        let mut sum = 0;
        for (weights, places) in weights.as_chunks_mut::<8>().0.iter_mut().zip(PLACES.as_chunks::<8>().0) {
            let is_there = vcltq_u16(vld1q_u16(places.as_ptr()), count_of_all);
            let values = vandq_u16(vld1q_u16(weights.as_ptr()), is_there);
            vst1q_u16(weights.as_mut_ptr(), values);
            sum += vaddlvq_u16(values);
        }
        let room = SCORES.min(2 * rows.len - at);
        core::ptr::copy_nonoverlapping(weights.as_ptr(), rows.weights(query).wrapping_add(at), room);
        sum
    }
}

static PLACES: [u16; SCORES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// [`Weight`] in vectors.
struct Weigher {
    highest: int32x4_t,
    farthest: uint32x4_t,
    multiplier: u32,
}

impl Weigher {
    #[inline(always)]
    fn new(weight: Weight, highest: i32) -> Self {
        let (multiplier, farthest) = weight.parts();
        // SAFETY: vectors are part of this architecture.
        unsafe { Self { highest: vdupq_n_s32(highest), farthest: vdupq_n_u32(farthest), multiplier } }
    }

    /// [`Weight::of`] what `16 * N` scores are below the highest; adds the weights to `sum`.
    #[inline(always)]
    unsafe fn some<const N: usize>(&self, scores: *const i32, weights: *mut u16, mut sum: uint32x4_t) -> uint32x4_t {
        // SAFETY: the caller grants so many scores and weights.
        unsafe {
            let octaves: [[uint16x8_t; 2]; N] = core::array::from_fn(|i| {
                let [a, b, c, d] = [0, 4, 8, 12].map(|at| {
                    let below = vsubq_s32(self.highest, vld1q_s32(scores.wrapping_add(16 * i + at)));
                    let below = vminq_u32(vreinterpretq_u32_s32(below), self.farthest);
                    vreinterpretq_u16_u32(vrshrq_n_u32::<20>(vmulq_n_u32(below, self.multiplier)))
                });
                [vuzp1q_u16(a, b), vuzp1q_u16(c, d)]
            });
            let parts = octaves.map(|[a, b]| vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b)));
            for (i, (octaves, parts)) in octaves.into_iter().zip(look_up(parts)).enumerate() {
                for (half, (octaves, part)) in octaves.into_iter().zip(parts).enumerate() {
                    // The rounding shift adds half of what is shifted out.
                    let shift = vsubq_s16(vdupq_n_s16(-3), vreinterpretq_s16_u16(vshrq_n_u16::<8>(octaves)));
                    let values = vrshlq_u16(part, shift);
                    vst1q_u16(weights.wrapping_add(16 * i + 8 * half), values);
                    sum = vpadalq_u16(sum, values);
                }
            }
            sum
        }
    }
}

/// Entries of [`OCTAVE`].
#[inline(always)]
unsafe fn look_up<const N: usize>(mut at: [uint8x16_t; N]) -> [[uint16x8_t; 2]; N] {
    // SAFETY: 64 of the 256 bytes at a time.
    unsafe {
        let mut found = [[vdupq_n_u8(0); 2]; N];
        let mut quarter = |quarter: usize| {
            let [low, high] = BYTES.each_ref().map(|bytes| vld1q_u8_x4(bytes.as_ptr().wrapping_add(64 * quarter)));
            for (found, at) in found.iter_mut().zip(&mut at) {
                // What is outside this quarter leaves what was found there.
                *found = [vqtbx4q_u8(found[0], low, *at), vqtbx4q_u8(found[1], high, *at)];
                *at = vsubq_u8(*at, vdupq_n_u8(64));
            }
        };
        quarter(0);
        quarter(1);
        quarter(2);
        quarter(3);
        found.map(|[low, high]| [vzip1q_u8(low, high), vzip2q_u8(low, high)].map(|bytes| vreinterpretq_u16_u8(bytes)))
    }
}
