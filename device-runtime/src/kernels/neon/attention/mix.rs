//! Sums of all values, weighted by four queries.

use core::arch::aarch64::*;

use super::turned::{Dot, Matrix, Room, Turn, fits};
use super::{FEATURES, Lane, QUERIES, Rows};
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

    /// Takes the weights of four queries.
    ///
    /// # Safety
    /// The rows hold them, with zeros behind the last up to a multiple of eight.
    #[inline(always)]
    pub unsafe fn take(&mut self, rows: Rows) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.level {
                Level::Base => {}
                Level::Dot => self.room.take::<Dot>(rows, self.lane.tokens),
                Level::Matrix => self.room.take::<Matrix>(rows, self.lane.tokens),
            }
        }
    }

    /// Sums of the features from `from` on, at most sixteen, of the queries whose weights were taken and are in the rows.
    ///
    /// # Safety
    /// The values have the features, and the rows zeros behind the last token up to a multiple of four.
    #[inline(never)]
    pub unsafe fn sums(&self, rows: Rows, from: usize) -> [[int32x4_t; 4]; QUERIES] {
        // SAFETY: the caller's promises.
        unsafe {
            match (self.level, self.features - from) {
                (Level::Dot, _) => self.two_groups::<Dot>(from),
                (Level::Matrix, _) => self.two_groups::<Matrix>(from),
                (Level::Base, FEATURES..) => self.wide(rows, |token| vld1q_s8(token.wrapping_add(from))),
                (Level::Base, count) => self.wide(rows, |token| {
                    let mut values = [0; FEATURES];
                    core::ptr::copy_nonoverlapping(token.wrapping_add(from), values.as_mut_ptr(), count);
                    vld1q_s8(values.as_ptr())
                }),
            }
        }
    }

    /// Of transposed values.
    #[inline(always)]
    unsafe fn two_groups<T: Turn>(&self, from: usize) -> [[int32x4_t; 4]; QUERIES] {
        // SAFETY: the processor has the instructions.
        unsafe {
            let group = |first: usize| self.room.sums::<T>(self.lane.tokens, first / 8);
            let first = group(from);
            let second = if self.features - from > 8 { group(from + 8) } else { first };
            core::array::from_fn(|query| {
                let ([a, b], [c, d]) = (first[query & 3], second[query & 3]);
                [a, b, c, d]
            })
        }
    }

    /// Products of 16 bits by 16.
    #[inline(always)]
    unsafe fn wide(&self, rows: Rows, load: impl Fn(*const i8) -> int8x16_t) -> [[int32x4_t; 4]; QUERIES] {
        // SAFETY: the caller's promises.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); 4]; QUERIES];
            for at in (0..self.lane.tokens).step_by(4) {
                let weights: [int16x4_t; QUERIES] =
                    core::array::from_fn(|query| vld1_s16(rows.weights(query).wrapping_add(at).cast()));
                let value = |i: usize| {
                    let value = load(self.lane.token(at + i));
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
