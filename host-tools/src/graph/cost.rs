//! Size of a graph: multiply-accumulates, parameters, activations.
//!
//! Two conventions. Ours ([`macs`], [`params`]) is about work on a device: one multiply-accumulate (MAC) is one product of
//! a convolution, a fully connected layer or a product of two activations, padded taps included; everything else counts
//! zero. Parameters are all constants after batch norms were folded.
//!
//! The papers' ([`flops`], [`published_params`]) is that of fvcore: the same products, and 5 per element of a layer norm
//! (4 without factors), 2 per element of a batch norm, folded or not, and 1 per input element of a global average pool that
//! was one in the model: fvcore counts no means.
//! Parameters are those of the file: no fillers, two per channel of a batch norm.

use super::{Graph, Node, Op, ValueId, Weights};

/// The operator whose elements the papers' convention counts.
pub(crate) const GLOBAL_AVERAGE_POOL: &str = "GlobalAveragePool";

/// MACs of a graph for one sample.
#[must_use]
pub fn macs(graph: &Graph) -> u64 {
    (1..=graph.nodes.len()).map(|value| value_macs(graph, ValueId(value))).sum()
}

/// Constants of a graph.
#[must_use]
pub fn params(graph: &Graph) -> u64 {
    graph.nodes.iter().map(node_params).sum()
}

/// MACs of a node with constant weights for one sample: every output element needs one row of weights. Products of two
/// activations are in [`value_macs`].
#[must_use]
pub fn node_macs(node: &Node) -> u64 {
    let row = match &node.op {
        Op::Conv(conv) => conv.weights.len() / conv.out_channels.max(1),
        Op::Dense(dense) => dense.weights.len() / dense.out_features.max(1),
        _ => 0,
    };
    elements(&node.shape) * row as u64
}

/// MACs of the node that produces a value.
#[must_use]
pub fn value_macs(graph: &Graph, value: ValueId) -> u64 {
    let Some(node) = graph.producer(value) else { return 0 };
    match node.op {
        Op::Attention(attention) => {
            let tokens = elements(&node.shape) / (attention.heads * attention.value_features).max(1) as u64;
            tokens * tokens * (attention.heads * (attention.key_features + attention.value_features)) as u64
        }
        Op::MatMul { .. } => elements(&node.shape) * graph.shape(node.inputs[0]).last().copied().unwrap_or(1) as u64,
        _ => node_macs(node),
    }
}

/// Constants of one node; factors and summands that only complete an operator do not count beside real ones.
#[must_use]
pub fn node_params(node: &Node) -> u64 {
    let is_layer = matches!(node.op, Op::Conv(_) | Op::Dense(_));
    let counted = |weights: &&&Weights| is_layer || !weights.origin.is_absent;
    node.op.constants().iter().filter(counted).map(|weights| weights.len() as u64).sum()
}

/// Operations in the papers' convention for one sample.
#[must_use]
pub fn flops(graph: &Graph) -> u64 {
    (1..=graph.nodes.len()).map(|value| value_flops(graph, ValueId(value))).sum()
}

fn value_flops(graph: &Graph, value: ValueId) -> u64 {
    let Some(node) = graph.producer(value) else { return 0 };
    let output = elements(&node.shape);
    match &node.op {
        Op::Conv(conv) if conv.weights.origin.has_norm => 2 * output,
        Op::Dense(dense) if dense.weights.origin.is_diagonal && dense.weights.origin.has_norm => 2 * output,
        Op::Dense(dense) if dense.weights.origin.is_diagonal => 0,
        Op::Conv(_) | Op::Dense(_) => {
            let norm = node.op.constants().iter().any(|weights| weights.origin.has_norm);
            value_macs(graph, value) + if norm { 2 * output } else { 0 }
        }
        Op::MatMul { .. } | Op::Attention(_) => value_macs(graph, value),
        Op::LayerNorm { affine, .. } => output * if affine.scale.origin.is_absent { 4 } else { 5 },
        Op::Affine(affine) if affine.scale.origin.has_norm => 2 * output,
        Op::AvgPool(_) if node.operator == GLOBAL_AVERAGE_POOL => elements(graph.shape(node.inputs[0])),
        _ => 0,
    }
}

/// Parameters in the papers' convention, constant tensors (class token, positions) included.
#[must_use]
pub fn published_params(graph: &Graph) -> u64 {
    graph.nodes.iter().map(file_params).sum()
}

/// Elements of constant tensors: class tokens, position embeddings, attention biases.
#[must_use]
pub fn constant_tensors(graph: &Graph) -> u64 {
    graph.nodes.iter().map(constant_params).sum()
}

fn constant_params(node: &Node) -> u64 {
    let Op::Constant(values) = &node.op else { return 0 };
    values.origin.made_from.unwrap_or(values.len()) as u64
}

fn file_params(node: &Node) -> u64 {
    let constants = node.op.constants();
    let own: u64 = constants.iter().filter(|w| !w.origin.is_absent).map(|weights| weights.len() as u64).sum();
    match &node.op {
        Op::Conv(conv) if conv.weights.origin.has_norm => own,
        Op::Constant(_) => constant_params(node),
        Op::Dense(dense) if dense.weights.origin.is_diagonal => {
            let channels = dense.out_features as u64;
            [&dense.weights, &dense.bias].iter().map(|w| if w.origin.is_absent { 0 } else { channels }).sum()
        }
        Op::Conv(_) | Op::Dense(_) => {
            let bias = constants[1];
            let merged = 2 * u64::from(bias.origin.has_norm) + u64::from(bias.origin.has_scale);
            own + merged * bias.len() as u64
        }
        _ => own,
    }
}

/// Largest number of elements alive at once when the nodes run in order for one sample; constants and results that only
/// rename their input (reshape, clip) take no room of their own.
#[must_use]
pub fn peak_activations(graph: &Graph) -> u64 {
    let holder = holders(graph);
    let mut last_use = vec![0; graph.nodes.len() + 1];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| last_use[holder[input.0]] = index);
    }
    last_use[holder[graph.output.0]] = usize::MAX;
    let size = |value: usize| graph.elements(ValueId(value)) as u64;
    let (mut live, mut peak) = (size(0), size(0));
    for (index, node) in graph.nodes.iter().enumerate() {
        let is_constant = matches!(node.op, Op::Constant(_));
        if holder[index + 1] == index + 1 && !is_constant {
            live += size(index + 1);
            peak = peak.max(live);
        }
        let mut ended: Vec<usize> =
            node.inputs.iter().map(|input| holder[input.0]).filter(|&held| last_use[held] == index).collect();
        ended.sort_unstable();
        ended.dedup();
        let constant = |held: usize| held > 0 && matches!(graph.nodes[held - 1].op, Op::Constant(_));
        live -= ended.into_iter().filter(|&held| !constant(held)).map(size).sum::<u64>();
    }
    peak
}

/// The value whose buffer each value lies in.
fn holders(graph: &Graph) -> Vec<usize> {
    let mut holder: Vec<usize> = (0..=graph.nodes.len()).collect();
    let mut reads = vec![0; graph.nodes.len() + 1];
    graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|input| reads[input.0] += 1);
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Reshape | Op::Clip { .. }) && reads[node.inputs[0].0] == 1 {
            holder[index + 1] = holder[node.inputs[0].0];
        }
    }
    holder
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|&extent| extent as u64).product()
}
