//! Channels that share one int8 range are brought to like ranges before they are quantized, without changing what the network
//! computes.
//!
//! A layer norm's channels are divided by factors that the columns of the layers behind it are multiplied with ("SmoothQuant",
//! Xiao et al. 2023), likewise the values of an attention and the layer behind it. Feature by feature, queries and keys are
//! balanced against each other, since only their products count. How far values reach is estimated from the constants of the
//! layer norm in front: its results have a known mean and spread, whatever the images.

use std::collections::HashSet;

use crate::graph::{Attention, ChannelMap, Dense, Graph, Op, ValueId, Weights};

/// Standard deviations from the mean that values are expected to reach.
const REACH: f32 = 4.0;
/// Largest factor between the channels of one tensor, before and after.
const LARGEST_FACTOR: f32 = 64.0;

/// Equalizes every layer norm and attention of a graph where the nodes around it allow it.
pub(super) fn equalize(graph: &mut Graph) {
    let around = Around::new(graph);
    for index in 0..graph.nodes.len() {
        if let Op::Attention(attention) = graph.nodes[index].op
            && let Some((before, after)) = around.layers(graph, index)
        {
            equalize_attention(graph, &attention, before, after);
        }
    }
    for index in 0..graph.nodes.len() {
        if let Op::LayerNorm { affine, .. } = &graph.nodes[index].op
            && let Some(readers) = around.dense_readers(graph, index)
        {
            let affine = affine.clone();
            equalize_norm(graph, index, &affine, &readers);
        }
    }
}

/// Who reads each value.
struct Around {
    readers: Vec<Vec<usize>>,
}

impl Around {
    fn new(graph: &Graph) -> Self {
        let mut readers = vec![Vec::new(); graph.nodes.len() + 1];
        for (index, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| readers[input.0].push(index));
        }
        Self { readers }
    }

    /// The fully connected layers that alone read a node's result.
    fn dense_readers(&self, graph: &Graph, index: usize) -> Option<Vec<usize>> {
        let readers = &self.readers[index + 1];
        let is_dense = |&reader: &usize| matches!(graph.nodes[reader].op, Op::Dense(_));
        let alone = graph.output.0 != index + 1 && !readers.is_empty() && readers.iter().all(is_dense);
        alone.then(|| readers.clone())
    }

    /// The fully connected layers before and after an attention, if nothing else reads what is between them.
    fn layers(&self, graph: &Graph, attention: usize) -> Option<(usize, usize)> {
        let before = graph.nodes[attention].inputs[0].0.checked_sub(1)?;
        let is_dense = matches!(graph.nodes[before].op, Op::Dense(_));
        let alone = self.readers[before + 1] == [attention] && graph.output.0 != before + 1;
        match self.dense_readers(graph, attention)?.as_slice() {
            &[after] if is_dense && alone => Some((before, after)),
            _ => None,
        }
    }
}

fn dense(graph: &Graph, index: usize) -> Option<&Dense> {
    if let Op::Dense(dense) = &graph.nodes[index].op { Some(dense) } else { None }
}

/// How far each output of a layer is expected to reach from zero.
fn reach(graph: &Graph, index: usize, layer: &Dense) -> Vec<f32> {
    let inputs = layer.weights.len() / layer.out_features.max(1);
    let norm = match graph.producer(graph.nodes[index].inputs[0]).map(|node| &node.op) {
        Some(Op::LayerNorm { affine, .. }) if affine.scale.len() == inputs => Some(affine),
        _ => None,
    };
    let row = |(row, bias): (&[f32], &f32)| {
        let (mut mean, mut variance) = (*bias, 0.0);
        for (i, weight) in row.iter().enumerate() {
            let (spread, centre) = norm.map_or((1.0, 0.0), |norm| (norm.scale[i], norm.shift[i]));
            mean += weight * centre;
            variance += (weight * spread).powi(2);
        }
        mean.abs() + REACH * variance.sqrt()
    };
    layer.weights.chunks(inputs.max(1)).zip(layer.bias.iter()).map(row).collect()
}

/// Largest magnitude in each column of the layers' weights.
fn columns(layers: &[&Dense], inputs: usize) -> Vec<f32> {
    let mut largest = vec![0f32; inputs];
    for row in layers.iter().flat_map(|layer| layer.weights.chunks_exact(inputs.max(1))) {
        largest.iter_mut().zip(row).for_each(|(largest, weight)| *largest = largest.max(weight.abs()));
    }
    largest
}

