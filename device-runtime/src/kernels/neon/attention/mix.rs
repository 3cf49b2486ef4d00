//! Sums of all values, weighted by four queries.

use core::arch::aarch64::*;

use super::land::{Landing, Scale};
use super::turned::{Dot, GROUP, Matrix, Room, Turn, fits};
use super::weigh::{Weights, weigh};
use super::{FEATURES, Lane, QUERIES, Scores};
use crate::kernels::attention::Weight;
use crate::kernels::neon::Level;

/// The values of one head.
pub struct Values<'r> {
    lane: Lane,
    features: usize,
    /// What multiplies transposed values; [`Level::Base`] if they are read where they lie.
    level: Level,
    room: &'r mut Room,
}

impl<'r> Values<'r> {
    /// `features` of each value. The processor has the instructions of `level`.
    pub fn new(level: Level, lane: Lane, features: usize, room: &'r mut Room) -> Self {
        let level = if fits(lane.tokens, features) { level } else { Level::Base };
        match level {
            Level::Base => {}
            Level::Dot => room.turn::<Dot>(&lane, features),
            Level::Matrix => room.turn::<Matrix>(&lane, features),
        }
        Self { lane, features, level, room }
    }

    /// Turns the scores of four queries into weights and takes those; returns their sums.
    ///
    /// # Safety
    /// The scores are written, and none is above its query's highest.
    #[inline(never)]
    pub unsafe fn weigh(&mut self, weight: Weight, scores: Scores, highest: [i32; QUERIES]) -> [u32; QUERIES] {
        // SAFETY: the caller's promise.
        unsafe {
            match self.level {
                Level::Base => weigh(weight, scores, highest, |block, weights| put_plain(scores, block, weights)),
                Level::Dot => weigh(weight, scores, highest, |block, weights| self.room.put::<Dot>(block, weights)),
                Level::Matrix => {
                    weigh(weight, scores, highest, |block, weights| self.room.put::<Matrix>(block, weights))
                }
            }
        }
    }

    /// Stores the results of four queries, whose weights were taken, to their places.
    ///
    /// # Safety
    /// The places have room for the features of a value; what is written to the first ones stays.
    #[inline(never)]
    pub unsafe fn mix(
        &self,
        scores: Scores,
        scales: [(i32, u8); QUERIES],
        landing: &Landing,
        places: [*mut i8; QUERIES],
    ) {
        // SAFETY: the caller's promises; the processor has the instructions.
        unsafe {
            match self.level {
                Level::Base => self.plain(scores, scales, landing, places),
                Level::Dot => self.turned::<Dot>(scales, landing, places),
                Level::Matrix => self.turned::<Matrix>(scales, landing, places),
            }
        }
    }

    /// Of transposed values.
    #[inline(always)]
    unsafe fn turned<T: Turn>(
        &self,
        [a, b, c, d]: [(i32, u8); QUERIES],
        landing: &Landing,
        places: [*mut i8; QUERIES],
    ) {
        let scales = [T::scales([a, b]), T::scales([c, d])];
        for group in 0..self.features / GROUP {
            // SAFETY: the caller's promises.
            unsafe {
                let [first, second] = self.room.sums::<T>(self.lane.tokens, group);
                let [a, b] = T::rows(landing.bytes(first, scales[0]));
                let [c, d] = T::rows(landing.bytes(second, scales[1]));
                let places = places.map(|place| place.wrapping_add(GROUP * group));
                for (row, place) in [d, c, b, a].into_iter().zip(places.into_iter().rev()) {
                    vst1_s8(place, row);
                }
            }
        }
    }

    /// Of values where they lie.
    #[inline(always)]
    unsafe fn plain(
        &self,
        scores: Scores,
        scales: [(i32, u8); QUERIES],
        landing: &Landing,
        places: [*mut i8; QUERIES],
    ) {
        let scales = scales.map(|scale| [Scale::of_two([scale; 2]); 2]);
        for from in (0..self.features).step_by(FEATURES) {
            let count = (self.features - from).min(FEATURES);
            // SAFETY: so many features of every value, and room for them in every place.
            unsafe {
                let sums = if count == FEATURES {
                    self.wide(scores, |token| vld1q_s8(token.wrapping_add(from)))
                } else {
                    self.wide(scores, |token| {
                        let mut values = [0; FEATURES];
                        core::ptr::copy_nonoverlapping(token.wrapping_add(from), values.as_mut_ptr(), count);
                        vld1q_s8(values.as_ptr())
                    })
                };
                for ((sums, scales), place) in sums.into_iter().zip(scales).zip(places).rev() {
                    let mut results = [0; FEATURES];
                    vst1q_s8(results.as_mut_ptr(), landing.bytes(sums, scales));
                    core::ptr::copy_nonoverlapping(results.as_ptr(), place.wrapping_add(from), count);
                }
            }
        }
    }

    /// Sums of sixteen features, by products of 16 bits by 16.
    #[inline(always)]
    unsafe fn wide(&self, scores: Scores, load: impl Fn(*const i8) -> int8x16_t) -> [[int32x4_t; 4]; QUERIES] {
        // SAFETY: the caller's promises.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); 4]; QUERIES];
            for group in 0..self.lane.tokens.div_ceil(4) {
                let weights = (*scores.weights(group)).each_ref().map(|weights| vld1_s16(weights.as_ptr().cast()));
                let value = |i: usize| {
                    let value = load(self.lane.token(4 * group + i));
                    [vmovl_s8(vget_low_s8(value)), vmovl_high_s8(value)]
                };
                add::<0>(&mut sums, value(0), weights);
                add::<1>(&mut sums, value(1), weights);
                add::<2>(&mut sums, value(2), weights);
                add::<3>(&mut sums, value(3), weights);
            }
            sums
        }
    }
}

/// Writes the weights of a block over scores that were read.
#[inline(always)]
unsafe fn put_plain(scores: Scores, block: usize, weights: Weights) {
    // SAFETY: there is a group for every four tokens.
    unsafe {
        let halves = |half: fn(uint16x8_t) -> uint16x4_t, at: usize| weights.map(|weights| half(weights[at]));
        let (low, high) = (|v| vget_low_u16(v), |v| vget_high_u16(v));
        let groups = [halves(low, 0), halves(high, 0), halves(low, 1), halves(high, 1)];
        for (i, group) in groups.into_iter().enumerate().take(scores.tokens.div_ceil(4) - 4 * block) {
            for (place, weights) in (*scores.weights(4 * block + i)).iter_mut().zip(group) {
                vst1_u16(place.as_mut_ptr(), weights);
            }
        }
    }
}

/// Adds a value times the weights in a lane.
#[inline(always)]
unsafe fn add<const LANE: i32>(
    sums: &mut [[int32x4_t; 4]; QUERIES],
    [low, high]: [int16x8_t; 2],
    weights: [int16x4_t; QUERIES],
) {
    for (sums, weights) in sums.iter_mut().zip(weights) {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            sums[0] = vmlal_lane_s16::<LANE>(sums[0], vget_low_s16(low), weights);
            sums[1] = vmlal_high_lane_s16::<LANE>(sums[1], low, weights);
            sums[2] = vmlal_lane_s16::<LANE>(sums[2], vget_low_s16(high), weights);
            sums[3] = vmlal_high_lane_s16::<LANE>(sums[3], high, weights);
        }
    }
}
