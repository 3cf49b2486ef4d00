//! Copies: a part of a tensor, and constant tokens around one.

use super::check;
use super::params::{Shape, ShapeError};

/// Copies the part of `input` that starts at `first` (rows, columns, channels) and has the extents of `output`.
///
/// # Errors
/// [`ShapeError::Geometry`] if the part leaves the input; a [`ShapeError`] that names the slice whose length does not match
/// its shape.
pub fn slice_s8(
    input_shape: Shape,
    first: [u16; 3],
    output_shape: Shape,
    input: &[i8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::shape(input_shape, input.len(), ShapeError::Input)?;
    check::shape(output_shape, output.len(), ShapeError::Output)?;
    check::require(is_inside(input_shape, first, output_shape), ShapeError::Geometry)?;
    let [row, column, channel] = first.map(usize::from);
    let [columns, channels] = [input_shape.w, input_shape.c].map(usize::from);
    let [rows_out, columns_out, channels_out] = [output_shape.h, output_shape.w, output_shape.c].map(usize::from);
    let mut runs = output.chunks_exact_mut(channels_out.max(1));
    for y in 0..rows_out {
        for x in 0..columns_out {
            let start = ((row + y) * columns + column + x) * channels + channel;
            let (Some(run), Some(from)) = (runs.next(), input.get(start..start.wrapping_add(channels_out))) else {
                return Ok(());
            };
            run.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
        }
    }
    Ok(())
}

/// Whether a part of these extents that starts at `first` lies inside `whole`.
#[must_use]
pub(crate) fn is_inside(whole: Shape, first: [u16; 3], part: Shape) -> bool {
    let axes = [(whole.h, part.h), (whole.w, part.w), (whole.c, part.c)];
    axes.into_iter().zip(first).all(|((whole, part), first)| u32::from(first) + u32::from(part) <= u32::from(whole))
}

/// Puts constants before and after the values: `output` is the first `before` bytes of `constants`, `input`, and the rest of
/// `constants`. Tokens are rows of bytes, so that a class token is such a constant.
///
/// # Errors
/// [`ShapeError::Weights`] if `constants` has fewer than `before` bytes, [`ShapeError::Output`] if `output` does not have
/// exactly the bytes of both.
pub fn concat_s8(before: usize, constants: &[i8], input: &[i8], mut output: &mut [i8]) -> Result<(), ShapeError> {
    let (before, after) = constants.split_at_checked(before).ok_or(ShapeError::Weights)?;
    check::require(constants.len().checked_add(input.len()) == Some(output.len()), ShapeError::Output)?;
    for part in [before, input, after] {
        let (places, rest) = output.split_at_mut_checked(part.len()).ok_or(ShapeError::Output)?;
        places.iter_mut().zip(part).for_each(|(to, &from)| *to = from);
        output = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_the_order_of_its_elements() {
        let input: Vec<i8> = (0..24).collect();
        let mut output = [0; 4];
        let done = slice_s8(Shape::new(2, 3, 4), [0, 1, 2], Shape::new(2, 2, 1), &input, &mut output);
        assert_eq!((done, output), (Ok(()), [6, 10, 18, 22]));
    }

    #[test]
    fn a_part_outside_is_refused() {
        let input = [0; 24];
        for first in [[1, 0, 0], [0, 2, 0], [0, 0, 4], [u16::MAX; 3]] {
            let done = slice_s8(Shape::new(2, 3, 4), first, Shape::new(2, 2, 1), &input, &mut [0; 4]);
            assert_eq!(done, Err(ShapeError::Geometry), "{first:?}");
        }
    }

    #[test]
    fn constants_enclose_the_values() {
        let mut output = [0; 5];
        assert_eq!(concat_s8(2, &[1, 2, 5], &[3, 4], &mut output), Ok(()));
        assert_eq!(output, [1, 2, 3, 4, 5]);
        assert_eq!(concat_s8(4, &[1, 2, 5], &[3, 4], &mut output), Err(ShapeError::Weights));
        assert_eq!(concat_s8(1, &[1, 2, 5], &[3], &mut output), Err(ShapeError::Output));
    }
}
