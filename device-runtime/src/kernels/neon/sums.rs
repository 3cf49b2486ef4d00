//! Sums of products of a tile: a few windows, a few filters, all taps.

use core::arch::aarch64::*;

use super::finish::Tables;
use super::products::{dot_4x4, dot_8x8, matrix_8x8, sdot, sdot_lane, smmla};
use crate::kernels::gather::{TILE, Taps};

/// Filters of a tile, `N` of them.
#[derive(Clone, Copy)]
pub struct Filters<'a, const N: usize> {
    /// First tap of each; windows' rows follow each other in a filter.
    pub first: [*const i8; N],
    /// Zeros, then what follows the last whole eight taps, of filters with less than eight taps. Longer ones are read in place:
    /// their last eight taps meet the zeros and the tails of windows.
    pub tails: Option<&'a [[i8; 8]; N]>,
}

impl<const N: usize> Filters<'_, N> {
    /// Eight readable bytes that end with each filter's `tail` taps; `at` is where its whole eights end.
    #[inline(always)]
    fn tails(&self, at: [*const i8; N], tail: usize) -> [*const i8; N] {
        match self.tails {
            Some(tails) => tails.each_ref().map(|tail| tail.as_ptr()),
            None => at.map(|at| at.wrapping_add(tail).wrapping_sub(8)),
        }
    }
}

/// Multiplies vectors of int8 and adds the products, four or two of them per lane, to four sums.
pub trait Products {
    /// # Safety
    /// The processor has the instructions.
    unsafe fn sixteen(sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t;

    /// # Safety
    /// The processor has the instructions.
    unsafe fn eight(sums: int32x4_t, x: int8x8_t, w: int8x8_t) -> int32x4_t;

    /// Four windows and four filters, 32 taps per turn, at least one; pointers are advanced.
    ///
    /// # Safety
    /// The processor has the instructions, and every pointer `32 * turns` readable bytes.
    #[inline(always)]
    unsafe fn turns(sums: &mut [int32x4_t; 16], x: &mut [*const i8; 4], w: &mut [*const i8; 4], turns: usize) {
        for _ in 0..2 * turns {
            // SAFETY: sixteen bytes of each.
            unsafe { sixteen_taps::<Self>(sums, x, w) };
        }
    }
}

/// Widening multiplications; exact for all values.
pub struct Wide;
/// Widening multiplications that add two products in 16 bits; exact unless both filters and windows hold -128.
pub struct Paired;
/// SDOT.
pub struct Dot;

impl Products for Wide {
    #[inline(always)]
    unsafe fn sixteen(sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
            vpadalq_s16(vpadalq_s16(sums, low), vmull_high_s8(x, w))
        }
    }

    #[inline(always)]
    unsafe fn eight(sums: int32x4_t, x: int8x8_t, w: int8x8_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe { vpadalq_s16(sums, vmull_s8(x, w)) }
    }
}

impl Products for Paired {
    #[inline(always)]
    unsafe fn sixteen(sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe { vpadalq_s16(sums, vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), x, w)) }
    }

    #[inline(always)]
    unsafe fn eight(sums: int32x4_t, x: int8x8_t, w: int8x8_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe { vpadalq_s16(sums, vmull_s8(x, w)) }
    }
}

impl Products for Dot {
    #[inline(always)]
    unsafe fn sixteen(sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: the caller has made sure of SDOT.
        unsafe { sdot(sums, x, w) }
    }

    #[inline(always)]
    unsafe fn eight(sums: int32x4_t, x: int8x8_t, w: int8x8_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe {
            let zero = vcreate_s8(0);
            sdot(sums, vcombine_s8(x, zero), vcombine_s8(w, zero))
        }
    }

    #[inline(always)]
    unsafe fn turns(sums: &mut [int32x4_t; 16], x: &mut [*const i8; 4], w: &mut [*const i8; 4], turns: usize) {
        // SAFETY: as above.
        unsafe { dot_4x4(sums, x, w, turns) }
    }
}

