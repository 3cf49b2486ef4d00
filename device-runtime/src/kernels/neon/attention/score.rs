//! Dot products of four queries with all keys.

use core::arch::aarch64::*;

use super::{Lane, MOST_TOKENS, QUERIES, Scores};
use crate::kernels::neon::Level;
use crate::kernels::neon::lay::lay;
use crate::kernels::neon::products::{sdot_lane, smmla};
use crate::kernels::neon::sums::{Dot, Products, Wide, across, eight_taps, sixteen_taps};

/// Most features of keys that are laid together, four at a time.
const MOST_FEATURES: usize = 64;

/// Room for the keys of a head.
pub struct Room([[i8; 4 * MOST_FEATURES]; MOST_TOKENS / 4]);

impl Room {
    pub fn new() -> Self {
        Self([[0; _]; _])
    }
}

/// The keys of one head.
pub struct Keys<'r> {
    lane: Lane,
    features: usize,
    level: Level,
    /// Four keys each, if they are laid together.
    together: Option<&'r [[i8; 4 * MOST_FEATURES]]>,
}

impl<'r> Keys<'r> {
    /// `features` of each key. The processor has the instructions of `level`.
    pub fn new(level: Level, lane: Lane, features: usize, room: &'r mut Room) -> Self {
        let has_room = lane.tokens <= MOST_TOKENS && matches!(features, 16 | 32 | 48 | 64);
        let together = (has_room && level != Level::Base).then(|| {
            let places = room.0.get_mut(..lane.tokens.div_ceil(4)).unwrap_or(&mut []);
            for (at, place) in places.iter_mut().enumerate() {
                let keys = core::array::from_fn(|i| lane.token(4 * at + i));
                // SAFETY: keys have the features, and the place room for those of four.
                unsafe {
                    match level {
                        Level::Matrix => lay::<8, 4>(keys, features, place.as_mut_ptr()),
                        _ => lay::<4, 4>(keys, features, place.as_mut_ptr()),
                    }
                }
            }
            &*places
        });
        Self { lane, features, level, together }
    }

    /// Writes the scores of four queries; returns the highest of each.
    ///
    /// # Safety
    /// Queries have as many readable features as keys, and the scores belong to as many keys.
    #[inline(never)]
    pub unsafe fn score(&self, queries: [*const i8; QUERIES], scores: Scores) -> [i32; QUERIES] {
        // SAFETY: the caller's promises.
        unsafe {
            match (self.together, self.features / 16) {
                (Some(keys), 1) => self.by_sixteens::<1>(keys, queries, scores),
                (Some(keys), 2) => self.by_sixteens::<2>(keys, queries, scores),
                (Some(keys), 3) => self.by_sixteens::<3>(keys, queries, scores),
                (Some(keys), _) => self.by_sixteens::<4>(keys, queries, scores),
                (None, _) if self.level == Level::Base => {
                    four_by_four::<Wide>(queries, &self.lane, self.features, scores)
                }
                (None, _) => four_by_four::<Dot>(queries, &self.lane, self.features, scores),
            }
        }
    }

    /// Of keys that are laid together, `16 * N` features.
    #[inline(always)]
    unsafe fn by_sixteens<const N: usize>(
        &self,
        keys: &[[i8; 4 * MOST_FEATURES]],
        queries: [*const i8; QUERIES],
        scores: Scores,
    ) -> [i32; QUERIES] {
        let four_keys = |at: usize| keys.as_ptr().wrapping_add(at).cast();
        // SAFETY: the caller's promises.
        unsafe {
            if self.level == Level::Matrix {
                let [a, b, c, d] = queries;
                let pairs: [[[int8x16_t; 2]; 2]; N] = core::array::from_fn(|i| [pair([a, b], i), pair([c, d], i)]);
                each(scores, |at| in_pairs(four_keys(at), &pairs))
            } else {
                let queries: [[int8x16_t; QUERIES]; N] =
                    core::array::from_fn(|i| queries.map(|query| vld1q_s8(query.wrapping_add(16 * i))));
                each(scores, |at| by_lanes(four_keys(at), &queries))
            }
        }
    }
}

/// Stores the scores of four queries for every four keys; returns the highest of each query.
#[inline(always)]
unsafe fn each(scores: Scores, mut score: impl FnMut(usize) -> [int32x4_t; QUERIES]) -> [i32; QUERIES] {
    // SAFETY: there is a group for every four keys.
    unsafe {
        let mut highest = [vdupq_n_s32(i32::MIN); QUERIES];
        for at in 0..scores.tokens.div_ceil(4) {
            let places = &mut *scores.group(at);
            for ((place, highest), scores) in places.iter_mut().zip(&mut highest).zip(score(at)) {
                vst1q_s32(place.as_mut_ptr(), scores);
                *highest = vmaxq_s32(*highest, scores);
            }
        }
        highest.map(|highest| vmaxvq_s32(highest))
    }
}

