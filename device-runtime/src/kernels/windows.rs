//! Where a window lies over its input: the part of each axis that is inside.

use super::params::{Shape, Window};

/// The kernel positions of one axis that fall inside the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First kernel index inside.
    pub first: usize,
    /// Number of kernel indices inside, all consecutive.
    pub count: usize,
    /// Input index of the first.
    pub start: usize,
}

impl Span {
    /// Clips `kernel` taps, `dilation` apart and starting at `origin`, to `0..extent`.
    #[inline(always)]
    fn clip(origin: i32, kernel: u8, dilation: u8, extent: u16) -> Self {
        let (kernel, dilation, extent) = (i32::from(kernel), i32::from(dilation), i32::from(extent));
        if origin >= 0 && origin + (kernel - 1) * dilation < extent {
            return Self { first: 0, count: kernel as usize, start: origin as usize };
        }
        Self::clip_at_border(origin, kernel, dilation, extent)
    }

    #[inline(never)]
    fn clip_at_border(origin: i32, kernel: i32, dilation: i32, extent: i32) -> Self {
        let dilation = dilation.max(1);
        let steps_to = |distance: i32| (distance.max(0) + dilation - 1) / dilation;
        let first = steps_to(-origin).min(kernel);
        let end = steps_to(extent - origin).min(kernel);
        let count = (end - first).max(0);
        let start = if count == 0 { 0 } else { origin + first * dilation };
        Self { first: first as usize, count: count as usize, start: start as usize }
    }
}

/// Walks the output positions row by row and yields the row and column spans of each window.
#[derive(Clone, Copy)]
pub struct Windows<'a> {
    window: &'a Window,
    input: Shape,
    width: u16,
    row: u16,
    column: u16,
    rows: Span,
}

impl<'a> Windows<'a> {
    /// Windows of every position of `output` over `input`.
    pub fn new(window: &'a Window, input: Shape, output: Shape) -> Self {
        // At the end of the row before the first.
        Self { window, input, width: output.w, row: u16::MAX, column: output.w, rows: Span::default() }
    }

    /// The window of one output position.
    #[cfg(any(arm_neon, neon, target_arch = "x86_64"))]
    #[inline(always)]
    pub fn at(&self, row: u16, column: u16) -> (Span, Span) {
        (self.span(0, row, self.input.h), self.span(1, column, self.input.w))
    }

    /// [`next`](Iterator::next), in memory once for all kernels that take many more instructions per window.
    #[inline(never)]
    pub fn pass(&mut self) -> (Span, Span) {
        self.next().unwrap_or_default()
    }

    #[inline(always)]
    fn span(&self, axis: usize, position: u16, extent: u16) -> Span {
        let Window { kernel, stride, pad, dilation } = self.window;
        let origin = i32::from(position) * i32::from(stride[axis & 1]) - i32::from(pad[axis & 1]);
        Span::clip(origin, kernel[axis & 1], dilation[axis & 1], extent)
    }
}

#[cfg(any(arm_mve, test))]
impl Windows<'_> {
    /// Passes over the next `count` windows if all are in one row of the output and none loses columns: the rows of each that
    /// are inside, and the input column of the first. Otherwise, or if no row is inside, `None`, and nothing is passed over.
    #[inline(always)]
    pub fn next_in_row(&mut self, count: u16) -> Option<(Span, usize)> {
        let is_at_end = self.column == self.width;
        let column = if is_at_end { 0 } else { self.column };
        if count == 0 || u32::from(column) + u32::from(count) > u32::from(self.width) {
            return None;
        }
        let Window { kernel, stride, pad, dilation } = self.window;
        let stride = i32::from(stride[1]);
        let first = i32::from(column) * stride - i32::from(pad[1]);
        let end = first + i32::from(count - 1) * stride + i32::from(kernel[1] - 1) * i32::from(dilation[1]);
        if first < 0 || end >= i32::from(self.input.w) {
            return None;
        }
        if is_at_end {
            self.row = self.row.wrapping_add(1);
            self.rows = self.span(0, self.row, self.input.h);
            self.column = 0;
        }
        if self.rows.count == 0 {
            return None;
        }
        self.column += count;
        Some((self.rows, first as usize))
    }
}

impl Iterator for Windows<'_> {
    type Item = (Span, Span);

    /// Never ends: the caller stops with its last output position.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.column == self.width {
            self.column = 0;
            self.row = self.row.wrapping_add(1);
            self.rows = self.span(0, self.row, self.input.h);
        }
        let columns = self.span(1, self.column, self.input.w);
        self.column = self.column.wrapping_add(1);
        Some((self.rows, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_in_a_row_are_those_that_come_one_by_one() {
        for (kernel, stride, pad, dilation) in [(3, 1, 1, 1), (3, 2, 0, 1), (2, 3, 2, 2), (1, 1, 0, 1), (5, 1, 4, 1)] {
            let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2], dilation: [dilation; 2] };
            let (input, output) = (Shape::new(7, 9, 1), Shape::new(6, 7, 1));
            let mut rows = Windows::new(&window, input, output);
            let mut singles = Windows::new(&window, input, output);
            let mut left = output.positions();
            while left != 0 {
                let Some((span, column)) = rows.next_in_row(3).filter(|_| left >= 3) else {
                    assert_eq!(rows.next(), singles.next());
                    left -= 1;
                    continue;
                };
                for at in 0..3 {
                    let columns = Span { first: 0, count: kernel.into(), start: column + at * usize::from(stride) };
                    assert_eq!(Some((span, columns)), singles.next());
                }
                left -= 3;
            }
        }
    }

    #[test]
    fn clipping_keeps_exactly_the_taps_inside() {
        for extent in 1..9u16 {
            for kernel in 1..6u8 {
                for dilation in 1..4u8 {
                    for origin in -20..20i32 {
                        let inside: Vec<i32> = (0..i32::from(kernel))
                            .filter(|k| (0..i32::from(extent)).contains(&(origin + k * i32::from(dilation))))
                            .collect();
                        let span = Span::clip(origin, kernel, dilation, extent);
                        assert_eq!(span.count, inside.len(), "{origin} {kernel} {dilation} {extent}");
                        if let Some(&first) = inside.first() {
                            assert_eq!(span.first, first as usize);
                            assert_eq!(span.start as i32, origin + first * i32::from(dilation));
                        }
                    }
                }
            }
        }
    }
}