/// Sixteen taps of four windows and four filters; pointers are advanced.
///
/// # Safety
/// The processor has the instructions, and every pointer as many readable bytes.
#[inline(always)]
pub unsafe fn sixteen_taps<P: Products + ?Sized>(
    sums: &mut [int32x4_t; 16],
    x: &mut [*const i8; 4],
    w: &mut [*const i8; 4],
) {
    // SAFETY: the caller grants sixteen bytes of each.
    unsafe {
        let values = x.map(|x| vld1q_s8(x));
        for (f, w) in w.iter_mut().enumerate() {
            let weights = vld1q_s8(*w);
            *w = w.wrapping_add(16);
            for (i, &values) in values.iter().enumerate() {
                sums[4 * i + f] = P::sixteen(sums[4 * i + f], values, weights);
            }
        }
        *x = x.map(|x| x.wrapping_add(16));
    }
}

/// Eight taps of four windows and four filters.
///
/// # Safety
/// The processor has the instructions, and every pointer as many readable bytes.
#[inline(always)]
pub unsafe fn eight_taps<P: Products>(sums: &mut [int32x4_t; 16], x: [*const i8; 4], w: &[*const i8; 4]) {
    // SAFETY: the caller grants eight bytes of each.
    unsafe {
        let values = x.map(|x| vld1_s8(x));
        for (f, &w) in w.iter().enumerate() {
            let weights = vld1_s8(w);
            for (i, &values) in values.iter().enumerate() {
                sums[4 * i + f] = P::eight(sums[4 * i + f], values, weights);
            }
        }
    }
}

/// The sum of each vector's lanes.
#[inline(always)]
pub fn across(a: int32x4_t, b: int32x4_t, c: int32x4_t, d: int32x4_t) -> int32x4_t {
    // SAFETY: vectors are part of this architecture.
    unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
}

/// Sums of four filters for four windows from `window`, 0 or 4, on: a vector per window.
///
/// # Safety
/// The processor has the instructions, and the pointers span what `taps` says.
#[inline(always)]
pub unsafe fn four_by_four<P: Products>(taps: &Taps, window: usize, filters: &Filters<'_, 4>) -> [int32x4_t; 4] {
    // SAFETY: `len` bytes of every row, eight of the tails.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 16];
        let mut w = filters.first;
        for row in taps.rows.iter().take(taps.row_count) {
            let mut x = *half(row, window);
            if taps.len >= 32 {
                P::turns(&mut sums, &mut x, &mut w, taps.len / 32);
            }
            if taps.len & 16 != 0 {
                sixteen_taps::<P>(&mut sums, &mut x, &mut w);
            }
            if taps.len & 8 != 0 {
                eight_taps::<P>(&mut sums, x, &w);
                w = w.map(|w| w.wrapping_add(8));
            }
        }
        if taps.tail != 0 {
            let x = half(&taps.tails, window).each_ref().map(|tail| tail.as_ptr());
            eight_taps::<P>(&mut sums, x, &filters.tails(w, taps.tail));
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = sums;
        [across(a, b, c, d), across(e, f, g, h), across(i, j, k, l), across(m, n, o, p)]
    }
}

/// The first or the second four.
#[inline(always)]
fn half<T>(all: &[T; TILE], first: usize) -> &[T; 4] {
    let (halves, _) = all.as_chunks::<4>();
    &halves[usize::from(first != 0)]
}

