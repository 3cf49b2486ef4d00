//! One node ready to run on a chunk of samples.

use super::super::{Graph, Node, Op};
use super::conv::{DepthwiseKernel, MatrixKernel};
use super::pool::PoolKernel;
use super::tensor::TensorKernel;
use super::{conv, pointwise};

/// Reusable buffers of one thread. A buffer may be longer than what was asked for and holds arbitrary values.
#[derive(Default)]
pub struct Scratch {
    free: Vec<Vec<f32>>,
    /// Rows of unfolded input for the matrix product.
    pub columns: Vec<f32>,
}

impl Scratch {
    /// A buffer of at least `length` elements, the smallest that fits.
    pub fn take(&mut self, length: usize) -> Vec<f32> {
        let fitting =
            (0..self.free.len()).filter(|&i| self.free[i].len() >= length).min_by_key(|&i| self.free[i].len());
        match fitting {
            Some(i) => self.free.swap_remove(i),
            None => vec![0.0; length],
        }
    }

    /// Returns a buffer to the pool.
    pub fn give(&mut self, buffer: Vec<f32>) {
        if !buffer.is_empty() {
            self.free.push(buffer);
        }
    }
}

/// What a node does, with weights in the order its loop wants.
pub enum Kernel<'g> {
    /// Dense layers and all convolutions but depthwise ones.
    Matrix(MatrixKernel<'g>),
    Depthwise(DepthwiseKernel<'g>),
    Add,
    Clip {
        lo: f32,
        hi: f32,
    },
    Pool(PoolKernel),
    Softmax {
        channels: usize,
    },
    Copy,
    Transpose {
        shape: Vec<usize>,
        perm: Vec<usize>,
    },
    Tensor(TensorKernel<'g>),
}

impl<'g> Kernel<'g> {
    /// Prepares a node of a graph.
    pub fn new(graph: &'g Graph, node: &'g Node) -> Self {
        if let Some(kernel) = TensorKernel::new(graph, node) {
            return Self::Tensor(kernel);
        }
        let input = graph.shape(node.inputs[0]);
        match &node.op {
            Op::Conv(op) if conv::is_depthwise(op, input) => {
                Self::Depthwise(DepthwiseKernel::new(op, input, &node.shape))
            }
            Op::Conv(op) => Self::Matrix(MatrixKernel::conv(op, input, &node.shape)),
            Op::Dense(op) => Self::Matrix(MatrixKernel::dense(op, input)),
            Op::Add => Self::Add,
            Op::Clip { lo, hi } => Self::Clip { lo: *lo, hi: *hi },
            Op::MaxPool(window) => Self::Pool(PoolKernel::max(*window, input, &node.shape)),
            Op::AvgPool(window) => Self::Pool(PoolKernel::average(*window, input, &node.shape)),
            Op::Softmax => Self::Softmax { channels: node.shape.last().copied().unwrap_or(1) },
            Op::Reshape => Self::Copy,
            Op::Transpose { perm } => Self::Transpose { shape: input.to_vec(), perm: perm.clone() },
            _ => unreachable!("every other operator has a tensor kernel"),
        }
    }

    /// Computes `samples` outputs. `output` may hold anything before.
    pub fn run(&self, inputs: &[&[f32]], output: &mut [f32], samples: usize, scratch: &mut Scratch) {
        match self {
            Self::Matrix(kernel) => kernel.run(inputs[0], output, samples, &mut scratch.columns),
            Self::Depthwise(kernel) => kernel.run(inputs[0], output, samples),
            Self::Add => pointwise::add(inputs[0], inputs[1], output),
            Self::Clip { .. } | Self::Copy => {
                output.copy_from_slice(inputs[0]);
                self.run_in_place(output, None);
            }
            Self::Pool(kernel) => kernel.run(inputs[0], output),
            Self::Softmax { channels } => pointwise::softmax(inputs[0], output, *channels),
            Self::Transpose { shape, perm } => pointwise::transpose(inputs[0], output, shape, perm),
            Self::Tensor(kernel) => kernel.run(inputs, output),
        }
    }

    /// Computes a pointwise node over its first operand; `other` is the second one of a sum.
    pub fn run_in_place(&self, values: &mut [f32], other: Option<&[f32]>) {
        match (self, other) {
            (Self::Add, Some(other)) => values.iter_mut().zip(other).for_each(|(value, other)| *value += other),
            (Self::Clip { lo, hi }, _) => values.iter_mut().for_each(|value| *value = value.max(*lo).min(*hi)),
            _ => {}
        }
    }
}
