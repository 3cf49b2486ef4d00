use super::*;
use crate::graph::{Batch, ChannelMap, cost, forward};

/// Builds graphs; weights are small and irregular.
struct Build {
    graph: Graph,
}

fn noise(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 2_654_435_761 + seed * 40_503) % 1000) as f32 / 1000.0 - 0.5).collect()
}

impl Build {
    fn new(shape: &[usize]) -> Self {
        Self {
            graph: Graph {
                name: "attention".into(),
                input_tensor: "x".into(),
                input_shape: shape.to_vec(),
                nodes: Vec::new(),
                output: ValueId::INPUT,
                aliases: Vec::new(),
            },
        }
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let name = format!("{}{}", op.name(), self.graph.nodes.len());
        let operator = String::new();
        let node = Node { tensor: name.clone(), name, operator, op, inputs: inputs.to_vec(), shape: shape.to_vec() };
        self.graph.nodes.push(node);
        self.graph.output = ValueId(self.graph.nodes.len());
        self.graph.output
    }

    fn dense(&mut self, input: ValueId, out_features: usize) -> ValueId {
        let shape = self.graph.shape(input).to_vec();
        let (tokens, features) = (shape[0], shape[1]);
        let seed = self.graph.nodes.len();
        let weights = noise(seed, out_features * features).into();
        let bias = noise(seed + 1, out_features).into();
        self.push(Op::Dense(Dense { out_features, weights, bias }), &[input], &[tokens, out_features])
    }

    fn scaled(&mut self, input: ValueId, factor: f32) -> ValueId {
        let shape = self.graph.shape(input).to_vec();
        let channels = *shape.last().unwrap();
        let map = ChannelMap { scale: vec![factor; channels].into(), shift: vec![0.0; channels].into() };
        self.push(Op::Affine(map), &[input], &shape)
    }

    /// Products and softmax of `[heads, tokens, features]` parts, and heads side by side again.
    fn attend(&mut self, [q, k, v]: [ValueId; 3], factor: f32) -> ValueId {
        let [heads, tokens, _] = self.graph.shape(q).try_into().unwrap();
        let features = self.graph.shape(v)[2];
        let scores = self.push(Op::MatMul { transpose_b: true }, &[q, k], &[heads, tokens, tokens]);
        let scores = if factor == 1.0 { scores } else { self.scaled(scores, factor) };
        let weights = self.push(Op::Softmax, &[scores], &[heads, tokens, tokens]);
        let mixed = self.push(Op::MatMul { transpose_b: false }, &[weights, v], &[heads, tokens, features]);
        let swapped = self.push(Op::Transpose { perm: vec![1, 0, 2] }, &[mixed], &[tokens, heads, features]);
        self.push(Op::Reshape, &[swapped], &[tokens, heads * features])
    }

    fn by_heads(&mut self, value: ValueId) -> ValueId {
        let [tokens, heads, features] = self.graph.shape(value).try_into().unwrap();
        self.push(Op::Transpose { perm: vec![1, 0, 2] }, &[value], &[heads, tokens, features])
    }
}