/// Sums of eight filters for one window: four filters per vector.
///
/// # Safety
/// As [`four_by_four`].
#[inline(always)]
pub unsafe fn one_by_eight<P: Products>(taps: &Taps, window: usize, filters: &Filters<'_, TILE>) -> [int32x4_t; 2] {
    // SAFETY: `len` bytes of every row, eight of the tails.
    unsafe {
        let mut sums = [vdupq_n_s32(0); TILE];
        let mut at = 0;
        for row in taps.rows.iter().take(taps.row_count) {
            let x = row[window & (TILE - 1)];
            let mut done = 0;
            while done + 16 <= taps.len {
                let values = vld1q_s8(x.wrapping_add(done));
                for (sum, w) in sums.iter_mut().zip(&filters.first) {
                    *sum = P::sixteen(*sum, values, vld1q_s8(w.wrapping_add(at + done)));
                }
                done += 16;
            }
            if taps.len & 8 != 0 {
                let values = vld1_s8(x.wrapping_add(done));
                for (sum, w) in sums.iter_mut().zip(&filters.first) {
                    *sum = P::eight(*sum, values, vld1_s8(w.wrapping_add(at + done)));
                }
            }
            at += taps.len;
        }
        if taps.tail != 0 {
            let values = vld1_s8(taps.tails[window & (TILE - 1)].as_ptr());
            for (sum, w) in sums.iter_mut().zip(filters.tails(filters.first.map(|w| w.wrapping_add(at)), taps.tail)) {
                *sum = P::eight(*sum, values, vld1_s8(w));
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        [across(a, b, c, d), across(e, f, g, h)]
    }
}

/// Sums of eight windows and eight filters.
pub trait EightByEight {
    /// Sums that start with the biases of `tables`, four filters each.
    fn start(tables: &[Tables; 2]) -> [int32x4_t; 16];

    /// Adds 16 taps per turn, at least one; pointers are advanced.
    ///
    /// # Safety
    /// The processor has the instructions, and every pointer `16 * turns` readable bytes.
    unsafe fn turns(sums: &mut [int32x4_t; 16], x: &mut [*const i8; TILE], w: &mut [*const i8; TILE], turns: usize);

    /// Adds eight taps.
    ///
    /// # Safety
    /// The processor has the instructions, and every pointer eight readable bytes.
    unsafe fn eight(sums: &mut [int32x4_t; 16], x: &[*const i8; TILE], w: &[*const i8; TILE]);

    /// The sums as `[window][four filters]`.
    fn finish(sums: [int32x4_t; 16]) -> [[int32x4_t; 2]; TILE];
}

/// Sums of eight filters for eight windows, biases included: `[window][four filters]`.
///
/// # Safety
/// The processor has the instructions, and the pointers span what `taps` says.
#[inline(always)]
pub unsafe fn eight_by_eight<T: EightByEight>(
    taps: &Taps,
    filters: &Filters<'_, TILE>,
    tables: &[Tables; 2],
) -> [[int32x4_t; 2]; TILE] {
    let mut sums = T::start(tables);
    let mut w = filters.first;
    // SAFETY: `len` bytes of every row, eight of the tails.
    unsafe {
        for row in taps.rows.iter().take(taps.row_count) {
            let mut x = *row;
            if taps.len >= 16 {
                T::turns(&mut sums, &mut x, &mut w, taps.len / 16);
            }
            if taps.len & 8 != 0 {
                T::eight(&mut sums, &x, &w);
                w = w.map(|w| w.wrapping_add(8));
            }
        }
        if taps.tail != 0 {
            T::eight(&mut sums, &taps.tails.each_ref().map(|tail| tail.as_ptr()), &filters.tails(w, taps.tail));
        }
    }
    T::finish(sums)
}

/// SDOT by lanes: sums are `[four filters][window]`.
impl EightByEight for Dot {
    #[inline(always)]
    fn start(tables: &[Tables; 2]) -> [int32x4_t; 16] {
        let [a, b] = tables.each_ref().map(Tables::bias);
        [a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b]
    }

    #[inline(always)]
    unsafe fn turns(sums: &mut [int32x4_t; 16], x: &mut [*const i8; TILE], w: &mut [*const i8; TILE], turns: usize) {
        // SAFETY: the caller has made sure of SDOT and of the bytes.
        unsafe { dot_8x8(sums, x, w, turns) }
    }

    #[inline(always)]
    unsafe fn eight(sums: &mut [int32x4_t; 16], x: &[*const i8; TILE], w: &[*const i8; TILE]) {
        // SAFETY: as above.
        unsafe {
            let pair = |i: usize| vreinterpretq_s32_s8(vcombine_s8(vld1_s8(w[i & 7]), vld1_s8(w[(i + 1) & 7])));
            for (quad, sums) in sums.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                let (a, b) = (pair(4 * quad), pair(4 * quad + 2));
                let first = vreinterpretq_s8_s32(vuzp1q_s32(a, b));
                let second = vreinterpretq_s8_s32(vuzp2q_s32(a, b));
                for (sum, &x) in sums.iter_mut().zip(x) {
                    let values = vcombine_s8(vld1_s8(x), vcreate_s8(0));
                    *sum = sdot_lane::<1>(sdot_lane::<0>(*sum, first, values), second, values);
                }
            }
        }
    }

    #[inline(always)]
    fn finish(sums: [int32x4_t; 16]) -> [[int32x4_t; 2]; TILE] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = sums;
        [[a, i], [b, j], [c, k], [d, l], [e, m], [f, n], [g, o], [h, p]]
    }
}

