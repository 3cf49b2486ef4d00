//! Depthwise 3x3 convolution: four channels of the input rows under some output rows are widened to 16 bits on the stack,
//! padding included. They are the rows under all of a small output, or under a few; where that would widen rows many times,
//! they are those under one output row, and are kept while windows move down.

use super::finish::Finish;
use super::group::{Group, Source};
use super::instructions::{Halves, even_bytes};
use super::lines::{Lines, widen_lines};
use super::pack;
use super::walk::{Walk, rows_of_windows};
use crate::kernels::params::{Conv2d, Requant};

/// Most input columns under the output columns that are computed together.
const STRIP: usize = 26;
/// Widened columns that there is room for: three rows of as many, or more rows of fewer.
const ROOM: usize = 3 * STRIP;
/// Bytes of a widened column.
const COLUMN: usize = size_of::<Halves>();
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
    if input.len() != p.input.len() || output.len() != p.output.len() {
        return;
    }
    let channels = usize::from(p.input.c);
    let source = Source { q, bits, weights, channels };
    let mut group = Group::default();
    let mut room = Room { lines: [[0; 2]; ROOM], values: [0; 4 * STRIP] };
    let mut left = 0;
    while left < usize::from(p.output.w) {
        let mut strip = Strip::new(p, finish, left);
        room.lines = [[strip.lines.pad; 2]; ROOM];
        for first in (0..channels & !3).step_by(4) {
            if source.load(first, &mut group).is_none() {
                return;
            }
            strip.run(&group, first, input, &mut room, output);
        }
        left += strip.count;
    }
}

/// Memory for what is computed together.
struct Room {
    lines: [Halves; ROOM],
    /// Four channels at the windows of a row, before they are finished.
    values: [i8; 4 * STRIP],
}

/// Output columns that are computed together.
struct Strip<'a> {
    p: &'a Conv2d,
    finish: &'a Finish<'a>,
    stride: usize,
    /// First output column, and how many.
    left: usize,
    count: usize,
    /// Input columns under them, and the first of these that is inside the input.
    pitch: usize,
    inside: usize,
    /// The column of the input that this one is.
    column: usize,
    lines: Lines,
    walk: Walk,
}

impl<'a> Strip<'a> {
    #[inline(always)]
    fn new(p: &'a Conv2d, finish: &'a Finish<'a>, left: usize) -> Self {
        let channels = usize::from(p.input.c);
        let (height, width) = (usize::from(p.output.h), usize::from(p.output.w));
        let stride = if p.window.stride[0] == 2 { 2 } else { 1 };
        let count = ((STRIP - 3) / stride + 1).min(width - left);
        let pitch = (count - 1) * stride + 3;
        // Columns that lie inside the input; the others keep the padding that is everywhere at first.
        let before = usize::from(p.window.pad[1]);
        let inside = before.saturating_sub(left * stride).min(pitch);
        let end = (usize::from(p.input.w) + before).saturating_sub(left * stride).clamp(inside, pitch);

        let fitting = (ROOM / pitch.max(3) - 3) / stride + 1;
        let is_far = fitting >= height || fitting * stride >= FAR;
        let along = count * stride * COLUMN;
        let strip_step = stride * pitch * COLUMN;
        let walk = Walk {
            to: core::ptr::null_mut(),
            step: channels,
            along,
            advance: stride * COLUMN,
            rows: if finish.is_nothing() && is_far { fitting } else { 1 },
            strip_skip: strip_step.wrapping_sub(along),
            to_skip: (width - count) * channels,
            strip_step,
        };
        let lines = Lines {
            step: channels,
            columns: end - inside,
            height: p.input.h.into(),
            row_bytes: usize::from(p.input.w) * channels,
            skip: (pitch - (end - inside)) * COLUMN,
            pad: even_bytes(pack::word([p.pad_value; 4])),
        };
        let column = (left * stride + inside).saturating_sub(before);
        Self { p, finish, stride, left, count, pitch, inside, column, lines, walk }
    }

    /// Four channels from `first` on, in every row. Input and output are as long as their shapes say.
    #[inline(always)]
    fn run(&mut self, group: &Group, first: usize, input: &[i8], room: &mut Room, output: &mut [i8]) {
        let channels = usize::from(self.p.input.c);
        let from = input.as_ptr().wrapping_add(self.column * channels + first);
        let line = |line: usize| line * self.pitch;
        let base = room.lines.as_mut_ptr();
        let mut slots = [line(0), line(1), line(2)].map(|at| base.wrapping_add(at));
        let at_once = self.walk.rows;
        let row_places = usize::from(self.p.output.w) * channels;
        let mut place = self.left * channels + first;
        let mut row = 0usize.wrapping_sub(self.p.window.pad[0].into());
        let mut new = if at_once == 1 { 0..3 } else { 0..1 };
        let mut left = usize::from(self.p.output.h);
        while left > 0 {
            let rows = at_once.min(left);
            let count = if at_once == 1 { 1 } else { (rows - 1) * self.stride + 3 };
            for slot in slots.get(new.clone()).unwrap_or(&[]) {
                // SAFETY: the input has `height` rows, of which the columns inside are read, four channels of each; the room
                // holds `count` lines from the slot on.
                unsafe { widen_lines(&self.lines, from, row, count, slot.wrapping_add(self.inside)) };
                row = row.wrapping_add(count);
            }
            let Some(places) = output.get_mut(place..) else { return };
            self.walk.rows = rows;
            (self.walk.to, self.walk.step) = match self.finish.is_nothing() {
                true => (places.as_mut_ptr(), channels),
                false => (room.values.as_mut_ptr(), 4),
            };
            // SAFETY: the lines hold the columns of `count` windows in each of `rows` rows, the output four bytes from `place`
            // on for each; or it is one row, and the values hold four for each.
            unsafe { rows_of_windows(group, &slots, &self.walk) };
            if !self.finish.is_nothing() {
                let values = room.values.as_chunks().0.get(..self.count);
                self.finish.store_fours(values.unwrap_or(&[]), places, channels);
            }
            let [a, b, c] = slots;
            (slots, new) = match (at_once, self.stride) {
                (1, 1) => ([b, c, a], 2..3),
                (1, _) => ([c, a, b], 1..3),
                _ => (slots, 0..1),
            };
            if at_once > 1 {
                row = row.wrapping_sub(3 - self.stride);
            }
            place += rows * row_places;
            left -= rows;
        }
        self.walk.rows = at_once;
    }
}
