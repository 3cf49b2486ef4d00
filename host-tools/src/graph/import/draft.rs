//! The graph while it is being built, and the rewrites that finish it: affine maps are folded into the layers before them,
//! reorderings into the weights behind them, and what nothing reads is dropped.

use super::super::forward::pointwise::transposed_order;
use super::super::{ChannelMap, Conv, Dense, Graph, Node, Op, Origin, ValueId, Weights, Window};

/// Largest vector on which a lone affine map becomes a diagonal matrix.
const MAX_DIAGONAL: usize = 512;

/// An operation of the draft.
pub enum DraftOp {
    /// A final operation.
    Op(Op),
    /// `x * scale[c] + shift[c]` along the last stored axis, folded into the layer before it where possible.
    Affine {
        map: ChannelMap,
        /// The tensor is a map stored HWC.
        on_map: bool,
    },
}

/// A node of the draft; fields as in [`Node`].
pub struct DraftNode {
    pub name: String,
    pub tensor: String,
    pub operator: String,
    pub op: DraftOp,
    pub inputs: Vec<ValueId>,
    pub shape: Vec<usize>,
}

/// The draft.
pub struct Draft {
    pub input_shape: Vec<usize>,
    pub nodes: Vec<DraftNode>,
    pub aliases: Vec<(String, ValueId)>,
}

impl Draft {
    /// Appends a node.
    pub fn push(&mut self, node: DraftNode) -> ValueId {
        self.nodes.push(node);
        ValueId(self.nodes.len())
    }

    /// Per-sample stored shape of a value.
    pub fn shape(&self, value: ValueId) -> &[usize] {
        match value.0 {
            0 => &self.input_shape,
            i => &self.nodes[i - 1].shape,
        }
    }

    /// Whether a value cannot be negative.
    pub fn is_non_negative(&self, value: ValueId) -> bool {
        let op = value.0.checked_sub(1).map(|i| &self.nodes[i].op);
        matches!(op, Some(DraftOp::Op(Op::Clip { lo, .. })) if *lo >= 0.0)
    }

    /// Rewrites the draft into a graph that returns `output`.
    pub fn finish(mut self, name: String, input_tensor: String, output: ValueId) -> Graph {
        let output = self.fold_affines(output);
        let ops = self.materialize();
        let mut graph =
            Graph { name, input_tensor, input_shape: self.input_shape, nodes: ops, output, aliases: self.aliases };
        fold_reorderings(&mut graph);
        drop_dead(&mut graph);
        graph
    }

    /// Reads of each value by live nodes; the graph's output counts as one.
    fn reads(&self, output: ValueId) -> Vec<usize> {
        let inputs: Vec<&[ValueId]> = self.nodes.iter().map(|node| node.inputs.as_slice()).collect();
        reads(&inputs, output)
    }

    /// Folds each affine map into the layer before it when nothing else reads that layer. Returns the output's new id.
    fn fold_affines(&mut self, output: ValueId) -> ValueId {
        let mut reads = self.reads(output);
        let mut now: Vec<ValueId> = (0..=self.nodes.len()).map(ValueId).collect();
        for index in 0..self.nodes.len() {
            let (before, rest) = self.nodes.split_at_mut(index);
            let node = &mut rest[0];
            node.inputs.iter_mut().for_each(|input| *input = now[input.0]);
            let DraftOp::Affine { map, .. } = &node.op else { continue };
            let Some(producer) = node.inputs[0].0.checked_sub(1).filter(|_| reads[node.inputs[0].0] == 1) else {
                continue;
            };
            let layer = &mut before[producer];
            if !scale_outputs(&mut layer.op, map) {
                continue;
            }
            let old = std::mem::replace(&mut layer.tensor, node.tensor.clone());
            self.aliases.push((old, ValueId(producer + 1)));
            now[index + 1] = ValueId(producer + 1);
            reads[producer + 1] = reads[index + 1];
        }
        self.aliases.iter_mut().for_each(|(_, value)| *value = now[value.0]);
        now[output.0]
    }

    /// Final operations; affine maps that are left on feature maps become depthwise 1x1 convolutions, on short vectors
    /// diagonal matrices.
    fn materialize(&mut self) -> Vec<Node> {
        let node = |node: DraftNode| {
            let op = match node.op {
                DraftOp::Op(op) => op,
                DraftOp::Affine { map, on_map } => lone_affine(map, on_map, node.shape.len()),
            };
            let DraftNode { name, tensor, operator, inputs, shape, .. } = node;
            Node { name, tensor, operator, op, inputs, shape }
        };
        std::mem::take(&mut self.nodes).into_iter().map(node).collect()
    }
}

fn reads(inputs: &[&[ValueId]], output: ValueId) -> Vec<usize> {
    let mut reads = vec![0; inputs.len() + 1];
    reads[output.0] = 1;
    for (index, inputs) in inputs.iter().enumerate().rev() {
        if reads[index + 1] > 0 {
            inputs.iter().for_each(|input| reads[input.0] += 1);
        }
    }
    reads
}

/// Scales and shifts what an operation returns per channel; `false` where it has no weights.
fn scale_outputs(op: &mut DraftOp, map: &ChannelMap) -> bool {
    let (weights, bias) = match op {
        DraftOp::Op(Op::Conv(Conv { weights, bias, .. }) | Op::Dense(Dense { weights, bias, .. })) => (weights, bias),
        DraftOp::Affine { map: first, .. } => (&mut first.scale, &mut first.shift),
        DraftOp::Op(_) => return false,
    };
    let (scale, shift) = (map.scale.clone(), map.shift.clone());
    let length = weights.len() / scale.len().max(1);
    if scale.origin.is_absent && scale.iter().all(|&factor| factor == 1.0) {
        *bias = shifted(bias, &scale, &shift);
        return true;
    }
    *bias = shifted(bias, &scale, &shift);
    let origin = weights.origin;
    *weights = weights.map(move |weights| scaled_rows(weights, length, &scale)).with_origin(origin);
    true
}

