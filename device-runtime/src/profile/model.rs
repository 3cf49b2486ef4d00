//! Latency as a linear function of a step's work.

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Plan};

use super::work::{OpClass, Work};

/// Picoseconds of one class of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coefficients {
    /// Per multiply-accumulate or window tap.
    pub work_ps: u32,
    /// Per output element.
    pub output_ps: u32,
    /// Per input value gathered for a window.
    pub gathered_ps: u32,
    /// Per call.
    pub step_ps: u32,
}

impl Coefficients {
    /// Number of coefficients.
    pub const COUNT: usize = 4;
    /// Names of the coefficients in files and tables, in the order of [`as_array`](Self::as_array).
    pub const NAMES: [&'static str; Self::COUNT] = ["work_ps", "output_ps", "gathered_ps", "step_ps"];

    /// The coefficients in a fixed order.
    #[must_use]
    pub const fn as_array(&self) -> [u32; Self::COUNT] {
        [self.work_ps, self.output_ps, self.gathered_ps, self.step_ps]
    }

    /// The same, to be written.
    pub const fn as_mut_array(&mut self) -> [&mut u32; Self::COUNT] {
        [&mut self.work_ps, &mut self.output_ps, &mut self.gathered_ps, &mut self.step_ps]
    }
}

/// Predicts how long plans take on one board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyModel {
    /// By [`OpClass`].
    pub classes: [Coefficients; OpClass::COUNT],
    /// Per output of a fused residual addition, on top of its convolution.
    pub residual_ps: u32,
    /// Per byte of weights, where the memory that holds them is slower than the arithmetic.
    pub weight_byte_ps: u32,
}

const fn coefficients(work_ps: u32, output_ps: u32, gathered_ps: u32, step_ps: u32) -> Coefficients {
    Coefficients { work_ps, output_ps, gathered_ps, step_ps }
}

impl LatencyModel {
    /// Predicts no time at all: where a fit starts from.
    pub const ZERO: Self =
        Self { classes: [coefficients(0, 0, 0, 0); OpClass::COUNT], residual_ps: 0, weight_byte_ps: 0 };

    /// A Cortex-M4 with one instruction per nanosecond, so that a prediction in nanoseconds reads as instructions.
    ///
    /// Convolutions and average pools are a least-squares fit to the per-step counts that `tests/boards.sh` prints for the
    /// `arm-dsp` kernels on mps2-an386 (whole plans of cifar10-resnet within 5 %); the others are estimates.
    pub const CORTEX_M4: Self = Self {
        classes: [
            coefficients(880, 28_000, 19_500, 2_000_000),
            coefficients(930, 60_000, 340, 2_000_000),
            coefficients(6_000, 20_000, 0, 2_000_000),
            coefficients(0, 11_000, 0, 1_000_000),
            coefficients(9_000, 10_000, 0, 1_000_000),
            coefficients(0, 4_000, 0, 1_000_000),
            coefficients(0, 40_000, 0, 1_000_000),
            coefficients(0, 10_000, 0, 1_000_000),
        ],
        residual_ps: 11_000,
        weight_byte_ps: 0,
    };

    /// Coefficients of one class.
    #[must_use]
    pub const fn class(&self, class: OpClass) -> &Coefficients {
        // `as usize` of a field-less enum with COUNT variants stays inside the array.
        &self.classes[class as usize]
    }

    /// Coefficients of one class, to be changed.
    pub const fn class_mut(&mut self, class: OpClass) -> &mut Coefficients {
        &mut self.classes[class as usize]
    }

    /// Predicted picoseconds of one step, saturating.
    #[must_use]
    pub fn step_ps(&self, work: &Work) -> u64 {
        let c = self.class(work.class);
        let terms = [
            (c.work_ps, work.taps),
            (c.output_ps, work.outputs),
            (c.gathered_ps, work.gathered),
            (c.step_ps, 1),
            (self.residual_ps, work.residual_outputs),
            (self.weight_byte_ps, work.weight_bytes),
        ];
        terms.iter().fold(0u64, |sum, &(ps, n)| sum.saturating_add(u64::from(ps).saturating_mul(n)))
    }

    /// Predicted nanoseconds of one inference of a plan, saturating. Walks the plan's steps: call it at boot, keep the result.
    #[must_use]
    pub fn plan_ns<'a>(&self, bundle: &Bundle<'a>, plan: &Plan<'a>) -> u64 {
        let steps = bundle.steps_of(plan).map(|placed| self.step_ps(&Work::of(&placed.step.op)));
        steps.fold(0u64, u64::saturating_add) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Op;
    use crate::kernels::{Add, Shape};

    #[test]
    fn latency_is_linear_in_the_outputs() {
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        let of = |c| LatencyModel::CORTEX_M4.step_ps(&Work::of(&Op::Add { shape: Shape::new(4, 4, c), add }));
        assert_eq!(of(16) - of(8), of(24) - of(16));
        assert_eq!(of(8), 1_000_000 + 128 * 11_000);
    }

    #[test]
    fn huge_work_saturates() {
        let work = Work {
            class: OpClass::Conv,
            taps: u64::MAX,
            outputs: u64::MAX,
            gathered: 0,
            residual_outputs: 0,
            weight_bytes: 0,
        };
        assert_eq!(LatencyModel::CORTEX_M4.step_ps(&work), u64::MAX);
    }
}