/// By what to divide each channel so that its values and the weights that meet them use their ranges alike.
fn divisors(reach: &[f32], weights: &[f32]) -> Vec<f32> {
    let ratio = |(&reach, &weight): (&f32, &f32)| (reach > 0.0 && weight > 0.0).then(|| (reach / weight).sqrt());
    let ratios: Vec<Option<f32>> = reach.iter().zip(weights).map(ratio).collect();
    let known: Vec<f32> = ratios.iter().flatten().map(|ratio| ratio.ln()).collect();
    let middle = (known.iter().sum::<f32>() / known.len().max(1) as f32).exp();
    let limited = |ratio: f32| (ratio / middle).clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR);
    ratios.into_iter().map(|ratio| ratio.filter(|r| r.is_finite()).map_or(1.0, limited)).collect()
}

fn equalize_norm(graph: &mut Graph, index: usize, affine: &ChannelMap, readers: &[usize]) {
    let channels = affine.scale.len();
    let layers: Vec<&Dense> = readers.iter().filter_map(|&reader| dense(graph, reader)).collect();
    if layers.iter().any(|layer| layer.weights.len() != channels * layer.out_features) {
        return;
    }
    let reach: Vec<f32> =
        affine.scale.iter().zip(affine.shift.iter()).map(|(scale, shift)| shift.abs() + REACH * scale.abs()).collect();
    let divisors = divisors(&reach, &columns(&layers, channels));
    for &reader in readers {
        scale_columns(graph, reader, &divisors);
    }
    if let Op::LayerNorm { affine, .. } = &mut graph.nodes[index].op {
        for constants in [&mut affine.scale, &mut affine.shift] {
            *constants = changed(constants, |i, value| value / divisors[i]);
        }
    }
}

fn equalize_attention(graph: &mut Graph, p: &Attention, before: usize, after: usize) {
    let (Some(source), Some(target)) = (dense(graph, before), dense(graph, after)) else { return };
    let width = p.heads * p.value_features;
    let channel = |part: usize, head: usize, feature: usize| p.first[part] + head * p.pitch[part] + feature;
    let all = |part: usize, features: usize| -> Vec<usize> {
        (0..p.heads).flat_map(|head| (0..features).map(move |feature| channel(part, head, feature))).collect()
    };
    let [queries, keys, values] = [all(0, p.key_features), all(1, p.key_features), all(2, p.value_features)];
    let used: HashSet<usize> = queries.iter().chain(&keys).chain(&values).copied().collect();
    let is_plain = used.len() == queries.len() + keys.len() + values.len();
    if !is_plain || target.weights.len() != width * target.out_features {
        return;
    }
    let reach = reach(graph, before, source);
    let mut factors = vec![1.0; source.out_features];
    let mut most = 0f32;
    for (&query, &key) in queries.iter().zip(&keys) {
        let balance = (reach[key] / reach[query]).sqrt();
        if balance.is_finite() && balance > 0.0 {
            let balance = balance.clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR);
            (factors[query], factors[key]) = (balance, 1.0 / balance);
        }
        most = most.max(reach[query] * factors[query]).max(reach[key] * factors[key]);
    }
    let value_reach: Vec<f32> = values.iter().map(|&value| reach[value]).collect();
    let mut divisors = divisors(&value_reach, &columns(&[target], width));
    let widest = value_reach.iter().zip(&divisors).map(|(reach, divisor)| reach / divisor).fold(0f32, f32::max);
    if widest > 0.0 && most > 0.0 {
        divisors.iter_mut().for_each(|divisor| *divisor *= widest / most);
    }
    for (&value, divisor) in values.iter().zip(&divisors) {
        factors[value] = 1.0 / divisor;
    }
    scale_rows(graph, before, &factors);
    scale_columns(graph, after, &divisors);
}

fn scale_rows(graph: &mut Graph, index: usize, factors: &[f32]) {
    if let Op::Dense(dense) = &mut graph.nodes[index].op {
        let inputs = (dense.weights.len() / dense.out_features.max(1)).max(1);
        dense.weights = changed(&dense.weights, |i, weight| weight * factors[i / inputs]);
        dense.bias = changed(&dense.bias, |i, bias| bias * factors[i]);
    }
}

