//! Where the windows of a convolution lie in what a packed kernel reads.

use super::order::FilterRows;
use super::{Filters, Form, MAX_IMAGE_BYTES, SLACK, extents};
use crate::kernels::params::Conv2d;

/// Windows at fixed distances, in the input or in an image of it.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub filter: FilterRows,
    /// Bytes from kernel row to kernel row.
    pub row_step: usize,
    /// Bytes from window to window.
    pub column_step: usize,
    /// Lines of windows, windows of a line, and bytes from line to line.
    #[cfg(target_arch = "x86_64")]
    lines: usize,
    line_windows: usize,
    line_step: usize,
    /// Extents of the image in lines and bytes of a line; `None` if the input is read where it lies.
    image: Option<[usize; 2]>,
    /// What values of the image are combined with.
    flip: i8,
    /// Whether parts of the output begin anywhere: kernels for dense filters take windows one by one, others lines of them.
    is_cut_anywhere: bool,
}

impl Layout {
    /// `None` if the kernels take no such windows, or windows hardly touch the input.
    pub fn new(p: &Conv2d, form: Form) -> Option<Self> {
        let w = &p.window;
        let [kernel_rows, kernel_columns] = w.kernel.map(usize::from);
        let is_possible = match form.filters {
            Filters::Dense => p.groups == 1 && (w.dilation[1] == 1 || kernel_columns == 1),
            Filters::Depthwise => p.groups == p.output.c && w.kernel == [3, 3] && w.dilation == [1, 1],
        };
        if !is_possible {
            return None;
        }
        let channels = usize::from(p.input.c);
        let [row_stride, column_stride] = w.stride.map(usize::from);
        let [height, width] = extents(p)?;
        let taps = match form.filters {
            Filters::Dense => kernel_columns * channels,
            Filters::Depthwise => kernel_columns,
        };
        let filter = FilterRows::new(kernel_rows, taps, form.row);
        let is_inside = w.pad == [0, 0] && height <= usize::from(p.input.h) && width <= usize::from(p.input.w);
        let in_place = form.filters == Filters::Dense && is_inside && filter.is_full() && form.flip == 0;
        let line_bytes = if in_place { usize::from(p.input.w) } else { width } * channels;
        if height.checked_mul(line_bytes)? > MAX_IMAGE_BYTES {
            return None;
        }
        Some(Self {
            filter,
            row_step: usize::from(w.dilation[0]) * line_bytes,
            column_step: column_stride * channels,
            #[cfg(target_arch = "x86_64")]
            lines: p.output.h.into(),
            line_windows: p.output.w.into(),
            line_step: row_stride * line_bytes,
            image: (!in_place).then_some([height, line_bytes]),
            flip: form.flip,
            is_cut_anywhere: form.filters == Filters::Dense,
        })
    }

    /// Bytes of the image; 0 without one.
    pub const fn image_bytes(&self) -> usize {
        match self.image {
            Some([lines, line_bytes]) => lines * line_bytes + SLACK,
            None => 0,
        }
    }

    /// What the kernel reads: the image, which is drawn, or the input.
    #[inline(always)]
    pub fn source<'x>(&self, p: &Conv2d, input: &'x [i8], image: &'x mut [i8]) -> &'x [i8] {
        let Some([_, line_bytes]) = self.image else { return input };
        let channels = usize::from(p.input.c);
        let input_line = usize::from(p.input.w) * channels;
        let pad = p.pad_value ^ self.flip;
        let [above, left] = p.window.pad.map(usize::from);
        let left = (left * channels).min(line_bytes);
        let inside = (line_bytes - left).min(input_line);
        for (at, line) in image.chunks_exact_mut(line_bytes.max(1)).enumerate().take(self.image_lines()) {
            let from = at.checked_sub(above).map(|row| row * input_line);
            let taps = from.and_then(|from| input.get(from..from + inside));
            let (Some(taps), true) = (taps, inside != 0) else {
                line.fill(pad);
                continue;
            };
            let (before, rest) = line.split_at_mut(left);
            let (inside, after) = rest.split_at_mut(inside);
            before.fill(pad);
            after.fill(pad);
            if self.flip == 0 {
                inside.copy_from_slice(taps);
            } else {
                inside.iter_mut().zip(taps).for_each(|(to, &x)| *to = x ^ self.flip);
            }
        }
        image
    }

    fn image_lines(&self) -> usize {
        self.image.map_or(0, |[lines, _]| lines)
    }

    /// Parts of the output begin at windows that this divides.
    pub const fn granule(&self) -> usize {
        if self.is_cut_anywhere { 1 } else { self.line_windows }
    }

    /// Starts of the windows from `first` on, in order.
    #[cfg(target_arch = "x86_64")]
    pub fn walk(&self, first: usize) -> Walk {
        let mut layout = *self;
        if layout.line_step == layout.line_windows * layout.column_step {
            // All windows are equally far apart.
            layout.line_windows *= layout.lines;
        }
        let windows = layout.line_windows.max(1);
        Walk { layout, column: first % windows, line: first / windows * layout.line_step }
    }

    /// Whether every line of windows begins one input row below the line before.
    #[cfg(neon)]
    pub const fn has_adjacent_lines(&self) -> bool {
        self.line_step == self.row_step
    }

    /// Lines of windows from window `first` on, which begins one, and where they go in an output of `len` values and `channels`
    /// channels.
    pub fn lines(&self, first: usize, len: usize, channels: usize) -> impl Iterator<Item = Line> {
        let Self { line_windows: windows, line_step, .. } = *self;
        let (first, line_len) = (first / windows.max(1), (windows * channels).max(1));
        (0..len / line_len).map(move |at| Line { start: (first + at) * line_step, place: at * line_len, windows })
    }
}

/// A line of windows.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Start of the first in the source, and in the output, in bytes.
    pub start: usize,
    pub place: usize,
    /// Windows.
    pub windows: usize,
}

/// Walks the starts of windows.
#[cfg(target_arch = "x86_64")]
pub struct Walk {
    layout: Layout,
    /// Window within its line.
    column: usize,
    /// Start of the line.
    line: usize,
}

#[cfg(target_arch = "x86_64")]
impl Walk {
    /// Starts of the next `count` windows, at most `W`, in bytes from the source's; the last is repeated.
    #[inline(always)]
    pub fn next<const W: usize>(&mut self, count: usize) -> [usize; W] {
        let Layout { column_step, line_windows, line_step, .. } = self.layout;
        if count == W && self.column + W <= line_windows {
            let first = self.line + self.column * column_step;
            self.column += W;
            return core::array::from_fn(|at| first + at * column_step);
        }
        let mut starts = [0; W];
        let mut last = 0;
        for (at, start) in starts.iter_mut().enumerate() {
            if at < count {
                if self.column == line_windows {
                    (self.column, self.line) = (0, self.line + line_step);
                }
                last = self.line + self.column * column_step;
                self.column += 1;
            }
            *start = last;
        }
        starts
    }
}