fn shifted(bias: &Weights, scale: &Weights, shift: &Weights) -> Weights {
    let has_scale = !scale.origin.is_absent && !scale.origin.has_norm;
    let origin = Origin {
        is_absent: bias.origin.is_absent && (shift.origin.is_absent || shift.origin.has_norm),
        has_norm: bias.origin.has_norm || scale.origin.has_norm,
        has_scale: bias.origin.has_scale || has_scale,
        is_diagonal: false,
        made_from: None,
    };
    let (scale, shift) = (scale.clone(), shift.clone());
    let change = move |bias: &[f32]| {
        bias.iter().zip(scale.iter().zip(shift.iter())).map(|(b, (s, t))| b * s + t).collect::<Vec<f32>>()
    };
    bias.map(change).with_origin(origin)
}

fn scaled_rows(rows: &[f32], length: usize, scale: &[f32]) -> Vec<f32> {
    let scaled = |(row, &scale): (&[f32], &f32)| row.iter().map(move |weight| weight * scale).collect::<Vec<f32>>();
    rows.chunks_exact(length.max(1)).zip(scale).flat_map(scaled).collect()
}

fn lone_affine(map: ChannelMap, on_map: bool, rank: usize) -> Op {
    let channels = map.scale.len();
    if on_map {
        return Op::Conv(Conv {
            window: Window { kernel: [1, 1], stride: [1, 1], pad: [0; 4], dilation: [1, 1] },
            groups: channels,
            out_channels: channels,
            weights: map.scale,
            bias: map.shift,
        });
    }
    if rank != 1 || channels > MAX_DIAGONAL {
        return Op::Affine(map);
    }
    let diagonal = move |scale: &[f32]| {
        let mut weights = vec![0.0; channels * channels];
        weights.iter_mut().step_by(channels + 1).zip(scale).for_each(|(weight, &scale)| *weight = scale);
        weights
    };
    let scale = map.scale;
    let origin = Origin { is_diagonal: true, ..scale.origin };
    let weights = Weights::lazy(channels * channels, move || scale.load().map(diagonal)).with_origin(origin);
    Op::Dense(Dense { out_features: channels, weights, bias: map.shift })
}

/// Moves a transpose in front of a flattening into the weights of the fully connected layer behind it.
fn fold_reorderings(graph: &mut Graph) {
    let inputs: Vec<&[ValueId]> = graph.nodes.iter().map(|node| node.inputs.as_slice()).collect();
    let reads = reads(&inputs, graph.output);
    for index in 0..graph.nodes.len() {
        let Op::Dense(dense) = &graph.nodes[index].op else { continue };
        let Some((flatten, transpose)) = flattened_transpose(graph, &reads, graph.nodes[index].inputs[0]) else {
            continue;
        };
        let Op::Transpose { perm } = &graph.nodes[transpose].op else { continue };
        let source = graph.nodes[transpose].inputs[0];
        let order = transposed_order(graph.shape(source), perm);
        let reordered = move |weights: &[f32]| {
            let mut moved = vec![0.0; weights.len()];
            for (row, new_row) in weights.chunks_exact(order.len()).zip(moved.chunks_exact_mut(order.len())) {
                row.iter().zip(&order).for_each(|(&weight, &at)| new_row[at] = weight);
            }
            moved
        };
        let dense = Dense { weights: dense.weights.map(reordered), ..dense.clone() };
        graph.nodes[index].op = Op::Dense(dense);
        graph.nodes[flatten].inputs = vec![source];
    }
}

/// The reshape to a vector and the transpose before it, where `value` comes from them alone, activations between allowed.
fn flattened_transpose(graph: &Graph, reads: &[usize], value: ValueId) -> Option<(usize, usize)> {
    let mut at = value;
    loop {
        let node = graph.producer(at).filter(|_| reads[at.0] == 1)?;
        match node.op {
            Op::Clip { .. } => at = node.inputs[0],
            Op::Reshape if node.shape.len() == 1 => break,
            _ => return None,
        }
    }
    let transpose = graph.nodes[at.0 - 1].inputs[0];
    let node = graph.producer(transpose).filter(|_| reads[transpose.0] == 1)?;
    matches!(node.op, Op::Transpose { .. }).then_some((at.0 - 1, transpose.0 - 1))
}

/// Removes nodes that the output does not depend on, and aliases that lead to them.
pub fn drop_dead(graph: &mut Graph) {
    let inputs: Vec<&[ValueId]> = graph.nodes.iter().map(|node| node.inputs.as_slice()).collect();
    let reads = reads(&inputs, graph.output);
    let mut now: Vec<Option<ValueId>> = vec![Some(ValueId::INPUT)];
    let mut nodes = Vec::new();
    for (index, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        if reads[index + 1] == 0 {
            now.push(None);
            continue;
        }
        node.inputs.iter_mut().for_each(|input| *input = now[input.0].unwrap_or(ValueId::INPUT));
        nodes.push(node);
        now.push(Some(ValueId(nodes.len())));
    }
    graph.nodes = nodes;
    graph.output = now[graph.output.0].unwrap_or(ValueId::INPUT);
    graph.aliases = std::mem::take(&mut graph.aliases)
        .into_iter()
        .filter_map(|(name, value)| Some((name, now[value.0]?)))
        .collect();
}
