//! A plan as a sequence of pieces that fit the window.

use core::ops::Range;

use super::cut::Cut;
use super::{StreamError, StreamNeeds};
use crate::bundle::{Bundle, Op, PlacedStep, Plan, Steps};
use crate::exec::ARENA_ALIGN;
use crate::exec::dispatch::{TABLE_ENTRIES, value_bytes};

/// A step, some output channels of a convolution, or some positions of an addition of constants.
#[derive(Debug, Clone)]
pub struct Piece {
    pub placed: PlacedStep,
    /// Output channels to compute, or positions of an addition of constants; all of them unless the step was cut.
    pub channels: Range<usize>,
}

impl Piece {
    /// True if something must be loaded first.
    pub fn has_constants(&self) -> bool {
        step_constant_bytes(&self.placed.step.op) > 0
    }

    /// True if it is the whole step.
    pub fn is_whole(&self) -> bool {
        self.is_first() && self.is_last()
    }

    /// True if the step begins with it.
    pub fn is_first(&self) -> bool {
        self.channels.start == 0
    }

    /// True if the step ends with it.
    pub fn is_last(&self) -> bool {
        self.channels.end == units(&self.placed.step.op)
    }
}

/// Walks through the pieces of a plan.
pub struct Pieces<'b> {
    steps: Steps<'b>,
    window_bytes: usize,
    /// The step that is being cut, its channels per piece, and the first channel that is left.
    current: Option<(PlacedStep, usize, usize)>,
}

impl<'b> Pieces<'b> {
    /// The pieces of `plan` in a window, or half a window, of this size.
    pub fn new(bundle: &Bundle<'b>, plan: &Plan<'b>, window_bytes: usize) -> Self {
        Self { steps: bundle.steps_of(plan), window_bytes, current: None }
    }

    /// The next piece; `None` after the last.
    pub fn next(&mut self) -> Result<Option<Piece>, StreamError> {
        let (placed, most, first) = match self.current.take() {
            Some(current) => current,
            None => {
                let Some(placed) = self.steps.next() else { return Ok(None) };
                let most = self.channels_per_piece(&placed)?;
                (placed, most, 0)
            }
        };
        let all = units(&placed.step.op);
        let channels = match Cut::of(&placed.step.op) {
            Some(cut) => cut.range_at(first, most),
            None => first..first.saturating_add(most).min(all),
        };
        if channels.end < all {
            self.current = Some((placed.clone(), most, channels.end));
        }
        Ok(Some(Piece { placed, channels }))
    }

    /// The next piece that has constants.
    pub fn next_with_constants(&mut self) -> Result<Option<Piece>, StreamError> {
        while let Some(piece) = self.next()? {
            if piece.has_constants() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn channels_per_piece(&self, placed: &PlacedStep) -> Result<usize, StreamError> {
        let op = &placed.step.op;
        let most = match Cut::of(op) {
            // Every piece takes the whole input.
            _ if placed.is_over_input() && step_constant_bytes(op) > self.window_bytes => 0,
            Some(cut) => cut.most_channels(self.window_bytes),
            None if step_constant_bytes(op) <= self.window_bytes => units(op),
            None => match op {
                Op::AddConstant { shape, .. } => self.window_bytes / usize::from(shape.c).max(1),
                _ => 0,
            },
        };
        if most > 0 {
            return Ok(most);
        }
        let clip = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Err(StreamError::WindowTooSmall { need_bytes: clip(least_bytes(placed)), have_bytes: clip(self.window_bytes) })
    }
}

/// What a step can be cut into: positions of an addition of constants, else output channels.
fn units(op: &Op) -> usize {
    match op {
        Op::AddConstant { shape, .. } => shape.positions(),
        _ => usize::from(op.output().c),
    }
}

/// Bytes of constants of a piece of a step other than a convolution.
pub fn constant_bytes(piece: &Piece) -> usize {
    match &piece.placed.step.op {
        Op::AddConstant { shape, .. } => piece.channels.len().saturating_mul(usize::from(shape.c)),
        op => step_constant_bytes(op),
    }
}

/// Bytes of constants of a whole step.
pub fn step_constant_bytes(op: &Op) -> usize {
    match op {
        Op::Lut { .. } => TABLE_ENTRIES,
        Op::Softmax { .. } => 4 * TABLE_ENTRIES,
        Op::LayerNorm { shape, .. } => 8 * usize::from(shape.c),
        Op::AddConstant { .. } | Op::Concat { .. } => value_bytes(op),
        _ => Cut::of(op).map_or(0, |cut| cut.constant_bytes(cut.channels())),
    }
}

/// Smallest window for a step.
fn least_bytes(placed: &PlacedStep) -> usize {
    let op = &placed.step.op;
    let whole = step_constant_bytes(op);
    if placed.is_over_input() {
        return whole;
    }
    if let Op::AddConstant { shape, .. } = op {
        return usize::from(shape.c);
    }
    Cut::of(op).map_or(whole, |cut| cut.window_bytes(cut.least_channels()).min(whole))
}

/// Bytes that a step reads from storage.
fn read_bytes(op: &Op) -> u64 {
    match Cut::of(op) {
        // Bias, multiplier and shift take nine bytes; what aligns them in the window is not read.
        Some(cut) => (cut.taps as u64).saturating_add(9).saturating_mul(cut.channels() as u64),
        None => step_constant_bytes(op) as u64,
    }
}

/// Bytes of each half of a window of this size.
pub const fn half_bytes(window_bytes: usize) -> usize {
    window_bytes / 2 / ARENA_ALIGN * ARENA_ALIGN
}

/// What streaming a plan takes, in one window or in halves of one.
pub fn needs(bundle: &Bundle<'_>, plan: &Plan<'_>, overlaps: bool) -> StreamNeeds {
    let (mut least, mut whole, mut read) = (0, 0, 0u64);
    for placed in bundle.steps_of(plan) {
        let op = &placed.step.op;
        least = least_bytes(&placed).max(least);
        whole = step_constant_bytes(op).max(whole);
        read = read.saturating_add(read_bytes(op));
    }
    let window = |bytes: usize| {
        let bytes =
            if overlaps { bytes.saturating_add(ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN * 2 } else { bytes };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    };
    StreamNeeds { least_window_bytes: window(least), whole_window_bytes: window(whole), read_bytes: read }
}