/// SDOT: a vector has four features of four keys.
#[inline(always)]
unsafe fn by_lanes<const N: usize>(keys: *const i8, queries: &[[int8x16_t; QUERIES]; N]) -> [int32x4_t; QUERIES] {
    // SAFETY: the caller grants the features; the processor has SDOT.
    unsafe {
        let mut sums = [vdupq_n_s32(0); QUERIES];
        for (i, queries) in queries.iter().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| vld1q_s8(keys.wrapping_add(64 * i + 16 * quarter)));
            for (sum, &query) in sums.iter_mut().zip(queries) {
                *sum = sdot_lane::<1>(sdot_lane::<0>(*sum, a, query), b, query);
                *sum = sdot_lane::<3>(sdot_lane::<2>(*sum, c, query), d, query);
            }
        }
        sums
    }
}

/// SMMLA: a vector has eight features of the keys 0 and 2 or 1 and 3.
#[inline(always)]
unsafe fn in_pairs<const N: usize>(keys: *const i8, queries: &[[[int8x16_t; 2]; 2]; N]) -> [int32x4_t; QUERIES] {
    // SAFETY: the caller grants the features; the processor has SMMLA.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 4];
        for (i, [first, second]) in queries.iter().enumerate() {
            for half in 0..2 {
                let [even, odd] = [0, 1].map(|odd| vld1q_s8(keys.wrapping_add(64 * i + 32 * half + 16 * odd)));
                sums[0] = smmla(sums[0], first[half], even);
                sums[1] = smmla(sums[1], first[half], odd);
                sums[2] = smmla(sums[2], second[half], even);
                sums[3] = smmla(sums[3], second[half], odd);
            }
        }
        let [a, b, c, d] = sums;
        [vzip1q_s32(a, b), vzip2q_s32(a, b), vzip1q_s32(c, d), vzip2q_s32(c, d)]
    }
}

/// The `at`-th sixteen features of two tokens: the first eight of both, the others.
#[inline(always)]
unsafe fn pair(tokens: [*const i8; 2], at: usize) -> [int8x16_t; 2] {
    // SAFETY: the caller grants the features.
    unsafe {
        let [a, b] = tokens.map(|token| vreinterpretq_s64_s8(vld1q_s8(token.wrapping_add(16 * at))));
        [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
    }
}

/// Any number of features.
#[inline(always)]
unsafe fn four_by_four<P: Products>(
    queries: [*const i8; QUERIES],
    keys: &Lane,
    features: usize,
    scores: Scores,
) -> [i32; QUERIES] {
    let (whole, tail) = (features & !7, features & 7);
    // SAFETY: the caller's promises.
    unsafe {
        let query_tails = queries.map(|query| last(query.wrapping_add(whole), tail));
        each(scores, |at| {
            let mut x = queries;
            let mut w = [0, 1, 2, 3].map(|i| keys.token(4 * at + i));
            let mut sums = [vdupq_n_s32(0); 16];
            if whole >= 32 {
                P::turns(&mut sums, &mut x, &mut w, whole / 32);
            }
            if whole & 16 != 0 {
                sixteen_taps::<P>(&mut sums, &mut x, &mut w);
            }
            if whole & 8 != 0 {
                eight_taps::<P>(&mut sums, x, &w);
                w = w.map(|w| w.wrapping_add(8));
            }
            if tail != 0 {
                let key_tails = w.map(|w| last(w, tail));
                let [x, w] = [&query_tails, &key_tails].map(|tails| tails.each_ref().map(|tail| tail.as_ptr()));
                eight_taps::<P>(&mut sums, x, &w);
            }
            let mut sums = sums.as_chunks::<4>().0.iter();
            [(); QUERIES].map(|()| match sums.next() {
                Some(&[a, b, c, d]) => across(a, b, c, d),
                None => vdupq_n_s32(0),
            })
        })
    }
}

/// The last features, less than eight, and zeros.
#[inline(always)]
unsafe fn last(from: *const i8, count: usize) -> [i8; 8] {
    let mut tail = [0; 8];
    // SAFETY: the caller grants the features.
    unsafe { core::ptr::copy_nonoverlapping(from, tail.as_mut_ptr(), count) };
    tail
}
