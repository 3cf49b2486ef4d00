//! Transposes, slices, gathers and concatenations: elements move in runs.

use super::{Backward, Forward, Operator, Reads};
use crate::train::engine::kernels::rows;

/// Run `i` of a sample of the output is the input's run that starts at `starts[i]`.
#[derive(Debug)]
pub struct TakeStep {
    starts: Vec<usize>,
    run: usize,
    in_len: usize,
    /// Every input element appears exactly once.
    is_permutation: bool,
}

impl TakeStep {
    /// Output element `i` is input element `order[i]` of `in_len`.
    pub fn new(order: &[usize], in_len: usize) -> Self {
        let mut run = 0;
        let mut length = 0;
        for (i, &from) in order.iter().enumerate() {
            if i > 0 && from != order[i - 1] + 1 {
                run = gcd(run, length);
                length = 0;
            }
            length += 1;
        }
        let run = gcd(run, length).max(1);
        let mut seen = vec![false; in_len];
        order.iter().for_each(|&from| seen[from] = true);
        let is_permutation = order.len() == in_len && seen.iter().all(|&seen| seen);
        Self { starts: order.iter().copied().step_by(run).collect(), run, in_len, is_permutation }
    }

    fn out_len(&self) -> usize {
        self.starts.len() * self.run
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Operator for TakeStep {
    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn forward(&self, run: Forward<'_>) {
        let samples = run.inputs[0].chunks_exact(self.in_len).zip(run.output.chunks_exact_mut(self.out_len()));
        for (input, output) in samples {
            for (out, &from) in output.chunks_exact_mut(self.run).zip(&self.starts) {
                out.copy_from_slice(&input[from..from + self.run]);
            }
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let Some(sink) = &mut run.sinks[0] else { return };
        let copies = sink.is_fresh && self.is_permutation;
        let values = if copies { &mut *sink.values } else { sink.summed() };
        for (values, gradient) in values.chunks_exact_mut(self.in_len).zip(run.gradient.chunks_exact(self.out_len())) {
            for (gradient, &to) in gradient.chunks_exact(self.run).zip(&self.starts) {
                let to = &mut values[to..to + self.run];
                if copies { to.copy_from_slice(gradient) } else { rows::add(to, gradient) }
            }
        }
    }
}

/// All inputs one after the other; `lengths` are their elements per run.
#[derive(Debug)]
pub struct ConcatStep {
    pub lengths: Vec<usize>,
}

impl Operator for ConcatStep {
    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn forward(&self, run: Forward<'_>) {
        let row: usize = self.lengths.iter().sum();
        for (i, mut out) in run.output.chunks_exact_mut(row).enumerate() {
            for (input, &length) in run.inputs.iter().zip(&self.lengths) {
                let (part, rest) = out.split_at_mut(length);
                part.copy_from_slice(&input[i * length..][..length]);
                out = rest;
            }
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let row: usize = self.lengths.iter().sum();
        let mut start = 0;
        for (sink, &length) in run.sinks.iter_mut().zip(&self.lengths) {
            if let Some(sink) = sink {
                let is_fresh = sink.is_fresh;
                let parts = run.gradient.chunks_exact(row).map(|gradient| &gradient[start..start + length]);
                for (values, part) in sink.values.chunks_exact_mut(length).zip(parts) {
                    if is_fresh { values.copy_from_slice(part) } else { rows::add(values, part) }
                }
            }
            start += length;
        }
    }
}
