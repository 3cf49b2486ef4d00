//! Random convolutions for the tests of all variants, and the arithmetic once more without any shortcut.

use proptest::prelude::*;

use super::{Add, Conv2d, Isa, Landing, Requant, Shape, Window, conv2d_s8, depthwise_s8, requantize};

/// A convolution with all its operands.
#[derive(Debug, Clone)]
pub struct Case {
    pub conv: Conv2d,
    pub landing: Landing,
    pub residual: Option<Add>,
    pub input: Vec<i8>,
    pub weights: Vec<i8>,
    pub bias: Vec<i32>,
    pub multiplier: Vec<i32>,
    pub shift: Vec<u8>,
    /// Second operand of the residual addition; also what the output holds where there is none.
    pub held: Vec<i8>,
}

impl Case {
    pub fn requant(&self) -> Requant<'_> {
        Requant { bias: &self.bias, multiplier: &self.multiplier, shift: &self.shift, landing: self.landing }
    }

    pub fn conv2d(&self, isa: Isa) -> Vec<i8> {
        let mut output = self.held.clone();
        let mut scratch = vec![0xA5A5_A5A5u32; self.conv.scratch_bytes() / 4];
        let scratch = bytemuck::cast_slice_mut(&mut scratch);
        let residual = self.residual.as_ref();
        conv2d_s8(isa, &self.conv, &self.requant(), residual, &self.input, &self.weights, scratch, &mut output)
            .expect("the case is consistent");
        output
    }

    pub fn depthwise(&self, isa: Isa) -> Vec<i8> {
        let mut output = self.held.clone();
        let residual = self.residual.as_ref();
        depthwise_s8(isa, &self.conv, &self.requant(), residual, &self.input, &self.weights, &mut output)
            .expect("the case is consistent");
        output
    }

    /// The result by the definition: one loop per index, a bounds test per tap. `weight` gives the index of
    /// (output channel, kernel row, kernel column, channel within the group).
    pub fn by_definition(&self, weight: impl Fn([usize; 4]) -> usize) -> Vec<i8> {
        let Conv2d { input, output, window, groups, pad_value } = self.conv;
        let [extent_h, extent_w] = [input.h, input.w].map(i32::from);
        let group_inputs = usize::from(input.c / groups);
        let group_outputs = usize::from(output.c / groups);
        let place = |position: u16, axis: usize, k: u8| {
            i32::from(position) * i32::from(window.stride[axis]) - i32::from(window.pad[axis])
                + i32::from(k) * i32::from(window.dilation[axis])
        };
        let mut out = self.held.clone();
        for oy in 0..output.h {
            for ox in 0..output.w {
                for o in 0..usize::from(output.c) {
                    let mut acc = self.bias[o];
                    for ky in 0..window.kernel[0] {
                        for kx in 0..window.kernel[1] {
                            let (y, x) = (place(oy, 0, ky), place(ox, 1, kx));
                            for i in 0..group_inputs {
                                let channel = o / group_outputs * group_inputs + i;
                                let inside = (0..extent_h).contains(&y) && (0..extent_w).contains(&x);
                                let index = (y * extent_w + x) as isize * input.c as isize + channel as isize;
                                let value = if inside { self.input[index as usize] } else { pad_value };
                                let w = self.weights[weight([o, ky.into(), kx.into(), i])];
                                acc = acc.wrapping_add(i32::from(value) * i32::from(w));
                            }
                        }
                    }
                    let at = (usize::from(oy) * usize::from(output.w) + usize::from(ox)) * usize::from(output.c) + o;
                    let y = requantize(acc, self.multiplier[o], self.shift[o], self.landing);
                    out[at] = self.residual.map_or(y, |add| add.apply(y, out[at]));
                }
            }
        }
        out
    }
}

/// Any int8 values; half of the time only the extremes, which is where narrow sums overflow.
fn values(len: usize) -> impl Strategy<Value = Vec<i8>> {
    prop_oneof![
        prop::collection::vec(any::<i8>(), len),
        prop::collection::vec(prop::sample::select(vec![-128i8, -127, 127]), len),
    ]
}

/// Weights: half of the time none is -128, as exporters write them and fast variants want them.
fn weights(len: usize) -> impl Strategy<Value = Vec<i8>> {
    (values(len), any::<bool>()).prop_map(|(mut weights, has_least)| {
        if !has_least {
            weights.iter_mut().for_each(|w| *w = (*w).max(-127));
        }
        weights
    })
}

