//! Operators on rows of channels: affine map, layer norm, softmax, mean over an axis.

use super::{Backward, Forward, Operator, Pair, Reads};
use crate::train::engine::kernels::{norm, rows};
use crate::train::engine::{Grads, ParamId};

/// Factor and summand per channel. Sums: scale, shift.
#[derive(Debug)]
pub struct AffineStep {
    pub params: Pair,
    pub channels: usize,
}

impl Operator for AffineStep {
    fn sums_len(&self) -> usize {
        self.params.channel_sums_len(self.channels)
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        self.params.flush_channels(sums, self.channels, grads);
    }

    fn reads(&self) -> Reads {
        Reads { inputs: self.params.first_trained, output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        let (scale, shift) = (run.params.values(self.params.first), run.params.values(self.params.second));
        rows::affine(run.inputs[0], scale, shift, run.output);
    }

    fn backward(&self, run: Backward<'_, '_>) {
        if !run.sums.is_empty() {
            let (scale, shift) = run.sums.split_at_mut(self.channels);
            if self.params.first_trained {
                rows::add_column_products(run.gradient, run.inputs[0], scale);
            }
            if self.params.second_trained {
                rows::add_columns(run.gradient, shift);
            }
        }
        if let Some(sink) = &mut run.sinks[0] {
            let scale = run.params.values(self.params.first);
            if sink.is_fresh {
                rows::affine(run.gradient, scale, &[], sink.values);
            } else {
                let mut product = run.scratch.take(run.gradient.len());
                rows::affine(run.gradient, scale, &[], &mut product);
                sink.take(&product);
                run.scratch.give(product);
            }
        }
    }
}

/// Layer norm over the last axis. Sums: scale, shift.
#[derive(Debug)]
pub struct LayerNormStep {
    pub params: Pair,
    pub channels: usize,
    /// Rows per sample.
    pub rows: usize,
    pub epsilon: f32,
}

impl Operator for LayerNormStep {
    fn sums_len(&self) -> usize {
        self.params.channel_sums_len(self.channels)
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        self.params.flush_channels(sums, self.channels, grads);
    }

    fn aux_len(&self) -> usize {
        2 * self.rows
    }

    fn reads(&self) -> Reads {
        Reads { inputs: true, output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        let (scale, shift) = (run.params.values(self.params.first), run.params.values(self.params.second));
        norm::layer_norm(run.inputs[0], scale, shift, self.epsilon, run.aux, run.output);
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let scale = run.params.values(self.params.first);
        // Frozen scale and shift: their sums are computed and dropped.
        let mut unused = run.scratch.take(if run.sums.is_empty() { 2 * self.channels } else { 0 });
        unused.fill(0.0);
        let sums = if run.sums.is_empty() { &mut unused[..] } else { run.sums };
        let (scale_sums, shift_sums) = sums.split_at_mut(self.channels);
        norm::layer_norm_gradient(run.inputs[0], scale, run.aux, run.gradient, scale_sums, shift_sums);
        run.scratch.give(unused);
        if let Some(sink) = &mut run.sinks[0] {
            sink.take(run.gradient);
        }
    }
}

/// Softmax over the last axis.
#[derive(Debug)]
pub struct SoftmaxStep {
    pub channels: usize,
}

impl Operator for SoftmaxStep {
    fn reads(&self) -> Reads {
        Reads { inputs: false, output: true }
    }

    fn forward(&self, run: Forward<'_>) {
        norm::softmax(run.inputs[0], self.channels, run.output);
    }

    fn backward(&self, run: Backward<'_, '_>) {
        norm::softmax_gradient(run.output, self.channels, run.gradient);
        if let Some(sink) = &mut run.sinks[0] {
            sink.take(run.gradient);
        }
    }
}

/// Mean over an axis with `inner` elements behind it.
#[derive(Debug)]
pub struct MeanStep {
    pub extent: usize,
    pub inner: usize,
}

impl Operator for MeanStep {
    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn forward(&self, run: Forward<'_>) {
        let blocks = run.inputs[0].chunks_exact(self.extent * self.inner);
        for (block, out) in blocks.zip(run.output.chunks_exact_mut(self.inner)) {
            out.fill(0.0);
            rows::add_columns(block, out);
            out.iter_mut().for_each(|out| *out /= self.extent as f32);
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        run.gradient.iter_mut().for_each(|gradient| *gradient /= self.extent as f32);
        let Some(sink) = &mut run.sinks[0] else { return };
        let is_fresh = sink.is_fresh;
        let blocks = sink.values.chunks_exact_mut(self.extent * self.inner);
        for (block, gradient) in blocks.zip(run.gradient.chunks_exact(self.inner)) {
            for row in block.chunks_exact_mut(self.inner) {
                if is_fresh { row.copy_from_slice(gradient) } else { rows::add(row, gradient) }
            }
        }
    }
}

/// A tensor that does not depend on the input. Sums: its gradient.
#[derive(Debug)]
pub struct ConstantStep {
    pub param: ParamId,
    pub trained: bool,
    pub elements: usize,
}

impl Operator for ConstantStep {
    fn sums_len(&self) -> usize {
        if self.trained { self.elements } else { 0 }
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        grads.accumulate(self.param, sums);
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn forward(&self, run: Forward<'_>) {
        let values = run.params.values(self.param);
        run.output.chunks_exact_mut(self.elements.max(1)).for_each(|out| out.copy_from_slice(values));
    }

    fn backward(&self, run: Backward<'_, '_>) {
        if !run.sums.is_empty() {
            rows::add_columns(run.gradient, run.sums);
        }
    }
}
