//! Depthwise 3x3 convolution: four channels of the input rows under some output rows are widened to 16 bits on the stack, two
//! columns together, padding included. They are the rows under all of a small output, or under a few; where that would widen
//! rows many times, they are those under one output row, and are kept while windows move down.
//!
//! Windows begin with a pair of columns; every other window of stride 1 begins with the second column of one, and has weights
//! that are moved by a column. These windows come after the others of the rows that are computed together.

use core::mem::MaybeUninit;

use super::finish::Finish;
use super::group::{Group, Source, pack_group};
use super::instructions::even_bytes;
use super::lines::{Lines, Pair, extent, widen_lines};
use super::pack;
use super::walk::{Walk, rows_of_windows};
use crate::kernels::params::{Conv2d, Requant};

/// Most pairs of input columns under the output columns that are computed together.
const STRIP: usize = 13;
/// As [`STRIP`], where there must be room for four channels at the windows until something is added.
const STRIP_WITH_VALUES: usize = STRIP - 2;
/// Room for widened pairs: three rows of as many, or more rows of fewer.
const ROOM: usize = 3 * STRIP;
/// Bytes of a widened pair.
const PAIR: usize = size_of::<Pair>();
/// Fewest input rows that windows must move down at once for all rows under them to be widened anew.
const FAR: usize = 3;

/// 3x3, undilated, stride 1 or 2 in both directions, at least four channels.
pub fn suits(p: &Conv2d) -> bool {
    let w = &p.window;
    w.kernel == [3, 3] && w.dilation == [1, 1] && (w.stride == [1, 1] || w.stride == [2, 2]) && p.input.c >= 4
}

/// Every whole group of four channels of a convolution that [`suits`]. `bits` is its [`pre_shift`](crate::kernels::scales::pre_shift).
pub fn depthwise(
    p: &Conv2d,
    q: &Requant<'_>,
    finish: &Finish<'_>,
    bits: u32,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let Some(mut source) = Source::new(q, bits, weights, p.input.c.into()) else { return };
    if input.len() != p.input.len() || output.len() != p.output.len() || output.is_empty() {
        return;
    }
    let mut left = 0;
    while left < usize::from(p.output.w) {
        let mut strip = Strip::new(p, finish, left, input);
        strip.run(&mut source, output);
        left += strip.count;
    }
    if !finish.adds() {
        finish.clamp(output);
    }
}

/// Lines of `columns` columns, of which the first is the `first` of the padded input, and the pair of them that is written first.
#[inline(always)]
fn lines(p: &Conv2d, first: usize, columns: usize, input: &[i8]) -> (Lines, usize) {
    let (width, channels) = (usize::from(p.input.w), usize::from(p.input.c));
    // Columns that lie inside the input; the others keep the padding that is everywhere at first.
    let before = usize::from(p.window.pad[1]);
    let start = before.saturating_sub(first);
    let end = (width + before).saturating_sub(first).min(columns);
    // Where no column is, no row is either.
    let (start, end, height) = if start < end { (start, end, p.input.h.into()) } else { (0, columns, 0) };
    let (inside, second) = (start / 2, start % 2);
    let column = (first + start).wrapping_sub(before + second);
    let written = second + end - start;
    let lines = Lines {
        from: input.as_ptr().wrapping_add(column.wrapping_mul(channels)),
        step: channels,
        extent: extent(second, end - start),
        height,
        row_bytes: width * channels,
        skip: (columns.div_ceil(2) - written.div_ceil(2)) * PAIR,
        pad: pack::word([p.pad_value; 4]),
    };
    (lines, inside)
}

/// Output columns that are computed together.
struct Strip<'a> {
    p: &'a Conv2d,
    finish: &'a Finish<'a>,
    stride: usize,
    /// First output column, and how many.
    left: usize,
    count: usize,
    /// Output rows that are computed together.
    rows: usize,
    /// Bytes for values to which something is added.
    values: usize,
    /// Pairs of a line, and the one that is written first.
    pitch: usize,
    inside: usize,
    lines: Lines,
    walk: Walk,
}