/// Additions within the bounds that make 32-bit arithmetic exact: any, or such as exporters write.
pub fn addition() -> impl Strategy<Value = Add> {
    let multiplier = -Add::MAX_MULTIPLIER..=Add::MAX_MULTIPLIER;
    let offset = -Add::MAX_OFFSET..=Add::MAX_OFFSET;
    let any = (multiplier.clone(), multiplier, offset, 1..=Add::MAX_SHIFT, -128..=0i8, 0..=127i8);
    let usual = (1 << 17..=Add::MAX_MULTIPLIER, 1 << 17..=Add::MAX_MULTIPLIER, -1 << 25..=1 << 25, 18..=Add::MAX_SHIFT);
    let usual = usual.prop_map(|(a, b, offset, shift)| (a, b, offset, shift, i8::MIN, i8::MAX));
    prop_oneof![any, usual].prop_map(|(a_multiplier, b_multiplier, offset, shift, lo, hi)| Add {
        a_multiplier,
        b_multiplier,
        offset,
        shift,
        lo,
        hi,
    })
}

fn windows() -> impl Strategy<Value = Window> {
    let pair = |range: core::ops::RangeInclusive<u8>| prop::array::uniform2(range);
    (pair(1..=4), pair(1..=3), pair(0..=4), pair(1..=3), 0..4u8).prop_map(|(kernel, stride, pad, dilation, plain)| {
        // Dilated windows are rare in networks and leave few taps inside such small inputs.
        Window { kernel, stride, pad, dilation: if plain == 0 { dilation } else { [1, 1] } }
    })
}

fn landings() -> impl Strategy<Value = Landing> {
    (any::<i8>(), prop_oneof![Just(-128i8), -128..=0i8], prop_oneof![Just(127i8), 0..=127i8])
        .prop_map(|(zero_point, lo, hi)| Landing { zero_point, lo, hi })
}

fn filled(conv: Conv2d) -> impl Strategy<Value = Case> {
    let channels = usize::from(conv.output.c);
    let multiplier = prop_oneof![9 => 1 << 30..=i32::MAX, 1 => Just(0)];
    let shift = prop_oneof![8 => 36..=48u8, 1 => 33..=35u8, 1 => 1..=62u8];
    let tables = (
        prop::collection::vec(-100_000..100_000i32, channels),
        prop::collection::vec(multiplier, channels),
        prop::collection::vec(shift, channels),
    );
    let operands = (values(conv.input.len()), weights(conv.taps() * channels), values(conv.output.len()));
    (operands, tables, landings(), prop::option::of(addition())).prop_map(
        move |((input, weights, held), (bias, multiplier, shift), landing, residual)| Case {
            conv,
            landing,
            residual,
            input,
            weights,
            bias,
            multiplier,
            shift,
            held,
        },
    )
}

fn extents() -> impl Strategy<Value = (u16, u16, u16, u16)> {
    prop_oneof![(1..=7u16, 1..=7u16, 1..=4u16, 1..=5u16), (Just(1), 1..=9u16, Just(1), 1..=9u16)]
}

/// Convolutions of any geometry, small enough for the definition.
pub fn convolutions() -> impl Strategy<Value = Case> {
    let channels = (prop_oneof![4 => Just(1u16), 1 => 2..=3u16], 1..=37u16, 1..=11u16);
    (windows(), extents(), channels, any::<i8>()).prop_flat_map(
        |(window, (ih, iw, oh, ow), (groups, inputs, outputs), pad_value)| {
            let inputs = if groups == 1 { inputs } else { inputs % 9 + 1 };
            let input = Shape::new(ih, iw, inputs * groups);
            let output = Shape::new(oh, ow, outputs * groups);
            filled(Conv2d { input, output, window, groups, pad_value })
        },
    )
}

/// Convolutions with lines of windows that fill tiles of several sizes, and leave some over.
pub fn wide_convolutions() -> impl Strategy<Value = Case> {
    let window = (prop::array::uniform2(1..=3u8), prop::array::uniform2(1..=2u8), prop::array::uniform2(0..=1u8))
        .prop_map(|(kernel, stride, pad)| Window { kernel, stride, pad, dilation: [1, 1] });
    (window, (1..=4u16, 1..=40u16, 1..=4u16, 1..=21u16), 1..=18u16, 1..=17u16, any::<i8>()).prop_flat_map(
        |(window, (ih, iw, oh, ow), inputs, outputs, pad_value)| {
            let (input, output) = (Shape::new(ih, iw, inputs), Shape::new(oh, ow, outputs));
            filled(Conv2d { input, output, window, groups: 1, pad_value })
        },
    )
}

/// 1x1 convolutions of all positions, with input channels that mostly fill vectors.
pub fn pointwise_of_networks() -> impl Strategy<Value = Case> {
    let inputs =
        prop_oneof![3 => (1..=9u16).prop_map(|n| 8 * n), 1 => (30..=65u16).prop_map(|n| 8 * n), 1 => 1..=50u16];
    ((1..=4u16, 1..=6u16), inputs, 1..=19u16).prop_flat_map(|((h, w), inputs, outputs)| {
        let (input, output) = (Shape::new(h, w, inputs), Shape::new(h, w, outputs));
        filled(Conv2d { input, output, window: Window::POINT, groups: 1, pad_value: 0 })
    })
}

