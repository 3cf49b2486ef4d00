//! Output rows of an operator as an operator of their own, and how far its output may reach into its input.

use core::ops::Range;

use super::records::{InPlace, Op};
use crate::kernels::{Shape, Window};

/// Extents and window of an operator that computes each position from those under a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub input: Shape,
    pub output: Shape,
    window: Window,
}

/// What a grid is cut along, so that every part of its output is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Along {
    Rows,
    /// Of an input and an output of one row.
    Columns,
}

impl Grid {
    /// That of `op`; `None` if its positions take more than a window.
    pub fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Conv2d { geometry: g, .. } | Op::Depthwise { geometry: g, .. } => {
                Some(Self { input: g.input, output: g.output, window: g.window })
            }
            Op::MaxPool(g) | Op::AvgPool { geometry: g, .. } => {
                Some(Self { input: g.input, output: g.output, window: g.window })
            }
            Op::Softmax { shape, .. } | Op::LayerNorm { shape, .. } => {
                Some(Self { input: *shape, output: *shape, window: Window::POINT })
            }
            _ => None,
        }
    }

    /// `op` with these extents and this window.
    pub fn put_in(self, op: &mut Op) {
        match op {
            Op::Conv2d { geometry: g, .. } | Op::Depthwise { geometry: g, .. } => {
                (g.input, g.output, g.window) = (self.input, self.output, self.window);
            }
            Op::MaxPool(g) | Op::AvgPool { geometry: g, .. } => {
                (g.input, g.output, g.window) = (self.input, self.output, self.window);
            }
            Op::Softmax { shape, .. } | Op::LayerNorm { shape, .. } => *shape = self.output,
            _ => {}
        }
    }

    /// All positions in one row, if no window sees more than its own.
    pub fn flat(self) -> Option<Self> {
        let Self { input, output, window } = self;
        let positions = u16::try_from(input.positions()).ok()?;
        let is_pointwise = window == Window::POINT && (input.h, input.w) == (output.h, output.w);
        let row = |shape: Shape| Shape::new(1, positions, shape.c);
        is_pointwise.then(|| Self { input: row(input), output: row(output), window })
    }

    /// What it is cut along.
    pub const fn along(&self) -> Along {
        if self.input.h == 1 && self.output.h == 1 { Along::Columns } else { Along::Rows }
    }

    /// Rows as columns and columns as rows.
    fn turned(self) -> Self {
        let turn = |shape: Shape| Shape::new(shape.w, shape.h, shape.c);
        let Window { kernel, stride, pad, dilation } = self.window;
        let [kernel, stride, pad, dilation] = [kernel, stride, pad, dilation].map(|[a, b]| [b, a]);
        Self { input: turn(self.input), output: turn(self.output), window: Window { kernel, stride, pad, dilation } }
    }

    /// Output rows `rows`, and the input elements they take.
    fn rows(self, rows: Range<usize>) -> (Self, Range<usize>) {
        let count = rows.len() as u16;
        let (window, under) = rows_under(&self.window, self.input.h, rows);
        let pitch = row_bytes(self.input);
        let input = Shape { h: under.len() as u16, ..self.input };
        let output = Shape { h: count, ..self.output };
        (Self { input, output, window }, under.start * pitch..under.end * pitch)
    }
}

/// A step as rows of its output that are computed one after the other, each from rows under its window. Tensors of one row, and
/// those whose positions take no more than themselves, have columns in place of rows.
///
/// Its output may start before its input and reach into it, if rows are computed from the first on, or start behind its input's
/// start, if they are computed from the last on: each is written where nothing is read any more ("Diagonal memory
/// optimisation", Blacker, Bridges and Hadfield 2020, for whole rows).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// With rows for columns where those are cut along.
    grid: Grid,
    along: Along,
    /// Bytes of a row of the input, and of the output.
    input_bytes: usize,
    output_bytes: usize,
}

