//! From accumulators to stored values, and the loop over filters that yields them.

use core::ops::Range;

use super::columns::Columns;
use super::instructions::{saturate, scale};
use crate::kernels::params::{Add, Channel, Landing, Requant};

/// What the loops over outputs are compiled for.
pub mod kind {
    /// No clamp narrower than int8, no residual addition.
    pub const PLAIN: u8 = 0;
    /// No clamp narrower than int8, a residual addition.
    pub const RESIDUAL: u8 = 1;
    /// Anything.
    pub const ANY: u8 = 2;
}

/// What happens to every accumulator of one convolution.
pub struct Epilogue<'a> {
    q: &'a Requant<'a>,
    residual: Option<&'a Add>,
    /// The narrowest of [`kind`]s that fits.
    pub kind: u8,
    /// Every shift suits [`scale`].
    scales: bool,
}

impl<'a> Epilogue<'a> {
    pub fn new(q: &'a Requant<'a>, channels: usize, residual: Option<&'a Add>) -> Self {
        let wide = |lo, hi| lo == i8::MIN && hi == i8::MAX;
        let kind = match residual {
            None if wide(q.landing.lo, q.landing.hi) => kind::PLAIN,
            Some(add) if wide(q.landing.lo, q.landing.hi) && wide(add.lo, add.hi) => kind::RESIDUAL,
            _ => kind::ANY,
        };
        let scales = q.shift.iter().take(channels).all(|&shift| shift.wrapping_sub(33) < 30);
        Self { q, residual, kind, scales }
    }

    /// The tables of the output channels in `range`.
    #[inline(always)]
    pub fn tables(&self, range: Range<usize>) -> Tables<'_> {
        Tables {
            epilogue: self,
            bias: self.q.bias.get(range.clone()).unwrap_or(&[]),
            multiplier: self.q.multiplier.get(range.clone()).unwrap_or(&[]),
            shift: self.q.shift.get(range).unwrap_or(&[]),
        }
    }

    /// This epilogue by value, where every shift suits [`scale`].
    #[inline(always)]
    fn fast(&self) -> Option<Fast> {
        self.scales.then_some(Fast { landing: self.q.landing, residual: self.residual.copied() })
    }

    /// Stores the accumulators of four channels, biases included. `KIND` is this epilogue's or [`kind::ANY`].
    #[inline(always)]
    pub fn store_four<const KIND: u8>(
        &self,
        multiplier: &[i32; 4],
        shift: &[u8; 4],
        sums: &[i32; 4],
        places: &mut [i8; 4],
    ) {
        if let Some(fast) = self.fast() {
            let held = *places;
            let y = |i: usize| fast.apply::<KIND>(multiplier[i], shift[i], sums[i], held[i]);
            *places = [y(0), y(1), y(2), y(3)];
            return;
        }
        for i in 0..4 {
            let channel = Channel { bias: 0, multiplier: multiplier[i], shift: shift[i] };
            places[i] = self.any(channel, sums[i], places[i]);
        }
    }

    /// The stored value for an accumulator, bias included, whatever the shift.
    #[inline(never)]
    pub fn any(&self, channel: Channel, acc: i32, held: i8) -> i8 {
        let y = channel.requantize(acc, self.q.landing);
        self.residual.map_or(y, |add| add.apply(y, held))
    }
}

/// Everything [`Epilogue`] refers to, by value: the compiler need not read it again after each store.
#[derive(Clone, Copy)]
struct Fast {
    landing: Landing,
    residual: Option<Add>,
}

impl Fast {
    /// The stored value for an accumulator, bias included.
    #[inline(always)]
    fn apply<const KIND: u8>(self, multiplier: i32, shift: u8, acc: i32, held: i8) -> i8 {
        let Landing { zero_point, lo, hi } = self.landing;
        let y = scale(acc, multiplier, u32::from(shift).wrapping_sub(32), zero_point.into());
        match (KIND, self.residual) {
            (kind::PLAIN, _) => saturate(y) as i8,
            (kind::RESIDUAL, Some(add)) => {
                let sum = saturate(y).wrapping_mul(add.a_multiplier).wrapping_add(add.offset);
                let sum = sum.wrapping_add(i32::from(held).wrapping_mul(add.b_multiplier));
                saturate(sum >> (add.shift & 31)) as i8
            }
            (_, residual) => {
                let y = y.max(lo.into()).min(hi.into()) as i8;
                residual.map_or(y, |add| add.apply(y, held))
            }
        }
    }
}

