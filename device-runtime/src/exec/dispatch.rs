//! From a placed step to its kernel call.

use super::over::run_over_input;
use super::regions::Regions;
use crate::bundle::operators::built;
use crate::bundle::{Bundle, Op, PlacedStep};
#[cfg(feature = "woven")]
use crate::kernels::woven_s8;
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
    /// Of a fully connected layer with [woven filters](crate::kernels::woven_s8).
    #[cfg(feature = "woven")]
    Woven { weights: &'a [i8], requant: Requant<'a> },
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
    /// The constants of step `index`, which computes `op`, in a bundle that is mapped into memory.
    pub(super) fn in_place(bundle: &Bundle<'a>, index: u16, op: &Op) -> Result<Self, ShapeError> {
        match op {
            Op::Conv2d { geometry, weights, tables, .. } | Op::Depthwise { geometry, weights, tables, .. } => {
                let len = weights_per_channel(op, geometry).checked_mul(usize::from(geometry.output.c));
                let weights =
                    bundle.weights_at(*weights, len.ok_or(ShapeError::Geometry)?).ok_or(ShapeError::Weights)?;
                let Some(requant) = bundle.requant(geometry, tables) else { return Err(ShapeError::Table) };
                Ok(Self::of_channels(bundle, index, weights, requant))
            }
            Op::Lut { table, .. } if built::LUT => {
                bundle.weights_at(*table, TABLE_ENTRIES).map(Self::Lut).ok_or(ShapeError::Table)
            }
            Op::Softmax { table, .. } if built::SOFTMAX => {
                bundle.table_at(*table, TABLE_ENTRIES).map(Self::Exponentials).ok_or(ShapeError::Table)
            }
            Op::LayerNorm { shape, table, .. } if built::LAYERNORM => {
                bundle.table_at(*table, 2 * usize::from(shape.c)).map(Self::Norm).ok_or(ShapeError::Table)
            }
            Op::AddConstant { constants, .. } | Op::Concat { constants, .. } if built::ADDCONSTANT || built::CONCAT => {
                bundle.weights_at(*constants, value_bytes(op)).map(Self::Values).ok_or(ShapeError::Weights)
            }
            _ => Ok(Self::None),
        }
    }

    /// The constants of step `index`, a convolution.
    pub(super) fn of_channels(bundle: &Bundle<'_>, index: u16, weights: &'a [i8], requant: Requant<'a>) -> Self {
        #[cfg(feature = "woven")]
        if bundle.is_woven(index) {
            return Self::Woven { weights, requant };
        }
        let _ = (bundle, index);
        Self::Channels { weights, requant }
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
        Op::Depthwise { .. } if built::DEPTHWISE => {
            geometry.window.kernel[0] as usize * geometry.window.kernel[1] as usize
        }
        _ => geometry.taps(),
    }
}

/// Runs steps.
pub(crate) trait StepRunner {
    /// Runs one step in `memory`, which holds its inputs.
    ///
    /// # Errors
    /// As [`run_step`].
    fn run(&mut self, bundle: &Bundle<'_>, placed: &PlacedStep, memory: &mut Regions<'_>) -> Result<(), ShapeError>;
}

/// With constants where they lie in the bundle.
impl StepRunner for Isa {
    #[inline(always)]
    fn run(&mut self, bundle: &Bundle<'_>, placed: &PlacedStep, memory: &mut Regions<'_>) -> Result<(), ShapeError> {
        run_in(*self, bundle, placed, memory)
    }
}

/// Runs one step in `arena`, which holds its inputs.
///
/// # Errors
/// [`ShapeError`] if the step does not fit the bundle or the arena; impossible for steps of a checked bundle.
pub fn run_step(isa: Isa, bundle: &Bundle<'_>, placed: &PlacedStep, arena: &mut [u8]) -> Result<(), ShapeError> {
    run_in(isa, bundle, placed, &mut Regions::whole(arena))
}

/// [`run_step`] in memory that may be divided.
pub(super) fn run_in(
    isa: Isa,
    bundle: &Bundle<'_>,
    placed: &PlacedStep,
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    match &Constants::in_place(bundle, placed.index, &placed.step.op) {
        Ok(constants) => run_with(isa, placed, constants, memory),
        Err(error) => Err(*error),
    }
}