/// How far apart the starts of a step's input and output must be for the one to be written over the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clearance {
    /// Bytes from the output's start to the input's, if the output starts first.
    pub before_bytes: usize,
    /// Bytes from the input's start to the output's, if the input starts first.
    pub after_bytes: usize,
}

impl From<Grid> for Rows {
    fn from(grid: Grid) -> Self {
        let along = grid.along();
        let grid = if along == Along::Rows { grid } else { grid.turned() };
        Self { grid, along, input_bytes: row_bytes(grid.input), output_bytes: row_bytes(grid.output) }
    }
}

impl Rows {
    /// Those of `op`; `None` if its output may not be written over its input so.
    pub fn of(op: &Op) -> Option<Self> {
        let grid = Grid::of(op).filter(|_| op.in_place() == InPlace::Never)?;
        Some(grid.flat().unwrap_or(grid).into())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.grid.output.h.into()
    }

    /// Bytes of each.
    pub const fn bytes(&self) -> usize {
        self.output_bytes
    }

    /// Bytes of the input that row `row` reads.
    pub fn read_by(&self, row: usize) -> Range<usize> {
        let Grid { input, window, .. } = &self.grid;
        let rows = input_rows(window, input.h, row..row + 1);
        rows.start * self.input_bytes..rows.end * self.input_bytes
    }

    /// Makes `op`, which they are of, compute rows `range` alone; returns the input elements it takes then.
    pub fn put_in(&self, range: Range<usize>, op: &mut Op) -> Range<usize> {
        let (part, taken) = self.grid.rows(range);
        if self.along == Along::Rows {
            part.put_in(op)
        } else {
            part.turned().put_in(op)
        }
        taken
    }

    /// What lets every `at_once` rows be written where nothing is read by them or after them.
    pub fn clearance(&self, at_once: usize) -> Clearance {
        let (count, bytes) = (self.count(), self.bytes());
        let mut clearance = Clearance { before_bytes: 0, after_bytes: 0 };
        for row in 0..count {
            let read = self.read_by(row);
            // From the first row on they end with `row + at_once - 1`, from the last on they begin with `row + 1 - at_once`.
            let end = (row + at_once).min(count) * bytes;
            let start = (row + 1).saturating_sub(at_once) * bytes;
            clearance.before_bytes = clearance.before_bytes.max(end.saturating_sub(read.start));
            clearance.after_bytes = clearance.after_bytes.max(read.end.saturating_sub(start));
        }
        clearance
    }
}

impl Op {
    /// How far apart input and output must start at least for the step to write its output over its first input, row by row;
    /// `None` if it cannot do that.
    #[must_use]
    pub fn least_clearance(&self) -> Option<Clearance> {
        Rows::of(self).map(|rows| rows.clearance(1))
    }

    /// How far apart input and output must start for the step to write its output over its first input in parts that are worth
    /// a call of the kernel: of `positions` or more, and of so many rows that what neighbouring parts both read is at most
    /// half of what they write. `None` if the step cannot do that.
    #[must_use]
    pub fn clearance(&self, positions: usize) -> Option<Clearance> {
        let rows = Rows::of(self)?;
        let Grid { output, window, .. } = rows.grid;
        let wide = positions.div_ceil(usize::from(output.w).max(1));
        let shared = 2 * usize::from(window.kernel[0].saturating_sub(window.stride[0]));
        Some(rows.clearance(wide.max(shared).max(1)))
    }
}

fn row_bytes(shape: Shape) -> usize {
    usize::from(shape.w) * usize::from(shape.c)
}

/// Input rows that `rows` output rows span, padding included.
pub(crate) fn rows_spanned(window: &Window, rows: usize) -> usize {
    let steps = rows.saturating_sub(1).saturating_mul(usize::from(window.stride[0]));
    steps + usize::from(window.kernel[0]).saturating_sub(1) * usize::from(window.dilation[0]) + 1
}

