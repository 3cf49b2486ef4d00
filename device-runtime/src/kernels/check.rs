//! Argument checks, done once at the top of every operator.

use super::params::{Conv2d, Pool2d, Requant, Shape, ShapeError, Window};

/// `Ok` if `ok`, else `error`.
pub fn require(ok: bool, error: ShapeError) -> Result<(), ShapeError> {
    if ok { Ok(()) } else { Err(error) }
}

/// A slice of `len` elements holds exactly `shape`.
pub fn shape(shape: Shape, len: usize, error: ShapeError) -> Result<(), ShapeError> {
    require(shape.elements() == len as u64, error)
}

/// Extents of a window that can be walked.
pub fn window(window: &Window) -> Result<(), ShapeError> {
    let Window { kernel, stride, dilation, .. } = *window;
    let area = |[rows, columns]: [u8; 2]| u32::from(rows) * u32::from(columns);
    require(area(kernel) * area(stride) != 0 && area(dilation) != 0, ShapeError::Geometry)
}

/// Slices that hold exactly their shapes, which are not empty.
fn tensors(from: Shape, to: Shape, input: &[i8], output: &[i8]) -> Result<(), ShapeError> {
    shape(from, input.len(), ShapeError::Input)?;
    shape(to, output.len(), ShapeError::Output)?;
    require(!input.is_empty() && !output.is_empty(), ShapeError::Geometry)
}

/// A pooling step and its slices.
pub fn pool(p: &Pool2d, input: &[i8], output: &[i8]) -> Result<(), ShapeError> {
    window(&p.window)?;
    require(p.input.c == p.output.c, ShapeError::Geometry)?;
    tensors(p.input, p.output, input, output)
}

/// A convolution of any grouping and its slices.
pub fn conv(p: &Conv2d, q: &Requant<'_>, input: &[i8], weights: &[i8], output: &[i8]) -> Result<(), ShapeError> {
    constants(p, q, weights)?;
    tensors(p.input, p.output, input, output)
}

/// A convolution of any grouping and its constants; either shape may be empty.
#[inline(always)]
pub fn constants(p: &Conv2d, q: &Requant<'_>, weights: &[i8]) -> Result<(), ShapeError> {
    window(&p.window)?;
    let divides = |channels: u16| channels.checked_rem(p.groups) == Some(0);
    require(divides(p.input.c) && divides(p.output.c), ShapeError::Geometry)?;
    require(p.taps() as u64 * u64::from(p.output.c) == weights.len() as u64, ShapeError::Weights)?;

    let channels = usize::from(p.output.c);
    let tables = q.bias.len() >= channels && q.multiplier.len() >= channels && q.shift.len() >= channels;
    require(tables, ShapeError::Table)
}

/// Scratch of a convolution, cut to the bytes it may use.
///
/// Call after [`conv`], which bounds the number of taps by the length of a slice.
pub fn scratch<'a>(p: &Conv2d, scratch: &'a mut [u8]) -> Result<&'a mut [u8], ShapeError> {
    require(p.taps() < usize::MAX / 8, ShapeError::Scratch)?;
    let scratch = scratch.get_mut(..p.scratch_bytes()).ok_or(ShapeError::Scratch)?;
    require(scratch.as_ptr().align_offset(4) == 0, ShapeError::Scratch)?;
    Ok(scratch)
}
