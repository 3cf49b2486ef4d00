//! Rounding to int8 as the exported bundle does, with straight-through gradients.

use stitchkit_runtime::bundle::Quant;

use super::{Backward, Forward, Operator, Reads};
use crate::quantize::fake::{round_channel, round_value};

/// Values rounded to a quantization. The gradient passes where the value is representable, and is 0 where it saturates.
#[derive(Debug)]
pub struct RoundStep {
    pub quant: Quant,
}

impl Operator for RoundStep {
    fn reads(&self) -> Reads {
        Reads { inputs: true, output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        run.output.iter_mut().zip(run.inputs[0]).for_each(|(out, &x)| *out = round_value(self.quant, x));
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let step = |end: i32| self.quant.scale * (end - i32::from(self.quant.zero_point)) as f32;
        let half = 0.5 * self.quant.scale;
        let (lo, hi) = (step(-128) - half, step(127) + half);
        for (gradient, &x) in run.gradient.iter_mut().zip(run.inputs[0]) {
            if !(lo..=hi).contains(&x) {
                *gradient = 0.0;
            }
        }
        if let Some(sink) = &mut run.sinks[0] {
            sink.take(run.gradient);
        }
    }
}

/// Weights `[out][taps]` and biases as the integer layer behind an input of this quantization has them.
pub fn round_weights(weights: &[f32], bias: &[f32], input: Quant) -> (Vec<f32>, Vec<f32>) {
    let (mut weights, mut bias) = (weights.to_vec(), bias.to_vec());
    let taps = weights.len() / bias.len().max(1);
    for (row, bias) in weights.chunks_mut(taps.max(1)).zip(&mut bias) {
        round_channel(row, bias, input);
    }
    (weights, bias)
}
