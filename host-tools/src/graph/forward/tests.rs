//! The executor against direct definitions of the operators.

use super::super::tests::Builder;
use super::super::{Conv, Dense, Window};
use super::*;

/// Small deterministic generator for shapes and values.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).collect()
    }

    fn window(&mut self) -> Window {
        let mut pair = |least: usize, bound: usize| [least + self.below(bound), least + self.below(bound)];
        let (kernel, stride, dilation) = (pair(1, 4), pair(1, 3), pair(1, 2));
        let (start, end) = (pair(0, 3), pair(0, 3));
        Window { kernel, stride, pad: [start[0], start[1], end[0], end[1]], dilation }
    }
}

/// Output extents, `None` where the window does not fit.
fn extents(window: &Window, input: [usize; 2]) -> Option<[usize; 2]> {
    let mut extents = [0; 2];
    for axis in 0..2 {
        let span = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let padded = input[axis] + window.pad[axis] + window.pad[axis + 2];
        extents[axis] = padded.checked_sub(span)? / window.stride[axis] + 1;
    }
    Some(extents)
}

/// Input coordinate under a tap; `None` outside the map.
fn tap(window: &Window, axis: usize, output: usize, tap: usize, extent: usize) -> Option<usize> {
    let at = (output * window.stride[axis] + tap * window.dilation[axis]).checked_sub(window.pad[axis])?;
    (at < extent).then_some(at)
}

/// Convolution by its definition, in `f64`.
fn naive_conv(conv: &Conv, image: &[f32], [height, width, depth]: [usize; 3], output: [usize; 2]) -> Vec<f32> {
    let (part, window) = (depth / conv.groups, &conv.window);
    let [rows, columns] = window.kernel;
    let mut result = Vec::new();
    for position in 0..output[0] * output[1] {
        for out in 0..conv.out_channels {
            let group = out / (conv.out_channels / conv.groups);
            let mut sum = f64::from(conv.bias[out]);
            for ky in 0..rows {
                for kx in 0..columns {
                    let y = tap(window, 0, position / output[1], ky, height);
                    let x = tap(window, 1, position % output[1], kx, width);
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    for c in 0..part {
                        let value = image[(y * width + x) * depth + group * part + c];
                        let weight = conv.weights[((out * rows + ky) * columns + kx) * part + c];
                        sum += f64::from(value) * f64::from(weight);
                    }
                }
            }
            result.push(sum as f32);
        }
    }
    result
}

fn assert_close(ours: &[f32], expected: &[f32], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{what}: element {i} is {a}, expected {b}");
    }
}

#[test]
fn convolutions_of_any_geometry_and_grouping_match_the_definition() {
    let mut random = Random(7);
    let mut checked = 0;
    while checked < 300 {
        let window = random.window();
        let shape = [1 + random.below(9), 1 + random.below(9)];
        let Some(output) = extents(&window, shape) else { continue };
        let (groups, part, out_part) =
            [(1, 5, 4), (1, 1, 1), (2, 3, 5), (6, 1, 1), (4, 1, 2), (1, 17, 33)][random.below(6)];
        let (depth, out_channels) = (groups * part, groups * out_part);
        let weights = random.values(out_channels * window.kernel[0] * window.kernel[1] * part);
        let bias = random.values(out_channels);
        let conv = Conv { window, groups, out_channels, weights: weights.into(), bias: bias.into() };
        let n = 1 + random.below(3);
        let shape = [shape[0], shape[1], depth];
        let batch = Batch { n, shape: shape.to_vec(), data: random.values(n * shape.iter().product::<usize>()) };
        let mut build = Builder::new(&shape);
        build.push(Op::Conv(conv.clone()), &[ValueId::INPUT], &[output[0], output[1], out_channels]);
        let result = forward(&build.finish(), &batch);
        for i in 0..n {
            let expected = naive_conv(&conv, batch.sample(i), shape, output);
            assert_close(result.sample(i), &expected, &format!("{window:?} {shape:?} groups {groups}"));
        }
        checked += 1;
    }
}

