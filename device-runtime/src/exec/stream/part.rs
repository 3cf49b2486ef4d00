//! Computing part of a step: some output channels of a convolution, whose rows are computed side by side in staging and then
//! copied to their channels, or some positions of an addition of constants.

use core::ops::Range;

use super::cut::{Cut, Part};
use super::pieces::Piece;
use crate::bundle::Op;
use crate::exec::Regions;
use crate::exec::dispatch::Constants;
use crate::kernels::{Add, Isa, ShapeError, add_in_place_s8, add_s8, conv2d_s8, depthwise_s8};
#[cfg(feature = "woven")]
use crate::kernels::{Requant, woven_s8};

/// Computes `piece` with its constants; `staging` holds at least one row of it.
pub fn run_part(
    isa: Isa,
    piece: &Piece,
    constants: &Constants<'_>,
    staging: &mut [i8],
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    if let (Op::AddConstant { shape, add, .. }, Constants::Values(values)) = (&piece.placed.step.op, constants) {
        return add_part(isa, piece, add, usize::from(shape.c), values, memory);
    }
    let Some(cut) = Cut::of(&piece.placed.step.op) else { return Err(ShapeError::Weights) };
    #[cfg(feature = "woven")]
    if let Constants::Woven { weights, requant } = constants {
        return woven_part(isa, piece, &cut, weights, requant, memory);
    }
    let Constants::Channels { weights, requant } = constants else { return Err(ShapeError::Weights) };
    let placed = &piece.placed;
    let ranges = [&placed.inputs[0], &placed.scratch, &placed.output];
    let [input, scratch, output] = memory.three(ranges)?;
    let scratch: &mut [u8] = bytemuck::cast_slice_mut(scratch);
    let channels = &piece.channels;
    let kernel = |part: &Part, x: &[i8], scratch: &mut [u8], y: &mut [i8]| {
        if cut.is_depthwise {
            depthwise_s8(isa, &part.geometry, requant, cut.residual, x, weights, y)
        } else {
            conv2d_s8(isa, &part.geometry, requant, cut.residual, x, weights, scratch, y)
        }
    };

    let lane = Lane { channels: channels.clone(), pitch: cut.channels() };
    let staged_lane = Lane::whole(channels.len());
    let all_rows = usize::from(cut.geometry.output.h);
    let most_rows = rows_that_fit(&cut, channels.len(), staging.len());
    let mut row = 0;
    while row < all_rows {
        let rows = most_rows.min(all_rows - row);
        let part = cut.part(channels, row, rows);
        let (x, staged) = gather_input(&cut, &part, input, staging)?;
        if cut.geometry.output.positions() == 1 {
            kernel(&part, x, scratch, output.get_mut(channels.clone()).ok_or(ShapeError::Output)?)?;
        } else {
            let pixels = rows_of(output, cut.geometry.output, row..row + rows).ok_or(ShapeError::Output)?;
            let y = staged.get_mut(..part.geometry.output.len()).ok_or(ShapeError::Output)?;
            if cut.residual.is_some() {
                copy_channels((&*pixels, &lane), (&mut *y, &staged_lane));
            }
            kernel(&part, x, scratch, y)?;
            copy_channels((&*y, &staged_lane), (pixels, &lane));
        }
        row += rows;
    }
    Ok(())
}

/// An even number of outputs of a fully connected layer.
#[cfg(feature = "woven")]
fn woven_part(
    isa: Isa,
    piece: &Piece,
    cut: &Cut<'_>,
    weights: &[i8],
    requant: &Requant<'_>,
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    let placed = &piece.placed;
    let [input, scratch, output] = memory.three([&placed.inputs[0], &placed.scratch, &placed.output])?;
    let output = output.get_mut(piece.channels.clone()).ok_or(ShapeError::Output)?;
    let geometry = cut.part(&piece.channels, 0, 1).geometry;
    woven_s8(isa, &geometry, requant, input, weights, bytemuck::cast_slice_mut(scratch), output)
}

/// Adds `values` to some positions of `channels` bytes each.
fn add_part(
    isa: Isa,
    piece: &Piece,
    add: &Add,
    channels: usize,
    values: &[i8],
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    let part = |whole: &Range<usize>| {
        let start = whole.start.saturating_add(piece.channels.start.saturating_mul(channels));
        start..start.saturating_add(values.len()).min(whole.end)
    };
    let (input, output) = (part(&piece.placed.inputs[0]), part(&piece.placed.output));
    if input == output {
        return add_in_place_s8(isa, add, memory.get_mut(&output).ok_or(ShapeError::Output)?, values);
    }
    let [input, _, output] = memory.three([&input, &(0..0), &output])?;
    add_s8(isa, add, input, values, output)
}

/// Output rows whose staging fits in `bytes`, at least one.
fn rows_that_fit(cut: &Cut<'_>, count: usize, bytes: usize) -> usize {
    let all = usize::from(cut.geometry.output.h);
    (2..=all).take_while(|&rows| cut.staging_bytes(count, rows) <= bytes).last().unwrap_or(1)
}

/// The input of a part: where it lies if it takes all channels, else gathered at the start of staging. Also returns the rest
/// of staging.
fn gather_input<'x>(
    cut: &Cut<'_>,
    part: &Part,
    input: &'x mut [i8],
    staging: &'x mut [i8],
) -> Result<(&'x [i8], &'x mut [i8]), ShapeError> {
    let rows = rows_of(input, cut.geometry.input, part.input_rows.clone()).ok_or(ShapeError::Input)?;
    let all_channels = usize::from(cut.geometry.input.c);
    if part.input_channels.len() == all_channels {
        return Ok((rows, staging));
    }
    let (gathered, rest) = staging.split_at_mut_checked(part.geometry.input.len()).ok_or(ShapeError::Input)?;
    let lane = Lane { channels: part.input_channels.clone(), pitch: all_channels };
    copy_channels((&*rows, &lane), (&mut *gathered, &Lane::whole(part.input_channels.len())));
    Ok((gathered, rest))
}

/// Rows of an activation.
fn rows_of(values: &mut [i8], shape: crate::kernels::Shape, rows: Range<usize>) -> Option<&mut [i8]> {
    let pitch = usize::from(shape.w).checked_mul(usize::from(shape.c))?;
    values.get_mut(rows.start.checked_mul(pitch)?..rows.end.checked_mul(pitch)?)
}

/// Some channels of an activation.
struct Lane {
    channels: Range<usize>,
    /// Channels of a position.
    pitch: usize,
}

impl Lane {
    /// All channels of a part.
    const fn whole(count: usize) -> Self {
        Self { channels: 0..count, pitch: count }
    }
}

/// Copies the channels of every position.
fn copy_channels((from, from_lane): (&[i8], &Lane), (to, to_lane): (&mut [i8], &Lane)) {
    let mut sources = from.chunks_exact(from_lane.pitch.max(1));
    for position in to.chunks_exact_mut(to_lane.pitch.max(1)) {
        let Some(source) = sources.next() else { return };
        if let (Some(from), Some(to)) =
            (source.get(from_lane.channels.clone()), position.get_mut(to_lane.channels.clone()))
            && from.len() == to.len()
        {
            to.copy_from_slice(from);
        }
    }
}
