//! From a placed step to its kernel call.

use core::ops::Range;

use crate::bundle::{Bundle, Op, PlacedStep};
use crate::kernels::{
    Isa, ShapeError, add_in_place_s8, add_s8, avg_pool_s8, conv2d_s8, depthwise_s8, lut_in_place_s8, lut_s8,
    max_pool_s8, softmax_s8, transpose_s8,
};

/// Runs one step in `arena`, which holds its inputs.
///
/// # Errors
/// [`ShapeError`] if the step does not fit the bundle or the arena; impossible for steps of a checked bundle.
pub fn run_step(isa: Isa, bundle: &Bundle<'_>, placed: &PlacedStep, arena: &mut [u8]) -> Result<(), ShapeError> {
    let arena: &mut [i8] = bytemuck::cast_slice_mut(arena);
    let [first, second] = placed.inputs.clone();
    let output = placed.output.clone();
    match &placed.step.op {
        Op::Conv2d { geometry, weights, tables, residual } => {
            let len = geometry.taps().checked_mul(usize::from(geometry.output.c)).ok_or(ShapeError::Geometry)?;
            let weights = bundle.weights_at(*weights, len).ok_or(ShapeError::Weights)?;
            let requant = bundle.requant(geometry, tables).ok_or(ShapeError::Table)?;
            let [input, scratch, output] = split(arena, [first, placed.scratch.clone(), output])?;
            let scratch = bytemuck::cast_slice_mut(scratch);
            conv2d_s8(isa, geometry, &requant, residual.as_ref(), input, weights, scratch, output)
        }
        Op::Depthwise { geometry, weights, tables, residual } => {
            let [rows, columns] = geometry.window.kernel;
            let len = usize::from(rows) * usize::from(columns) * usize::from(geometry.input.c);
            let weights = bundle.weights_at(*weights, len).ok_or(ShapeError::Weights)?;
            let requant = bundle.requant(geometry, tables).ok_or(ShapeError::Table)?;
            let [input, output] = split(arena, [first, output])?;
            depthwise_s8(isa, geometry, &requant, residual.as_ref(), input, weights, output)
        }
        Op::Add { add, .. } if output == first => {
            let [both, b] = split(arena, [first, second])?;
            add_in_place_s8(isa, add, both, b)
        }
        Op::Add { add, .. } => {
            let [a, b, output] = split(arena, [first, second, output])?;
            add_s8(isa, add, a, b, output)
        }
        Op::MaxPool(geometry) => {
            let [input, output] = split(arena, [first, output])?;
            max_pool_s8(isa, geometry, input, output)
        }
        Op::AvgPool { geometry, input_zero_point, multiplier, shift, landing } => {
            let [input, output] = split(arena, [first, output])?;
            avg_pool_s8(isa, geometry, *input_zero_point, *multiplier, *shift, *landing, input, output)
        }
        Op::Lut { table, .. } => {
            let table = bundle.weights_at(*table, 256).ok_or(ShapeError::Table)?;
            if output == first {
                return lut_in_place_s8(table, arena.get_mut(output).ok_or(ShapeError::Output)?);
            }
            let [input, output] = split(arena, [first, output])?;
            lut_s8(table, input, output)
        }
        Op::Softmax { shape, table } => {
            let table = bundle.table_at(*table, 256).ok_or(ShapeError::Table)?;
            let [input, output] = split(arena, [first, output])?;
            softmax_s8(*shape, table, input, output)
        }
        Op::Transpose { input: shape, perm } => {
            let [input, output] = split(arena, [first, output])?;
            transpose_s8(*shape, *perm, input, output)
        }
    }
}

fn split<const N: usize>(arena: &mut [i8], ranges: [Range<usize>; N]) -> Result<[&mut [i8]; N], ShapeError> {
    arena.get_disjoint_mut(ranges).map_err(|_| ShapeError::Output)
}
