//! Addition and table lookup, element by element.

use super::isa::Isa;
use super::params::{Add, ShapeError};
use super::{check, reference};

/// Integer addition of two tensors of any shape, `output[i] = add.apply(a[i], b[i])`.
///
/// # Errors
/// [`ShapeError::SecondInput`] or [`ShapeError::Output`] if a length differs from that of `a`.
pub fn add_s8(isa: Isa, add: &Add, a: &[i8], b: &[i8], output: &mut [i8]) -> Result<(), ShapeError> {
    check::require(a.len() == b.len(), ShapeError::SecondInput)?;
    check::require(a.len() == output.len(), ShapeError::Output)?;
    match isa {
        #[cfg(arm_dsp)]
        Isa::ArmDsp => super::arm_dsp::add(add, a, b, output),
        #[cfg(arm_mve)]
        Isa::ArmMve => super::arm_mve::add(add, a, b, output),
        #[cfg(arm_neon)]
        Isa::ArmNeon if super::isa::arm_neon_is_present() => super::armv7_neon::add(add, a, b, output),
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => super::neon::add(add, a, b, output),
        _ => reference::add(add, a, b, output),
    }
    Ok(())
}

/// [`add_s8`] whose result replaces the first operand: `a[i] = add.apply(a[i], b[i])`.
///
/// # Errors
/// [`ShapeError::SecondInput`] if the lengths differ.
pub fn add_in_place_s8(isa: Isa, add: &Add, a_and_output: &mut [i8], b: &[i8]) -> Result<(), ShapeError> {
    check::require(a_and_output.len() == b.len(), ShapeError::SecondInput)?;
    match isa {
        #[cfg(arm_dsp)]
        Isa::ArmDsp => super::arm_dsp::add_in_place(add, a_and_output, b),
        #[cfg(arm_mve)]
        Isa::ArmMve => super::arm_mve::add_in_place(add, a_and_output, b),
        #[cfg(arm_neon)]
        Isa::ArmNeon if super::isa::arm_neon_is_present() => super::armv7_neon::add_in_place(add, a_and_output, b),
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => super::neon::add_in_place(add, a_and_output, b),
        _ => reference::add_in_place(add, a_and_output, b),
    }
    Ok(())
}

/// Replaces every value by its table entry, `output[i] = table[input[i] as u8]`. Activation functions are such tables.
///
/// # Errors
/// [`ShapeError::Table`] if `table` has fewer than 256 entries, [`ShapeError::Output`] if the lengths differ.
pub fn lut_s8(table: &[i8], input: &[i8], output: &mut [i8]) -> Result<(), ShapeError> {
    let table = table.first_chunk::<256>().ok_or(ShapeError::Table)?;
    check::require(input.len() == output.len(), ShapeError::Output)?;
    #[cfg(neon)]
    super::neon::lut(table, input, output);
    for (y, &x) in output.iter_mut().zip(input).skip(in_vectors(input.len())) {
        *y = table[usize::from(x as u8)];
    }
    Ok(())
}

/// [`lut_s8`] over its own input.
///
/// # Errors
/// [`ShapeError::Table`] if `table` has fewer than 256 entries.
pub fn lut_in_place_s8(table: &[i8], values: &mut [i8]) -> Result<(), ShapeError> {
    let table = table.first_chunk::<256>().ok_or(ShapeError::Table)?;
    #[cfg(neon)]
    super::neon::lut_in_place(table, values);
    let done = in_vectors(values.len());
    for x in values.iter_mut().skip(done) {
        *x = table[usize::from(*x as u8)];
    }
    Ok(())
}

