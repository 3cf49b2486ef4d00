//! Sums of products of a tile: a few windows, a few filters, all taps.

use core::arch::aarch64::*;

use super::products::{dot_4x4, matrix_8x8, sdot, smmla};

/// Windows of the largest tile, and its filters.
pub const TILE: usize = 8;
/// Most kernel rows whose windows are read where they lie.
pub const MAX_ROWS: usize = 7;

/// Where the taps of up to eight windows are.
pub struct Taps {
    /// First tap of `[kernel row][window]`; windows that do not exist repeat the last.
    pub rows: [[*const i8; TILE]; MAX_ROWS],
    /// Kernel rows in use, at least 1.
    pub row_count: usize,
    /// Adjacent taps of a row, a multiple of 8.
    pub len: usize,
    /// What follows the only row and does not fill eight taps, then zeros.
    pub tails: [[i8; 8]; TILE],
    /// Taps of a tail, less than 8.
    pub tail: usize,
}

/// Filters of a tile.
#[derive(Clone, Copy)]
pub struct Filters {
    /// First tap of each.
    pub first: [*const i8; TILE],
    /// Eight readable bytes that start with each filter's tail; used where there is one.
    pub tails: [*const i8; TILE],
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

#[inline(always)]
unsafe fn sixteen_taps<P: Products + ?Sized>(
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

#[inline(always)]
unsafe fn eight_taps<P: Products>(sums: &mut [int32x4_t; 16], x: [*const i8; 4], w: &[*const i8; 4]) {
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

/// Four of eight, from `first` on.
#[inline(always)]
fn four(all: &[*const i8; TILE], first: usize) -> [*const i8; 4] {
    core::array::from_fn(|i| all[(first + i) & (TILE - 1)])
}

/// The sum of each vector's lanes.
#[inline(always)]
fn across(a: int32x4_t, b: int32x4_t, c: int32x4_t, d: int32x4_t) -> int32x4_t {
    // SAFETY: vectors are part of this architecture.
    unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
}

/// Sums of the first four filters for four windows from `window` on: a vector per window.
///
/// # Safety
/// The processor has the instructions, and the pointers span what `taps` says.
#[inline(always)]
pub unsafe fn four_by_four<P: Products>(taps: &Taps, window: usize, filters: &Filters) -> [int32x4_t; 4] {
    // SAFETY: `len` bytes of every row, eight of the tails.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 16];
        let mut w = four(&filters.first, 0);
        for row in taps.rows.iter().take(taps.row_count) {
            let mut x = four(row, window);
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
            let x = core::array::from_fn(|i| taps.tails[(window + i) & (TILE - 1)].as_ptr());
            eight_taps::<P>(&mut sums, x, &four(&filters.tails, 0));
        }
        let [a, b, c, d] = core::array::from_fn(|i| 4 * i);
        [a, b, c, d].map(|i| across(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]))
    }
}

/// Sums of eight filters for one window: four filters per vector.
///
/// # Safety
/// As [`four_by_four`].
#[inline(always)]
pub unsafe fn one_by_eight<P: Products>(taps: &Taps, window: usize, filters: &Filters) -> [int32x4_t; 2] {
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
            for (sum, &w) in sums.iter_mut().zip(&filters.tails) {
                *sum = P::eight(*sum, values, vld1_s8(w));
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        [across(a, b, c, d), across(e, f, g, h)]
    }
}

/// Sums of eight filters for eight windows: `[four filters][window]`.
///
/// # Safety
/// As [`four_by_four`]; the processor has SMMLA.
#[inline(always)]
pub unsafe fn eight_by_eight(taps: &Taps, filters: &Filters) -> [[int32x4_t; TILE]; 2] {
    // SAFETY: `len` bytes of every row, eight of the tails.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 16];
        let mut w = filters.first;
        for row in taps.rows.iter().take(taps.row_count) {
            let mut x = *row;
            if taps.len >= 16 {
                matrix_8x8(&mut sums, &mut x, &mut w, taps.len / 16);
            }
            if taps.len & 8 != 0 {
                matrix_eight_taps(&mut sums, &x, &w);
                w = w.map(|w| w.wrapping_add(8));
            }
        }
        if taps.tail != 0 {
            matrix_eight_taps(&mut sums, &taps.tails.each_ref().map(|tail| tail.as_ptr()), &filters.tails);
        }
        // Pairs of pairs to four filters of one window.
        let halves = |pair: usize, filters: usize| {
            let a = vreinterpretq_s64_s32(sums[4 * pair + 2 * filters]);
            let b = vreinterpretq_s64_s32(sums[4 * pair + 2 * filters + 1]);
            [vreinterpretq_s32_s64(vuzp1q_s64(a, b)), vreinterpretq_s32_s64(vuzp2q_s64(a, b))]
        };
        [0, 1].map(|filters| {
            let [[a, b], [c, d], [e, f], [g, h]] = [0, 1, 2, 3].map(|pair| halves(pair, filters));
            [a, b, c, d, e, f, g, h]
        })
    }
}

#[inline(always)]
unsafe fn matrix_eight_taps(sums: &mut [int32x4_t; 16], x: &[*const i8; TILE], w: &[*const i8; TILE]) {
    // SAFETY: the caller grants eight bytes of each.
    unsafe {
        let pair = |of: &[*const i8; TILE], i: usize| vcombine_s8(vld1_s8(of[2 * i]), vld1_s8(of[2 * i + 1]));
        let values = [0, 1, 2, 3].map(|i| pair(x, i));
        for f in 0..4 {
            let weights = pair(w, f);
            for (i, &values) in values.iter().enumerate() {
                sums[4 * i + f] = smmla(sums[4 * i + f], values, weights);
            }
        }
    }
}
