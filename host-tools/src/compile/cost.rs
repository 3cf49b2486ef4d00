//! Predicted Cortex-M4 instructions of a step: linear in its multiply-accumulates and outputs.
//!
//! The figures rank plans and give a first guess of their latency; a board corrects them with its own measurement. They
//! describe the `arm-dsp` kernels.

use stitchkit_runtime::bundle::Op;

/// Coefficients of one class of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Instructions per multiply-accumulate (convolutions) or per window tap (pools).
    pub per_tap: f64,
    /// Instructions per output element.
    pub per_output: f64,
    /// Instructions per call.
    pub per_step: f64,
}

const fn coefficients(per_tap: f64, per_output: f64, per_step: f64) -> Coefficients {
    Coefficients { per_tap, per_output, per_step }
}

/// 1x1 convolutions and fully connected layers: no window to gather.
const POINTWISE: Coefficients = coefficients(1.3, 14.0, 600.0);
/// Other convolutions, whose taps are gathered and widened first.
const CONV: Coefficients = coefficients(1.6, 16.0, 1200.0);
/// Depthwise convolutions: no sharing of inputs between outputs.
const DEPTHWISE: Coefficients = coefficients(4.0, 16.0, 800.0);
/// Additional work per output of a fused residual addition.
const RESIDUAL_PER_OUTPUT: f64 = 8.0;
/// Additions.
const ADD: Coefficients = coefficients(0.0, 10.0, 200.0);
/// Maximum and average pools.
const POOL: Coefficients = coefficients(3.0, 16.0, 300.0);
/// Table look-ups.
const LUT: Coefficients = coefficients(0.0, 4.0, 100.0);
/// Softmax: three passes and a division per output.
const SOFTMAX: Coefficients = coefficients(0.0, 40.0, 200.0);
/// Copies in another order.
const TRANSPOSE: Coefficients = coefficients(0.0, 10.0, 200.0);

/// Predicted instructions of one step.
#[must_use]
pub fn instructions(op: &Op) -> u64 {
    let outputs = op.output().elements() as f64;
    let (class, taps) = match op {
        Op::Conv2d { geometry, .. } => {
            let is_pointwise = geometry.window.kernel == [1, 1];
            (if is_pointwise { POINTWISE } else { CONV }, op.macs() as f64)
        }
        Op::Depthwise { .. } => (DEPTHWISE, op.macs() as f64),
        Op::MaxPool(geometry) | Op::AvgPool { geometry, .. } => {
            let [rows, columns] = geometry.window.kernel;
            (POOL, outputs * f64::from(rows) * f64::from(columns))
        }
        Op::Add { .. } => (ADD, 0.0),
        Op::Lut { .. } => (LUT, 0.0),
        Op::Softmax { .. } => (SOFTMAX, 0.0),
        _ => (TRANSPOSE, 0.0),
    };
    let residual = match op {
        Op::Conv2d { residual: Some(_), .. } | Op::Depthwise { residual: Some(_), .. } => RESIDUAL_PER_OUTPUT,
        _ => 0.0,
    };
    (class.per_tap * taps + (class.per_output + residual) * outputs + class.per_step) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use stitchkit_runtime::kernels::{Add, Shape};

    #[test]
    fn cost_grows_with_the_number_of_outputs() {
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        let of = |c| instructions(&Op::Add { shape: Shape::new(4, 4, c), add });
        assert!(of(8) < of(16));
        assert!(of(1) > 0);
    }
}
