//! Every instruction set of this processor computes what plain code does.

use super::correlate::{Epilogue, correlate};
use super::depthwise::{Depthwise, depthwise, depthwise_input, depthwise_weights};
use super::padded::pad;
use super::simd::{FORCED, Isa, isa};
use super::weight_gradient::weight_gradient;
use super::{geometry, norm, rows, unary};
use crate::graph::{Function, Window};
use crate::train::engine::tests::Random;

/// Results of all kernels on fixed data.
fn results() -> Vec<f32> {
    let mut all = Vec::new();
    for (stride, channels, width) in [(1, [3, 40], 21), (2, [17, 33], 19), (3, [16, 16], 16)] {
        convolution(stride, channels, width, &mut all);
    }
    depthwise_convolution(&mut all);
    let mut random = Random(2);
    let (x, scale, shift) = (random.values(4 * 37), random.values(37), random.values(37));
    let (mut y, mut moments) = (vec![0.0; x.len()], vec![0.0; 8]);
    norm::layer_norm(&x, &scale, &shift, 1e-5, &mut moments, &mut y);
    let (mut gradient, mut sums) = (random.values(x.len()), vec![0.5; 74]);
    let (left, right) = sums.split_at_mut(37);
    norm::layer_norm_gradient(&x, &scale, &moments, &mut gradient, left, right);
    all.extend(y.iter().chain(&gradient).chain(&sums));
    norm::softmax(&x, 37, &mut y);
    norm::softmax_gradient(&y, 37, &mut gradient);
    rows::add_column_products(&x, &y, &mut sums[..37]);
    rows::mask(&mut gradient, &x, -0.5, 0.5);
    rows::affine(&x, &scale, &shift, &mut y);
    rows::clip(&mut y, -0.25, 0.75);
    all.extend(y.iter().chain(&gradient).chain(&sums));
    let kinds =
        [Function::Gelu, Function::GeluTanh, Function::Silu, Function::HardSwish, Function::Tanh, Function::Erf];
    let x: Vec<f32> = x.iter().map(|x| 4.0 * x).collect();
    for function in kinds {
        unary::apply(function, &x, &mut y);
        let mut slope = vec![1.0; x.len()];
        unary::chain(function, &x, &mut slope);
        all.extend(y.iter().chain(&slope));
    }
    all
}

fn convolution(stride: usize, channels: [usize; 2], width: usize, all: &mut Vec<f32>) {
    let mut random = Random(width as u64);
    let window = Window { kernel: [3, 3], stride: [stride; 2], pad: [1; 4], dilation: [1, 1] };
    let (map, out) = ([7, width], [6 / stride + 1, (width - 1) / stride + 1]);
    let (forward, backward) =
        (geometry::forward(&window, map, out, channels), geometry::backward(&window, map, out, channels));
    let (x, g) = (random.values(7 * width * channels[0]), random.values(out[0] * out[1] * channels[1]));
    let (ahead, back) = (random.values(forward.packed_len()), random.values(backward.packed_len()));
    let bias = random.values(channels[1]);
    let (mut copy, mut gradient_copy) = (vec![9.0; forward.input.len()], vec![9.0; backward.input.len()]);
    pad(&forward.input, &x, channels[0], 0, &mut copy);
    pad(&backward.input, &g, channels[1], 0, &mut gradient_copy);
    let (mut y, mut dx, mut dw) = (vec![0.0; g.len()], vec![1.0; x.len()], vec![0.25; ahead.len()]);
    let epilogue = Epilogue { bias: &bias, residual: Some(&g), accumulate: false, clip: Some((-2.0, 2.0)) };
    correlate(&forward, &copy, &ahead, &epilogue, channels[1], 0, &mut y);
    let epilogue = Epilogue { bias: &[], residual: None, accumulate: true, clip: None };
    correlate(&backward, &gradient_copy, &back, &epilogue, channels[0], 0, &mut dx);
    weight_gradient(&forward, &copy, &backward.input, &gradient_copy, &mut dw);
    all.extend(y.iter().chain(&dx).chain(&dw));
}

fn depthwise_convolution(all: &mut Vec<f32>) {
    let mut random = Random(5);
    let window = Window { kernel: [3, 2], stride: [2, 1], pad: [1, 0, 1, 1], dilation: [1, 2] };
    let shape = Depthwise { window, input: [7, 9], output: [4, 8], channels: 21 };
    let (x, g) = (random.values(7 * 9 * 21), random.values(4 * 8 * 21));
    let (weights, bias) = (random.values(6 * 21), random.values(21));
    let (mut y, mut dx, mut dw) = (vec![0.0; g.len()], vec![1.0; x.len()], vec![0.0; weights.len()]);
    depthwise(&shape, &x, &weights, &bias, &mut y);
    depthwise_input(&shape, &g, &weights, &mut dx);
    depthwise_weights(&shape, &x, &g, &mut dw);
    all.extend(y.iter().chain(&dx).chain(&dw));
}

#[test]
fn all_instruction_sets_agree() {
    FORCED.set(Some(Isa::Plain));
    let plain = results();
    FORCED.set(None);
    let best = isa();
    let mut others = vec![best];
    #[cfg(target_arch = "x86_64")]
    if best == Isa::Avx512 {
        others.push(Isa::Avx2);
    }
    for other in others {
        FORCED.set(Some(other));
        for (i, (a, b)) in results().iter().zip(&plain).enumerate() {
            assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{other:?}: result {i} is {a}, plain code says {b}");
        }
    }
    FORCED.set(None);
}
