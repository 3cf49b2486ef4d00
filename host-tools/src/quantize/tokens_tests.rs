//! Transformers: a whole small one, and the operators' limits.

use super::*;
use crate::graph::attention::join;
use crate::graph::{Attention, ChannelMap, Function};

const WIDTH: usize = 24;
const HEADS: usize = 3;

impl Builder {
    fn constant(&mut self, shape: &[usize], seed: u32) -> usize {
        let values = noise(shape.iter().product(), seed);
        self.node(Op::Constant(values.into()), &[], shape)
    }

    fn norm(&mut self, input: usize, tokens: usize) -> usize {
        let seed = self.graph.nodes.len() as u32;
        let scale: Vec<f32> = noise(WIDTH, seed).iter().map(|v| 1.0 + v / 2.0).collect();
        let affine = ChannelMap { scale: scale.into(), shift: noise(WIDTH, seed + 1).into() };
        self.node(Op::LayerNorm { affine, epsilon: 1e-6 }, &[input], &[tokens, WIDTH])
    }

    fn dense(&mut self, input: usize, tokens: usize, [from, to]: [usize; 2]) -> usize {
        let seed = self.graph.nodes.len() as u32;
        let size = (3.0 / from as f32).sqrt();
        let weights: Vec<f32> = noise(to * from, seed).iter().map(|v| v * size).collect();
        let dense = Dense { out_features: to, weights: weights.into(), bias: noise(to, seed + 1).into() };
        self.node(Op::Dense(dense), &[input], &[tokens, to])
    }

    /// Attention written as slices, reorderings and products.
    fn attend(&mut self, qkv: usize, tokens: usize) -> usize {
        let features = WIDTH / HEADS;
        let split = self.node(Op::Reshape, &[qkv], &[tokens, 3, HEADS, features]);
        let parts = [0, 1, 2].map(|start| {
            let part = self.node(Op::Slice { axis: 1, start, step: 1 }, &[split], &[tokens, 1, HEADS, features]);
            let part = self.node(Op::Reshape, &[part], &[tokens, HEADS, features]);
            self.node(Op::Transpose { perm: vec![1, 0, 2] }, &[part], &[HEADS, tokens, features])
        });
        let map = ChannelMap { scale: vec![0.35; features].into(), shift: vec![0.0; features].into() };
        let query = self.node(Op::Affine(map), &[parts[0]], &[HEADS, tokens, features]);
        let scores = self.node(Op::MatMul { transpose_b: true }, &[query, parts[1]], &[HEADS, tokens, tokens]);
        let weights = self.node(Op::Softmax, &[scores], &[HEADS, tokens, tokens]);
        let mixed = self.node(Op::MatMul { transpose_b: false }, &[weights, parts[2]], &[HEADS, tokens, features]);
        let back = self.node(Op::Transpose { perm: vec![1, 0, 2] }, &[mixed], &[tokens, HEADS, features]);
        self.node(Op::Reshape, &[back], &[tokens, WIDTH])
    }

    fn block(&mut self, input: usize, tokens: usize) -> usize {
        let norm = self.norm(input, tokens);
        let qkv = self.dense(norm, tokens, [WIDTH, 3 * WIDTH]);
        let mixed = self.attend(qkv, tokens);
        let projected = self.dense(mixed, tokens, [WIDTH, WIDTH]);
        let sum = self.node(Op::Add, &[input, projected], &[tokens, WIDTH]);
        let norm = self.norm(sum, tokens);
        let wide = self.dense(norm, tokens, [WIDTH, 2 * WIDTH]);
        let gelu = self.node(Op::Unary(Function::Gelu), &[wide], &[tokens, 2 * WIDTH]);
        let narrow = self.dense(gelu, tokens, [2 * WIDTH, WIDTH]);
        self.node(Op::Add, &[sum, narrow], &[tokens, WIDTH])
    }
}

/// Patches, a class token, positions, one block, and the class token's logits.
fn with_class_token() -> Graph {
    let mut b = Builder::new(&[8, 8, 3]);
    let window = Window { kernel: [2, 2], stride: [2, 2], pad: [0; 4], dilation: [1, 1] };
    let patches = b.conv(window, 1, 0, &[4, 4, WIDTH]);
    let tokens = b.node(Op::Reshape, &[patches], &[16, WIDTH]);
    let class = b.constant(&[1, WIDTH], 70);
    let joined = b.node(Op::Concat { axis: 0 }, &[class, tokens], &[17, WIDTH]);
    let positions = b.constant(&[17, WIDTH], 71);
    let embedded = b.node(Op::Add, &[joined, positions], &[17, WIDTH]);
    let block = b.block(embedded, 17);
    let norm = b.norm(block, 17);
    let first = b.node(Op::Slice { axis: 0, start: 0, step: 1 }, &[norm], &[1, WIDTH]);
    let flat = b.node(Op::Reshape, &[first], &[WIDTH]);
    let head = Dense { out_features: 10, weights: noise(10 * WIDTH, 4).into(), bias: noise(10, 5).into() };
    b.node(Op::Dense(head), &[flat], &[10]);
    join(&b.graph)
}

