//! Predicted Cortex-M4 instructions of a step: linear in its multiply-accumulates, outputs and gathered inputs.
//!
//! The figures rank plans and give a first guess of their latency; a board corrects them with its own measurement. Those of
//! convolutions and average pools are a least-squares fit to the per-step counts that `tests/boards.sh` prints for the
//! `arm-dsp` kernels on mps2-an386 (whole plans of cifar10-resnet within 5 %); the others are estimates.

use stitchkit_runtime::bundle::Op;

/// Coefficients of one class of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Instructions per multiply-accumulate (convolutions) or per window tap (pools).
    pub per_tap: f64,
    /// Instructions per output element.
    pub per_output: f64,
    /// Instructions per input value gathered for a window, over all output positions.
    pub per_gathered: f64,
    /// Instructions per call.
    pub per_step: f64,
}

const fn coefficients(per_tap: f64, per_output: f64, per_gathered: f64, per_step: f64) -> Coefficients {
    Coefficients { per_tap, per_output, per_gathered, per_step }
}

/// 1x1 convolutions and fully connected layers.
const POINTWISE: Coefficients = coefficients(0.88, 28.0, 19.5, 2000.0);
/// Other convolutions.
const CONV: Coefficients = coefficients(0.93, 60.0, 0.34, 2000.0);
/// Depthwise convolutions: no sharing of inputs between outputs.
const DEPTHWISE: Coefficients = coefficients(6.0, 20.0, 0.0, 2000.0);
/// Additional work per output of a fused residual addition.
const RESIDUAL_PER_OUTPUT: f64 = 11.0;
/// Additions.
const ADD: Coefficients = coefficients(0.0, 11.0, 0.0, 1000.0);
/// Maximum and average pools.
const POOL: Coefficients = coefficients(9.0, 10.0, 0.0, 1000.0);
/// Table look-ups.
const LUT: Coefficients = coefficients(0.0, 4.0, 0.0, 1000.0);
/// Softmax: three passes and a division per output.
const SOFTMAX: Coefficients = coefficients(0.0, 40.0, 0.0, 1000.0);
/// Copies in another order.
const TRANSPOSE: Coefficients = coefficients(0.0, 10.0, 0.0, 1000.0);

/// Predicted instructions of one step.
#[must_use]
pub fn instructions(op: &Op) -> u64 {
    let outputs = op.output().elements() as f64;
    let (class, taps, gathered) = match op {
        Op::Conv2d { geometry, .. } => {
            let is_pointwise = geometry.window.kernel == [1, 1];
            let gathered = (geometry.output.positions() * geometry.taps()) as f64;
            (if is_pointwise { POINTWISE } else { CONV }, op.macs() as f64, gathered)
        }
        Op::Depthwise { .. } => (DEPTHWISE, op.macs() as f64, 0.0),
        Op::MaxPool(geometry) | Op::AvgPool { geometry, .. } => {
            let [rows, columns] = geometry.window.kernel;
            (POOL, outputs * f64::from(rows) * f64::from(columns), 0.0)
        }
        Op::Add { .. } => (ADD, 0.0, 0.0),
        Op::Lut { .. } => (LUT, 0.0, 0.0),
        Op::Softmax { .. } => (SOFTMAX, 0.0, 0.0),
        _ => (TRANSPOSE, 0.0, 0.0),
    };
    let residual = match op {
        Op::Conv2d { residual: Some(_), .. } | Op::Depthwise { residual: Some(_), .. } => RESIDUAL_PER_OUTPUT,
        _ => 0.0,
    };
    let sum = class.per_tap * taps + (class.per_output + residual) * outputs + class.per_gathered * gathered;
    (sum + class.per_step) as u64
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