/// The joined graph, which must compute the same.
fn checked(graph: &Graph) -> Graph {
    let joined = join(graph);
    let elements = graph.elements(ValueId::INPUT);
    let batch = Batch { n: 2, shape: graph.input_shape.clone(), data: noise(9, 2 * elements).repeat(1) };
    let (want, got) = (forward(graph, &batch), forward(&joined, &batch));
    let worst = want.data.iter().zip(&got.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
    assert_eq!(cost::macs(&joined), cost::macs(graph));
    joined
}

fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

fn only(graph: &Graph) -> Attention {
    let found: Vec<Attention> = graph
        .nodes
        .iter()
        .filter_map(|node| if let Op::Attention(attention) = node.op { Some(attention) } else { None })
        .collect();
    assert_eq!(found.len(), 1);
    found[0]
}

#[test]
fn one_layer_with_parts_then_heads_as_timm_writes_it() {
    let (tokens, heads, features) = (5, 3, 4);
    let mut build = Build::new(&[tokens, 12]);
    let qkv = build.dense(ValueId::INPUT, 36);
    let split = build.push(Op::Reshape, &[qkv], &[tokens, 3, heads, features]);
    let parts = [0, 1, 2].map(|start| {
        let part = build.push(Op::Slice { axis: 1, start, step: 1 }, &[split], &[tokens, 1, heads, features]);
        build.push(Op::Reshape, &[part], &[tokens, heads, features])
    });
    let (q, k) = (build.scaled(parts[0], 0.7), build.scaled(parts[1], 0.7));
    let parts = [q, k, parts[2]].map(|part| build.by_heads(part));
    build.attend(parts, 1.0);
    let joined = checked(&build.graph);
    assert_eq!(ops(&joined), ["dense", "attention"]);
    let attention = only(&joined);
    assert_eq!((attention.first, attention.pitch), ([0, 12, 24], [4; 3]));
    assert!((attention.scale - 0.49).abs() < 1e-6);
}

#[test]
fn one_layer_with_heads_then_parts_of_unequal_width() {
    let (tokens, heads) = (4, 2);
    let mut build = Build::new(&[tokens, 6]);
    let qkv = build.dense(ValueId::INPUT, 2 * (2 + 2 + 5));
    let split = build.push(Op::Reshape, &[qkv], &[tokens, heads, 9]);
    let parts = [(0, 2), (2, 2), (4, 5)].map(|(start, width)| {
        let part = build.push(Op::Slice { axis: 2, start, step: 1 }, &[split], &[tokens, heads, width]);
        build.by_heads(part)
    });
    build.attend(parts, 0.5);
    let joined = checked(&build.graph);
    assert_eq!(ops(&joined), ["dense", "attention"]);
    assert_eq!((only(&joined).first, only(&joined).pitch), ([0, 2, 4], [9; 3]));
}

#[test]
fn three_layers_become_one() {
    let (tokens, heads, features) = (3, 2, 4);
    let mut build = Build::new(&[tokens, 8]);
    let parts = [0; 3].map(|_| {
        let part = build.dense(ValueId::INPUT, heads * features);
        let part = build.push(Op::Reshape, &[part], &[tokens, heads, features]);
        build.by_heads(part)
    });
    build.attend(parts, 0.5);
    assert_eq!(ops(&checked(&build.graph)), ["dense", "attention"]);
}

#[test]
fn a_single_head_needs_no_reordering() {
    let mut build = Build::new(&[3, 4]);
    let qkv = build.dense(ValueId::INPUT, 12);
    let parts = [0, 4, 8].map(|start| build.push(Op::Slice { axis: 1, start, step: 1 }, &[qkv], &[3, 4]));
    let scores = build.push(Op::MatMul { transpose_b: true }, &[parts[0], parts[1]], &[3, 3]);
    let weights = build.push(Op::Softmax, &[scores], &[3, 3]);
    build.push(Op::MatMul { transpose_b: false }, &[weights, parts[2]], &[3, 4]);
    assert_eq!(ops(&checked(&build.graph)), ["dense", "attention"]);
}

#[test]
fn what_is_no_self_attention_stays_as_it_is() {
    let mut build = Build::new(&[3, 4]);
    let [q, k, v] = [0; 3].map(|_| build.dense(ValueId::INPUT, 4));
    // Keys that come from another tensor than the queries.
    let other = build.dense(k, 4);
    let scores = build.push(Op::MatMul { transpose_b: true }, &[q, other], &[3, 3]);
    let weights = build.push(Op::Softmax, &[scores], &[3, 3]);
    build.push(Op::MatMul { transpose_b: false }, &[weights, v], &[3, 4]);
    assert_eq!(ops(&join(&build.graph)), ops(&build.graph));
}
