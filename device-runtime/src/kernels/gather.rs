//! Finds the taps of a few windows at a time: in the input, or copied together in scratch.

use super::columns::{Run, for_each_run};
use super::params::Conv2d;
use super::windows::{Span, Windows};

/// Windows of the largest tile, and its filters.
pub const TILE: usize = 8;
/// Most kernel rows whose windows are read where they lie.
pub const MAX_ROWS: usize = 7;

/// Where the taps of up to eight windows are.
pub struct Taps {
    /// First tap of `[kernel row][window]`; windows that do not exist repeat the last.
    pub rows: [[*const i8; TILE]; MAX_ROWS],
    /// Kernel rows in use, at least 1.
    pub row_count: usize,
    /// Adjacent taps of a row, a multiple of 8.
    pub len: usize,
    /// Zeros, then what follows the only row's `len` taps and does not fill eight.
    pub tails: [[i8; 8]; TILE],
    /// Taps of a tail, less than 8.
    pub tail: usize,
}

/// Walks the windows of a convolution, up to eight at a time.
pub struct Walk<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    scratch: &'a mut [i8],
    windows: Windows<'a>,
    /// Windows walked before these, and output row and column of the first.
    position: usize,
    row: usize,
    column: usize,
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
        let place = if p.is_pointwise() {
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
            position: 0,
            row: 0,
            column: 0,
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
        self.column += self.count;
        let width = usize::from(self.p.output.w);
        while self.column >= width && width != 0 {
            self.column -= width;
            self.row += 1;
        }
        self.count = most.min(self.p.output.positions().saturating_sub(self.position)).min(TILE);
        self.count
    }

    /// Finds the taps that one group's filters read: `channels` from `first_channel` on.
    #[inline(always)]
    pub fn find(&mut self, group: (usize, usize)) {
        let channels = usize::from(self.p.input.c);
        match (self.place, self.one_row()) {
            (Place::Points, _) => self.adjacent(self.position * channels + group.0, channels),
            (Place::Rows, Some((start, left))) => {
                self.adjacent(start.wrapping_add(group.0), usize::from(self.p.window.stride[1]) * channels);
                if !self.is_inside(left, self.count) {
                    self.correct_borders(left, group.0);
                }
            }
            (Place::Columns, Some((start, left))) if self.is_short(group.1) => self.short_columns(start, left, group),
            _ => self.each(group),
        }
        if self.taps.tail != 0 {
            self.copy_tails();
        }
    }

    /// Windows `step` bytes apart whose kernel rows lie in the input, from `start` on.
    #[inline(always)]
    fn adjacent(&mut self, start: usize, step: usize) {
        let mut from = self.input.as_ptr().wrapping_add(start);
        let last = self.count.saturating_sub(1);
        for row in self.taps.rows.iter_mut().take(self.taps.row_count) {
            if last == TILE - 1 {
                *row = core::array::from_fn(|at| from.wrapping_add(at * step));
            } else {
                *row = core::array::from_fn(|at| from.wrapping_add(at.min(last) * step));
            }
            from = from.wrapping_add(self.row_step);
        }
    }

    /// If all windows are in one row and do not reach over the border above or below: where the first starts in the input, and
    /// its first column, which may be outside.
    #[inline(always)]
    fn one_row(&self) -> Option<(usize, isize)> {
        let w = &self.p.window;
        let top = (self.row * usize::from(w.stride[0])).checked_sub(w.pad[0].into())?;
        let left = (self.column * usize::from(w.stride[1])) as isize - isize::from(w.pad[1]);
        let is_one = self.column + self.count <= usize::from(self.p.output.w)
            && top + usize::from(w.kernel[0] - 1) * usize::from(w.dilation[0]) < usize::from(self.p.input.h);
        let start = (top * usize::from(self.p.input.w)).wrapping_add_signed(left);
        is_one.then_some((start.wrapping_mul(usize::from(self.p.input.c)), left))
    }

    /// Whether `count` windows from column `left` on stay between the left and the right border.
    #[inline(always)]
    fn is_inside(&self, left: isize, count: usize) -> bool {
        let w = &self.p.window;
        let reach = count.saturating_sub(1) * usize::from(w.stride[1])
            + usize::from(w.kernel[1] - 1) * usize::from(w.dilation[1]);
        left >= 0 && left + (reach as isize) < self.p.input.w as isize
    }

    /// Finds those windows anew that reach over the left or the right border.
    #[inline(never)]
    fn correct_borders(&mut self, left: isize, first_channel: usize) {
        let mut found = [self.scratch.as_ptr(); MAX_ROWS];
        for at in 0..self.count {
            if self.is_inside(left + (at * usize::from(self.p.window.stride[1])) as isize, 1) {
                continue;
            }
            let window = self.windows.at(self.row as u16, (self.column + at) as u16);
            self.rows(window, at, first_channel, &mut found);
            for (row, &found) in self.taps.rows.iter_mut().zip(&found).take(self.taps.row_count) {
                row[at & (TILE - 1)] = found;
            }
        }
        for row in self.taps.rows.iter_mut().take(self.taps.row_count) {
            let last = row[self.count.wrapping_sub(1) & (TILE - 1)];
            row.iter_mut().skip(self.count).for_each(|row| *row = last);
        }
    }

    /// Whether [`short_columns`](Self::short_columns) can copy windows.
    #[inline(always)]
    fn is_short(&self, channels: usize) -> bool {
        self.run <= 16
            && self.run == usize::from(self.p.window.kernel[1]) * channels
            && self.p.window.dilation[1] == 1
            && self.p.groups == 1
    }

    /// Copies windows in one row whose kernel rows have at most sixteen taps, a vector each: what a row copies too much, the next
    /// one overwrites. Where there is no room behind a row, it is copied exactly, and windows over the border one by one.
    #[inline(never)]
    fn short_columns(&mut self, start: usize, left: isize, group: (usize, usize)) {
        let stride = usize::from(self.p.window.stride[1]);
        let step = stride * usize::from(self.p.input.c);
        let last = self.count.saturating_sub(1);
        let all_inside = self.is_inside(left, self.count);
        for at in 0..self.count {
            if !all_inside && !self.is_inside(left + (at * stride) as isize, 1) {
                let window = self.windows.at(self.row as u16, (self.column + at) as u16);
                self.column(window, at, group);
                continue;
            }
            self.short_column(start.wrapping_add(at * step), at * self.column_step);
        }
        let first = self.scratch.as_ptr();
        self.taps.rows[0] = core::array::from_fn(|at| first.wrapping_add(at.min(last) * self.column_step));
    }

    /// Copies a window of short rows inside the input to its column.
    #[inline(always)]
    fn short_column(&mut self, mut from: usize, mut to: usize) {
        let rows = usize::from(self.p.window.kernel[0]);
        let before_last = rows.saturating_sub(1);
        let has_room = from + before_last * self.row_step + 16 <= self.input.len()
            && to + before_last * self.run + 16 <= self.scratch.len();
        for _ in 0..rows {
            if has_room {
                let taps = self.input.as_ptr().wrapping_add(from).cast::<[i8; 16]>();
                let place = self.scratch.as_mut_ptr().wrapping_add(to).cast::<[i8; 16]>();
                // SAFETY: sixteen bytes of both are inside, as in the last row, which is farthest.
                unsafe { *place = *taps };
            } else if let (Some(taps), Some(place)) =
                (self.input.get(from..from + self.run), self.scratch.get_mut(to..to + self.run))
            {
                place.iter_mut().zip(taps).for_each(|(to, &x)| *to = x);
            }
            from += self.row_step;
            to += self.run;
        }
    }

    /// Windows one by one.
    #[inline(never)]
    fn each(&mut self, group: (usize, usize)) {
        let mut found = [self.scratch.as_ptr(); MAX_ROWS];
        let (mut row, mut column) = (self.row, self.column);
        for at in 0..TILE {
            if at < self.count {
                let window = self.windows.at(row as u16, column as u16);
                column += 1;
                if column == usize::from(self.p.output.w) {
                    (row, column) = (row + 1, 0);
                }
                match self.place {
                    Place::Columns => found[0] = self.column(window, at, group),
                    _ => self.rows(window, at, group.0, &mut found),
                }
            }
            for (row, &found) in self.taps.rows.iter_mut().zip(&found).take(self.taps.row_count) {
                row[at] = found;
            }
        }
    }

    /// Kernel rows of window `at`.
    #[inline(always)]
    fn rows(&mut self, window: (Span, Span), at: usize, first_channel: usize, found: &mut [*const i8; MAX_ROWS]) {
        let (rows, columns) = window;
        let pitch = usize::from(self.p.input.c);
        let start = (rows.start * usize::from(self.p.input.w) + columns.start) * pitch + first_channel;
        let is_inside =
            rows.count == usize::from(self.p.window.kernel[0]) && columns.count == usize::from(self.p.window.kernel[1]);
        if !is_inside {
            return self.rows_at_border(window, at, start, found);
        }
        let mut from = self.input.as_ptr().wrapping_add(start);
        for row in found.iter_mut().take(self.taps.row_count) {
            *row = from;
            from = from.wrapping_add(self.row_step);
        }
    }

    /// Kernel rows of a window that reaches over the border; those that do are copied to the window's column.
    #[inline(never)]
    fn rows_at_border(
        &mut self,
        (rows, columns): (Span, Span),
        at: usize,
        start: usize,
        found: &mut [*const i8; MAX_ROWS],
    ) {
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
                let Some((before, rest)) = part.split_at_mut_checked(left) else { return };
                let Some((inside, after)) = rest.split_at_mut_checked(taps.len()) else { return };
                before.fill(self.p.pad_value);
                inside.copy_from_slice(taps);
                after.fill(self.p.pad_value);
            }
            *found = part.as_ptr();
        }
    }

    /// All taps of window `at`, copied to its column.
    #[inline(never)]
    fn column(&mut self, window: (Span, Span), at: usize, group: (usize, usize)) -> *const i8 {
        let mut rest = self.scratch.get_mut(at * self.column_step..).unwrap_or(&mut []);
        let from = rest.as_ptr();
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

    /// Copies what does not fill eight taps.
    #[inline(never)]
    fn copy_tails(&mut self) {
        let Taps { len, tail, .. } = self.taps;
        let starts = &self.taps.rows[0];
        if len != 0 {
            let before = 8 * (8 - tail as u32 % 8) % 64;
            for (place, start) in self.taps.tails.iter_mut().zip(starts).take(self.count) {
                let last = start.wrapping_add(len + tail).wrapping_sub(8).cast::<[u8; 8]>();
                // SAFETY: the row's taps follow each other, `len`, which is at least 8, and then `tail` of them.
                let last = u64::from_le_bytes(unsafe { *last });
                *place = (last >> before << before).to_le_bytes().map(|byte| byte as i8);
            }
            return;
        }
        for (place, start) in self.taps.tails.iter_mut().zip(starts).take(self.count) {
            for (i, place) in place.iter_mut().skip(8 - tail).enumerate() {
                // SAFETY: the row has `tail` taps.
                *place = unsafe { start.wrapping_add(i).read() };
            }
        }
    }
}
