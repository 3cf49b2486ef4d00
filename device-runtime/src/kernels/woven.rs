//! Fully connected layers whose filters are woven in pairs: what processors with 16-bit dual multiply-accumulate read fastest.
//!
//! Tap `k` of the filters `2i` and `2i + 1` is one little-endian 16-bit number, `256 * odd + even`. Pairs lie one after the other;
//! of every four taps, the order is 0, 2, 1, 3, which is how bytes come out of their extension to 16 bits two by two.

#[cfg(any(test, feature = "std"))]
use std::vec::Vec;

use super::check;
use super::isa::Isa;
use super::params::{Conv2d, Requant, ShapeError};

/// The taps of four, in the order in which they are stored, or from there to their own.
const fn in_order<T: Copy>(&[a, b, c, d]: &[T; 4]) -> [T; 4] {
    [a, c, b, d]
}

/// Fully connected layer for one vector: what [`conv2d_s8`](super::conv2d_s8) returns for the filters before they were woven.
///
/// It does so if 128 times the sum of the magnitudes of every odd filter's weights is below 2^23; the sum of any other is taken
/// modulo 2^24. `scratch` may be overwritten.
///
/// # Errors
/// [`ShapeError::Geometry`] if [filters cannot be woven](Conv2d::can_be_woven); otherwise as [`conv2d_s8`](super::conv2d_s8).
pub fn woven_s8(
    isa: Isa,
    p: &Conv2d,
    q: &Requant<'_>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::require(p.can_be_woven(), ShapeError::Geometry)?;
    check::conv(p, q, input, weights, output)?;
    let scratch = check::scratch(p, scratch)?;
    let is_done = match isa {
        #[cfg(arm_dsp)]
        Isa::ArmDsp => super::arm_dsp::woven(p, q, input, weights, scratch, output),
        #[cfg(arm_mve)]
        Isa::ArmMve => super::arm_dsp::woven(p, q, input, weights, scratch, output),
        #[cfg(arm_neon)]
        Isa::ArmNeon => super::arm_dsp::woven(p, q, input, weights, scratch, output),
        _ => {
            let _ = scratch;
            false
        }
    };
    if !is_done {
        plain(p, q, input, weights, output);
    }
    Ok(())
}

/// The definition.
fn plain(p: &Conv2d, q: &Requant<'_>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let pairs = weights.chunks_exact(p.taps().saturating_mul(2).max(1));
    let mut channels = q.channels();
    for (pair, places) in pairs.zip(output.as_chunks_mut::<2>().0) {
        let (mut both, mut even) = (0i32, 0i32);
        for (x, taps) in input.as_chunks::<4>().0.iter().zip(pair.as_chunks::<8>().0) {
            for (&[low, high], x) in taps.as_chunks::<2>().0.iter().zip(in_order(x)) {
                let (x, tap) = (i32::from(x), i16::from_le_bytes([low as u8, high as u8]));
                both = both.wrapping_add(x.wrapping_mul(tap.into()));
                even = even.wrapping_add(x.wrapping_mul(low.into()));
            }
        }
        let odd = both.wrapping_sub(even) >> 8;
        for (place, sum) in places.iter_mut().zip([even, odd]) {
            let Some(channel) = channels.next() else { return };
            *place = channel.requantize(channel.bias.wrapping_add(sum), q.landing);
        }
    }
}

/// `weights`, filters of so many taps, woven in pairs. `None` if there are other numbers of them than
/// [`can_be_woven`](Conv2d::can_be_woven) asks for, if a pair of weights does not fit 16 bits (-128 beside a negative one), or if sums
/// of an odd filter might not fit 24.
#[cfg(any(test, feature = "std"))]
#[must_use]
pub fn woven(weights: &[i8], taps: usize) -> Option<Vec<i8>> {
    if taps == 0 || !taps.is_multiple_of(8) || !weights.len().is_multiple_of(2 * taps) {
        return None;
    }
    let mut bytes = Vec::with_capacity(weights.len());
    for (even, odd) in weights.chunks_exact(2 * taps).map(|pair| pair.split_at(taps)) {
        if !has_small_sums(odd) {
            return None;
        }
        for (even, odd) in even.as_chunks::<4>().0.iter().zip(odd.as_chunks::<4>().0) {
            for (even, odd) in in_order(even).into_iter().zip(in_order(odd)) {
                let tap = i16::try_from(256 * i32::from(odd) + i32::from(even)).ok()?;
                bytes.extend(tap.to_le_bytes().map(|byte| byte as i8));
            }
        }
    }
    Some(bytes)
}

