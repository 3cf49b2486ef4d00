//! Matrix products of two activations.

use super::{Backward, Forward, Operator, Reads};
use crate::train::engine::kernels::product::{Layout, Store, product};

use super::pair::Walk;

/// Products of the last two axes.
#[derive(Debug)]
pub struct MatMulStep {
    rows: usize,
    depth: usize,
    columns: usize,
    transpose_b: bool,
    /// Matrices of both operands for each matrix of the result.
    pairs: Vec<[usize; 2]>,
    /// Elements per sample of both operands.
    lens: [usize; 2],
}

impl MatMulStep {
    /// Per-sample shapes of both operands and the result, of equal rank, at least 2.
    pub fn new(a: &[usize], b: &[usize], output: &[usize], transpose_b: bool) -> Self {
        let split = output.len() - 2;
        let count = output[..split].iter().product();
        let matrices = |shape: &[usize]| match Walk::new(&shape[..split], &output[..split]) {
            Walk::Straight => (0..count).collect(),
            Walk::Single => vec![0; count],
            Walk::Order(order) => order,
        };
        let pairs = matrices(a).into_iter().zip(matrices(b)).map(|(a, b)| [a, b]).collect();
        Self {
            rows: output[split],
            depth: a[split + 1],
            columns: output[split + 1],
            transpose_b,
            pairs,
            lens: [a.iter().product(), b.iter().product()],
        }
    }

    fn right(&self) -> Layout {
        if self.transpose_b {
            Layout::new(self.columns, self.depth).transposed()
        } else {
            Layout::new(self.depth, self.columns)
        }
    }

    /// Calls `visit(result, a, b)` with the offsets of every product.
    fn each(&self, samples: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let sizes = [self.rows * self.depth, self.depth * self.columns];
        let mut result = 0;
        for sample in 0..samples {
            for pair in &self.pairs {
                let at = |i: usize| sample * self.lens[i] + pair[i] * sizes[i];
                visit(result, at(0), at(1));
                result += self.rows * self.columns;
            }
        }
    }
}

impl Operator for MatMulStep {
    fn reads(&self) -> Reads {
        Reads { inputs: true, output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        let (a, b) = (run.inputs[0], run.inputs[1]);
        let (to, left) = (Layout::new(self.rows, self.columns), Layout::new(self.rows, self.depth));
        self.each(run.samples, |o, i, j| {
            product((&mut run.output[o..], to), Store::Replace, (&a[i..], left), (&b[j..], self.right()));
        });
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let gradient = &*run.gradient;
        let from = Layout::new(self.rows, self.columns);
        let left = Layout::new(self.rows, self.depth);
        let is_single = |operand: usize, size: usize| self.pairs.len() * size == self.lens[operand];
        let [first, second] = run.sinks else { return };
        if let Some(sink) = first {
            let b = run.inputs[1];
            let replaces = sink.is_fresh && is_single(0, self.rows * self.depth);
            let (store, values) =
                if replaces { (Store::Replace, &mut *sink.values) } else { (Store::Add, sink.summed()) };
            self.each(run.samples, |o, i, j| {
                let right = (&b[j..], self.right().transposed());
                product((&mut values[i..], left), store, (&gradient[o..], from), right);
            });
        }
        if let Some(sink) = second {
            let a = run.inputs[0];
            let replaces = sink.is_fresh && is_single(1, self.depth * self.columns);
            let (store, values) =
                if replaces { (Store::Replace, &mut *sink.values) } else { (Store::Add, sink.summed()) };
            self.each(run.samples, |o, i, j| {
                let right = (&gradient[o..], from);
                product((&mut values[j..], self.right()), store, (&a[i..], left.transposed()), right);
            });
        }
    }
}
