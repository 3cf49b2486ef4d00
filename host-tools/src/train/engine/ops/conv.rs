//! Convolutions of any stride, padding, dilation and grouping, fused with bias, residual sum and clamp.

use stitchkit_runtime::bundle::Quant;

use super::quant::round_weights;
use super::{Backward, Forward, Operator, Pair, Reads, Tail};
use crate::graph::Conv;
use crate::train::engine::kernels::correlate::{Correlation, Epilogue, correlate};
use crate::train::engine::kernels::padded::pad;
use crate::train::engine::kernels::weight_gradient::weight_gradient;
use crate::train::engine::kernels::{geometry, rows};
use crate::train::engine::{Grads, Params};

/// Convolution on padded copies of one sample at a time. Packed constants: forward weights of each group, backward weights of
/// each group, bias. Sums: forward weights of each group, bias.
#[derive(Debug)]
pub struct ConvStep {
    params: Pair,
    tail: Tail,
    groups: usize,
    taps: usize,
    /// Channels of one group: in, out.
    channels: [usize; 2],
    forward: Correlation,
    backward: Correlation,
    wants_input: bool,
    quant: Option<Quant>,
}

impl ConvStep {
    /// A convolution of an HWC map; `quant` is the input's quantization where weights are to be rounded as at export.
    pub fn new(
        conv: &Conv,
        [input, output]: [[usize; 3]; 2],
        params: Pair,
        tail: Tail,
        wants_input: bool,
        quant: Option<Quant>,
    ) -> Self {
        let channels = [input[2] / conv.groups, conv.out_channels / conv.groups];
        let maps = [[input[0], input[1]], [output[0], output[1]]];
        Self {
            params,
            tail,
            groups: conv.groups,
            taps: conv.window.kernel[0] * conv.window.kernel[1],
            channels,
            forward: geometry::forward(&conv.window, maps[0], maps[1], channels),
            backward: geometry::backward(&conv.window, maps[0], maps[1], channels),
            wants_input,
            quant,
        }
    }

    fn out_channels(&self) -> usize {
        self.channels[1] * self.groups
    }

    fn in_channels(&self) -> usize {
        self.channels[0] * self.groups
    }

    fn in_len(&self) -> usize {
        let [rows, columns] = self.forward.input.map;
        rows * columns * self.in_channels()
    }

    fn out_len(&self) -> usize {
        self.forward.output[0] * self.forward.output[1] * self.out_channels()
    }

    /// Index of a weight in OHWI order.
    fn weight(&self, group: usize, out: usize, tap: usize, input: usize) -> usize {
        ((group * self.channels[1] + out) * self.taps + tap) * self.channels[0] + input
    }

    /// Lengths of one group's packed forward and backward weights.
    fn lens(&self) -> [usize; 2] {
        [self.forward.packed_len(), if self.wants_input { self.backward.packed_len() } else { 0 }]
    }
}

impl Operator for ConvStep {
    fn packed_len(&self) -> usize {
        self.groups * self.lens().iter().sum::<usize>() + self.out_channels()
    }

    fn pack(&self, params: &Params, packed: &mut [f32]) {
        let (weights, bias) = (params.values(self.params.first), params.values(self.params.second));
        let rounded = self.quant.map(|quant| round_weights(weights, bias, quant));
        let (weights, bias) = rounded.as_ref().map_or((weights, bias), |(weights, bias)| (weights, bias));
        let [forward, backward] = self.lens();
        let (ahead, rest) = packed.split_at_mut(self.groups * forward);
        let (back, packed_bias) = rest.split_at_mut(self.groups * backward);
        packed_bias.copy_from_slice(bias);
        for group in 0..self.groups {
            let ahead = &mut ahead[group * forward..][..forward];
            ahead.fill(0.0);
            let step = self.taps * self.channels[0];
            self.forward.each_run(|at, tap, input, output, lanes| {
                let from = &weights[self.weight(group, output, tap, input)..];
                ahead[at..at + lanes].iter_mut().zip(from.iter().step_by(step)).for_each(|(to, &from)| *to = from);
            });
            if !self.wants_input {
                continue;
            }
            let back = &mut back[group * backward..][..backward];
            back.fill(0.0);
            self.backward.each_run(|at, tap, output, input, lanes| {
                let from = self.weight(group, output, tap, input);
                back[at..at + lanes].copy_from_slice(&weights[from..from + lanes]);
            });
        }
    }

