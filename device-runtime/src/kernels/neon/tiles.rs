//! All filters of a group over the windows of a turn.

use core::arch::aarch64::vaddq_s32;

use super::finish::Finish;
use super::sums::{Dot, EightByEight, Filters, Products, eight_by_eight, four_by_four, one_by_eight};
use crate::kernels::gather::{TILE, Taps};

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

/// Where the results of a turn's windows go.
#[derive(Clone, Copy)]
pub struct Places {
    /// First output channel of the group at the first window.
    pub first: *mut i8,
    /// Bytes from window to window.
    pub step: usize,
    /// Windows, at most eight.
    pub windows: usize,
}

impl Group<'_> {
    /// As many filters as fill tiles of `of` and can be read where they are.
    #[inline(always)]
    fn whole(&self, of: usize) -> usize {
        if self.taps < 8 { 0 } else { self.count - self.count % of }
    }

    /// `N` adjacent filters from `at` on.
    #[inline(always)]
    fn filters<const N: usize>(&self, at: usize) -> Filters<'static, N> {
        let base = self.weights.as_ptr().wrapping_add((self.first + at) * self.taps);
        Filters { first: core::array::from_fn(|i| base.wrapping_add(i * self.taps)), tails: None }
    }

    /// Up to four filters at a time from `from` on, for the windows of `places` from `window`, 0 or 4, on.
    ///
    /// # Safety
    /// The processor has the instructions of `P`, and the places take all results.
    #[inline(never)]
    pub unsafe fn rest<P: Products>(
        &self,
        finish: &Finish<'_>,
        taps: &Taps,
        (from, window): (usize, usize),
        places: Places,
    ) {
        for at in (from..self.count).step_by(4) {
            let count = (self.count - at).min(4);
            let mut filters = self.filters::<4>(at);
            let first = filters.first[0];
            filters.first.iter_mut().skip(count).for_each(|filter| *filter = first);
            let mut tails = [[0; 8]; 4];
            if self.taps < 8 {
                let all = self.weights.chunks_exact(self.taps.max(1)).skip(self.first + at).take(count);
                for (tail, filter) in tails.iter_mut().zip(all) {
                    tail.iter_mut().rev().zip(filter.iter().rev()).for_each(|(to, &w)| *to = w);
                }
                filters.tails = Some(&tails);
            }
            let windows = places.windows.saturating_sub(window).min(4);
            let place = places.first.wrapping_add(window * places.step + at);
            // SAFETY: the processor has the instructions; filters and windows span what the group and `taps` say.
            unsafe {
                let sums = four_by_four::<P>(taps, window, &filters);
                finish.store_tile(sums, finish.tables(self.first + at), place, places.step, (windows, count));
            }
        }
    }

    /// Up to four windows.
    ///
    /// # Safety
    /// The processor has the instructions of `P`, and the places take all results.
    #[inline(never)]
    pub unsafe fn four_windows<P: Products>(&self, finish: &Finish<'_>, taps: &Taps, places: Places) {
        let whole = if places.windows == 4 { self.whole(4) } else { 0 };
        for at in (0..whole).step_by(4) {
            // SAFETY: the caller's promises; filters and windows span what the group and `taps` say.
            unsafe {
                let sums = four_by_four::<P>(taps, 0, &self.filters(at));
                let tables = finish.tables_of_four(self.first + at);
                finish.store_tile(sums, tables, places.first.wrapping_add(at), places.step, (4, 4));
            }
        }
        if whole < self.count {
            // SAFETY: the caller's promises.
            unsafe { self.rest::<P>(finish, taps, (whole, 0), places) };
        }
    }

    /// One window.
    ///
    /// # Safety
    /// As [`four_windows`](Self::four_windows).
    #[inline(never)]
    pub unsafe fn one_window<P: Products>(&self, finish: &Finish<'_>, taps: &Taps, places: Places) {
        let whole = self.whole(TILE);
        for at in (0..whole).step_by(TILE) {
            // SAFETY: the caller's promises; filters and windows span what the group and `taps` say.
            unsafe {
                let [low, high] = [0, 4].map(|next| finish.tables_of_four(self.first + at + next));
                let [a, b] = one_by_eight::<P>(taps, 0, &self.filters(at));
                let (a, b) = (vaddq_s32(a, low.bias()), vaddq_s32(b, high.bias()));
                finish.store_row::<8>([a, b, b, b], &[low, high, high, high], places.first.wrapping_add(at));
            }
        }
        if whole < self.count {
            // SAFETY: the caller's promises.
            unsafe { self.rest::<P>(finish, taps, (whole, 0), places) };
        }
    }

    /// Five to eight windows.
    ///
    /// # Safety
    /// As [`four_windows`](Self::four_windows), with the instructions of `T` and SDOT.
    #[inline(always)]
    pub unsafe fn eight_windows<T: EightByEight>(&self, finish: &Finish<'_>, taps: &Taps, places: Places) {
        let whole = self.whole(TILE);
        for at in (0..whole).step_by(TILE) {
            // SAFETY: the caller's promises; filters and windows span what the group and `taps` say.
            unsafe {
                let tables = [0, 4].map(|next| finish.tables_of_four(self.first + at + next));
                let [a, b, c, d, e, f, g, h] = eight_by_eight::<T>(taps, &self.filters(at), &tables);
                let first = places.first.wrapping_add(at);
                let place = |window: usize| first.wrapping_add(window * places.step);
                finish.store_two([a, b], &tables, [place(0), place(1)]);
                finish.store_two([c, d], &tables, [place(2), place(3)]);
                if places.windows == TILE {
                    finish.store_two([e, f], &tables, [place(4), place(5)]);
                    finish.store_two([g, h], &tables, [place(6), place(7)]);
                } else {
                    for (at, sums) in [e, f, g].into_iter().enumerate().take(places.windows - 4) {
                        let [low, high] = tables;
                        finish.store_row::<8>(
                            [sums[0], sums[1], sums[1], sums[1]],
                            &[low, high, high, high],
                            place(4 + at),
                        );
                    }
                }
            }
        }
        if whole < self.count {
            // SAFETY: the caller's promises.
            unsafe {
                self.rest::<Dot>(finish, taps, (whole, 0), places);
                self.rest::<Dot>(finish, taps, (whole, 4), places);
            }
        }
    }
}
