//! The order of packed weights.

use std::vec::Vec;

use super::{Filters, Form};

/// The rows of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterRows {
    /// Kernel rows.
    pub rows: usize,
    /// Taps of a kernel row.
    pub taps: usize,
    /// Taps of a row, filled to what the kernel takes at a time.
    pub row_taps: usize,
}

impl FilterRows {
    /// Rows filled to a multiple of `fill` taps.
    pub const fn new(rows: usize, taps: usize, fill: usize) -> Self {
        Self { rows, taps, row_taps: taps.next_multiple_of(fill) }
    }

    /// True if nothing fills the rows.
    pub const fn is_full(&self) -> bool {
        self.taps == self.row_taps
    }
}

/// Packed weights: panels of a few output channels, of each all taps, a few adjacent ones of every channel after the other.
/// What fills kernel rows and the last panel is zero.
#[derive(Debug)]
pub struct Panels {
    form: Form,
    filter: FilterRows,
    weights: Vec<i8>,
    /// Where they begin: at a cache line's boundary.
    start: usize,
    bytes: usize,
    /// Sum of every channel's weights.
    sums: Vec<i32>,
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl Panels {
    /// Packs weights; `None` if the kernel does not take them.
    pub(super) fn new(form: Form, rows: FilterRows, weights: &[i8]) -> Option<Self> {
        let filter = rows.rows * rows.taps;
        if filter == 0 || (!form.takes_lowest && weights.contains(&i8::MIN)) {
            return None;
        }
        let channels = weights.len() / filter;
        let panel = form.channels * rows.rows * rows.row_taps;
        let bytes = channels.div_ceil(form.channels) * panel;
        let mut storage = vec![0; bytes + LINE];
        let start = storage.as_ptr().align_offset(LINE).min(LINE);
        let packed = &mut storage[start..start + bytes];
        let mut sums = vec![0i32; channels];
        for (at, &w) in weights.iter().enumerate() {
            let (o, row, tap) = match form.filters {
                Filters::Dense => (at / filter, at % filter / rows.taps, at % rows.taps),
                // The rows of a column follow each other.
                Filters::Depthwise => (at % channels, at / channels % rows.taps, at / channels / rows.taps),
            };
            let tap = row * rows.row_taps + tap;
            let first = o / form.channels * panel + o % form.channels * form.taps;
            packed[first + tap / form.taps * form.taps * form.channels + tap % form.taps] = w;
            sums[o] = sums[o].wrapping_add(w.into());
        }
        Some(Self { form, filter: rows, weights: storage, start, bytes, sums })
    }

    /// Whether these are weights of `channels` filters of this form.
    pub(super) fn fit(&self, form: Form, filter: FilterRows, channels: usize) -> bool {
        (self.form, self.filter, self.sums.len()) == (form, filter, channels)
    }

    /// The weights.
    pub(super) fn weights(&self) -> &[i8] {
        &self.weights[self.start..self.start + self.bytes]
    }

    /// Sums of the weights of every output channel.
    pub(super) fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// Bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weights().len() + size_of_val(self.sums.as_slice())
    }
}
