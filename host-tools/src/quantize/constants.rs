//! int8 weights, biases and requantization tables of one convolution.

use stitchkit_runtime::bundle::Quant;

use super::scale::Factor;

/// Largest magnitude of a bias before the zero point is folded in; keeps half of the accumulator for products.
const MAX_BIAS: f64 = (1u32 << 30) as f64;

/// Constants of a convolution, one entry per output channel except for the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constants {
    /// `[out][taps]`.
    pub weights: Vec<i8>,
    pub bias: Vec<i32>,
    pub multiplier: Vec<i32>,
    pub shift: Vec<u8>,
}

/// Why a channel cannot be quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelFault {
    /// A weight or bias is infinite or not a number.
    #[error("a weight or the bias is not finite")]
    NotFinite,
    /// The accumulator could leave 32 bits.
    #[error("the accumulator could reach {magnitude}, beyond 32 bits")]
    Overflow {
        /// Largest magnitude the accumulator could have.
        magnitude: i64,
    },
    /// The output's scale is too small for its inputs.
    #[error("input, weight and output scales are too far apart")]
    Scale,
}

/// Quantizes `[out][taps]` weights and biases: symmetric per-channel weights in -127..=127, bias at scale `input * weight`
/// with the input's zero point folded in. A `map` of factors (above 0) and summands that follows goes into multipliers and
/// biases, so that the weights are the same with any.
///
/// For every channel `|bias| + 128 * sum(|weights|) < 2^31` holds, so no order of accumulation overflows.
///
/// # Errors
/// The channel and what is wrong with it.
pub(super) fn quantize(
    weights: &[f32],
    bias: &[f32],
    map: Option<(&[f32], &[f32])>,
    input: Quant,
    output: Quant,
) -> Result<Constants, (usize, ChannelFault)> {
    let taps = weights.len() / bias.len().max(1);
    let mut constants = Constants {
        weights: Vec::with_capacity(weights.len()),
        bias: Vec::with_capacity(bias.len()),
        multiplier: Vec::with_capacity(bias.len()),
        shift: Vec::with_capacity(bias.len()),
    };
    for (channel, (row, &bias)) in weights.chunks(taps.max(1)).zip(bias).enumerate() {
        let (factor, summand) = map.map_or((1.0, 0.0), |(scale, shift)| (scale[channel], shift[channel]));
        let bias = bias + summand / factor;
        let output = f64::from(output.scale) / f64::from(factor);
        let quantized = quantize_channel(row, bias, input, output).map_err(|fault| (channel, fault))?;
        constants.weights.extend(quantized.weights);
        constants.bias.push(quantized.bias);
        constants.multiplier.push(quantized.factor.multiplier);
        constants.shift.push(quantized.factor.shift);
    }
    Ok(constants)
}

struct Channel {
    weights: Vec<i8>,
    bias: i32,
    factor: Factor,
}

/// `output_scale` is what one step of the output is worth before the map.
fn quantize_channel(row: &[f32], bias: f32, input: Quant, output_scale: f64) -> Result<Channel, ChannelFault> {
    if !row.iter().all(|w| w.is_finite()) || !bias.is_finite() {
        return Err(ChannelFault::NotFinite);
    }
    let (input_scale, bias) = (f64::from(input.scale), f64::from(bias));
    let Some(weight_scale) = weight_scale(row, bias as f32, input) else {
        return Ok(dead_channel(row.len(), bias / output_scale));
    };
    let weights: Vec<i8> =
        row.iter().map(|&w| (f64::from(w) / weight_scale).round().clamp(-127.0, 127.0) as i8).collect();
    let sum: i64 = weights.iter().map(|&w| i64::from(w)).sum();
    let magnitude: i64 = weights.iter().map(|&w| i64::from(w).abs()).sum();
    let bias = (bias / (input_scale * weight_scale)).round() as i64 - i64::from(input.zero_point) * sum;
    let reach = bias.abs() + 128 * magnitude;
    if reach >= 1 << 31 {
        return Err(ChannelFault::Overflow { magnitude: reach });
    }
    let factor = Factor::from_real(input_scale * weight_scale / output_scale).ok_or(ChannelFault::Scale)?;
    Ok(Channel { weights, bias: bias as i32, factor })
}

/// Real value of one step of a channel's weights; `None` if they are all zero. A bias far beyond the weights makes them
/// coarser rather than overflow.
pub(super) fn weight_scale(row: &[f32], bias: f32, input: Quant) -> Option<f64> {
    let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
    if largest < f32::MIN_POSITIVE {
        return None;
    }
    Some((f64::from(largest) / 127.0).max(f64::from(bias).abs() / (f64::from(input.scale) * MAX_BIAS)))
}

