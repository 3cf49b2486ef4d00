//! The graph while it is being built, and the rewrites that finish it: affine maps are folded into the layers before them,
//! reorderings into the weights behind them, and what nothing reads is dropped.

use std::sync::Arc;

use super::super::forward::pointwise::transposed_order;
use super::super::{Conv, Dense, Graph, Node, Op, ValueId, Window};
use super::Unsupported;

/// Largest vector on which a lone affine map becomes a diagonal matrix.
const MAX_DIAGONAL: usize = 4096;

/// An operation of the draft.
pub enum DraftOp {
    /// A final operation.
    Op(Op),
    /// `x * scale[c] + shift[c]` along the last stored axis; not an operation of the finished graph.
    Affine { scale: Vec<f32>, shift: Vec<f32> },
}

/// A node of the draft; fields as in [`Node`].
pub struct DraftNode {
    pub name: String,
    pub tensor: String,
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
    pub fn finish(mut self, name: String, input_tensor: String, output: ValueId) -> Result<Graph, Vec<Unsupported>> {
        let output = self.fold_affines(output);
        let ops = self.materialize()?;
        let mut graph =
            Graph { name, input_tensor, input_shape: self.input_shape, nodes: ops, output, aliases: self.aliases };
        fold_reorderings(&mut graph);
        drop_dead(&mut graph);
        Ok(graph)
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
            let DraftOp::Affine { scale, shift } = &node.op else { continue };
            let Some(producer) = node.inputs[0].0.checked_sub(1).filter(|_| reads[node.inputs[0].0] == 1) else {
                continue;
            };
            let layer = &mut before[producer];
            if !scale_outputs(&mut layer.op, scale, shift) {
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

    /// Final operations; affine maps that are left become depthwise 1x1 convolutions or diagonal matrices.
    fn materialize(&mut self) -> Result<Vec<Node>, Vec<Unsupported>> {
        let mut problems = Vec::new();
        let mut nodes = Vec::new();
        for node in std::mem::take(&mut self.nodes) {
            let op = match node.op {
                DraftOp::Op(op) => op,
                DraftOp::Affine { scale, shift } => match lone_affine(scale, shift, node.shape.len()) {
                    Ok(op) => op,
                    Err(reason) => {
                        problems.push(Unsupported { node: node.name, op: "affine map".into(), reason });
                        continue;
                    }
                },
            };
            nodes.push(Node { name: node.name, tensor: node.tensor, op, inputs: node.inputs, shape: node.shape });
        }
        if problems.is_empty() { Ok(nodes) } else { Err(problems) }
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
fn scale_outputs(op: &mut DraftOp, scale: &[f32], shift: &[f32]) -> bool {
    let (weights, bias) = match op {
        DraftOp::Op(Op::Conv(Conv { weights, bias, .. }) | Op::Dense(Dense { weights, bias, .. })) => (weights, bias),
        DraftOp::Affine { scale: first, shift: bias } => {
            scale_rows(first, 1, scale);
            scale_rows(bias, 1, scale);
            bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
            return true;
        }
        DraftOp::Op(_) => return false,
    };
    let mut scaled = weights.to_vec();
    scale_rows(&mut scaled, weights.len() / scale.len(), scale);
    let shifted: Vec<f32> = bias.iter().zip(scale.iter().zip(shift)).map(|(b, (s, t))| b * s + t).collect();
    (*weights, *bias) = (scaled.into(), shifted.into());
    true
}

fn scale_rows(rows: &mut [f32], length: usize, scale: &[f32]) {
    for (row, scale) in rows.chunks_exact_mut(length.max(1)).zip(scale) {
        row.iter_mut().for_each(|weight| *weight *= scale);
    }
}

fn lone_affine(scale: Vec<f32>, shift: Vec<f32>, rank: usize) -> Result<Op, String> {
    let channels = scale.len();
    match rank {
        3 => Ok(Op::Conv(Conv {
            window: Window { kernel: [1, 1], stride: [1, 1], pad: [0; 4], dilation: [1, 1] },
            groups: channels,
            out_channels: channels,
            weights: scale.into(),
            bias: shift.into(),
        })),
        1 | 2 if channels <= MAX_DIAGONAL => {
            let mut weights = vec![0.0; channels * channels];
            weights.iter_mut().step_by(channels + 1).zip(scale).for_each(|(weight, scale)| *weight = scale);
            Ok(Op::Dense(Dense { out_features: channels, weights: weights.into(), bias: shift.into() }))
        }
        _ => Err(format!(
            "a scale and shift of {channels} channels on a rank-{rank} tensor stands alone; place it right behind a \
             convolution or fully connected layer"
        )),
    }
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
        let mut weights = vec![0.0; dense.weights.len()];
        for (row, new_row) in dense.weights.chunks_exact(order.len()).zip(weights.chunks_exact_mut(order.len())) {
            row.iter().zip(&order).for_each(|(&weight, &at)| new_row[at] = weight);
        }
        let dense = Dense { weights: Arc::from(weights), ..dense.clone() };
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
fn drop_dead(graph: &mut Graph) {
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
