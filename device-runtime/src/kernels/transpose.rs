//! Permutation of the three axes.

use super::check;
use super::params::{Shape, ShapeError};

/// Permutes the axes h, w, c: axis `i` of the output is axis `perm[i]` of the input.
///
/// # Errors
/// [`ShapeError::Geometry`] if `perm` is not a permutation of 0, 1, 2; a [`ShapeError`] that names the slice whose length
/// does not match `input_shape`.
pub fn transpose_s8(input_shape: Shape, perm: [u8; 3], input: &[i8], output: &mut [i8]) -> Result<(), ShapeError> {
    check::shape(input_shape, input.len(), ShapeError::Input)?;
    check::shape(input_shape, output.len(), ShapeError::Output)?;
    let [h, w, c] = [input_shape.h, input_shape.w, input_shape.c].map(usize::from);
    let axes = [(h, w * c), (w, c), (c, 1)];
    let seen = perm.iter().fold(0u32, |seen, &axis| seen | 1u32.wrapping_shl(u32::from(axis)));
    let [Some(&outer), Some(&middle), Some(&inner)] = perm.map(|axis| axes.get(usize::from(axis))) else {
        return Err(ShapeError::Geometry);
    };
    check::require(seen == 0b111, ShapeError::Geometry)?;

    let mut outputs = output.iter_mut();
    for i in 0..outer.0 {
        for j in 0..middle.0 {
            let row = input.get(i * outer.1 + j * middle.1..).unwrap_or(&[]);
            for (&x, y) in row.iter().step_by(inner.1.max(1)).take(inner.0).zip(&mut outputs) {
                *y = x;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permutation_puts_each_element_at_its_permuted_index() {
        let shape = Shape::new(2, 3, 4);
        let input: Vec<i8> = (0..24).collect();
        let extents = [2usize, 3, 4];
        for perm in [[0u8, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut output = [0; 24];
            assert_eq!(transpose_s8(shape, perm, &input, &mut output), Ok(()));
            let [_, n1, n2] = perm.map(|axis| extents[usize::from(axis)]);
            for (i, &got) in output.iter().enumerate() {
                let position = [i / (n1 * n2), i / n2 % n1, i % n2];
                let mut source = [0; 3];
                for (axis, index) in perm.iter().zip(position) {
                    source[usize::from(*axis)] = index;
                }
                assert_eq!(got, input[(source[0] * 3 + source[1]) * 4 + source[2]], "{perm:?} {position:?}");
            }
        }
    }

    #[test]
    fn a_list_that_is_not_a_permutation_is_refused() {
        for perm in [[0, 0, 1], [0, 1, 3], [1, 2, 2], [0, 1, 255]] {
            assert_eq!(transpose_s8(Shape::new(1, 1, 1), perm, &[0], &mut [0]), Err(ShapeError::Geometry), "{perm:?}");
        }
    }
}