/// SMMLA: sums are `[pair of windows][pair of filters]`, two by two each.
pub struct Matrix;

impl EightByEight for Matrix {
    #[inline(always)]
    fn start(tables: &[Tables; 2]) -> [int32x4_t; 16] {
        // SAFETY: vectors are part of this architecture.
        let [[a, b], [c, d]] = tables.each_ref().map(|tables| unsafe {
            let bias = vreinterpretq_s64_s32(tables.bias());
            [vreinterpretq_s32_s64(vzip1q_s64(bias, bias)), vreinterpretq_s32_s64(vzip2q_s64(bias, bias))]
        });
        [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d]
    }

    #[inline(always)]
    unsafe fn turns(sums: &mut [int32x4_t; 16], x: &mut [*const i8; TILE], w: &mut [*const i8; TILE], turns: usize) {
        // SAFETY: the caller has made sure of SMMLA and of the bytes.
        unsafe { matrix_8x8(sums, x, w, turns) }
    }

    #[inline(always)]
    unsafe fn eight(sums: &mut [int32x4_t; 16], x: &[*const i8; TILE], w: &[*const i8; TILE]) {
        // SAFETY: as above.
        unsafe {
            let pair = |of: &[*const i8; TILE], i: usize| vcombine_s8(vld1_s8(of[2 * i]), vld1_s8(of[2 * i + 1]));
            let values = [pair(x, 0), pair(x, 1), pair(x, 2), pair(x, 3)];
            for f in 0..4 {
                let weights = pair(w, f);
                for (i, &values) in values.iter().enumerate() {
                    sums[4 * i + f] = smmla(sums[4 * i + f], values, weights);
                }
            }
        }
    }

    #[inline(always)]
    fn finish(sums: [int32x4_t; 16]) -> [[int32x4_t; 2]; TILE] {
        // Four sums of a pair of windows: those of the first, those of the second.
        let halves = |a, b| {
            // SAFETY: vectors are part of this architecture.
            unsafe {
                let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
                [vreinterpretq_s32_s64(vuzp1q_s64(a, b)), vreinterpretq_s32_s64(vuzp2q_s64(a, b))]
            }
        };
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = sums;
        let pair = |[a, b, c, d]: [int32x4_t; 4]| {
            let ([first, second], [first_too, second_too]) = (halves(a, b), halves(c, d));
            [[first, first_too], [second, second_too]]
        };
        let ([w0, w1], [w2, w3]) = (pair([a, b, c, d]), pair([e, f, g, h]));
        let ([w4, w5], [w6, w7]) = (pair([i, j, k, l]), pair([m, n, o, p]));
        [w0, w1, w2, w3, w4, w5, w6, w7]
    }
}
