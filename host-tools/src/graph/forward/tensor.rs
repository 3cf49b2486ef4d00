//! Operators of transformers: norms, functions, arithmetic with repetition, products of activations, and moves.

use super::super::{Arithmetic, Attention, ChannelMap, Function, Graph, Node, Op};
use super::attention;

/// A node of one of these operators, ready to run.
pub enum TensorKernel<'g> {
    Affine {
        scale: &'g [f32],
        shift: &'g [f32],
    },
    LayerNorm {
        scale: &'g [f32],
        shift: &'g [f32],
        epsilon: f32,
    },
    Unary(Function),
    Binary {
        arithmetic: Arithmetic,
        left: Walk,
        right: Walk,
    },
    MatMul(Product),
    /// Output element `i` is input element `order[i]`.
    Take {
        order: Vec<usize>,
    },
    Concat {
        inner: usize,
        extents: Vec<usize>,
    },
    Mean {
        extent: usize,
        inner: usize,
    },
    Constant(&'g [f32]),
    Attention {
        attention: Attention,
        channels: usize,
        tokens: usize,
    },
}

/// How the elements of an operand are visited.
pub enum Walk {
    /// One after the other.
    Straight,
    /// In this order, some of them several times.
    Order(Vec<usize>),
}

/// Matrix products of one sample.
pub struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
    transpose_b: bool,
    /// Matrices of both operands for each matrix of the result.
    pairs: Vec<(usize, usize)>,
}

impl<'g> TensorKernel<'g> {
    /// Prepares a node; `None` if its operator is not one of these.
    pub fn new(graph: &'g Graph, node: &'g Node) -> Option<Self> {
        let input = node.inputs.first().map_or(&[][..], |&value| graph.shape(value));
        let shapes = || node.inputs.iter().map(|&value| graph.shape(value));
        Some(match &node.op {
            Op::Affine(ChannelMap { scale, shift }) => Self::Affine { scale, shift },
            Op::LayerNorm { affine, epsilon } => {
                Self::LayerNorm { scale: &affine.scale, shift: &affine.shift, epsilon: *epsilon }
            }
            Op::Unary(function) => Self::Unary(*function),
            Op::Binary(arithmetic) => {
                let walk = |i: usize| repeated(graph.shape(node.inputs[i]), &node.shape);
                Self::Binary { arithmetic: *arithmetic, left: walk(0), right: walk(1) }
            }
            Op::MatMul { transpose_b } => {
                Self::MatMul(Product::new(input, graph.shape(node.inputs[1]), &node.shape, *transpose_b))
            }
            Op::Slice { axis, start, step } => {
                let at = |i: usize| start.wrapping_add_signed(i as isize * step);
                Self::Take { order: taken(input, *axis, &(0..node.shape[*axis]).map(at).collect::<Vec<_>>()) }
            }
            Op::Gather { axis, indices } => Self::Take { order: taken(input, *axis, indices) },
            Op::Concat { axis } => Self::Concat {
                inner: input[axis + 1..].iter().product(),
                extents: shapes().map(|shape| shape[*axis]).collect(),
            },
            Op::Mean { axis } => Self::Mean { extent: input[*axis], inner: input[axis + 1..].iter().product() },
            Op::Constant(values) => Self::Constant(values),
            Op::Attention(attention) => {
                let channels = input.last().copied().unwrap_or(1);
                let tokens = input.iter().product::<usize>() / channels.max(1);
                Self::Attention { attention: *attention, channels, tokens }
            }
            _ => return None,
        })
    }

    /// Computes all samples.
    pub fn run(&self, inputs: &[&[f32]], output: &mut [f32]) {
        match self {
            Self::Affine { scale, shift } => {
                for (row, out) in inputs[0].chunks_exact(scale.len()).zip(output.chunks_exact_mut(scale.len())) {
                    let constants = scale.iter().zip(*shift);
                    out.iter_mut()
                        .zip(row)
                        .zip(constants)
                        .for_each(|((out, x), (scale, shift))| *out = x * scale + shift);
                }
            }
            Self::LayerNorm { scale, shift, epsilon } => layer_norm(inputs[0], output, scale, shift, *epsilon),
            Self::Unary(function) => {
                output.iter_mut().zip(inputs[0]).for_each(|(out, &x)| *out = apply(*function, x));
            }
            Self::Binary { arithmetic, left, right } => {
                binary(*arithmetic, (left, inputs[0]), (right, inputs[1]), output)
            }
            Self::MatMul(product) => product.run(inputs[0], inputs[1], output),
            Self::Take { order } => {
                let samples = output.len() / order.len().max(1);
                let length = inputs[0].len() / samples.max(1);
                for (sample, out) in inputs[0].chunks_exact(length.max(1)).zip(output.chunks_exact_mut(order.len())) {
                    out.iter_mut().zip(order).for_each(|(out, &from)| *out = sample[from]);
                }
            }
            Self::Concat { inner, extents } => {
                let row: usize = extents.iter().sum::<usize>() * inner;
                for (i, out) in output.chunks_exact_mut(row.max(1)).enumerate() {
                    let mut at = 0;
                    for (input, extent) in inputs.iter().zip(extents) {
                        let length = extent * inner;
                        out[at..at + length].copy_from_slice(&input[i * length..][..length]);
                        at += length;
                    }
                }
            }
            Self::Mean { extent, inner } => {
                for (block, out) in inputs[0].chunks_exact(extent * inner).zip(output.chunks_exact_mut(*inner)) {
                    out.fill(0.0);
                    for row in block.chunks_exact(*inner) {
                        out.iter_mut().zip(row).for_each(|(out, x)| *out += x);
                    }
                    out.iter_mut().for_each(|out| *out /= *extent as f32);
                }
            }
            Self::Attention { attention, channels, tokens } => {
                attention::run(attention, *channels, *tokens, inputs[0], output);
            }
            Self::Constant(values) => {
                output.chunks_exact_mut(values.len().max(1)).for_each(|sample| sample.copy_from_slice(values));
            }
        }
    }
}

