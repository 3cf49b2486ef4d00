//! A step, or part of one: its kernel call, and cutting it in two.

use core::ops::Range;

use crate::bundle::{Op, PlacedStep};
use crate::exec::dispatch::Constants;
use crate::exec::regions::{three, two};
use crate::exec::rows::rows_under;
use crate::kernels::{
    Isa, LayerNorm, Requant, Shape, ShapeError, Window, add_in_place_s8, add_s8, attention_queries_s8, avg_pool_s8,
    conv2d_s8, depthwise_s8, layer_norm_s8, lut_in_place_s8, lut_s8, max_pool_s8, softmax_s8,
};

/// A step, or one that computes part of its output.
#[derive(Debug)]
pub struct Piece<'x> {
    op: Op,
    constants: Constants<'x>,
    /// `None`: what the output holds beforehand.
    input: Option<&'x [i8]>,
    /// Second operand of an addition.
    second: &'x [i8],
    /// Of attention, the first token whose result is computed.
    first_token: usize,
    output: &'x mut [i8],
}

/// What the output of an operator is cut along, so that every part is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Rows,
    /// Of an input and an output of one row.
    Columns,
    /// Of a single position.
    Channels,
    Tokens,
    Elements,
}

/// Extents and window of an operator that computes each position from those under a window.
#[derive(Debug, Clone, Copy)]
struct Grid {
    input: Shape,
    output: Shape,
    window: Window,
}