#[test]
fn pools_ignore_or_zero_the_taps_outside_the_map() {
    let window = Window { kernel: [2, 3], stride: [2, 2], pad: [1, 1, 0, 1], dilation: [1, 1] };
    let data = vec![-1.0, -2.0, -3.0, -4.0, -5.0, -6.0];
    let batch = Batch { n: 1, shape: vec![3, 2, 1], data };
    for (op, expected) in [(Op::MaxPool(window), [-1.0, -3.0]), (Op::AvgPool(window), [-3.0 / 6.0, -18.0 / 6.0])] {
        let mut build = Builder::new(&[3, 2, 1]);
        build.push(op, &[ValueId::INPUT], &[2, 1, 1]);
        assert_close(&forward(&build.finish(), &batch).data, &expected, "pool");
    }
}

#[test]
fn dense_softmax_and_transpose_work_on_the_right_axes() {
    let mut build = Builder::new(&[2, 3]);
    let weights = vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    let dense = Dense { out_features: 2, weights: weights.into(), bias: vec![0.5, -0.5].into() };
    let dense = build.push(Op::Dense(dense), &[ValueId::INPUT], &[2, 2]);
    let transposed = build.push(Op::Transpose { perm: vec![1, 0] }, &[dense], &[2, 2]);
    let softmax = build.push(Op::Softmax, &[transposed], &[2, 2]);
    let graph = build.finish();
    let batch = Batch { n: 1, shape: vec![2, 3], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
    let kept = forward_keep(&graph, &batch, &[transposed, softmax, dense]);
    assert_close(&kept[2].data, &[1.5, 4.5, 4.5, 10.5], "dense");
    assert_close(&kept[0].data, &[1.5, 4.5, 4.5, 10.5], "the transpose of a symmetric matrix");
    let weight = 1.0 / (1.0 + 3.0_f32.exp());
    let other = 1.0 / (1.0 + 6.0_f32.exp());
    assert_close(&kept[1].data, &[weight, 1.0 - weight, other, 1.0 - other], "softmax");
}

#[test]
fn transposes_move_every_axis() {
    assert_eq!(pointwise::transposed_order(&[2, 3], &[1, 0]), [0, 3, 1, 4, 2, 5]);
    assert_eq!(pointwise::transposed_order(&[1, 2, 3], &[2, 0, 1]), [0, 3, 1, 4, 2, 5]);
    assert_eq!(pointwise::transposed_order(&[2, 2, 2], &[2, 1, 0]), [0, 4, 2, 6, 1, 5, 3, 7]);
}

/// A block with a shortcut, so that buffers are shared and reused.
fn residual() -> Graph {
    let mut build = Builder::new(&[9, 9, 4]);
    let stem = build.conv(ValueId::INPUT, 8, 3, 1);
    let x = build.relu(stem);
    let a = build.conv(x, 8, 3, 1);
    let a = build.relu(a);
    let b = build.conv(a, 8, 3, 1);
    let sum = build.add(b, x);
    let y = build.relu(sum);
    let twice = build.add(y, y);
    build.head(twice, 5);
    build.finish()
}

#[test]
fn kept_and_observed_values_are_the_same() {
    let graph = residual();
    let n = 150;
    let batch = Batch { n, shape: vec![9, 9, 4], data: Random(3).values(n * 324) };
    let every: Vec<ValueId> = (0..=graph.nodes.len()).map(ValueId).collect();
    let kept = forward_keep(&graph, &batch, &every);
    let mut seen = Vec::new();
    forward_observe(&graph, &batch, &mut |value, data| {
        assert_close(data, &kept[value.0].data, &format!("{value}"));
        seen.push(value);
    });
    assert_eq!(seen, every, "every value once, in order");
    assert_eq!(forward(&graph, &batch), kept[graph.output.0]);
}

#[test]
fn a_value_kept_alone_needs_nothing_behind_it() {
    let graph = residual();
    let batch = Batch { n: 2, shape: vec![9, 9, 4], data: Random(5).values(2 * 324) };
    let whole = forward_keep(&graph, &batch, &[ValueId(4), ValueId::INPUT, ValueId(4)]);
    let front = forward(&graph.segment(None, Some(ValueId(4))).unwrap(), &batch);
    assert_eq!([&whole[0], &whole[1], &whole[2]], [&front, &batch, &front]);
}

#[test]
fn batches_may_be_empty() {
    let graph = residual();
    let empty = Batch { n: 0, shape: vec![9, 9, 4], data: Vec::new() };
    assert_eq!(forward(&graph, &empty), Batch { n: 0, shape: vec![5], data: Vec::new() });
}
