//! Depthwise convolutions.

use stitchkit_runtime::bundle::Quant;

use super::quant::round_weights;
use super::{Backward, Forward, Operator, Pair, Reads, Tail};
use crate::train::engine::kernels::depthwise::{Depthwise, depthwise, depthwise_input, depthwise_weights};
use crate::train::engine::kernels::rows;
use crate::train::engine::{Grads, Params};

/// One filter per channel. Packed constants and sums: weights as `[tap][channel]`, bias.
#[derive(Debug)]
pub struct DepthwiseStep {
    pub params: Pair,
    pub tail: Tail,
    pub shape: Depthwise,
    /// Quantization of the input where weights are to be rounded as at export.
    pub quant: Option<Quant>,
}

impl DepthwiseStep {
    fn taps(&self) -> usize {
        self.shape.window.kernel[0] * self.shape.window.kernel[1]
    }

    fn lens(&self) -> [usize; 2] {
        [self.shape.input, self.shape.output].map(|[rows, columns]| rows * columns * self.shape.channels)
    }
}

/// `[rows][columns]` to `[columns][rows]`.
fn turned(values: &[f32], columns: usize, to: &mut [f32]) {
    let rows = values.len() / columns.max(1);
    for (i, to) in to.iter_mut().enumerate() {
        *to = values[i % rows * columns + i / rows];
    }
}

impl Operator for DepthwiseStep {
    fn packed_len(&self) -> usize {
        (self.taps() + 1) * self.shape.channels
    }

    fn pack(&self, params: &Params, packed: &mut [f32]) {
        let (weights, bias) = (params.values(self.params.first), params.values(self.params.second));
        let rounded = self.quant.map(|quant| round_weights(weights, bias, quant));
        let (weights, bias) = rounded.as_ref().map_or((weights, bias), |(weights, bias)| (weights, bias));
        let (to, to_bias) = packed.split_at_mut(weights.len());
        turned(weights, self.taps(), to);
        to_bias.copy_from_slice(bias);
    }

    fn sums_len(&self) -> usize {
        if self.params.is_trained() { self.packed_len() } else { 0 }
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        let (sums, bias) = sums.split_at(self.taps() * self.shape.channels);
        let mut weights = vec![0.0; sums.len()];
        turned(sums, self.shape.channels, &mut weights);
        self.params.flush(&weights, bias, grads);
    }

    fn reads(&self) -> Reads {
        Reads { inputs: self.params.first_trained, output: self.tail.clip.is_some() }
    }

    fn forward(&self, run: Forward<'_>) {
        let (weights, bias) = run.packed.split_at(self.taps() * self.shape.channels);
        let [in_len, out_len] = self.lens();
        for (input, output) in run.inputs[0].chunks_exact(in_len).zip(run.output.chunks_exact_mut(out_len)) {
            depthwise(&self.shape, input, weights, bias, output);
        }
        if self.tail.has_residual {
            rows::add(run.output, run.inputs[1]);
        }
        if let Some((lo, hi)) = self.tail.clip {
            rows::clip(run.output, lo, hi);
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        if let Some((lo, hi)) = self.tail.clip {
            rows::mask(run.gradient, run.output, lo, hi);
        }
        let [in_len, out_len] = self.lens();
        let weights = &run.packed[..self.taps() * self.shape.channels];
        if !run.sums.is_empty() {
            let (sums, bias) = run.sums.split_at_mut(weights.len());
            if self.params.second_trained {
                rows::add_columns(run.gradient, bias);
            }
            if self.params.first_trained {
                for (input, gradient) in run.inputs[0].chunks_exact(in_len).zip(run.gradient.chunks_exact(out_len)) {
                    depthwise_weights(&self.shape, input, gradient, sums);
                }
            }
        }
        if let Some(sink) = &mut run.sinks[0] {
            let values = sink.summed().chunks_exact_mut(in_len);
            for (values, gradient) in values.zip(run.gradient.chunks_exact(out_len)) {
                depthwise_input(&self.shape, gradient, weights, values);
            }
        }
    }
}