    fn sums_len(&self) -> usize {
        if self.params.is_trained() { self.groups * self.lens()[0] + self.out_channels() } else { 0 }
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        let [forward, _] = self.lens();
        let (sums, bias) = sums.split_at(self.groups * forward);
        let step = self.taps * self.channels[0];
        let mut weights = vec![0.0; self.groups * self.channels[1] * step];
        for group in 0..self.groups {
            let sums = &sums[group * forward..][..forward];
            self.forward.each_run(|at, tap, input, output, lanes| {
                let to = &mut weights[self.weight(group, output, tap, input)..];
                to.iter_mut().step_by(step).zip(&sums[at..at + lanes]).for_each(|(to, &from)| *to = from);
            });
        }
        self.params.flush(&weights, bias, grads);
    }

    fn reads(&self) -> Reads {
        Reads { inputs: self.params.first_trained, output: self.tail.clip.is_some() }
    }

    fn forward(&self, run: Forward<'_>) {
        let [forward, backward] = self.lens();
        let bias = &run.packed[self.groups * (forward + backward)..];
        let [copy, _] = run.scratch.copies([self.forward.input.len(), 0]);
        let (in_len, out_len, part) = (self.in_len(), self.out_len(), self.channels[1]);
        for sample in 0..run.samples {
            let input = &run.inputs[0][sample * in_len..][..in_len];
            let output = &mut run.output[sample * out_len..][..out_len];
            let residual = self.tail.has_residual.then(|| &run.inputs[1][sample * out_len..][..out_len]);
            for group in 0..self.groups {
                pad(&self.forward.input, input, self.in_channels(), group * self.channels[0], copy);
                let epilogue =
                    Epilogue { bias: &bias[group * part..][..part], residual, accumulate: false, clip: self.tail.clip };
                let weights = &run.packed[group * forward..][..forward];
                correlate(&self.forward, copy, weights, &epilogue, self.out_channels(), group * part, output);
            }
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        if let Some((lo, hi)) = self.tail.clip {
            rows::mask(run.gradient, run.output, lo, hi);
        }
        let [forward, backward] = self.lens();
        let trained = self.params.first_trained;
        let (sums, bias_sums) = run.sums.split_at_mut(if run.sums.is_empty() { 0 } else { self.groups * forward });
        if self.params.second_trained {
            rows::add_columns(run.gradient, bias_sums);
        }
        let mut sink = run.sinks[0].take();
        if !trained && sink.is_none() {
            return;
        }
        let [copy, gradient_copy] = run.scratch.copies([self.forward.input.len(), self.backward.input.len()]);
        let (in_len, out_len) = (self.in_len(), self.out_len());
        for sample in 0..run.samples {
            let gradient = &run.gradient[sample * out_len..][..out_len];
            for group in 0..self.groups {
                let first = [group * self.channels[0], group * self.channels[1]];
                pad(&self.backward.input, gradient, self.out_channels(), first[1], gradient_copy);
                if let Some(sink) = &mut sink {
                    let epilogue = Epilogue { bias: &[], residual: None, accumulate: !sink.is_fresh, clip: None };
                    let weights = &run.packed[self.groups * forward + group * backward..][..backward];
                    let values = &mut sink.values[sample * in_len..][..in_len];
                    correlate(&self.backward, gradient_copy, weights, &epilogue, self.in_channels(), first[0], values);
                }
                if trained {
                    let input = &run.inputs[0][sample * in_len..][..in_len];
                    pad(&self.forward.input, input, self.in_channels(), first[0], copy);
                    let sums = &mut sums[group * forward..][..forward];
                    weight_gradient(&self.forward, copy, &self.backward.input, gradient_copy, sums);
                }
            }
        }
    }
}