/// The filters of so many taps that are [`woven`] in these bytes; `None` if they are not what that returns for any.
#[cfg(any(test, feature = "std"))]
#[must_use]
pub fn unwoven(bytes: &[i8], taps: usize) -> Option<Vec<i8>> {
    if taps == 0 || !taps.is_multiple_of(8) || !bytes.len().is_multiple_of(2 * taps) {
        return None;
    }
    let mut filters = vec![0; bytes.len()];
    for (pair, filters) in bytes.chunks_exact(2 * taps).zip(filters.chunks_exact_mut(2 * taps)) {
        let (even, odd) = filters.split_at_mut(taps);
        let fours = even.as_chunks_mut::<4>().0.iter_mut().zip(odd.as_chunks_mut::<4>().0);
        for (four, (even, odd)) in pair.as_chunks::<8>().0.iter().zip(fours) {
            for (&[low, high], at) in four.as_chunks::<2>().0.iter().zip(in_order(&[0, 1, 2, 3])) {
                (even[at], odd[at]) = (low, high.checked_add(i8::from(low < 0))?);
            }
        }
        if !has_small_sums(odd) {
            return None;
        }
    }
    Some(filters)
}

/// Whether no sum of a filter's products leaves 24 bits.
#[cfg(any(test, feature = "std"))]
fn has_small_sums(filter: &[i8]) -> bool {
    filter.iter().map(|w| 128 * u64::from(w.unsigned_abs())).sum::<u64>() < 1 << 23
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{Case, weavable};

    fn run(case: &Case, isa: Isa, weights: &[i8]) -> Vec<i8> {
        let mut output = vec![0; case.conv.output.len()];
        let mut scratch = vec![0xA5A5_A5A5u32; case.conv.scratch_bytes() / 4];
        let scratch = bytemuck::cast_slice_mut(&mut scratch);
        woven_s8(isa, &case.conv, &case.requant(), &case.input, weights, scratch, &mut output)
            .expect("the case is consistent");
        output
    }

    #[test]
    fn a_pair_of_filters_is_woven_tap_by_tap() {
        let even: [i8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
        let odd: [i8; 8] = [-10, 20, -30, 40, -50, 60, -70, 80];
        let filters = [even, odd].concat();
        let woven = woven(&filters, 8).expect("they fit");
        assert_eq!(woven[..8], [1, -10, 3, -30, 2, 20, 4, 40]);
        assert_eq!(unwoven(&woven, 8), Some(filters));
    }

    #[test]
    fn filters_that_cannot_be_told_apart_are_not_woven() {
        let filters = |even: i8, odd: i8, taps: usize| [vec![even; taps], vec![odd; taps]].concat();
        assert_eq!(woven(&filters(-1, -128, 8), 8), None);
        assert!(woven(&filters(0, -128, 8), 8).is_some());
        // 128 * 127 * 512 is below 2^23, with eight more taps it is not.
        assert!(woven(&filters(3, 127, 512), 512).is_some());
        assert_eq!(woven(&filters(3, 127, 520), 520), None);
        assert!(woven(&filters(127, 3, 520), 520).is_some());
        assert_eq!(woven(&filters(1, 1, 12), 12), None);
        assert_eq!(woven(&[1; 24], 8), None);
        assert_eq!(woven(&[], 0), None);
        // 256 * 128 - 1.
        assert_eq!(unwoven(&[-1, 127].repeat(8), 8), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn every_variant_returns_what_the_filters_apart_do(case in weavable()) {
            let case = Case { residual: None, ..case };
            let taps = case.conv.taps();
            let want = case.by_definition(|[o, _, _, i]| o * taps + i);
            if let Some(weights) = woven(&case.weights, taps) {
                prop_assert_eq!(unwoven(&weights, taps), Some(case.weights.clone()));
                for &isa in Isa::available() {
                    prop_assert_eq!(run(&case, isa, &weights), &want[..], "{}", isa.name());
                }
            }
            // Any bytes are weights, but not all are filters apart.
            if let Some(filters) = unwoven(&case.weights, taps) {
                prop_assert_eq!(woven(&filters, taps), Some(case.weights.clone()));
            }
            let want = run(&case, Isa::Reference, &case.weights);
            for &isa in Isa::available() {
                prop_assert_eq!(run(&case, isa, &case.weights), &want[..], "{}", isa.name());
            }
        }
    }
}