/// Positions, one block, and the logits of the mean.
fn with_mean() -> Graph {
    let mut b = Builder::new(&[9, WIDTH]);
    let positions = b.constant(&[9, WIDTH], 71);
    let embedded = b.node(Op::Add, &[0, positions], &[9, WIDTH]);
    let block = b.block(embedded, 9);
    let norm = b.norm(block, 9);
    let mean = b.node(Op::Mean { axis: 0 }, &[norm], &[1, WIDTH]);
    b.node(Op::Reshape, &[mean], &[WIDTH]);
    join(&b.graph)
}

/// The quantizations of [`observe`], with that of a concatenation for what it joins.
fn steps_of(graph: &Graph) -> (IntegerBlock, Batch, Vec<Batch>) {
    let (input, values, mut quants) = observe(graph);
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let is_joined = |node: &Node| matches!(node.op, Op::Concat { .. });
        let feeds_one = graph.nodes.iter().any(|n| is_joined(n) && n.inputs.contains(&ValueId(index + 1)));
        if is_joined(node) || feeds_one {
            node.inputs.iter().for_each(|input| quants[input.0] = quants[index + 1]);
        }
    }
    (lower(graph, 0, &quants).expect("lowers"), input, values)
}

fn names(block: &IntegerBlock) -> Vec<&'static str> {
    block.steps.iter().map(|step| step.kernel.outline().name()).collect()
}

#[test]
fn transformers_stay_close_to_their_float_originals_on_every_processor() {
    let block = ["layernorm", "conv2d", "attention", "conv2d", "layernorm", "conv2d", "lut", "conv2d"];
    let cases = [
        (
            with_class_token(),
            [&["conv2d", "concat", "addconstant"], &block[..], &["layernorm", "slice", "conv2d"]].concat(),
        ),
        (with_mean(), [&["addconstant"], &block[..], &["layernorm", "avgpool"]].concat()),
    ];
    for (graph, want) in cases {
        let (block, input, values) = steps_of(&graph);
        assert_eq!(names(&block), want);
        let (mut signal, mut error) = (0.0, 0.0);
        for sample in 0..input.n {
            let x = quantized(input.sample(sample), block.input_quant);
            let reference = run(&block, &x, Isa::Reference);
            for &isa in Isa::available() {
                assert_eq!(run(&block, &x, isa), reference, "{}", isa.name());
            }
            let float = values[graph.output.0].sample(sample);
            for (&got, &want) in reference.last().expect("steps").iter().zip(float) {
                signal += f64::from(want).powi(2);
                error += (to_real(block.output_quant, got) - f64::from(want)).powi(2);
            }
        }
        let snr = 10.0 * (signal / error).log10();
        assert!(snr > 24.0, "{snr:.1} dB");
    }
}

#[test]
fn what_the_integer_forms_cannot_take_is_refused_by_name() {
    let attention =
        Attention { heads: 1, key_features: 1, value_features: 1, first: [0; 3], pitch: [0; 3], scale: 1.0 };
    let mut many_tokens = Builder::new(&[5000, 1]);
    many_tokens.node(Op::Attention(attention), &[0], &[5000, 1]);
    let mut wide_norm = Builder::new(&[1, 40_000]);
    let affine = ChannelMap { scale: vec![1.0; 40_000].into(), shift: vec![0.0; 40_000].into() };
    wide_norm.node(Op::LayerNorm { affine, epsilon: 0.0 }, &[0], &[1, 40_000]);
    let mut two_tensors = Builder::new(&[2, 3]);
    two_tensors.node(Op::Concat { axis: 0 }, &[0, 0], &[4, 3]);
    let mut long_mean = Builder::new(&[257, 2]);
    long_mean.node(Op::Mean { axis: 0 }, &[0], &[1, 2]);
    let cases = [(many_tokens, "5000 tokens"), (wide_norm, "40000"), (two_tensors, "concat0"), (long_mean, "mean0")];
    for (builder, want) in cases {
        let quants = vec![Quant { scale: 0.1, zero_point: 0 }; 2];
        let error = lower(&builder.graph, 0, &quants).expect_err("is refused").to_string();
        assert!(error.contains(want), "{error}");
    }
}
