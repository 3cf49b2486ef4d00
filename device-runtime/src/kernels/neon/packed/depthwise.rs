//! Depthwise convolution with packed weights, 3x3, eight channels and two windows at a time.
//!
//! A column of the input serves all windows that it is part of. With SDOT its rows are interleaved, and one instruction takes a
//! column of four channels.

mod columns;
mod pairs;

use columns::{Base, Columns, Dot};

use core::arch::aarch64::int8x16_t;

use super::{PANEL, finish};
use crate::kernels::neon::Level;
use crate::kernels::neon::finish::{Finish, Tables};
use crate::kernels::packed::{Line, Operands};

/// Depthwise convolution of the windows that `operands` describes in `source`. The processor has the instructions of `level`.
pub fn depthwise_packed(level: Level, operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    match level {
        Level::Base => all::<Base>(operands, source, output),
        Level::Dot | Level::Matrix => all::<Dot>(operands, source, output),
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
            tables: unsafe { Tables::of_eight(tables.map(|table| table.wrapping_add(first))) },
            // SAFETY: as above.
            weights: unsafe { C::weights(weights) },
            count: (channels - first).min(PANEL),
            len: output.len(),
        };
        let (x, place) = (source.wrapping_add(first), output.as_mut_ptr().wrapping_add(first));
        // SAFETY: windows lie in the source, and every window has `count` channels from `first` on in the output.
        unsafe {
            match (stride, finish.is_plain() && finish.residual.is_none() && call.count == PANEL) {
                (1, true) => C::adjacent(&call, x, place),
                (2, true) => call.lines::<2, true>(call.all_lines(), x, place),
                (1, false) => call.lines::<1, false>(call.all_lines(), x, place),
                (2, false) => call.lines::<2, false>(call.all_lines(), x, place),
                _ => call.lines::<3, false>(call.all_lines(), x, place),
            }
        }
    }
}

/// Up to eight channels.
struct Call<'a, C: Columns> {
    operands: &'a Operands<'a>,
    finish: &'a Finish<'a>,
    tables: [Tables; 2],
    weights: [C::Column; 3],
    count: usize,
    /// Values of the whole output.
    len: usize,
}

impl<C: Columns> Call<'_, C> {
    fn all_lines(&self) -> impl Iterator<Item = Line> {
        self.operands.layout.lines(self.operands.first, self.len, self.operands.channels)
    }

    /// Windows `STRIDE` or, if that is 3, at least three columns apart. With `PLAIN`, there are eight channels, and results are
    /// plain.
    #[inline(never)]
    unsafe fn lines<const STRIDE: usize, const PLAIN: bool>(
        &self,
        lines: impl Iterator<Item = Line>,
        source: *const i8,
        output: *mut i8,
    ) {
        let step = self.operands.channels;
        let (row_step, window_step) = (self.operands.layout.row_step, self.operands.layout.column_step);
        let [low, high] = self.tables;
        let (bias, tables) = (self.tables.each_ref().map(Tables::bias), [low, high, low, high]);
        let weights = self.weights;
        for line in lines {
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
                    let values = self.finish.values_of::<PLAIN>(sums, &tables);
                    if PLAIN {
                        place = self.finish.store_two_windows::<true, false>(values, place, step);
                    } else {
                        self.store_part(values, place, 2);
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
                    let values = self.finish.values_of::<PLAIN>([low, high, low, high], &tables);
                    self.store_part(values, place, 1);
                }
            }
        }
    }

    /// Stores the channels of one window or two.
    #[inline(always)]
    unsafe fn store_part(&self, values: int8x16_t, place: *mut i8, windows: usize) {
        let mut rows = [[0; PANEL]; 2];
        // SAFETY: the caller grants the channels of the windows.
        unsafe {
            self.finish.store_two_windows::<true, false>(values, rows.as_mut_ptr().cast(), PANEL);
            let rows = rows.get(..windows).unwrap_or(&[]);
            self.finish.store_rows(rows, place, self.operands.channels, self.count);
        }
    }
}