/// 1x1 convolutions whose output has other extents than the input, some of them as many positions.
pub fn pointwise_of_other_extents() -> impl Strategy<Value = Case> {
    let extents = || (1..=4u16, 1..=4u16);
    let inputs = prop_oneof![(1..=4u16).prop_map(|n| 4 * n), 1..=20u16];
    (extents(), extents(), inputs, 1..=9u16, 1..=2u16, any::<i8>()).prop_flat_map(
        |((ih, iw), (oh, ow), inputs, outputs, groups, pad_value)| {
            let (input, output) = (Shape::new(ih, iw, inputs * groups), Shape::new(oh, ow, outputs * groups));
            filled(Conv2d { input, output, window: Window::POINT, groups, pad_value })
        },
    )
}

/// Fully connected layers over one vector.
pub fn fully_connected() -> impl Strategy<Value = Case> {
    (prop_oneof![(1..=40u16).prop_map(|n| 8 * n), 1..=200u16], 1..=12u16).prop_flat_map(|(inputs, outputs)| {
        let (input, output) = (Shape::new(1, 1, inputs), Shape::new(1, 1, outputs));
        filled(Conv2d { input, output, window: Window::POINT, groups: 1, pad_value: 0 })
    })
}

/// Fully connected layers whose filters can be woven, most of them with more inputs than a round of a kernel's loop takes.
pub fn weavable() -> impl Strategy<Value = Case> {
    (prop_oneof![1..=8u16, 9..=50u16], 1..=9u16).prop_flat_map(|(inputs, outputs)| {
        let (input, output) = (Shape::new(1, 1, 8 * inputs), Shape::new(1, 1, 2 * outputs));
        filled(Conv2d { input, output, window: Window::POINT, groups: 1, pad_value: 0 })
    })
}

/// 1x1 convolutions with enough windows and channels for every size of tile.
pub fn pointwise() -> impl Strategy<Value = Case> {
    let inputs = prop_oneof![(1..=5u16).prop_map(|n| 8 * n), 1..=40u16];
    (1..=4u16, 1..=7u16, inputs, 1..=52u16, any::<i8>()).prop_flat_map(|(h, w, inputs, outputs, pad_value)| {
        let (input, output) = (Shape::new(h, w, inputs), Shape::new(h, w, outputs));
        filled(Conv2d { input, output, window: Window::POINT, groups: 1, pad_value })
    })
}

/// Depthwise convolutions of any geometry.
pub fn depthwise_convolutions() -> impl Strategy<Value = Case> {
    (windows(), extents(), 1..=37u16, any::<i8>()).prop_flat_map(|(window, (ih, iw, oh, ow), groups, pad_value)| {
        let input = Shape::new(ih, iw, groups);
        filled(Conv2d { input, output: Shape::new(oh, ow, groups), window, groups, pad_value })
    })
}

/// Depthwise convolutions with a 3x3 kernel.
pub fn depthwise_three() -> impl Strategy<Value = Case> {
    let window = (prop::array::uniform2(1..=3u8), prop::array::uniform2(0..=2u8)).prop_map(|(stride, pad)| Window {
        kernel: [3, 3],
        stride,
        pad,
        dilation: [1, 1],
    });
    (window, extents(), 1..=37u16, any::<i8>()).prop_flat_map(|(window, (ih, iw, oh, ow), channels, pad_value)| {
        let input = Shape::new(ih, iw, channels);
        filled(Conv2d { input, output: Shape::new(oh, ow, channels), window, groups: channels, pad_value })
    })
}

/// 3x3 depthwise convolutions as networks have them: no more than a row or a column of a window is outside the input.
pub fn depthwise_of_networks() -> impl Strategy<Value = Case> {
    // Now and then larger than kernels keep on the stack in one piece.
    let extent = || prop_oneof![6 => 1..=9u16, 1 => 10..=60u16];
    let shape = (extent(), extent(), 1..=27u16);
    (shape, prop::array::uniform2(1..=3u8), prop::array::uniform2(0..=1u8), any::<[bool; 2]>(), any::<i8>())
        .prop_flat_map(|((h, w, groups), stride, pad, past_end, pad_value)| {
            let outputs = |extent: u16, axis: usize| {
                let reach = extent + u16::from(pad[axis]) + u16::from(past_end[axis]);
                reach.saturating_sub(3) / u16::from(stride[axis]) + 1
            };
            let window = Window { kernel: [3, 3], stride, pad, dilation: [1, 1] };
            let output = Shape::new(outputs(h, 0), outputs(w, 1), groups);
            filled(Conv2d { input: Shape::new(h, w, groups), output, window, groups, pad_value })
        })
}