impl<'a> Strip<'a> {
    #[inline(always)]
    fn new(p: &'a Conv2d, finish: &'a Finish<'a>, left: usize, input: &[i8]) -> Self {
        let channels = usize::from(p.input.c);
        let (height, width) = (usize::from(p.output.h), usize::from(p.output.w));
        let stride = if p.window.stride[0] == 2 { 2 } else { 1 };
        let strip = if finish.adds() { STRIP_WITH_VALUES } else { STRIP };
        let count = ((2 * strip - 3) / stride + 1).min(width - left);
        let columns = (count - 1) * stride + 3;
        let pitch = columns.div_ceil(2);
        let (lines, inside) = lines(p, left * stride, columns, input);

        let line = pitch * PAIR;
        let row_values = if finish.adds() { 4 * count } else { 0 };
        let fitting = (ROOM * PAIR - 3 * line - row_values) / (stride * line + row_values).max(1) + 1;
        let is_far = fitting >= height || fitting * stride >= FAR;
        // Values of several rows are added as those of one, which takes whole rows.
        let rows = if is_far && (row_values == 0 || count == width) { fitting } else { 1 };
        let (pixel, row_step) = if finish.adds() { (4, row_values) } else { (channels, width * channels) };
        let [even, odd] = if stride == 1 { [count.div_ceil(2), count / 2] } else { [count, 0] };
        let walk = Walk {
            along: [even * PAIR, odd * PAIR],
            lines: [core::ptr::null_mut(); 3],
            second: pixel,
            to: core::ptr::null_mut(),
            step: (3 - stride) * pixel,
            line_step: stride * line,
            row_step,
        };
        Self { p, finish, stride, left, count, rows, values: rows * row_values, pitch, inside, lines, walk }
    }

    /// Every group of four channels. Input and output are as long as their shapes say.
    #[inline(always)]
    fn run(&mut self, source: &mut Source, output: &mut [i8]) {
        let mut group = MaybeUninit::uninit();
        let pad = u64::from(even_bytes(self.lines.pad));
        let mut room = [pad << 32 | pad; 2 * ROOM];
        let room = room.as_mut_ptr().cast::<Pair>();
        let line = room.wrapping_byte_add(self.values);
        self.walk.lines = [line, line.wrapping_add(self.pitch), line.wrapping_add(2 * self.pitch)];
        let channels = usize::from(self.p.input.c);
        source.first = 0;
        while source.first + 4 <= channels {
            // SAFETY: the source stands at four channels of the tables.
            let group = unsafe {
                pack_group(group.as_mut_ptr(), source);
                group.assume_init_mut()
            };
            self.channels(source, group, room, output);
            self.lines.from = self.lines.from.wrapping_add(4);
            source.first += 4;
        }
    }

    /// The four channels of `group`, in every row.
    #[inline(always)]
    fn channels(&mut self, source: &Source, group: &mut Group, values: *mut Pair, output: &mut [i8]) {
        let channels = usize::from(self.p.input.c);
        let mut row = 0usize.wrapping_sub(self.p.window.pad[0].into());
        let mut place = self.left * channels + source.first;
        let mut left = usize::from(self.p.output.h);
        // Lines that are there already.
        let mut kept = 0;
        loop {
            let rows = self.rows.min(left);
            // SAFETY: the input has `height` rows, of which the columns inside are read, four channels of each; the room holds
            // the lines under `rows` rows, three if it is one.
            unsafe {
                if self.rows == 1 {
                    (kept..3).for_each(|line| self.widen(line, row.wrapping_add(line), 1));
                } else {
                    self.widen(0, row, (rows - 1) * self.stride + 3);
                }
            }
            let Some(places) = output.get_mut(place..) else { return };
            self.walk.to = if self.finish.adds() { values.cast() } else { places.as_mut_ptr() };
            // SAFETY: the lines hold the columns of all windows in each of `rows` rows, the output or what the room holds before
            // the lines four bytes for each.
            unsafe { rows_of_windows(group, &self.walk, source, rows) };
            if self.finish.adds() {
                // SAFETY: as above.
                let values = unsafe { core::slice::from_raw_parts(values.cast(), rows * self.count) };
                self.finish.store_fours(values, places, channels);
            }
            left -= rows;
            if left == 0 {
                break;
            }
            place += rows * usize::from(self.p.output.w) * channels;
            row = row.wrapping_add(rows * self.stride);
            if self.rows == 1 {
                let [a, b, c] = self.walk.lines;
                self.walk.lines = if self.stride == 1 { [b, c, a] } else { [c, a, b] };
                kept = 3 - self.stride;
            }
        }
    }

    /// Makes `count` lines of the rows from `row` on, the first of them one of three.
    ///
    /// # Safety
    /// See [`widen_lines`].
    #[inline(always)]
    unsafe fn widen(&self, line: usize, row: usize, count: usize) {
        if let Some(line) = self.walk.lines.get(line) {
            // SAFETY: the caller's.
            unsafe { widen_lines(&self.lines, line.wrapping_add(self.inside), row, count) };
        }
    }
}
