//! Steps that write their output over their input, some rows at a time.

use core::ops::Range;

use super::Regions;
use super::dispatch::{Constants, run_apart};
use crate::bundle::{PlacedStep, Rows};
use crate::kernels::{Isa, ShapeError};

/// Runs a step whose output lies partly over its input: as many rows at a time as are written where nothing is read any more,
/// from the first on if the output starts before the input, else from the last on.
///
/// # Errors
/// [`ShapeError::Output`] if not even one row is, or the operator is none that can be computed so.
pub(super) fn run_over_input(
    isa: Isa,
    placed: &PlacedStep,
    constants: &Constants<'_>,
    memory: &mut Regions<'_>,
) -> Result<(), ShapeError> {
    let rows = Rows::of(&placed.step.op).ok_or(ShapeError::Output)?;
    let mut part = placed.clone();
    let mut left = 0..rows.count();
    while !left.is_empty() {
        let next = next_rows(placed, &rows, &left).ok_or(ShapeError::Output)?;
        if placed.output.start < placed.inputs[0].start {
            left.start = next.end
        } else {
            left.end = next.start
        }
        let taken = rows.put_in(next.clone(), &mut part.step.op);
        part.inputs[0] = behind(placed.inputs[0].start, taken);
        part.output = behind(placed.output.start, next.start * rows.bytes()..next.end * rows.bytes());
        run_apart(isa, &part, constants, memory)?;
    }
    Ok(())
}

/// The rows of `left` that are computed next; `None` if there is no room for even one.
fn next_rows(placed: &PlacedStep, rows: &Rows, left: &Range<usize>) -> Option<Range<usize>> {
    let (input, output) = (placed.inputs[0].start, placed.output.start);
    let next = if output < input {
        let room = (input + rows.read_by(left.start).start).checked_sub(output)?;
        left.start..room.checked_div(rows.bytes())?.min(left.end)
    } else {
        let last = left.end.checked_sub(1)?;
        let taken = (input + rows.read_by(last).end).saturating_sub(output);
        taken.checked_add(rows.bytes().checked_sub(1)?)?.checked_div(rows.bytes())?.max(left.start)..left.end
    };
    (!next.is_empty()).then_some(next)
}

/// A range counted from `start`.
const fn behind(start: usize, range: Range<usize>) -> Range<usize> {
    start + range.start..start + range.end
}
