//! Self-attention as one operator.
//!
//! Exporters write it as a dozen nodes: slices of a fully connected layer's output, reordered by heads, two products with a
//! softmax in between, and the way back. [`join`] finds such groups by following where each tensor's elements lie in the
//! layer's output, so that the spelling does not matter.

use super::{Dense, Graph, Node, Op, ValueId, Weights};
use view::{View, views};

mod view;

/// Multi-head self-attention over the tokens of one tensor `[.., channels]`. Head `h` has its query in the channels from
/// `first[0] + h * pitch[0]` on, likewise key and value; results lie side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads.
    pub heads: usize,
    /// Features of a query and a key.
    pub key_features: usize,
    /// Features of a value.
    pub value_features: usize,
    /// First channel of the first head's query, key, value.
    pub first: [usize; 3],
    /// Channels from one head to the next.
    pub pitch: [usize; 3],
    /// Factor of the scores.
    pub scale: f32,
}

/// The graph with every group of nodes that is self-attention replaced by one node; what nothing reads any more is dropped.
#[must_use]
pub fn join(graph: &Graph) -> Graph {
    let views = views(graph);
    let finder = Finder { graph, views: &views, reads: reads(graph) };
    let found: Vec<(usize, Found)> = (0..graph.nodes.len()).filter_map(|index| finder.group(index)).collect();
    if found.is_empty() { graph.clone() } else { rebuild(graph, &found) }
}

/// A group that is self-attention.
struct Found {
    attention: Attention,
    source: Source,
}

/// Where queries, keys and values come from.
enum Source {
    /// One tensor.
    One(ValueId),
    /// Three fully connected layers over one tensor, by index of the node.
    Layers([usize; 3]),
}

struct Finder<'g> {
    graph: &'g Graph,
    views: &'g [View],
    reads: Vec<Vec<usize>>,
}

fn reads(graph: &Graph) -> Vec<Vec<usize>> {
    let mut reads = vec![Vec::new(); graph.nodes.len() + 1];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| reads[input.0].push(index));
    }
    reads
}

impl Finder<'_> {
    /// The group around the product of weights and values: the index of its last node, and what it is.
    fn group(&self, product: usize) -> Option<(usize, Found)> {
        let node = &self.graph.nodes[product];
        let Op::MatMul { transpose_b: false } = node.op else { return None };
        let weights = self.graph.producer(node.inputs[0]).filter(|node| matches!(node.op, Op::Softmax))?;
        let (scores, factor) = self.scaled(weights.inputs[0]);
        let scores = self.graph.producer(scores)?;
        let Op::MatMul { transpose_b } = scores.op else { return None };
        let query = self.heads(scores.inputs[0])?;
        let key = self.view(scores.inputs[1])?;
        let key = if transpose_b { key } else { key.swapped()? }.with_heads()?;
        let value = self.heads(node.inputs[1])?;
        let scale = query.scale * key.scale * factor;
        let [heads, tokens, key_features] = query.extents()?;
        let [value_heads, value_tokens, value_features] = value.extents()?;
        let fits = key.extents() == Some([heads, tokens, key_features])
            && (value_heads, value_tokens) == (heads, tokens)
            && scale > 0.0
            && (value.scale - 1.0).abs() < 1e-6;
        let end = self.end(product, [heads, tokens, value_features])?;
        let parts = [query, key, value];
        let (source, channels) = self.source(&parts, tokens)?;
        let mut attention = Attention { heads, key_features, value_features, first: [0; 3], pitch: [0; 3], scale };
        for (i, part) in parts.iter().enumerate() {
            attention.first[i] = part.offset + channels[i];
            attention.pitch[i] = part.strides[0];
        }
        fits.then_some((end, Found { attention, source }))
    }

    fn view(&self, value: ValueId) -> Option<View> {
        self.views.get(value.0).cloned()
    }

    /// The view of `[heads, tokens, features]`.
    fn heads(&self, value: ValueId) -> Option<View> {
        self.view(value)?.with_heads()
    }

    /// The value before a common factor, and that factor.
    fn scaled(&self, value: ValueId) -> (ValueId, f32) {
        let map = match self.graph.producer(value) {
            Some(Node { op: Op::Affine(map), inputs, .. }) => {
                view::common_factor(map).map(|factor| (inputs[0], factor))
            }
            _ => None,
        };
        map.unwrap_or((value, 1.0))
    }

    /// The node after which the results of all heads lie side by side; each node before it is read by the next one alone.
    fn end(&self, product: usize, [heads, tokens, features]: [usize; 3]) -> Option<usize> {
        let mut at = product;
        let mut is_swapped = heads == 1 || tokens == 1;
        loop {
            let node = &self.graph.nodes[at];
            if is_swapped && node.shape.last() == Some(&(heads * features)) {
                return Some(at);
            }
            let &[next] = self.reads[at + 1].as_slice() else { return None };
            if self.graph.output.0 == at + 1 {
                return None;
            }
            match &self.graph.nodes[next].op {
                Op::Reshape => {}
                Op::Transpose { perm } if *perm == [1, 0, 2] && node.shape == [heads, tokens, features] => {
                    is_swapped = true;
                }
                _ => return None,
            }
            at = next;
        }
    }

    /// The common source, and the channel at which each part starts in it.
    fn source(&self, parts: &[View; 3], tokens: usize) -> Option<(Source, [usize; 3])> {
        let roots = parts.each_ref().map(|part| part.root);
        let widths = roots.map(|root| self.graph.shape(root).last().copied().unwrap_or(1));
        for (part, width) in parts.iter().zip(widths) {
            let elements = self.graph.elements(part.root);
            if elements != tokens * width || (tokens > 1 && part.strides[1] != width) || part.strides[2] != 1 {
                return None;
            }
        }
        if roots[0] == roots[1] && roots[1] == roots[2] {
            return Some((Source::One(roots[0]), [0; 3]));
        }
        let layers = roots.map(|root| root.0.checked_sub(1));
        let [Some(query), Some(key), Some(value)] = layers else { return None };
        let input = |index: usize| match &self.graph.nodes[index] {
            Node { op: Op::Dense(_), inputs, .. } => inputs.first().copied(),
            _ => None,
        };
        let same = input(query)? == input(key)? && input(key)? == input(value)?;
        same.then_some((Source::Layers([query, key, value]), [0, widths[0], widths[0] + widths[1]]))
    }
}

