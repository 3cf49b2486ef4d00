//! All filters of a group over the windows of a turn.

use core::arch::aarch64::vaddq_s32;

use super::finish::Finish;
use super::sums::{Filters, Products, TILE, Taps, eight_by_eight, four_by_four, one_by_eight};

/// The filters of one group, and where their results go.
pub struct Group<'a> {
    /// All weights of the convolution.
    pub weights: &'a [i8],
    /// Taps of a filter.
    pub taps: usize,
    /// First output channel, and how many.
    pub first: usize,
    /// Number of output channels.
    pub count: usize,
}

impl Group<'_> {
    /// Filters from `at` on, at most `most`; those that do not exist repeat the first. `spare` takes tails that cannot be read
    /// as eight bytes where they are.
    #[inline(always)]
    fn filters(&self, at: usize, most: usize, taps: &Taps, spare: &mut [[i8; 8]; TILE]) -> Filters {
        let count = most.min(self.count - at);
        let from = (self.first + at) * self.taps;
        let base = self.weights.as_ptr().wrapping_add(from);
        let first: [*const i8; TILE] = if count == TILE {
            core::array::from_fn(|i| base.wrapping_add(i * self.taps))
        } else {
            core::array::from_fn(|i| base.wrapping_add(if i < count { i * self.taps } else { 0 }))
        };
        let mut filters = Filters { first, tails: first };
        if taps.tail != 0 {
            let before = self.taps - taps.tail;
            filters.tails = first.map(|filter| filter.wrapping_add(before));
            if from + (count - 1) * self.taps + before + 8 > self.weights.len() {
                self.copy_tails(from, count, taps.tail, spare);
                filters.tails = spare.each_ref().map(|tail| tail.as_ptr());
            }
        }
        filters
    }

    #[inline(never)]
    fn copy_tails(&self, from: usize, count: usize, tail: usize, spare: &mut [[i8; 8]; TILE]) {
        let filters = self.weights.get(from..).unwrap_or(&[]).chunks_exact(self.taps.max(1));
        for (filter, spare) in filters.zip(spare).take(count) {
            let tail = filter.get(self.taps - tail..).unwrap_or(&[]);
            spare.iter_mut().zip(tail).for_each(|(to, &w)| *to = w);
        }
    }

    /// Four windows from `window` on, of which `windows` exist.
    ///
    /// # Safety
    /// The processor has the instructions of `P`; `place`, the first window's first output channel, and what follows `step`
    /// bytes apart take all results.
    #[inline(always)]
    pub unsafe fn four_windows<P: Products>(
        &self,
        finish: &Finish<'_>,
        taps: &Taps,
        (window, windows): (usize, usize),
        place: *mut i8,
        step: usize,
    ) {
        let mut spare = [[0; 8]; TILE];
        for at in (0..self.count).step_by(4) {
            let filters = self.filters(at, 4, taps, &mut spare);
            let tables = finish.tables(self.first + at);
            let count = (self.count - at).min(4);
            // SAFETY: the caller's promises; filters and windows span what the group and `taps` say.
            unsafe {
                let sums = four_by_four::<P>(taps, window, &filters);
                finish.store_tile(sums, tables, place.wrapping_add(at), step, (windows, count));
            }
        }
    }

    /// One window.
    ///
    /// # Safety
    /// As [`four_windows`](Self::four_windows).
    #[inline(always)]
    pub unsafe fn one_window<P: Products>(&self, finish: &Finish<'_>, taps: &Taps, window: usize, place: *mut i8) {
        let mut spare = [[0; 8]; TILE];
        for at in (0..self.count).step_by(TILE) {
            let filters = self.filters(at, TILE, taps, &mut spare);
            let [left, right] = [0, 4].map(|next| finish.tables(self.first + at + next));
            let count = (self.count - at).min(TILE);
            // SAFETY: the caller's promises; filters and windows span what the group and `taps` say.
            unsafe {
                let [a, b] = one_by_eight::<P>(taps, window, &filters);
                let place = place.wrapping_add(at);
                if count == TILE {
                    let (low, high) = (vaddq_s32(a, left.bias()), vaddq_s32(b, right.bias()));
                    finish.store_row::<8>([low, high, high, high], &[left, right, right, right], place);
                    continue;
                }
                finish.store_tile([a; 4], left, place, 0, (1, count.min(4)));
                if count > 4 {
                    finish.store_tile([b; 4], right, place.wrapping_add(4), 0, (1, count - 4));
                }
            }
        }
    }

    /// Eight windows, of which `windows` exist, more than four.
    ///
    /// # Safety
    /// As [`four_windows`](Self::four_windows); the processor has SMMLA.
    #[inline(always)]
    pub unsafe fn eight_windows(&self, finish: &Finish<'_>, taps: &Taps, windows: usize, place: *mut i8, step: usize) {
        let mut spare = [[0; 8]; TILE];
        for at in (0..self.count).step_by(TILE) {
            let filters = self.filters(at, TILE, taps, &mut spare);
            // SAFETY: the caller's promises; filters and windows span what the group and `taps` say.
            unsafe {
                for (quad, sums) in eight_by_eight(taps, &filters).into_iter().enumerate() {
                    let first = at + 4 * quad;
                    if first >= self.count {
                        break;
                    }
                    let count = (self.count - first).min(4);
                    let tables = finish.tables(self.first + first);
                    let [a, b, c, d, e, f, g, h] = sums;
                    let place = place.wrapping_add(first);
                    finish.store_tile([a, b, c, d], tables, place, step, (4, count));
                    finish.store_tile([e, f, g, h], tables, place.wrapping_add(4 * step), step, (windows - 4, count));
                }
            }
        }
    }
}
