//! Every operator that is a step of its own.

use super::{Draft, Random, check_graph, weights};
use crate::graph::{Arithmetic, ChannelMap, Function, Op, ValueId, Window};

fn one(what: &str, op: Op, shape: &[usize], output: &[usize], input: Vec<f32>, step: f32) {
    let (mut draft, x) = Draft::new(shape);
    draft.push(op, &[x], output);
    check_graph(what, &draft.graph, input, step);
}

#[test]
fn functions_of_one_number() {
    use Function::*;
    let kinds = [
        Gelu,
        GeluTanh,
        Silu,
        HardSwish,
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        LeakyRelu { slope: 0.1 },
        Sigmoid,
        Tanh,
        Erf,
        Exp,
        Abs,
        Power(2.0),
    ];
    for function in kinds {
        // Kinks lie at 0, +-2.5 and +-3; the values stay clear of them.
        let input: Vec<f32> = (0..39).map(|i| i as f32 * 0.2 - 3.85).collect();
        one(&format!("{function:?}"), Op::Unary(function), &[3, 13], &[3, 13], input, 0.02);
    }
    for function in [Sqrt, Reciprocal, Power(-0.5), Power(3.0)] {
        let input: Vec<f32> = (0..34).map(|i| 1.0 + i as f32 * 0.1).collect();
        one(&format!("{function:?}"), Op::Unary(function), &[17], &[17], input, 0.02);
    }
}

#[test]
fn clamps_and_pools() {
    let mut random = Random(3);
    let shape = [6, 7, 5];
    let input = random.spread(3 * 210, 0.04);
    for (lo, hi) in [(0.0, f32::INFINITY), (-2.0, 2.0), (f32::NEG_INFINITY, 1.0), (0.0, 6.0)] {
        one("clip", Op::Clip { lo, hi }, &shape, &shape, input.clone(), 0.009);
    }
    let window = |kernel: [usize; 2], stride, pad, dilation| Window { kernel, stride, pad, dilation };
    let cases = [
        (window([2, 2], [2, 2], [0; 4], [1, 1]), [3, 3]),
        (window([3, 3], [2, 2], [1; 4], [1, 1]), [3, 4]),
        (window([3, 2], [1, 2], [1, 0, 1, 1], [1, 2]), [6, 3]),
        (window([6, 7], [1, 1], [0; 4], [1, 1]), [1, 1]),
    ];
    for (window, [rows, columns]) in cases {
        let output = [rows, columns, 5];
        one(&format!("max {window:?}"), Op::MaxPool(window), &shape, &output, input.clone(), 0.015);
        one(&format!("average {window:?}"), Op::AvgPool(window), &shape, &output, input.clone(), 0.25);
    }
}

#[test]
fn norms_and_softmax() {
    for channels in [5, 16, 37] {
        let mut random = Random(channels as u64);
        let shape = [3, channels];
        let input = random.values(5 * 3 * channels);
        let map = |random: &mut Random| ChannelMap {
            scale: weights(random, channels, 1.0),
            shift: weights(random, channels, 1.0),
        };
        one("affine", Op::Affine(map(&mut random)), &shape, &shape, input.clone(), 0.25);
        let norm = Op::LayerNorm { affine: map(&mut random), epsilon: 1e-5 };
        one("layer norm", norm, &shape, &shape, input.clone(), 0.01);
        one("softmax", Op::Softmax, &shape, &shape, input.iter().map(|x| 3.0 * x).collect(), 0.02);
        for (axis, output) in [(0, [1, channels]), (1, [3, 1])] {
            one("mean", Op::Mean { axis }, &shape, &output, input.clone(), 0.25);
        }
    }
}

#[test]
fn moves() {
    let mut random = Random(9);
    let shape = [4, 3, 6];
    let input = random.values(3 * 72);
    for perm in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]] {
        let output = perm.map(|axis| shape[axis]);
        one(&format!("{perm:?}"), Op::Transpose { perm: perm.to_vec() }, &shape, &output, input.clone(), 0.25);
    }
    let slices = [(0, 1, 2, [2, 3, 6]), (2, 5, -2, [4, 3, 3]), (1, 0, 1, [4, 2, 6]), (2, 3, 1, [4, 3, 3])];
    for (axis, start, step, output) in slices {
        one(&format!("slice {axis}"), Op::Slice { axis, start, step }, &shape, &output, input.clone(), 0.25);
    }
    let gather = Op::Gather { axis: 1, indices: vec![2, 0, 2, 2] };
    one("gather", gather, &shape, &[4, 4, 6], input.clone(), 0.25);
    for axis in 0..3 {
        let (mut draft, x) = Draft::new(&shape);
        let constant = draft.constant(random.values(72), &shape);
        let mut output = shape;
        output[axis] *= 3;
        draft.push(Op::Concat { axis }, &[x, constant, x], &output);
        check_graph(&format!("concat {axis}"), &draft.graph, input.clone(), 0.25);
    }
}