/// Puts the groups' nodes in place and drops what is not needed.
fn rebuild(graph: &Graph, found: &[(usize, Found)]) -> Graph {
    let mut nodes: Vec<Node> = Vec::new();
    let mut now = vec![ValueId::INPUT; graph.nodes.len() + 1];
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut node = node.clone();
        match found.iter().find(|(end, _)| *end == index) {
            None => node.inputs.iter_mut().for_each(|input| *input = now[input.0]),
            Some((_, Found { attention, source })) => {
                let input = match source {
                    Source::One(value) => now[value.0],
                    Source::Layers(layers) => {
                        nodes.push(merged(graph, *layers, &now));
                        ValueId(nodes.len())
                    }
                };
                node.op = Op::Attention(*attention);
                node.inputs = vec![input];
            }
        }
        nodes.push(node);
        now[index + 1] = ValueId(nodes.len());
    }
    let mut joined = Graph { nodes, output: now[graph.output.0], ..graph.clone() };
    joined.aliases.iter_mut().for_each(|(_, value)| *value = now[value.0]);
    super::import::drop_dead(&mut joined);
    joined
}

/// One fully connected layer that does what three of the same input do, side by side.
fn merged(graph: &Graph, layers: [usize; 3], now: &[ValueId]) -> Node {
    let dense = |index: usize| match &graph.nodes[index].op {
        Op::Dense(dense) => dense,
        _ => unreachable!("the layers are fully connected"),
    };
    let all = layers.map(dense);
    let joined = |of: fn(&Dense) -> &Weights| -> Weights {
        all.iter().flat_map(|dense| of(dense).iter().copied()).collect::<Vec<f32>>().into()
    };
    let first = &graph.nodes[layers[0]];
    let out_features = all.iter().map(|dense| dense.out_features).sum();
    let mut shape = first.shape.clone();
    if let Some(channels) = shape.last_mut() {
        *channels = out_features;
    }
    Node {
        name: first.name.clone(),
        tensor: first.tensor.clone(),
        operator: first.operator.clone(),
        op: Op::Dense(Dense { out_features, weights: joined(|d| &d.weights), bias: joined(|d| &d.bias) }),
        inputs: first.inputs.iter().map(|input| now[input.0]).collect(),
        shape,
    }
}

#[cfg(test)]
mod tests;