impl Grid {
    fn of(op: &Op) -> Option<Self> {
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
    fn put_in(self, op: &mut Op) {
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
    fn flat(self) -> Option<Self> {
        let Self { input, output, window } = self;
        let positions = u16::try_from(input.positions()).ok()?;
        let is_pointwise = window == Window::POINT && (input.h, input.w) == (output.h, output.w);
        let row = |shape: Shape| Shape::new(1, positions, shape.c);
        is_pointwise.then(|| Self { input: row(input), output: row(output), window })
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
        let pitch = usize::from(self.input.w) * usize::from(self.input.c);
        let input = Shape { h: under.len() as u16, ..self.input };
        let output = Shape { h: count, ..self.output };
        (Self { input, output, window }, under.start * pitch..under.end * pitch)
    }

    /// Part of it along `axis`, which is one of rows and columns.
    fn part(self, axis: Axis, range: Range<usize>) -> (Self, Range<usize>) {
        if axis == Axis::Rows {
            return self.rows(range);
        }
        let (part, taken) = self.turned().rows(range);
        (part.turned(), taken)
    }
}

impl<'x> Piece<'x> {
    /// All of a step, and its scratch.
    ///
    /// # Errors
    /// [`ShapeError::Output`] if the step's parts of the arena overlap or reach outside.
    pub fn of(
        placed: &PlacedStep,
        constants: Constants<'x>,
        arena: &'x mut [i8],
    ) -> Result<(Self, &'x mut [i8]), ShapeError> {
        let PlacedStep { inputs: [first, second], output, scratch, .. } = placed;
        let mut op = placed.step.op;
        let none: &mut [i8] = &mut [];
        if let Some(flat) = Grid::of(&op).and_then(Grid::flat) {
            flat.put_in(&mut op);
        }
        let is_in_place = output == first;
        let ([input, beside, output], scratch): ([&mut [i8]; 3], &mut [i8]) = match op {
            Op::Add { .. } if is_in_place => {
                let [b, output] = two(arena, [second, output])?;
                ([&mut [], b, output], none)
            }
            Op::Add { .. } => (three(arena, [first, second, output])?, none),
            _ if is_in_place => ([&mut [], &mut [], arena.get_mut(output.clone()).ok_or(ShapeError::Output)?], none),
            _ if !scratch.is_empty() => {
                let [input, scratch, output] = three(arena, [first, scratch, output])?;
                ([input, &mut [], output], scratch)
            }
            _ => {
                let [input, output] = two(arena, [first, output])?;
                ([input, &mut [], output], none)
            }
        };
        let second: &[i8] = match constants {
            Constants::Values(values) => values,
            _ => beside,
        };
        let input = (!is_in_place).then_some(&*input);
        Ok((Self { op, constants, input, second, first_token: 0, output }, scratch))
    }

    /// What it is cut along and how long that is; `None` if it cannot be cut.
    fn axis(&self) -> Option<(Axis, usize)> {
        if let Some(Grid { input, output, .. }) = Grid::of(&self.op) {
            return match &self.op {
                _ if output.h > 1 => Some((Axis::Rows, usize::from(output.h))),
                _ if input.h == 1 && output.w > 1 => Some((Axis::Columns, usize::from(output.w))),
                Op::Conv2d { geometry, .. } if geometry.groups == 1 && output.w == 1 => {
                    Some((Axis::Channels, usize::from(output.c)))
                }
                _ => None,
            };
        }
        match &self.op {
            Op::Attention(attention) => {
                Some((Axis::Tokens, self.output.len() / usize::from(attention.output().c).max(1)))
            }
            Op::Add { .. } | Op::AddConstant { .. } | Op::Lut { .. } => Some((Axis::Elements, self.output.len())),
            _ => None,
        }
    }

    /// Most parts it can be cut into.
    pub fn most_parts(&self) -> usize {
        self.axis().map_or(1, |(axis, len)| (len / granule(axis, len)).max(1))
    }

    /// Two pieces, of which the first has `share` of `parts`.
    ///
    /// # Errors
    /// [`ShapeError`] if it has fewer parts than that, or its slices are not those of its geometry.
    pub fn split(self, share: usize, parts: usize) -> Result<[Self; 2], ShapeError> {
        let (axis, len) = self.axis().ok_or(ShapeError::Geometry)?;
        let granule = granule(axis, len);
        let at = len / granule * share / parts.max(1) * granule;
        let Self { op, constants, input, second, first_token, output } = self;
        let (first, rest) = output.split_at_mut_checked(output.len() / len.max(1) * at).ok_or(ShapeError::Output)?;
        let one = |range: Range<usize>, output: &'x mut [i8]| {
            let mut part = Piece { op, constants, input, second, first_token, output };
            match axis {
                Axis::Rows | Axis::Columns => part.cut_grid(axis, range)?,
                Axis::Channels => part.cut_channels(range)?,
                Axis::Tokens => part.first_token += range.start,
                Axis::Elements => part.cut_elements(range)?,
            }
            Ok(part)
        };
        Ok([one(0..at, first)?, one(at..len, rest)?])
    }

    fn cut_grid(&mut self, axis: Axis, range: Range<usize>) -> Result<(), ShapeError> {
        let grid = Grid::of(&self.op).ok_or(ShapeError::Geometry)?;
        let (part, taken) = grid.part(axis, range);
        part.put_in(&mut self.op);
        let input = self.input.and_then(|input| input.get(taken));
        self.input = Some(input.ok_or(ShapeError::Input)?);
        Ok(())
    }

    fn cut_channels(&mut self, range: Range<usize>) -> Result<(), ShapeError> {
        let (Op::Conv2d { .. }, Constants::Channels { weights, requant }) = (&self.op, self.constants) else {
            return Err(ShapeError::Weights);
        };
        let Op::Conv2d { geometry, .. } = &mut self.op else { return Err(ShapeError::Weights) };
        let taps = geometry.taps();
        geometry.output.c = range.len() as u16;
        let weights = weights.get(range.start * taps..range.end * taps).ok_or(ShapeError::Weights)?;
        let part = || {
            Some(Requant {
                bias: requant.bias.get(range.clone())?,
                multiplier: requant.multiplier.get(range.clone())?,
                shift: requant.shift.get(range.clone())?,
                landing: requant.landing,
            })
        };
        self.constants = Constants::Channels { weights, requant: part().ok_or(ShapeError::Table)? };
        Ok(())
    }

    fn cut_elements(&mut self, range: Range<usize>) -> Result<(), ShapeError> {
        if let Some(input) = self.input {
            self.input = Some(input.get(range.clone()).ok_or(ShapeError::Input)?);
        }
        if !matches!(self.op, Op::Lut { .. }) {
            self.second = self.second.get(range).ok_or(ShapeError::SecondInput)?;
        }
        Ok(())
    }

    /// Computes its part of the output.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(self, isa: Isa, scratch: &mut [u8]) -> Result<(), ShapeError> {
        let Self { op, constants, input, second, first_token, output } = self;
        let required = input.ok_or(ShapeError::Input);
        match (&op, &constants) {
            (Op::Conv2d { geometry, residual, .. }, Constants::Channels { weights, requant }) => {
                conv2d_s8(isa, geometry, requant, residual.as_ref(), required?, weights, scratch, output)
            }
            (Op::Depthwise { geometry, residual, .. }, Constants::Channels { weights, requant }) => {
                depthwise_s8(isa, geometry, requant, residual.as_ref(), required?, weights, output)
            }
            (Op::Add { add, .. } | Op::AddConstant { add, .. }, _) => match input {
                Some(input) => add_s8(isa, add, input, second, output),
                None => add_in_place_s8(isa, add, output, second),
            },
            (Op::Lut { .. }, Constants::Lut(table)) => match input {
                Some(input) => lut_s8(table, input, output),
                None => lut_in_place_s8(table, output),
            },
            (Op::MaxPool(geometry), _) => max_pool_s8(isa, geometry, required?, output),
            (Op::AvgPool { geometry, input_zero_point, multiplier, shift, landing }, _) => {
                avg_pool_s8(isa, geometry, *input_zero_point, *multiplier, *shift, *landing, required?, output)
            }
            (Op::Softmax { shape, .. }, Constants::Exponentials(table)) => softmax_s8(*shape, table, required?, output),
            (Op::LayerNorm { shape, epsilon, shift, landing, .. }, Constants::Norm(table)) => {
                let (gain, offset) = table.split_at_checked(usize::from(shape.c)).ok_or(ShapeError::Table)?;
                let norm = LayerNorm { gain, offset, epsilon: *epsilon, shift: *shift, landing: *landing };
                layer_norm_s8(*shape, &norm, required?, output)
            }
            (Op::Attention(attention), _) => {
                attention_queries_s8(isa, attention, first_token, required?, scratch, output)
            }
            _ => Err(ShapeError::Table),
        }
    }
}

/// Cuts fall on multiples of this, where there are enough: kernels take positions, channels and tokens by fours and eights, and
/// elements by vectors.
const fn granule(axis: Axis, len: usize) -> usize {
    match axis {
        Axis::Rows => 1,
        Axis::Columns | Axis::Channels | Axis::Tokens if len >= 64 => 8,
        Axis::Elements if len >= 1024 => 64,
        _ => 1,
    }
}
