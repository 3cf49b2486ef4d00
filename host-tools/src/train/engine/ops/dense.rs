//! Fully connected layers and unpadded 1x1 convolutions of stride 1 as matrix products.

use stitchkit_runtime::bundle::Quant;

use super::quant::round_weights;
use super::{Backward, Forward, Operator, Pair, Reads, Tail};
use crate::train::engine::kernels::product::{Layout, Store, product};
use crate::train::engine::kernels::rows;
use crate::train::engine::{Grads, Params};

/// `rows * weights^T + bias`, then the tail. Packed constants, where weights are rounded: weights, bias.
#[derive(Debug)]
pub struct DenseStep {
    pub params: Pair,
    pub tail: Tail,
    /// Input and output features.
    pub features: [usize; 2],
    /// Quantization of the input where weights are to be rounded as at export.
    pub quant: Option<Quant>,
}

impl DenseStep {
    fn constants<'a>(&self, params: &'a Params, packed: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        match self.quant {
            Some(_) => packed.split_at(self.features[0] * self.features[1]),
            None => (params.values(self.params.first), params.values(self.params.second)),
        }
    }
}

impl Operator for DenseStep {
    fn packed_len(&self) -> usize {
        self.quant.map_or(0, |_| (self.features[0] + 1) * self.features[1])
    }

    fn pack(&self, params: &Params, packed: &mut [f32]) {
        let Some(quant) = self.quant else { return };
        let (weights, bias) = round_weights(params.values(self.params.first), params.values(self.params.second), quant);
        packed[..weights.len()].copy_from_slice(&weights);
        packed[weights.len()..].copy_from_slice(&bias);
    }

    fn sums_len(&self) -> usize {
        if self.params.is_trained() { (self.features[0] + 1) * self.features[1] } else { 0 }
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        let (weights, bias) = sums.split_at(self.features[0] * self.features[1]);
        self.params.flush(weights, bias, grads);
    }

    fn reads(&self) -> Reads {
        Reads { inputs: self.params.first_trained, output: self.tail.clip.is_some() }
    }

    fn forward(&self, run: Forward<'_>) {
        let [depth, width] = self.features;
        let (weights, bias) = self.constants(run.params, run.packed);
        if self.tail.has_residual {
            let pairs = run.output.chunks_exact_mut(width).zip(run.inputs[1].chunks_exact(width));
            pairs.for_each(|(out, residual)| {
                out.iter_mut().zip(residual).zip(bias).for_each(|((out, residual), bias)| *out = residual + bias);
            });
        } else {
            run.output.chunks_exact_mut(width).for_each(|out| out.copy_from_slice(bias));
        }
        let count = run.output.len() / width.max(1);
        product(
            (run.output, Layout::new(count, width)),
            Store::Add,
            (run.inputs[0], Layout::new(count, depth)),
            (weights, Layout::new(width, depth).transposed()),
        );
        if let Some((lo, hi)) = self.tail.clip {
            rows::clip(run.output, lo, hi);
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        if let Some((lo, hi)) = self.tail.clip {
            rows::mask(run.gradient, run.output, lo, hi);
        }
        let [depth, width] = self.features;
        let count = run.gradient.len() / width.max(1);
        let gradient = &*run.gradient;
        if !run.sums.is_empty() {
            let (weights, bias) = run.sums.split_at_mut(depth * width);
            if self.params.second_trained {
                rows::add_columns(gradient, bias);
            }
            if self.params.first_trained {
                let out = (weights, Layout::new(width, depth));
                let left = (gradient, Layout::new(count, width).transposed());
                product(out, Store::Add, left, (run.inputs[0], Layout::new(count, depth)));
            }
        }
        if let Some(sink) = &mut run.sinks[0] {
            let (weights, _) = self.constants(run.params, run.packed);
            let store = if sink.is_fresh { Store::Replace } else { Store::Add };
            let out = (&mut *sink.values, Layout::new(count, depth));
            product(out, store, (gradient, Layout::new(count, width)), (weights, Layout::new(width, depth)));
        }
    }
}
