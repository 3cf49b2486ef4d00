//! Batch norms with the statistics of the samples at hand.

use super::{Draft, Random, check_gradients, weights};
use crate::graph::{Batch, ChannelMap, Conv, Op, ValueId, Window, forward_adjust};
use crate::stitch::recalibrate::statistics;
use crate::train::engine::Options;

#[test]
fn gradients_go_through_the_statistics() {
    let mut random = Random(5);
    let (mut draft, x) = Draft::new(&[4, 4, 3]);
    let window = Window { kernel: [3, 3], stride: [1, 1], pad: [1; 4], dilation: [1, 1] };
    let conv = |random: &mut Random, depth: usize| Conv {
        window,
        groups: 1,
        out_channels: 5,
        weights: weights(random, 5 * 9 * depth, 0.4),
        bias: weights(random, 5, 1.0),
    };
    let map = |random: &mut Random| {
        let scale = (0..5).map(|_| 1.0 + 0.5 * random.value()).collect();
        Op::Affine(ChannelMap { scale, shift: weights(random, 5, 1.0) })
    };
    let shape = [4, 4, 5];
    let first = draft.push(Op::Conv(conv(&mut random, 3)), &[x], &shape);
    let first = draft.push(map(&mut random), &[first], &shape);
    let second = draft.push(Op::Conv(conv(&mut random, 5)), &[first], &shape);
    let second = draft.push(map(&mut random), &[second], &shape);
    draft.push(Op::Add, &[first, second], &shape);
    let graph = draft.graph;
    let batch = Batch { n: 3, shape: graph.input_shape.clone(), data: random.values(3 * 48) };
    let batch_norms: Vec<ValueId> = vec![first, second];
    let options = Options { batch_norms: batch_norms.clone(), chunk_samples: Some(3), ..Options::default() };

    // What the maps read, normalised by hand.
    let mut expected = Vec::new();
    forward_adjust(&graph, &batch, &mut |value, values| {
        if batch_norms.contains(&ValueId(value.0 + 1)) {
            let statistics = statistics(values, 5);
            for row in values.chunks_exact_mut(5) {
                row.iter_mut().zip(&statistics).for_each(|(value, (mean, variance))| {
                    *value = ((f64::from(*value) - mean) / variance.sqrt()) as f32;
                });
            }
        }
        if value == graph.output {
            expected = values.to_vec();
        }
    });
    let expected = Batch { n: 3, shape: shape.to_vec(), data: expected };
    check_gradients("batch norm", &graph, &batch, &expected, &options, 1e-2);
}