/// Which of `count` input rows output rows `rows` read, at least one.
fn input_rows(window: &Window, count: u16, rows: Range<usize>) -> Range<usize> {
    let (above, pad) = (rows.start * usize::from(window.stride[0]), usize::from(window.pad[0]));
    let first = above.saturating_sub(pad);
    let end = (above + rows_spanned(window, rows.len())).saturating_sub(pad).max(first + 1);
    first..end.min(count.into()).max(first)
}

/// The window with the padding that is left above output rows `rows`, and which of `count` input rows they read, at least
/// one.
pub(crate) fn rows_under(window: &Window, count: u16, rows: Range<usize>) -> (Window, Range<usize>) {
    let above = rows.start * usize::from(window.stride[0]);
    let pad_above = usize::from(window.pad[0]).saturating_sub(above);
    (Window { pad: [pad_above as u8, window.pad[1]], ..*window }, input_rows(window, count, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::ChannelTables;
    use crate::kernels::{Conv2d, Landing};

    fn conv(input: Shape, output: Shape, window: Window) -> Op {
        let landing = Landing { zero_point: 0, lo: -128, hi: 127 };
        let tables = ChannelTables { bias: 0, multiplier: 0, shift: 0, landing };
        let geometry = Conv2d { input, output, window, groups: 1, pad_value: 0 };
        Op::Conv2d { geometry, weights: 0, tables, residual: None }
    }

    fn clearance(op: &Op, at_once: usize) -> Option<(usize, usize)> {
        let Clearance { before_bytes, after_bytes } = Rows::of(op)?.clearance(at_once);
        Some((before_bytes, after_bytes))
    }

    #[test]
    fn a_window_of_three_rows_keeps_two_apart() {
        let shape = Shape::new(8, 10, 4);
        let op = conv(shape, shape, Window { kernel: [3, 3], pad: [1, 1], ..Window::POINT });
        assert_eq!(clearance(&op, 1), Some((2 * 40, 2 * 40)));
        assert_eq!(clearance(&op, 3), Some((4 * 40, 4 * 40)));
        assert_eq!(clearance(&op, 100), Some((8 * 40, 8 * 40)));
        // Three rows have 25 positions or more, but four share no more than two.
        let Clearance { before_bytes, after_bytes } = op.clearance(25).expect("rows");
        assert_eq!((before_bytes, after_bytes), (5 * 40, 5 * 40));
    }

    #[test]
    fn a_stride_of_two_frees_rows_faster_than_it_fills_them() {
        let window = Window { kernel: [3, 3], stride: [2, 2], pad: [1, 1], ..Window::POINT };
        let op = conv(Shape::new(8, 8, 4), Shape::new(4, 4, 4), window);
        // From the first row on: row 1 is written behind 16 bytes, and the input is read from byte 32 on. From the last on: all
        // is read when row 3 is written.
        assert_eq!(clearance(&op, 1), Some((16, 8 * 32 - 3 * 16)));
    }

    #[test]
    fn what_takes_one_position_keeps_that_apart() {
        let op = conv(Shape::new(4, 4, 8), Shape::new(4, 4, 8), Window::POINT);
        assert_eq!(clearance(&op, 1), Some((8, 8)));
        assert_eq!(clearance(&op, 5), Some((40, 40)));
        let wider = conv(Shape::new(4, 4, 8), Shape::new(4, 4, 24), Window::POINT);
        assert_eq!(clearance(&wider, 1), Some((16 * 24 - 15 * 8, 8)));
    }

    #[test]
    fn operators_that_may_run_in_place_and_those_that_take_everything_have_no_clearance() {
        let shape = Shape::new(4, 4, 8);
        assert_eq!(Op::Lut { shape, table: 0 }.clearance(1), None);
        assert_eq!(Op::Transpose { input: shape, perm: [0, 1, 2] }.clearance(1), None);
    }
}
