//! Latency as a linear function of a step's work.

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Plan};
use crate::kernels::Isa;

use super::work::{OpClass, Work};

/// Picoseconds of one class of steps; each applies to the amount of [`Work`] of the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coefficients {
    /// Per multiply-accumulate or window tap ([`Work::taps`]).
    pub work_ps: u32,
    /// On top of that per tap over a multiple of four ([`Work::rest_taps`]).
    pub rest_ps: u32,
    /// On top of that per tap that is left over ([`Work::lone_taps`]).
    pub lone_ps: u32,
    /// The same where the taps of a window are a multiple of eight ([`Work::even_lone_taps`]).
    pub even_lone_ps: u32,
    /// Per output element.
    pub output_ps: u32,
    /// On top of that per output with a residual addition.
    pub residual_ps: u32,
    /// On top of that per output that is clamped to less than int8.
    pub clamp_ps: u32,
    /// Per value gathered ([`Work::gathered`]).
    pub gathered_ps: u32,
    /// Per stretch of adjacent values ([`Work::rows`]).
    pub row_ps: u32,
    /// Per window.
    pub window_ps: u32,
    /// On top of that per window that reaches over the border.
    pub clipped_ps: u32,
    /// Per filter ([`Work::filters`]).
    pub filter_ps: u32,
    /// Per call.
    pub step_ps: u32,
}

impl Coefficients {
    /// Number of coefficients.
    pub const COUNT: usize = 13;
    /// Names of the coefficients in files and tables, in the order of [`as_array`](Self::as_array).
    pub const NAMES: [&'static str; Self::COUNT] = [
        "work_ps",
        "rest_ps",
        "lone_ps",
        "even_lone_ps",
        "output_ps",
        "residual_ps",
        "clamp_ps",
        "gathered_ps",
        "row_ps",
        "window_ps",
        "clipped_ps",
        "filter_ps",
        "step_ps",
    ];

    /// The coefficients in a fixed order.
    #[must_use]
    pub const fn as_array(&self) -> [u32; Self::COUNT] {
        [
            self.work_ps,
            self.rest_ps,
            self.lone_ps,
            self.even_lone_ps,
            self.output_ps,
            self.residual_ps,
            self.clamp_ps,
            self.gathered_ps,
            self.row_ps,
            self.window_ps,
            self.clipped_ps,
            self.filter_ps,
            self.step_ps,
        ]
    }

    /// From the order of [`as_array`](Self::as_array).
    #[must_use]
    pub const fn from_array(ps: [u32; Self::COUNT]) -> Self {
        let [
            work_ps,
            rest_ps,
            lone_ps,
            even_lone_ps,
            output_ps,
            residual_ps,
            clamp_ps,
            gathered_ps,
            row_ps,
            window_ps,
            clipped_ps,
            filter_ps,
            step_ps,
        ] = ps;
        Self {
            work_ps,
            rest_ps,
            lone_ps,
            even_lone_ps,
            output_ps,
            residual_ps,
            clamp_ps,
            gathered_ps,
            row_ps,
            window_ps,
            clipped_ps,
            filter_ps,
            step_ps,
        }
    }

    /// Every coefficient times `numerator / denominator`, rounded and saturating.
    #[must_use]
    pub fn scaled(&self, numerator: u64, denominator: u64) -> Self {
        Self::from_array(self.as_array().map(|ps| scale(ps, numerator, denominator)))
    }
}

fn scale(ps: u32, numerator: u64, denominator: u64) -> u32 {
    let denominator = u128::from(denominator.max(1));
    let scaled = (u128::from(ps) * u128::from(numerator) + denominator / 2) / denominator;
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

/// Predicts how long plans take on one board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyModel {
    /// By [`OpClass`].
    pub classes: [Coefficients; OpClass::COUNT],
    /// Per byte of weights, where the memory that holds them is slower than the arithmetic.
    pub weight_byte_ps: u32,
}

impl LatencyModel {
    /// Predicts no time at all: where a fit starts from.
    pub const ZERO: Self =
        Self { classes: [Coefficients::from_array([0; Coefficients::COUNT]); OpClass::COUNT], weight_byte_ps: 0 };

    /// The model that a measurement with these kernels starts from. Only its proportions matter there.
    #[must_use]
    pub fn prior(isa: Isa) -> &'static Self {
        #[cfg(portable)]
        if isa == Isa::Portable {
            return &Self::SCALAR;
        }
        #[cfg(arm_mve)]
        if isa == Isa::ArmMve {
            return &Self::CORTEX_M55;
        }
        if isa == Isa::Reference { &Self::SCALAR } else { &Self::CORTEX_M4 }
    }

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

    /// Sets a class that was not measured to that of a Cortex-M4, at the speed at which this board sums up: for models that
    /// are older than the class.
    pub fn estimate(&mut self, class: OpClass) {
        let speed = |model: &Self| model.class(OpClass::Add).output_ps;
        let prior = Self::CORTEX_M4.scaled(u64::from(speed(self)), u64::from(speed(&Self::CORTEX_M4)));
        *self.class_mut(class) = *prior.class(class);
    }

    /// Every coefficient times `numerator / denominator`, rounded and saturating: the same board at another clock.
    #[must_use]
    pub fn scaled(&self, numerator: u64, denominator: u64) -> Self {
        Self {
            classes: self.classes.map(|class| class.scaled(numerator, denominator)),
            weight_byte_ps: scale(self.weight_byte_ps, numerator, denominator),
        }
    }

    /// Predicted picoseconds of one step, saturating.
    #[must_use]
    pub fn step_ps(&self, work: &Work) -> u64 {
        self.amounts_ps(work.class, &work.amounts(), work.weight_bytes)
    }

    /// Predicted picoseconds of steps of one class, from the sums of their [`Work::amounts`] and weights, saturating.
    #[must_use]
    pub fn amounts_ps(&self, class: OpClass, amounts: &[u64; Coefficients::COUNT], weight_bytes: u64) -> u64 {
        let coefficients = self.class(class).as_array();
        let terms = coefficients.iter().zip(amounts).map(|(&ps, &n)| u64::from(ps).saturating_mul(n));
        terms.fold(u64::from(self.weight_byte_ps).saturating_mul(weight_bytes), u64::saturating_add)
    }

    /// Predicted nanoseconds of one inference of a plan, saturating. Walks the plan's steps: call it at boot, keep the result.
    #[must_use]
    pub fn plan_ns<'a>(&self, bundle: &Bundle<'a>, plan: &Plan<'a>) -> u64 {
        let steps = bundle.steps_of(plan).map(|placed| self.step_ps(&Work::of_placed(bundle, &placed)));
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
        let add = LatencyModel::CORTEX_M4.class(OpClass::Add);
        assert_eq!(of(8), u64::from(add.step_ps) + 128 * u64::from(add.output_ps));
    }

    #[test]
    fn huge_work_saturates() {
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        let small = Work::of(&Op::Add { shape: Shape::new(1, 1, 1), add });
        let work = Work { class: OpClass::Conv, taps: u64::MAX, outputs: u64::MAX, ..small };
        assert_eq!(LatencyModel::CORTEX_M4.step_ps(&work), u64::MAX);
        let most = LatencyModel { weight_byte_ps: u32::MAX, ..LatencyModel::CORTEX_M4 };
        assert_eq!(most.scaled(u64::MAX, 1).weight_byte_ps, u32::MAX);
    }

    #[test]
    fn scaling_by_a_clock_and_back_changes_nothing() {
        assert_eq!(LatencyModel::CORTEX_M4.scaled(40, 1).scaled(1, 40), LatencyModel::CORTEX_M4);
    }
}
