//! Layers of a student brought back to the range they had.
//!
//! A layer that reads fewer channels, or other blocks' results, gives values of another mean and spread than in the large
//! network: behind a ReLU often nothing but zeros, from which no training recovers. Layer by layer, each channel's weights
//! and bias are scaled and shifted so that its mean and deviation on some images are those of the large network. This is
//! what measuring batch norms anew does, for layers that have theirs folded in.

use std::collections::HashMap;

use crate::graph::{Batch, Graph, Op, ValueId, forward_keep};

/// Images that means and deviations are measured on, at most.
pub const IMAGES: usize = 128;
/// Largest factor on weights, and one over the smallest.
const MOST: f64 = 16.0;

/// Whether a network's layers can be brought back one by one; layer norms do so by themselves.
#[must_use]
pub fn needs_calibration(graph: &Graph) -> bool {
    !graph.nodes.iter().any(|node| matches!(node.op, Op::LayerNorm { .. }))
}

/// Scales and shifts the layers of a student. `kept` has the channels that layers, by name, still give; others give all.
/// `is_writable` says of a node and the position of its constant whether it may change.
pub fn calibrate(
    student: &mut Graph,
    large: &Graph,
    kept: &HashMap<String, Vec<usize>>,
    images: &Batch,
    is_writable: &dyn Fn(usize, usize) -> bool,
) {
    let layers: Vec<(usize, usize)> = (0..student.nodes.len())
        .filter(|&index| is_layer(&student.nodes[index].op))
        .filter_map(|index| Some((index, find(large, &student.nodes[index].name)?)))
        .collect();
    let values: Vec<ValueId> = layers.iter().map(|&(_, index)| ValueId(index + 1)).collect();
    let wanted: Vec<Vec<Spread>> = forward_keep(large, images, &values).iter().map(spreads).collect();
    for (&(index, _), wanted) in layers.iter().zip(&wanted) {
        if !is_writable(index, 0) || !is_writable(index, 1) {
            continue;
        }
        let found = spreads(&forward_keep(student, images, &[ValueId(index + 1)])[0]);
        let node = &mut student.nodes[index];
        let all: Vec<usize> = (0..wanted.len()).collect();
        let rows = kept.get(&node.name).unwrap_or(&all);
        if rows.len() != found.len() {
            continue;
        }
        let [weights, bias] = &mut node.op.constants_mut()[..] else { continue };
        let (mut new_weights, mut new_bias) = (weights.to_vec(), bias.to_vec());
        let length = new_weights.len() / found.len().max(1);
        for (channel, (&row, found)) in rows.iter().zip(&found).enumerate() {
            let wanted = wanted[row];
            let is_alive = found.deviation > 1e-6 && wanted.deviation > 1e-6;
            let factor = if is_alive { (wanted.deviation / found.deviation).clamp(1.0 / MOST, MOST) } else { 1.0 };
            new_weights[channel * length..(channel + 1) * length].iter_mut().for_each(|w| *w *= factor as f32);
            let shifted = wanted.mean + factor * (f64::from(new_bias[channel]) - found.mean);
            new_bias[channel] = shifted as f32;
        }
        **weights = new_weights.into();
        **bias = new_bias.into();
    }
}

fn is_layer(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Dense(_))
}

fn find(graph: &Graph, name: &str) -> Option<usize> {
    graph.nodes.iter().position(|node| node.name == name && is_layer(&node.op))
}

/// Mean and deviation of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub mean: f64,
    pub deviation: f64,
}

/// Of every channel (last axis) over samples and positions.
pub(super) fn spreads(batch: &Batch) -> Vec<Spread> {
    let channels = batch.shape.last().copied().unwrap_or(1);
    let rows = (batch.data.len() / channels.max(1)).max(1) as f64;
    let (mut sums, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    for row in batch.data.chunks_exact(channels) {
        for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(row) {
            *sum += f64::from(value);
            *square += f64::from(value).powi(2);
        }
    }
    let spread = |(sum, square): (f64, f64)| {
        let mean = sum / rows;
        Spread { mean, deviation: (square / rows - mean * mean).max(0.0).sqrt() }
    };
    sums.into_iter().zip(squares).map(spread).collect()
}