fn layer_norm(input: &[f32], output: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    let channels = scale.len();
    for (row, out) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / channels as f64;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / channels as f64;
        let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
        for (i, (out, &x)) in out.iter_mut().zip(row).enumerate() {
            *out = ((f64::from(x) - mean) * factor) as f32 * scale[i] + shift[i];
        }
    }
}

fn binary(arithmetic: Arithmetic, left: (&Walk, &[f32]), right: (&Walk, &[f32]), output: &mut [f32]) {
    let combine = |a: f32, b: f32| match arithmetic {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div => a / b,
        Arithmetic::Max => a.max(b),
        Arithmetic::Min => a.min(b),
    };
    let period = [left.0, right.0].iter().find_map(|walk| match walk {
        Walk::Order(order) => Some(order.len()),
        Walk::Straight => None,
    });
    let period = period.unwrap_or(output.len()).max(1);
    let samples = (output.len() / period).max(1);
    let at = |(walk, values): (&Walk, &[f32]), sample: usize, i: usize| match walk {
        Walk::Straight => values[sample * period + i],
        Walk::Order(order) => values[sample * (values.len() / samples) + order[i]],
    };
    for (sample, out) in output.chunks_exact_mut(period).enumerate() {
        for (i, out) in out.iter_mut().enumerate() {
            *out = combine(at(left, sample, i), at(right, sample, i));
        }
    }
}

/// Elements of a tensor of `shape` for each element of `full`, extents of 1 repeated.
fn repeated(shape: &[usize], full: &[usize]) -> Walk {
    if shape == full {
        return Walk::Straight;
    }
    let strides = strides(shape);
    Walk::Order((0..full.len()).fold(vec![0], |order: Vec<usize>, axis| {
        let stride = if shape[axis] == 1 { 0 } else { strides[axis] };
        order.iter().flat_map(|base| (0..full[axis]).map(move |i| base + i * stride)).collect()
    }))
}

/// Elements of a tensor whose `axis` is replaced by the listed indices of it.
fn taken(shape: &[usize], axis: usize, indices: &[usize]) -> Vec<usize> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let row = |at: usize| (0..inner).map(move |i| at * inner + i);
    (0..outer).flat_map(|block| indices.iter().flat_map(move |index| row(block * shape[axis] + index))).collect()
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

impl Product {
    fn new(a: &[usize], b: &[usize], output: &[usize], transpose_b: bool) -> Self {
        let split = output.len() - 2;
        let matrices = |shape: &[usize]| match repeated(&shape[..split], &output[..split]) {
            Walk::Straight => (0..output[..split].iter().product()).collect(),
            Walk::Order(order) => order,
        };
        let pairs = matrices(a).into_iter().zip(matrices(b)).collect();
        Self { rows: output[split], depth: a[split + 1], columns: output[split + 1], transpose_b, pairs }
    }

    fn run(&self, a: &[f32], b: &[f32], output: &mut [f32]) {
        let (rows, depth, columns) = (self.rows, self.depth, self.columns);
        let sample = (self.pairs.len() * rows * columns).max(1);
        let samples = (output.len() / sample).max(1);
        for (n, output) in output.chunks_exact_mut(sample).enumerate() {
            let (a, b) = (&a[n * (a.len() / samples)..], &b[n * (b.len() / samples)..]);
            for (&(i, j), out) in self.pairs.iter().zip(output.chunks_exact_mut(rows * columns)) {
                let (a, b) = (&a[i * rows * depth..][..rows * depth], &b[j * depth * columns..][..depth * columns]);
                for (a, out) in a.chunks_exact(depth).zip(out.chunks_exact_mut(columns)) {
                    self.row(a, b, out);
                }
            }
        }
    }

    fn row(&self, a: &[f32], b: &[f32], out: &mut [f32]) {
        if self.transpose_b {
            for (b, out) in b.chunks_exact(self.depth).zip(out) {
                *out = a.iter().zip(b).map(|(a, b)| a * b).sum();
            }
            return;
        }
        out.fill(0.0);
        for (a, b) in a.iter().zip(b.chunks_exact(self.columns)) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
        }
    }
}

/// A function of one number.
pub fn apply(function: Function, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match function {
        Function::Gelu => x * 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Function::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Function::Silu => x * sigmoid(x),
        Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Function::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Function::LeakyRelu { slope } => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Function::Sigmoid => sigmoid(x),
        Function::Tanh => x.tanh(),
        Function::Erf => erf(x),
        Function::Exp => x.exp(),
        Function::Sqrt => x.sqrt(),
        Function::Reciprocal => 1.0 / x,
        Function::Abs => x.abs(),
        Function::Power(power) => x.powf(power),
    }
}

/// Error function; absolute error below 2e-7 (Abramowitz and Stegun, 7.1.26).
fn erf(x: f32) -> f32 {
    let magnitude = f64::from(x).abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * magnitude);
    let terms = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = terms.iter().fold(0.0, |sum, term| sum * t + term) * t;
    let value = 1.0 - polynomial * (-magnitude * magnitude).exp();
    if x < 0.0 { -value as f32 } else { value as f32 }
}
