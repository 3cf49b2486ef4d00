//! Arithmetic on two tensors, with repetition.

use super::{Backward, Forward, Operator, Reads};
use crate::graph::Arithmetic;

/// The sum of two tensors of equal shape; its gradient passes to both unchanged.
#[derive(Debug)]
pub struct SumStep;

impl Operator for SumStep {
    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn forward(&self, run: Forward<'_>) {
        run.output.copy_from_slice(run.inputs[0]);
        crate::train::engine::kernels::rows::add(run.output, run.inputs[1]);
    }

    fn backward(&self, _run: Backward<'_, '_>) {}
}

/// How the elements of an operand are visited, per sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// One after the other.
    Straight,
    /// A single element.
    Single,
    /// In this order, some of them several times.
    Order(Vec<usize>),
}

impl Walk {
    /// Elements of a tensor of `shape` for each element of `full`, extents of 1 repeated.
    pub fn new(shape: &[usize], full: &[usize]) -> Self {
        if shape == full {
            return Self::Straight;
        }
        if shape.iter().product::<usize>() == 1 {
            return Self::Single;
        }
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        Self::Order((0..full.len()).fold(vec![0], |order: Vec<usize>, axis| {
            let stride = if shape[axis] == 1 { 0 } else { strides[axis] };
            order.iter().flat_map(|base| (0..full[axis]).map(move |i| base + i * stride)).collect()
        }))
    }

    #[inline(always)]
    fn at(&self, i: usize) -> usize {
        match self {
            Self::Straight => i,
            Self::Single => 0,
            Self::Order(order) => order[i],
        }
    }
}

/// Arithmetic on two operands.
#[derive(Debug)]
pub struct BinaryStep {
    pub arithmetic: Arithmetic,
    pub walks: [Walk; 2],
    /// Elements per sample of both operands.
    pub lens: [usize; 2],
    /// Elements per sample of the result.
    pub len: usize,
}

impl BinaryStep {
    /// Calls `visit(result, a, b)` with the positions of every element of a chunk.
    #[inline(always)]
    fn each(&self, samples: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let [left, right] = &self.walks;
        for sample in 0..samples {
            let [out, a, b] = [self.len, self.lens[0], self.lens[1]].map(|len| sample * len);
            match (left, right) {
                (Walk::Straight, Walk::Straight) => (0..self.len).for_each(|i| visit(out + i, a + i, b + i)),
                (Walk::Straight, Walk::Single) => (0..self.len).for_each(|i| visit(out + i, a + i, b)),
                _ => (0..self.len).for_each(|i| visit(out + i, a + left.at(i), b + right.at(i))),
            }
        }
    }
}

impl Operator for BinaryStep {
    fn reads(&self) -> Reads {
        Reads { inputs: !matches!(self.arithmetic, Arithmetic::Add | Arithmetic::Sub), output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        let (a, b, out) = (run.inputs[0], run.inputs[1], run.output);
        match self.arithmetic {
            Arithmetic::Add => self.each(run.samples, |o, i, j| out[o] = a[i] + b[j]),
            Arithmetic::Sub => self.each(run.samples, |o, i, j| out[o] = a[i] - b[j]),
            Arithmetic::Mul => self.each(run.samples, |o, i, j| out[o] = a[i] * b[j]),
            Arithmetic::Div => self.each(run.samples, |o, i, j| out[o] = a[i] / b[j]),
            Arithmetic::Max => self.each(run.samples, |o, i, j| out[o] = a[i].max(b[j])),
            Arithmetic::Min => self.each(run.samples, |o, i, j| out[o] = a[i].min(b[j])),
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let (a, b, gradient) = (run.inputs.first(), run.inputs.get(1), &*run.gradient);
        let (a, b) = (a.copied().unwrap_or(&[]), b.copied().unwrap_or(&[]));
        // Equal operands of a maximum or minimum share the gradient.
        let share = |x: f32, y: f32| if x == y { 0.5 } else { f32::from(u8::from(x > y)) };
        if let Some(sink) = &mut run.sinks[0] {
            let sums = sink.summed();
            match self.arithmetic {
                Arithmetic::Add | Arithmetic::Sub => self.each(run.samples, |o, i, _| sums[i] += gradient[o]),
                Arithmetic::Mul => self.each(run.samples, |o, i, j| sums[i] += gradient[o] * b[j]),
                Arithmetic::Div => self.each(run.samples, |o, i, j| sums[i] += gradient[o] / b[j]),
                Arithmetic::Max => self.each(run.samples, |o, i, j| sums[i] += gradient[o] * share(a[i], b[j])),
                Arithmetic::Min => self.each(run.samples, |o, i, j| sums[i] += gradient[o] * share(b[j], a[i])),
            }
        }
        if let Some(sink) = &mut run.sinks[1] {
            let sums = sink.summed();
            match self.arithmetic {
                Arithmetic::Add => self.each(run.samples, |o, _, j| sums[j] += gradient[o]),
                Arithmetic::Sub => self.each(run.samples, |o, _, j| sums[j] -= gradient[o]),
                Arithmetic::Mul => self.each(run.samples, |o, i, j| sums[j] += gradient[o] * a[i]),
                Arithmetic::Div => self.each(run.samples, |o, i, j| sums[j] -= gradient[o] * a[i] / (b[j] * b[j])),
                Arithmetic::Max => self.each(run.samples, |o, i, j| sums[j] += gradient[o] * share(b[j], a[i])),
                Arithmetic::Min => self.each(run.samples, |o, i, j| sums[j] += gradient[o] * share(a[i], b[j])),
            }
        }
    }
}
