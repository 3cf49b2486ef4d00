//! From a placed step to its kernel call.

use core::ops::Range;

use crate::bundle::{Bundle, Op, PlacedStep};
use crate::kernels::{
    Conv2d, Isa, LayerNorm, Requant, ShapeError, add_in_place_s8, add_s8, attention_s8, avg_pool_s8, concat_s8,
    conv2d_s8, depthwise_s8, layer_norm_s8, lut_in_place_s8, lut_s8, max_pool_s8, slice_s8, softmax_s8, transpose_s8,
};

/// What a step reads besides activations, wherever it lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Constants<'a> {
    /// The step has none.
    None,
    /// Of a convolution of either kind.
    Channels { weights: &'a [i8], requant: Requant<'a> },
    /// 256 bytes of a pointwise function.
    Lut(&'a [i8]),
    /// 256 exponentials of a softmax.
    Exponentials(&'a [i32]),
    /// Gains, then offsets, of a layer norm.
    Norm(&'a [i32]),
    /// What is added to a tensor or put around it.
    Values(&'a [i8]),
}

/// Entries of a lookup table and of a softmax table.
pub(super) const TABLE_ENTRIES: usize = 256;

impl<'a> Constants<'a> {
    /// The step's constants in a bundle that is mapped into memory.
    fn in_place(bundle: &Bundle<'a>, op: &Op) -> Result<Self, ShapeError> {
        match op {
            Op::Conv2d { geometry, weights, tables, .. } | Op::Depthwise { geometry, weights, tables, .. } => {
                let len = weights_per_channel(op, geometry).checked_mul(usize::from(geometry.output.c));
                let weights = bundle.weights_at(*weights, len.ok_or(ShapeError::Geometry)?);
                Ok(Self::Channels {
                    weights: weights.ok_or(ShapeError::Weights)?,
                    requant: bundle.requant(geometry, tables).ok_or(ShapeError::Table)?,
                })
            }
            Op::Lut { table, .. } => bundle.weights_at(*table, TABLE_ENTRIES).map(Self::Lut).ok_or(ShapeError::Table),
            Op::Softmax { table, .. } => {
                bundle.table_at(*table, TABLE_ENTRIES).map(Self::Exponentials).ok_or(ShapeError::Table)
            }
            Op::LayerNorm { shape, table, .. } => {
                bundle.table_at(*table, 2 * usize::from(shape.c)).map(Self::Norm).ok_or(ShapeError::Table)
            }
            Op::AddConstant { constants, .. } | Op::Concat { constants, .. } => {
                bundle.weights_at(*constants, value_bytes(op)).map(Self::Values).ok_or(ShapeError::Weights)
            }
            _ => Ok(Self::None),
        }
    }
}

/// Bytes of the constants that are added to a tensor or put around it.
pub(crate) const fn value_bytes(op: &Op) -> usize {
    match op {
        Op::AddConstant { shape, .. } => shape.len(),
        Op::Concat { input, before, after, .. } => (*before as usize + *after as usize) * input.c as usize,
        _ => 0,
    }
}

/// Weights of one output channel of a convolution of either kind.
pub(super) const fn weights_per_channel(op: &Op, geometry: &Conv2d) -> usize {
    match op {
        Op::Depthwise { .. } => geometry.window.kernel[0] as usize * geometry.window.kernel[1] as usize,
        _ => geometry.taps(),
    }
}

/// Runs one step in `arena`, which holds its inputs.
///
/// # Errors
/// [`ShapeError`] if the step does not fit the bundle or the arena; impossible for steps of a checked bundle.
pub fn run_step(isa: Isa, bundle: &Bundle<'_>, placed: &PlacedStep, arena: &mut [u8]) -> Result<(), ShapeError> {
    let constants = Constants::in_place(bundle, &placed.step.op)?;
    run_with(isa, placed, &constants, arena)
}

/// [`run_step`] with the step's constants given.
pub(super) fn run_with(
    isa: Isa,
    placed: &PlacedStep,
    constants: &Constants<'_>,
    arena: &mut [u8],
) -> Result<(), ShapeError> {
    let arena: &mut [i8] = bytemuck::cast_slice_mut(arena);
    let [first, second] = placed.inputs.clone();
    let output = placed.output.clone();
    match (&placed.step.op, constants) {
        (Op::Conv2d { geometry, residual, .. }, Constants::Channels { weights, requant }) => {
            let [input, scratch, output] = split(arena, [first, placed.scratch.clone(), output])?;
            let scratch = bytemuck::cast_slice_mut(scratch);
            conv2d_s8(isa, geometry, requant, residual.as_ref(), input, weights, scratch, output)
        }
        (Op::Depthwise { geometry, residual, .. }, Constants::Channels { weights, requant }) => {
            let [input, output] = split(arena, [first, output])?;
            depthwise_s8(isa, geometry, requant, residual.as_ref(), input, weights, output)
        }
        (Op::Conv2d { .. } | Op::Depthwise { .. }, _) => Err(ShapeError::Weights),
        (Op::Add { add, .. }, _) if output == first => {
            let [both, b] = split(arena, [first, second])?;
            add_in_place_s8(isa, add, both, b)
        }
        (Op::Add { add, .. }, _) => {
            let [a, b, output] = split(arena, [first, second, output])?;
            add_s8(isa, add, a, b, output)
        }
        (Op::MaxPool(geometry), _) => {
            let [input, output] = split(arena, [first, output])?;
            max_pool_s8(isa, geometry, input, output)
        }
        (Op::AvgPool { geometry, input_zero_point, multiplier, shift, landing }, _) => {
            let [input, output] = split(arena, [first, output])?;
            avg_pool_s8(isa, geometry, *input_zero_point, *multiplier, *shift, *landing, input, output)
        }
        (Op::Lut { .. }, Constants::Lut(table)) if output == first => {
            lut_in_place_s8(table, arena.get_mut(output).ok_or(ShapeError::Output)?)
        }
        (Op::Lut { .. }, Constants::Lut(table)) => {
            let [input, output] = split(arena, [first, output])?;
            lut_s8(table, input, output)
        }
        (Op::Softmax { shape, .. }, Constants::Exponentials(table)) => {
            let [input, output] = split(arena, [first, output])?;
            softmax_s8(*shape, table, input, output)
        }
        (Op::Lut { .. } | Op::Softmax { .. }, _) => Err(ShapeError::Table),
        (Op::Transpose { input: shape, perm }, _) => {
            let [input, output] = split(arena, [first, output])?;
            transpose_s8(*shape, *perm, input, output)
        }
        (Op::LayerNorm { shape, epsilon, shift, landing, .. }, Constants::Norm(table)) => {
            let [input, output] = split(arena, [first, output])?;
            let (gain, offset) = table.split_at_checked(usize::from(shape.c)).ok_or(ShapeError::Table)?;
            let norm = LayerNorm { gain, offset, epsilon: *epsilon, shift: *shift, landing: *landing };
            layer_norm_s8(*shape, &norm, input, output)
        }
        (Op::Attention(attention), _) => {
            let [input, scratch, output] = split(arena, [first, placed.scratch.clone(), output])?;
            attention_s8(isa, attention, input, bytemuck::cast_slice_mut(scratch), output)
        }
        (Op::AddConstant { add, .. }, Constants::Values(values)) if output == first => {
            add_in_place_s8(isa, add, arena.get_mut(output).ok_or(ShapeError::Output)?, values)
        }
        (Op::AddConstant { add, .. }, Constants::Values(values)) => {
            let [input, output] = split(arena, [first, output])?;
            add_s8(isa, add, input, values, output)
        }
        (Op::Concat { input: shape, before, .. }, Constants::Values(values)) => {
            let [input, output] = split(arena, [first, output])?;
            concat_s8(usize::from(*before) * usize::from(shape.c), values, input, output)
        }
        (Op::LayerNorm { .. } | Op::AddConstant { .. } | Op::Concat { .. }, _) => Err(ShapeError::Table),
        (Op::Slice { input: shape, first: start, output: part }, _) => {
            let [input, output] = split(arena, [first, output])?;
            slice_s8(*shape, *start, *part, input, output)
        }
    }
}

pub(super) fn split<const N: usize>(arena: &mut [i8], ranges: [Range<usize>; N]) -> Result<[&mut [i8]; N], ShapeError> {
    arena.get_disjoint_mut(ranges).map_err(|_| ShapeError::Output)
}