/// Tables of the output channels of one group, all of one length.
pub struct Tables<'a> {
    pub epilogue: &'a Epilogue<'a>,
    pub bias: &'a [i32],
    pub multiplier: &'a [i32],
    pub shift: &'a [u8],
}

impl Tables<'_> {
    /// All outputs of one group at two positions. `KIND` is the epilogue's or [`kind::ANY`].
    #[inline(never)]
    pub fn two_windows<const KIND: u8>(
        &self,
        columns: &Columns<'_>,
        filters: &[i8],
        left: &mut [i8],
        right: &mut [i8],
    ) {
        let taps = columns.taps();
        let pairs = filters.chunks_exact((2 * taps).max(1));
        let last = pairs.remainder();
        let ((bias, _), (multiplier, _), (shift, _)) =
            (self.bias.as_chunks::<2>(), self.multiplier.as_chunks::<2>(), self.shift.as_chunks::<2>());
        let ((left, last_left), (right, last_right)) = (left.as_chunks_mut::<2>(), right.as_chunks_mut::<2>());
        let fast = self.epilogue.fast();
        let tables = bias.iter().zip(multiplier).zip(shift);
        for (((pair, ((bias, multiplier), shift)), left), right) in pairs.zip(tables).zip(left).zip(right) {
            let Some(filters) = pair.split_at_checked(taps) else { return };
            let sums = columns.two_sums(filters.into(), *bias);
            if let Some(fast) = fast {
                left[0] = fast.apply::<KIND>(multiplier[0], shift[0], sums[0][0], left[0]);
                right[0] = fast.apply::<KIND>(multiplier[0], shift[0], sums[0][1], right[0]);
                left[1] = fast.apply::<KIND>(multiplier[1], shift[1], sums[1][0], left[1]);
                right[1] = fast.apply::<KIND>(multiplier[1], shift[1], sums[1][1], right[1]);
            } else {
                for i in 0..2 {
                    let channel = Channel { bias: 0, multiplier: multiplier[i], shift: shift[i] };
                    left[i] = self.epilogue.any(channel, sums[i][0], left[i]);
                    right[i] = self.epilogue.any(channel, sums[i][1], right[i]);
                }
            }
        }
        if let ([left], [right]) = (last_left, last_right) {
            self.last_of_two_windows(columns, last, left, right);
        }
    }

    /// The last of an odd number of outputs at two positions.
    #[inline(never)]
    fn last_of_two_windows(&self, columns: &Columns<'_>, filter: &[i8], left: &mut i8, right: &mut i8) {
        let (Some(&bias), Some(&multiplier), Some(&shift)) =
            (self.bias.last(), self.multiplier.last(), self.shift.last())
        else {
            return;
        };
        let channel = Channel { bias, multiplier, shift };
        let [[l, r], _] = columns.two_sums([filter, filter], [bias; 2]);
        *left = self.epilogue.any(channel, l, *left);
        *right = self.epilogue.any(channel, r, *right);
    }

    /// All outputs of one group at one position.
    #[inline(never)]
    pub fn one_window(&self, columns: &Columns<'_>, filters: &[i8], pixel: &mut [i8]) {
        let taps = columns.taps();
        let fast = self.epilogue.fast();
        let tables = self.bias.iter().zip(self.multiplier).zip(self.shift);
        let mut channels = tables.map(|((&bias, &multiplier), &shift)| Channel { bias, multiplier, shift });
        for (filters, pixel) in filters.chunks((2 * taps).max(1)).zip(pixel.chunks_mut(2)) {
            let filters = match filters.split_at_checked(taps) {
                Some((a, b)) if b.len() == taps => [a, b],
                _ => [filters, filters],
            };
            let sums = columns.one_sums(filters);
            for ((place, sum), channel) in pixel.iter_mut().zip(sums).zip(&mut channels) {
                let acc = channel.bias.wrapping_add(sum);
                *place = match fast {
                    Some(fast) => fast.apply::<{ kind::ANY }>(channel.multiplier, channel.shift, acc, *place),
                    None => self.epilogue.any(channel, acc, *place),
                };
            }
        }
    }
}
