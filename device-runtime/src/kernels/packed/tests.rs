//! Packed convolutions beside the definition.

use proptest::prelude::*;

use super::super::testing::{
    Case, convolutions, depthwise_convolutions, depthwise_three, fully_connected, pointwise,
    pointwise_of_other_extents, wide_convolutions,
};
use super::*;

/// What the packed kernel gives; `None` where it takes no such convolution.
fn packed(case: &Case, filters: Filters, isa: Isa) -> Option<Vec<i8>> {
    let residual = case.residual.as_ref();
    let packed = PackedConv::new(isa, filters, &case.conv, &case.requant(), residual, &case.weights);
    let packed = packed.expect("consistent")?;
    let again = PackedConv::with_panels(isa, filters, &case.conv, &case.requant(), residual, packed.panels().clone());
    assert!(again.is_some_and(|again| Arc::ptr_eq(again.panels(), packed.panels())));
    let mut image = vec![0x5A; packed.image_bytes()];
    let mut output = case.held.clone();
    packed.run(&case.input, &mut image, &mut output).expect("consistent");
    assert_eq!(in_two_parts(&packed, case), output, "{}", isa.name());
    Some(output)
}

/// The output as two parts give it, the later one first.
fn in_two_parts(packed: &PackedConv, case: &Case) -> Vec<i8> {
    let mut image = vec![0xA5u8 as i8; packed.image_bytes()];
    let mut output = case.held.clone();
    let drawn = packed.draw(&case.input, &mut image).expect("consistent");
    let cut = drawn.windows() / 2 / drawn.granule() * drawn.granule();
    let (first, second) = output.split_at_mut(cut * drawn.channels());
    drawn.run(cut, second).expect("a multiple of the granule");
    drawn.run(0, first).expect("a multiple of the granule");
    output
}

/// Variants that pack: all but the portable ones.
fn packing() -> impl Iterator<Item = Isa> {
    Isa::available().iter().copied().filter(|&isa| Form::of(isa, Filters::Dense).is_some())
}

#[test]
fn plain_convolutions_are_packed() {
    use crate::kernels::{Shape, Window};
    let window = Window { kernel: [3, 3], stride: [1, 1], pad: [1, 1], dilation: [1, 1] };
    let shape = Shape::new(4, 5, 3);
    let conv = Conv2d { input: shape, output: shape, window, groups: 1, pad_value: -3 };
    let landing = Landing { zero_point: 0, lo: -128, hi: 127 };
    let q = Requant { bias: &[1; 3], multiplier: &[1 << 30; 3], shift: &[34; 3], landing };
    for isa in packing() {
        let made = PackedConv::new(isa, Filters::Dense, &conv, &q, None, &[1; 81]).unwrap().expect("packs");
        assert_eq!(made.run(&[0; 59], &mut [0; 2000], &mut [0; 60]), Err(ShapeError::Input));
        assert_eq!(made.run(&[0; 60], &mut [0; 2000], &mut [0; 61]), Err(ShapeError::Output));
        assert_eq!(made.run(&[0; 60], &mut [], &mut [0; 60]), Err(ShapeError::Scratch));
        assert_eq!(PackedConv::new(isa, Filters::Dense, &conv, &q, None, &[1; 80]).err(), Some(ShapeError::Weights));
        let other = Conv2d { output: Shape::new(4, 5, 2), ..conv };
        assert!(PackedConv::with_panels(isa, Filters::Dense, &other, &q, None, made.panels().clone()).is_none());
    }
    assert!(PackedConv::new(Isa::Reference, Filters::Dense, &conv, &q, None, &[1; 81]).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_packed_convolution_follows_the_definition(case in prop_oneof![convolutions(), wide_convolutions()]) {
        let [_, columns] = case.conv.window.kernel.map(usize::from);
        let channels = usize::from(case.conv.input.c / case.conv.groups);
        let taps = case.conv.taps();
        let want = case.by_definition(|[o, ky, kx, i]| o * taps + (ky * columns + kx) * channels + i);
        for isa in packing() {
            if let Some(have) = packed(&case, Filters::Dense, isa) {
                prop_assert_eq!(&have, &want, "{}", isa.name());
            }
        }
    }

    #[test]
    fn every_packed_layer_follows_the_definition(
        case in prop_oneof![fully_connected(), pointwise(), pointwise_of_other_extents()],
    ) {
        let want = case.by_definition(|[o, _, _, i]| o * case.conv.taps() + i);
        for isa in packing() {
            if let Some(have) = packed(&case, Filters::Dense, isa) {
                prop_assert_eq!(&have, &want, "{}", isa.name());
            }
        }
    }

    #[test]
    fn every_packed_depthwise_convolution_follows_the_definition(
        case in prop_oneof![depthwise_convolutions(), depthwise_three()]
    ) {
        let [_, columns] = case.conv.window.kernel.map(usize::from);
        let channels = usize::from(case.conv.input.c);
        let want = case.by_definition(|[o, ky, kx, _]| (ky * columns + kx) * channels + o);
        for isa in packing() {
            if let Some(have) = packed(&case, Filters::Depthwise, isa) {
                prop_assert_eq!(&have, &want, "{}", isa.name());
            }
        }
    }
}
