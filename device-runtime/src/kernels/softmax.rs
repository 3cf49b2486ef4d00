//! Softmax in integers.

use super::check;
use super::params::{Shape, ShapeError};

/// Softmax over the channels of each position. The result has scale 1/256 and zero point -128.
///
/// `table[d]` is `round(2^16 * exp(-d * input scale))` for a value `d` below the largest, so `table[0]` is 2^16. With
/// `e = table[max - x]` and `S` the sum of all `e`, the result is `min(127, floor((256 * e + floor(S / 2)) / S) - 128)`
/// in unsigned 32-bit arithmetic.
///
/// # Errors
/// [`ShapeError::Table`] if `table` has fewer than 256 entries; a [`ShapeError`] that names the slice whose length does not
/// match `shape`.
pub fn softmax_s8(shape: Shape, table: &[i32], input: &[i8], output: &mut [i8]) -> Result<(), ShapeError> {
    check::require(!shape.is_empty(), ShapeError::Geometry)?;
    check::shape(shape, input.len(), ShapeError::Input)?;
    check::shape(shape, output.len(), ShapeError::Output)?;
    let table = table.first_chunk::<256>().ok_or(ShapeError::Table)?;
    let channels = usize::from(shape.c).max(1);
    for (x, y) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let largest = x.iter().fold(i8::MIN, |largest, &x| x.max(largest));
        let exponential = |x: i8| table[usize::from((largest as u8).wrapping_sub(x as u8))] as u32;
        let sum = x.iter().fold(0u32, |sum, &x| sum.wrapping_add(exponential(x))).max(1);
        for (y, &x) in y.iter_mut().zip(x) {
            let scaled = exponential(x).wrapping_mul(256).wrapping_add(sum / 2) / sum;
            *y = (scaled.min(255) as i32 - 128) as i8;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(scale: f64) -> Vec<i32> {
        (0..256).map(|d| (65536.0 * (-f64::from(d) * scale).exp()).round() as i32).collect()
    }

    #[test]
    fn equal_values_share_the_probability() {
        let mut y = [0; 4];
        assert_eq!(softmax_s8(Shape::new(1, 1, 4), &table(0.1), &[5; 4], &mut y), Ok(()));
        assert_eq!(y, [-64; 4]);
    }

    #[test]
    fn a_certain_value_saturates_at_255_of_256() {
        let mut y = [0; 2];
        assert_eq!(softmax_s8(Shape::new(1, 1, 2), &table(1.0), &[127, -128], &mut y), Ok(()));
        assert_eq!(y, [127, -128]);
    }

    #[test]
    fn every_position_has_its_own_sum_and_stays_within_one_step_of_the_real_softmax() {
        let x: [i8; 12] = [0, 10, 20, -100, 127, 126, 125, 0, -128, -128, -127, -126];
        let mut y = [0; 12];
        assert_eq!(softmax_s8(Shape::new(1, 3, 4), &table(0.05), &x, &mut y), Ok(()));
        for (x, y) in x.chunks(4).zip(y.chunks(4)) {
            let e: Vec<f64> = x.iter().map(|&x| (0.05 * f64::from(x)).exp()).collect();
            let sum: f64 = e.iter().sum();
            for (e, &y) in e.iter().zip(y) {
                assert!((e / sum * 256.0 - 128.0 - f64::from(y)).abs() <= 1.0);
            }
        }
    }

    #[test]
    fn a_table_of_zeros_does_not_divide_by_zero() {
        let mut y = [0; 3];
        assert_eq!(softmax_s8(Shape::new(1, 1, 3), &[0; 256], &[1, 2, 3], &mut y), Ok(()));
        assert_eq!(softmax_s8(Shape::new(1, 1, 3), &[0; 255], &[1, 2, 3], &mut y), Err(ShapeError::Table));
    }
}
