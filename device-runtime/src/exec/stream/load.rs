//! Reading the constants of a piece, and finding them in the window.

use super::StreamError;
use super::cut::Cut;
use super::pieces::Piece;
use super::pieces::constant_bytes;
use crate::bundle::check::{check_exponentials, check_requant};
use crate::bundle::{Bundle, ChannelTables, Op, StreamedBundle};
use crate::exec::ExecError;
use crate::exec::dispatch::{Constants, TABLE_ENTRIES};
use crate::kernels::{Requant, ShapeError};
use crate::storage::Source;

/// Reads the constants of `piece` to `window`, and calls `work` while the largest part of them, the weights, is read.
pub fn load<S: Source, R>(
    bundle: &StreamedBundle<'_>,
    source: &mut S,
    piece: &Piece,
    window: &mut [u8],
    work: impl FnOnce() -> R,
) -> Result<R, StreamError> {
    let step = piece.placed.index;
    let failed = |error| StreamError::Storage { step, error };
    let changed = ExecError::Kernel { step, error: ShapeError::Weights };
    let op = &piece.placed.step.op;
    let (offset, to) = match op {
        Op::Lut { table, .. } => (bundle.weight_offset(*table), window.get_mut(..TABLE_ENTRIES)),
        Op::Softmax { table, .. } => (bundle.table_offset(*table), window.get_mut(..4 * TABLE_ENTRIES)),
        Op::LayerNorm { table, .. } => (bundle.table_offset(*table), window.get_mut(..constant_bytes(piece))),
        Op::AddConstant { shape, constants, .. } => {
            let before = piece.channels.start.saturating_mul(usize::from(shape.c)) as u32;
            (bundle.weight_offset(constants.saturating_add(before)), window.get_mut(..constant_bytes(piece)))
        }
        Op::Concat { constants, .. } => (bundle.weight_offset(*constants), window.get_mut(..constant_bytes(piece))),
        Op::Conv2d { weights, tables, .. } | Op::Depthwise { weights, tables, .. } => {
            let cut = Cut::of(op).ok_or(changed)?;
            let loader = ChannelLoader { bundle, piece, cut: &cut, weights: *weights, tables };
            loader.read_tables(source, window).ok_or(changed)?.map_err(failed)?;
            return loader.read_weights(source, window, work).ok_or(changed)?.map_err(failed);
        }
        _ => return Ok(work()),
    };
    source.read_while(offset, to.ok_or(changed)?, work).map_err(failed)
}

/// Reads some channels of a convolution. Its functions return `None` if the window is too small.
struct ChannelLoader<'l, 'b> {
    bundle: &'l StreamedBundle<'b>,
    piece: &'l Piece,
    cut: &'l Cut<'l>,
    weights: u32,
    tables: &'l ChannelTables,
}

type Read<R> = Option<Result<R, crate::storage::StorageError>>;

impl ChannelLoader<'_, '_> {
    fn read_tables(&self, source: &mut impl Source, window: &mut [u8]) -> Read<()> {
        let room = self.cut.room(self.piece.channels.len());
        let first = self.piece.channels.start as u32;
        let at = |index: u32| self.bundle.table_offset(index.saturating_add(first));
        let (bias, multiplier) = (at(self.tables.bias), at(self.tables.multiplier));
        let shift = self.bundle.shift_offset(self.tables.shift.saturating_add(first));
        let adjacent = bias.checked_add(room.bias.len() as u32) == Some(multiplier);
        let reads = if adjacent {
            [(bias, room.bias.start..room.multiplier.end), (0, 0..0), (shift, room.shift)]
        } else {
            [(bias, room.bias), (multiplier, room.multiplier), (shift, room.shift)]
        };
        for (offset, range) in reads {
            if range.is_empty() {
                continue;
            }
            if let Err(error) = source.read(offset, window.get_mut(range)?) {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    /// The weights of a range of channels are adjacent, except in a depthwise convolution: there a run per tap.
    fn read_weights<R>(&self, source: &mut impl Source, window: &mut [u8], work: impl FnOnce() -> R) -> Read<R> {
        let channels = &self.piece.channels;
        let window = window.get_mut(self.cut.room(channels.len()).weights)?;
        let weights = self.bundle.weight_offset(self.weights);
        if !self.cut.is_depthwise || self.piece.is_whole() {
            let before = channels.start.saturating_mul(self.cut.taps) as u32;
            return Some(source.read_while(weights.saturating_add(before), window, work));
        }
        let run =
            |tap: usize| weights.saturating_add((tap.saturating_mul(self.cut.channels()) + channels.start) as u32);
        let last = self.cut.taps.checked_sub(1)?;
        let mut runs = window.chunks_exact_mut(channels.len().max(1));
        for tap in 0..last {
            if let Err(error) = source.read(run(tap), runs.next()?) {
                return Some(Err(error));
            }
        }
        Some(source.read_while(run(last), runs.next()?, work))
    }
}

/// A piece's constants, and the rest of the window.
pub struct Loaded<'w> {
    pub constants: Constants<'w>,
    pub staging: &'w mut [i8],
}

/// Finds the constants of `piece` in `window`, which [`load`] has filled, and checks their ranges.
pub fn loaded<'w>(bundle: &Bundle<'_>, piece: &Piece, window: &'w mut [u8]) -> Result<Loaded<'w>, StreamError> {
    let step = piece.placed.index;
    let changed = ExecError::Kernel { step, error: ShapeError::Table };
    let damaged = |_| StreamError::Constants { step };
    let op = &piece.placed.step.op;
    let constants = match op {
        Op::Lut { .. } => {
            let table = window.get(..TABLE_ENTRIES).ok_or(changed)?;
            Constants::Lut(bytemuck::cast_slice(table))
        }
        Op::Softmax { .. } => {
            let table = window.get(..4 * TABLE_ENTRIES).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok());
            let table = table.ok_or(changed)?;
            check_exponentials(table).map_err(damaged)?;
            Constants::Exponentials(table)
        }
        Op::LayerNorm { .. } => {
            let table = window.get(..constant_bytes(piece)).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok());
            Constants::Norm(table.ok_or(changed)?)
        }
        Op::AddConstant { .. } | Op::Concat { .. } => {
            Constants::Values(bytemuck::cast_slice(window.get(..constant_bytes(piece)).ok_or(changed)?))
        }
        Op::Conv2d { tables, .. } | Op::Depthwise { tables, .. } => {
            let cut = Cut::of(op).ok_or(changed)?;
            let room = cut.room(piece.channels.len());
            let (constants, staging) = window.split_at_mut_checked(room.shift.end).ok_or(changed)?;
            let constants: &'w [u8] = constants;
            let words = |range| constants.get(range).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok());
            let requant = Requant {
                bias: words(room.bias).ok_or(changed)?,
                multiplier: words(room.multiplier).ok_or(changed)?,
                shift: constants.get(room.shift).ok_or(changed)?,
                landing: tables.landing,
            };
            check_requant(&requant).map_err(damaged)?;
            let weights = bytemuck::cast_slice(constants.get(room.weights).ok_or(changed)?);
            let constants = Constants::of_channels(bundle, step, weights, requant);
            return Ok(Loaded { constants, staging: bytemuck::cast_slice_mut(staging) });
        }
        _ => Constants::None,
    };
    Ok(Loaded { constants, staging: &mut [] })
}
