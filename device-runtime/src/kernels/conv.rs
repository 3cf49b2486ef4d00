//! Convolutions: argument checks and choice of variant.

use super::isa::Isa;
use super::params::{Add, Conv2d, Requant, ShapeError};
use super::{check, reference};

/// 2-D convolution over HWC activations with OHWI weights, any stride, padding, dilation and grouping.
///
/// `output = requantize(bias + sum(x * w))` per output channel; taps outside the input read [`Conv2d::pad_value`].
/// With `residual` the output holds the second operand of an addition beforehand and receives
/// `residual.apply(requantized, output)`. `scratch` may be overwritten.
///
/// # Errors
/// A [`ShapeError`] that names the argument whose length does not match `p`; [`ShapeError::Scratch`] if `scratch` is
/// shorter than [`Conv2d::scratch_bytes`] or not aligned to 4 bytes. `output` is then untouched.
#[allow(clippy::too_many_arguments)]
pub fn conv2d_s8(
    isa: Isa,
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::conv(p, q, input, weights, output)?;
    let scratch = check::scratch(p, scratch)?;
    match isa {
        #[cfg(portable)]
        Isa::Portable => super::portable::conv2d(p, q, residual, input, weights, scratch, output),
        #[cfg(arm_dsp)]
        Isa::ArmDsp => super::arm_dsp::conv2d(p, q, residual, input, weights, scratch, output),
        #[cfg(arm_mve)]
        Isa::ArmMve => super::arm_mve::conv2d(p, q, residual, input, weights, scratch, output),
        #[cfg(arm_neon)]
        Isa::ArmNeon if super::isa::arm_neon_is_present() => {
            super::armv7_neon::conv2d(p, q, residual, input, weights, scratch, output);
        }
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => {
            let level = super::isa::neon_level(isa);
            super::neon::conv2d(level, p, q, residual, input, weights, scratch, output);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni if super::isa::vnni_is_present() => {
            // SAFETY: the instructions are present.
            unsafe { super::vnni::conv2d(p, q, residual, input, weights, scratch, output) };
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if super::isa::avx2_is_present() => {
            super::avx2::conv2d(p, q, residual, input, weights, scratch, output);
        }
        _ => {
            let _ = scratch;
            reference::conv2d(p, q, residual, input, weights, output);
        }
    }
    Ok(())
}

/// Depthwise convolution: one filter per channel, weights `[kernel rows][kernel columns][channels]`.
///
/// Arithmetic and `residual` as in [`conv2d_s8`]. Needs no scratch.
///
/// # Errors
/// [`ShapeError::Geometry`] unless groups, input channels and output channels are equal; otherwise as [`conv2d_s8`].
pub fn depthwise_s8(
    isa: Isa,
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::require(p.groups == p.input.c && p.groups == p.output.c, ShapeError::Geometry)?;
    check::conv(p, q, input, weights, output)?;
    match isa {
        #[cfg(portable)]
        Isa::Portable => super::portable::depthwise(p, q, residual, input, weights, output),
        #[cfg(arm_dsp)]
        Isa::ArmDsp => super::arm_dsp::depthwise(p, q, residual, input, weights, output),
        #[cfg(arm_mve)]
        Isa::ArmMve => super::arm_mve::depthwise(p, q, residual, input, weights, output),
        #[cfg(arm_neon)]
        Isa::ArmNeon if super::isa::arm_neon_is_present() => {
            super::armv7_neon::depthwise(p, q, residual, input, weights, output);
        }
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => {
            super::neon::depthwise(super::isa::neon_level(isa), p, q, residual, input, weights, output);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni if super::isa::vnni_is_present() => {
            // SAFETY: the instructions are present.
            unsafe { super::vnni::depthwise(p, q, residual, input, weights, output) };
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if super::isa::avx2_is_present() => super::avx2::depthwise(p, q, residual, input, weights, output),
        _ => reference::depthwise(p, q, residual, input, weights, output),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::params::{Landing, Shape, Window};
    use super::super::testing::{
        Case, convolutions, depthwise_convolutions, depthwise_of_networks, fully_connected, pointwise_of_networks,
        pointwise_of_other_extents,
    };
    use super::*;

    const WIDE: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };
    const THREE: Window = Window { kernel: [3, 3], stride: [1, 1], pad: [1, 1], dilation: [1, 1] };

    /// Multiplier 2^30 and shift 30: the accumulator itself.
    fn identity(conv: Conv2d, input: Vec<i8>, weights: Vec<i8>) -> Case {
        let channels = usize::from(conv.output.c);
        Case {
            conv,
            landing: WIDE,
            residual: None,
            input,
            weights,
            bias: vec![0; channels],
            multiplier: vec![1 << 30; channels],
            shift: vec![30; channels],
            held: vec![0; conv.output.len()],
        }
    }

    fn square(n: u16, window: Window, pad_value: i8) -> Conv2d {
        let shape = Shape::new(n, n, 1);
        Conv2d { input: shape, output: shape, window, groups: 1, pad_value }
    }

    #[test]
    fn taps_outside_read_the_pad_value() {
        let mut case = identity(square(2, THREE, 5), vec![1, 2, 3, 4], vec![1; 9]);
        case.bias = vec![-10];
        for &isa in Isa::available() {
            // Ten of inside taps, five taps outside at 5, bias -10.
            assert_eq!(case.conv2d(isa), [25; 4], "{}", isa.name());
            assert_eq!(case.depthwise(isa), [25; 4], "{}", isa.name());
        }
    }

    #[test]
    fn weights_are_ohwi() {
        let shape = Shape::new(1, 2, 2);
        let window = Window { kernel: [1, 2], ..Window::POINT };
        let conv = Conv2d { input: shape, output: Shape::new(1, 1, 3), window, groups: 1, pad_value: 0 };
        let weights = vec![1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1];
        let case = identity(conv, vec![10, 20, 30, 40], weights);
        for &isa in Isa::available() {
            assert_eq!(case.conv2d(isa), [10, 20, 70], "{}", isa.name());
        }
    }

    #[test]
    fn groups_see_their_own_channels() {
        let shape = Shape::new(1, 1, 4);
        let conv = Conv2d { input: shape, output: shape, window: Window::POINT, groups: 2, pad_value: 0 };
        let case = identity(conv, vec![1, 2, 3, 4], vec![1, 10, 10, 1, 1, 10, 10, 1]);
        for &isa in Isa::available() {
            assert_eq!(case.conv2d(isa), [21, 12, 43, 34], "{}", isa.name());
        }
    }

    #[test]
    fn the_residual_adds_to_what_the_output_held() {
        let mut case = identity(square(1, Window::POINT, 0), vec![7], vec![3]);
        // (4 * conv + 2 * held) >> 1
        case.residual = Some(Add { a_multiplier: 4, b_multiplier: 2, offset: 0, shift: 1, lo: -128, hi: 127 });
        case.held = vec![5];
        for &isa in Isa::available() {
            assert_eq!(case.conv2d(isa), [47], "{}", isa.name());
            assert_eq!(case.depthwise(isa), [47], "{}", isa.name());
        }
    }

    #[test]
    fn arguments_that_do_not_match_the_geometry_are_refused() {
        let case = identity(square(2, THREE, 0), vec![0; 4], vec![0; 9]);
        let q = case.requant();
        let short = Requant { shift: &[], ..q };
        let none = Conv2d { groups: 0, ..case.conv };
        let many = Conv2d { groups: 2, ..case.conv };
        let still = Conv2d { window: Window { dilation: [1, 0], ..THREE }, ..case.conv };
        let words = &mut [0u32; 32];
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(words);
        let (x, w) = (case.input.as_slice(), case.weights.as_slice());
        for &isa in Isa::available() {
            let call = |p: &Conv2d, q: &Requant<'_>, x: &[i8], w: &[i8], scratch: &mut [u8], len: usize| {
                conv2d_s8(isa, p, q, None, x, w, scratch, &mut [0; 8][..len])
            };
            assert_eq!(call(&case.conv, &q, x, w, scratch, 4), Ok(()));
            assert_eq!(call(&case.conv, &q, &x[1..], w, scratch, 4), Err(ShapeError::Input));
            assert_eq!(call(&case.conv, &q, x, &w[1..], scratch, 4), Err(ShapeError::Weights));
            assert_eq!(call(&case.conv, &q, x, w, scratch, 5), Err(ShapeError::Output));
            assert_eq!(call(&case.conv, &short, x, w, scratch, 4), Err(ShapeError::Table));
            assert_eq!(call(&none, &q, x, w, scratch, 4), Err(ShapeError::Geometry));
            assert_eq!(call(&many, &q, x, w, scratch, 4), Err(ShapeError::Geometry));
            assert_eq!(call(&still, &q, x, w, scratch, 4), Err(ShapeError::Geometry));
            assert_eq!(call(&case.conv, &q, x, w, &mut scratch[1..], 4), Err(ShapeError::Scratch));
            assert_eq!(call(&case.conv, &q, x, w, &mut scratch[..92], 4), Err(ShapeError::Scratch));
            let pair = Conv2d { input: Shape::new(1, 1, 2), output: Shape::new(1, 1, 4), ..many };
            let tables = [0; 4];
            let q = Requant { bias: &tables, multiplier: &tables, shift: &[1; 4], landing: WIDE };
            assert_eq!(depthwise_s8(isa, &pair, &q, None, &[0; 2], &[0; 36], &mut [0; 4]), Err(ShapeError::Geometry));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn every_convolution_variant_follows_the_definition(case in convolutions()) {
            let [_, columns] = case.conv.window.kernel.map(usize::from);
            let channels = usize::from(case.conv.input.c / case.conv.groups);
            let taps = case.conv.taps();
            let want = case.by_definition(|[o, ky, kx, i]| o * taps + (ky * columns + kx) * channels + i);
            for &isa in Isa::available() {
                prop_assert_eq!(&case.conv2d(isa), &want, "{}", isa.name());
            }
        }

        #[test]
        fn every_fully_connected_variant_follows_the_definition(case in fully_connected()) {
            let want = case.by_definition(|[o, _, _, i]| o * case.conv.taps() + i);
            for &isa in Isa::available() {
                prop_assert_eq!(&case.conv2d(isa), &want, "{}", isa.name());
            }
        }

        #[test]
        fn every_pointwise_variant_follows_the_definition(
            case in prop_oneof![pointwise_of_networks(), pointwise_of_other_extents()],
        ) {
            let want = case.by_definition(|[o, _, _, i]| o * case.conv.taps() + i);
            for &isa in Isa::available() {
                prop_assert_eq!(&case.conv2d(isa), &want, "{}", isa.name());
            }
        }

        #[test]
        fn every_depthwise_variant_follows_the_definition(
            case in prop_oneof![depthwise_convolutions(), depthwise_of_networks()],
        ) {
            let [_, columns] = case.conv.window.kernel.map(usize::from);
            let channels = usize::from(case.conv.input.c);
            let want = case.by_definition(|[o, ky, kx, _]| (ky * columns + kx) * channels + o);
            for &isa in Isa::available() {
                prop_assert_eq!(&case.depthwise(isa), &want, "{}", isa.name());
            }
        }
    }
}
