//! Batch norm with the statistics of the samples that walk the program together ("ghost batches", Hoffer et al. 2017): the mean
//! and the variance of each channel over their positions.

use super::{Backward, Forward, Operator, Pair, Reads};
use crate::stitch::recalibrate::statistics;
use crate::train::engine::Grads;
use crate::train::engine::kernels::rows;

/// Keeps channels without variance finite.
const EPSILON: f64 = 1e-8;

/// `(x - mean) / deviation * scale + shift` per channel. Sums: scale, shift.
#[derive(Debug)]
pub struct BatchNormStep {
    pub params: Pair,
    pub channels: usize,
}

/// Mean and one over the deviation of each channel.
fn mean_and_inverse(values: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let inverse = |variance: f64| (1.0 / (variance + EPSILON).sqrt()) as f32;
    statistics(values, channels).into_iter().map(|(mean, variance)| (mean as f32, inverse(variance))).unzip()
}

impl Operator for BatchNormStep {
    fn sums_len(&self) -> usize {
        self.params.channel_sums_len(self.channels)
    }

    fn flush(&self, sums: &[f32], grads: &mut Grads) {
        self.params.flush_channels(sums, self.channels, grads);
    }

    fn aux_len(&self) -> usize {
        2 * self.channels
    }

    fn reads(&self) -> Reads {
        Reads { inputs: true, output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        let (mean, inverse) = mean_and_inverse(run.inputs[0], self.channels);
        let (scale, shift) = (run.params.values(self.params.first), run.params.values(self.params.second));
        let factor: Vec<f32> = inverse.iter().zip(scale).map(|(inverse, scale)| inverse * scale).collect();
        let summand: Vec<f32> =
            mean.iter().zip(&factor).zip(shift).map(|((mean, factor), shift)| shift - mean * factor).collect();
        rows::affine(run.inputs[0], &factor, &summand, run.output);
        run.aux[..self.channels].copy_from_slice(&mean);
        run.aux[self.channels..2 * self.channels].copy_from_slice(&inverse);
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let channels = self.channels;
        let (mean, inverse) = run.aux[..2 * channels].split_at(channels);
        // Sums of the gradient, and of its products with the normalised values.
        let (mut shift, mut scale) = (vec![0f64; channels], vec![0f64; channels]);
        for (gradient, values) in run.gradient.chunks_exact(channels).zip(run.inputs[0].chunks_exact(channels)) {
            for channel in 0..channels {
                let normalised = (values[channel] - mean[channel]) * inverse[channel];
                shift[channel] += f64::from(gradient[channel]);
                scale[channel] += f64::from(gradient[channel]) * f64::from(normalised);
            }
        }
        if !run.sums.is_empty() {
            let (scale_sums, shift_sums) = run.sums.split_at_mut(channels);
            for channel in 0..channels {
                scale_sums[channel] += scale[channel] as f32;
                shift_sums[channel] += shift[channel] as f32;
            }
        }
        let Some(sink) = &mut run.sinks[0] else { return };
        let count = (run.gradient.len() / channels.max(1)).max(1) as f64;
        let means: Vec<(f32, f32)> =
            shift.iter().zip(&scale).map(|(shift, scale)| ((shift / count) as f32, (scale / count) as f32)).collect();
        let factors = run.params.values(self.params.first);
        for (gradient, values) in run.gradient.chunks_exact_mut(channels).zip(run.inputs[0].chunks_exact(channels)) {
            for channel in 0..channels {
                let normalised = (values[channel] - mean[channel]) * inverse[channel];
                let centred = gradient[channel] - means[channel].0 - normalised * means[channel].1;
                gradient[channel] = factors[channel] * inverse[channel] * centred;
            }
        }
        sink.take(run.gradient);
    }
}