fn scale_columns(graph: &mut Graph, index: usize, factors: &[f32]) {
    if let Op::Dense(dense) = &mut graph.nodes[index].op {
        dense.weights = changed(&dense.weights, |i, weight| weight * factors[i % factors.len()]);
    }
}

fn changed(weights: &Weights, change: impl Fn(usize, f32) -> f32) -> Weights {
    let values: Vec<f32> = weights.iter().enumerate().map(|(i, &value)| change(i, value)).collect();
    Weights::from(values).with_origin(weights.origin)
}

/// The smallest value of a function's argument that makes a difference: below it the function is as good as constant, so
/// that no int8 step needs to be spent there. `None` if there is no such value.
pub(super) fn floor_of(graph: &Graph, value: ValueId) -> Option<f32> {
    use crate::graph::Function;
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&value));
    let (Some(reader), None) = (readers.next(), readers.next()) else { return None };
    match reader.op {
        _ if value == graph.output => None,
        Op::Unary(Function::Gelu | Function::GeluTanh) => Some(-3.0),
        Op::Unary(Function::HardSwish) => Some(-3.0),
        Op::Unary(Function::Silu) => Some(-7.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Batch, Node, forward};

    fn noise(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 2_654_435_761 + seed * 40_503) % 1000) as f32 / 1000.0 - 0.5).collect()
    }

    /// Layer norm, three parts, attention, projection; some channels much larger than others.
    fn block() -> Graph {
        let (tokens, width) = (5, 8);
        let uneven = |seed, len: usize| -> Weights {
            noise(seed, len)
                .iter()
                .enumerate()
                .map(|(i, v)| v * if i % 7 == 0 { 9.0 } else { 1.0 })
                .collect::<Vec<_>>()
                .into()
        };
        let layer = |seed, out: usize, inputs: usize| {
            Op::Dense(Dense { out_features: out, weights: uneven(seed, out * inputs), bias: uneven(seed + 1, out) })
        };
        let attention =
            Attention { heads: 2, key_features: 4, value_features: 4, first: [0, 8, 16], pitch: [4; 3], scale: 0.5 };
        let affine = ChannelMap { scale: uneven(5, width), shift: uneven(6, width) };
        let ops = [
            (Op::LayerNorm { affine, epsilon: 1e-6 }, width),
            (layer(1, 24, width), 24),
            (Op::Attention(attention), width),
            (layer(3, 6, width), 6),
        ];
        let node = |(i, (op, channels)): (usize, (Op, usize))| Node {
            name: format!("n{i}"),
            tensor: format!("t{i}"),
            operator: String::new(),
            op,
            inputs: vec![ValueId(i)],
            shape: vec![tokens, channels],
        };
        Graph {
            name: "block".into(),
            input_tensor: "x".into(),
            input_shape: vec![tokens, width],
            nodes: ops.into_iter().enumerate().map(node).collect(),
            output: ValueId(4),
            aliases: Vec::new(),
        }
    }

    #[test]
    fn the_function_stays_and_the_ranges_become_alike() {
        let before = block();
        let mut after = before.clone();
        equalize(&mut after);
        let batch = Batch { n: 3, shape: before.input_shape.clone(), data: noise(8, 120) };
        let (want, got) = (forward(&before, &batch), forward(&after, &batch));
        let span = want.data.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(want.data.iter().zip(&got.data).all(|(a, b)| (a - b).abs() < 1e-4 * span));

        let spread = |graph: &Graph| {
            let reach = reach(graph, 1, dense(graph, 1).unwrap());
            let part = |range: std::ops::Range<usize>| reach[range].iter().fold(0f32, |most, &r| most.max(r));
            let parts = [part(0..8), part(8..16), part(16..24)];
            parts.iter().fold(0f32, |m, &p| m.max(p)) / parts.iter().fold(f32::MAX, |m, &p| m.min(p))
        };
        assert!(spread(&after) < 1.01 && spread(&before) > 1.1, "{} {}", spread(&before), spread(&after));
    }

    #[test]
    fn a_norm_that_is_read_elsewhere_is_left_alone() {
        let mut graph = block();
        graph.output = ValueId(1);
        equalize(&mut graph);
        let (Op::LayerNorm { affine: after, .. }, Op::LayerNorm { affine: before, .. }) =
            (&graph.nodes[0].op, &block().nodes[0].op)
        else {
            panic!("the first node is a layer norm");
        };
        assert_eq!(after.scale.to_vec(), before.scale.to_vec());
    }
}
