//! How columns of three rows are read and multiplied.

use core::arch::aarch64::*;

use super::Call;
use crate::kernels::neon::packed::PANEL;
use crate::kernels::neon::products::sdot;

/// Sums of eight channels.
pub type Sums = [int32x4_t; 2];

/// How three rows of eight channels are multiplied.
///
/// The functions are unsafe: the processor has the instructions; `load` reads eight bytes of each row, `weights` those of a panel.
pub trait Columns: Sized {
    /// Three rows of a column.
    type Column: Copy;
    /// Bytes of a panel's weights.
    const PANEL_BYTES: usize;
    unsafe fn weights(panel: *const i8) -> [Self::Column; 3];
    unsafe fn load(rows: [*const i8; 3]) -> Self::Column;
    unsafe fn sums(bias: Sums, columns: [Self::Column; 3], weights: &[Self::Column; 3]) -> Sums;
    /// All windows of `call`: one column apart, eight channels, results that are plain.
    #[inline(always)]
    unsafe fn adjacent(call: &Call<'_, Self>, source: *const i8, output: *mut i8) {
        // SAFETY: the caller's promise.
        unsafe { call.lines::<1, true>(call.all_lines(), source, output) }
    }
}

/// Rows as they are; two products fit 16 bits, since no weight is -128.
pub struct Base;

impl Columns for Base {
    type Column = [int8x8_t; 3];
    const PANEL_BYTES: usize = 9 * PANEL;

    #[inline(always)]
    unsafe fn weights(panel: *const i8) -> [Self::Column; 3] {
        let at = |tap: usize| panel.wrapping_add(PANEL * tap);
        // SAFETY: the caller's promise.
        [0, 3, 6].map(|first| unsafe { Self::load([at(first), at(first + 1), at(first + 2)]) })
    }

    #[inline(always)]
    unsafe fn load(rows: [*const i8; 3]) -> Self::Column {
        // SAFETY: the caller's promise.
        rows.map(|row| unsafe { vld1_s8(row) })
    }

    #[inline(always)]
    unsafe fn sums(bias: Sums, [a, b, c]: [Self::Column; 3], [u, v, w]: &[Self::Column; 3]) -> Sums {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let pair = |x, u, y, v| vmlal_s8(vmull_s8(x, u), y, v);
            let [low, high] = bias;
            let (mut low, mut high) = (low, high);
            for products in [
                pair(a[0], u[0], a[1], u[1]),
                pair(a[2], u[2], b[0], v[0]),
                pair(b[1], v[1], b[2], v[2]),
                pair(c[0], w[0], c[1], w[1]),
                vmull_s8(c[2], w[2]),
            ] {
                low = vaddw_s16(low, vget_low_s16(products));
                high = vaddw_high_s16(high, products);
            }
            [low, high]
        }
    }
}

/// Rows 0, 1, 2 and zero of each channel.
pub struct Dot;

impl Columns for Dot {
    type Column = [int8x16_t; 2];
    const PANEL_BYTES: usize = 12 * PANEL;

    #[inline(always)]
    unsafe fn weights(panel: *const i8) -> [Self::Column; 3] {
        let at = |column: usize| panel.wrapping_add(4 * PANEL * column);
        // SAFETY: the caller's promise.
        [0, 1, 2].map(|column| unsafe { [vld1q_s8(at(column)), vld1q_s8(at(column).wrapping_add(16))] })
    }

    #[inline(always)]
    unsafe fn load(rows: [*const i8; 3]) -> Self::Column {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c] = rows.map(|row| vld1_s8(row));
            interleaved([a, b, c, vcreate_s8(0)])
        }
    }

    #[inline(always)]
    unsafe fn sums([low, high]: Sums, columns: [Self::Column; 3], weights: &[Self::Column; 3]) -> Sums {
        let (mut low, mut high) = (low, high);
        for (x, w) in columns.into_iter().zip(weights) {
            // SAFETY: the processor has SDOT.
            unsafe { (low, high) = (sdot(low, x[0], w[0]), sdot(high, x[1], w[1])) };
        }
        [low, high]
    }

    #[inline(always)]
    unsafe fn adjacent(call: &Call<'_, Self>, source: *const i8, output: *mut i8) {
        // SAFETY: the caller's promise.
        unsafe {
            match call.operands.layout.has_adjacent_lines() {
                true => call.pairs_of_lines(source, output),
                false => call.lines::<1, true>(call.all_lines(), source, output),
            }
        }
    }
}

/// Four rows of eight channels, channel by channel.
#[inline(always)]
pub fn interleaved(rows: [int8x8_t; 4]) -> [int8x16_t; 2] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let [a, b, c, d] = rows.map(|row| vcombine_s8(row, vcreate_s8(0)));
        let (ab, cd) = (vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip1q_s8(c, d)));
        [vreinterpretq_s8_s16(vzip1q_s16(ab, cd)), vreinterpretq_s8_s16(vzip2q_s16(ab, cd))]
    }
}
