//! Finds the taps of a few windows at a time: in the input, or copied together in scratch.

use super::sums::{MAX_ROWS, TILE, Taps};
use crate::kernels::columns::{Run, for_each_run};
use crate::kernels::params::Conv2d;
use crate::kernels::windows::{Span, Windows};

/// Walks the windows of a convolution, up to eight at a time.
pub struct Walk<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    scratch: &'a mut [i8],
    windows: Windows<'a>,
    spans: [(Span, Span); TILE],
    /// Windows walked before these.
    position: usize,
    count: usize,
    place: Place,
    /// Bytes from a column's first tap to that of the next.
    column_step: usize,
    /// Adjacent taps of a kernel row, and input bytes from kernel row to kernel row.
    run: usize,
    row_step: usize,
    /// Where the taps of the current windows are.
    pub taps: Taps,
}

/// How windows are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The input's positions, one after the other.
    Points,
    /// Kernel rows in the input; those over the border in scratch.
    Rows,
    /// All taps of a window and group, in scratch.
    Columns,
}

impl<'a> Walk<'a> {
    /// All windows of `p`; `scratch` holds [`Conv2d::scratch_bytes`].
    pub fn new(p: &'a Conv2d, input: &'a [i8], scratch: &'a mut [u8]) -> Self {
        let groups = usize::from(p.groups).max(1);
        let inputs = usize::from(p.input.c) / groups;
        let [rows, columns] = p.window.kernel.map(usize::from);
        let w = &p.window;
        let is_point = rows == 1 && columns == 1;
        let run = columns * inputs;
        let has_rows = (groups == 1 && (w.dilation[1] == 1 || columns == 1)) || is_point;
        let place = if is_point && w.stride == [1, 1] && w.pad == [0, 0] && p.input.positions() == p.output.positions()
        {
            Place::Points
        } else if has_rows && rows <= MAX_ROWS && (rows == 1 || run.is_multiple_of(8)) {
            Place::Rows
        } else {
            Place::Columns
        };
        let taps = p.taps();
        let (row_count, row_taps) = if place == Place::Columns { (1, taps) } else { (rows, run) };
        Self {
            p,
            input,
            scratch: bytemuck::cast_slice_mut(scratch),
            windows: Windows::new(&p.window, p.input, p.output),
            spans: Default::default(),
            position: 0,
            count: 0,
            place,
            column_step: taps.next_multiple_of(4),
            run,
            row_step: usize::from(w.dilation[0]) * usize::from(p.input.w) * usize::from(p.input.c),
            taps: Taps {
                rows: [[core::ptr::null(); TILE]; MAX_ROWS],
                row_count,
                len: row_taps & !7,
                tails: [[0; 8]; TILE],
                tail: row_taps & 7,
            },
        }
    }

    /// Goes on to the next windows, at most `most` and at most as many as there are; returns their number.
    #[inline(always)]
    pub fn advance(&mut self, most: usize) -> usize {
        self.position += self.count;
        self.count = most.min(self.p.output.positions().saturating_sub(self.position)).min(TILE);
        if self.place != Place::Points {
            for spans in self.spans.iter_mut().take(self.count) {
                *spans = self.windows.next().unwrap_or_default();
            }
        }
        self.count
    }

    /// Finds the taps that one group's filters read: `channels` from `first_channel` on.
    #[inline(always)]
    pub fn find(&mut self, group: (usize, usize)) {
        let mut last = [self.scratch.as_ptr(); MAX_ROWS];
        for at in 0..TILE {
            if at < self.count {
                match self.place {
                    Place::Points => {
                        let start = (self.position + at) * usize::from(self.p.input.c) + group.0;
                        last[0] = self.input.as_ptr().wrapping_add(start);
                    }
                    Place::Rows => self.rows(at, group.0, &mut last),
                    Place::Columns => last[0] = self.column(at, group),
                }
            }
            for (row, &last) in self.taps.rows.iter_mut().zip(&last).take(self.taps.row_count) {
                row[at] = last;
            }
        }
        if self.taps.tail != 0 {
            self.copy_tails();
        }
    }

