//! Size of a graph: multiply-accumulates and parameters.
//!
//! One multiply-accumulate (MAC) is one weight times one activation. Convolutions and fully connected layers count over
//! all their output positions, padded taps included; pools, sums and activations count zero, as in the SN-Net paper's
//! FLOPs. Parameters are weights and biases after batch norms were folded.

use super::{Graph, Node, Op};

/// MACs of a graph for one sample.
#[must_use]
pub fn macs(graph: &Graph) -> u64 {
    graph.nodes.iter().map(node_macs).sum()
}

/// Weights and biases of a graph.
#[must_use]
pub fn params(graph: &Graph) -> u64 {
    graph.nodes.iter().map(node_params).sum()
}

/// MACs of one node for one sample: every output element needs one row of weights.
#[must_use]
pub fn node_macs(node: &Node) -> u64 {
    let outputs: u64 = node.shape.iter().map(|&extent| extent as u64).product();
    let row = match &node.op {
        Op::Conv(conv) => conv.weights.len() / conv.out_channels.max(1),
        Op::Dense(dense) => dense.weights.len() / dense.out_features.max(1),
        _ => 0,
    };
    outputs * row as u64
}

/// Weights and biases of one node.
#[must_use]
pub fn node_params(node: &Node) -> u64 {
    let count = match &node.op {
        Op::Conv(conv) => conv.weights.len() + conv.bias.len(),
        Op::Dense(dense) => dense.weights.len() + dense.bias.len(),
        _ => 0,
    };
    count as u64
}
