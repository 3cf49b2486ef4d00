//! A step, or part of one: its kernel call, and cutting it in two.

use core::ops::Range;

use crate::bundle::{Along, Grid, Op, PlacedStep, Rows};
use crate::exec::dispatch::Constants;
use crate::exec::regions::{three, two};
use crate::kernels::{
    Isa, LayerNorm, Requant, ShapeError, add_in_place_s8, add_s8, attention_queries_s8, avg_pool_s8, conv2d_s8,
    depthwise_s8, layer_norm_s8, lut_in_place_s8, lut_s8, max_pool_s8, softmax_s8, woven_s8,
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
    Grid(Along),
    /// Of a single position.
    Channels,
    Tokens,
    Elements,
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
        if let Some(grid) = Grid::of(&self.op) {
            let (along, output) = (grid.along(), grid.output);
            return match &self.op {
                _ if output.h > 1 => Some((Axis::Grid(along), usize::from(output.h))),
                _ if along == Along::Columns && output.w > 1 => Some((Axis::Grid(along), usize::from(output.w))),
                Op::Conv2d { geometry, .. } if geometry.groups == 1 && output.w == 1 && !self.is_woven() => {
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

    fn is_woven(&self) -> bool {
        matches!(self.constants, Constants::Woven { .. })
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
                Axis::Grid(_) => part.cut_rows(range)?,
                Axis::Channels => part.cut_channels(range)?,
                Axis::Tokens => part.first_token += range.start,
                Axis::Elements => part.cut_elements(range)?,
            }
            Ok(part)
        };
        Ok([one(0..at, first)?, one(at..len, rest)?])
    }

    fn cut_rows(&mut self, range: Range<usize>) -> Result<(), ShapeError> {
        let rows = Grid::of(&self.op).map(Rows::from).ok_or(ShapeError::Geometry)?;
        let taken = rows.put_in(range, &mut self.op);
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
            (Op::Conv2d { geometry, .. }, Constants::Woven { weights, requant }) => {
                woven_s8(isa, geometry, requant, required?, weights, scratch, output)
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
        Axis::Grid(Along::Columns) | Axis::Channels | Axis::Tokens if len >= 64 => 8,
        Axis::Elements if len >= 1024 => 64,
        _ => 1,
    }
}