#[test]
fn arithmetic_with_repetition() {
    use Arithmetic::*;
    let mut random = Random(4);
    let full = [3, 2, 5];
    for arithmetic in [Add, Sub, Mul, Div, Max, Min] {
        for other in [[3, 2, 5], [1, 1, 1], [1, 1, 5], [3, 1, 1], [1, 2, 1]] {
            let input: Vec<f32> = random.spread(90, 0.1);
            let count: usize = other.iter().product();
            let operand: Vec<f32> = random.spread(count, 0.4).iter().map(|x| 0.5 * x.signum() + x + 0.025).collect();
            for swapped in [false, true] {
                if swapped && arithmetic == Div {
                    continue;
                }
                let (mut draft, x) = Draft::new(&full);
                let constant = draft.constant(operand.clone(), &other);
                let inputs = if swapped { [constant, x] } else { [x, constant] };
                draft.push(Op::Binary(arithmetic), &inputs, &full);
                check_graph(&format!("{arithmetic:?} {other:?} {swapped}"), &draft.graph, input.clone(), 0.01);
            }
        }
    }
}

#[test]
fn products_of_activations() {
    let mut random = Random(6);
    /// Shapes of both operands and the result, whether the second one is transposed; a leading extent of 1 is repeated.
    type Case<'a> = (&'a [usize], &'a [usize], &'a [usize], bool);
    let cases: [Case<'_>; 5] = [
        (&[4, 5], &[5, 3], &[4, 3], false),
        (&[4, 5], &[3, 5], &[4, 3], true),
        (&[2, 4, 5], &[2, 3, 5], &[2, 4, 3], true),
        (&[2, 4, 5], &[1, 5, 3], &[2, 4, 3], false),
        (&[1, 4, 5], &[3, 5, 2], &[3, 4, 2], false),
    ];
    for (a, b, output, transpose_b) in cases {
        let (mut draft, x) = Draft::new(a);
        let constant = draft.constant(random.values(b.iter().product()), b);
        // The second operand depends on the constant through a function, so that it is an activation.
        let operand = draft.push(Op::Unary(Function::Tanh), &[constant], b);
        draft.push(Op::MatMul { transpose_b }, &[x, operand], output);
        let input = random.values(3 * a.iter().product::<usize>());
        check_graph(&format!("{a:?} {b:?}"), &draft.graph, input, 0.02);
    }
    // One value on both sides.
    let (mut draft, x) = Draft::new(&[4, 4]);
    draft.push(Op::MatMul { transpose_b: true }, &[x, x], &[4, 4]);
    check_graph("gram", &draft.graph, random.values(32), 0.02);
}

#[test]
fn a_transformer_block() {
    let mut random = Random(12);
    let (tokens, width, heads) = (7, 12, 2);
    let (mut draft, x) = Draft::new(&[tokens, width]);
    let dense = |random: &mut Random, from: usize, to: usize| {
        Op::Dense(crate::graph::Dense {
            out_features: to,
            weights: weights(random, from * to, 1.0 / (from as f32).sqrt()),
            bias: weights(random, to, 0.5),
        })
    };
    let norm = |random: &mut Random| Op::LayerNorm {
        affine: ChannelMap { scale: weights(random, width, 1.0), shift: weights(random, width, 1.0) },
        epsilon: 1e-5,
    };
    let normed = draft.push(norm(&mut random), &[x], &[tokens, width]);
    let qkv = draft.push(dense(&mut random, width, 3 * width), &[normed], &[tokens, 3 * width]);
    let split = draft.push(Op::Reshape, &[qkv], &[tokens, 3, heads, width / heads]);
    let perm = vec![1, 2, 0, 3];
    let moved = draft.push(Op::Transpose { perm }, &[split], &[3, heads, tokens, width / heads]);
    let parts: Vec<ValueId> = (0..3)
        .map(|start| {
            let part = draft.push(Op::Slice { axis: 0, start, step: 1 }, &[moved], &[1, heads, tokens, width / heads]);
            draft.push(Op::Reshape, &[part], &[heads, tokens, width / heads])
        })
        .collect();
    let scale = draft.constant(vec![0.4], &[1, 1, 1]);
    let q = draft.push(Op::Binary(Arithmetic::Mul), &[parts[0], scale], &[heads, tokens, width / heads]);
    let scores = draft.push(Op::MatMul { transpose_b: true }, &[q, parts[1]], &[heads, tokens, tokens]);
    let shares = draft.push(Op::Softmax, &[scores], &[heads, tokens, tokens]);
    let mixed = draft.push(Op::MatMul { transpose_b: false }, &[shares, parts[2]], &[heads, tokens, width / heads]);
    let mixed = draft.push(Op::Transpose { perm: vec![1, 0, 2] }, &[mixed], &[tokens, heads, width / heads]);
    let mixed = draft.push(Op::Reshape, &[mixed], &[tokens, width]);
    let out = draft.push(dense(&mut random, width, width), &[mixed], &[tokens, width]);
    let x = draft.push(Op::Add, &[x, out], &[tokens, width]);
    let normed = draft.push(norm(&mut random), &[x], &[tokens, width]);
    let hidden = draft.push(dense(&mut random, width, 4 * width), &[normed], &[tokens, 4 * width]);
    let hidden = draft.push(Op::Unary(Function::Gelu), &[hidden], &[tokens, 4 * width]);
    let out = draft.push(dense(&mut random, 4 * width, width), &[hidden], &[tokens, width]);
    draft.push(Op::Add, &[x, out], &[tokens, width]);
    check_graph("block", &draft.graph, random.values(3 * tokens * width), 0.01);
}
