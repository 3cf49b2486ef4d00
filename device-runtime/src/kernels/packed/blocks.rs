//! Images of the input in which the taps of adjacent windows lie together.

use super::order::FilterRows;
use super::{Form, MAX_IMAGE_BYTES, SLACK, extents};
use crate::kernels::params::Conv2d;

/// Windows of the largest block.
pub const LARGEST: usize = 12;

/// An image for kernels that take a few taps (a unit) of several windows at a time.
///
/// A line of the image holds the taps of one kernel row for all windows of a line of the output, copied out of an input row with its
/// padding: block by block of windows, and of a block unit by unit of taps, the windows' side by side.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    pub filter: FilterRows,
    /// Bytes from kernel row to kernel row.
    pub row_step: usize,
    /// Windows of a line.
    pub line_windows: usize,
    /// Bytes from window to window in an input row.
    pub column_step: usize,
    /// Lines of the image; 0 if a single window is read from the input.
    pub image_lines: usize,
    /// Bytes of a line.
    pub line_bytes: usize,
    /// Bytes of an input row, and input rows from line to line.
    pub row_bytes: usize,
    pub source_step: usize,
    /// Bytes of an input row with its padding, where it has to be copied before windows are taken from it; otherwise 0.
    pub padded_bytes: usize,
    /// Bytes from a line of windows to the next.
    line_step: usize,
}

/// Windows of the block that begins where so many are left in the line. Blocks of four and twelve may hold fewer.
pub const fn block_windows(left: usize) -> usize {
    match left {
        0..=1 => 1,
        2..=9 => 4,
        _ => LARGEST,
    }
}

/// Windows of a line with those that fill its last block.
const fn filled(windows: usize) -> usize {
    match windows % LARGEST {
        1 | 5 | 9 => windows,
        10 => windows + 2,
        _ => windows.next_multiple_of(4),
    }
}

impl Blocks {
    /// `None` if the kernels take no such windows, or windows hardly touch the input.
    pub fn new(p: &Conv2d, form: Form) -> Option<Self> {
        let w = &p.window;
        let [kernel_rows, kernel_columns] = w.kernel.map(usize::from);
        if p.groups != 1 || (w.dilation[1] != 1 && kernel_columns != 1) {
            return None;
        }
        let channels = usize::from(p.input.c);
        let (input_rows, input_columns) = (usize::from(p.input.h), usize::from(p.input.w));
        let [height, width] = extents(p)?;
        let [row_stride, column_stride] = w.stride.map(usize::from);
        let filter = FilterRows::new(kernel_rows, kernel_columns * channels, form.row);
        let is_inside = w.pad == [0, 0] && height <= input_rows && width <= input_columns;
        let (lines, line_windows) = (usize::from(p.output.h), usize::from(p.output.w));
        // Windows of one position that follow each other in the input are one line.
        let is_flat = is_inside && w.kernel == [1, 1] && w.stride == [1, 1] && line_windows == input_columns;
        let (lines, line_windows, input_columns, width) = match lines * line_windows {
            all if is_flat => (1, all, all, all),
            _ => (lines, line_windows, input_columns, width),
        };
        let in_place = is_inside && filter.is_full() && lines * line_windows == 1;
        let is_copied = w.pad[1] != 0 || width > input_columns || !filter.is_full();
        let line_bytes = if in_place { input_columns * channels } else { filled(line_windows) * filter.row_taps };
        // Without a second kernel row, only the input rows that windows begin in are copied.
        let (image_lines, source_step, line_rows) =
            if kernel_rows == 1 { (lines, row_stride, 1) } else { (height, 1, row_stride) };
        let blocks = Self {
            filter,
            row_step: usize::from(w.dilation[0]) * line_bytes,
            line_windows,
            column_step: column_stride * channels,
            image_lines: if in_place { 0 } else { image_lines },
            line_bytes,
            row_bytes: input_columns * channels,
            source_step,
            padded_bytes: if is_copied { width * channels } else { 0 },
            line_step: line_rows * line_bytes,
        };
        let image_bytes = blocks.image_lines.checked_mul(line_bytes)?;
        (image_bytes <= MAX_IMAGE_BYTES && width.checked_mul(channels)? <= MAX_IMAGE_BYTES).then_some(blocks)
    }

    /// Bytes of the image and of what it takes to draw it; 0 without one.
    pub const fn image_bytes(&self) -> usize {
        match self.image_lines {
            0 => 0,
            lines => lines * self.line_bytes + self.padded_bytes + SLACK,
        }
    }

    /// Parts of the output begin at windows that this divides.
    pub const fn granule(&self) -> usize {
        if self.image_lines <= 1 || self.line_windows.is_multiple_of(LARGEST) { LARGEST } else { self.line_windows }
    }

    /// Blocks from window `first` on, which begins one, that hold the next `count` windows.
    #[inline(always)]
    pub fn walk(&self, first: usize, count: usize) -> Walk<'_> {
        let windows = self.line_windows.max(1);
        let (line, column) = (first / windows, first % windows);
        Walk { blocks: self, start: line * self.line_step, column, count }
    }
}

/// A block of windows.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Where it starts in the image, in bytes.
    pub start: usize,
    /// Windows that have a place in it: 1, 4 or 12.
    pub size: usize,
    /// Windows in it.
    pub windows: usize,
}

/// Walks blocks.
#[derive(Debug)]
pub struct Walk<'a> {
    blocks: &'a Blocks,
    /// Start of the line.
    start: usize,
    /// Window within the line.
    column: usize,
    /// Windows to come.
    count: usize,
}

impl Iterator for Walk<'_> {
    type Item = Block;

    #[inline(always)]
    fn next(&mut self) -> Option<Block> {
        if self.count == 0 {
            return None;
        }
        if self.column == self.blocks.line_windows {
            (self.start, self.column) = (self.start + self.blocks.line_step, 0);
        }
        let left = self.blocks.line_windows - self.column;
        let size = block_windows(left);
        let windows = left.min(size).min(self.count);
        let start = self.start + self.column * self.blocks.filter.row_taps;
        self.column += windows;
        self.count -= windows;
        Some(Block { start, size, windows })
    }
}