/// A channel whose weights are all zero yields its bias: stored in output steps, with a factor of one.
fn dead_channel(taps: usize, bias_steps: f64) -> Channel {
    let bias = (bias_steps + 0.5).floor().clamp(-512.0, 512.0) as i32;
    Channel { weights: vec![0; taps], bias, factor: Factor { multiplier: 1 << 30, shift: 30 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stitchkit_runtime::kernels::{Landing, requantize};

    const fn quant(scale: f32, zero_point: i8) -> Quant {
        Quant { scale, zero_point }
    }

    fn wide(quant: Quant) -> Landing {
        Landing { zero_point: quant.zero_point, lo: -128, hi: 127 }
    }

    #[test]
    fn a_channel_without_weights_yields_its_bias() {
        let (input, output) = (quant(0.1, 5), quant(0.5, -10));
        for (bias, want) in [(0.0, -10), (3.0, -4), (-3.2, -16), (1e9, 127), (-1e9, -128)] {
            let c = quantize(&[0.0; 4], &[bias], None, input, output).expect("quantizes");
            assert_eq!(c.weights, [0; 4]);
            assert_eq!(requantize(c.bias[0], c.multiplier[0], c.shift[0], wide(output)), want, "bias {bias}");
        }
    }

    #[test]
    fn a_huge_bias_makes_weights_coarser_instead_of_overflowing() {
        let (input, output) = (quant(0.1, -128), quant(100.0, 0));
        let c = quantize(&[1e-7, -1e-7], &[1000.0], None, input, output).expect("quantizes");
        assert!(i64::from(c.bias[0]).abs() <= 1 << 30);
        assert_eq!(requantize(c.bias[0], c.multiplier[0], c.shift[0], wide(output)), 10);
    }

    #[test]
    fn faults_name_the_channel() {
        let (input, output) = (quant(0.1, -128), quant(0.1, 0));
        let cases = [
            (vec![1.0, 1.0, f32::NAN, 1.0], vec![0.0, 0.0], (1, ChannelFault::NotFinite)),
            (vec![1.0; 4], vec![f32::INFINITY, 0.0], (0, ChannelFault::NotFinite)),
        ];
        for (weights, bias, want) in cases {
            assert_eq!(quantize(&weights, &bias, None, input, output), Err(want));
        }
        let many = vec![1.0; 140_000];
        let fault = quantize(&many, &[0.0], None, input, output).expect_err("overflows");
        assert!(matches!(fault, (0, ChannelFault::Overflow { magnitude }) if magnitude >= 1 << 31));
    }

    proptest! {
        #[test]
        fn no_input_can_overflow_the_accumulator(
            weights in prop::collection::vec(-4f32..4.0, 1..600),
            bias in -1e4f32..1e4,
            scale in 1e-4f32..1.0,
            zero_point in any::<i8>(),
        ) {
            let c = quantize(&weights, &[bias], None, quant(scale, zero_point), quant(0.05, 3)).expect("quantizes");
            let reach = i64::from(c.bias[0]).abs()
                + 128 * c.weights.iter().map(|&w| i64::from(w).abs()).sum::<i64>();
            prop_assert!(reach < 1 << 31);
            prop_assert!(c.weights.iter().all(|&w| w != -128));
        }

        #[test]
        fn a_dot_product_is_within_its_quantization_error(
            pairs in prop::collection::vec((-2f32..2.0, any::<i8>()), 1..64),
            bias in -3f32..3.0,
            zero_point in any::<i8>(),
        ) {
            let (input, output) = (quant(0.02, zero_point), quant(0.5, -7));
            let (weights, values): (Vec<f32>, Vec<i8>) = pairs.into_iter().unzip();
            let c = quantize(&weights, &[bias], None, input, output).expect("quantizes");
            let acc: i32 = c.bias[0] + c.weights.iter().zip(&values).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>();
            let got = f64::from(requantize(acc, c.multiplier[0], c.shift[0], wide(output)));
            let real: f64 = f64::from(bias)
                + weights.iter().zip(&values)
                    .map(|(&w, &x)| f64::from(w) * 0.02 * f64::from(i32::from(x) - i32::from(zero_point)))
                    .sum::<f64>();
            let want = (real / 0.5 - 7.0).clamp(-128.0, 127.0);
            // Half a weight step per tap, half a bias step, half an output step.
            let weight_step = f64::from(weights.iter().fold(0f32, |m, w| m.max(w.abs()))) / 127.0;
            let spread: f64 = values.iter().map(|&x| 0.02 * f64::from((i32::from(x) - i32::from(zero_point)).abs())).sum();
            let slack = 0.5 * weight_step * (spread + 0.02) / 0.5 + 0.501;
            prop_assert!((got - want).abs() <= slack, "{got} for {want}, slack {slack}");
        }
    }
}