    /// Kernel rows of window `at`.
    #[inline(always)]
    fn rows(&mut self, at: usize, first_channel: usize, found: &mut [*const i8; MAX_ROWS]) {
        let (rows, columns) = self.spans[at & (TILE - 1)];
        let pitch = usize::from(self.p.input.c);
        let start = (rows.start * usize::from(self.p.input.w) + columns.start) * pitch + first_channel;
        let is_inside =
            rows.count == usize::from(self.p.window.kernel[0]) && columns.count == usize::from(self.p.window.kernel[1]);
        if !is_inside {
            return self.rows_at_border(at, start, found);
        }
        let mut from = self.input.as_ptr().wrapping_add(start);
        for row in found.iter_mut().take(self.taps.row_count) {
            *row = from;
            from = from.wrapping_add(self.row_step);
        }
    }

    /// Kernel rows of a window that reaches over the border; those that do are copied to the window's column.
    #[inline(never)]
    fn rows_at_border(&mut self, at: usize, start: usize, found: &mut [*const i8; MAX_ROWS]) {
        let (rows, columns) = self.spans[at & (TILE - 1)];
        let pitch = usize::from(self.p.input.c);
        let column = self.scratch.get_mut(at * self.column_step..).unwrap_or(&mut []);
        let parts = column.chunks_exact_mut(self.run.max(1));
        for (row, (found, part)) in found.iter_mut().zip(parts).enumerate().take(self.taps.row_count) {
            let inside = row.wrapping_sub(rows.first);
            let from = start + inside.wrapping_mul(self.row_step) * usize::from(inside < rows.count);
            if inside >= rows.count || columns.count == 0 {
                part.fill(self.p.pad_value);
            } else if columns.count == usize::from(self.p.window.kernel[1]) {
                *found = self.input.as_ptr().wrapping_add(from);
                continue;
            } else {
                let (left, len) = (columns.first * pitch, columns.count * pitch);
                let taps = self.input.get(from..from + len).unwrap_or(&[]);
                part.fill(self.p.pad_value);
                part.iter_mut().skip(left).zip(taps).for_each(|(to, &x)| *to = x);
            }
            *found = part.as_ptr();
        }
    }

    /// All taps of window `at`, copied to its column.
    #[inline(never)]
    fn column(&mut self, at: usize, group: (usize, usize)) -> *const i8 {
        let window = self.spans[at & (TILE - 1)];
        let column = self.scratch.get_mut(at * self.column_step..).unwrap_or(&mut []);
        let from = column.as_ptr();
        if self.short_rows(window, group, at) {
            return from;
        }
        let mut rest = self.scratch.get_mut(at * self.column_step..).unwrap_or(&mut []);
        for_each_run(self.p, window, group, self.input, |run| {
            let len = match run {
                Run::Pad(len) => len,
                Run::Inside(taps) => taps.len(),
            };
            let Some((now, later)) = core::mem::take(&mut rest).split_at_mut_checked(len) else { return };
            rest = later;
            match run {
                Run::Pad(_) => now.fill(self.p.pad_value),
                Run::Inside(taps) => now.iter_mut().zip(taps).for_each(|(to, &x)| *to = x),
            }
        });
        from
    }

    /// Copies a window inside the input with rows of at most sixteen taps, a vector each: what a row copies too much, the next
    /// one overwrites. False if that is not possible.
    #[inline(always)]
    fn short_rows(&mut self, (rows, columns): (Span, Span), group: (usize, usize), at: usize) -> bool {
        let kernel = self.p.window.kernel.map(usize::from);
        let is_inside = rows.count == kernel[0] && columns.count == kernel[1];
        if !is_inside || self.run > 16 || self.p.groups != 1 || self.p.window.dilation[1] != 1 {
            return false;
        }
        let start = (rows.start * usize::from(self.p.input.w) + columns.start) * group.1;
        let (mut from, mut to) = (start, at * self.column_step);
        for _ in 0..kernel[0] {
            let taps = self.input.get(from..).and_then(|taps| taps.first_chunk::<16>());
            let place = self.scratch.get_mut(to..).and_then(|place| place.first_chunk_mut::<16>());
            let (Some(taps), Some(place)) = (taps, place) else { return false };
            *place = *taps;
            from += self.row_step;
            to += self.run;
        }
        true
    }

    /// Copies what does not fill eight taps.
    #[inline(never)]
    fn copy_tails(&mut self) {
        for (at, tail) in self.taps.tails.iter_mut().enumerate().take(self.count) {
            let from = self.taps.rows[0][at & (TILE - 1)].wrapping_add(self.taps.len);
            for (i, place) in tail.iter_mut().enumerate().take(self.taps.tail) {
                // SAFETY: the row's taps follow each other, `len` and then `tail` of them.
                *place = unsafe { from.wrapping_add(i).read() };
            }
        }
    }
}