/// How many of so many values are looked up in vectors.
const fn in_vectors(values: usize) -> usize {
    if cfg!(neon) { values & !15 } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::addition;
    use super::*;

    #[test]
    fn addition_rounds_half_up_and_clamps() {
        // (a + b + 1) >> 1, clamped to -100..=100.
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 1, shift: 1, lo: -100, hi: 100 };
        let (a, b) = ([3, -3, 127, -128, 0], [0, 0, 127, -128, -1]);
        let want = [2, -1, 100, -100, 0];
        for &isa in Isa::available() {
            let mut out = [0; 5];
            assert_eq!(add_s8(isa, &add, &a, &b, &mut out), Ok(()));
            assert_eq!(out, want, "{}", isa.name());
            let mut out = a;
            assert_eq!(add_in_place_s8(isa, &add, &mut out, &b), Ok(()));
            assert_eq!(out, want, "{}", isa.name());
        }
    }

    proptest! {
        #[test]
        fn every_variant_adds_as_one_pair_is_added(
            add in addition(),
            pairs in prop::collection::vec((any::<i8>(), any::<i8>()), 0..80),
        ) {
            let (a, b): (Vec<i8>, Vec<i8>) = pairs.into_iter().unzip();
            let want: Vec<i8> = a.iter().zip(&b).map(|(&a, &b)| add.apply(a, b)).collect();
            for &isa in Isa::available() {
                let mut output = vec![0; a.len()];
                prop_assert_eq!(add_s8(isa, &add, &a, &b, &mut output), Ok(()));
                prop_assert_eq!(&output, &want, "{}", isa.name());
                let mut output = a.clone();
                prop_assert_eq!(add_in_place_s8(isa, &add, &mut output, &b), Ok(()));
                prop_assert_eq!(&output, &want, "{} in place", isa.name());
            }
        }
    }

    #[test]
    fn the_first_operand_takes_the_first_multiplier() {
        let add = Add { a_multiplier: 4, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        let mut out = [0];
        assert_eq!(add_s8(Isa::Reference, &add, &[10], &[2], &mut out), Ok(()));
        assert_eq!(out, [21]);
    }

    #[test]
    fn a_table_is_indexed_by_the_bits_of_the_value() {
        let table: Vec<i8> = (0..256).map(|i| (255 - i) as u8 as i8).collect();
        let mut out = [0; 4];
        assert_eq!(lut_s8(&table, &[0, 1, -1, -128], &mut out), Ok(()));
        assert_eq!(out, [-1, -2, 0, 127]);
        assert_eq!(lut_in_place_s8(&table, &mut out), Ok(()));
        assert_eq!(out, [0, 1, -1, -128]);
    }

    #[test]
    fn every_value_has_its_entry() {
        let table: Vec<i8> = (0..256).map(|i| (i * 37 + 11) as u8 as i8).collect();
        let values: Vec<i8> = (0..=300).map(|i| i as u8 as i8).collect();
        let want: Vec<i8> = values.iter().map(|&x| table[usize::from(x as u8)]).collect();
        for len in [0, 1, 15, 16, 17, 256, 301] {
            let (mut out, mut in_place) = (vec![0; len], values[..len].to_vec());
            assert_eq!(lut_s8(&table, &values[..len], &mut out), Ok(()));
            assert_eq!(lut_in_place_s8(&table, &mut in_place), Ok(()));
            assert_eq!((&out[..], &in_place[..]), (&want[..len], &want[..len]));
        }
    }

    #[test]
    fn unequal_lengths_are_refused() {
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        assert_eq!(add_s8(Isa::best(), &add, &[0; 3], &[0; 2], &mut [0; 3]), Err(ShapeError::SecondInput));
        assert_eq!(add_s8(Isa::best(), &add, &[0; 3], &[0; 3], &mut [0; 2]), Err(ShapeError::Output));
        assert_eq!(add_in_place_s8(Isa::best(), &add, &mut [0; 3], &[0; 4]), Err(ShapeError::SecondInput));
        assert_eq!(lut_s8(&[0; 255], &[0], &mut [0]), Err(ShapeError::Table));
        assert_eq!(lut_s8(&[0; 256], &[0], &mut [0; 2]), Err(ShapeError::Output));
    }
}
