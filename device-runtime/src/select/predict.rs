//! What selection asks of a latency model.

use crate::bundle::{Bundle, Plan};
use crate::profile::{BoardProfile, LatencyModel};

use super::Speed;

/// Predicts how long one inference of a plan takes on this board.
///
/// A prediction may walk the plan's steps: ask once per plan, at boot, and keep the answer.
pub trait Predict {
    /// Microseconds of one inference, rounded up and saturating; `None` if nothing is known about this board.
    fn plan_us(&self, bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64>;
}

/// Predicts nothing: plans are selected by memory and accuracy alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmeasured;

impl Predict for Unmeasured {
    fn plan_us(&self, _bundle: &Bundle<'_>, _plan: &Plan<'_>) -> Option<u64> {
        None
    }
}

/// Scales [`Plan::cost`] by the measured speed.
impl Predict for Speed {
    fn plan_us(&self, _bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        Some(self.predict_us(plan.cost))
    }
}

impl Predict for LatencyModel {
    fn plan_us(&self, bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        Some(self.plan_ns(bundle, plan).div_ceil(1000))
    }
}

impl Predict for BoardProfile {
    fn plan_us(&self, bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        self.model.plan_us(bundle, plan)
    }
}

impl<P: Predict> Predict for Option<P> {
    fn plan_us(&self, bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        self.as_ref()?.plan_us(bundle, plan)
    }
}

impl<P: Predict + ?Sized> Predict for &P {
    fn plan_us(&self, bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        P::plan_us(self, bundle, plan)
    }
}
