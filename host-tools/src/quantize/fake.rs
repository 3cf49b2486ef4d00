//! The rounding that export applies, on real numbers: what a fake-quantized network computes with.

use stitchkit_runtime::bundle::Quant;

use super::constants::weight_scale;
use super::scale::{to_int8, to_real};

/// The real value that an int8 tensor holds in place of `value`.
#[must_use]
pub fn round_value(quant: Quant, value: f32) -> f32 {
    to_real(quant, to_int8(quant, f64::from(value))) as f32
}

/// Weights and bias of one output channel as an integer convolution behind an input of quantization `input` has them, in
/// place. A channel without weights keeps its bias, which export rounds to the output's scale; values that are not finite
/// stay.
pub fn round_channel(row: &mut [f32], bias: &mut f32, input: Quant) {
    if !row.iter().all(|w| w.is_finite()) || !bias.is_finite() {
        return;
    }
    let Some(scale) = weight_scale(row, *bias, input) else { return };
    for weight in row {
        *weight = ((f64::from(*weight) / scale).round().clamp(-127.0, 127.0) * scale) as f32;
    }
    let bias_scale = f64::from(input.scale) * scale;
    *bias = ((f64::from(*bias) / bias_scale).round() * bias_scale) as f32;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::constants::quantize;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounded_weights_are_the_exported_ones(
            mut row in prop::collection::vec(-4f32..4.0, 1..40),
            mut bias in -1e3f32..1e3,
            scale in 1e-4f32..1.0,
            zero_point in any::<i8>(),
        ) {
            let input = Quant { scale, zero_point };
            let exported = quantize(&row, &[bias], None, input, Quant { scale: 0.05, zero_point: 3 }).expect("quantizes");
            let weight_scale = weight_scale(&row, bias, input).expect("not all zero");
            round_channel(&mut row, &mut bias, input);
            for (real, &integer) in row.iter().zip(&exported.weights) {
                prop_assert!((f64::from(*real) - f64::from(integer) * weight_scale).abs() <= 1e-6 * weight_scale * 127.0);
            }
            let sum: i32 = exported.weights.iter().map(|&w| i32::from(w)).sum();
            let steps = f64::from(exported.bias[0] + i32::from(zero_point) * sum);
            prop_assert!((f64::from(bias) - steps * weight_scale * f64::from(scale)).abs() <= 1e-6 * f64::from(bias.abs()) + 1e-12);
        }
    }

    #[test]
    fn rounded_values_are_representable_and_saturate() {
        let quant = Quant { scale: 0.5, zero_point: -10 };
        for (value, want) in [(0.0, 0.0), (0.74, 0.5), (0.75, 1.0), (-0.25, 0.0), (1e9, 68.5), (-1e9, -59.0)] {
            assert_eq!(round_value(quant, value), want, "{value}");
        }
    }
}
