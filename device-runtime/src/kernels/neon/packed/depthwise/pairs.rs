//! Two lines of windows at a time with SDOT: a column of four rows serves both, with weights for its first three and its last three.

use core::arch::aarch64::*;

use super::Call;
use super::columns::{Columns, Dot, Sums, interleaved};
use crate::kernels::neon::finish::Tables;

/// Four rows of each of eight channels.
type Column = <Dot as Columns>::Column;

/// The sums of the first three rows, those of the last three.
///
/// # Safety
/// The processor has SDOT.
#[inline(always)]
unsafe fn two_sums(bias: Sums, columns: [Column; 3], weights: &[Column; 3]) -> [Sums; 2] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let down = |w| vreinterpretq_s8_s32(vshlq_n_s32::<8>(vreinterpretq_s32_s8(w)));
        let lower = weights.map(|column| column.map(down));
        [Dot::sums(bias, columns, weights), Dot::sums(bias, columns, &lower)]
    }
}

impl Call<'_, Dot> {
    /// Windows one column and one row apart, two lines at a time: four rows of a column serve both. There are eight channels, and
    /// results are plain.
    #[inline(never)]
    pub unsafe fn pairs_of_lines(&self, source: *const i8, output: *mut i8) {
        let step = self.operands.channels;
        let row_step = self.operands.layout.row_step;
        let [low, high] = self.tables;
        let (bias, tables) = (self.tables.each_ref().map(Tables::bias), [low, high, low, high]);
        let weights = self.weights;
        let mut lines = self.all_lines();
        while let Some(line) = lines.next() {
            let Some(below) = lines.next() else {
                // SAFETY: the caller's promises.
                return unsafe { self.lines::<1, true>(core::iter::once(line), source, output) };
            };
            let (mut x, mut places) =
                (source.wrapping_add(line.start), [line, below].map(|line| output.wrapping_add(line.place)));
            // SAFETY: the caller's promises.
            unsafe {
                let column = |x: *const i8| {
                    let (second, third) = (x.wrapping_add(row_step), x.wrapping_add(2 * row_step));
                    interleaved([x, second, third, third.wrapping_add(row_step)].map(|row| vld1_s8(row)))
                };
                let (mut a, mut b) = (column(x), column(x.wrapping_add(step)));
                x = x.wrapping_add(2 * step);
                let mut left = line.windows;
                while left >= 2 {
                    let (c, d) = (column(x), column(x.wrapping_add(step)));
                    let first = two_sums(bias, [a, b, c], &weights);
                    let second = two_sums(bias, [b, c, d], &weights);
                    for ((place, first), second) in places.iter_mut().zip(first).zip(second) {
                        let values = self.finish.values_of::<true>([first[0], first[1], second[0], second[1]], &tables);
                        *place = self.finish.store_two_windows::<true, false>(values, *place, step);
                    }
                    (a, b) = (c, d);
                    x = x.wrapping_add(2 * step);
                    left -= 2;
                }
                if left != 0 {
                    let sums = two_sums(bias, [a, b, column(x)], &weights);
                    for (place, [low, high]) in places.into_iter().zip(sums) {
                        let values = self.finish.values_of::<true>([low, high, low, high], &tables);
                        self.finish.store_window::<true, false>(values, place);
                    }
                }
            }
        }
    }
}