/// [`run_in`] with the step's constants given.
pub(super) fn run_with(
    isa: Isa,
    placed: &PlacedStep,
    constants: &Constants<'_>,
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    if placed.is_over_input() {
        return run_over_input(isa, placed, constants, memory);
    }
    run_apart(isa, placed, constants, memory)
}

/// Runs a step that writes nowhere into its inputs, or exactly where they are. Without feature `variants` the fastest kernels
/// of the target run, whatever `isa` says, and no others are linked.
pub(super) fn run_apart(
    isa: Isa,
    placed: &PlacedStep,
    constants: &Constants<'_>,
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    let isa = if cfg!(feature = "variants") { isa } else { Isa::best() };
    let PlacedStep { inputs: [first, second], output, scratch, step, .. } = placed;
    let is_in_place = output == first;
    let other = if built::ADD && matches!(step.op, Op::Add { .. }) { second } else { scratch };
    // In one place for all operators, which keeps the code small. A result that overwrites the input has no part of its own.
    let [input, other, output] = memory.three([first, other, if is_in_place { &(0..0) } else { output }])?;
    match (&step.op, constants) {
        (Op::Conv2d { geometry, residual, .. }, Constants::Channels { weights, requant }) if built::CONV2D => {
            let scratch = bytemuck::cast_slice_mut(other);
            conv2d_s8(isa, geometry, requant, residual.as_ref(), input, weights, scratch, output)
        }
        #[cfg(feature = "woven")]
        (Op::Conv2d { geometry, .. }, Constants::Woven { weights, requant }) if built::CONV2D => {
            woven_s8(isa, geometry, requant, input, weights, bytemuck::cast_slice_mut(other), output)
        }
        (Op::Depthwise { geometry, residual, .. }, Constants::Channels { weights, requant }) if built::DEPTHWISE => {
            depthwise_s8(isa, geometry, requant, residual.as_ref(), input, weights, output)
        }
        (Op::Add { add, .. }, _) if built::ADD && is_in_place => add_in_place_s8(isa, add, input, other),
        (Op::Add { add, .. }, _) if built::ADD => add_s8(isa, add, input, other, output),
        (Op::MaxPool(geometry), _) if built::MAXPOOL => max_pool_s8(isa, geometry, input, output),
        (Op::AvgPool { geometry, input_zero_point, multiplier, shift, landing }, _) if built::AVGPOOL => {
            avg_pool_s8(isa, geometry, *input_zero_point, *multiplier, *shift, *landing, input, output)
        }
        (Op::Lut { .. }, Constants::Lut(table)) if built::LUT && is_in_place => lut_in_place_s8(table, input),
        (Op::Lut { .. }, Constants::Lut(table)) if built::LUT => lut_s8(table, input, output),
        (Op::Softmax { shape, .. }, Constants::Exponentials(table)) if built::SOFTMAX => {
            softmax_s8(*shape, table, input, output)
        }
        (Op::Transpose { input: shape, perm }, _) if built::TRANSPOSE => transpose_s8(*shape, *perm, input, output),
        (Op::LayerNorm { shape, epsilon, shift, landing, .. }, Constants::Norm(table)) if built::LAYERNORM => {
            let (gain, offset) = table.split_at_checked(usize::from(shape.c)).ok_or(ShapeError::Table)?;
            let norm = LayerNorm { gain, offset, epsilon: *epsilon, shift: *shift, landing: *landing };
            layer_norm_s8(*shape, &norm, input, output)
        }
        (Op::Attention(attention), _) if built::ATTENTION => {
            attention_s8(isa, attention, input, bytemuck::cast_slice_mut(other), output)
        }
        (Op::AddConstant { add, .. }, Constants::Values(values)) if built::ADDCONSTANT && is_in_place => {
            add_in_place_s8(isa, add, input, values)
        }
        (Op::AddConstant { add, .. }, Constants::Values(values)) if built::ADDCONSTANT => {
            add_s8(isa, add, input, values, output)
        }
        (Op::Concat { input: shape, before, .. }, Constants::Values(values)) if built::CONCAT => {
            concat_s8(usize::from(*before) * usize::from(shape.c), values, input, output)
        }
        (Op::Slice { input: shape, first: start, output: part }, _) if built::SLICE => {
            slice_s8(*shape, *start, *part, input, output)
        }
        // A checked bundle holds neither operators that are not built in, nor steps without their constants.
        _ => Err(ShapeError::Table),
    }
}
