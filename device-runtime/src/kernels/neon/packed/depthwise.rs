//! Depthwise convolution with packed weights, 3x3, eight channels and two windows at a time.
//!
//! A column of the input serves all windows that it is part of. With SDOT its three rows are interleaved, and one instruction takes a
//! column of four channels.

use core::arch::aarch64::*;

use super::{PANEL, finish};
use crate::kernels::neon::Level;
use crate::kernels::neon::finish::{Finish, Tables};
use crate::kernels::neon::products::sdot;
use crate::kernels::packed::Operands;

/// Depthwise convolution of the windows that `operands` describes in `source`. The processor has the instructions of `level`.
pub fn depthwise_packed(level: Level, operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    match level {
        Level::Base => all::<Base>(operands, source, output),
        Level::Dot | Level::Matrix => all::<Dot>(operands, source, output),
    }
}

/// Sums of eight channels.
type Sums = [int32x4_t; 2];

/// How three rows of eight channels are multiplied.
///
/// The functions are unsafe: the processor has the instructions; `load` reads eight bytes of each row, `weights` those of a panel.
trait Columns {
    /// Three rows of a column.
    type Column: Copy;
    /// Bytes of a panel's weights.
    const PANEL_BYTES: usize;
    unsafe fn weights(panel: *const i8) -> [Self::Column; 3];
    unsafe fn load(rows: [*const i8; 3]) -> Self::Column;
    unsafe fn sums(bias: Sums, columns: [Self::Column; 3], weights: &[Self::Column; 3]) -> Sums;
}

/// Rows as they are; two products fit 16 bits, since no weight is -128.
struct Base;

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
struct Dot;

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
            let eight = |row| vcombine_s8(vld1_s8(row), vcreate_s8(0));
            let [a, b, c] = rows.map(eight);
            let (ab, c) = (vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip1q_s8(c, vdupq_n_s8(0))));
            [vreinterpretq_s8_s16(vzip1q_s16(ab, c)), vreinterpretq_s8_s16(vzip2q_s16(ab, c))]
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
}

fn all<C: Columns>(operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    let Operands { tables, channels, .. } = *operands;
    let finish = finish(operands);
    let stride = operands.layout.column_step / channels.max(1);
    let tables = [&tables.bias, &tables.multiplier, &tables.shift].map(|table| table.as_ptr());
    for (panel, first) in (0..channels).step_by(PANEL).enumerate() {
        let weights = operands.panels.as_ptr().wrapping_add(panel * C::PANEL_BYTES);
        let call = Call::<C> {
            operands,
            finish: &finish,
            // SAFETY: there are as many whole panels.
            tables: unsafe { Tables::twice(tables.map(|table| table.wrapping_add(first))) },
            // SAFETY: as above.
            weights: unsafe { C::weights(weights) },
            count: (channels - first).min(PANEL),
            len: output.len(),
        };
        let (x, place) = (source.wrapping_add(first), output.as_mut_ptr().wrapping_add(first));
        // SAFETY: windows lie in the source, and every window has `count` channels from `first` on in the output.
        unsafe {
            match (stride, finish.is_plain() && call.count == PANEL) {
                (1, true) => call.lines::<1, true>(x, place),
                (2, true) => call.lines::<2, true>(x, place),
                (1, false) => call.lines::<1, false>(x, place),
                (2, false) => call.lines::<2, false>(x, place),
                _ => call.lines::<3, false>(x, place),
            }
        }
    }
}

/// Up to eight channels.
struct Call<'a, C: Columns> {
    operands: &'a Operands<'a>,
    finish: &'a Finish<'a>,
    tables: [Tables; 4],
    weights: [C::Column; 3],
    count: usize,
    /// Values of the whole output.
    len: usize,
}

impl<C: Columns> Call<'_, C> {
    /// Windows `STRIDE` or, if that is 3, at least three columns apart. With `PLAIN`, there are eight channels, and results are
    /// plain.
    #[inline(never)]
    unsafe fn lines<const STRIDE: usize, const PLAIN: bool>(&self, source: *const i8, output: *mut i8) {
        let step = self.operands.channels;
        let (row_step, window_step) = (self.operands.layout.row_step, self.operands.layout.column_step);
        let [low, high, ..] = self.tables.each_ref().map(Tables::bias);
        let bias = [low, high];
        let weights = self.weights;
        for line in self.operands.layout.lines(self.operands.first, self.len, step) {
            let (mut x, mut place) = (source.wrapping_add(line.start), output.wrapping_add(line.place));
            // SAFETY: the caller's promises.
            unsafe {
                let column = |x: *const i8| {
                    let second = x.wrapping_add(row_step);
                    C::load([x, second, second.wrapping_add(row_step)])
                };
                let (mut a, mut b) = (column(x), column(x.wrapping_add(step)));
                let mut left = line.windows;
                while left >= 2 {
                    let c = column(x.wrapping_add(2 * step));
                    let first = C::sums(bias, [a, b, c], &weights);
                    x = x.wrapping_add(window_step);
                    let (d, e) = match STRIDE {
                        1 => (b, c),
                        2 => (c, column(x.wrapping_add(step))),
                        _ => (column(x), column(x.wrapping_add(step))),
                    };
                    let f = column(x.wrapping_add(2 * step));
                    let second = C::sums(bias, [d, e, f], &weights);
                    let sums = [first[0], first[1], second[0], second[1]];
                    let values = self.finish.values_of::<PLAIN>(sums, &self.tables);
                    if PLAIN {
                        place = self.finish.store_two_windows::<true>(values, place, step);
                    } else {
                        self.finish.store_part_of_two(values, place, step, (2, self.count));
                        place = place.wrapping_add(2 * step);
                    }
                    x = x.wrapping_add(window_step);
                    left -= 2;
                    if STRIDE == 1 {
                        (a, b) = (e, f);
                    } else if left != 0 {
                        // Behind the last window there may be no more columns.
                        a = if STRIDE == 2 { f } else { column(x) };
                        b = column(x.wrapping_add(step));
                    }
                }
                if left != 0 {
                    let [low, high] = C::sums(bias, [a, b, column(x.wrapping_add(2 * step))], &weights);
                    let values = self.finish.values_of::<PLAIN>([low, high, low, high], &self.tables);
                    self.finish.store_part_of_two(values, place, step, (1, self.count));
                }
            }
        }
    }
}
